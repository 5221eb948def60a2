#ifndef FACS_NETS_SESSION_H
#define FACS_NETS_SESSION_H

#include "graph/plan.h"
#include "kernel/plugin.h"
#include "nets/network.h"

/* A network on a device: kernels, threads, gradients and the plans made so far, each for
 * the use that first asked for it. One thread at a time. */

typedef struct facs_session facs_session;

typedef enum facs_stretch {
    FACS_STRETCH_LOGITS,   /* image to logits */
    FACS_STRETCH_FEATURES, /* image to pooled features */
    FACS_STRETCH_HEAD,     /* pooled features to logits */
    FACS_STRETCH_BELOW,    /* image to the value that enters a block */
    FACS_STRETCH_ABOVE,    /* that value to logits */
    FACS_STRETCH_COUNT
} facs_stretch;

/* What activations and their gradients are kept as up to the pooled features, and multiplied
 * as where the processor can. Weights, sums, statistics and all behind are facs_real. */
typedef enum facs_precision {
    FACS_PRECISION_FLOAT32,
    FACS_PRECISION_BFLOAT16,
    FACS_PRECISION_COUNT
} facs_precision;

/* Takes the network over. limit: the highest rung of kernels, or NULL. threads 0: as many
 * as the process may use; at most FACS_MOST_THREADS. plugin: the device to run on, borrowed;
 * NULL is the CPU. */
facs_status facs_session_create(facs_session **session, facs_network *network,
                                const char *limit, int threads, facs_precision precision,
                                const facs_plugin *plugin) FACS_MUST_USE;
void facs_session_free(facs_session *session);

facs_network *facs_session_network(const facs_session *session);
const facs_kernels *facs_session_kernels(const facs_session *session);
const facs_kernels *facs_session_narrow(const facs_session *session); /* NULL in float32 */
int facs_session_threads(const facs_session *session);
const facs_device *facs_session_device(const facs_session *session);

/* Gradient slab in the device's memory, laid out as the parameters; made on first use. */
facs_status facs_session_gradients(facs_session *session, facs_real **gradients) FACS_MUST_USE;

/* The same in the host's memory, as of now. */
facs_status facs_session_read_gradients(facs_session *session,
                                        facs_real **gradients) FACS_MUST_USE;

/* The parameters in the device's memory, up to date; on the CPU they are the network's. */
facs_status facs_session_parameters(facs_session *session,
                                    facs_real **parameters) FACS_MUST_USE;

/* To be called whenever the network's parameters were written, or those of the device. */
void facs_session_touch(facs_session *session);
void facs_session_moved(facs_session *session);

/* Brings the network's parameters up to date with the device's. */
facs_status facs_session_fetch(facs_session *session) FACS_MUST_USE;

/* Changes with every touch. */
unsigned facs_session_version(const facs_session *session);

/* 8-bit pixels become scale * pixel + shift, per channel. */
void facs_session_set_pixels(facs_session *session, const facs_real scale[3],
                             const facs_real shift[3]);
void facs_session_get_pixels(const facs_session *session, facs_real scale[3],
                             facs_real shift[3]);

/* n images (or feature vectors) with stored statistics; output is dense. Scale and shift of
 * the source are set here. */
facs_status facs_session_infer(facs_session *session, facs_stretch stretch, facs_source source,
                               int64_t n, facs_real *output) FACS_MUST_USE;

/* The same below and above a block: image to the value that enters it, and from there to the
 * logits. Fails as facs_graph_boundary does. */
facs_status facs_session_infer_below(facs_session *session, int block, facs_source source,
                                     int64_t n, facs_real *output) FACS_MUST_USE;
facs_status facs_session_infer_above(facs_session *session, int block, facs_source source,
                                     int64_t n, facs_real *output) FACS_MUST_USE;

/* Image to logits, ready for facs_session_backward, which writes the gradients of all
 * parameters (those of running statistics stay 0), once. mode: not FACS_MODE_INFER; logits
 * NULL: not wanted. */
facs_status facs_session_forward(facs_session *session, facs_mode mode, const uint8_t *pixels,
                                 const facs_real *numbers, int64_t n, uint64_t seed,
                                 uint32_t step, facs_real *logits) FACS_MUST_USE;
/* dlogits is (n, labels), dense; FACS_E_SHAPE where the forward was not of n images. */
facs_status facs_session_backward(facs_session *session, const facs_real *dlogits,
                                  int64_t n) FACS_MUST_USE;

/* Arena bytes of inference, which are the same for every batch, or of a training step from a
 * block on, with loss; recompute: see facs_plan_options. */
facs_status facs_session_measure(const facs_session *session, int64_t batch, int training,
                                 int block, int recompute, size_t *bytes) FACS_MUST_USE;

/* A copy of the network's graph with target, mask and loss behind the logits. */
typedef struct facs_training_graph {
    facs_graph graph; /* free with facs_free(graph.nodes) */
    int target, mask, loss;
} facs_training_graph;

facs_status facs_training_graph_create(facs_training_graph *training,
                                       const facs_network *network, facs_loss_kind kind,
                                       const facs_loss_options *options) FACS_MUST_USE;

#endif
