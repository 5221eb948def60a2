#include "metric/scores.h"

#include <math.h>
#include <string.h>

static facs_status check_entry(const facs_score_table *table, int64_t i)
{
    const long long row = (long long)(i / table->k), label = (long long)(i % table->k);
    const float target = table->target[i];
    if (table->mask && table->mask[i] != 0 && table->mask[i] != 1)
        return facs_fail(FACS_E_ARG, "mask: row %lld, label %lld is %g, want 0 or 1", row,
                         label, (double)table->mask[i]);
    if (!isnan(target) && target != 0 && target != 1)
        return facs_fail(FACS_E_ARG,
                         "target: row %lld, label %lld is %g, want 0, 1 or NaN for unknown",
                         row, label, (double)target);
    if (facs_score_counts(table, i) && !isfinite(table->scores[i]))
        return facs_fail(FACS_E_ARG, "scores: row %lld, label %lld is %g, want a finite number",
                         row, label, (double)table->scores[i]);
    return FACS_OK;
}

facs_status facs_score_table_check(const facs_score_table *table)
{
    for (int64_t i = 0; i < table->n * table->k; i++) FACS_TRY(check_entry(table, i));
    return FACS_OK;
}

void facs_confusion_count(facs_confusion *out, const facs_score_table *table,
                          const float *threshold)
{
    memset(out, 0, (size_t)table->k * sizeof *out);
    for (int64_t row = 0; row < table->n; row++)
        for (int64_t label = 0; label < table->k; label++) {
            const int64_t i = row * table->k + label;
            if (!facs_score_counts(table, i)) continue;
            if (table->scores[i] >= threshold[label]) {
                out[label].true_positive += table->target[i] != 0;
                out[label].false_positive += table->target[i] == 0;
            } else {
                out[label].false_negative += table->target[i] != 0;
                out[label].true_negative += table->target[i] == 0;
            }
        }
}

static double ratio(int64_t part, int64_t whole)
{
    return whole ? (double)part / (double)whole : NAN;
}

double facs_confusion_rate(const facs_confusion *c, facs_rate rate)
{
    const int64_t hits = c->true_positive;
    const int64_t positives = hits + c->false_negative, predicted = hits + c->false_positive;
    switch (rate) {
    case FACS_RATE_PRECISION:
        return ratio(hits, predicted);
    case FACS_RATE_RECALL:
        return ratio(hits, positives);
    case FACS_RATE_F1:
        return positives ? ratio(2 * hits, positives + predicted) : NAN;
    case FACS_RATE_ACCURACY:
        return ratio(hits + c->true_negative, predicted + c->false_negative + c->true_negative);
    case FACS_RATE_COUNT:
        break;
    }
    return NAN;
}

double facs_macro_mean(const double *values, int64_t count)
{
    double sum = 0;
    int64_t defined = 0;
    for (int64_t i = 0; i < count; i++) {
        if (isnan(values[i])) continue;
        sum += values[i];
        defined++;
    }
    return defined ? sum / (double)defined : NAN;
}
