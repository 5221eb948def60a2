#include "kernel/cuda/conv.cuh"

/* Dense convolutions forward and their input gradients, as products of gathered pixels and
 * packed weights. Blocks take tiles of rows in turn, so that sums per channel leave each
 * block once. */

/* Blocks of a launch that fill a GPU a few times over; also how many partial sums a channel
 * has. */
static const int BLOCKS = 528;

/* What is read for the rows of a product: row (n, y, x) of the tensor written takes, for each
 * tap, `inner` channels of one pixel of the tensor read. Depth runs over (tap, channel), the
 * channels of a tap padded to a multiple of eight. */
template <class T> struct reading {
    const T *data;
    int64_t stride;
    int h, w, inner;    /* of the tensor read */
    int rows_h, rows_w; /* of the tensor written */
    int kh, kw, step, top, left;
    int backward; /* from a convolution's input to its output */
    int wide;     /* all eight channels of a chunk are there and aligned */
    facs_norm norm;
};

/* Where a row looks; inside: the row exists. */
struct place {
    int64_t image; /* pixel index of the image's first pixel */
    int y, x, inside;
};

template <class T>
__device__ static place place_of(const reading<T> &r, int64_t row, int64_t rows)
{
    place p = {0, 0, 0, row < rows};
    const unsigned area = (unsigned)(r.rows_h * r.rows_w);
    const unsigned n = (unsigned)(row / area), rest = (unsigned)(row - (int64_t)n * area);
    p.image = (int64_t)n * r.h * r.w;
    p.y = (int)(rest / (unsigned)r.rows_w);
    p.x = (int)(rest - (unsigned)p.y * (unsigned)r.rows_w);
    return p;
}

/* The pixel that a tap of a row reads, or -1. */
template <class T>
__device__ static int64_t tap_pixel(const reading<T> &r, const place &p, int ky, int kx)
{
    int y, x;
    if (r.backward) {
        y = p.y + r.top - ky, x = p.x + r.left - kx;
        if (y < 0 || x < 0 || y % r.step || x % r.step) return -1;
        y /= r.step, x /= r.step;
    } else {
        y = p.y * r.step - r.top + ky, x = p.x * r.step - r.left + kx;
    }
    if (!p.inside || y < 0 || x < 0 || y >= r.h || x >= r.w) return -1;
    return p.image + (int64_t)y * r.w + x;
}

/* What a thread holds of the next step: the same chunk of depth for each of its rows. */
template <class T, int ROWS, int COLUMNS> struct held {
    static const int CHUNKS = DEPTH / 8, ROW_STEP = THREADS / CHUNKS;
    static const int MINE = ROWS / ROW_STEP;
    static const int RIGHT_CHUNKS = DEPTH * COLUMNS / 8,
                     RIGHT_MINE = (RIGHT_CHUNKS + THREADS - 1) / THREADS;
    eight<T> left[MINE], right[RIGHT_MINE];
    int channel; /* of the chunk; -1: behind the last tap */
    unsigned inside;
};

template <class T, int ROWS, int COLUMNS, bool POINTWISE>
__device__ static void fetch(held<T, ROWS, COLUMNS> &h, const reading<T> &r,
                             const place *places, int64_t first_row, int64_t rows,
                             const T *weights, int padded, int first_column, int step)
{
    typedef held<T, ROWS, COLUMNS> H;
    const int chunk = step * H::CHUNKS + (int)threadIdx.x % H::CHUNKS;
    const int per_tap = (r.inner + 7) / 8;
    const int tap = POINTWISE ? 0 : chunk / per_tap;
    const int channel = (chunk - tap * per_tap) * 8;
    const int there = POINTWISE ? chunk < per_tap : tap < r.kh * r.kw;
    const int ky = POINTWISE ? 0 : tap / r.kw, kx = POINTWISE ? 0 : tap - ky * r.kw;

    h.channel = there ? channel : -1;
    h.inside = 0;
#pragma unroll
    for (int i = 0; i < H::MINE; i++) {
        int64_t pixel;
        if (POINTWISE) {
            pixel = first_row + (int)threadIdx.x / H::CHUNKS + i * H::ROW_STEP;
            if (pixel >= rows) pixel = -1;
        } else {
            pixel = tap_pixel(r, places[i], ky, kx);
        }
        h.left[i] = eight_zeros<T>();
        if (!there || pixel < 0) continue;
        h.inside |= 1u << i;
        h.left[i] = fetch_eight(r.data + pixel * r.stride + channel, r.inner - channel, r.wide);
    }
#pragma unroll
    for (int i = 0; i < H::RIGHT_MINE; i++) {
        const int at = (int)threadIdx.x + i * THREADS;
        const int depth = at / (COLUMNS / 8), column = at % (COLUMNS / 8) * 8 + first_column;
        h.right[i] = eight_zeros<T>();
        if (at < H::RIGHT_CHUNKS && column < padded)
            h.right[i] = *(const eight<T> *)(weights +
                                             (int64_t)(step * DEPTH + depth) * padded + column);
    }
}

