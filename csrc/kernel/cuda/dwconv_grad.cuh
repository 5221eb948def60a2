#ifndef FACS_KERNEL_CUDA_DWCONV_GRAD_CUH
#define FACS_KERNEL_CUDA_DWCONV_GRAD_CUH

#include "kernel/cuda/dwconv_lines.h"

/* Both gradients of a 3x3 depthwise convolution: what a thread does. Lines of dy, corrected,
 * wait in registers until the lines of x that they reach have come; lines that come next are
 * on their way to shared memory. */

template <class T> struct dw_backward {
    const T *x, *dy;
    T *dx; /* or NULL */
    const float *w;
    facs_norm norm; /* 1, 0, 0 and no clamp where there is none: the vectors are NULL */
    correction_value correction;
    facs_conv g;
    int64_t n;
    int x_stride, dx_stride, dy_stride, y_stride;
    int accumulate;
    int wide; /* of 3x3: whether 16 bytes can be copied at once */
    dw_cut cut;
    float *dw_partials;   /* [blocks][taps][channels], or NULL */
    float *norm_partials; /* [blocks][2][channels], or NULL */
};

/* The vectors of a norm and of a correction. */
enum { DW_SCALE, DW_SHIFT, DW_MEAN, DW_SLOPE, DW_OFFSET, DW_VECTORS };

/* A strip has COLUMNS pixels of x. Pixel j of a line reads, for tap kx, pixel
 * (j + PHASE - kx) / STRIDE of dy behind that which the strip begins with. A round takes a
 * line of dy and the STRIDE lines of x that begin with the first in its reach. */
