#include "kernel/cuda/pixels.h"

extern "C" {
#include "core/bfloat16.h"
}

template <class T> void facs_cuda_rows<T>::zero(float *x, int64_t count)
{
    (void)cudaMemsetAsync(x, 0, (size_t)count * sizeof *x, facs_cuda_stream());
    facs_cuda_launched("zero");
}
FACS_CUDA_ROW(zero)

/* --- norms and clamps */

template <class T> struct affine {
    pixel_rows<T> y, x;
    const float *scale, *shift;
    facs_clamp clamp;

    template <int V> struct channels {
        float scale[V], shift[V];
    };
    template <int V> __device__ channels<V> at(int c) const
    {
        channels<V> k;
        get_vector<V>(k.scale, scale + c);
        get_vector<V>(k.shift, shift + c);
        return k;
    }
    template <int V> __device__ void run(const channels<V> &k, int64_t p, int c) const
    {
        float v[V];
        get<V>(v, x.at(p, c));
#pragma unroll
        for (int i = 0; i < V; i++) v[i] = clamped(k.scale[i] * v[i] + k.shift[i], clamp);
        put<V>(y.at(p, c), v);
    }
};

template <class T>
void facs_cuda_rows<T>::affine_fwd(const facs_context *, const facs_tensor *y,
                                   const facs_tensor *x, const float *scale, const float *shift,
                                   facs_clamp clamp)
{
    const affine<T> f = {rows_of<T>(y), rows_of<T>(x), scale, shift, clamp};
    for_each_pixel("affine_fwd", f, facs_tensor_pixels(y), y->c, all_by_eight(y->c, f.y, f.x));
}
FACS_CUDA_ROW(affine_fwd)

template <class T> struct clamping : keeps_nothing {
    pixel_rows<T> y, x;
    facs_clamp clamp;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        float v[V];
        get<V>(v, x.at(p, c));
#pragma unroll
        for (int i = 0; i < V; i++) v[i] = clamped(v[i], clamp);
        put<V>(y.at(p, c), v);
    }
};

template <class T>
void facs_cuda_rows<T>::clamp_fwd(const facs_context *, const facs_tensor *y,
                                  const facs_tensor *x, facs_clamp clamp)
{
    const clamping<T> f = {{}, rows_of<T>(y), rows_of<T>(x), clamp};
    for_each_pixel("clamp_fwd", f, facs_tensor_pixels(y), y->c, all_by_eight(y->c, f.y, f.x));
}
FACS_CUDA_ROW(clamp_fwd)

template <class T> struct clamp_gradient : keeps_nothing {
    pixel_rows<T> dx, dy, y;
    facs_clamp clamp;
    int accumulate;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        float g[V], v[V];
        get<V>(g, dy.at(p, c));
        get<V>(v, y.at(p, c));
#pragma unroll
        for (int i = 0; i < V; i++) g[i] = v[i] > clamp.low && v[i] < clamp.high ? g[i] : 0;
        put<V>(dx.at(p, c), g, accumulate);
    }
};

template <class T>
void facs_cuda_rows<T>::clamp_bwd(const facs_context *, const facs_tensor *dx,
                                  const facs_tensor *dy, const facs_tensor *y, facs_clamp clamp,
                                  int accumulate)
{
    const clamp_gradient<T> f = {{},    rows_of<T>(dx), rows_of<T>(dy), rows_of<T>(y),
                                 clamp, accumulate};
    for_each_pixel("clamp_bwd", f, facs_tensor_pixels(dx), dx->c,
                   all_by_eight(dx->c, f.dx, f.dy, f.y));
}
FACS_CUDA_ROW(clamp_bwd)

/* scale, or where there is no norm NULL, and shift of some channels */
template <int V> struct some_norm {
    float scale[V], shift[V];

    __device__ some_norm(const facs_norm &norm, int c)
    {
        if (!norm.scale) return;
        get_vector<V>(scale, norm.scale + c);
        get_vector<V>(shift, norm.shift + c);
    }
    __device__ float read(const facs_norm &norm, float x, int i) const
    {
        return norm.scale ? clamped(scale[i] * x + shift[i], norm.clamp) : x;
    }
};

template <class T> struct addition {
    pixel_rows<T> y, a, b;
    facs_norm norm_a, norm_b;

    template <int V> struct channels {
        some_norm<V> a, b;
    };
    template <int V> __device__ channels<V> at(int c) const
    {
        return {some_norm<V>(norm_a, c), some_norm<V>(norm_b, c)};
    }
    template <int V> __device__ void run(const channels<V> &k, int64_t p, int c) const
    {
        float v[V], w[V];
        get<V>(v, a.at(p, c));
        get<V>(w, b.at(p, c));
#pragma unroll
        for (int i = 0; i < V; i++)
            v[i] = k.a.read(norm_a, v[i], i) + k.b.read(norm_b, w[i], i);
        put<V>(y.at(p, c), v);
    }
};

template <class T>
void facs_cuda_rows<T>::add_fwd(const facs_context *, const facs_tensor *y,
                                const facs_tensor *a, const facs_norm *norm_a,
                                const facs_tensor *b, const facs_norm *norm_b)
{
    const addition<T> f = {rows_of<T>(y), rows_of<T>(a), rows_of<T>(b), facs_cuda_norm(norm_a),
                           facs_cuda_norm(norm_b)};
    for_each_pixel("add_fwd", f, facs_tensor_pixels(y), y->c,
                   all_by_eight(y->c, f.y, f.a, f.b));
}
FACS_CUDA_ROW(add_fwd)

