#ifndef FACS_METRIC_CALIBRATION_H
#define FACS_METRIC_CALIBRATION_H

#include "metric/scores.h"

/* Whether probabilities are what they say: the scores of a label in equal bins of [0, 1], and
 * how often it is there in each. */
typedef struct facs_calibration_bin {
    double count, score, positive; /* entries, and the sums of their scores and targets */
} facs_calibration_bin;

/* Fills bins[label * bins + bin]. FACS_E_ARG naming row and label of a counted score that is
 * not in [0, 1]. A score of 1 is in the last bin. */
facs_status facs_calibration_count(facs_calibration_bin *bin, int64_t bins,
                                   const facs_score_table *table) FACS_MUST_USE;

/* Expected calibration error of one label (Naeini et al., AAAI 2015): the distance between mean
 * score and share of positives, mean over the bins weighted by their entries. NaN without an
 * entry. */
double facs_calibration_error(const facs_calibration_bin *bin, int64_t bins);

#endif
