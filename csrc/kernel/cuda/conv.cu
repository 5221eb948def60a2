#include "kernel/cuda/conv.cuh"
#include "kernel/cuda/conv_3x3.h"
#include "kernel/cuda/conv_pointwise.cuh"
#include "kernel/cuda/conv_stem.cuh"

/* Dense convolutions forward and their input gradients, as products of gathered pixels and
 * packed weights. Blocks take tiles of rows in turn, so that sums per channel leave each
 * block once. */

/* Blocks of a launch that fill a GPU a few times over; also how many partial sums a channel
 * has. */
static const int BLOCKS = 528;

/* Which rows of a tile a thread brings: the same chunk of a step for each. */
template <int ROWS> struct share {
    static const int CHUNKS = DEPTH / 8, ROW_STEP = THREADS / CHUNKS, MINE = ROWS / ROW_STEP;
    __device__ static int chunk() { return (int)threadIdx.x % CHUNKS; }
    __device__ static int row() { return (int)threadIdx.x / CHUNKS; }
};

/* The factors of a product and the step they are at. */
template <class T, int ROWS, int COLUMNS> struct product_parts {
    typedef tile<T, ROWS, COLUMNS, false> M;
    typedef share<ROWS> mine;

    static const int RIGHT_CHUNKS = COLUMNS / 8, RIGHT_STEP = THREADS / RIGHT_CHUNKS;
    static const int RIGHT_MINE = (DEPTH + RIGHT_STEP - 1) / RIGHT_STEP;

    const reading<T> &r;
    const T *weights; /* the thread's first chunk of step 0 */
    int padded, weights_inside;
    int64_t first_row, rows;
    place places[mine::MINE];
    unsigned unsettled; /* four bits a stage: which of the thread's chunks */

    __device__ tap_chunk chunk_of(int step) const
    {
        return tap_chunk_at(r.order, step * mine::CHUNKS + mine::chunk());
    }

    __device__ void bring(T *left, T *right, int step, int stage)
    {
        const tap_chunk c = chunk_of(step);
        unsigned settle = 0;
#pragma unroll
        for (int i = 0; i < mine::MINE; i++) {
            const int row = mine::row() + i * mine::ROW_STEP;
            int64_t pixel = -1, next = -1;
            if (c.inside) {
                pixel = tap_pixel(r, places[i], c.ky, c.kx);
                if (r.paired) next = tap_pixel(r, places[i], c.ky, c.kx + 1);
            }
            T *to = left + row * M::LEFT_STRIDE + mine::chunk() * 8;
            settle |= (unsigned)read_chunk(to, r, c, pixel, next) << i;
        }
        unsettled = (unsettled & ~(15u << 4 * stage)) | settle << 4 * stage;
        const T *from = weights + (int64_t)step * DEPTH * padded;
        T *to = right + right_depth() * M::RIGHT_STRIDE + right_column();
#pragma unroll
        for (int i = 0; i < RIGHT_MINE; i++)
            if (DEPTH % RIGHT_STEP == 0 || right_depth() + i * RIGHT_STEP < DEPTH)
                copy_numbers(to + i * RIGHT_STEP * M::RIGHT_STRIDE,
                             from + (int64_t)i * RIGHT_STEP * padded, weights_inside);
    }

    __device__ static int right_depth()
    {
        return (int)threadIdx.x / RIGHT_CHUNKS;
    }
    __device__ static int right_column()
    {
        return (int)threadIdx.x % RIGHT_CHUNKS * 8;
    }

    __device__ void settle(T *left, int step, int stage)
    {
        const unsigned mask = unsettled >> 4 * stage & 15;
        if (!mask) return;
        const chunk_norm n = chunk_norm_of(r, chunk_of(step));
#pragma unroll
        for (int i = 0; i < mine::MINE; i++)
            if (mask >> i & 1)
                settle_chunk(left + (mine::row() + i * mine::ROW_STEP) * M::LEFT_STRIDE +
                                 mine::chunk() * 8,
                             r, n);
    }
};

