#ifndef FACS_GRAPH_PLAN_H
#define FACS_GRAPH_PLAN_H

#include "core/device.h"
#include "graph/graph.h"

/* A plan runs a range of a graph on a device for at most `batch` images: nodes fused for
 * how they are used, every buffer placed in one arena. After it is created nothing is
 * allocated. A plan serves one thread at a time. */

typedef struct facs_plan facs_plan;

/* What is computed again for backward instead of kept: the same bits in less memory and more
 * time. Normalised values are in any case. */
typedef enum facs_recompute {
    FACS_RECOMPUTE_LIGHT,  /* also the largest outputs of depthwise convolutions, on the CPU */
    FACS_RECOMPUTE_BLOCKS, /* also those of convolutions inside a block, and of the first */
    FACS_RECOMPUTE_NORMS   /* nothing besides */
} facs_recompute;

typedef struct facs_plan_options {
    int first; /* this node's value is supplied by the caller; 0 is the graph's input */
    int last;  /* this node's value is the result */
    /* Nodes before `boundary` run in FACS_MODE_INFER, the others in `mode`. */
    int boundary;
    facs_mode mode;
    int64_t batch; /* per lane */
    int threads;
    int lanes; /* only for FACS_MODE_INFER: batches that run side by side, each on one thread */
    /* Kernels of tensors of bfloat16, for everything up to the pooled features; NULL: all are
     * of facs_real. Borrowed. */
    const facs_kernels *narrow;
    int keep; /* nothing that trains is applied by its readers or computed again */
    facs_recompute recompute; /* not beside `keep` */
    const facs_device
        *device; /* of the kernels and of every pointer but a source's; NULL: CPU */
} facs_plan_options;

facs_status facs_plan_create(facs_plan **plan, const facs_graph *graph,
                             const facs_kernels *kernels,
                             const facs_plan_options *options) FACS_MUST_USE;

/* What facs_plan_create would allocate. */
facs_status facs_plan_measure(size_t *bytes, const facs_graph *graph,
                              const facs_kernels *kernels,
                              const facs_plan_options *options) FACS_MUST_USE;

void facs_plan_free(facs_plan *plan);

/* Parameter and gradient slabs (borrowed) laid out by the graph; gradients may be NULL
 * where nothing trains. */
void facs_plan_bind(facs_plan *plan, facs_real *parameters, facs_real *gradients);

/* After the parameters have changed, before forward. */
void facs_plan_prepare(facs_plan *plan);

/* The same where none has changed of nodes before the boundary. */
void facs_plan_prepare_trained(facs_plan *plan);

/* What a caller supplies for the first node: 8-bit pixels, normalised by scale and shift
 * (per channel), numbers, or numbers as bfloat16. Dense NHWC, in the host's memory or the
 * device's, borrowed for the call. */
typedef struct facs_source {
    const uint8_t *pixels;
    const facs_real *numbers;
    const uint16_t *bfloats;
    const int64_t *rows; /* image i is that of this row; NULL: of row i */
    const facs_real *scale, *shift;
    /* Called by facs_plan_infer for image 0 .. n - 1 just before it is loaded, by several
     * workers at once; it may itself use `threads` of them. Where it gives 0 the chunk that the
     * image is in is left out, and so is its output. NULL: not called. */
    int (*seen)(void *watcher, int64_t image, int threads);
    void *watcher;
} facs_source;

/* Writes the first node's value for n <= batch images. */
void facs_plan_load(facs_plan *plan, const facs_source *source, int64_t n);

/* Runs n loaded images. `step` and `seed` pick the dropout. */
void facs_plan_forward(facs_plan *plan, int64_t n, uint64_t seed, uint32_t step);

/* Gradients of the last forward: of the loss node, or with facs_plan_gradient(last) given.
 * Once, since it writes over what forward kept. */
void facs_plan_backward(facs_plan *plan);

/* Any number of images through the lanes; the last value, dense, goes to output, which is the
 * host's. Other than this, only facs_device->wait tells of a device's errors. */
void facs_plan_infer(facs_plan *plan, const facs_source *source, int64_t n, facs_real *output);

/* Value or gradient of a node of the graph in lane 0, for n images; data is NULL where the
 * plan does not have it. Inputs and the result are always there; a value that is computed again
 * for backward is gone after forward, and a gradient may lack its correction. With narrow
 * kernels, those up to the pooled features are bfloat16. */
facs_tensor facs_plan_value(const facs_plan *plan, int node, int64_t n);
facs_tensor facs_plan_gradient(const facs_plan *plan, int node, int64_t n);

/* Images of the last forward; 0 when there is none that backward can follow. */
int64_t facs_plan_images(const facs_plan *plan);

size_t facs_plan_bytes(const facs_plan *plan);

/* A plan's nodes are those of the graph that fusion left. */
int facs_plan_count(const facs_plan *plan);
const facs_node *facs_plan_node_at(const facs_plan *plan, int i);

/* The node that computes node i: itself, or a later one that does so in passing. */
int facs_plan_step_of(const facs_plan *plan, int i);

/* From here on forward and backward add the seconds of node i to seconds[i] and to
 * seconds[count + i]; what is computed again for backward counts there. Borrowed; NULL ends
 * it. Not for inference in several lanes. */
void facs_plan_profile(facs_plan *plan, double *seconds);
const facs_plan_options *facs_plan_get_options(const facs_plan *plan);

#endif
