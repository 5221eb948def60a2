#include "kernel/ref/loss_parts.h"

#include <string.h>

/* Losses of soft counts over the batch: with p the probability of a positive,
 * true_positive = sum y p, predicted = sum p, actual = sum y. */

typedef struct counts {
    double true_positive, predicted, actual, known;
} counts;

size_t facs_ref_loss_scratch(int64_t n, int k)
{
    (void)n;
    return (size_t)k * sizeof(counts);
}

static int class_of(int64_t i, const facs_loss_options *options)
{
    return options->micro ? 0 : (int)(i % options->labels);
}

/* Fills the counts of every class and returns how many classes there are. */
static int count(counts *classes, const facs_real *logits, const facs_real *target,
                 const facs_real *mask, int64_t n, const facs_loss_options *options)
{
    const int k = options->labels;
    memset(classes, 0, facs_ref_loss_scratch(n, k));
    for (int64_t i = 0; i < n * k; i++) {
        if (!facs_ref_is_known(mask, i)) continue;
        const double p = facs_ref_logistic(logits[i]);
        counts *c = &classes[class_of(i, options)];
        c->true_positive += target[i] * p;
        c->predicted += p;
        c->actual += target[i];
        c->known++;
    }
    return options->micro ? 1 : k;
}

static double bce_beside(facs_real *dlogits, const facs_real *logits, const facs_real *target,
                         const facs_real *mask, int64_t n, const facs_loss_options *options)
{
    if (!(options->bce_weight > 0)) return 0;
    return options->bce_weight *
           facs_ref_add_bce(dlogits, logits, target, mask, n, options, options->bce_weight);
}

/* 1 - soft precision x soft recall. With TP = sum y p, S = sum p, N = sum y this is
 * 1 - TP^2 / (S N); classes without a positive in the batch do not count. */
void facs_ref_loss_pr(const facs_context *ctx, facs_real *loss, facs_real *dlogits,
                      const facs_real *logits, const facs_real *target, const facs_real *mask,
                      int64_t n, const facs_loss_options *options)
{
    counts *classes = ctx->scratch;
    const int k = options->labels, number = count(classes, logits, target, mask, n, options);
    int defined = 0;
    double product = 0;

    for (const counts *c = classes; c < classes + number; c++) {
        if (c->actual <= 0) continue;
        defined++;
        product += c->true_positive / (c->predicted + options->epsilon) * c->true_positive /
                   (c->actual + options->epsilon);
    }
    for (int64_t i = 0; i < n * k; i++) {
        const counts *c = &classes[class_of(i, options)];
        dlogits[i] = 0;
        if (!facs_ref_is_known(mask, i) || c->actual <= 0) continue;
        const double p = facs_ref_logistic(logits[i]), s = c->predicted + options->epsilon;
        const double precision = c->true_positive / s;
        const double recall = c->true_positive / (c->actual + options->epsilon);
        dlogits[i] =
            (facs_real)(-recall / s * (2 * target[i] - precision) / defined * p * (1 - p));
    }
    const double value = defined ? 1 - product / defined : 0;
    *loss = (facs_real)(value + bce_beside(dlogits, logits, target, mask, n, options));
}

/* The counts where 1 - p is the probability of what is looked for, a negative. */
static counts of_negatives(const counts *c)
{
    const double true_negative = c->known - c->actual - c->predicted + c->true_positive;
    return (counts){.true_positive = true_negative > 0 ? true_negative : 0,
                    .predicted = c->known - c->predicted,
                    .actual = c->known - c->actual,
                    .known = c->known};
}

/* TP / (TP + alpha FP + beta FN), and its derivative by the p of an entry:
 * slope y + offset. */
typedef struct overlap {
    double value, slope, offset;
} overlap;

static overlap overlap_of(const counts *c, const facs_loss_options *options)
{
    const double a = options->alpha, b = options->beta, both = 1 - a - b;
    const double whole =
        both * c->true_positive + a * c->predicted + b * c->actual + options->epsilon;
    const double value = c->true_positive / whole;
    return (overlap){value, (1 - both * value) / whole, -a * value / whole};
}

/* Salehi et al., MLMI 2017, equation 3: 1 - the mean of TP / (TP + alpha FP + beta FN) over
 * the classes with a positive in the batch; with true_negatives the same of the negatives is
 * in that mean. Halves make it 1 - soft F1. */
void facs_ref_loss_tversky(const facs_context *ctx, facs_real *loss, facs_real *dlogits,
                           const facs_real *logits, const facs_real *target,
                           const facs_real *mask, int64_t n, const facs_loss_options *options)
{
    counts *classes = ctx->scratch;
    const int k = options->labels, number = count(classes, logits, target, mask, n, options);
    int defined = 0;
    double sum = 0;

    for (const counts *c = classes; c < classes + number; c++) {
        const counts negatives = of_negatives(c);
        if (c->actual > 0) defined++, sum += overlap_of(c, options).value;
        if (options->true_negatives && negatives.actual > 0)
            defined++, sum += overlap_of(&negatives, options).value;
    }
    for (int64_t i = 0; i < n * k; i++) {
        const counts *c = &classes[class_of(i, options)], negatives = of_negatives(c);
        const double p = facs_ref_logistic(logits[i]), y = target[i];
        double slope = 0;
        dlogits[i] = 0;
        if (!facs_ref_is_known(mask, i) || !defined) continue;
        if (c->actual > 0) {
            const overlap part = overlap_of(c, options);
            slope += part.slope * y + part.offset;
        }
        if (options->true_negatives && negatives.actual > 0) {
            const overlap part = overlap_of(&negatives, options);
            slope -= part.slope * (1 - y) + part.offset;
        }
        dlogits[i] = (facs_real)(-slope / defined * p * (1 - p));
    }
    const double value = defined ? 1 - sum / defined : 0;
    *loss = (facs_real)(value + bce_beside(dlogits, logits, target, mask, n, options));
}
