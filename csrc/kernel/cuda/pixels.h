#ifndef FACS_KERNEL_CUDA_PIXELS_H
#define FACS_KERNEL_CUDA_PIXELS_H

#include "kernel/cuda/cuda.h"

/* How pixels and channels are dealt out to threads. A thread keeps `V` neighbouring channels,
 * eight where all tensors allow it or one, for as long as the kernel runs, so that what
 * belongs to a channel is read once; threadIdx.x and blockIdx.y say which. threadIdx.y and
 * blockIdx.x take the pixels in turn, so that neighbouring threads read neighbouring memory. */

enum { PIXEL_THREADS = 256, PIXEL_LANES = 32 };
enum { MAP_BLOCKS = 16 * MULTIPROCESSORS, REDUCE_BLOCKS = 3 * MULTIPROCESSORS };

typedef struct pixel_layout {
    dim3 grid, block;
} pixel_layout;

static inline int64_t ceil_divide(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Blocks side by side that share the channels, in groups of `width`. */
static inline int pixel_columns(int channels, int width)
{
    return (int)ceil_divide(ceil_divide(channels, width), PIXEL_LANES);
}

/* At most about `most` blocks, whose threads have at least `each` pixels where there are. */
static inline pixel_layout pixel_layout_of(int64_t pixels, int channels, int width, int each,
                                           int most)
{
    const int columns = pixel_columns(channels, width);
    const int lanes = (int)ceil_divide(ceil_divide(channels, width), columns);
    const int rows = PIXEL_THREADS / lanes;
    const int64_t wanted = ceil_divide(pixels, (int64_t)rows * each);
    const int64_t limit = most / columns > 1 ? most / columns : 1;
    return {dim3((unsigned)(wanted < limit ? wanted : limit), (unsigned)columns),
            dim3((unsigned)lanes, (unsigned)rows)};
}

/* --- rows of channels */

template <class T> struct pixel_rows {
    T *data;
    int64_t stride;

    __device__ T *at(int64_t p, int c) const { return data + p * stride + c; }
};

template <class T> static inline pixel_rows<T> rows_of(const facs_tensor *t)
{
    return t ? pixel_rows<T>{data_of<T>(*t), t->stride} : pixel_rows<T>{};
}

template <class T> static inline pixel_rows<T> dense_rows(const T *data, int channels)
{
    return {const_cast<T *>(data), channels};
}

/* Whether all rows can be read eight numbers at a time. */
static inline int all_by_eight(int channels)
{
    return channels % 8 == 0;
}
template <class T, class... More>
static inline int all_by_eight(int channels, const pixel_rows<T> &first, const More &...more)
{
    return first.stride % 8 == 0 && (uintptr_t)first.data % (8 * sizeof(T)) == 0 &&
           all_by_eight(channels, more...);
}

template <int V, class T> __device__ static inline void get(float v[V], const T *p)
{
    if constexpr (V == 8)
        load_eight(v, p);
    else
        for (int i = 0; i < V; i++) v[i] = number_of(p[i]);
}

template <int V, class T>
__device__ static inline void put(T *p, const float v[V], int accumulate = 0)
{
    float out[V];
    if (accumulate) get<V>(out, p);
#pragma unroll
    for (int i = 0; i < V; i++) out[i] = accumulate ? out[i] + v[i] : v[i];
    if constexpr (V == 8)
        store_eight(p, out);
    else
        for (int i = 0; i < V; i++) put_number(p + i, out[i]);
}

/* V numbers of a vector of channels, which may lie anywhere. */
template <int V> __device__ static inline void get_vector(float v[V], const float *p)
{
    if constexpr (V == 8)
        if ((uintptr_t)p % 16 == 0) {
            load_eight(v, p);
            return;
        }
#pragma unroll
    for (int i = 0; i < V; i++) v[i] = p[i];
}

/* a / b, and what is left of a; a is not negative. */
__device__ static inline int64_t divide(int64_t a, int b, int *rest)
{
    if (a >> 32) {
        const int64_t q = a / b;
        *rest = (int)(a - q * b);
        return q;
    }
    const uint32_t q = (uint32_t)a / (uint32_t)b;
    *rest = (int)((uint32_t)a - q * (uint32_t)b);
    return q;
}

/* Image, line and column of pixel p of (n, h, w). */
struct place {
    int64_t n;
    int y, x;
};
__device__ static inline place place_of(int64_t p, int h, int w)
{
    place at;
    int rest;
    at.n = divide(p, h * w, &rest);
    at.y = rest / w;
    at.x = rest - at.y * w;
    return at;
}

/* --- one call for every pixel and group of channels: F has
 *     at<V>(c), what it keeps of its channels, and
 *     run<V>(that, pixel, c) */

template <int V, class F> __global__ static void map_pixels(F f, int64_t pixels, int channels)
{
    facs_cuda_begin();
    const int c = (int)(blockIdx.y * blockDim.x + threadIdx.x) * V;
    if (c >= channels) return;
    const auto kept = f.template at<V>(c);
    for (int64_t p = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; p < pixels;
         p += (int64_t)gridDim.x * blockDim.y)
        f.template run<V>(kept, p, c);
}

template <class F>
static void for_each_pixel(const char *name, const F &f, int64_t pixels, int channels, int wide)
{
    const pixel_layout l = pixel_layout_of(pixels, channels, wide ? 8 : 1, 1, MAP_BLOCKS);
    if (pixels == 0) return;
    if (wide)
        FACS_LAUNCH_BEGINNING(name, (map_pixels<8, F>), l.grid, l.block, 0, f, pixels,
                              channels);
    else
        FACS_LAUNCH_BEGINNING(name, (map_pixels<1, F>), l.grid, l.block, 0, f, pixels,
                              channels);
}

/* For an F that keeps nothing. */
struct keeps_nothing {
    template <int V> __device__ int at(int) const { return 0; }
};

/* --- and for runs of numbers without shape: run<V>(i) takes V numbers from i on */

template <class F> __global__ static void map_numbers(F f, int64_t count, int wide)
{
    facs_cuda_begin();
    const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t step = (int64_t)gridDim.x * blockDim.x, quads = wide ? count / 4 : 0;
    for (int64_t i = first; i < quads; i += step) f.template run<4>(4 * i);
    for (int64_t i = 4 * quads + first; i < count; i += step) f.template run<1>(i);
}

/* Blocks whose threads take `items` in turn. */
static inline unsigned map_blocks(int64_t items)
{
    const int64_t blocks = ceil_divide(items, PIXEL_THREADS), most = MAP_BLOCKS;
    return (unsigned)(blocks < most ? blocks : most);
}

static inline int by_four(const void *a, const void *b, const void *c, const void *d)
{
    return ((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d) % 16 == 0;
}

/* wide: every pointer is aligned to four numbers. */
template <class F>
static void for_each_number(const char *name, const F &f, int64_t count, int wide)
{
    const unsigned blocks = map_blocks(ceil_divide(count, wide ? 4 : 1));
    if (count == 0) return;
    FACS_LAUNCH_BEGINNING(name, map_numbers<F>, blocks, PIXEL_THREADS, 0, f, count, wide);
}

/* Four floats or one. */
template <int V> __device__ static inline void get_numbers(float v[V], const float *p)
{
    if constexpr (V == 4) {
        const float4 quad = *(const float4 *)p;
        v[0] = quad.x, v[1] = quad.y, v[2] = quad.z, v[3] = quad.w;
    } else {
        v[0] = *p;
    }
}
template <int V> __device__ static inline void put_numbers(float *p, const float v[V])
{
    if constexpr (V == 4)
        *(float4 *)p = make_float4(v[0], v[1], v[2], v[3]);
    else
        *p = v[0];
}

#endif
