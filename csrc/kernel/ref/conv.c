#include "kernel/ref/ref.h"

#include <string.h>

/* Every convolution below is one loop nest over (image, output pixel, tap); `tap` says
 * which input pixel a tap reads, or that it falls into the padding. */
static int tap_inside(const facs_conv *g, int oy, int ox, int ky, int kx, int *y, int *x)
{
    *y = oy * g->stride - g->pad_top + ky;
    *x = ox * g->stride - g->pad_left + kx;
    return *y >= 0 && *y < g->h && *x >= 0 && *x < g->w;
}

static const facs_real *weight(const facs_conv *g, const facs_real *w, int ky, int kx, int i,
                               int o)
{
    const int inputs = g->ci / g->groups;
    return w + ((int64_t)(ky * g->kw + kx) * inputs + i) * g->co + o;
}

static double output(const facs_conv *g, const facs_tensor *x, const facs_norm *norm,
                     const facs_real *w, int64_t n, int oy, int ox, int o)
{
    const int inputs = g->ci / g->groups, first = o / (g->co / g->groups) * inputs;
    double sum = 0;
    int py, px;
    for (int ky = 0; ky < g->kh; ky++)
        for (int kx = 0; kx < g->kw; kx++) {
            if (!tap_inside(g, oy, ox, ky, kx, &py, &px)) continue;
            const facs_real *pixel = facs_ref_pixel(x, n, py, px);
            for (int i = 0; i < inputs; i++)
                sum += (double)facs_ref_normed(norm, pixel[first + i], first + i) *
                       *weight(g, w, ky, kx, i, o);
        }
    return sum;
}

static void any_fwd(const facs_conv *g, const facs_tensor *y, const facs_tensor *x,
                    const facs_norm *norm, const facs_real *w, const facs_real *bias,
                    facs_clamp clamp)
{
    for (int64_t n = 0; n < y->n; n++)
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++)
                for (int o = 0; o < g->co; o++) {
                    const double sum =
                        output(g, x, norm, w, n, oy, ox, o) + (bias ? bias[o] : 0);
                    facs_ref_pixel(y, n, oy, ox)[o] = facs_ref_clamp((facs_real)sum, clamp);
                }
}

static double input_gradient(const facs_conv *g, const facs_tensor *dy,
                             const facs_correction *correction, const facs_real *w, int64_t n,
                             int y, int x, int i)
{
    const int inputs = g->ci / g->groups, outputs = g->co / g->groups, group = i / inputs;
    double sum = 0;
    for (int ky = 0; ky < g->kh; ky++)
        for (int kx = 0; kx < g->kw; kx++) {
            const int ty = y + g->pad_top - ky, tx = x + g->pad_left - kx;
            if (ty < 0 || tx < 0 || ty % g->stride || tx % g->stride ||
                ty / g->stride >= g->oh || tx / g->stride >= g->ow)
                continue;
            const int64_t pixel = facs_ref_place(dy, n, ty / g->stride, tx / g->stride);
            for (int o = group * outputs; o < (group + 1) * outputs; o++)
                sum += facs_ref_corrected(correction, dy, pixel, o) *
                       *weight(g, w, ky, kx, i % inputs, o);
        }
    return sum;
}

/* dx may be NULL; channel by channel, so that the norm's sums are sums in double. */
static void any_bwd_x(const facs_conv *g, const facs_tensor *dx, const facs_tensor *x,
                      const facs_norm *norm, const facs_tensor *dy,
                      const facs_correction *correction, const facs_real *w, int accumulate)
{
    for (int i = 0; i < g->ci; i++) {
        facs_ref_norm_sums sums = {0};
        for (int64_t n = 0; n < dy->n; n++)
            for (int py = 0; py < g->h; py++)
                for (int px = 0; px < g->w; px++) {
                    double value = input_gradient(g, dy, correction, w, n, py, px, i);
                    if (norm)
                        value = facs_ref_through(norm, &sums, value,
                                                 facs_ref_pixel(x, n, py, px)[i], i);
                    if (dx)
                        facs_ref_store(facs_ref_pixel(dx, n, py, px) + i, (facs_real)value,
                                       accumulate);
                }
        if (norm) facs_ref_add_sums(norm, &sums, i);
    }
}

static double weight_gradient(const facs_conv *g, const facs_tensor *x, const facs_norm *norm,
                              const facs_tensor *dy, const facs_correction *correction, int ky,
                              int kx, int i, int o)
{
    const int inputs = g->ci / g->groups, input = o / (g->co / g->groups) * inputs + i;
    double sum = 0;
    int py, px;
    for (int64_t n = 0; n < x->n; n++)
        for (int oy = 0; oy < g->oh; oy++)
            for (int ox = 0; ox < g->ow; ox++)
                if (tap_inside(g, oy, ox, ky, kx, &py, &px))
                    sum += facs_ref_normed(norm, facs_ref_pixel(x, n, py, px)[input], input) *
                           facs_ref_corrected(correction, dy, facs_ref_place(dy, n, oy, ox), o);
    return sum;
}

static void any_bwd_w(const facs_conv *g, facs_real *dw, const facs_tensor *x,
                      const facs_norm *norm, const facs_tensor *dy,
                      const facs_correction *correction)
{
    for (int ky = 0; ky < g->kh; ky++)
        for (int kx = 0; kx < g->kw; kx++)
            for (int i = 0; i < g->ci / g->groups; i++)
                for (int o = 0; o < g->co; o++)
                    *dw++ =
                        (facs_real)weight_gradient(g, x, norm, dy, correction, ky, kx, i, o);
}

