#include "kernel/cuda/pool.h"

/* Maxima of windows. */

/* The largest of a window and where it is first, in reading order, as PyTorch takes it: the
 * number of the pixel in lines of `pitch`. */
template <int V, class T>
__device__ static void largest(float best[V], int where[V], const pixel_rows<T> &x,
                               int64_t image, const facs_pool &g, span sy, span sx, int c,
                               int pitch)
{
    get<V>(best, x.at(image + (int64_t)sy.first * g.w + sx.first, c));
#pragma unroll
    for (int i = 0; i < V; i++) where[i] = sy.first * pitch + sx.first;
    for_window<V>(x, image, g.w, sy, sx, c, [&](const float(&v)[V], int iy, int ix) {
#pragma unroll
        for (int i = 0; i < V; i++)
            if (v[i] > best[i]) best[i] = v[i], where[i] = iy * pitch + ix;
    });
}

/* Enough to fill a GPU many times over: 41 images of 112x112x64. */
template <class T> int64_t facs_cuda_rows<T>::maxpool_part()
{
    return (int64_t)1 << 25;
}
FACS_CUDA_ROW(maxpool_part)

/* The line of a window, or the nearest that is inside, whose numbers then count twice. */
__device__ static inline int line_of(span s, int i)
{
    return i < s.first ? s.first : i < s.end ? i : s.end - 1;
}

/* The same of 3 x 3 where only the largest is asked for: nine loads at once. */
template <int V, class T>
__device__ static void largest_of_nine(float best[V], const pixel_rows<T> &x, int64_t image,
                                       const facs_pool &g, const place &at, int c)
{
    const span sy = window_y(g, at.y), sx = window_x(g, at.x);
    const int top = at.y * g.stride - g.pad_top, left = at.x * g.stride - g.pad_left;
    float v[9][V];
#pragma unroll
    for (int k = 0; k < 9; k++)
        get<V>(v[k],
               x.at(image + (int64_t)line_of(sy, top + k / 3) * g.w + line_of(sx, left + k % 3),
                    c));
#pragma unroll
    for (int i = 0; i < V; i++) best[i] = v[0][i];
#pragma unroll
    for (int k = 1; k < 9; k++)
#pragma unroll
        for (int i = 0; i < V; i++) best[i] = v[k][i] > best[i] ? v[k][i] : best[i];
}

template <class T> struct maximum : keeps_nothing {
    pixel_rows<T> y, x;
    facs_pool g;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        const place at = place_of(p, g.oh, g.ow);
        float best[V];
        int where[V];
        if (g.kh == 3 && g.kw == 3)
            largest_of_nine<V>(best, x, at.n * g.h * g.w, g, at, c);
        else
            largest<V>(best, where, x, at.n * g.h * g.w, g, window_y(g, at.y),
                       window_x(g, at.x), c, 0);
        put<V>(y.at(p, c), best);
    }
};

template <class T>
void facs_cuda_rows<T>::maxpool_fwd(const facs_context *, const facs_pool *g,
                                    const facs_tensor *y, const facs_tensor *x)
{
    const maximum<T> f = {{}, rows_of<T>(y), rows_of<T>(x), *g};
    for_each_pixel("maxpool_fwd", f, y->n * g->oh * g->ow, g->c, all_by_eight(g->c, f.y, f.x));
}
FACS_CUDA_ROW(maxpool_fwd)

/* A thread owns a square of SIDE x SIDE input pixels, so that with a stride of SIDE most
 * windows are looked through once. Its "pixel" is the number of the square. */
template <class T, int SIDE> struct maximum_gradient : keeps_nothing {
    pixel_rows<T> dx, dy, x;
    facs_pool g;
    int across, down; /* squares of an image */
    int accumulate;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        const place square = place_of(p, down, across);
        const int top = square.y * SIDE, left = square.x * SIDE, pitch = g.w + SIDE;
        const int bottom = top + SIDE < g.h ? top + SIDE : g.h;
        const int right = left + SIDE < g.w ? left + SIDE : g.w;
        const span oys = {windows_of_y(g, top).first, windows_of_y(g, bottom - 1).end};
        const span oxs = {windows_of_x(g, left).first, windows_of_x(g, right - 1).end};
        const int64_t image = square.n * g.h * g.w;
        float sum[SIDE * SIDE][V] = {};

        for (int oy = oys.first; oy < oys.end; oy++)
            for (int ox = oxs.first; ox < oxs.end; ox++) {
                float best[V], gradient[V];
                int where[V];
                largest<V>(best, where, x, image, g, window_y(g, oy), window_x(g, ox), c,
                           pitch);
                get<V>(gradient, dy.at((square.n * g.oh + oy) * g.ow + ox, c));
#pragma unroll
                for (int s = 0; s < SIDE * SIDE; s++)
#pragma unroll
                    for (int i = 0; i < V; i++)
                        if (where[i] == (top + s / SIDE) * pitch + left + s % SIDE)
                            sum[s][i] += gradient[i];
            }
#pragma unroll
        for (int s = 0; s < SIDE * SIDE; s++) {
            const int iy = top + s / SIDE, ix = left + s % SIDE;
            if (iy < bottom && ix < right)
                put<V>(dx.at(image + (int64_t)iy * g.w + ix, c), sum[s], accumulate);
        }
    }
};

