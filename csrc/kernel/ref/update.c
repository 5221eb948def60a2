#include "kernel/ref/ref.h"

#include <math.h>

/* Adam: Kingma and Ba, ICLR 2015, algorithm 1; AdamW: Loshchilov and Hutter, ICLR 2019. */
void facs_ref_adam_step(const facs_context *ctx, facs_real *w, const facs_real *dw,
                        facs_real *m, facs_real *v, int64_t count, const facs_update *u)
{
    const facs_real step = u->rate / u->correction1;
    const facs_real root = 1 / (facs_real)sqrt(u->correction2);
    (void)ctx;
    for (int64_t i = 0; i < count; i++) {
        facs_real g = dw[i] * u->gradient_scale;
        if (u->decoupled)
            w[i] -= u->rate * u->weight_decay * w[i];
        else
            g += u->weight_decay * w[i];
        m[i] = u->beta1 * m[i] + (1 - u->beta1) * g;
        v[i] = u->beta2 * v[i] + (1 - u->beta2) * g * g;
        w[i] -= step * m[i] / ((facs_real)sqrt(v[i]) * root + u->epsilon);
    }
}

/* Momentum as in PyTorch: m = beta1 m + g, w -= rate m (Nesterov: g + beta1 m). */
void facs_ref_sgd_step(const facs_context *ctx, facs_real *w, const facs_real *dw, facs_real *m,
                       int64_t count, const facs_update *u)
{
    (void)ctx;
    for (int64_t i = 0; i < count; i++) {
        const facs_real g = dw[i] * u->gradient_scale + u->weight_decay * w[i];
        m[i] = u->beta1 * m[i] + g;
        w[i] -= u->rate * (u->nesterov ? g + u->beta1 * m[i] : m[i]);
    }
}

void facs_ref_ema_step(const facs_context *ctx, facs_real *average, const facs_real *w,
                       int64_t count, facs_real decay)
{
    (void)ctx;
    for (int64_t i = 0; i < count; i++) average[i] += (1 - decay) * (w[i] - average[i]);
}

double facs_ref_sum_of_squares(const facs_context *ctx, const facs_real *x, int64_t count)
{
    double sum = 0;
    (void)ctx;
    for (int64_t i = 0; i < count; i++) sum += (double)x[i] * x[i];
    return sum;
}

void facs_ref_check_finite(facs_real *verdict, const facs_real *x, int64_t count)
{
    facs_real sum = 0; /* 0 x is NaN where x is not finite */
    for (int64_t i = 0; i < count; i++) sum += 0 * x[i];
    *verdict = sum;
}

void facs_ref_exchange(facs_real *a, facs_real *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const facs_real kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}
