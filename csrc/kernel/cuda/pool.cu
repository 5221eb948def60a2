#include "kernel/cuda/pool.h"

/* Averages of windows and of whole images. */

template <class T> struct average : keeps_nothing {
    pixel_rows<T> y, x;
    facs_pool g;
    facs_norm norm;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        const place at = place_of(p, g.oh, g.ow);
        const span sy = window_y(g, at.y), sx = window_x(g, at.x);
        const int64_t image = at.n * g.h * g.w;
        float sum[V] = {};

        for_window<V>(x, image, g.w, sy, sx, c, [&](const float(&v)[V], int, int) {
#pragma unroll
            for (int i = 0; i < V; i++) sum[i] += norm.scale ? normed(norm, v[i], c + i) : v[i];
        });
#pragma unroll
        for (int i = 0; i < V; i++) sum[i] /= (float)(g.kh * g.kw);
        put<V>(y.at(p, c), sum);
    }
};

template <class T>
void facs_cuda_rows<T>::avgpool_fwd(const facs_context *, const facs_pool *g,
                                    const facs_tensor *y, const facs_tensor *x,
                                    const facs_norm *norm)
{
    const average<T> f = {{}, rows_of<T>(y), rows_of<T>(x), *g, facs_cuda_norm(norm)};
    for_each_pixel("avgpool_fwd", f, y->n * g->oh * g->ow, g->c, all_by_eight(g->c, f.y, f.x));
}
FACS_CUDA_ROW(avgpool_fwd)

template <class T> struct average_gradient : keeps_nothing {
    pixel_rows<T> dx, dy;
    facs_pool g;
    int accumulate;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        const place at = place_of(p, g.h, g.w);
        const span oys = windows_of_y(g, at.y), oxs = windows_of_x(g, at.x);
        const int64_t image = at.n * g.oh * g.ow;
        float sum[V] = {};

        for_window<V>(dy, image, g.ow, oys, oxs, c, [&](const float(&v)[V], int, int) {
#pragma unroll
            for (int i = 0; i < V; i++) sum[i] += v[i];
        });
#pragma unroll
        for (int i = 0; i < V; i++) sum[i] /= (float)(g.kh * g.kw);
        put<V>(dx.at(p, c), sum, accumulate);
    }
};

template <class T>
void facs_cuda_rows<T>::avgpool_bwd(const facs_context *, const facs_pool *g,
                                    const facs_tensor *dx, const facs_tensor *dy,
                                    int accumulate)
{
    const average_gradient<T> f = {{}, rows_of<T>(dx), rows_of<T>(dy), *g, accumulate};
    for_each_pixel("avgpool_bwd", f, dx->n * g->h * g->w, g->c, all_by_eight(g->c, f.dx, f.dy));
}
FACS_CUDA_ROW(avgpool_bwd)

/* --- over whole images; y and its gradient are of float */

/* blockIdx.x is the image; rows of threads share its pixels. */
template <int V, class T>
__global__ static void average_images(pixel_rows<float> y, pixel_rows<T> x, int pixels,
                                      int channels)
{
    facs_cuda_begin();
    __shared__ float rows[V][PIXEL_THREADS];
    const int lanes = blockDim.x, thread = threadIdx.y * lanes + threadIdx.x;
    const int first = (int)blockIdx.y * lanes * V, c = first + (int)threadIdx.x * V;
    const int64_t image = (int64_t)blockIdx.x * pixels;
    float sum[V] = {};

    if (c < channels)
        for (int p = threadIdx.y; p < pixels; p += blockDim.y) {
            float v[V];
            get<V>(v, x.at(image + p, c));
#pragma unroll
            for (int i = 0; i < V; i++) sum[i] += v[i];
        }
#pragma unroll
    for (int i = 0; i < V; i++) rows[i][thread] = sum[i];
    __syncthreads();
    if (thread >= lanes * V || first + thread >= channels) return;
    float total = 0;
    for (unsigned row = 0; row < blockDim.y; row++)
        total += rows[thread % V][row * lanes + thread / V];
    *y.at(blockIdx.x, first + thread) = total / (float)pixels;
}

template <class T>
void facs_cuda_rows<T>::globalpool_fwd(const facs_context *, const facs_tensor *y,
                                       const facs_tensor *x)
{
    const pixel_rows<T> rows = rows_of<T>(x);
    const int pixels = x->h * x->w, wide = all_by_eight(x->c, rows);
    const pixel_layout l = pixel_layout_of(1, x->c, wide ? 8 : 1, 1, 1);
    const dim3 grid((unsigned)x->n, l.grid.y);

    if (x->n == 0) return;
    if (wide)
        FACS_LAUNCH_BEGINNING("average_images", (average_images<8, T>), grid, l.block, 0,
                              rows_of<float>(y), rows, pixels, x->c);
    else
        FACS_LAUNCH_BEGINNING("average_images", (average_images<1, T>), grid, l.block, 0,
                              rows_of<float>(y), rows, pixels, x->c);
}
FACS_CUDA_ROW(globalpool_fwd)

template <class T> struct image_gradient : keeps_nothing {
    pixel_rows<T> dx;
    pixel_rows<float> dy;
    int pixels, accumulate;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        int rest;
        const int64_t n = divide(p, pixels, &rest);
        float v[V];
        get<V>(v, dy.at(n, c));
#pragma unroll
        for (int i = 0; i < V; i++) v[i] /= (float)pixels;
        put<V>(dx.at(p, c), v, accumulate);
    }
};

template <class T>
void facs_cuda_rows<T>::globalpool_bwd(const facs_context *, const facs_tensor *dx,
                                       const facs_tensor *dy, int accumulate)
{
    const image_gradient<T> f = {
        {}, rows_of<T>(dx), rows_of<float>(dy), dx->h * dx->w, accumulate};
    for_each_pixel("globalpool_bwd", f, facs_tensor_pixels(dx), dx->c,
                   all_by_eight(dx->c, f.dx, f.dy));
}
FACS_CUDA_ROW(globalpool_bwd)
