#ifndef FACS_TRAIN_SCHEDULE_H
#define FACS_TRAIN_SCHEDULE_H

/* Learning rate over a stage, as a factor of the stage's rate. */

typedef enum facs_schedule_kind {
    FACS_SCHEDULE_CONSTANT,
    FACS_SCHEDULE_STEP,    /* times `factor` every `period` epochs */
    FACS_SCHEDULE_COSINE,  /* to `factor` along half a cosine (Loshchilov and Hutter, ICLR 2017)
                            */
    FACS_SCHEDULE_PLATEAU, /* times `factor` after `period` epochs without a better score */
    FACS_SCHEDULE_COUNT
} facs_schedule_kind;

typedef struct facs_schedule {
    facs_schedule_kind kind;
    double warmup; /* epochs over which the rate rises from 0 */
    double epochs; /* of the stage */
    double factor, period;
} facs_schedule;

/* What a plateau remembers; start from {.best = -INFINITY, .factor = 1}. */
typedef struct facs_plateau {
    double best, factor;
    int waited;
} facs_plateau;

/* Factor at `epoch` (fractional within an epoch). plateau is read for that kind alone. */
double facs_schedule_factor(const facs_schedule *schedule, double epoch,
                            const facs_plateau *plateau);

/* Tells a plateau the score of a finished epoch; larger is better, NaN counts as no better. */
void facs_plateau_observe(facs_plateau *plateau, const facs_schedule *schedule, double score);

#endif
