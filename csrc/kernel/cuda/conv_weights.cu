#include "kernel/cuda/conv.cuh"
#include "kernel/cuda/conv_3x3.h"
#include "kernel/cuda/conv_stem.cuh"
#include "kernel/cuda/conv_weights.h"

/* Weight gradients of dense convolutions: dw = x' dy over all output pixels. A block owns a
 * tile of (tap, input channel) x (output channel) for a range of pixels; ranges are added
 * in their order. */

/* Blocks wanted in all, and pixels worth a range. */
static const int BLOCKS = 264, LEAST_PIXELS = 256;

template <class T> struct right_factor {
    const T *dy;
    int64_t stride;
    int columns, wide;
    correction_value correction;
};

/* Brings eight channels of pixel p of dy, corrected. */
template <class T>
__device__ static void read_right(T *to, const right_factor<T> &f, int column, int64_t p,
                                  int inside)
{
    inside = inside && column < f.columns;
    if (f.wide && !f.correction.slope) {
        copy_numbers(to, inside ? f.dy + p * f.stride + column : f.dy, inside);
        return;
    }
    float v[8] = {0};
    for (int i = 0; i < 8 && inside && column + i < f.columns; i++) {
        const int c = column + i;
        v[i] = number_of(f.dy[p * f.stride + c]);
        if (f.correction.slope) v[i] += due_of<T>(f.correction, p, c);
    }
    store_eight(to, v);
}

template <class T, int ROWS, int COLUMNS> struct gradient_parts {
    typedef tile<T, ROWS, COLUMNS, true> M;
    static const int LEFT_CHUNKS = ROWS / 8, LEFT_STEP = THREADS / LEFT_CHUNKS;
    static const int MINE = DEPTH / LEFT_STEP;
    static const int RIGHT_CHUNKS = COLUMNS / 8, RIGHT_STEP = THREADS / RIGHT_CHUNKS;

    const reading<T> &r;
    const right_factor<T> &f;
    tap_chunk chunk; /* of the thread, for every pixel it brings */
    chunk_norm norm;
    int64_t begin, end; /* the range of pixels */
    int first_column, pointwise;
    unsigned unsettled; /* four bits a stage */

    __device__ static int left_column() { return (int)threadIdx.x % LEFT_CHUNKS * 8; }
    __device__ static int left_depth() { return (int)threadIdx.x / LEFT_CHUNKS; }

    /* DEPTH pixels of the range */
    __device__ void bring(T *left, T *right, int step, int stage)
    {
        const int64_t first = begin + (int64_t)step * DEPTH;
        unsigned settle = 0;
#pragma unroll
        for (int i = 0; i < MINE; i++) {
            const int depth = left_depth() + i * LEFT_STEP;
            const int64_t p = first + depth;
            int64_t pixel = -1, next = -1;
            if (pointwise) {
                pixel = chunk.inside && p < end ? p : -1;
            } else if (chunk.inside) {
                const place at = place_of(r, p, end);
                pixel = tap_pixel(r, at, chunk.ky, chunk.kx);
                if (r.paired) next = tap_pixel(r, at, chunk.ky, chunk.kx + 1);
            }
            settle |= (unsigned)read_chunk(left + depth * M::LEFT_STRIDE + left_column(), r,
                                           chunk, pixel, next)
                      << i;
        }
        unsettled = (unsettled & ~(15u << 4 * stage)) | settle << 4 * stage;
        const int column = (int)threadIdx.x % RIGHT_CHUNKS * 8;
#pragma unroll
        for (int depth = threadIdx.x / RIGHT_CHUNKS; depth < DEPTH; depth += RIGHT_STEP)
            read_right(right + depth * M::RIGHT_STRIDE + column, f, first_column + column,
                       first + depth, first + depth < end);
    }

    __device__ void settle(T *left, int, int stage)
    {
        const unsigned mask = unsettled >> 4 * stage & 15;
#pragma unroll
        for (int i = 0; i < MINE; i++)
            if (mask >> i & 1)
                settle_chunk(left + (left_depth() + i * LEFT_STEP) * M::LEFT_STRIDE +
                                 left_column(),
                             r, norm);
    }
};

/* Number (row, column) of a tile's sums is a weight's gradient, or padding. */
__device__ static int64_t weight_of(const facs_conv &g, const tap_order &order, int row,
                                    int column)
{
    const tap_chunk c = tap_chunk_at(order, row / 8);
    const int paired = order.paired, kx = c.kx + (paired ? row % 8 / 4 : 0);
    const int channel = c.channel + (paired ? row % 4 : row % 8);
    if (!c.inside || kx >= g.kw || channel >= g.ci || column >= g.co) return -1;
    return ((int64_t)(c.ky * g.kw + kx) * g.ci + channel) * g.co + column;
}