template <class T, int SIDE>
static void gather_maxima(const facs_pool *g, const facs_tensor *dx, const facs_tensor *dy,
                          const facs_tensor *x, int accumulate)
{
    const int across = (g->w + SIDE - 1) / SIDE, down = (g->h + SIDE - 1) / SIDE;
    const maximum_gradient<T, SIDE> f = {{}, rows_of<T>(dx), rows_of<T>(dy), rows_of<T>(x),
                                         *g, across,         down,           accumulate};
    for_each_pixel("maxpool_bwd", f, dx->n * down * across, g->c,
                   all_by_eight(g->c, f.dx, f.dy, f.x));
}

/* --- 3 x 3 windows in steps of two, as networks begin with: see maximum_strips */

/* Four neighbouring channels, as two pairs. */
struct four {
    unsigned pair[2];
};

__device__ static inline __nv_bfloat162 pair_of(unsigned bits)
{
    return *(const __nv_bfloat162 *)&bits;
}
__device__ static inline unsigned bits_of(__nv_bfloat162 pair)
{
    return *(const unsigned *)&pair;
}

/* Gradients of two pixels side by side, summed in float. */
struct twin {
    float sum[2][4];
};

__device__ static inline void add_four(float sum[4], const four &v, const four &mask)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const unsigned bits = v.pair[i] & mask.pair[i];
        sum[2 * i] += __uint_as_float(bits << 16);
        sum[2 * i + 1] += __uint_as_float(bits & 0xffff0000u);
    }
}

struct maximum_strips {
    enum { LINES = 8 /* squares below each other */, COLUMNS = 5 };
    pixel_rows<bfloat16> dx, dy, x;
    facs_pool g;
    int strips;

