#ifndef FACS_METRIC_BOOTSTRAP_H
#define FACS_METRIC_BOOTSTRAP_H

#include "metric/scores.h"

/* How far a measure would move with other subjects: subjects are drawn with replacement, as
 * many as there are, each with all of its rows, and the measure is taken anew (Efron and
 * Tibshirani, 1993, with the subject as the unit, since frames of one face are alike). */

typedef enum facs_resampled {
    FACS_RESAMPLED_F1,
    FACS_RESAMPLED_AVERAGE_PRECISION,
    FACS_RESAMPLED_ROC_AUC,
    FACS_RESAMPLED_COUNT
} facs_resampled;

typedef struct facs_bootstrap {
    const facs_score_table *table; /* checked */
    const float *threshold;        /* of each label; read for F1 alone */
    const int64_t *subject;        /* of each row, 0 .. subjects - 1 */
    int64_t subjects, draws;
    uint64_t seed;
    uint32_t part; /* with the seed it names the drawing: the same two draw the same subjects
                    * whatever is measured, so that differences are paired */
    int threads;   /* at least 1 */
} facs_bootstrap;

/* How often each subject is in one draw; weight has `subjects` entries, whose sum is their
 * number. */
void facs_bootstrap_draw(int64_t *weight, const facs_bootstrap *b, int64_t draw);

/* values[draw * k + label], NaN where the measure is undefined for what was drawn. FACS_E_ARG
 * naming the row of a subject that is out of its range; FACS_E_OOM. The values do not depend
 * on the number of threads. */
facs_status facs_bootstrap_run(double *values, const facs_bootstrap *b,
                               facs_resampled measure) FACS_MUST_USE;

#endif
