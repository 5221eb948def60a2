#include "core/bfloat16.h"
#include "core/rng.h"
#include "kernel/ref/ref.h"

#include <math.h>
#include <string.h>

#define FOR_EACH(t, p, c)                                                                      \
    for (int64_t p = 0; p < facs_tensor_pixels(t); p++)                                        \
        for (int c = 0; c < (t)->c; c++)

static facs_real *at(const facs_tensor *t, int64_t p, int c)
{
    return t->data + p * t->stride + c;
}

void facs_ref_normalise_u8(const facs_context *ctx, const facs_tensor *y, const uint8_t *x,
                           const facs_real *scale, const facs_real *shift)
{
    (void)ctx;
    FOR_EACH(y, p, c)
    *at(y, p, c) = (facs_real)x[p * y->c + c] * scale[c] + shift[c];
}

void facs_ref_affine_fwd(const facs_context *ctx, const facs_tensor *y, const facs_tensor *x,
                         const facs_real *scale, const facs_real *shift, facs_clamp clamp)
{
    (void)ctx;
    FOR_EACH(y, p, c)
    *at(y, p, c) = facs_ref_clamp(scale[c] * *at(x, p, c) + shift[c], clamp);
}

void facs_ref_clamp_fwd(const facs_context *ctx, const facs_tensor *y, const facs_tensor *x,
                        facs_clamp clamp)
{
    (void)ctx;
    FOR_EACH(y, p, c)
    *at(y, p, c) = facs_ref_clamp(*at(x, p, c), clamp);
}

void facs_ref_clamp_bwd(const facs_context *ctx, const facs_tensor *dx, const facs_tensor *dy,
                        const facs_tensor *y, facs_clamp clamp, int accumulate)
{
    (void)ctx;
    FOR_EACH(dx, p, c)
    {
        const facs_real value = *at(y, p, c);
        const int passes = value > clamp.low && value < clamp.high;
        facs_ref_store(at(dx, p, c), passes ? *at(dy, p, c) : 0, accumulate);
    }
}

void facs_ref_add_fwd(const facs_context *ctx, const facs_tensor *y, const facs_tensor *a,
                      const facs_norm *norm_a, const facs_tensor *b, const facs_norm *norm_b)
{
    (void)ctx;
    FOR_EACH(y, p, c)
    *at(y, p, c) =
        facs_ref_normed(norm_a, *at(a, p, c), c) + facs_ref_normed(norm_b, *at(b, p, c), c);
}

void facs_ref_zero(facs_real *x, int64_t count)
{
    memset(x, 0, (size_t)count * sizeof *x);
}

void facs_ref_copy(const facs_context *ctx, const facs_tensor *y, const facs_tensor *x,
                   int accumulate)
{
    (void)ctx;
    FOR_EACH(y, p, c)
    facs_ref_store(at(y, p, c), *at(x, p, c), accumulate);
}

void facs_ref_load_numbers(const facs_context *ctx, const facs_tensor *y, const facs_real *x)
{
    (void)ctx;
    FOR_EACH(y, p, c)
    *at(y, p, c) = x[p * y->c + c];
}

void facs_ref_store_numbers(const facs_context *ctx, facs_real *y, const facs_tensor *x)
{
    (void)ctx;
    FOR_EACH(x, p, c)
    y[p * x->c + c] = *at(x, p, c);
}

void facs_ref_bfloat16_from(const facs_context *ctx, uint16_t *y, const facs_tensor *x)
{
    (void)ctx;
    FOR_EACH(x, p, c)
    y[p * x->c + c] = facs_bfloat16_from((float)*at(x, p, c));
}

void facs_ref_bfloat16_to(const facs_context *ctx, const facs_tensor *y, const uint16_t *x)
{
    (void)ctx;
    FOR_EACH(y, p, c)
    *at(y, p, c) = (facs_real)facs_bfloat16_to(x[p * y->c + c]);
}

void facs_ref_dropout(const facs_context *ctx, const facs_tensor *y, const facs_tensor *x,
                      facs_real rate, uint64_t seed, uint32_t step, int accumulate)
{
    (void)ctx;
    for (int64_t p = 0; p < facs_tensor_pixels(y); p++) {
        facs_rng rng = facs_rng_stream(seed, FACS_RNG_DROPOUT, step, (uint32_t)p);
        for (int c = 0; c < y->c; c++) {
            const int kept = facs_rng_uniform(&rng) >= rate;
            facs_ref_store(at(y, p, c), kept ? *at(x, p, c) / (1 - rate) : 0, accumulate);
        }
    }
}

void facs_ref_sigmoid(facs_real *y, const facs_real *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) y[i] = (facs_real)(1.0 / (1.0 + exp(-(double)x[i])));
}
