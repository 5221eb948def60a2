#ifndef FACS_TRAIN_OPTIMISER_H
#define FACS_TRAIN_OPTIMISER_H

#include "core/device.h"
#include "graph/graph.h"

/* Moves the trained parameters of a graph along their gradients, and can keep a running
 * average of the weights. Weight decay spares BatchNorm and biases. */

typedef enum facs_optimiser_kind {
    FACS_OPTIMISER_ADAM,  /* Kingma and Ba, ICLR 2015 */
    FACS_OPTIMISER_ADAMW, /* Loshchilov and Hutter, ICLR 2019 */
    FACS_OPTIMISER_SGD,   /* with momentum beta1 */
    FACS_OPTIMISER_COUNT
} facs_optimiser_kind;

typedef struct facs_optimiser_options {
    facs_optimiser_kind kind;
    double beta1, beta2, epsilon, weight_decay;
    int nesterov;
    double clip_norm; /* largest norm of all gradients together; 0: any */
    /* Of the average of the weights; 0: none is kept. Step t = 1, 2, ... decays by no more
     * than (1 + t) / (10 + t), so that a short stage leaves its start behind. */
    double average_decay;
} facs_optimiser_options;

typedef struct facs_optimiser facs_optimiser;

/* For the parameters of nodes from first_node on; graph, kernels and device are borrowed, and
 * all numbers lie on the device. The average starts at the values in `parameters`. */
facs_status facs_optimiser_create(facs_optimiser **optimiser, const facs_graph *graph,
                                  const facs_kernels *kernels, const facs_device *device,
                                  int first_node, const facs_real *parameters,
                                  const facs_optimiser_options *options) FACS_MUST_USE;
void facs_optimiser_free(facs_optimiser *optimiser);

/* Bytes of scratch that facs_optimiser_step wants in its context. */
size_t facs_optimiser_scratch(const facs_optimiser *optimiser, int threads);

/* One step. block_rates (one per block, NULL: all 1) multiply the rate. Returns the norm of
 * the gradients before clipping in *norm where it is not NULL. */
void facs_optimiser_step(facs_optimiser *optimiser, const facs_context *context,
                         facs_real *parameters, const facs_real *gradients, double rate,
                         const double *block_rates, double *norm);

/* Exchanges parameters and their average; called again it changes them back. Does nothing
 * where no average is kept. */
void facs_optimiser_swap_average(facs_optimiser *optimiser, facs_real *parameters);

#endif
