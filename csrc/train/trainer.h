#ifndef FACS_TRAIN_TRAINER_H
#define FACS_TRAIN_TRAINER_H

#include "nets/session.h"
#include "train/optimiser.h"
#include "train/schedule.h"

/* Trains one stage: which blocks, on what, with which loss, optimiser and rate. A step
 * after the first allocates nothing. */

typedef struct facs_stage {
    int first_block;       /* this block and the later ones train */
    int from_boundary;     /* batches are the value that enters first_block, not images */
    int stored_statistics; /* BatchNorm uses its running statistics and leaves them alone */
    int recompute;         /* see facs_plan_options */
    double rate;
    const double *block_rates; /* one per block, multiply the rate; NULL: all 1. Copied */
    facs_schedule schedule;
    facs_loss_kind loss;
    facs_loss_options loss_options; /* its weights are copied */
    facs_optimiser_options optimiser;
} facs_stage;

typedef struct facs_trainer facs_trainer;

/* The session is borrowed and must outlive the trainer. */
facs_status facs_trainer_create(facs_trainer **trainer, facs_session *session,
                                const facs_stage *stage, int64_t batch,
                                uint64_t seed) FACS_MUST_USE;
void facs_trainer_free(facs_trainer *trainer);

typedef struct facs_training_batch {
    const uint8_t *pixels;    /* (n, h, w, 3), or */
    const facs_real *numbers; /* (n, h, w, 3) scaled; from the boundary (n, h, w, c), or */
    const uint16_t *bfloats;  /* the same as bfloat16 */
    const int64_t *rows;      /* (n): image i is that of this row; NULL: of row i */
    const facs_real *target, *mask; /* (n, labels) */
    int64_t n;                      /* at most the trainer's batch */
} facs_training_batch;

typedef struct facs_step_report {
    double loss, rate, gradient_norm; /* the norm only where gradients are clipped, else NaN */
} facs_step_report;

/* One optimiser step at `epoch` (fractional: it sets the rate). A loss or gradient that is
 * not finite is FACS_E_ARG: the step is not taken and the message names the layer nearest to
 * the loss whose gradient is not. */
facs_status facs_trainer_step(facs_trainer *trainer, const facs_training_batch *batch,
                              double epoch, facs_step_report *report) FACS_MUST_USE;

/* The validation score of a finished epoch (larger is better), for a plateau schedule. */
void facs_trainer_observe(facs_trainer *trainer, double score);

/* Exchanges the weights with their average; called again it changes them back. */
facs_status facs_trainer_swap_average(facs_trainer *trainer) FACS_MUST_USE;

size_t facs_trainer_bytes(const facs_trainer *trainer);

#endif