    /* Where columns 2 b - 1 and on of a line are, and ~0 for those that are outside. */
    struct columns {
        int at[COLUMNS];
        unsigned outside[COLUMNS];
    };
    __device__ columns columns_of(int b) const
    {
        columns k;
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            const int ix = 2 * b - 1 + i, inside = ix >= 0 && ix < g.w;
            k.at[i] = (inside ? ix : 2 * b) * (int)x.stride;
            k.outside[i] = inside ? 0 : ~0u;
        }
        return k;
    }

    /* Line iy of an image from `image` on. What is outside is no number, ~0, which is neither
     * larger than nor equal to any. */
    __device__ void read_line(four line[COLUMNS], const bfloat16 *image, int iy,
                              const columns &k) const
    {
        const unsigned outside = iy >= 0 && iy < g.h ? 0 : ~0u;
        const bfloat16 *const from = image + (int64_t)(outside ? 0 : iy * g.w) * x.stride;
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            const uint2 raw = *(const uint2 *)(from + k.at[i]);
            line[i].pair[0] = raw.x | k.outside[i] | outside;
            line[i].pair[1] = raw.y | k.outside[i] | outside;
        }
    }

    /* Gives dy to where the window from column FIRST on is largest first, in reading order, if
     * that is in columns 1 and 2, the thread's. A window of no numbers gives it to its middle.
     */
    template <int FIRST>
    __device__ static void give(const four (&lines)[3][COLUMNS], const four &gradient,
                                twin sums[3])
    {
        four largest = lines[0][FIRST], taken = {}, masks[9];
#pragma unroll
        for (int i = 0; i < 2; i++) {
#pragma unroll
            for (int k = 1; k < 9; k++)
                largest.pair[i] = bits_of(__hmax2(
                    pair_of(largest.pair[i]), pair_of(lines[k / 3][FIRST + k % 3].pair[i])));
#pragma unroll
            for (int k = 0; k < 9; k++) {
                const unsigned equal = __heq2_mask(pair_of(lines[k / 3][FIRST + k % 3].pair[i]),
                                                   pair_of(largest.pair[i]));
                masks[k].pair[i] = equal & ~taken.pair[i];
                taken.pair[i] |= equal;
            }
            masks[4].pair[i] |= ~taken.pair[i];
        }
#pragma unroll
        for (int k = 0; k < 9; k++) {
            const int pixel = FIRST + k % 3 - 1;
            if (pixel == 0 || pixel == 1) add_four(sums[k / 3].sum[pixel], gradient, masks[k]);
        }
    }

    __device__ static void write(bfloat16 *to, const float v[4])
    {
        *(uint2 *)to = make_uint2(bits_of(__floats2bfloat162_rn(v[0], v[1])),
                                  bits_of(__floats2bfloat162_rn(v[2], v[3])));
    }

    /* Both pixels of a line, or the first where the image ends with it. */
    __device__ void write_line(bfloat16 *to, const twin &sums, int both) const
    {
        write(to, sums.sum[0]);
        if (both) write(to + dx.stride, sums.sum[1]);
    }

    /* dy of a window, 0 where there is none. */
    __device__ static four gradient_at(const bfloat16 *from, int there)
    {
        const uint2 raw = *(const uint2 *)from;
        return {{there ? raw.x : 0, there ? raw.y : 0}};
    }

    /* Column b of strip `strip`: 2 x LINES x 2 pixels. */
    __device__ void run(int64_t n, int strip, int b, int c) const
    {
        const int first = strip * LINES, both = 2 * b + 1 < g.w, right = b + 1 < g.ow;
        const columns k = columns_of(b);
        const bfloat16 *const image = x.at(n * g.h * g.w, c);
        const bfloat16 *from = dy.at((n * g.oh + first) * g.ow + b, c);
        bfloat16 *to = dx.at((n * g.h + 2 * first) * g.w + 2 * b, c);
        four lines[3][COLUMNS];
        twin sums[3] = {};

        read_line(lines[0], image, 2 * first - 1, k);
#pragma unroll 1
        for (int a = first; 2 * a <= g.h; a++) {
            const int there = a < g.oh;
            const bfloat16 *const own = there ? from : dy.data + c;
            const four gradient = gradient_at(own, there);
            const four beside = gradient_at(own + (right ? dy.stride : 0), there && right);
            read_line(lines[1], image, 2 * a, k);
            read_line(lines[2], image, 2 * a + 1, k);
            give<0>(lines, gradient, sums);
            give<2>(lines, beside, sums);
            if (a > first) write_line(to - g.w * dx.stride, sums[0], both);
            if (a == first + LINES || 2 * a == g.h) break;
            write_line(to, sums[1], both);
            sums[0] = sums[2];
            sums[1] = sums[2] = {};
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) lines[0][i] = lines[2][i];
            from += g.ow * dy.stride;
            to += 2 * g.w * dx.stride;
        }
    }
};

/* A thread owns two columns of LINES windows' height and walks down them: each line of x is
 * read once, and each window's maximum is found by two threads. */
__global__ static void __launch_bounds__(PIXEL_THREADS, 3)
    gather_strips(maximum_strips f, int64_t items, int channels)
{
    facs_cuda_begin();
    const int c = (int)(blockIdx.y * blockDim.x + threadIdx.x) * 4;
    const int64_t p = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    if (c >= channels || p >= items) return;
    const place at = place_of(p, f.strips, f.g.ow);
    f.run(at.n, at.y, at.x, c);
}

/* Returns whether it suits. */
static int gather_by_strips(const facs_pool *g, const facs_tensor *dx, const facs_tensor *dy,
                            const facs_tensor *x)
{
    const maximum_strips f = {rows_of<bfloat16>(dx), rows_of<bfloat16>(dy),
                              rows_of<bfloat16>(x), *g,
                              (g->oh + maximum_strips::LINES - 1) / maximum_strips::LINES};
    const int64_t items = dx->n * f.strips * g->ow;
    const pixel_layout l = pixel_layout_of(items, g->c, 4, 1, INT32_MAX);

    if (g->kh != 3 || g->kw != 3 || g->stride != 2 || g->pad_top != 1 || g->pad_left != 1 ||
        !all_by_eight(g->c, f.dx, f.dy, f.x) || g->w * f.x.stride > INT32_MAX)
        return 0;
    if (items)
        FACS_LAUNCH_BEGINNING("maxpool_bwd", gather_strips, l.grid, l.block, 0, f, items, g->c);
    return 1;
}

template <class T>
void facs_cuda_rows<T>::maxpool_bwd(const facs_context *, const facs_pool *g,
                                    const facs_tensor *dx, const facs_tensor *dy,
                                    const facs_tensor *x, const facs_tensor *, int accumulate)
{
    if constexpr (sizeof(T) == 2)
        if (!accumulate && gather_by_strips(g, dx, dy, x)) return;
    if (g->stride == 1)
        gather_maxima<T, 1>(g, dx, dy, x, accumulate);
    else
        gather_maxima<T, 2>(g, dx, dy, x, accumulate);
}
FACS_CUDA_ROW(maxpool_bwd)
