#ifndef FACS_GRAPH_RUN_H
#define FACS_GRAPH_RUN_H

#include "graph/plan_internal.h"

/* What the executor gives the operations of a plan's nodes: their tensors in the arena, their
 * parameters, and the norms that they apply, begin and finish. */

/* Which buffers of the arena a run uses, and how its kernels are threaded. */
typedef struct facs_run {
    facs_plan *plan;
    int lane, threads;
    int64_t images;
} facs_run;

char *facs_run_buffers(const facs_run *r);
facs_context facs_run_context(const facs_run *r);
facs_tensor facs_run_tensor(const facs_run *r, const facs_plan_node *p, facs_view view);

/* The BatchNorm that begins with the moments that node i, a dense or depthwise convolution
 * whose kernels do so, takes of all that it writes; else -1. */
int facs_run_beginner(const facs_plan *plan, int i);

facs_call facs_run_call(const facs_run *r, int i);

/* The values that node i reads and gives, as they are during backward. */
facs_call facs_run_backward_call(const facs_run *r, int i);

#endif