template <class T, int ROWS, int COLUMNS, class End>
__global__ static void __launch_bounds__(THREADS, 2)
    product(reading<T> r, const T *weights, int padded, int steps, int64_t rows, End end)
{
    typedef shared_plan<T, ROWS, COLUMNS, false> S;
    typedef share<ROWS> mine;
    extern __shared__ __align__(128) char shared[];
    float *sums = (float *)shared;
    const int first_column = blockIdx.y * COLUMNS;
    float total = 0;

    for (int64_t first_row = (int64_t)blockIdx.x * ROWS; first_row < rows;
         first_row += (int64_t)gridDim.x * ROWS) {
        typedef product_parts<T, ROWS, COLUMNS> parts_type;
        const int right_column = first_column + parts_type::right_column();
        const int right_inside = right_column < padded && parts_type::right_depth() < DEPTH;
        parts_type parts = {
            r,
            weights +
                (right_inside ? (int64_t)parts_type::right_depth() * padded + right_column : 0),
            padded,
            right_inside,
            first_row,
            rows,
            {},
            0};
        typename S::M m;
#pragma unroll
        for (int i = 0; i < mine::MINE; i++)
            parts.places[i] = place_of(r, first_row + mine::row() + i * mine::ROW_STEP, rows);
        multiply_stages<S>(m, parts, (T *)shared, steps);
        m.spill(sums);
        __syncthreads();
        total +=
            finish_tile<T, COLUMNS>(end, sums, rows_from(first_row, rows, ROWS), first_column);
        __syncthreads();
    }
    if (end.partials) write_totals<COLUMNS>(end.partials, end.columns, first_column, total);
}

/* --- launching */

struct shape {
    int tile_rows, tile_columns;
    unsigned blocks, across;
};

/* float is there to check by: one size of tile serves it. */
template <class T> static shape shape_of(int64_t rows, int columns)
{
    const int narrow = sizeof(T) == 2;
    shape s;
    s.tile_columns = !narrow ? 64 : columns <= 32 ? 32 : columns <= 64 ? 64 : 128;
    s.across = facs_cuda_blocks(columns, s.tile_columns);
    s.tile_rows =
        !narrow || (int64_t)facs_cuda_blocks(rows, 128) * s.across < MULTIPROCESSORS ? 64 : 128;
    const unsigned tiles = facs_cuda_blocks(rows, s.tile_rows);
    const unsigned most = (BLOCKS + s.across - 1) / s.across;
    s.blocks = tiles < most ? tiles : most;
    return s;
}

/* Of the partial sums; fewer rows never need more. */
static size_t partial_bytes(int columns)
{
    return (size_t)BLOCKS * 2 * (size_t)columns * sizeof(float);
}

template <class T, int ROWS, int COLUMNS, class End>
static void launch_product(const shape &s, const reading<T> &r, const T *weights, int padded,
                           int steps, int64_t rows, const End &end)
{
    const size_t bytes = shared_plan<T, ROWS, COLUMNS, false>::BYTES;
    facs_cuda_allow_shared(product<T, ROWS, COLUMNS, End>, bytes);
    FACS_LAUNCH((product<T, ROWS, COLUMNS, End>), dim3(s.blocks, s.across), THREADS, bytes, r,
                weights, padded, steps, rows, end);
}

template <class T, int ROWS, class End>
static void choose_columns(const shape &s, const reading<T> &r, const T *weights, int padded,
                           int steps, int64_t rows, const End &end)
{
    if (s.tile_columns == 64)
        launch_product<T, ROWS, 64>(s, r, weights, padded, steps, rows, end);
    else if constexpr (sizeof(T) == 2) {
        if (s.tile_columns == 32)
            launch_product<T, ROWS, 32>(s, r, weights, padded, steps, rows, end);
        else
            launch_product<T, ROWS, 128>(s, r, weights, padded, steps, rows, end);
    }
}

/* Returns the blocks whose partial sums there are. */
template <class T, class End>
static unsigned run_product(const facs_conv *g, const reading<T> &r, const facs_real *packed,
                            int64_t rows, const End &end)
{
    const T *weights = (const T *)(const void *)packed;
    const int depth = facs_conv_depth(g, r.inner, r.paired);
    const int padded = facs_conv_padded(end.columns);
    if constexpr (sizeof(T) == 2)
        if (r.wide && !r.paired && facs_conv_is_pointwise(g)) {
            const pointwise_factors f = {r.data, r.stride, r.inner, weights,
                                         padded, depth,    r.norm};
            const unsigned blocks = run_pointwise(f, rows, end);
            if (blocks) return blocks;
        }
    const shape s = shape_of<T>(rows, end.columns);
    if constexpr (sizeof(T) == 2)
        if (s.tile_rows == 128) {
            choose_columns<T, 128>(s, r, weights, padded, depth / DEPTH, rows, end);
            return s.blocks;
        }
    choose_columns<T, 64>(s, r, weights, padded, depth / DEPTH, rows, end);
    return s.blocks;
}

/* A fully connected layer of few outputs, as a head is, which would be one or two tiles: a warp
 * for each. */