template <class T, int STRIDE, int PHASE, int CORRECT> struct dw_gradient {
    enum {
        BEFORE = (2 - PHASE) / STRIDE,
        COLUMNS = DW_COLUMNS * STRIDE,
        WINDOW = (COLUMNS - 1 + PHASE) / STRIDE + BEFORE + 1,
        /* what a round needs in shared memory, x first; of DEPTH rounds */
        DY = STRIDE * COLUMNS,
        Y = DY + WINDOW,
        ROWS = Y + CORRECT * WINDOW,
        DEPTH = STRIDE == 1 ? 3 : 2
    };
    typedef typename dw_stored<T>::pair pair;
    typedef pair round[ROWS][DW_LANES];
    typedef float line[WINDOW][2];
    typedef dw_lines<T, COLUMNS, 0> lines_of_x;
    typedef dw_lines<T, WINDOW, 0> lines_of_dy; /* and of y */
    enum { OF_X, OF_DY, OF_Y, TENSORS };
    /* Shared memory; vectors and what is next to be copied are there for want of registers. */
    typedef struct store {
        round rounds[DW_WARPS][DEPTH];
        float2 vectors[DW_WARPS][DW_VECTORS][DW_LANES];
        const T *from[DW_WARPS][TENSORS][DW_LANES];
        ushort4 copies[DW_WARPS][DW_LANES]; /* to, and what is inside of x and dy */
    } store;
    /* All blocks that registers are left for find room in a multiprocessor. */
    static_assert(sizeof(T) > 2 || 4 * (sizeof(store) + 1024) <= 228 * 1024, "shared memory");

    const dw_backward<T> &p;
    const dw_part part;
    store &shared;
    float w[9][2], dw[9][2], sums[2][2];
    /* of the piece */
    T *dx;               /* its next line */
    int columns, first;  /* pixels of x in the strip; where the window is in a line of dy */
    int row, begin, end; /* of dy; lines of x, counted with the padding */

    __device__ __forceinline__ dw_gradient(const dw_backward<T> &backward, store &of_block)
        : p(backward), part(dw_part_of_thread(backward.cut)), shared(of_block)
    {
        const int c = part.channel < p.g.ci ? part.channel : 0;
#pragma unroll
        for (int k = 0; k < 2; k++) {
#pragma unroll
            for (int i = 0; i < 9; i++) w[i][k] = p.w[i * p.g.ci + c + k], dw[i][k] = 0;
            sums[0][k] = sums[1][k] = 0;
        }
    }

    /* Once, where the first lines are on their way already. */
    __device__ __forceinline__ void keep_vectors()
    {
        const int c = part.channel < p.g.ci ? part.channel : 0;
        const float *const vectors[DW_VECTORS] = {p.norm.scale, p.norm.shift, p.norm.mean,
                                                  p.correction.slope, p.correction.offset};
#pragma unroll
        for (int i = 0; i < DW_VECTORS; i++) {
            const float *const from = vectors[i];
            const float none = i == DW_SCALE ? 1 : 0;
            shared.vectors[threadIdx.y][i][threadIdx.x] =
                from ? make_float2(from[c], from[c + 1]) : make_float2(none, none);
        }
    }

    /* A vector's numbers of the thread. They are read anew for every line: there are not
     * registers enough. */
    __device__ __forceinline__ void read(float (&to)[2], int vector) const
    {
        pair_numbers(to, shared.vectors[threadIdx.y][vector][threadIdx.x]);
    }

    /* Begins to copy what a round needs; they come in their order. BEGUN: it is known not to be
     * before the piece. */
    template <int WIDE, int BEGUN> __device__ __forceinline__ void fetch(int at, int stage)
    {
        pair(*const to)[DW_LANES] = shared.rounds[threadIdx.y][stage];
        const T *(*const from)[DW_LANES] = shared.from[threadIdx.y];
        const ushort4 copies = shared.copies[threadIdx.y][threadIdx.x];
        const int wanted = at >= 0 && at < p.g.oh && at * STRIDE < end;
        lines_of_x x = {from[OF_X][threadIdx.x], copies.x, copies.y};
        lines_of_dy dy = {from[OF_DY][threadIdx.x], copies.x, copies.z};
#pragma unroll
        for (int i = 0; i < STRIDE; i++) {
            const int place = at * STRIDE + i;
            x.template copy<WIDE>(to + i * COLUMNS, p.x_stride, p.g.w,
                                  (BEGUN || place >= begin) && place < end);
        }
        dy.template copy<WIDE>(to + DY, p.dy_stride, p.g.ow, wanted);
        from[OF_X][threadIdx.x] = x.from;
        from[OF_DY][threadIdx.x] = dy.from;
        if (CORRECT) {
            dy.from = from[OF_Y][threadIdx.x];
            dy.template copy<WIDE>(to + Y, p.y_stride, p.g.ow, wanted);
            from[OF_Y][threadIdx.x] = dy.from;
        }
        end_copies();
    }
    __device__ __forceinline__ void fetch(int at, int stage)
    {
        if (p.wide)
            fetch<1, 0>(at, stage);
        else
            fetch<0, 0>(at, stage);
    }

    /* Waits for the round `row` and fetches another into the place of the one before. FULL:
     * as a strip usually is. */
    template <int STAGE, int FULL> __device__ __forceinline__ void next_round()
    {
        dw_wait_for_copies<DEPTH - 2>();
        if (FULL)
            fetch<1, STRIDE == 1>(row + DEPTH - 1, (STAGE + DEPTH - 1) % DEPTH);
        else
            fetch(row + DEPTH - 1, (STAGE + DEPTH - 1) % DEPTH);
    }

    /* The line of dy, corrected; outside of dy it is 0. FULL: only its ends can be outside. */
    template <int STAGE, int FULL> __device__ __forceinline__ void decode(line &d) const
    {
        float slope[2], offset[2];
        read(slope, DW_SLOPE);
        read(offset, DW_OFFSET);
        if (row < 0 || row >= p.g.oh) offset[0] = offset[1] = 0; /* all else was copied as 0 */
#pragma unroll
        for (int j = 0; j < WINDOW; j++) {
            float other[2];
            pair_numbers(d[j], shared.rounds[threadIdx.y][STAGE][DY + j][threadIdx.x]);
            if (!CORRECT) continue;
            pair_numbers(other, shared.rounds[threadIdx.y][STAGE][Y + j][threadIdx.x]);
            d[j][0] += slope[0] * other[0] + offset[0];
            d[j][1] += slope[1] * other[1] + offset[1];
            if (FULL && j > 0 && j < WINDOW - 1) continue;
            if (first + j < 0 || first + j >= p.g.ow) d[j][0] = d[j][1] = 0;
        }
    }

    /* What line KY of the kernel makes of a line of dy, for pixel j. */
    template <int KY>
    __device__ __forceinline__ void reach(const line &d, int j, const float (&value)[2],
                                          float (&out)[2])
    {
#pragma unroll
        for (int kx = 0; kx < 3; kx++) {
            if ((j + PHASE - kx) % STRIDE) continue;
            const int i = (j + PHASE - kx) / STRIDE + BEFORE, tap = 3 * KY + kx;
#pragma unroll
            for (int k = 0; k < 2; k++) {
                out[k] += w[tap][k] * d[i][k];
                dw[tap][k] += value[k] * d[i][k];
            }
        }
    }

    /* The gradient of a pixel from that of its norm. */
    __device__ __forceinline__ pair gradient(const float (&x)[2], const float (&y)[2],
                                             const float (&scale)[2], const float (&mean)[2],
                                             float (&out)[2], int here)
    {
        const facs_clamp clamp = p.norm.clamp;
        pair stored;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const int passing = y[k] > clamp.low && y[k] < clamp.high && here;
            const float h = passing ? out[k] : 0;
            sums[0][k] += h;
            sums[1][k] += h * (x[k] - mean[k]);
            out[k] = scale[k] * h;
        }
        make_pair(&stored, out);
        return stored;
    }

    /* A line of x; lines(j, value, out) reaches it with lines of dy. */
    template <int FULL, class Lines>
    __device__ __forceinline__ void take(const pair (*from)[DW_LANES], const Lines &lines)
    {
        float scale[2], shift[2], mean[2];
        read(scale, DW_SCALE);
        read(shift, DW_SHIFT);
        read(mean, DW_MEAN);
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            const int here = FULL || j < columns;
            float x_now[2], y_now[2], value[2], out[2] = {0, 0};
            pair_numbers(x_now, from[j][threadIdx.x]);
#pragma unroll
            for (int k = 0; k < 2; k++) {
                y_now[k] = scale[k] * x_now[k] + shift[k];
                value[k] = here ? clamped(y_now[k], p.norm.clamp) : 0;
            }
            lines(j, value, out);
            const pair stored = gradient(x_now, y_now, scale, mean, out, here);
            if (here && p.dx) store_pair(dx, j, p.dx_stride, stored);
        }
        dx += p.g.w * p.dx_stride;
    }

    /* Stride 1: the line of x that ends the reach of `a` and begins that of `c`. */
    template <int STAGE, int FULL>
    __device__ __forceinline__ int step(const line &a, const line &b, line &c)
    {
        if (row >= end) return 0;
        next_round<STAGE, FULL>();
        decode<STAGE, FULL>(c);
        take<FULL>(shared.rounds[threadIdx.y][STAGE],
                   [&](int j, const float(&value)[2], float(&out)[2]) {
                       reach<2>(a, j, value, out);
                       reach<1>(b, j, value, out);
                       reach<0>(c, j, value, out);
                   });
        row++;
        return 1;
    }

    /* Stride 2: the lines of x at an even and at the next odd place, as far as there are. */
    template <int STAGE, int FULL> __device__ __forceinline__ int step(const line &a, line &b)
    {
        const int place = 2 * row;
        if (place >= end) return 0;
        next_round<STAGE, FULL>();
        decode<STAGE, FULL>(b);
        if (place >= begin)
            take<FULL>(shared.rounds[threadIdx.y][STAGE],
                       [&](int j, const float(&value)[2], float(&out)[2]) {
                           reach<2>(a, j, value, out);
                           reach<0>(b, j, value, out);
                       });
        if (place + 1 < end)
            take<FULL>(shared.rounds[threadIdx.y][STAGE] + COLUMNS,
                       [&](int j, const float(&value)[2], float(&out)[2]) {
                           reach<1>(b, j, value, out);
                       });
        row++;
        return 1;
    }

    template <int WIDE> __device__ __forceinline__ void go_to(const dw_piece &at)
    {
        const facs_conv &g = p.g;
        const int column = at.strip * COLUMNS, c = part.channel;
        const int64_t line = (int64_t)at.image * g.h * g.w;
        const int64_t dy_line = (int64_t)at.image * g.oh * g.ow;
        const T *other = (const T *)p.correction.y;
        const dw_place place = dw_place_of<T, WIDE>(part);
        const T *(*const from)[DW_LANES] = shared.from[threadIdx.y];
        lines_of_x x;
        lines_of_dy dy;
        first = (column + g.pad_left - PHASE) / STRIDE - BEFORE;
        columns = c < g.ci ? g.w - column : 0;
        begin = at.row + g.pad_top;
        end = begin + at.rows;
        row = begin / STRIDE - (STRIDE == 1 ? 2 : 1);
        x.template go_to<WIDE>(place, g.ci, p.x + line * p.x_stride, p.x_stride,
                               row * STRIDE - g.pad_top, column, g.w);
        from[OF_X][threadIdx.x] = x.from;
        if (CORRECT) {
            dy.template go_to<WIDE>(place, g.ci, other + dy_line * p.y_stride, p.y_stride, row,
                                    first, g.ow);
            from[OF_Y][threadIdx.x] = dy.from;
        }
        dy.template go_to<WIDE>(place, g.ci, p.dy + dy_line * p.dy_stride, p.dy_stride, row,
                                first, g.ow);
        from[OF_DY][threadIdx.x] = dy.from;
        shared.copies[threadIdx.y][threadIdx.x] =
            make_ushort4(place.to, x.inside, dy.inside, 0);
        dx = p.dx + (line + (int64_t)at.row * g.w + column) * p.dx_stride + c;
    }

    template <int FULL> __device__ __forceinline__ void walk()
    {
        line a, b, d;
        next_round<0, FULL>();
        decode<0, FULL>(a);
        row++;
        if (STRIDE == 1) {
            next_round<1, FULL>();
            decode<1, FULL>(b);
            row++;
            while (step<2, FULL>(a, b, d) && step<0, FULL>(b, d, a) && step<1, FULL>(d, a, b))
                ;
        } else {
            while (step<1, FULL>(a, b) && step<0, FULL>(b, a))
                ;
        }
    }

    template <int WIDE> __device__ __forceinline__ void begin_piece(int number)
    {
        go_to<WIDE>(dw_piece_at(p.cut, part, number, p.g.h));
#pragma unroll
        for (int i = 0; i < DEPTH - 1; i++) fetch<WIDE, 0>(row + i, i);
    }
    __device__ __forceinline__ void begin_piece(int number)
    {
        if (p.wide)
            begin_piece<1>(number);
        else
            begin_piece<0>(number);
    }

    __device__ __forceinline__ void end_piece()
    {
        const int full =
            p.wide && columns >= COLUMNS && first >= -1 && first + WINDOW <= p.g.ow + 1;
        if (__all_sync(0xffffffffu, full))
            walk<1>();
        else
            walk<0>();
        dw_wait_for_copies<0>(); /* of zeros: else they could come after what is next there */
    }
};

#endif
