#ifndef FACS_KERNEL_REF_LOSS_PARTS_H
#define FACS_KERNEL_REF_LOSS_PARTS_H

#include "kernel/ref/ref.h"

#include <math.h>

/* What the families of losses share. */

static inline int facs_ref_is_known(const facs_real *mask, int64_t i)
{
    return !mask || mask[i] != 0;
}

static inline double facs_ref_logistic(double x)
{
    return 1 / (1 + exp(-x));
}

/* log(1 + exp(x)) */
static inline double facs_ref_softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* Mean over the known entries of -y log p - (1 - y) log(1 - p), from logits, with the
 * weights of `options`; adds `factor` times the gradient, returns the value. */
double facs_ref_add_bce(facs_real *dlogits, const facs_real *logits, const facs_real *target,
                        const facs_real *mask, int64_t n, const facs_loss_options *options,
                        double factor);

#endif