/* --- copies, between numbers of any two kinds */

template <class To, class From> struct copying : keeps_nothing {
    pixel_rows<To> y;
    pixel_rows<From> x;
    int accumulate;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        float v[V];
        get<V>(v, x.at(p, c));
        put<V>(y.at(p, c), v, accumulate);
    }
};

template <class To, class From>
static void copy_rows(const char *name, pixel_rows<To> y, pixel_rows<From> x, int64_t pixels,
                      int channels, int accumulate)
{
    const copying<To, From> f = {{}, y, x, accumulate};
    for_each_pixel(name, f, pixels, channels, all_by_eight(channels, y, x));
}

template <class T>
void facs_cuda_rows<T>::copy(const facs_context *, const facs_tensor *y, const facs_tensor *x,
                             int accumulate)
{
    copy_rows("copy", rows_of<T>(y), rows_of<T>(x), facs_tensor_pixels(y), y->c, accumulate);
}
FACS_CUDA_ROW(copy)

template <class T>
void facs_cuda_rows<T>::load_numbers(const facs_context *, const facs_tensor *y, const float *x)
{
    copy_rows("load_numbers", rows_of<T>(y), dense_rows(x, y->c), facs_tensor_pixels(y), y->c,
              0);
}
FACS_CUDA_ROW(load_numbers)

template <class T>
void facs_cuda_rows<T>::store_numbers(const facs_context *, float *y, const facs_tensor *x)
{
    copy_rows("store_numbers", dense_rows(y, x->c), rows_of<T>(x), facs_tensor_pixels(x), x->c,
              0);
}
FACS_CUDA_ROW(store_numbers)

/* --- bits of bfloat16: what is not a number keeps its own */

__device__ static inline uint16_t bits_of(float x)
{
    return facs_bfloat16_from(x);
}
__device__ static inline uint16_t bits_of(bfloat16 x)
{
    return __bfloat16_as_ushort(x);
}
__device__ static inline void put_bits(float *to, uint16_t bits)
{
    *to = facs_bfloat16_to(bits);
}
__device__ static inline void put_bits(bfloat16 *to, uint16_t bits)
{
    *to = __ushort_as_bfloat16(bits);
}

/* Eight at a time, which the compiler makes one access of where it is known to be aligned. */
template <class T> struct alignas(8 * sizeof(T)) eight {
    T v[8];
};

template <int V, class T> struct bits_access {
    typedef T type;
};
template <class T> struct bits_access<8, T> {
    typedef eight<T> type;
};

template <class T> struct bits_from : keeps_nothing {
    pixel_rows<uint16_t> y;
    pixel_rows<T> x;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        typename bits_access<V, T>::type in =
            *(const typename bits_access<V, T>::type *)x.at(p, c);
        typename bits_access<V, uint16_t>::type out;
#pragma unroll
        for (int i = 0; i < V; i++) ((uint16_t *)&out)[i] = bits_of(((const T *)&in)[i]);
        *(typename bits_access<V, uint16_t>::type *)y.at(p, c) = out;
    }
};

template <class T>
void facs_cuda_rows<T>::bfloat16_from(const facs_context *, uint16_t *y, const facs_tensor *x)
{
    const bits_from<T> f = {{}, dense_rows(y, x->c), rows_of<T>(x)};
    for_each_pixel("bfloat16_from", f, facs_tensor_pixels(x), x->c,
                   all_by_eight(x->c, f.y, f.x));
}
FACS_CUDA_ROW(bfloat16_from)

template <class T> struct bits_to : keeps_nothing {
    pixel_rows<T> y;
    pixel_rows<uint16_t> x;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        typename bits_access<V, uint16_t>::type in =
            *(const typename bits_access<V, uint16_t>::type *)x.at(p, c);
        typename bits_access<V, T>::type out;
#pragma unroll
        for (int i = 0; i < V; i++) put_bits((T *)&out + i, ((const uint16_t *)&in)[i]);
        *(typename bits_access<V, T>::type *)y.at(p, c) = out;
    }
};

template <class T>
void facs_cuda_rows<T>::bfloat16_to(const facs_context *, const facs_tensor *y,
                                    const uint16_t *x)
{
    const bits_to<T> f = {{}, rows_of<T>(y), dense_rows(x, y->c)};
    for_each_pixel("bfloat16_to", f, facs_tensor_pixels(y), y->c, all_by_eight(y->c, f.y, f.x));
}
FACS_CUDA_ROW(bfloat16_to)

struct logistic {
    float *y;
    const float *x;

    template <int V> __device__ void run(int64_t i) const
    {
        float v[V];
        get_numbers<V>(v, x + i);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = 1 / (1 + expf(-v[j]));
        put_numbers<V>(y + i, v);
    }
};

template <class T> void facs_cuda_rows<T>::sigmoid(float *y, const float *x, int64_t count)
{
    for_each_number("sigmoid", logistic{y, x}, count, by_four(y, x, y, x));
}
FACS_CUDA_ROW(sigmoid)
