#include "kernel/cuda/pixels.h"

/* Optimiser steps, one pass over the parameters; sources in ref/update.c. */

struct adam {
    float *w, *m, *v;
    const float *dw;
    facs_update u;
    float step, root;

    template <int V> __device__ void run(int64_t i) const
    {
        float w_[V], g_[V], m_[V], v_[V];
        get_numbers<V>(w_, w + i);
        get_numbers<V>(g_, dw + i);
        get_numbers<V>(m_, m + i);
        get_numbers<V>(v_, v + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            float g = g_[j] * u.gradient_scale;
            if (u.decoupled)
                w_[j] -= u.rate * u.weight_decay * w_[j];
            else
                g += u.weight_decay * w_[j];
            m_[j] = u.beta1 * m_[j] + (1 - u.beta1) * g;
            v_[j] = u.beta2 * v_[j] + (1 - u.beta2) * g * g;
            w_[j] -= step * m_[j] / (sqrtf(v_[j]) * root + u.epsilon);
        }
        put_numbers<V>(w + i, w_);
        put_numbers<V>(m + i, m_);
        put_numbers<V>(v + i, v_);
    }
};

template <class T>
void facs_cuda_rows<T>::adam_step(const facs_context *, float *w, const float *dw, float *m,
                                  float *v, int64_t count, const facs_update *u)
{
    const adam f = {
        w, m, v, dw, *u, u->rate / u->correction1, 1 / (float)sqrt((double)u->correction2)};
    for_each_number("adam_step", f, count, by_four(w, dw, m, v));
}
FACS_CUDA_ROW(adam_step)

struct momentum {
    float *w, *m;
    const float *dw;
    facs_update u;

    template <int V> __device__ void run(int64_t i) const
    {
        float w_[V], g_[V], m_[V];
        get_numbers<V>(w_, w + i);
        get_numbers<V>(g_, dw + i);
        get_numbers<V>(m_, m + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float g = g_[j] * u.gradient_scale + u.weight_decay * w_[j];
            m_[j] = u.beta1 * m_[j] + g;
            w_[j] -= u.rate * (u.nesterov ? g + u.beta1 * m_[j] : m_[j]);
        }
        put_numbers<V>(w + i, w_);
        put_numbers<V>(m + i, m_);
    }
};

template <class T>
void facs_cuda_rows<T>::sgd_step(const facs_context *, float *w, const float *dw, float *m,
                                 int64_t count, const facs_update *u)
{
    for_each_number("sgd_step", momentum{w, m, dw, *u}, count, by_four(w, dw, m, m));
}
FACS_CUDA_ROW(sgd_step)

struct moving_average {
    float *average;
    const float *w;
    float share;

    template <int V> __device__ void run(int64_t i) const
    {
        float a[V], w_[V];
        get_numbers<V>(a, average + i);
        get_numbers<V>(w_, w + i);
#pragma unroll
        for (int j = 0; j < V; j++) a[j] += share * (w_[j] - a[j]);
        put_numbers<V>(average + i, a);
    }
};

template <class T>
void facs_cuda_rows<T>::ema_step(const facs_context *, float *average, const float *w,
                                 int64_t count, float decay)
{
    for_each_number("ema_step", moving_average{average, w, 1 - decay}, count,
                    by_four(average, w, w, w));
}
FACS_CUDA_ROW(ema_step)

struct swapping {
    float *a, *b;

    template <int V> __device__ void run(int64_t i) const
    {
        float a_[V], b_[V];
        get_numbers<V>(a_, a + i);
        get_numbers<V>(b_, b + i);
        put_numbers<V>(a + i, b_);
        put_numbers<V>(b + i, a_);
    }
};

template <class T> void facs_cuda_rows<T>::exchange(float *a, float *b, int64_t count)
{
    for_each_number("exchange", swapping{a, b}, count, by_four(a, b, a, b));
}
FACS_CUDA_ROW(exchange)

struct finding_infinite {
    float *verdict;
    const float *x;

    template <int V> __device__ void run(int64_t i) const
    {
        float v[V];
        get_numbers<V>(v, x + i);
        /* Whoever finds one writes the same. */
        for (int j = 0; j < V; j++)
            if (!isfinite(v[j])) *verdict = __int_as_float(0x7fffffff);
    }
};

template <class T>
void facs_cuda_rows<T>::check_finite(float *verdict, const float *x, int64_t count)
{
    (void)cudaMemsetAsync(verdict, 0, sizeof *verdict, facs_cuda_stream());
    facs_cuda_launched("check_finite");
    for_each_number("check_finite", finding_infinite{verdict, x}, count, by_four(x, x, x, x));
}
FACS_CUDA_ROW(check_finite)

/* --- sum of squares: one number in double for each block, which the host adds */

enum { SQUARES_BLOCKS = 2 * MULTIPROCESSORS };

__global__ static void sum_squares(double *sums, const float *x, int64_t count, int wide)
{
    const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t step = (int64_t)gridDim.x * blockDim.x, quads = wide ? count / 4 : 0;
    double sum = 0;

    for (int64_t i = first; i < quads; i += step) {
        const float4 v = ((const float4 *)x)[i];
        sum += (double)v.x * v.x + (double)v.y * v.y + (double)v.z * v.z + (double)v.w * v.w;
    }
    for (int64_t i = 4 * quads + first; i < count; i += step) sum += (double)x[i] * x[i];
    sum = block_sum<PIXEL_THREADS>(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

template <class T>
double facs_cuda_rows<T>::sum_of_squares(const facs_context *ctx, const float *x, int64_t count)
{
    static_assert(SQUARES_BLOCKS * sizeof(double) <= REDUCE_BLOCKS * 2 * sizeof(float),
                  "no more than reduce_scratch gives for one channel");
    double sums[SQUARES_BLOCKS] = {}, sum = 0;
    const int wide = (uintptr_t)x % 16 == 0;
    const int64_t wanted = ceil_divide(count, PIXEL_THREADS * 4), most = SQUARES_BLOCKS;
    const unsigned blocks = (unsigned)(wanted < most ? wanted : most);

    if (count == 0) return 0;
    FACS_LAUNCH(sum_squares, blocks, PIXEL_THREADS, 0, (double *)ctx->scratch, x, count, wide);
    (void)cudaMemcpyAsync(sums, ctx->scratch, blocks * sizeof *sums, cudaMemcpyDefault,
                          cudaStreamPerThread);
    (void)cudaStreamSynchronize(cudaStreamPerThread);
    facs_cuda_launched("sum_of_squares");
    for (unsigned i = 0; i < blocks; i++) sum += sums[i];
    return sum;
}
FACS_CUDA_ROW(sum_of_squares)
