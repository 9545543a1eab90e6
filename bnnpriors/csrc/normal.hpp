// Philox4x32-10 (Salmon et al. 2011, section 3.3), and the transformation of Box and Muller (1958). Included once for each instruction
// set, with TARGET. Loops over lanes are plain, for the compiler to vectorise, and so long that several vectors go side by side.

constexpr int LANES = 64;

struct alignas(64) Words {
    uint32_t of[4][LANES];
};

// The four words of the counters `first` + lane, which `nonce` completes to 128 bits.
TARGET static inline void philox(uint64_t key, uint64_t nonce, uint64_t first, Words& words) {
    uint32_t *a = words.of[0], *b = words.of[1], *c = words.of[2], *d = words.of[3];
    for (int i = 0; i < LANES; i++) {
        a[i] = (uint32_t)(first + i), b[i] = (uint32_t)((first + i) >> 32);
        c[i] = (uint32_t)nonce, d[i] = (uint32_t)(nonce >> 32);
    }
    uint32_t low = (uint32_t)key, high = (uint32_t)(key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++, low += 0x9E3779B9u, high += 0xBB67AE85u)
        for (int i = 0; i < LANES; i++) {
            const uint64_t p = (uint64_t)a[i] * 0xD2511F53u, q = (uint64_t)c[i] * 0xCD9E8D57u;
            a[i] = (uint32_t)(q >> 32) ^ b[i] ^ low, b[i] = (uint32_t)q;
            c[i] = (uint32_t)(p >> 32) ^ d[i] ^ high, d[i] = (uint32_t)p;
        }
}

template <class T, int TERMS>
TARGET static inline T series(const double* coefficients, T x) {
    T sum = (T)coefficients[TERMS - 1];
#pragma GCC unroll 16
    for (int k = TERMS - 2; k >= 0; k--) sum = sum * x + (T)coefficients[k];
    return sum;
}

// ln u for a normal u > 0: u = 2ⁿ m with ½ ≤ m² < 2, and ln m = 2 artanh s, s = (m − 1)/(m + 1).
template <class T>
TARGET static inline T logarithm(T u) {
    using R = Real<T>;
    typename R::Bits bits;
    __builtin_memcpy(&bits, &u, sizeof(T));
    const typename R::Signed exponent = (typename R::Signed)(bits - R::ROOT_HALF) >> R::MANTISSA;
    bits -= (typename R::Bits)exponent << R::MANTISSA;
    T m;
    __builtin_memcpy(&m, &bits, sizeof(T));
    const T s = (m - 1) / (m + 1);
    return (T)exponent * (T)M_LN2 + s * series<T, R::LOG>(LOG, s * s);
}

// Two normal numbers of two words: of x their distance from the origin, through u = (x + 1/2)/2ⁿ in (0, 1]; of two bits of y a
// quarter of the circle, and of the others an angle in [-π/4, π/4) within it.
template <class T>
TARGET static inline void box_muller(typename Real<T>::Bits x, typename Real<T>::Bits y, T& one, T& other) {
    using R = Real<T>;
    using Signed = typename R::Signed;
    const T u = ((T)(Signed)(x >> R::UNUSED) + (T)0.5) * R::UNIT;
    const T angle = (T)(Signed)(y << 2) * R::EIGHTH, square = angle * angle;
    const T cosine = series<T, R::COSINE>(COSINE, square), sine = angle * series<T, R::SINE>(SINE, square);
    const T length = std::sqrt(-2 * logarithm<T>(u)) * (T)(1 - 2 * (Signed)(y >> (R::BITS - 1)));
    const T turned = (T)(Signed)(y >> (R::BITS - 2) & 1), straight = 1 - turned;  // 0 or 1, as numbers: a branch does not vectorise
    one = length * (straight * cosine - turned * sine), other = length * (straight * sine + turned * cosine);
}

// The numbers of the counters of `words`: `PER_COUNTER` of each, the first of all counters, then the second of all, and so on.
TARGET static inline void numbers(const Words& words, float* out) {
    for (int half = 0; half < 2; half++, out += 2 * LANES)
        for (int i = 0; i < LANES; i++) box_muller<float>(words.of[2 * half][i], words.of[2 * half + 1][i], out[i], out[LANES + i]);
}
TARGET static inline void numbers(const Words& words, double* out) {
    for (int i = 0; i < LANES; i++) {
        const uint64_t x = words.of[0][i] | (uint64_t)words.of[1][i] << 32, y = words.of[2][i] | (uint64_t)words.of[3][i] << 32;
        box_muller<double>(x, y, out[i], out[LANES + i]);
    }
}

template <class T>
TARGET static void fill(uint64_t key, uint64_t nonce, T* out, int64_t count) {
    constexpr int PER_COUNTER = 16 / sizeof(T), BLOCK = LANES * PER_COUNTER;
    alignas(64) T last[BLOCK];
    for (int64_t done = 0; done < count; done += BLOCK) {
        Words words;
        philox(key, nonce, done / PER_COUNTER, words);
        if (count - done >= BLOCK) {
            numbers(words, out + done);
        } else {
            numbers(words, last);
            std::copy(last, last + (count - done), out + done);
        }
    }
}