template <class T, int ROWS, int COLUMNS>
__global__ static void __launch_bounds__(THREADS, 2)
    weight_gradient(float *partials, facs_conv g, reading<T> r, right_factor<T> f,
                    int64_t pixels, int64_t range, int pointwise)
{
    typedef gradient_parts<T, ROWS, COLUMNS> parts_type;
    typedef shared_plan<T, ROWS, COLUMNS, true> S;
    extern __shared__ __align__(16) char shared[];
    float *sums = (float *)shared;
    const int64_t begin = blockIdx.z * range;
    const int64_t end = begin + range < pixels ? begin + range : pixels;
    const int steps = (int)((end - begin + DEPTH - 1) / DEPTH);
    const tap_chunk chunk = tap_chunk_at(r.order, blockIdx.x * parts_type::LEFT_CHUNKS +
                                                      parts_type::left_column() / 8);
    parts_type parts = {
        r,         f, chunk, chunk_norm_of(r, chunk), begin, end, (int)(blockIdx.y * COLUMNS),
        pointwise, 0};
    typename S::M m;

    multiply_stages<S>(m, parts, (T *)shared, steps);
    /* The sums leave row by row through shared memory. */
    m.spill(sums);
    __syncthreads();
    partials += blockIdx.z * (int64_t)g.kh * g.kw * g.ci * g.co;
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        const int64_t at = weight_of(g, r.order, blockIdx.x * ROWS + i / COLUMNS,
                                     blockIdx.y * COLUMNS + i % COLUMNS);
        if (at >= 0) partials[at] = sums[i / COLUMNS * spilled<COLUMNS>::STRIDE + i % COLUMNS];
    }
}

/* A fully connected layer of few outputs, as a head is, whose ranges would be few: eight
 * threads for each weight. */
