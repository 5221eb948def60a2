#ifndef FACS_METRIC_THRESHOLDS_H
#define FACS_METRIC_THRESHOLDS_H

#include "core/status.h"

#include <stdint.h>

/* Draws the fitted thresholds of k labels towards their median: a label with n positives
 * keeps the weight n / (n + strength) of its own. A threshold fitted on a few positives is
 * mostly chance. NaN (no positive) becomes the median; all stay NaN where all are. The
 * results are floats, so that scores compare with them alike in either precision. */
facs_status facs_shrink_thresholds(double *thresholds, const int64_t *positives, int64_t k,
                                   double strength) FACS_MUST_USE;

#endif
