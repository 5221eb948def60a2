#ifndef FACS_METRIC_SCORES_H
#define FACS_METRIC_SCORES_H

#include "core/status.h"

#include <stdint.h>

/* Scores of a whole set: n rows of k labels, row by row, all borrowed. An entry counts
 * when its target is known (not NaN) and its mask, where there is one, is 1.
 *
 * What cannot be computed is NaN, never 0: see the single measures. */
typedef struct facs_score_table {
    const float *scores, *target; /* targets 1, 0 or NaN for unknown */
    const float *mask;            /* 1 or 0; NULL counts every known target */
    int64_t n, k;
} facs_score_table;

static inline int facs_score_counts(const facs_score_table *table, int64_t i)
{
    return table->target[i] == table->target[i] && (!table->mask || table->mask[i] != 0);
}

/* FACS_E_ARG naming row and label of a counted score that is not finite, of a target that
 * is none of 1, 0 and NaN, or of a mask that is not 1 or 0. Everything below takes a table
 * that passed. */
facs_status facs_score_table_check(const facs_score_table *table) FACS_MUST_USE;

typedef struct facs_confusion {
    int64_t true_positive, false_positive, false_negative, true_negative;
} facs_confusion;

/* Counts per label; a label is predicted where its score is at least its threshold. Both are
 * float: a score of 0.7 reaches a threshold of 0.7. threshold and out have k entries. */
void facs_confusion_count(facs_confusion *out, const facs_score_table *table,
                          const float *threshold);

typedef enum facs_rate {
    FACS_RATE_PRECISION, /* NaN where nothing is predicted */
    FACS_RATE_RECALL,    /* NaN where there is no positive */
    FACS_RATE_F1,        /* NaN where there is no positive, whatever is predicted */
    FACS_RATE_ACCURACY,  /* NaN where nothing is known */
    FACS_RATE_COUNT
} facs_rate;

double facs_confusion_rate(const facs_confusion *counts, facs_rate rate);

/* Mean of the values that are defined (not NaN); NaN where none is. */
double facs_macro_mean(const double *values, int64_t count);

#endif
