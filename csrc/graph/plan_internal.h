#ifndef FACS_GRAPH_PLAN_INTERNAL_H
#define FACS_GRAPH_PLAN_INTERNAL_H

#include "graph/plan.h"

/* Shared by the passes that make a plan and the executor; nobody else includes it. */

/* Bytes of the arena that are in use from step `begin` to step `end`. Node i runs forward
 * at step i and backward at step 2 count - 1 - i. */
typedef struct facs_buffer {
    size_t bytes, offset;
    int begin, end;
    int stride;         /* channels to a pixel */
    int counted;        /* a BatchNorm takes batch statistics of what lies here */
    int corrected;      /* ... which give the gradient a correction */
    size_t statistics;  /* offset of mean and variance in the arena */
    size_t corrections; /* ... and of slope and offset */
} facs_buffer;

/* A slice of channels of a buffer. */
typedef struct facs_view {
    int buffer, channel, stride; /* buffer -1: not there */
} facs_view;

typedef struct facs_plan_node {
    facs_node node; /* inputs are indices into the plan's nodes */
    facs_mode mode;
    int source;    /* index in the graph */
    int consumers; /* plan nodes that read the value */
    int needs_gradient;
    int narrow;  /* its value is of bfloat16 */
    int applied; /* a BatchNorm that its readers apply: its views are those of its input */
    int chain;   /* the depthwise convolution of a facs_separable that this node ends, or -1 */
    int step;    /* the node that computes this one: itself, or the end of the last chain */
    int dropped; /* its value is not kept for backward, but replayed where that reads it */
    facs_view value, replayed, gradient;
    int replay_step; /* backward step before which the value is replayed, or -1 */
    int accumulate[FACS_MAX_INPUTS];
    int clear[FACS_MAX_INPUTS]; /* the input's gradient buffer must be zeroed first */
    size_t state;               /* offset of the node's state in the arena */
} facs_plan_node;

/* What a device may record. */
enum {
    FACS_PLAN_PREPARE,
    FACS_PLAN_PREPARE_TRAINED,
    FACS_PLAN_FORWARD,
    FACS_PLAN_BACKWARD,
    FACS_PLAN_RUNS
};

/* The arena of a separate device starts with the words of facs_context.draw. */
enum { FACS_PLAN_DRAW_BYTES = 64 };

struct facs_plan {
    facs_plan_options options;
    const facs_kernels *kernels;
    const facs_parameter *parameters; /* of the graph, borrowed */
    facs_plan_node *nodes;
    int count;
    int *where; /* graph node -> plan node that holds its value, or -1 */
    int graph_count;
    facs_buffer *buffers;
    int buffer_count;
    /* A lane is [buffers][scratch for one thread]. Lane 0 lies last: its scratch serves all
     * threads, so it is longer. */
    size_t lanes_offset, lane_bytes, buffer_bytes;
    size_t corrections, corrections_end; /* where those of all buffers lie, side by side */
    size_t arena_bytes;
    char *arena;
    const facs_device *device;
    size_t inlet, outlet; /* offsets, on a separate device: of a batch of the source as it is,
                             and of the result, dense */
    facs_recording *recordings[FACS_PLAN_RUNS];
    facs_real *parameter_slab, *gradient_slab;
    int64_t images; /* of the last forward */
    uint64_t seed;
    uint32_t step;
    double *profile; /* see facs_plan_profile */
};

/* Kernels of the tensors of node i, and of what it reads, which is what its op calls. */
const facs_kernels *facs_plan_kernels(const facs_plan *plan, int i);
const facs_kernels *facs_plan_op_kernels(const facs_plan *plan, int i);

/* Fills nodes, count and where: range, fusion, modes, which are narrow. */
facs_status facs_plan_lower(facs_plan *plan, const facs_graph *graph);

/* Fills chain and step: convolutions of inference that one kernel does with less memory. */
void facs_plan_fuse(facs_plan *plan);

/* The parts of a chain that ends with node i. */
typedef struct facs_chain {
    int expand, depthwise, project; /* expand -1: none */
    int before;                     /* end of the chain in place of expand; -1: none */
    int residual;                   /* what is added; -1: nothing */
} facs_chain;

facs_chain facs_plan_chain(const facs_plan *plan, int i);

/* c and the chains before it, the last one first; returns how many. */
int facs_plan_chains(const facs_plan *plan, facs_chain c,
                     facs_chain chains[FACS_SEPARABLE_MOST]);

/* The first node of a chain that no other is before. */
static inline int facs_chain_first(facs_chain c)
{
    return c.expand >= 0 ? c.expand : c.depthwise;
}

size_t facs_plan_chain_scratch(const facs_plan *plan, int i, int threads);

/* Whether the value of node i is nowhere, since the end of its chain is. */
static inline int facs_plan_is_inner(const facs_plan *plan, int i)
{
    return plan->nodes[i].step != i;
}

/* Whether node i takes the batch statistics of its own value, or has the gradient of it
 * corrected: it wrote what lies in a buffer that a BatchNorm counts. */
int facs_plan_is_counted(const facs_plan *plan, int i);
int facs_plan_is_corrected(const facs_plan *plan, int i);

/* Whether node i's op takes the statistics itself. A frozen one does not: they are then the
 * same numbers where the plan begins with its value. */
int facs_plan_op_counts(const facs_plan *plan, int i);

/* Fills needs_gradient, applied, dropped, views, buffers with lifetimes, accumulate, clear. */
facs_status facs_plan_trace(facs_plan *plan, const facs_graph *graph);

/* Places buffers so that no two that live at once overlap; returns the bytes needed. */
size_t facs_plan_place(facs_buffer *buffers, int count);

/* The step at which node i runs backward. */
static inline int facs_plan_backward_step(const facs_plan *plan, int i)
{
    return 2 * plan->count - 1 - i;
}

#endif
