// Vectors of one instruction set, and the functions of them that kernels need. Included once for each instruction set, with
// NAMESPACE, BYTES (of a vector) and TARGET (the attribute that lets a function use it).
#define INLINE TARGET static inline __attribute__((always_inline))

template <class T>
struct Simd {
    typedef T Vec __attribute__((vector_size(BYTES)));
    static constexpr int LANES = BYTES / sizeof(T);
};
template <class T>
using Vec = typename Simd<T>::Vec;

#if BYTES == 64
INLINE Vec<float> root(Vec<float> a) { return (Vec<float>)_mm512_sqrt_ps((__m512)a); }
INLINE Vec<double> root(Vec<double> a) { return (Vec<double>)_mm512_sqrt_pd((__m512d)a); }
#elif BYTES == 32
INLINE Vec<float> root(Vec<float> a) { return (Vec<float>)_mm256_sqrt_ps((__m256)a); }
INLINE Vec<double> root(Vec<double> a) { return (Vec<double>)_mm256_sqrt_pd((__m256d)a); }
#else
template <class V>
INLINE V root(V a) {
    for (unsigned lane = 0; lane < sizeof(V) / sizeof(a[0]); lane++) a[lane] = std::sqrt(a[lane]);
    return a;
}
#endif

template <class T>
INLINE Vec<T> larger(Vec<T> a, Vec<T> b) { return a > b ? a : b; }

// Horner's rule in x², for the even and the odd powers.
template <class T, int DEGREE>
INLINE Vec<T> polynomial(const double (&c)[DEGREE + 1], Vec<T> x) {
    if (DEGREE < 8) {
        Vec<T> sum = Vec<T>{} + (T)c[DEGREE];
#pragma GCC unroll 16
        for (int i = DEGREE - 1; i >= 0; i--) sum = sum * x + (T)c[i];
        return sum;
    }
    const Vec<T> square = x * x;
    Vec<T> even = Vec<T>{} + (T)c[DEGREE], odd = Vec<T>{} + (T)c[DEGREE - 1];
#pragma GCC unroll 16
    for (int i = DEGREE - 2; i >= 0; i -= 2) {
        even = even * square + (T)c[i];
        if (i > 0) odd = odd * square + (T)c[i - 1];
    }
    return odd * x + even;
}

// Vectors that go through a polynomial side by side, as many as the registers hold: one alone waits for each of its steps.
constexpr int TOGETHER = BYTES == 64 ? 8 : 4;

// u^{3/2} P(u) for N vectors: the part of κ(ρ) = √(1−ρ²) + (π − arccos ρ)ρ = π max(ρ, 0) + u^{3/2} P(u), u = 1 − |ρ|, which has no
// cancellation at ρ = ±1.
template <class T, int N, int DEGREE>
INLINE void tail(const double (&c)[DEGREE + 1], const Vec<T>* u, Vec<T>* sum) {
#pragma GCC unroll 8
    for (int k = 0; k < N; k++) sum[k] = Vec<T>{} + (T)c[DEGREE];
#pragma GCC unroll 16
    for (int i = DEGREE - 1; i >= 0; i--) {
#pragma GCC unroll 8
        for (int k = 0; k < N; k++) sum[k] = sum[k] * u[k] + (T)c[i];
    }
#pragma GCC unroll 8
    for (int k = 0; k < N; k++) sum[k] *= u[k] * root(u[k]);
}
template <int N>
INLINE void tails(const Vec<float>* u, Vec<float>* sum) { tail<float, N, 6>(ARC_SINGLE, u, sum); }
template <int N>
INLINE void tails(const Vec<double>* u, Vec<double>* sum) { tail<double, N, 15>(ARC_DOUBLE, u, sum); }

// arcsin a = a + a³ Q(a²) up to 1/2, and π/2 − 2 arcsin √((1−a)/2) beyond.
INLINE Vec<float> series(Vec<float> s) { return polynomial<float, 6>(SINE_SINGLE, s); }
INLINE Vec<double> series(Vec<double> s) { return polynomial<double, 14>(SINE_DOUBLE, s); }

template <class T>
INLINE Vec<T> arcsine(Vec<T> t) {
    const Vec<T> zero{}, a = larger<T>(t, -t), far = larger<T>((T)0.5 - (T)0.5 * a, zero);
    const auto is_far = a > (T)0.5;
    const Vec<T> square = is_far ? far : a * a, z = is_far ? root(far) : a;
    const Vec<T> near = z + z * square * series(square), value = is_far ? (T)(M_PI / 2) - (T)2 * near : near;
    return t < zero ? -value : value;
}
