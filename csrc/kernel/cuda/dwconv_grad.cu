#include "kernel/cuda/dwconv_grad.cuh"

#include <math.h>

/* Both gradients of a depthwise convolution in one pass over the pixels of x, with the norm
 * of x and its sums. */

/* Blocks of DW_THREADS that are at work at a time. */
enum { DW_RESIDENT = 4 * MULTIPROCESSORS };

/* --- 3x3 */

template <class T, int STRIDE, int PHASE, int CORRECT>
__global__ static void __launch_bounds__(DW_THREADS, sizeof(T) == 2 ? 4 : 2)
    dwconv_3x3_bwd(const dw_backward<T> p)
{
    facs_cuda_begin();
    typedef dw_gradient<T, STRIDE, PHASE, CORRECT> gradients;
    extern __shared__ __align__(16) char shared[];
    float(*const all)[DW_SUMS_ROW] = (float(*)[DW_SUMS_ROW])shared;
    const int pieces = (int)p.cut.pieces, step = gridDim.x * DW_WARPS;
    gradients gradient(p, *(typename gradients::store *)shared);

    for (int i = blockIdx.x * DW_WARPS + threadIdx.y; i < pieces; i += step) {
        gradient.begin_piece(i);
        if (i < step) gradient.keep_vectors();
        gradient.end_piece();
    }
    if (p.dw_partials)
        dw_block_sums<9>(p.dw_partials + (int64_t)blockIdx.x * 9 * p.g.ci, gradient.dw, all,
                         p.cut, p.g.ci);
    if (p.norm_partials)
        dw_block_sums<2>(p.norm_partials + (int64_t)blockIdx.x * 2 * p.g.ci, gradient.sums, all,
                         p.cut, p.g.ci);
}

template <class T, int STRIDE, int PHASE, int CORRECT>
static void launch_corrected(const dw_backward<T> &p)
{
    typedef dw_gradient<T, STRIDE, PHASE, CORRECT> gradients;
    const dim3 grid((unsigned)p.cut.blocks, p.cut.groups), block(DW_LANES, DW_WARPS);
    const size_t shared = sizeof(typename gradients::store);

    facs_cuda_allow_shared(dwconv_3x3_bwd<T, STRIDE, PHASE, CORRECT>, shared);
    facs_cuda_prefer_shared(dwconv_3x3_bwd<T, STRIDE, PHASE, CORRECT>);
    FACS_LAUNCH_BEGINNING("dwconv_3x3_bwd", (dwconv_3x3_bwd<T, STRIDE, PHASE, CORRECT>), grid,
                          block, shared, p);
}

template <class T, int STRIDE, int PHASE> static void launch_3x3(const dw_backward<T> &p)
{
    if (p.correction.slope)
        launch_corrected<T, STRIDE, PHASE, 1>(p);
    else
        launch_corrected<T, STRIDE, PHASE, 0>(p);
}

/* --- any kernel, stride and alignment */

template <class T>
__device__ static float dw_corrected(const dw_backward<T> &p, int64_t pixel, int c)
{
    const correction_value &due = p.correction;
    const float dy = number_of(p.dy[pixel * p.dy_stride + c]);
    if (!due.slope) return dy;
    const float y = number_of(((const T *)due.y)[pixel * p.y_stride + c]);
    return dy + due.slope[c] * y + due.offset[c];
}

/* The pixel of dy that reads (y, x) of an image with a tap, or -1. */
template <class T>
__device__ static int64_t dw_reader(const dw_backward<T> &p, int64_t image, int y, int x,
                                    int ky, int kx)
{
    const facs_conv &g = p.g;
    const int ty = y + g.pad_top - ky, tx = x + g.pad_left - kx;
    if (ty < 0 || tx < 0 || ty % g.stride || tx % g.stride || ty / g.stride >= g.oh ||
        tx / g.stride >= g.ow)
        return -1;
    return (image * g.oh + ty / g.stride) * g.ow + tx / g.stride;
}

template <class T> __global__ static void dwconv_any_bwd_x(const dw_backward<T> p)
{
    const facs_conv &g = p.g;
    const int c = blockIdx.y * DW_LANES + threadIdx.x;
    const int64_t pixels = p.n * g.h * g.w, step = (int64_t)gridDim.x * DW_PLAIN_ROWS;
    float sum = 0, weighted = 0;

    if (c < g.ci)
        for (int64_t i = (int64_t)blockIdx.x * DW_PLAIN_ROWS + threadIdx.y; i < pixels;
             i += step) {
            const int x = (int)(i % g.w), y = (int)(i / g.w % g.h);
            float out = 0;
            for (int ky = 0; ky < g.kh; ky++)
                for (int kx = 0; kx < g.kw; kx++) {
                    const int64_t from = dw_reader(p, i / g.w / g.h, y, x, ky, kx);
                    if (from < 0) continue;
                    out += dw_corrected(p, from, c) * p.w[(ky * g.kw + kx) * g.ci + c];
                }
            if (p.norm.scale) {
                const float value = number_of(p.x[i * p.x_stride + c]);
                const float h = passes(p.norm, value, c) ? out : 0;
                sum += h;
                weighted += h * (value - p.norm.mean[c]);
                out = p.norm.scale[c] * h;
            }
            if (!p.dx) continue;
            T *to = p.dx + i * p.dx_stride + c;
            put_number(to, p.accumulate ? number_of(*to) + out : out);
        }
    if (!p.norm_partials) return;
    sum = dw_column_sum(sum);
    weighted = dw_column_sum(weighted);
    if (threadIdx.y || c >= g.ci) return;
    float *to = p.norm_partials + (int64_t)blockIdx.x * 2 * g.ci + c;
    to[0] = sum;
    to[g.ci] = weighted;
}

