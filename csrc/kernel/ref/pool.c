#include "kernel/ref/ref.h"

#include <math.h>
#include <string.h>

static void clear(const facs_tensor *t)
{
    for (int64_t p = 0; p < facs_tensor_pixels(t); p++)
        memset(t->data + p * t->stride, 0, (size_t)t->c * sizeof *t->data);
}

static int inside(const facs_pool *g, int y, int x)
{
    return y >= 0 && y < g->h && x >= 0 && x < g->w;
}

/* The first largest element of a window, in reading order, as PyTorch takes it. */
static const facs_real *largest(const facs_pool *g, const facs_tensor *x, int64_t n, int oy,
                                int ox, int c, int *py, int *px)
{
    const facs_real *best = NULL;
    for (int ky = 0; ky < g->kh; ky++)
        for (int kx = 0; kx < g->kw; kx++) {
            const int iy = oy * g->stride - g->pad_top + ky;
            const int ix = ox * g->stride - g->pad_left + kx;
            if (!inside(g, iy, ix)) continue;
            const facs_real *value = facs_ref_pixel(x, n, iy, ix) + c;
            if (!best || *value > *best) best = value, *py = iy, *px = ix;
        }
    return best;
}

#define FOR_EACH_OUTPUT(g, images, n, oy, ox, c)                                               \
    for (int64_t n = 0; n < (images); n++)                                                     \
        for (int oy = 0; oy < (g)->oh; oy++)                                                   \
            for (int ox = 0; ox < (g)->ow; ox++)                                               \
                for (int c = 0; c < (g)->c; c++)

int64_t facs_ref_maxpool_part(void)
{
    return (int64_t)1 << 21;
}

void facs_ref_maxpool_fwd(const facs_context *ctx, const facs_pool *g, const facs_tensor *y,
                          const facs_tensor *x)
{
    int py, px;
    (void)ctx;
    FOR_EACH_OUTPUT(g, y->n, n, oy, ox, c)
    facs_ref_pixel(y, n, oy, ox)[c] = *largest(g, x, n, oy, ox, c, &py, &px);
}

void facs_ref_maxpool_bwd(const facs_context *ctx, const facs_pool *g, const facs_tensor *dx,
                          const facs_tensor *dy, const facs_tensor *x, const facs_tensor *y,
                          int accumulate)
{
    int py = 0, px = 0;
    (void)ctx, (void)y;
    if (!accumulate) clear(dx);
    FOR_EACH_OUTPUT(g, dy->n, n, oy, ox, c)
    {
        (void)largest(g, x, n, oy, ox, c, &py, &px);
        facs_ref_pixel(dx, n, py, px)[c] += facs_ref_pixel(dy, n, oy, ox)[c];
    }
}

void facs_ref_avgpool_fwd(const facs_context *ctx, const facs_pool *g, const facs_tensor *y,
                          const facs_tensor *x, const facs_norm *norm)
{
    (void)ctx;
    FOR_EACH_OUTPUT(g, y->n, n, oy, ox, c)
    {
        double sum = 0;
        for (int ky = 0; ky < g->kh; ky++)
            for (int kx = 0; kx < g->kw; kx++) {
                const int iy = oy * g->stride - g->pad_top + ky;
                const int ix = ox * g->stride - g->pad_left + kx;
                if (inside(g, iy, ix))
                    sum += facs_ref_normed(norm, facs_ref_pixel(x, n, iy, ix)[c], c);
            }
        facs_ref_pixel(y, n, oy, ox)[c] = (facs_real)(sum / (g->kh * g->kw));
    }
}

void facs_ref_avgpool_bwd(const facs_context *ctx, const facs_pool *g, const facs_tensor *dx,
                          const facs_tensor *dy, int accumulate)
{
    (void)ctx;
    if (!accumulate) clear(dx);
    FOR_EACH_OUTPUT(g, dy->n, n, oy, ox, c)
    {
        const facs_real share = facs_ref_pixel(dy, n, oy, ox)[c] / (facs_real)(g->kh * g->kw);
        for (int ky = 0; ky < g->kh; ky++)
            for (int kx = 0; kx < g->kw; kx++) {
                const int iy = oy * g->stride - g->pad_top + ky;
                const int ix = ox * g->stride - g->pad_left + kx;
                if (inside(g, iy, ix)) facs_ref_pixel(dx, n, iy, ix)[c] += share;
            }
    }
}

void facs_ref_globalpool_fwd(const facs_context *ctx, const facs_tensor *y,
                             const facs_tensor *x)
{
    const int pixels = x->h * x->w;
    (void)ctx;
    for (int64_t n = 0; n < x->n; n++)
        for (int c = 0; c < x->c; c++) {
            double sum = 0;
            for (int p = 0; p < pixels; p++) sum += facs_tensor_image(x, n)[p * x->stride + c];
            facs_tensor_image(y, n)[c] = (facs_real)(sum / pixels);
        }
}

void facs_ref_globalpool_bwd(const facs_context *ctx, const facs_tensor *dx,
                             const facs_tensor *dy, int accumulate)
{
    const int pixels = dx->h * dx->w;
    (void)ctx;
    for (int64_t n = 0; n < dx->n; n++)
        for (int p = 0; p < pixels; p++)
            for (int c = 0; c < dx->c; c++)
                facs_ref_store(facs_tensor_image(dx, n) + p * dx->stride + c,
                               facs_tensor_image(dy, n)[c] / (facs_real)pixels, accumulate);
}