template <class T>
__global__ static void few_weights(float *dw, const T *x, int64_t x_stride, facs_norm norm,
                                   const T *dy, int64_t dy_stride, correction_value correction,
                                   int pixels, int ci, int co)
{
    const int at = (int)(blockIdx.x * blockDim.x + threadIdx.x) / 8, c = at / co;
    const int column = at - c * co;
    float sum = 0;
    if (c < ci)
#pragma unroll 8
        for (int p = (int)threadIdx.x % 8; p < pixels; p += 8) {
            float left = number_of(x[p * x_stride + c]);
            float right = number_of(dy[p * dy_stride + column]);
            if (norm.scale) left = normed(norm, left, c);
            if (correction.slope) right += due_of<T>(correction, p, column);
            sum += left * right;
        }
    for (int distance = 4; distance; distance /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (c < ci && threadIdx.x % 8 == 0) dw[at] = sum;
}

static const int64_t FEW_PIXELS = 256, FEW_WEIGHTS = 1 << 15;

struct shape {
    int rows, columns; /* of a tile */
    unsigned down, across, ranges;
    int64_t range;
};

template <class T> static shape shape_of(const facs_conv *g, int64_t pixels)
{
    const int depth = facs_conv_chunks(g->kh, g->kw, g->ci, facs_conv_paired(g->ci, 0)) * 8;
    shape s;
    const int narrow = sizeof(T) == 2;
    s.columns = narrow && g->co <= 32 ? 32 : narrow && depth > 64 && g->co > 64 ? 128 : 64;
    s.rows = s.columns == 64 || depth <= 64 ? 64 : 128;
    s.down = facs_cuda_blocks(depth, s.rows);
    s.across = facs_cuda_blocks(g->co, s.columns);
    const int64_t wanted = (BLOCKS + s.down * s.across - 1) / (s.down * s.across);
    const int64_t most = (pixels + LEAST_PIXELS - 1) / LEAST_PIXELS;
    const int64_t ranges = wanted < most ? wanted : most;
    s.range = (pixels + ranges - 1) / ranges;
    s.range = (s.range + DEPTH - 1) / DEPTH * DEPTH;
    s.ranges = (unsigned)((pixels + s.range - 1) / s.range);
    return s;
}

/* Of the weights' gradient, so that what lies behind it is aligned. */
template <class T> static size_t weights_scratch(const facs_conv *g, int64_t n)
{
    const int64_t size = (int64_t)g->kh * g->kw * g->ci * g->co;
    const shape s = shape_of<T>(g, n * g->oh * g->ow);
    const unsigned tiles = s.down * s.across;
    const int64_t ranges =
        facs_conv_paired(g->ci, 0) ? STEM_BLOCKS : (BLOCKS + tiles - 1) / tiles;
    const size_t general = facs_cuda_conv3x3_suits<T>(g)
                               ? facs_cuda_conv3x3_scratch(g)
                               : (size_t)(ranges * size) * sizeof(float);
    const size_t pointwise = sizeof(T) == 2 ? facs_cuda_pointwise_weights_scratch(g) : 0;
    return ((general > pointwise ? general : pointwise) + 255) / 256 * 256;
}

/* Both gradients are found at a time: the sums of the input's lie behind the weights'. */
template <class T>
size_t facs_cuda_rows<T>::conv_bwd_scratch(const facs_conv *g, int64_t n, int)
{
    const size_t sums = facs_cuda_rows<T>::conv_fwd_scratch(g, n, 1) / (size_t)g->co *
                        (size_t)g->ci; /* partial sums are of the input's channels */
    const size_t corrections = facs_cuda_rows<T>::reduce_scratch(g->co, n * g->oh * g->ow, 1);
    return weights_scratch<T>(g, n) + (sums > corrections ? sums : corrections);
}

template <class T, int ROWS, int COLUMNS>
static void launch(const shape &s, float *partials, const facs_conv *g, const reading<T> &r,
                   const right_factor<T> &f, int64_t pixels)
{
    const size_t bytes = shared_plan<T, ROWS, COLUMNS, true>::BYTES;
    facs_cuda_allow_shared(weight_gradient<T, ROWS, COLUMNS>, bytes);
    FACS_LAUNCH((weight_gradient<T, ROWS, COLUMNS>), dim3(s.down, s.across, s.ranges), THREADS,
                bytes, partials, *g, r, f, pixels, s.range, facs_conv_is_pointwise(g));
}

template <class T>
void facs_cuda_rows<T>::conv_bwd_w(const facs_context *ctx, const facs_conv *g, facs_real *dw,
                                   const facs_tensor *x, const facs_norm *norm,
                                   const facs_tensor *dy, const facs_correction *correction)
{
    if (facs_cuda_conv3x3_suits<T>(g))
        return facs_cuda_conv3x3_bwd_w(ctx, g, dw, x, norm, dy, correction);
    const int64_t pixels = facs_tensor_pixels(dy),
                  size = (int64_t)g->kh * g->kw * g->ci * g->co;
    const shape s = shape_of<T>(g, pixels);
    const reading<T> r = facs_conv_reading<T>(g, x, norm, 0);
    const right_factor<T> f = {data_of<T>(*dy), dy->stride, g->co, facs_cuda_by_eight<T>(dy),
                               facs_cuda_correction(correction)};
    float *partials = s.ranges == 1 ? dw : (float *)ctx->scratch;
    if (pixels < 1) return;
    if (sizeof(T) == 2 && !norm && facs_cuda_is_stem(g, x) && f.wide &&
        (!correction || facs_cuda_by_eight<T>(correction->y))) {
        const unsigned blocks =
            facs_cuda_stem_bwd_w(g, (float *)ctx->scratch, x, dy, correction);
        facs_cuda_sum_blocks(dw, (float *)ctx->scratch, blocks, size);
        return;
    }
    if constexpr (sizeof(T) == 2) {
        if (!correction && facs_cuda_pointwise_weights(dw, ctx->scratch, g, x, norm, dy))
            return;
        if (s.columns == 32 && s.rows == 128)
            launch<T, 128, 32>(s, partials, g, r, f, pixels);
        else if (s.columns == 32)
            launch<T, 64, 32>(s, partials, g, r, f, pixels);
        else if (s.columns == 128)
            launch<T, 128, 128>(s, partials, g, r, f, pixels);
        else
            launch<T, 64, 64>(s, partials, g, r, f, pixels);
    } else {
        if (facs_conv_is_pointwise(g) && pixels <= FEW_PIXELS && size <= FEW_WEIGHTS) {
            FACS_LAUNCH(few_weights<T>, facs_cuda_blocks(size * 8, 256), 256, 0, dw, r.data,
                        r.stride, r.norm, f.dy, f.stride, f.correction, (int)pixels, g->ci,
                        g->co);
            return;
        }
        launch<T, 64, 64>(s, partials, g, r, f, pixels);
    }
    if (s.ranges > 1) facs_cuda_sum_blocks(dw, partials, s.ranges, size);
}

FACS_CUDA_ROW(conv_bwd_scratch)
FACS_CUDA_ROW(conv_bwd_w)

/* Multiplications from which on both gradients run side by side: the edges of a fork cost small
 * layers more than it hides. */
static const double WORTH_A_FORK = 2e9;

template <class T>
void facs_cuda_rows<T>::conv_bwd(const facs_context *ctx, const facs_conv *g,
                                 const facs_tensor *dx, facs_real *dw, const facs_tensor *x,
                                 const facs_norm *norm, const facs_tensor *dy,
                                 const facs_correction *correction, const facs_real *packed,
                                 int accumulate)
{
    facs_context behind = *ctx;
    behind.scratch = (char *)ctx->scratch + weights_scratch<T>(g, dy->n);
    if (correction) facs_cuda_rows<T>::correct(ctx, dy, correction);
    const double work = (double)facs_tensor_pixels(dy) * g->kh * g->kw * g->ci * g->co;
    const int forked = work >= WORTH_A_FORK && facs_cuda_fork();
    facs_cuda_rows<T>::conv_bwd_x(&behind, g, dx, x, norm, dy, NULL, packed, accumulate);
    if (forked) facs_cuda_go_aside();
    facs_cuda_rows<T>::conv_bwd_w(ctx, g, dw, x, norm, dy, NULL);
    if (forked) facs_cuda_join();
}

FACS_CUDA_ROW(conv_bwd)
