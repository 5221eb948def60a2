#include "kernel/cuda/pixels.h"

/* BatchNorm: Ioffe and Szegedy, ICML 2015. Sums over all pixels: a block sums its pixels in
 * float, sums.cu adds the blocks in double. */

enum { MOST_PARTS = 2 };

template <class T> size_t facs_cuda_rows<T>::reduce_scratch(int c, int64_t pixels, int threads)
{
    const int columns = pixel_columns(c, 8), most = REDUCE_BLOCKS;
    const size_t blocks = (size_t)(most / columns > 1 ? most / columns : 1);
    (void)pixels, (void)threads;
    return blocks * MOST_PARTS * (size_t)c * sizeof(float);
}
FACS_CUDA_ROW(reduce_scratch)

/* F has at<V>(c), and run<V>(that, sums, pixel, c), which adds to sums[PARTS][V]. partials is
 * [blocks][PARTS][channels], or NULL where the sums are not wanted. */
template <int V, class F>
__global__ static void __launch_bounds__(PIXEL_THREADS, REDUCE_BLOCKS / MULTIPROCESSORS)
    sum_pixels(F f, float *partials, int64_t pixels, int channels)
{
    facs_cuda_begin();
    __shared__ float rows[V][PIXEL_THREADS];
    const int lanes = blockDim.x, thread = threadIdx.y * lanes + threadIdx.x;
    const int first = (int)blockIdx.y * lanes * V, c = first + (int)threadIdx.x * V;
    float sums[F::PARTS][V] = {};

    if (c < channels) {
        const auto kept = f.template at<V>(c);
#pragma unroll F::UNROLL
        for (int64_t p = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; p < pixels;
             p += (int64_t)gridDim.x * blockDim.y)
            f.template run<V>(kept, sums, p, c);
    }
    if (!partials) return;
#pragma unroll
    for (int part = 0; part < F::PARTS; part++) {
#pragma unroll
        for (int i = 0; i < V; i++) rows[i][thread] = sums[part][i];
        __syncthreads();
        if (thread < lanes * V && first + thread < channels) {
            float sum = 0;
            for (unsigned row = 0; row < blockDim.y; row++)
                sum += rows[thread % V][row * lanes + thread / V];
            partials[((int64_t)blockIdx.x * F::PARTS + part) * channels + first + thread] = sum;
        }
        __syncthreads();
    }
}

/* Returns how many blocks there are partials of. */
template <class F>
static int64_t sum_all(const char *name, const F &f, float *partials, int64_t pixels,
                       int channels, int wide)
{
    const pixel_layout l = pixel_layout_of(pixels, channels, wide ? 8 : 1, 4, REDUCE_BLOCKS);
    if (wide)
        FACS_LAUNCH_BEGINNING(name, (sum_pixels<8, F>), l.grid, l.block, 0, f, partials, pixels,
                              channels);
    else
        FACS_LAUNCH_BEGINNING(name, (sum_pixels<1, F>), l.grid, l.block, 0, f, partials, pixels,
                              channels);
    return l.grid.x;
}

template <class T> struct plain_sums : keeps_nothing {
    enum { PARTS = 1, UNROLL = 4 };
    pixel_rows<T> x;

    template <int V> __device__ void run(int, float sums[PARTS][V], int64_t p, int c) const
    {
        float v[V];
        get<V>(v, x.at(p, c));
#pragma unroll
        for (int i = 0; i < V; i++) sums[0][i] += v[i];
    }
};

template <class T>
void facs_cuda_rows<T>::channel_sums(const facs_context *ctx, float *sum, const facs_tensor *x)
{
    const plain_sums<T> f = {{}, rows_of<T>(x)};
    float *partials = (float *)ctx->scratch;
    const int64_t blocks = sum_all("channel_sums", f, partials, facs_tensor_pixels(x), x->c,
                                   all_by_eight(x->c, f.x));
    facs_cuda_sum_blocks(sum, partials, blocks, x->c);
}
FACS_CUDA_ROW(channel_sums)

/* A number near the mean, which keeps the squares small where the mean is large: the running
 * mean of some pixels far from each other, that of equal numbers being what they are. */
template <int V, class T>
__device__ static void centre_of(float centre[V], const pixel_rows<T> &x, int64_t pixels, int c)
{
    const int samples = 8;
    get<V>(centre, x.at(0, c));
    for (int s = 1; s < samples; s++) {
        float v[V];
        get<V>(v, x.at(s * pixels / samples, c));
#pragma unroll
        for (int i = 0; i < V; i++) centre[i] += (v[i] - centre[i]) / (float)(s + 1);
    }
}

template <class T> struct centred_sums {
    enum { PARTS = 2, UNROLL = 4 };
    pixel_rows<T> x;
    int64_t pixels;

    template <int V> struct channels {
        float centre[V];
    };
    template <int V> __device__ channels<V> at(int c) const
    {
        channels<V> k;
        centre_of<V>(k.centre, x, pixels, c);
        return k;
    }
    template <int V>
    __device__ void run(const channels<V> &k, float sums[PARTS][V], int64_t p, int c) const
    {
        float v[V];
        get<V>(v, x.at(p, c));
#pragma unroll
        for (int i = 0; i < V; i++) {
            const float difference = v[i] - k.centre[i];
            sums[0][i] += difference;
            sums[1][i] += difference * difference;
        }
    }
};

