#include "metric/calibration.h"

#include <math.h>
#include <string.h>

facs_status facs_calibration_count(facs_calibration_bin *bin, int64_t bins,
                                   const facs_score_table *table)
{
    memset(bin, 0, (size_t)(table->k * bins) * sizeof *bin);
    for (int64_t i = 0; i < table->n * table->k; i++) {
        const int64_t label = i % table->k;
        const double score = table->scores[i];
        if (!facs_score_counts(table, i)) continue;
        if (!(score >= 0 && score <= 1))
            return facs_fail(FACS_E_ARG,
                             "scores: row %lld, label %lld is %g, want a probability",
                             (long long)(i / table->k), (long long)label, score);
        const int64_t at = (int64_t)(score * (double)bins);
        facs_calibration_bin *b = bin + label * bins + (at < bins ? at : bins - 1);
        b->count++;
        b->score += score;
        b->positive += table->target[i];
    }
    return FACS_OK;
}

double facs_calibration_error(const facs_calibration_bin *bin, int64_t bins)
{
    double distance = 0, count = 0;

    for (int64_t i = 0; i < bins; i++) {
        distance += fabs(bin[i].score - bin[i].positive);
        count += bin[i].count;
    }
    return count > 0 ? distance / count : NAN;
}
