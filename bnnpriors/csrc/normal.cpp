// Standard normal numbers for many chains, each from a seed of its own.
#include <algorithm>
#include <cmath>
#include <cstdint>

// How a type is made of bits, and how many terms its series take: LOG for |s| up to 0.172, SINE and COSINE up to π/4.
template <class T>
struct Real;
template <>
struct Real<float> {
    using Bits = uint32_t;
    using Signed = int32_t;
    static constexpr int BITS = 32, MANTISSA = 23, UNUSED = 1, LOG = 5, SINE = 5, COSINE = 6;
    static constexpr Bits ROOT_HALF = 0x3f3504f3;
    static constexpr float UNIT = 0x1p-31f, EIGHTH = 0x1p-31f * (float)M_PI_4;
};
template <>
struct Real<double> {
    using Bits = uint64_t;
    using Signed = int64_t;
    static constexpr int BITS = 64, MANTISSA = 52, UNUSED = 11, LOG = 10, SINE = 9, COSINE = 9;
    static constexpr Bits ROOT_HALF = 0x3fe6a09e667f3bcd;
    static constexpr double UNIT = 0x1p-53, EIGHTH = 0x1p-63 * M_PI_4;
};

// Taylor's coefficients in the square of the argument.
static constexpr double LOG[] = {2., 2. / 3, 2. / 5, 2. / 7, 2. / 9, 2. / 11, 2. / 13, 2. / 15, 2. / 17, 2. / 19};
static constexpr double SINE[] = {1., -1. / 6, 1. / 120, -1. / 5040, 1. / 362880, -1. / 39916800, 1. / 6227020800,
                                  -1. / 1307674368000, 1. / 355687428096000};
static constexpr double COSINE[] = {1., -1. / 2, 1. / 24, -1. / 720, 1. / 40320, -1. / 3628800, 1. / 479001600,
                                    -1. / 87178291200, 1. / 20922789888000};

namespace portable {
#define TARGET
#include "normal.hpp"
#undef TARGET
}
#if defined(__x86_64__)
namespace avx2 {
#define TARGET __attribute__((target("avx2,fma")))
#include "normal.hpp"
#undef TARGET
}
namespace avx512 {
#if defined(__clang__)
#define TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#else
#define TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")))
#endif
#include "normal.hpp"
#undef TARGET
}
#endif

// out[chain, :] for each chain from its seed, two words: the key of Philox and the upper half of its counters.
template <class T>
static void run(int bytes, const uint64_t* seeds, int64_t chains, T* out, int64_t count) {
    for (int64_t chain = 0; chain < chains; chain++, seeds += 2, out += count) {
#if defined(__x86_64__)
        if (bytes == 64) { avx512::fill<T>(seeds[0], seeds[1], out, count); continue; }
        if (bytes == 32) { avx2::fill<T>(seeds[0], seeds[1], out, count); continue; }
#endif
        portable::fill<T>(seeds[0], seeds[1], out, count);
    }
}

extern "C" {
void bnnpriors_normal_float(int bytes, const uint64_t* seeds, int64_t chains, float* out, int64_t count) { run<float>(bytes, seeds, chains, out, count); }
void bnnpriors_normal_double(int bytes, const uint64_t* seeds, int64_t chains, double* out, int64_t count) { run<double>(bytes, seeds, chains, out, count); }
}