/* Puts what is held into shared memory, the left side through the norm. */
template <class T, int ROWS, int COLUMNS>
__device__ static void place_held(T *left, T *right, const held<T, ROWS, COLUMNS> &h,
                                  const reading<T> &r)
{
    typedef held<T, ROWS, COLUMNS> H;
    typedef tile<T, ROWS, COLUMNS, false> M;
    const int chunk = (int)threadIdx.x % H::CHUNKS, row = (int)threadIdx.x / H::CHUNKS;
    float scale[8], shift[8];
    const int normed_too = r.norm.scale != NULL && h.channel >= 0;

    if (normed_too) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int c = h.channel + i < r.inner ? h.channel + i : r.inner - 1;
            scale[i] = __ldg(r.norm.scale + c);
            shift[i] = __ldg(r.norm.shift + c);
        }
    }
#pragma unroll
    for (int i = 0; i < H::MINE; i++) {
        eight<T> e = h.left[i];
        if (normed_too && (h.inside >> i & 1)) {
            float v[8];
            unpack(v, e);
#pragma unroll
            for (int j = 0; j < 8; j++)
                v[j] = clamped(scale[j] * v[j] + shift[j], r.norm.clamp);
            if (!r.wide)
                for (int j = 0; j < 8; j++)
                    if (h.channel + j >= r.inner) v[j] = 0;
            e = packed_of<T>(v);
        }
        *(eight<T> *)(left + (row + i * H::ROW_STEP) * M::LEFT_STRIDE + chunk * 8) = e;
    }
#pragma unroll
    for (int i = 0; i < H::RIGHT_MINE; i++) {
        const int at = (int)threadIdx.x + i * THREADS;
        if (at < H::RIGHT_CHUNKS)
            *(eight<T> *)(right + at / (COLUMNS / 8) * M::RIGHT_STRIDE +
                          at % (COLUMNS / 8) * 8) = h.right[i];
    }
}

/* Forward: bias, clamp, moments. */
template <class T> struct forward_end {
    T *y;
    int64_t stride;
    int columns, wide;
    const float *bias;
    facs_clamp clamp;
    float *partials; /* [blocks][2][columns] or NULL */

    __device__ void finish(int64_t row, int column, float v[8], float first[8],
                           float second[8]) const
    {
        const int count = columns - column < 8 ? columns - column : 8;
        T *to = y + row * stride + column;
        if (bias)
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] += i < count ? __ldg(bias + column + i) : 0;
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = clamped(v[i], clamp);
        if (wide)
            store_eight(to, v);
        else
            for (int i = 0; i < count; i++) put_number(to + i, v[i]);
        if (partials)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                first[i] += v[i];
                second[i] += v[i] * v[i];
            }
    }
};

/* Backward: through the norm of what the convolution read, with its sums. */
template <class T> struct backward_end {
    T *dx; /* or NULL */
    const T *x;
    int64_t dx_stride, x_stride;
    int columns, wide, accumulate;
    facs_norm norm;
    float *partials;

    __device__ void finish(int64_t row, int column, float v[8], float first[8],
                           float second[8]) const
    {
        const int count = columns - column < 8 ? columns - column : 8;
        if (norm.scale) {
            float seen[8];
            unpack(seen, fetch_eight(x + row * x_stride + column, count, wide));
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const int c = column + (i < count ? i : 0);
                const float scale = __ldg(norm.scale + c);
                const float y = scale * seen[i] + __ldg(norm.shift + c);
                const float h = y > norm.clamp.low && y < norm.clamp.high ? v[i] : 0;
                if (partials) {
                    first[i] += h;
                    second[i] += h * (seen[i] - __ldg(norm.mean + c));
                }
                v[i] = scale * h;
            }
        }
        if (!dx) return;
        T *to = dx + row * dx_stride + column;
        if (accumulate) {
            float before[8];
            unpack(before, fetch_eight<T>(to, count, wide));
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] += before[i];
        }
        if (wide)
            store_eight(to, v);
        else
            for (int i = 0; i < count; i++) put_number(to + i, v[i]);
    }
};