void facs_ref_groupconv_fwd(const facs_context *ctx, const facs_conv *g, const facs_tensor *y,
                            const facs_tensor *x, const facs_real *w, const facs_real *bias,
                            facs_clamp clamp)
{
    (void)ctx;
    any_fwd(g, y, x, NULL, w, bias, clamp);
}

void facs_ref_groupconv_bwd_x(const facs_context *ctx, const facs_conv *g,
                              const facs_tensor *dx, const facs_tensor *dy, const facs_real *w,
                              int accumulate)
{
    (void)ctx;
    any_bwd_x(g, dx, NULL, NULL, dy, NULL, w, accumulate);
}

void facs_ref_groupconv_bwd_w(const facs_context *ctx, const facs_conv *g, facs_real *dw,
                              const facs_tensor *x, const facs_tensor *dy)
{
    (void)ctx;
    any_bwd_w(g, dw, x, NULL, dy, NULL);
}

/* Dense and depthwise are the general case here; packing only multiplies by the scale. */

static int64_t weight_count(const facs_conv *g)
{
    return (int64_t)g->kh * g->kw * (g->ci / g->groups) * g->co;
}

static void scaled_copy(facs_real *packed, const facs_conv *g, const facs_real *w,
                        const facs_real *scale)
{
    const int64_t count = weight_count(g);
    for (int64_t i = 0; i < count; i++) packed[i] = scale ? w[i] * scale[i % g->co] : w[i];
}

void facs_ref_groupconv_pack(facs_real *packed, const facs_conv *g, const facs_real *w,
                             const facs_real *scale)
{
    scaled_copy(packed, g, w, scale);
}

size_t facs_ref_conv_fwd_scratch(const facs_conv *g, int64_t n, int threads)
{
    (void)g, (void)n, (void)threads;
    return 0;
}

size_t facs_ref_conv_bwd_scratch(const facs_conv *g, int64_t n, int threads)
{
    return facs_ref_conv_fwd_scratch(g, n, threads);
}

int64_t facs_ref_conv_packed(const facs_conv *g)
{
    return weight_count(g);
}

void facs_ref_conv_pack(facs_real *packed, const facs_conv *g, const facs_real *w,
                        const facs_real *scale)
{
    scaled_copy(packed, g, w, scale);
}

int64_t facs_ref_conv_packed_bwd(const facs_conv *g)
{
    return weight_count(g);
}

void facs_ref_conv_pack_bwd(facs_real *packed, const facs_conv *g, const facs_real *w)
{
    scaled_copy(packed, g, w, NULL);
}

void facs_ref_conv_fwd(const facs_context *ctx, const facs_conv *g, const facs_tensor *y,
                       const facs_tensor *x, const facs_norm *norm, const facs_real *packed,
                       const facs_real *bias, facs_clamp clamp, const facs_moments *moments)
{
    any_fwd(g, y, x, norm, packed, bias, clamp);
    if (moments) facs_ref_batchnorm_stats(ctx, moments->mean, moments->variance, y);
}

void facs_ref_conv_bwd_x(const facs_context *ctx, const facs_conv *g, const facs_tensor *dx,
                         const facs_tensor *x, const facs_norm *norm, const facs_tensor *dy,
                         const facs_correction *correction, const facs_real *packed,
                         int accumulate)
{
    if (correction) facs_ref_correct(ctx, dy, correction);
    any_bwd_x(g, dx, x, norm, dy, NULL, packed, accumulate);
}

void facs_ref_conv_bwd_w(const facs_context *ctx, const facs_conv *g, facs_real *dw,
                         const facs_tensor *x, const facs_norm *norm, const facs_tensor *dy,
                         const facs_correction *correction)
{
    (void)ctx;
    any_bwd_w(g, dw, x, norm, dy, correction);
}

void facs_ref_conv_bwd(const facs_context *ctx, const facs_conv *g, const facs_tensor *dx,
                       facs_real *dw, const facs_tensor *x, const facs_norm *norm,
                       const facs_tensor *dy, const facs_correction *correction,
                       const facs_real *packed, int accumulate)
{
    facs_ref_conv_bwd_x(ctx, g, dx, x, norm, dy, correction, packed, accumulate);
    facs_ref_conv_bwd_w(ctx, g, dw, x, norm, dy, NULL);
}

size_t facs_ref_dwconv_fwd_scratch(const facs_conv *g, int64_t n, int threads)
{
    return facs_ref_conv_fwd_scratch(g, n, threads);
}

size_t facs_ref_dwconv_bwd_scratch(const facs_conv *g, int64_t n, int threads)
{
    return facs_ref_conv_fwd_scratch(g, n, threads);
}

int64_t facs_ref_dwconv_packed(const facs_conv *g)
{
    return weight_count(g);
}

void facs_ref_dwconv_pack(facs_real *packed, const facs_conv *g, const facs_real *w,
                          const facs_real *scale)
{
    scaled_copy(packed, g, w, scale);
}

void facs_ref_dwconv_fwd(const facs_context *ctx, const facs_conv *g, const facs_tensor *y,
                         const facs_tensor *x, const facs_norm *norm, const facs_real *packed,
                         const facs_real *bias, facs_clamp clamp, const facs_moments *moments)
{
    facs_ref_conv_fwd(ctx, g, y, x, norm, packed, bias, clamp, moments);
}

void facs_ref_dwconv_bwd(const facs_context *ctx, const facs_conv *g, const facs_tensor *dx,
                         facs_real *dw, const facs_tensor *x, const facs_norm *norm,
                         const facs_tensor *dy, const facs_correction *correction,
                         const facs_real *packed, int accumulate)
{
    (void)ctx;
    if (dw) any_bwd_w(g, dw, x, norm, dy, correction);
    if (dx || norm) any_bwd_x(g, dx, x, norm, dy, correction, packed, accumulate);
}
