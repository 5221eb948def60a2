#ifndef FACS_KERNEL_CPU_COLUMNS_H
#define FACS_KERNEL_CPU_COLUMNS_H

#include "kernel/kernel.h"

#include <string.h>

/* The matrix that turns a convolution into a matrix product: one row per point of a grid
 * over each image, holding the pixels its taps read, zeros where they fall outside. Point
 * q and tap j read source line q step + base + j direction. Forward: the grid is the
 * output. Backward: the input gradient falls into stride x stride grids, each with taps
 * of its own, which read dy backwards. */
typedef struct facs_columns {
    const facs_tensor *source;
    int grid_h, grid_w;
    int step, direction, base_y, base_x, taps_y, taps_x;
} facs_columns;

static inline int64_t facs_columns_depth(const facs_columns *m)
{
    return (int64_t)m->taps_y * m->taps_x * m->source->c;
}

/* Rows are the source's own pixels. */
static inline int facs_columns_direct(const facs_columns *m)
{
    return m->taps_y == 1 && m->taps_x == 1 && m->step == 1 && m->base_y == 0 &&
           m->base_x == 0 && m->grid_h == m->source->h && m->grid_w == m->source->w;
}

static inline facs_columns facs_columns_forward(const facs_conv *g, const facs_tensor *x)
{
    return (facs_columns){x,           g->oh,        g->ow, g->stride, 1,
                          -g->pad_top, -g->pad_left, g->kh, g->kw};
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
                                                 int phase_y, int phase_x)
{
    const int s = g->stride;
    const int ky = facs_columns_first_tap(g, phase_y, g->pad_top);
    const int kx = facs_columns_first_tap(g, phase_x, g->pad_left);
    return (facs_columns){dy,
                          phase_y < g->h ? (g->h - phase_y - 1) / s + 1 : 0,
                          phase_x < g->w ? (g->w - phase_x - 1) / s + 1 : 0,
                          1,
                          -1,
                          (phase_y + g->pad_top) / s,
                          (phase_x + g->pad_left) / s,
                          facs_columns_taps(g, ky, g->kh),
                          facs_columns_taps(g, kx, g->kw)};
}

static inline void facs_columns_copy(float *out, const float *in, int64_t count)
{
    if (count > 64) {
        memcpy(out, in, (size_t)count * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < count; i++) out[i] = in[i];
}

static inline void facs_columns_clear(float *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++) out[i] = 0;
}

/* One line of taps of a row: taps_x pixels from line `y`. */
static inline void facs_columns_line(const facs_columns *m, float *out, const float *line,
                                     int qx)
{
    const facs_tensor *t = m->source;
    const int first = qx * m->step + m->base_x, last = first + (m->taps_x - 1) * m->direction;

    if (m->direction > 0 && t->stride == t->c && first >= 0 && last < t->w) {
        facs_columns_copy(out, line + first * t->stride, (int64_t)m->taps_x * t->c);
        return;
    }
    for (int j = 0; j < m->taps_x; j++, out += t->c) {
        const int x = first + j * m->direction;
        if (x >= 0 && x < t->w)
            facs_columns_copy(out, line + x * t->stride, t->c);
        else
            facs_columns_clear(out, t->c);
    }
}

/* Writes row `row` (image-major, then grid lines) to out: facs_columns_depth numbers. */
static inline void facs_columns_row(const facs_columns *m, float *out, int64_t row)
{
    const facs_tensor *t = m->source;
    const int64_t width = (int64_t)m->taps_x * t->c, area = (int64_t)m->grid_h * m->grid_w;
    const float *image = facs_tensor_image(t, row / area);
    const int point = (int)(row % area), qy = point / m->grid_w, qx = point % m->grid_w;

    for (int j = 0; j < m->taps_y; j++, out += width) {
        const int y = qy * m->step + m->base_y + j * m->direction;
        if (y >= 0 && y < t->h)
            facs_columns_line(m, out, image + (int64_t)y * t->w * t->stride, qx);
        else
            facs_columns_clear(out, width);
    }
}

/* The pixel of a row that a tap reads, NULL in the padding. */
static inline const float *facs_columns_pixel(const facs_columns *m, int64_t row, int tap)
{
    const facs_tensor *t = m->source;
    const int64_t area = (int64_t)m->grid_h * m->grid_w;
    const int point = (int)(row % area), qy = point / m->grid_w, qx = point % m->grid_w;
    const int y = qy * m->step + m->base_y + tap / m->taps_x * m->direction;
    const int x = qx * m->step + m->base_x + tap % m->taps_x * m->direction;

    if (y < 0 || y >= t->h || x < 0 || x >= t->w) return NULL;
    return facs_tensor_image(t, row / area) + ((int64_t)y * t->w + x) * t->stride;
}

/* Numbers [first, first + count) of a row. */
static inline void facs_columns_part(const facs_columns *m, float *out, int64_t row,
                                     int64_t first, int64_t count)
{
    const int c = m->source->c;
    int tap = (int)(first / c), channel = (int)(first % c);

    for (int64_t piece; count > 0; count -= piece, out += piece, tap++, channel = 0) {
        const float *pixel = facs_columns_pixel(m, row, tap);
        piece = c - channel < count ? c - channel : count;
        if (pixel)
            facs_columns_copy(out, pixel + channel, piece);
        else
            facs_columns_clear(out, piece);
    }
}

#endif
