#ifndef FACS_KERNEL_CPU_COLUMNS_H
#define FACS_KERNEL_CPU_COLUMNS_H

#include "kernel/cpu/operand.h"

/* The matrix that turns a convolution into a matrix product: one row of factors per point
 * of a grid over each image, holding the pixels its taps read, zeros where they fall outside.
 * Point q and tap j read source line q step + base + j direction. Forward: the grid is the
 * output. Backward: the input gradient falls into stride x stride grids, each with taps
 * of its own, which read dy backwards. */
typedef struct facs_columns {
    facs_operand source;
    int grid_h, grid_w;
    int step, direction, base_y, base_x, taps_y, taps_x;
} facs_columns;

static inline int64_t facs_columns_depth(const facs_columns *m)
{
    return (int64_t)m->taps_y * m->taps_x * m->source.t->c;
}

/* Rows are the source's own pixels, as they are read. */
static inline int facs_columns_direct(const facs_columns *m)
{
    return m->taps_y == 1 && m->taps_x == 1 && m->step == 1 && m->base_y == 0 &&
           m->base_x == 0 && m->grid_h == m->source.t->h && m->grid_w == m->source.t->w;
}

static inline facs_columns facs_columns_forward(const facs_conv *g, const facs_tensor *x,
                                                const facs_norm *norm)
{
    return (facs_columns){{x, norm, NULL}, g->oh,        g->ow, g->stride, 1,
                          -g->pad_top,     -g->pad_left, g->kh, g->kw};
}

/* First tap of input line `phase` (mod stride): taps first, first + stride, ... reach it. */
static inline int facs_columns_first_tap(const facs_conv *g, int phase, int pad)
{
    return (phase + pad) % g->stride;
}

static inline int facs_columns_taps(const facs_conv *g, int first, int kernel)
{
    return first < kernel ? (kernel - first - 1) / g->stride + 1 : 0;
}

/* The grid of the input pixels (phase_y + i stride, phase_x + j stride). */
static inline facs_columns facs_columns_backward(const facs_conv *g, const facs_tensor *dy,
                                                 const facs_correction *correction, int phase_y,
                                                 int phase_x)
{
    const int s = g->stride;
    const int ky = facs_columns_first_tap(g, phase_y, g->pad_top);
    const int kx = facs_columns_first_tap(g, phase_x, g->pad_left);
    return (facs_columns){{dy, NULL, correction},
                          phase_y < g->h ? (g->h - phase_y - 1) / s + 1 : 0,
                          phase_x < g->w ? (g->w - phase_x - 1) / s + 1 : 0,
                          1,
                          -1,
                          (phase_y + g->pad_top) / s,
                          (phase_x + g->pad_left) / s,
                          facs_columns_taps(g, ky, g->kh),
                          facs_columns_taps(g, kx, g->kw)};
}

static inline void facs_columns_clear(factor *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++) out[i] = 0;
}

/* One line of taps of a row: taps_x pixels from the line that begins at pixel `line`. */
static inline void facs_columns_line(const facs_columns *m, factor *out, int64_t line, int qx)
{
    const facs_tensor *t = m->source.t;
    const int first = qx * m->step + m->base_x, last = first + (m->taps_x - 1) * m->direction;

    if (facs_operand_is_factors(&m->source) && m->direction > 0 && t->stride == t->c &&
        first >= 0 && last < t->w) {
        facs_operand_factors(&m->source, out, 0, line + first, 1, 0, m->taps_x * t->c);
        return;
    }
    for (int j = 0; j < m->taps_x; j++, out += t->c) {
        const int x = first + j * m->direction;
        if (x >= 0 && x < t->w)
            facs_operand_factors(&m->source, out, 0, line + x, 1, 0, t->c);
        else
            facs_columns_clear(out, t->c);
    }
}

/* A point of the grids, in the order of rows: image by image, line by line. */
typedef struct facs_point {
    int64_t image;
    int y, x;
} facs_point;

static inline facs_point facs_columns_point(const facs_columns *m, int64_t row)
{
    const int64_t area = (int64_t)m->grid_h * m->grid_w;
    const int place = (int)(row % area);
    return (facs_point){row / area, place / m->grid_w, place % m->grid_w};
}

static inline void facs_columns_step(const facs_columns *m, facs_point *q)
{
    if (++q->x < m->grid_w) return;
    q->x = 0;
    if (++q->y < m->grid_h) return;
    q->y = 0;
    q->image++;
}

/* Writes the row of a point to out: facs_columns_depth numbers. */
static inline void facs_columns_row(const facs_columns *m, factor *out, facs_point q)
{
    const facs_tensor *t = m->source.t;
    const int64_t width = (int64_t)m->taps_x * t->c;

    for (int j = 0; j < m->taps_y; j++, out += width) {
        const int y = q.y * m->step + m->base_y + j * m->direction;
        if (y >= 0 && y < t->h)
            facs_columns_line(m, out, (q.image * t->h + y) * t->w, q.x);
        else
            facs_columns_clear(out, width);
    }
}

/* Rows from `first` on, out_stride apart. */
static inline void facs_columns_rows(const facs_columns *m, factor *out, int64_t out_stride,
                                     int64_t first, int64_t rows)
{
    if (facs_columns_direct(m)) {
        facs_operand_factors(&m->source, out, out_stride, first, rows, 0, m->source.t->c);
        return;
    }
    facs_point q = facs_columns_point(m, first);
    for (int64_t i = 0; i < rows; i++, facs_columns_step(m, &q))
        facs_columns_row(m, out + i * out_stride, q);
}

/* Numbers [first, first + count) of rows from `row` on, out_stride apart. */
static inline void facs_columns_part(const facs_columns *m, factor *out, int64_t out_stride,
                                     int64_t row, int64_t rows, int64_t first, int64_t count)
{
    const facs_tensor *t = m->source.t;
    const int64_t end = first + count;

    for (int64_t k = first, piece; k < end; k += piece, out += piece) {
        const int tap = (int)(k / t->c), channel = (int)(k % t->c);
        const int down = m->base_y + tap / m->taps_x * m->direction;
        const int across = m->base_x + tap % m->taps_x * m->direction;
        facs_point q = facs_columns_point(m, row);

        piece = t->c - channel < end - k ? t->c - channel : end - k;
        for (int64_t i = 0; i < rows; i++, facs_columns_step(m, &q)) {
            const int y = q.y * m->step + down, x = q.x * m->step + across;
            factor *to = out + i * out_stride;
            if (y >= 0 && y < t->h && x >= 0 && x < t->w)
                facs_operand_factors(&m->source, to, 0, (q.image * t->h + y) * t->w + x, 1,
                                     channel, (int)piece);
            else
                facs_columns_clear(to, piece);
        }
    }
}

#endif
