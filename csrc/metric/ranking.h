#ifndef FACS_METRIC_RANKING_H
#define FACS_METRIC_RANKING_H

#include "metric/scores.h"

/* One label's counted entries from the highest score down. A step is one distinct score;
 * equal scores stand or fall together, so no measure depends on the order of the rows. */
typedef struct facs_ranking {
    int64_t positives, negatives;
    int64_t steps;
    float *score;            /* of each step, falling */
    int64_t *true_positive;  /* positives with at least the step's score */
    int64_t *false_positive; /* negatives with at least the step's score */
    uint64_t *keys, *spare;  /* room for sorting */
} facs_ranking;

/* Room for tables of up to `rows` rows; freed by facs_ranking_free (NULL is legal). */
facs_status facs_ranking_create(facs_ranking **out, int64_t rows) FACS_MUST_USE;
void facs_ranking_free(facs_ranking *ranking);

/* Ranks one label of a checked table, in time linear in its rows. */
void facs_ranking_fill(facs_ranking *ranking, const facs_score_table *table, int64_t label);

/* Sum over the steps of precision times the recall gained (no interpolation); NaN without
 * a positive. */
double facs_ranking_average_precision(const facs_ranking *ranking);

/* Chance that a positive scores above a negative, ties counting half; NaN without a
 * positive or without a negative. */
double facs_ranking_roc_auc(const facs_ranking *ranking);

/* The threshold of best F1, a float: the middle of the widest interval of thresholds that
 * reach it (of equally wide ones the highest), hence a midpoint between neighbouring scores,
 * or the upper one where no float lies between; the lowest score where all entries must be
 * predicted. Scores of at least the threshold are predicted. NaN without a positive. */
double facs_ranking_best_threshold(const facs_ranking *ranking);

/* Precision and recall when every score of at least threshold[i] is predicted, thresholds
 * rising, steps entries each, then precision 1 and recall 0 without a threshold: precision
 * and recall have room for steps + 1 entries. Recall is NaN without a positive. */
void facs_ranking_pr_curve(const facs_ranking *ranking, double *precision, double *recall,
                           double *threshold);

#endif
