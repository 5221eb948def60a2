#include "kernel/cuda/dwconv.h"

#include <math.h>

/* Depthwise convolution forward. Packed weights are [kh][kw][c], as given. A line of x is
 * read once for the three lines of y that it reaches: their sums are in registers. */

/* Blocks of DW_THREADS that are at work at a time on 132 multiprocessors. */
enum { DW_RESIDENT = 4 * 132 };

template <class T> struct dw_forward {
    const T *x;
    T *y;
    const float *w, *bias;
    facs_norm norm;
    facs_clamp clamp;
    int clamps; /* whether the clamp does anything */
    facs_conv g;
    int64_t n;
    int x_stride, y_stride;
    dw_cut cut;
    float *partials; /* [blocks][2][channels], or NULL */
};

/* --- 3x3 */

template <class T, int STRIDE, int NORM> struct dw_walk {
    enum { WINDOW = (DW_COLUMNS - 1) * STRIDE + 3 };
    typedef typename dw_stored<T>::pair pair;

    const dw_forward<T> &p;
    float w[9][2], start[2], scale[2], shift[2], moments[2][2];
    /* of the piece */
    const T *x; /* where its window is in line 0 */
    T *y;       /* its next line */
    int columns, row, end;
    unsigned inside; /* bit j: column j of the window is in the image */
    pair raw[WINDOW];
    float v[WINDOW][2];

    __device__ __forceinline__ dw_walk(const dw_forward<T> &forward, int c) : p(forward)
    {
#pragma unroll
        for (int k = 0; k < 2; k++) {
#pragma unroll
            for (int i = 0; i < 9; i++) w[i][k] = p.w[i * p.g.ci + c + k];
            start[k] = p.bias ? p.bias[c + k] : 0;
            scale[k] = NORM ? p.norm.scale[c + k] : 1;
            shift[k] = NORM ? p.norm.shift[c + k] : 0;
            moments[0][k] = moments[1][k] = 0;
        }
    }

    __device__ __forceinline__ int in_image(int line) const
    {
        return line >= 0 && line < p.g.h;
    }

    /* Columns outside of the image become 0, which a norm does not leave so. */
    __device__ __forceinline__ void fetch(int line)
    {
        if (line >= end || !in_image(line)) return;
        const T *from = x + (int64_t)(line * p.g.w) * p.x_stride;
        if (inside == (1u << WINDOW) - 1) {
#pragma unroll
            for (int j = 0; j < WINDOW; j++) raw[j] = load_pair(from, j, p.x_stride);
        } else {
#pragma unroll
            for (int j = 0; j < WINDOW; j++)
                raw[j] = inside >> j & 1 ? load_pair(from, j, p.x_stride) : pair{};
        }
    }

    __device__ __forceinline__ void decode()
    {
#pragma unroll
        for (int j = 0; j < WINDOW; j++) {
            pair_numbers(v[j], raw[j]);
            if (!NORM) continue;
            v[j][0] = clamped(scale[0] * v[j][0] + shift[0], p.norm.clamp);
            v[j][1] = clamped(scale[1] * v[j][1] + shift[1], p.norm.clamp);
        }
        if (NORM && inside != (1u << WINDOW) - 1) {
#pragma unroll
            for (int j = 0; j < WINDOW; j++)
                if (!(inside >> j & 1)) v[j][0] = v[j][1] = 0;
        }
    }

    /* The line of x times line KY of the kernel. */
    template <int KY> __device__ __forceinline__ void add(float (&sum)[DW_COLUMNS][2]) const
    {
#pragma unroll
        for (int kx = 0; kx < 3; kx++)
#pragma unroll
            for (int t = 0; t < DW_COLUMNS; t++) {
                sum[t][0] += w[3 * KY + kx][0] * v[t * STRIDE + kx][0];
                sum[t][1] += w[3 * KY + kx][1] * v[t * STRIDE + kx][1];
            }
    }

    __device__ __forceinline__ void begin(float (&sum)[DW_COLUMNS][2]) const
    {
#pragma unroll
        for (int t = 0; t < DW_COLUMNS; t++) sum[t][0] = start[0], sum[t][1] = start[1];
    }

    /* The moments are those of what is written. */
    __device__ __forceinline__ void count(pair stored)
    {
        float out[2];
        pair_numbers(out, stored);
#pragma unroll
        for (int k = 0; k < 2; k++) {
            moments[0][k] += out[k];
            moments[1][k] += out[k] * out[k];
        }
    }

    __device__ __forceinline__ void put(float (&sum)[DW_COLUMNS][2])
    {
        pair stored[DW_COLUMNS];
        if (p.clamps) {
#pragma unroll
            for (int t = 0; t < DW_COLUMNS; t++) {
                sum[t][0] = clamped(sum[t][0], p.clamp);
                sum[t][1] = clamped(sum[t][1], p.clamp);
            }
        }
#pragma unroll
        for (int t = 0; t < DW_COLUMNS; t++) make_pair(&stored[t], sum[t]);
        if (columns >= DW_COLUMNS) {
#pragma unroll
            for (int t = 0; t < DW_COLUMNS; t++) store_pair(y, t, p.y_stride, stored[t]);
            if (p.partials)
#pragma unroll
                for (int t = 0; t < DW_COLUMNS; t++) count(stored[t]);
        } else {
#pragma unroll
            for (int t = 0; t < DW_COLUMNS; t++) {
                if (t >= columns) break;
                store_pair(y, t, p.y_stride, stored[t]);
                if (p.partials) count(stored[t]);
            }
        }
        y += p.g.ow * p.y_stride;
    }

    /* Takes the next line of x. Stride 1: it ends `a`, goes on with `b`, begins `c`. */
    __device__ __forceinline__ int step(float (&a)[DW_COLUMNS][2], float (&b)[DW_COLUMNS][2],
                                        float (&c)[DW_COLUMNS][2], int full)
    {
        const int line = row++;
        if (line >= end) return 0;
        if (in_image(line)) decode();
        fetch(row);
        begin(c);
        if (in_image(line)) {
            add<2>(a);
            add<1>(b);
            add<0>(c);
        }
        if (full) put(a);
        return 1;
    }

    /* Stride 2: a line between two lines of y is theirs both, the next is of one alone. */
    __device__ __forceinline__ void step_outer(float (&a)[DW_COLUMNS][2],
                                               float (&b)[DW_COLUMNS][2], int full)
    {
        const int line = row++;
        if (in_image(line)) decode();
        fetch(row);
        begin(b);
        if (in_image(line)) {
            add<2>(a);
            add<0>(b);
        }
        if (full) put(a);
    }
    __device__ __forceinline__ int step_inner(float (&sum)[DW_COLUMNS][2])
    {
        const int line = row++;
        if (line >= end) return 0;
        if (in_image(line)) decode();
        fetch(row);
        if (in_image(line)) add<1>(sum);
        return 1;
    }

    __device__ __forceinline__ void go_to(const dw_piece &at, int c)
    {
        const int left = at.strip * DW_COLUMNS * STRIDE - p.g.pad_left;
        columns = p.g.ow - at.strip * DW_COLUMNS;
        inside = 0;
#pragma unroll
        for (int j = 0; j < WINDOW; j++) {
            const int column = left + j;
            if (column >= 0 && column < p.g.w) inside |= 1u << j;
        }
        row = at.row * STRIDE - p.g.pad_top;
        end = row + (at.rows - 1) * STRIDE + 3;
        x = p.x + (at.image * p.g.h * p.g.w + left) * p.x_stride + c;
        y = p.y + c +
            ((at.image * p.g.oh + at.row) * p.g.ow + at.strip * DW_COLUMNS) * p.y_stride;
    }

    __device__ __forceinline__ void piece(int64_t number, int c)
    {
        float a[DW_COLUMNS][2], b[DW_COLUMNS][2], d[DW_COLUMNS][2];
        go_to(dw_piece_at(p.cut, number, p.g.oh), c);
        begin(a);
        fetch(row);
        if (STRIDE == 1) {
            begin(b);
            step(a, b, d, 0);
            step(b, d, a, 0);
            while (step(d, a, b, 1) && step(a, b, d, 1) && step(b, d, a, 1))
                ;
        } else {
            step_outer(a, b, 0);
            while (step_inner(b)) {
                step_outer(b, a, 1);
                if (!step_inner(a)) break;
                step_outer(a, b, 1);
            }
        }
    }
};

