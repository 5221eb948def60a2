#include "kernel/ref/loss_parts.h"

#include <string.h>

/* Losses that compare the logits of one image with each other or with 0. */

/* log sum exp of sign * f over the known entries whose target is `positive`. */
static double log_sum_exp(const facs_real *f, const facs_real *target, const facs_real *mask,
                          int64_t first, int k, int positive, double sign)
{
    double largest = -INFINITY, sum = 0;
    for (int64_t i = first; i < first + k; i++)
        if (facs_ref_is_known(mask, i) && (target[i] != 0) == positive && sign * f[i] > largest)
            largest = sign * f[i];
    if (largest == -INFINITY) return largest;
    for (int64_t i = first; i < first + k; i++)
        if (facs_ref_is_known(mask, i) && (target[i] != 0) == positive)
            sum += exp(sign * f[i] - largest);
    return largest + log(sum);
}

/* Li, Song and Luo, CVPR 2017: log(1 + sum over pairs of exp(f_negative - f_positive)),
 * factorised; the mean over images. An image without both kinds gives 0. */
void facs_ref_loss_lsep(const facs_context *ctx, facs_real *loss, facs_real *dlogits,
                        const facs_real *logits, const facs_real *target, const facs_real *mask,
                        int64_t n, const facs_loss_options *options)
{
    const int k = options->labels;
    double total = 0;
    (void)ctx;
    memset(dlogits, 0, (size_t)(n * k) * sizeof *dlogits);
    for (int64_t first = 0; first < n * k; first += k) {
        const double negatives = log_sum_exp(logits, target, mask, first, k, 0, 1);
        const double positives = log_sum_exp(logits, target, mask, first, k, 1, -1);
        if (negatives == -INFINITY || positives == -INFINITY) continue;
        const double pairs = negatives + positives,
                     slope = facs_ref_logistic(pairs) / (double)n;
        total += facs_ref_softplus(pairs);
        for (int64_t i = first; i < first + k; i++)
            if (facs_ref_is_known(mask, i))
                dlogits[i] = (facs_real)(target[i] != 0 ? -slope * exp(-logits[i] - positives)
                                                        : slope * exp(logits[i] - negatives));
    }
    *loss = (facs_real)(total / (double)n);
}

/* Su et al., 2022 (arXiv 2208.02955), equation 9: log(1 + sum over negatives of exp(f)) +
 * log(1 + sum over positives of exp(-f)); the mean over images. */
void facs_ref_loss_zlpr(const facs_context *ctx, facs_real *loss, facs_real *dlogits,
                        const facs_real *logits, const facs_real *target, const facs_real *mask,
                        int64_t n, const facs_loss_options *options)
{
    const int k = options->labels;
    double total = 0;
    (void)ctx;
    for (int64_t first = 0; first < n * k; first += k) {
        /* softplus(-inf) is 0: no label of that kind */
        const double negatives =
            facs_ref_softplus(log_sum_exp(logits, target, mask, first, k, 0, 1));
        const double positives =
            facs_ref_softplus(log_sum_exp(logits, target, mask, first, k, 1, -1));
        total += negatives + positives;
        for (int64_t i = first; i < first + k; i++)
            if (!facs_ref_is_known(mask, i))
                dlogits[i] = 0;
            else
                dlogits[i] = (facs_real)((target[i] != 0 ? -exp(-logits[i] - positives)
                                                         : exp(logits[i] - negatives)) /
                                         (double)n);
    }
    *loss = (facs_real)(total / (double)n);
}