template <int V, class T>
__global__ static void add_centres(float *mean, pixel_rows<T> x, int64_t pixels, int channels)
{
    facs_cuda_begin();
    const int c = (int)(blockIdx.x * blockDim.x + threadIdx.x) * V;
    float centre[V];
    if (c >= channels) return;
    centre_of<V>(centre, x, pixels, c);
    for (int i = 0; i < V; i++) mean[c + i] += centre[i];
}

template <class T>
void facs_cuda_rows<T>::batchnorm_stats(const facs_context *ctx, float *mean, float *variance,
                                        const facs_tensor *x)
{
    const int64_t pixels = facs_tensor_pixels(x);
    const centred_sums<T> f = {rows_of<T>(x), pixels};
    const int wide = all_by_eight(x->c, f.x);
    const facs_moments moments = {mean, variance};
    float *partials = (float *)ctx->scratch;
    const int64_t blocks = sum_all("batchnorm_stats", f, partials, pixels, x->c, wide);

    facs_cuda_finish_moments(partials, blocks, x->c, pixels, &moments);
    /* With the width of the sums, so that both round the centre alike. */
    if (wide)
        FACS_LAUNCH_BEGINNING("add_centres", (add_centres<8, T>),
                              facs_cuda_blocks(x->c, 32 * 8), 32, 0, mean, f.x, pixels, x->c);
    else
        FACS_LAUNCH_BEGINNING("add_centres", (add_centres<1, T>), facs_cuda_blocks(x->c, 32),
                              32, 0, mean, f.x, pixels, x->c);
}
FACS_CUDA_ROW(batchnorm_stats)

/* --- vectors of channels, in double */

enum { VECTOR_THREADS = 64 };

__global__ static void fold(float *scale, float *shift, int channels, const float *gamma,
                            const float *beta, const float *mean, const float *variance,
                            float epsilon, const float *bias)
{
    const int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c >= channels) return;
    const double factor =
        facs_cuda_fold(scale + c, shift + c, gamma[c], beta[c], mean[c], variance[c], epsilon);
    if (bias) shift[c] = (float)(beta[c] - mean[c] * factor + bias[c] * factor);
}

template <class T>
void facs_cuda_rows<T>::batchnorm_fold(float *scale, float *shift, int c, const float *gamma,
                                       const float *beta, const float *mean,
                                       const float *variance, float epsilon, const float *bias)
{
    FACS_LAUNCH(fold, facs_cuda_blocks(c, VECTOR_THREADS), VECTOR_THREADS, 0, scale, shift, c,
                gamma, beta, mean, variance, epsilon, bias);
}
FACS_CUDA_ROW(batchnorm_fold)

__global__ static void begin(facs_cuda_norm_begin begin, const float *mean,
                             const float *variance, int channels)
{
    facs_cuda_begin();
    const int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c < channels) begin.run(begin.at(c), c, channels, mean[c], variance[c]);
}

template <class T>
void facs_cuda_rows<T>::batchnorm_begin(float *scale, float *shift, float *sums, int c,
                                        const float *gamma, const float *beta,
                                        const float *mean, const float *variance, float epsilon,
                                        float *running_mean, float *running_variance,
                                        float momentum, int64_t count)
{
    const facs_norm_begin b = {
        scale, shift, sums, gamma, beta, epsilon, running_mean, running_variance, momentum};
    FACS_LAUNCH_BEGINNING("begin", begin, facs_cuda_blocks(c, VECTOR_THREADS), VECTOR_THREADS,
                          0, facs_cuda_norm_begin_of(b, count), mean, variance, c);
}
FACS_CUDA_ROW(batchnorm_begin)

__global__ static void finish_gradient(facs_cuda_norm_end end, const float *sum,
                                       const float *weighted, int channels)
{
    facs_cuda_begin();
    const int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c < channels) end.run(end.at(c), c, sum[c], weighted[c]);
}

template <class T>
void facs_cuda_rows<T>::norm_bwd_finish(float *dgamma, float *dbeta, float *slope,
                                        float *offset, int c, const facs_norm *norm,
                                        const float *variance, float epsilon, int64_t count)
{
    const facs_norm_end end = {dgamma, dbeta, slope, offset, variance, epsilon, count};
    FACS_LAUNCH_BEGINNING("finish_gradient", finish_gradient,
                          facs_cuda_blocks(c, VECTOR_THREADS), VECTOR_THREADS, 0,
                          facs_cuda_norm_end_of(*norm, end), norm->sum, norm->weighted, c);
}
FACS_CUDA_ROW(norm_bwd_finish)

