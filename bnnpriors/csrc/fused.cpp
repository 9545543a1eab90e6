// Kernels of infinitely wide networks for many pairs of images: tiles of one image with a vector of others, shared by threads.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif
#include "program.hpp"
#include "coefficients.hpp"

namespace portable {
#define BYTES 16
#define TARGET
#include "simd.hpp"
#include "finish.hpp"
#include "tile.hpp"
#undef INLINE
#undef BYTES
#undef TARGET
}
#if defined(__x86_64__)
namespace avx2 {
#define BYTES 32
#define TARGET __attribute__((target("avx2,fma")))
#include "simd.hpp"
#include "finish.hpp"
#include "tile.hpp"
#undef INLINE
#undef BYTES
#undef TARGET
}
namespace avx512 {
#define BYTES 64
#define TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#include "simd.hpp"
#include "finish.hpp"
#include "tile.hpp"
#undef INLINE
#undef BYTES
#undef TARGET
}
#endif

extern "C" {
// Bytes of the widest vectors that this processor has.
int bnnpriors_vector_bytes() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    return has_avx2 && has_avx512 ? 64 : has_avx2 ? 32 : 16;
#else
    return 16;
#endif
}

// What the sources were that this was built from.
unsigned bnnpriors_sources() { return SOURCES; }
}

template <class T>
static void run_tile(int bytes, const Program& program, const Side<T>& rows, const Side<T>& columns, int first, int last,
                     int64_t block, void* work, T* results) {
#if defined(__x86_64__)
    if (bytes == 64) return avx512::run_tile<T>(program, rows, columns, first, last, block, work, results);
    if (bytes == 32) return avx2::run_tile<T>(program, rows, columns, first, last, block, work, results);
#endif
    portable::run_tile<T>(program, rows, columns, first, last, block, work, results);
}

// Ask for pages of 2 MiB within a piece of memory. Covariances of all positions do not fit the cache, and with pages of 4 KiB the time
// of a tile depends on where these lie, by a factor of two.
static void ask_for_huge_pages(char* work, int64_t bytes) {
#if defined(__linux__)
    constexpr uintptr_t PAGE = 1 << 21;
    const uintptr_t begin = ((uintptr_t)work + PAGE - 1) & -PAGE, end = ((uintptr_t)work + bytes) & -PAGE;
    if (begin < end) madvise((void*)begin, end - begin, MADV_HUGEPAGE);
#endif
}

constexpr int STRIP = 32;  // images of a task at most, which meets one vector of others
constexpr int TASKS = 8;   // of a thread at least, where there are so many pairs

// out[i, j, p] for first_row <= i < last_row and all j; if `symmetric`, for i < j alone (1) or i <= j (2), and mirrored.
// `work`: `threads` times `work_bytes`, aligned to 64.
template <class T>
static void run(int bytes, const Program& program, const Side<T>& rows, const Side<T>& columns, int64_t first_row,
                int64_t last_row, int symmetric, int threads, int group, char* work, int64_t work_bytes, T* out, int64_t pitch) {
    ask_for_huge_pages(work, threads * work_bytes);
    const int lanes = bytes / (int)sizeof(T);
    const int64_t blocks = (columns.images + lanes - 1) / lanes, count = last_row - first_row;
    const int64_t share = count * blocks / (TASKS * threads);
    const int64_t strip = share < 1 ? 1 : share > STRIP ? STRIP : share, strips = (count + strip - 1) / strip;
    std::atomic<int64_t> next{0};
    auto worker = [&](int number) {
        std::vector<T> results((size_t)group * lanes * program.outputs);
        for (int64_t task; (task = next++) < blocks * strips;) {
            const int64_t block = task / strips, begin = first_row + task % strips * strip, left = block * lanes;
            const int64_t last_column = std::min(columns.images, left + lanes);
            const int64_t end = std::min(std::min(begin + strip, last_row), symmetric ? last_column : last_row);
            for (int64_t first = begin; first < end; first += group) {
                const int64_t last = std::min(first + group, end);
                run_tile<T>(bytes, program, rows, columns, (int)first, (int)last, block, work + number * work_bytes, results.data());
                for (int64_t i = first; i < last; i++)
                    for (int64_t j = symmetric ? std::max(left, i + (symmetric == 1)) : left; j < last_column; j++)
                        for (int p = 0; p < program.outputs; p++) {
                            const T value = results[((i - first) * lanes + j - left) * program.outputs + p];
                            out[(i * pitch + j) * program.outputs + p] = value;
                            if (symmetric) out[(j * pitch + i) * program.outputs + p] = value;
                        }
            }
        }
    };
    std::vector<std::thread> others;
    for (int number = 1; number < threads; number++) others.emplace_back(worker, number);
    worker(0);
    for (auto& thread : others) thread.join();
}

extern "C" {
void bnnpriors_run_float(int bytes, const Program* program, const Side<float>* rows, const Side<float>* columns, int64_t first_row, int64_t last_row, int symmetric,
                         int threads, int group, char* work, int64_t work_bytes, float* out, int64_t pitch) {
    run<float>(bytes, *program, *rows, *columns, first_row, last_row, symmetric, threads, group, work, work_bytes, out, pitch);
}
void bnnpriors_run_double(int bytes, const Program* program, const Side<double>* rows, const Side<double>* columns, int64_t first_row, int64_t last_row, int symmetric,
                          int threads, int group, char* work, int64_t work_bytes, double* out, int64_t pitch) {
    run<double>(bytes, *program, *rows, *columns, first_row, last_row, symmetric, threads, group, work, work_bytes, out, pitch);
}
}