/* blockIdx.z is the tap. */
template <class T> __global__ static void dwconv_any_bwd_w(const dw_backward<T> p)
{
    const facs_conv &g = p.g;
    const int c = blockIdx.y * DW_LANES + threadIdx.x, tap = blockIdx.z;
    const int64_t pixels = p.n * g.h * g.w, step = (int64_t)gridDim.x * DW_PLAIN_ROWS;
    float sum = 0;

    if (c < g.ci)
        for (int64_t i = (int64_t)blockIdx.x * DW_PLAIN_ROWS + threadIdx.y; i < pixels;
             i += step) {
            const int x = (int)(i % g.w), y = (int)(i / g.w % g.h);
            const int64_t from = dw_reader(p, i / g.w / g.h, y, x, tap / g.kw, tap % g.kw);
            if (from < 0) continue;
            float value = number_of(p.x[i * p.x_stride + c]);
            if (p.norm.scale) value = normed(p.norm, value, c);
            sum += value * dw_corrected(p, from, c);
        }
    sum = dw_column_sum(sum);
    if (!threadIdx.y && c < g.ci)
        p.dw_partials[((int64_t)blockIdx.x * g.kh * g.kw + tap) * g.ci + c] = sum;
}

/* --- the rows */

/* The most partials there may be, of fewer images too. */
static int64_t most_partials(const facs_conv *g, int64_t n)
{
    const int64_t plain = dw_plain_blocks(n * g->h * g->w);
    const int64_t cut = dw_is_3x3(g) ? dw_most_blocks(g->ci, DW_RESIDENT) : 0;
    return plain > cut ? plain : cut;
}

template <class T>
size_t facs_cuda_rows<T>::dwconv_bwd_scratch(const facs_conv *g, int64_t n, int threads)
{
    (void)threads;
    return (size_t)most_partials(g, n) * (size_t)((g->kh * g->kw + 2) * g->ci) * sizeof(float);
}
FACS_CUDA_ROW(dwconv_bwd_scratch)

template <class T> static int64_t launch_by_pairs(dw_backward<T> p)
{
    const int columns = DW_COLUMNS * p.g.stride;

    p.cut = dw_cut_of(p.g.ci, p.n, p.g.h, (p.g.w + columns - 1) / columns, DW_RESIDENT,
                      p.g.stride == 1 ? 2 : 1);
    if (!p.norm.scale) p.norm.clamp = facs_clamp{-INFINITY, INFINITY};
    if (p.g.stride == 1)
        launch_3x3<T, 1, 0>(p);
    else if (p.g.pad_left % 2 == 0)
        launch_3x3<T, 2, 0>(p);
    else
        launch_3x3<T, 2, 1>(p);
    return p.cut.blocks;
}

template <class T> static int64_t launch_by_numbers(const dw_backward<T> &p)
{
    const int64_t blocks = dw_plain_blocks(p.n * p.g.h * p.g.w);
    const dim3 block(DW_LANES, DW_PLAIN_ROWS);
    const unsigned groups = facs_cuda_blocks(p.g.ci, DW_LANES);

    if (p.dw_partials)
        FACS_LAUNCH(dwconv_any_bwd_w<T>, dim3((unsigned)blocks, groups, p.g.kh * p.g.kw), block,
                    0, p);
    if (p.dx || p.norm_partials)
        FACS_LAUNCH(dwconv_any_bwd_x<T>, dim3((unsigned)blocks, groups), block, 0, p);
    return blocks;
}

template <class T>
void facs_cuda_rows<T>::dwconv_bwd(const facs_context *ctx, const facs_conv *g,
                                   const facs_tensor *dx, float *dw, const facs_tensor *x,
                                   const facs_norm *norm, const facs_tensor *dy,
                                   const facs_correction *correction, const float *packed,
                                   int accumulate)
{
    const int64_t taps = dwconv_packed(g), most = most_partials(g, x->n);
    float *partials = (float *)ctx->scratch;
    dw_backward<T> p = {};

    p.x = data_of<T>(*x), p.x_stride = (int)x->stride;
    p.dy = data_of<T>(*dy), p.dy_stride = (int)dy->stride;
    if (dx) p.dx = data_of<T>(*dx), p.dx_stride = (int)dx->stride;
    p.w = packed, p.norm = facs_cuda_norm(norm);
    p.correction = facs_cuda_correction(correction), p.y_stride = (int)p.correction.stride;
    p.g = *g, p.n = x->n, p.accumulate = accumulate;
    if (dw) p.dw_partials = partials;
    if (norm && norm->sum) p.norm_partials = partials + most * taps;
    /* No network adds to a gradient here, so the fast kernels need not know how to. */
    const int by_pairs = dw_is_3x3(g) && !accumulate && dw_by_pairs<T>(x) &&
                         dw_by_pairs<T>(dy) && (!dx || dw_by_pairs<T>(dx)) &&
                         (!correction || dw_by_pairs<T>(correction->y));
    p.wide =
        dw_is_wide<T>(x) && dw_is_wide<T>(dy) && (!correction || dw_is_wide<T>(correction->y));
    const int64_t blocks = by_pairs ? launch_by_pairs(p) : launch_by_numbers(p);
    if (dw) facs_cuda_sum_blocks(dw, p.dw_partials, blocks, taps);
    if (p.norm_partials) facs_cuda_add_norm_sums(p.norm_partials, blocks, g->ci, norm);
}
FACS_CUDA_ROW(dwconv_bwd)