/* Adds the threads' sums of a column and writes the block's partials. */
template <int COLUMNS>
__device__ static void write_partials(float *partials, int columns, int first_column,
                                      float *shared, float first[8], float second[8])
{
    const int across = COLUMNS / 8, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int chunk = threadIdx.x % across;

#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int distance = 16; distance >= across; distance /= 2) {
            first[i] += __shfl_xor_sync(0xffffffffu, first[i], distance);
            second[i] += __shfl_xor_sync(0xffffffffu, second[i], distance);
        }
    __syncthreads();
    if (lane < across)
        for (int i = 0; i < 8; i++) {
            shared[(2 * warp) * COLUMNS + chunk * 8 + i] = first[i];
            shared[(2 * warp + 1) * COLUMNS + chunk * 8 + i] = second[i];
        }
    __syncthreads();
    if ((int)threadIdx.x >= 2 * COLUMNS) return;
    const int which = threadIdx.x / COLUMNS, column = threadIdx.x % COLUMNS;
    float sum = 0;
    for (int i = 0; i < THREADS / 32; i++) sum += shared[(2 * i + which) * COLUMNS + column];
    if (first_column + column < columns)
        partials[((int64_t)blockIdx.x * 2 + which) * columns + first_column + column] = sum;
}

template <class T, int ROWS, int COLUMNS> struct shared_plan {
    typedef tile<T, ROWS, COLUMNS, false> M;
    static const int STRIDE = COLUMNS + 4; /* of the spilled sums */
    static const size_t FACTORS = 2 * (M::LEFT + M::RIGHT) * sizeof(T);
    static const size_t SUMS = ROWS * STRIDE * sizeof(float);
    static const size_t BYTES = FACTORS > SUMS ? FACTORS : SUMS;
};

template <class T, int ROWS, int COLUMNS, bool POINTWISE, class End>
__global__ static void __launch_bounds__(THREADS, 2)
    product(reading<T> r, const T *weights, int padded, int steps, int64_t rows, End end)
{
    typedef shared_plan<T, ROWS, COLUMNS> S;
    typedef typename S::M M;
    typedef held<T, ROWS, COLUMNS> H;
    extern __shared__ __align__(16) char shared[];
    T *factors = (T *)shared;
    float *sums = (float *)shared;
    const int first_column = blockIdx.y * COLUMNS;
    float first[8] = {0}, second[8] = {0};

    for (int64_t first_row = (int64_t)blockIdx.x * ROWS; first_row < rows;
         first_row += (int64_t)gridDim.x * ROWS) {
        place places[H::MINE];
        H h;
        M m;
        if (!POINTWISE)
#pragma unroll
            for (int i = 0; i < H::MINE; i++)
                places[i] = place_of(
                    r, first_row + (int)threadIdx.x / H::CHUNKS + i * H::ROW_STEP, rows);
        m.clear();
        fetch<T, ROWS, COLUMNS, POINTWISE>(h, r, places, first_row, rows, weights, padded,
                                           first_column, 0);
        for (int step = 0; step < steps; step++) {
            T *left = factors + (step & 1) * (M::LEFT + M::RIGHT), *right = left + M::LEFT;
            place_held(left, right, h, r);
            __syncthreads();
            if (step + 1 < steps)
                fetch<T, ROWS, COLUMNS, POINTWISE>(h, r, places, first_row, rows, weights,
                                                   padded, first_column, step + 1);
            m.add(left, right);
        }
        __syncthreads();
        m.spill(sums, S::STRIDE);
        __syncthreads();
        const int chunk = (int)threadIdx.x % (COLUMNS / 8);
        if (first_column + chunk * 8 < end.columns)
            for (int i = (int)threadIdx.x / (COLUMNS / 8); i < ROWS;
                 i += THREADS / (COLUMNS / 8)) {
                float v[8];
                if (first_row + i >= rows) break;
                load_eight(v, sums + i * S::STRIDE + chunk * 8);
                end.finish(first_row + i, first_column + chunk * 8, v, first, second);
            }
        __syncthreads();
    }
    if (end.partials)
        write_partials<COLUMNS>(end.partials, end.columns, first_column, sums, first, second);
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
    s.tile_rows = !narrow || (int64_t)facs_cuda_blocks(rows, 128) * s.across < 132 ? 64 : 128;
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

template <class T, int ROWS, int COLUMNS, bool POINTWISE, class End>
static void launch_product(const shape &s, const reading<T> &r, const T *weights, int padded,
                           int steps, int64_t rows, const End &end)
{
    const size_t bytes = shared_plan<T, ROWS, COLUMNS>::BYTES;
    facs_cuda_allow_shared(product<T, ROWS, COLUMNS, POINTWISE, End>, bytes);
    FACS_LAUNCH((product<T, ROWS, COLUMNS, POINTWISE, End>), dim3(s.blocks, s.across), THREADS,
                bytes, r, weights, padded, steps, rows, end);
}

template <class T, int ROWS, bool POINTWISE, class End>
static void choose_columns(const shape &s, const reading<T> &r, const T *weights, int padded,
                           int steps, int64_t rows, const End &end)
{
    if (s.tile_columns == 64)
        launch_product<T, ROWS, 64, POINTWISE>(s, r, weights, padded, steps, rows, end);
    else if constexpr (sizeof(T) == 2) {
        if (s.tile_columns == 32)
            launch_product<T, ROWS, 32, POINTWISE>(s, r, weights, padded, steps, rows, end);
        else
            launch_product<T, ROWS, 128, POINTWISE>(s, r, weights, padded, steps, rows, end);
    }
}

template <class T, class End>
static void run_product(const shape &s, const reading<T> &r, const T *weights, int64_t rows,
                        const End &end)
{
    const int steps = facs_conv_depth(r.kh * r.kw, r.inner) / DEPTH;
    const int padded = facs_conv_padded(end.columns);
    const int pointwise = r.kh * r.kw == 1 && r.step == 1 && !r.top && !r.left &&
                          r.h == r.rows_h && r.w == r.rows_w;
    if constexpr (sizeof(T) == 2) {
        if (s.tile_rows == 64 && pointwise)
            choose_columns<T, 64, true>(s, r, weights, padded, steps, rows, end);
        else if (s.tile_rows == 64)
            choose_columns<T, 64, false>(s, r, weights, padded, steps, rows, end);
        else if (pointwise)
            choose_columns<T, 128, true>(s, r, weights, padded, steps, rows, end);
        else
            choose_columns<T, 128, false>(s, r, weights, padded, steps, rows, end);
    } else {
        choose_columns<T, 64, false>(s, r, weights, padded, steps, rows, end);
    }
}

template <class T> static int is_wide(const void *data, int64_t stride, int channels)
{
    return channels % 8 == 0 && stride % 8 == 0 && (uintptr_t)data % (8 * sizeof(T)) == 0;
}

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
    const int64_t rows = facs_tensor_pixels(y);
    const shape s = shape_of<T>(rows, g->co);
    const reading<T> r = {data_of<T>(*x),
                          x->stride,
                          g->h,
                          g->w,
                          g->ci,
                          g->oh,
                          g->ow,
                          g->kh,
                          g->kw,
                          g->stride,
                          g->pad_top,
                          g->pad_left,
                          0,
                          is_wide<T>(x->data, x->stride, g->ci),
                          facs_cuda_norm(norm)};
    const forward_end<T> end = {data_of<T>(*y),
                                y->stride,
                                g->co,
                                is_wide<T>(y->data, y->stride, g->co),
                                bias,
                                clamp,
                                moments ? (float *)ctx->scratch : NULL};
    if (rows < 1) return;
    run_product(s, r, (const T *)(const void *)packed, rows, end);
    if (moments) facs_cuda_finish_moments(end.partials, s.blocks, g->co, rows, moments);
}

