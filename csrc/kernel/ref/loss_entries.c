#include "kernel/ref/loss_parts.h"

#include <string.h>

/* Losses that are a sum over entries (image, label). */

double facs_ref_add_bce(facs_real *dlogits, const facs_real *logits, const facs_real *target,
                        const facs_real *mask, int64_t n, const facs_loss_options *options,
                        double factor)
{
    const int k = options->labels;
    int64_t known = 0;
    double sum = 0;
    for (int64_t i = 0; i < n * k; i++) known += facs_ref_is_known(mask, i);
    if (!known) return 0;
    for (int64_t i = 0; i < n * k; i++) {
        if (!facs_ref_is_known(mask, i)) continue;
        const int label = (int)(i % k);
        const double weight = options->class_weight ? options->class_weight[label] : 1;
        const double positive = options->pos_weight ? options->pos_weight[label] : 1;
        const double x = logits[i], y = target[i];
        sum += weight * (positive * y * facs_ref_softplus(-x) + (1 - y) * facs_ref_softplus(x));
        dlogits[i] += (facs_real)(factor * weight / (double)known *
                                  ((1 - y) * facs_ref_logistic(x) -
                                   positive * y * facs_ref_logistic(-x)));
    }
    return sum / (double)known;
}

void facs_ref_loss_bce(const facs_context *ctx, facs_real *loss, facs_real *dlogits,
                       const facs_real *logits, const facs_real *target, const facs_real *mask,
                       int64_t n, const facs_loss_options *options)
{
    (void)ctx;
    memset(dlogits, 0, (size_t)(n * options->labels) * sizeof *dlogits);
    *loss = (facs_real)facs_ref_add_bce(dlogits, logits, target, mask, n, options, 1);
}

/* (1 - p)^gamma (-log p) and its derivative by the logit */
static double focused_positive(double x, double gamma, double *slope)
{
    const double p = facs_ref_logistic(x), q = facs_ref_logistic(-x);
    const double focus = pow(q, gamma), surprise = facs_ref_softplus(-x);
    *slope = -focus * (gamma * p * surprise + q);
    return focus * surprise;
}

/* s^gamma (-log(1 - s)) with the shifted probability s = max(p - margin, 0), and its
 * derivative by the logit. 1 - s is (1 - p) + margin, which does not round to 0; without a
 * margin it may, and then -log(1 - s) is the softplus and p (1 - p) / (1 - s) is p. */
static double focused_negative(double x, double gamma, double margin, double *slope)
{
    const double p = facs_ref_logistic(x), q = facs_ref_logistic(-x), shifted = p - margin;
    *slope = 0;
    if (!(shifted > 0)) return 0;
    const double surprise = margin > 0 ? -log(q + margin) : facs_ref_softplus(x);
    const double ratio = margin > 0 ? q / (q + margin) : 1;
    const double focus = pow(shifted, gamma);
    *slope = focus * (gamma * (surprise / shifted) * p * q + p * ratio);
    return focus * surprise;
}

/* Ridnik et al., ICCV 2021, equations 4 to 7; with equal gammas and no margin the focal
 * loss of Lin et al., ICCV 2017, equation 5. Summed over labels, mean over images. */
void facs_ref_loss_asymmetric(const facs_context *ctx, facs_real *loss, facs_real *dlogits,
                              const facs_real *logits, const facs_real *target,
                              const facs_real *mask, int64_t n,
                              const facs_loss_options *options)
{
    const int k = options->labels;
    double sum = 0;
    (void)ctx;
    for (int64_t i = 0; i < n * k; i++) {
        dlogits[i] = 0;
        if (!facs_ref_is_known(mask, i)) continue;
        double slope, value, weight;
        if (target[i] != 0) {
            value = focused_positive(logits[i], options->gamma_positive, &slope);
            weight = options->alpha;
        } else {
            value =
                focused_negative(logits[i], options->gamma_negative, options->margin, &slope);
            weight = options->beta;
        }
        sum += weight * value;
        dlogits[i] = (facs_real)(weight * slope / (double)n);
    }
    *loss = (facs_real)(sum / (double)n);
}