/* By facs_cuda_add_norm_sums. */
template <class T> int facs_cuda_rows<T>::finishes_norms()
{
    return 1;
}
FACS_CUDA_ROW(finishes_norms)

/* --- gradients */

template <class T> struct norm_gradient {
    enum { PARTS = 2, UNROLL = 1 };
    pixel_rows<T> dx, x, dy; /* dx.data is NULL where only the sums are wanted */
    facs_norm norm;
    int accumulate;

    template <int V> struct channels {
        float scale[V], shift[V], mean[V];
    };
    template <int V> __device__ channels<V> at(int c) const
    {
        channels<V> k = {};
        get_vector<V>(k.scale, norm.scale + c);
        get_vector<V>(k.shift, norm.shift + c);
        if (norm.sum) get_vector<V>(k.mean, norm.mean + c);
        return k;
    }
    template <int V>
    __device__ void run(const channels<V> &k, float sums[PARTS][V], int64_t p, int c) const
    {
        float v[V], g[V];
        get<V>(v, x.at(p, c));
        get<V>(g, dy.at(p, c));
#pragma unroll
        for (int i = 0; i < V; i++) {
            const float y = k.scale[i] * v[i] + k.shift[i];
            const float h = y > norm.clamp.low && y < norm.clamp.high ? g[i] : 0;
            sums[0][i] += h;
            sums[1][i] += h * (v[i] - k.mean[i]);
            g[i] = k.scale[i] * h;
        }
        if (dx.data) put<V>(dx.at(p, c), g, accumulate);
    }
};

template <class T>
void facs_cuda_rows<T>::norm_bwd(const facs_context *ctx, const facs_tensor *dx,
                                 const facs_tensor *x, const facs_norm *norm,
                                 const facs_tensor *dy, int accumulate)
{
    const norm_gradient<T> f = {rows_of<T>(dx), rows_of<T>(x), rows_of<T>(dy), *norm,
                                accumulate};
    float *partials = norm->sum ? (float *)ctx->scratch : NULL;
    const int64_t blocks = sum_all("norm_bwd", f, partials, facs_tensor_pixels(x), x->c,
                                   all_by_eight(x->c, f.dx, f.x, f.dy));
    if (norm->sum) facs_cuda_add_norm_sums(partials, blocks, x->c, norm);
}
FACS_CUDA_ROW(norm_bwd)

template <class T> struct correcting {
    /* Pixels of both that a thread asks for before it stores the first of them, behind which
     * no load may be moved. */
    enum { AT_ONCE = sizeof(T) == 2 ? 3 : 2 };
    pixel_rows<T> dy, y;
    const float *slope, *offset;
};

template <int V, class T>
__global__ static void __launch_bounds__(PIXEL_THREADS, 4)
    correct_pixels(correcting<T> f, int64_t pixels, int channels)
{
    facs_cuda_begin();
    const int AT_ONCE = correcting<T>::AT_ONCE;
    const int c = (int)(blockIdx.y * blockDim.x + threadIdx.x) * V;
    const int64_t dy_row = blockDim.y * f.dy.stride, y_row = blockDim.y * f.y.stride;
    float slope[V], offset[V];
    if (c >= channels) return;
    get_vector<V>(slope, f.slope + c);
    get_vector<V>(offset, f.offset + c);
    for (int64_t p = (int64_t)blockIdx.x * blockDim.y * AT_ONCE + threadIdx.y; p < pixels;
         p += (int64_t)gridDim.x * blockDim.y * AT_ONCE) {
        const int64_t left = pixels - p;
        T *const dy = f.dy.at(p, c);
        const T *const y = f.y.at(p, c);
        float g[AT_ONCE][V], v[AT_ONCE][V];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            const int there = k * (int)blockDim.y < left ? k : 0;
            get<V>(g[k], dy + there * dy_row);
            get<V>(v[k], y + there * y_row);
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
#pragma unroll
            for (int i = 0; i < V; i++) g[k][i] += slope[i] * v[k][i] + offset[i];
            if (k * (int)blockDim.y < left) put<V>(dy + k * dy_row, g[k]);
        }
    }
}

template <class T>
void facs_cuda_rows<T>::correct(const facs_context *, const facs_tensor *dy,
                                const facs_correction *correction)
{
    const correcting<T> f = {rows_of<T>(dy), rows_of<T>(correction->y), correction->slope,
                             correction->offset};
    const int64_t pixels = facs_tensor_pixels(dy);
    const int wide = all_by_eight(dy->c, f.dy, f.y);
    const pixel_layout l = pixel_layout_of(pixels, dy->c, wide ? 8 : 1, f.AT_ONCE, MAP_BLOCKS);
    if (pixels == 0) return;
    if (wide)
        FACS_LAUNCH_BEGINNING("correct", (correct_pixels<8, T>), l.grid, l.block, 0, f, pixels,
                              dy->c);
    else
        FACS_LAUNCH_BEGINNING("correct", (correct_pixels<1, T>), l.grid, l.block, 0, f, pixels,
                              dy->c);
}
FACS_CUDA_ROW(correct)