template <class T>
void facs_cuda_rows<T>::conv_bwd_x(const facs_context *ctx, const facs_conv *g,
                                   const facs_tensor *dx, const facs_tensor *x,
                                   const facs_norm *norm, const facs_tensor *dy,
                                   const facs_correction *correction, const facs_real *packed,
                                   int accumulate)
{
    const int64_t rows = dy->n * g->h * g->w;
    const shape s = shape_of<T>(rows, g->ci);
    const reading<T> r = {data_of<T>(*dy),
                          dy->stride,
                          g->oh,
                          g->ow,
                          g->co,
                          g->h,
                          g->w,
                          g->kh,
                          g->kw,
                          g->stride,
                          g->pad_top,
                          g->pad_left,
                          1,
                          is_wide<T>(dy->data, dy->stride, g->co),
                          facs_norm{}};
    const int sums = norm && norm->sum;
    const backward_end<T> end = {dx ? data_of<T>(*dx) : NULL,
                                 norm ? data_of<T>(*x) : NULL,
                                 dx ? dx->stride : 0,
                                 norm ? x->stride : 0,
                                 g->ci,
                                 (!dx || is_wide<T>(dx->data, dx->stride, g->ci)) &&
                                     (!norm || is_wide<T>(x->data, x->stride, g->ci)) &&
                                     g->ci % 8 == 0,
                                 accumulate,
                                 facs_cuda_norm(norm),
                                 sums ? (float *)ctx->scratch : NULL};
    if (rows < 1) return;
    if (correction) facs_cuda_rows<T>::correct(ctx, dy, correction);
    run_product(s, r, (const T *)(const void *)packed, rows, end);
    if (sums) facs_cuda_add_norm_sums(end.partials, s.blocks, g->ci, norm);
}

FACS_CUDA_ROW(conv_fwd_scratch)
FACS_CUDA_ROW(conv_fwd)
FACS_CUDA_ROW(conv_bwd_x)