template <class T>
__global__ static void few_outputs(T *y, int64_t y_stride, const T *x, int64_t x_stride,
                                   facs_norm norm, const T *weights, int padded,
                                   const float *bias, facs_clamp clamp, int64_t rows, int ci,
                                   int co)
{
    const int64_t at = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const int64_t row = at / co;
    const int column = (int)(at - row * co), lane = threadIdx.x % 32;
    float sum = 0;

    if (row >= rows) return;
    for (int c = lane; c < ci; c += 32) {
        float v = number_of(x[row * x_stride + c]);
        if (norm.scale) v = normed(norm, v, c);
        sum += v * number_of(weights[(int64_t)c * padded + column]);
    }
    for (int distance = 16; distance; distance /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (lane == 0)
        put_number(y + row * y_stride + column,
                   clamped(sum + (bias ? bias[column] : 0), clamp));
}

static const int64_t FEW = 1 << 14;

template <class T> size_t facs_cuda_rows<T>::conv_fwd_scratch(const facs_conv *g, int64_t, int)
{
    return partial_bytes(g->co);
}

template <class T>
void facs_cuda_rows<T>::conv_fwd(const facs_context *ctx, const facs_conv *g,
                                 const facs_tensor *y, const facs_tensor *x,
                                 const facs_norm *norm, const facs_real *packed,
                                 const facs_real *bias, facs_clamp clamp,
                                 const facs_moments *moments)
{
    if (facs_cuda_conv3x3_suits<T>(g))
        return facs_cuda_conv3x3_fwd(ctx, g, y, x, norm, packed, bias, clamp, moments);
    const int64_t rows = facs_tensor_pixels(y);
    float *partials = moments ? (float *)ctx->scratch : NULL;
    const forward_end<T> end = forward_end_of<T>(y, bias, clamp, partials);
    if (rows < 1) return;
    if (sizeof(T) == 4 && !moments && facs_conv_is_pointwise(g) && rows * g->co <= FEW) {
        FACS_LAUNCH(few_outputs<T>, facs_cuda_blocks(rows * g->co, 8), 256, 0, end.y,
                    end.stride, data_of<T>(*x), x->stride, facs_cuda_norm(norm),
                    (const T *)(const void *)packed, facs_conv_padded(g->co), bias, clamp, rows,
                    g->ci, g->co);
        return;
    }
    unsigned blocks;
    if (sizeof(T) == 2 && !norm && facs_cuda_is_stem(g, x))
        blocks = facs_cuda_stem_fwd(g, y, x, (const bfloat16 *)(const void *)packed, bias,
                                    clamp, partials);
    else
        blocks = run_product(g, facs_conv_reading<T>(g, x, norm, 0), packed, rows, end);
    if (moments) facs_cuda_finish_moments(partials, blocks, g->co, rows, moments);
}

template <class T>
void facs_cuda_rows<T>::conv_bwd_x(const facs_context *ctx, const facs_conv *g,
                                   const facs_tensor *dx, const facs_tensor *x,
                                   const facs_norm *norm, const facs_tensor *dy,
                                   const facs_correction *correction, const facs_real *packed,
                                   int accumulate)
{
    const int64_t rows = dy->n * g->h * g->w;
    const int sums = norm && norm->sum;
    const backward_end<T> end = {dx ? data_of<T>(*dx) : NULL,
                                 norm ? data_of<T>(*x) : NULL,
                                 dx ? dx->stride : 0,
                                 norm ? x->stride : 0,
                                 g->ci,
                                 (!dx || facs_cuda_by_eight<T>(dx)) &&
                                     (!norm || facs_cuda_by_eight<T>(x)) && g->ci % 8 == 0,
                                 accumulate,
                                 facs_cuda_norm(norm),
                                 sums ? (float *)ctx->scratch : NULL};
    if (rows < 1) return;
    if (correction) facs_cuda_rows<T>::correct(ctx, dy, correction);
    if (facs_cuda_conv3x3_suits<T>(g))
        return facs_cuda_conv3x3_bwd_x(ctx, g, dx, x, norm, dy, packed, accumulate);
    const unsigned blocks =
        run_product(g, facs_conv_reading<T>(g, dy, NULL, 1), packed, rows, end);
    if (sums) facs_cuda_add_norm_sums(end.partials, blocks, g->ci, norm);
}

FACS_CUDA_ROW(conv_fwd_scratch)
FACS_CUDA_ROW(conv_fwd)
FACS_CUDA_ROW(conv_bwd_x)
