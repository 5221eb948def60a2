#include "kernel/ref/ref.h"

#include <math.h>
#include <string.h>

static int is_known(const facs_real *mask, int64_t i)
{
    return !mask || mask[i] != 0;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* Mean over the known entries of -y log p - (1 - y) log(1 - p), from logits; adds
 * `factor` times the gradient, returns the value. */
static double add_bce(facs_real *dlogits, const facs_real *logits, const facs_real *target,
                      const facs_real *mask, int64_t n, const facs_loss_options *options,
                      double factor)
{
    const int k = options->labels;
    int64_t known = 0;
    double sum = 0;
    for (int64_t i = 0; i < n * k; i++) known += is_known(mask, i);
    if (!known) return 0;
    for (int64_t i = 0; i < n * k; i++) {
        if (!is_known(mask, i)) continue;
        const int label = (int)(i % k);
        const double weight = options->class_weight ? options->class_weight[label] : 1;
        const double positive = options->pos_weight ? options->pos_weight[label] : 1;
        const double x = logits[i], y = target[i];
        sum += weight * (positive * y * softplus(-x) + (1 - y) * softplus(x));
        dlogits[i] += (facs_real)(factor * weight / (double)known *
                                  ((1 - y) * sigmoid(x) - positive * y * sigmoid(-x)));
    }
    return sum / (double)known;
}

size_t facs_ref_loss_scratch(int64_t n, int k)
{
    (void)n;
    return 3 * (size_t)k * sizeof(double);
}

void facs_ref_loss_bce(const facs_context *ctx, facs_real *loss, facs_real *dlogits,
                       const facs_real *logits, const facs_real *target, const facs_real *mask,
                       int64_t n, const facs_loss_options *options)
{
    (void)ctx;
    memset(dlogits, 0, (size_t)(n * options->labels) * sizeof *dlogits);
    *loss = (facs_real)add_bce(dlogits, logits, target, mask, n, options, 1);
}

/* log sum exp of sign * f over the known entries whose target is `positive`. */
static double log_sum_exp(const facs_real *f, const facs_real *target, const facs_real *mask,
                          int64_t first, int k, int positive, double sign)
{
    double largest = -INFINITY, sum = 0;
    for (int64_t i = first; i < first + k; i++)
        if (is_known(mask, i) && (target[i] != 0) == positive && sign * f[i] > largest)
            largest = sign * f[i];
    if (largest == -INFINITY) return largest;
    for (int64_t i = first; i < first + k; i++)
        if (is_known(mask, i) && (target[i] != 0) == positive)
            sum += exp(sign * f[i] - largest);
    return largest + log(sum);
}

/* Li, Song and Luo, CVPR 2017: log(1 + sum over pairs of exp(f_negative - f_positive)),
 * factorised; the mean over samples. A sample without both kinds gives 0. */
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
        const double pairs = negatives + positives, slope = sigmoid(pairs) / (double)n;
        total += softplus(pairs);
        for (int64_t i = first; i < first + k; i++)
            if (is_known(mask, i))
                dlogits[i] = (facs_real)(target[i] != 0 ? -slope * exp(-logits[i] - positives)
                                                        : slope * exp(logits[i] - negatives));
    }
    *loss = (facs_real)(total / (double)n);
}

/* 1 - soft precision x soft recall. With TP = sum y p, S = sum p, N = sum y this is
 * 1 - TP^2 / (S N); classes without a positive in the batch do not count. */
void facs_ref_loss_pr(const facs_context *ctx, facs_real *loss, facs_real *dlogits,
                      const facs_real *logits, const facs_real *target, const facs_real *mask,
                      int64_t n, const facs_loss_options *options)
{
    const int k = options->labels, classes = options->micro ? 1 : k;
    double *true_positive = ctx->scratch, *predicted = true_positive + k,
           *actual = predicted + k;
    int defined = 0;
    double product = 0;

    memset(ctx->scratch, 0, facs_ref_loss_scratch(n, k));
    for (int64_t i = 0; i < n * k; i++) {
        if (!is_known(mask, i)) continue;
        const double p = sigmoid(logits[i]);
        const int class = (int)(i % k) % classes;
        true_positive[class] += target[i] * p;
        predicted[class] += p;
        actual[class] += target[i];
    }
    for (int class = 0; class < classes; class ++) {
        if (actual[class] <= 0) continue;
        defined++;
        product += true_positive[class] / (predicted[class] + options->epsilon) *
                   true_positive[class] / (actual[class] + options->epsilon);
    }
    for (int64_t i = 0; i < n * k; i++) {
        const int class = (int)(i % k) % classes;
        dlogits[i] = 0;
        if (!is_known(mask, i) || actual[class] <= 0) continue;
        const double p = sigmoid(logits[i]), s = predicted[class] + options->epsilon;
        const double precision = true_positive[class] / s;
        const double recall = true_positive[class] / (actual[class] + options->epsilon);
        dlogits[i] =
            (facs_real)(-recall / s * (2 * target[i] - precision) / defined * p * (1 - p));
    }
    double value = defined ? 1 - product / defined : 0;
    if (options->bce_weight > 0)
        value += options->bce_weight *
                 add_bce(dlogits, logits, target, mask, n, options, options->bce_weight);
    *loss = (facs_real)value;
}
