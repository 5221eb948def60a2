#include "kernel/cuda/dwconv_lines.h"

#include <math.h>

/* Depthwise convolution forward. Packed weights are [kh][kw][c], as given. A line of x is read
 * once for the three lines of y that it reaches: their sums are in registers, next lines on
 * their way. */

/* Blocks of DW_THREADS that are at work at a time. */
enum { DW_RESIDENT = 4 * MULTIPROCESSORS };

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
    int wide; /* of 3x3: whether 16 bytes can be copied at once */
    dw_cut cut;
    float *partials; /* [blocks][2][channels], or NULL */
};

/* --- 3x3 */

template <class T, int STRIDE, int NORM> struct dw_walk {
    enum { WINDOW = (DW_COLUMNS - 1) * STRIDE + 3, DEPTH = STRIDE == 1 ? 3 : 4 };
    typedef typename dw_stored<T>::pair pair;
    typedef pair row[WINDOW][DW_LANES]; /* a line in shared memory */
    typedef float sums[DW_COLUMNS][2];

    const dw_forward<T> &p;
    const dw_part part;
    row *const ring; /* DEPTH lines, of the warp */
    float w[9][2], start[2], scale[2], shift[2], moments[2][2];
    /* of the piece */
    dw_lines<T, WINDOW, 1> x;
    T *y;                         /* its next line */
    int columns, left, line, end; /* of y in the strip; where the window begins; of x */
    float v[WINDOW][2];

    __device__ __forceinline__ dw_walk(const dw_forward<T> &forward, row *lines)
        : p(forward), part(dw_part_of_thread(forward.cut)), ring(lines)
    {
        const int c = part.channel < p.g.ci ? part.channel : 0;
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

    __device__ __forceinline__ int in_image() const
    {
        return line >= 0 && line < p.g.h;
    }

    /* Begins to copy a line; they come in their order. */
    template <int WIDE> __device__ __forceinline__ void fetch(int at, int stage)
    {
        x.template copy<WIDE>(ring[stage], p.x_stride, p.g.w, at >= 0 && at < min(end, p.g.h));
        end_copies();
    }
    __device__ __forceinline__ void fetch(int at, int stage)
    {
        if (p.wide)
            fetch<1>(at, stage);
        else
            fetch<0>(at, stage);
    }

    /* Waits for the line, fetches another into the place of the one before, and decodes it.
     * Columns outside of the image become 0, which a norm does not leave so. FULL: as a strip
     * usually is, where only the first and the last can be outside. */
    template <int STAGE, int FULL> __device__ __forceinline__ void next_line()
    {
        dw_wait_for_copies<DEPTH - 2>();
        if (FULL)
            fetch<1>(line + DEPTH - 1, (STAGE + DEPTH - 1) % DEPTH);
        else
            fetch(line + DEPTH - 1, (STAGE + DEPTH - 1) % DEPTH);
        if (!in_image()) return;
#pragma unroll
        for (int j = 0; j < WINDOW; j++) {
            pair_numbers(v[j], ring[STAGE][j][threadIdx.x]);
            if (!NORM) continue;
            v[j][0] = clamped(scale[0] * v[j][0] + shift[0], p.norm.clamp);
            v[j][1] = clamped(scale[1] * v[j][1] + shift[1], p.norm.clamp);
            if (FULL && j > 0 && j < WINDOW - 1) continue;
            if (left + j < 0 || left + j >= p.g.w) v[j][0] = v[j][1] = 0;
        }
    }

    /* The line of x times line KY of the kernel. */
    template <int KY> __device__ __forceinline__ void add(sums &sum) const
    {
#pragma unroll
        for (int kx = 0; kx < 3; kx++)
#pragma unroll
            for (int t = 0; t < DW_COLUMNS; t++) {
                sum[t][0] += w[3 * KY + kx][0] * v[t * STRIDE + kx][0];
                sum[t][1] += w[3 * KY + kx][1] * v[t * STRIDE + kx][1];
            }
    }

    __device__ __forceinline__ void begin(sums &sum) const
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

    template <int FULL> __device__ __forceinline__ void put(sums &sum)
    {
        if (p.clamps) {
#pragma unroll
            for (int t = 0; t < DW_COLUMNS; t++) {
                sum[t][0] = clamped(sum[t][0], p.clamp);
                sum[t][1] = clamped(sum[t][1], p.clamp);
            }
        }
        pair stored[DW_COLUMNS];
#pragma unroll
        for (int t = 0; t < DW_COLUMNS; t++) {
            if (!FULL && t >= columns) break;
            make_pair(&stored[t], sum[t]);
            store_pair(y, t, p.y_stride, stored[t]);
        }
        if (p.partials) {
#pragma unroll
            for (int t = 0; t < DW_COLUMNS; t++) {
                if (!FULL && t >= columns) break;
                count(stored[t]);
            }
        }
        y += p.g.ow * p.y_stride;
    }

    /* Takes the next line of x. Stride 1: it ends `a`, goes on with `b`, begins `c`, as far as
     * that was begun: `age` lines of the piece were before. */
    template <int STAGE, int FULL>
    __device__ __forceinline__ int step(sums &a, sums &b, sums &c, int age)
    {
        if (line >= end) return 0;
        next_line<STAGE, FULL>();
        begin(c);
        if (in_image()) {
            if (age > 1) add<2>(a);
            if (age > 0) add<1>(b);
            add<0>(c);
        }
        if (age > 1) put<FULL>(a);
        line++;
        return 1;
    }

    /* Stride 2: a line between two lines of y is theirs both, the next is of one alone. */
    template <int STAGE, int FULL>
    __device__ __forceinline__ void step_outer(sums &a, sums &b, int whole)
    {
        next_line<STAGE, FULL>();
        begin(b);
        if (in_image()) {
            if (whole) add<2>(a);
            add<0>(b);
        }
        if (whole) put<FULL>(a);
        line++;
    }
    template <int STAGE, int FULL> __device__ __forceinline__ int step_inner(sums &sum)
    {
        if (line >= end) return 0;
        next_line<STAGE, FULL>();
        if (in_image()) add<1>(sum);
        line++;
        return 1;
    }

    template <int FULL> __device__ __forceinline__ void walk()
    {
        sums a, b, d;
        if (STRIDE == 1) {
            step<0, FULL>(a, b, d, 0);
            step<1, FULL>(b, d, a, 1);
            while (step<2, FULL>(d, a, b, 2) && step<0, FULL>(a, b, d, 2) &&
                   step<1, FULL>(b, d, a, 2))
                ;
        } else {
            step_outer<0, FULL>(a, b, 0);
            while (step_inner<1, FULL>(b)) {
                step_outer<2, FULL>(b, a, 1);
                if (!step_inner<3 % DEPTH, FULL>(a)) break;
                step_outer<0, FULL>(a, b, 1);
            }
        }
    }

    template <int WIDE> __device__ __forceinline__ void go_to(const dw_piece &at)
    {
        const facs_conv &g = p.g;
        const int column = at.strip * DW_COLUMNS, c = part.channel;
        const int64_t image_line = (int64_t)at.image * g.h * g.w;
        columns = c < g.ci ? g.ow - column : 0;
        left = column * STRIDE - g.pad_left;
        line = at.row * STRIDE - g.pad_top;
        end = line + (at.rows - 1) * STRIDE + 3;
        x.template go_to<WIDE>(dw_place_of<T, WIDE>(part), g.ci, p.x + image_line * p.x_stride,
                               p.x_stride, line, left, g.w);
        y = p.y + (((int64_t)at.image * g.oh + at.row) * g.ow + column) * p.y_stride + c;
    }

    template <int WIDE> __device__ __forceinline__ void begin_piece(int number)
    {
        go_to<WIDE>(dw_piece_at(p.cut, part, number, p.g.oh));
#pragma unroll
        for (int i = 0; i < DEPTH - 1; i++) fetch<WIDE>(line + i, i);
    }

    __device__ __forceinline__ void piece(int number)
    {
        if (p.wide)
            begin_piece<1>(number);
        else
            begin_piece<0>(number);
        const int full =
            p.wide && columns >= DW_COLUMNS && left >= -1 && left + WINDOW <= p.g.w + 1;
        if (__all_sync(0xffffffffu, full))
            walk<1>();
        else
            walk<0>();
        dw_wait_for_copies<0>(); /* of zeros: else they could come after what is next there */
    }
};

template <class T, int STRIDE, int NORM>
__global__ static void __launch_bounds__(DW_THREADS, sizeof(T) == 2 ? 4 : 3)
    dwconv_3x3(const dw_forward<T> p)
{
    facs_cuda_begin();
    typedef dw_walk<T, STRIDE, NORM> strips;
    extern __shared__ __align__(16) char shared[];
    const int pieces = (int)p.cut.pieces, step = gridDim.x * DW_WARPS;
    strips walk(p, (typename strips::row *)shared + threadIdx.y * strips::DEPTH);

    for (int i = blockIdx.x * DW_WARPS + threadIdx.y; i < pieces; i += step) walk.piece(i);
    if (p.partials)
        dw_block_sums<2>(p.partials + (int64_t)blockIdx.x * 2 * p.g.ci, walk.moments,
                         (float(*)[DW_SUMS_ROW])shared, p.cut, p.g.ci);
}

template <class T, int STRIDE, int NORM> static void launch_normed(const dw_forward<T> &p)
{
    typedef dw_walk<T, STRIDE, NORM> strips;
    const dim3 grid((unsigned)p.cut.blocks, p.cut.groups), block(DW_LANES, DW_WARPS);
    const size_t shared = DW_WARPS * strips::DEPTH * sizeof(typename strips::row);

    facs_cuda_allow_shared(dwconv_3x3<T, STRIDE, NORM>, shared);
    FACS_LAUNCH_BEGINNING("dwconv_3x3", (dwconv_3x3<T, STRIDE, NORM>), grid, block, shared, p);
}

template <class T, int STRIDE> static void launch_3x3(const dw_forward<T> &p)
{
    if (p.norm.scale)
        launch_normed<T, STRIDE, 1>(p);
    else
        launch_normed<T, STRIDE, 0>(p);
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
        p.wide = dw_is_wide<T>(x);
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