template <class T, int STRIDE, int NORM>
__global__ static void __launch_bounds__(DW_THREADS, sizeof(T) == 2 ? 4 : 3)
    dwconv_3x3(const dw_forward<T> p)
{
    const int c = 2 * (blockIdx.y * p.cut.lanes + threadIdx.x);
    const int64_t step = (int64_t)gridDim.x * p.cut.slots;
    dw_walk<T, STRIDE, NORM> walk(p, c < p.g.ci ? c : 0);

    if (c < p.g.ci)
        for (int64_t i = (int64_t)blockIdx.x * p.cut.slots + threadIdx.y; i < p.cut.pieces;
             i += step)
            walk.piece(i, c);
    if (p.partials)
        dw_block_sums<2>(p.partials + (int64_t)blockIdx.x * 2 * p.g.ci, walk.moments, p.cut,
                         p.g.ci);
}

template <class T, int STRIDE> static void launch_3x3(const dw_forward<T> &p)
{
    const dim3 grid((unsigned)p.cut.blocks, p.cut.groups), block(p.cut.lanes, p.cut.slots);
    if (p.norm.scale)
        FACS_LAUNCH((dwconv_3x3<T, STRIDE, 1>), grid, block, 0, p);
    else
        FACS_LAUNCH((dwconv_3x3<T, STRIDE, 0>), grid, block, 0, p);
}

/* --- any kernel, stride and alignment */

