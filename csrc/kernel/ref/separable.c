#include "kernel/ref/ref.h"

/* The convolutions one behind the other, each with its whole result in scratch. */

int facs_ref_separable_suits(const facs_separable *s)
{
    (void)s;
    return 0;
}

static int64_t expanded_numbers(const facs_separable *s, int64_t n)
{
    const facs_conv *d = s->depthwise.g;
    return s->expand.g || s->before ? n * d->h * d->w * d->ci : 0;
}

size_t facs_ref_separable_fwd_scratch(const facs_separable *s, int64_t n, int threads)
{
    const facs_conv *d = s->depthwise.g;
    const size_t own =
        (size_t)(expanded_numbers(s, n) + n * d->oh * d->ow * d->co) * sizeof(facs_real);
    return own + (s->before ? facs_ref_separable_fwd_scratch(s->before, n, threads) : 0);
}

void facs_ref_separable_fwd(const facs_context *ctx, const facs_separable *s,
                            const facs_tensor *y, const facs_tensor *x,
                            const facs_tensor *residual)
{
    const facs_layer *e = &s->expand, *d = &s->depthwise, *p = &s->project;
    facs_real *scratch = ctx->scratch;
    const facs_tensor wide = {scratch, x->n, d->g->h, d->g->w, d->g->ci, d->g->ci};
    const facs_tensor middle = {
        scratch + expanded_numbers(s, x->n), x->n, d->g->oh, d->g->ow, d->g->co, d->g->co};

    if (s->before) {
        facs_context rest = *ctx;
        rest.scratch = middle.data + facs_tensor_pixels(&middle) * middle.c;
        facs_ref_separable_fwd(&rest, s->before, &wide, x, NULL);
    }
    if (e->g) facs_ref_conv_fwd(ctx, e->g, &wide, x, NULL, e->packed, e->bias, e->clamp, NULL);
    facs_ref_dwconv_fwd(ctx, d->g, &middle, e->g || s->before ? &wide : x, NULL, d->packed,
                        d->bias, d->clamp, NULL);
    facs_ref_conv_fwd(ctx, p->g, y, &middle, NULL, p->packed, p->bias, p->clamp, NULL);
    if (residual) facs_ref_add_fwd(ctx, y, residual, NULL, y, NULL);
}
