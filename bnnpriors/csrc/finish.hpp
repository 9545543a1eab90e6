// What an activation does to a row of covariances: included once for each instruction set, after simd.hpp. `own` are the maps of
// one image, `others` those of a vector of them; `added` may be null.

// N positions of a ReLU, or a leaky one.
template <class T, int N, bool LEAKY>
INLINE void rectify(
    const Vec<T>* line, const Operation& op, const T* own, const Vec<T>* others, const Vec<T>* added, Vec<T>* out
) {
    const T weight = (T)op.weight, bias = (T)op.bias, slope = (T)op.slope;
    const Vec<T> zero{};
    Vec<T> rho[N], u[N], arc[N];
#pragma GCC unroll 8
    for (int k = 0; k < N; k++) {
        rho[k] = (line[k] * weight + bias) * (own[2 * k + 1] * others[2 * k + 1]);
        u[k] = larger<T>((T)1 - larger<T>(rho[k], -rho[k]), zero);
    }
    tails<N>(u, arc);
#pragma GCC unroll 8
    for (int k = 0; k < N; k++) {
        Vec<T> c = ((T)M_PI * larger<T>(rho[k], zero) + arc[k]) * (own[2 * k] * others[2 * k]);
        if (LEAKY) c += (line[k] * weight + bias) * slope;
        out[k] = added ? c + added[k] : c;
    }
}

template <class T, int N, bool LEAKY>
INLINE int rectify_all(
    int x, int count, const Vec<T>* line, const Operation& op, const T* own, const Vec<T>* others, const Vec<T>* added, Vec<T>* out
) {
    for (; x + N <= count; x += N)
        rectify<T, N, LEAKY>(line + x, op, own + 2 * x, others + 2 * x, added ? added + x : added, out + x);
    return x;
}

template <class T, bool LEAKY>
TARGET static void rectify_row(
    const Vec<T>* line, int count, const Operation& op, const T* own, const Vec<T>* others, const Vec<T>* added, Vec<T>* out
) {
    int x = rectify_all<T, TOGETHER, LEAKY>(0, count, line, op, own, others, added, out);
    x = rectify_all<T, TOGETHER / 2, LEAKY>(x, count, line, op, own, others, added, out);
    x = rectify_all<T, TOGETHER / 4, LEAKY>(x, count, line, op, own, others, added, out);
    rectify_all<T, 1, LEAKY>(x, count, line, op, own, others, added, out);
}

template <class T, int ACTIVATION>
TARGET static void finish(
    const Vec<T>* line, int count, const Operation& op, const T* own, const Vec<T>* others, const Vec<T>* added, Vec<T>* out
) {
    const T weight = (T)op.weight, bias = (T)op.bias;
    if (ACTIVATION == RELU) {
        op.slope == 0 ? rectify_row<T, false>(line, count, op, own, others, added, out)
                      : rectify_row<T, true>(line, count, op, own, others, added, out);
        return;
    }
    for (int x = 0; x < count; x++) {
        Vec<T> c = line[x] * weight + bias;
        if (ACTIVATION == ERF) {
            c = (T)(2 / M_PI) * arcsine<T>(c * (own[2 * x] * others[2 * x]));
        } else if (ACTIVATION == GELU) {  // maps: v and 1/√(1+v)
            const T q = own[2 * x + 1];
            const Vec<T> r = others[2 * x + 1], t = c * (q * r);
            const Vec<T> both = (T)0.25 + arcsine<T>(t) * (T)(0.5 / M_PI);
            const Vec<T> density = q * r / root(((T)1 - t) * ((T)1 + t)) * (T)(0.5 / M_PI);
            c = c * both + density * (own[2 * x] * others[2 * x] + c * c * (q * q + r * r - (T)1));
        } else if (ACTIVATION == MEANS) {
            c = c + own[2 * x] * others[2 * x + 1] + own[2 * x + 1] * others[2 * x];
        }
        out[x] = added ? c + added[x] : c;
    }
}