template <class T>
__device__ static float dw_output(const dw_forward<T> &p, int64_t pixel, int c)
{
    const facs_conv &g = p.g;
    const int ox = (int)(pixel % g.ow), oy = (int)(pixel / g.ow % g.oh);
    const int64_t image = pixel / g.ow / g.oh;
    float sum = p.bias ? p.bias[c] : 0;

    for (int ky = 0; ky < g.kh; ky++)
        for (int kx = 0; kx < g.kw; kx++) {
            const int iy = oy * g.stride - g.pad_top + ky;
            const int ix = ox * g.stride - g.pad_left + kx;
            if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;
            float x = number_of(p.x[((image * g.h + iy) * g.w + ix) * p.x_stride + c]);
            if (p.norm.scale) x = normed(p.norm, x, c);
            sum += x * p.w[(ky * g.kw + kx) * g.ci + c];
        }
    return clamped(sum, p.clamp);
}

template <class T> __global__ static void dwconv_any(const dw_forward<T> p)
{
    const int c = blockIdx.y * DW_LANES + threadIdx.x;
    const int64_t pixels = p.n * p.g.oh * p.g.ow, step = (int64_t)gridDim.x * DW_PLAIN_ROWS;
    float sum = 0, squares = 0;

    if (c < p.g.ci)
        for (int64_t i = (int64_t)blockIdx.x * DW_PLAIN_ROWS + threadIdx.y; i < pixels;
             i += step) {
            T *y = p.y + i * p.y_stride + c;
            put_number(y, dw_output(p, i, c));
            const float written = number_of(*y);
            sum += written;
            squares += written * written;
        }
    if (!p.partials) return;
    sum = dw_column_sum(sum);
    squares = dw_column_sum(squares);
    if (threadIdx.y || c >= p.g.ci) return;
    float *to = p.partials + (int64_t)blockIdx.x * 2 * p.g.ci + c;
    to[0] = sum;
    to[p.g.ci] = squares;
}

/* --- the rows */

template <class T>
size_t facs_cuda_rows<T>::dwconv_fwd_scratch(const facs_conv *g, int64_t n, int threads)
{
    const int64_t plain = dw_plain_blocks(n * g->oh * g->ow);
    const int64_t cut = dw_is_3x3(g) ? dw_most_blocks(g->ci, DW_RESIDENT) : 0;
    (void)threads;
    return (size_t)(plain > cut ? plain : cut) * 2 * (size_t)g->ci * sizeof(float);
}
FACS_CUDA_ROW(dwconv_fwd_scratch)

template <class T> int64_t facs_cuda_rows<T>::dwconv_packed(const facs_conv *g)
{
    return (int64_t)g->kh * g->kw * g->ci;
}
FACS_CUDA_ROW(dwconv_packed)

__global__ static void scale_weights(float *packed, const float *w, const float *scale,
                                     int channels, int64_t count)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) packed[i] = scale ? w[i] * scale[i % channels] : w[i];
}

template <class T>
void facs_cuda_rows<T>::dwconv_pack(float *packed, const facs_conv *g, const float *w,
                                    const float *scale)
{
    const int64_t count = dwconv_packed(g);
    FACS_LAUNCH(scale_weights, facs_cuda_blocks(count, 256), 256, 0, packed, w, scale, g->ci,
                count);
}
FACS_CUDA_ROW(dwconv_pack)

template <class T>
void facs_cuda_rows<T>::dwconv_fwd(const facs_context *ctx, const facs_conv *g,
                                   const facs_tensor *y, const facs_tensor *x,
                                   const facs_norm *norm, const float *packed,
                                   const float *bias, facs_clamp clamp,
                                   const facs_moments *moments)
{
    dw_forward<T> p = {};
    int64_t blocks;

    p.x = data_of<T>(*x), p.x_stride = (int)x->stride;
    p.y = data_of<T>(*y), p.y_stride = (int)y->stride;
    p.w = packed, p.bias = bias, p.norm = facs_cuda_norm(norm), p.clamp = clamp;
    p.clamps = !(clamp.low == -INFINITY && clamp.high == INFINITY);
    p.g = *g, p.n = x->n;
    p.partials = moments ? (float *)ctx->scratch : NULL;
    if (dw_is_3x3(g) && dw_by_pairs<T>(x) && dw_by_pairs<T>(y)) {
        p.cut = dw_cut_of(g->ci, x->n, g->oh, (g->ow + DW_COLUMNS - 1) / DW_COLUMNS,
                          DW_RESIDENT, g->stride == 1 ? 3 : 1);
        blocks = p.cut.blocks;
        if (g->stride == 1)
            launch_3x3<T, 1>(p);
        else
            launch_3x3<T, 2>(p);
    } else {
        blocks = dw_plain_blocks(x->n * g->oh * g->ow);
        const dim3 grid((unsigned)blocks, facs_cuda_blocks(g->ci, DW_LANES));
        FACS_LAUNCH(dwconv_any<T>, grid, dim3(DW_LANES, DW_PLAIN_ROWS), 0, p);
    }
    if (moments)
        facs_cuda_finish_moments(p.partials, blocks, g->ci, x->n * g->oh * g->ow, moments);
}
FACS_CUDA_ROW(dwconv_fwd)
