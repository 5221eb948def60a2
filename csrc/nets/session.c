#include "nets/session.h"

#include "core/memory.h"
#include "core/threads.h"

#include <string.h>

/* Images that one lane takes through the network at a time. On 2 cores with 1 MiB of L2,
 * 1 to 4 are equally fast; more leave the caches. */
enum { LANE_BATCH = 2 };

/* The same of a separate device, whose processors want all of a batch at once. */
enum { DEVICE_BATCH = 256 };

struct facs_session {
    facs_network *network;
    facs_kernels kernels, narrow;
    facs_precision precision;
    int threads;
    facs_real scale[3], shift[3];
    const facs_device *device;
    facs_real *parameters, *gradients; /* the device's; on the CPU the network's */
    facs_real *read_gradients;         /* a copy of the host's */
    unsigned version;                  /* of the parameters */
    unsigned uploaded;                 /* version that the device has */
    int moved;                         /* the device's are newer */
    facs_plan *inference[FACS_STRETCH_COUNT];
    unsigned prepared[FACS_STRETCH_COUNT];
    int entry[FACS_STRETCH_COUNT]; /* node between BELOW and ABOVE when their plan was made */
    facs_plan *training;           /* for facs_session_forward */
};

/* The gradient checks' build in double has one kind of number. */
static int select_narrow(facs_session *s, facs_precision precision, const char *limit)
{
#ifdef FACS_DOUBLE
    (void)s, (void)limit;
    return precision == FACS_PRECISION_FLOAT32;
#else
    return precision == FACS_PRECISION_FLOAT32 ||
           facs_kernels_select_bfloat16(&s->narrow, limit);
#endif
}

static facs_status select_kernels(facs_session *s, facs_precision precision, const char *limit,
                                  const facs_plugin *plugin)
{
    s->device = plugin ? plugin->device : &facs_device_cpu;
    s->precision = precision;
    if (plugin) {
        s->kernels = *plugin->kernels;
        s->narrow = *plugin->narrow;
        return FACS_OK;
    }
    if (facs_kernels_select(&s->kernels, limit) && select_narrow(s, precision, limit))
        return FACS_OK;
    return facs_fail(FACS_E_ARG, "FACS_CPU is '%s', which this machine does not have", limit);
}

facs_status facs_session_create(facs_session **out, facs_network *network, const char *limit,
                                int threads, facs_precision precision,
                                const facs_plugin *plugin)
{
    facs_session *s;

    *out = NULL;
    if (threads < 0 || threads > FACS_MOST_THREADS)
        return facs_fail(FACS_E_ARG, "threads is %d, want 1 to %d", threads, FACS_MOST_THREADS);
    FACS_TRY(facs_allocate(&s, 1, sizeof *s, "session"));
    const facs_status status = select_kernels(s, precision, limit, plugin);
    if (status != FACS_OK) {
        facs_free(s);
        return status;
    }
    s->threads = plugin ? 1 : threads > 0 ? threads : facs_threads_default();
    if (!plugin) s->parameters = network->parameters;
    s->network = network;
    s->version = 1;
    for (int i = 0; i < 3; i++) s->scale[i] = 1;
    *out = s;
    return FACS_OK;
}

void facs_session_free(facs_session *s)
{
    if (!s) return;
    for (int i = 0; i < FACS_STRETCH_COUNT; i++) facs_plan_free(s->inference[i]);
    facs_plan_free(s->training);
    s->device->release(s->gradients);
    if (s->parameters != s->network->parameters) s->device->release(s->parameters);
    if (s->read_gradients != s->gradients) facs_free(s->read_gradients);
    facs_network_free(s->network);
    facs_free(s);
}

facs_network *facs_session_network(const facs_session *s)
{
    return s->network;
}

const facs_kernels *facs_session_kernels(const facs_session *s)
{
    return &s->kernels;
}

const facs_kernels *facs_session_narrow(const facs_session *s)
{
    return s->precision == FACS_PRECISION_BFLOAT16 ? &s->narrow : NULL;
}

int facs_session_threads(const facs_session *s)
{
    return s->threads;
}

const facs_device *facs_session_device(const facs_session *s)
{
    return s->device;
}

/* Of the parameters, and of their gradients. */
static size_t slab_bytes(const facs_session *s)
{
    return (size_t)s->network->graph.parameter_numbers * sizeof(facs_real);
}

facs_status facs_session_gradients(facs_session *s, facs_real **gradients)
{
    if (!s->gradients) FACS_TRY(s->device->allocate(&s->gradients, slab_bytes(s), "gradients"));
    *gradients = s->gradients;
    return FACS_OK;
}

facs_status facs_session_read_gradients(facs_session *s, facs_real **gradients)
{
    facs_real *there;

    FACS_TRY(facs_session_gradients(s, &there));
    *gradients = there;
    if (!s->device->separate) return FACS_OK;
    if (!s->read_gradients)
        FACS_TRY(facs_allocate_slab(&s->read_gradients, slab_bytes(s), "gradients"));
    *gradients = s->read_gradients;
    s->device->download(s->read_gradients, there, slab_bytes(s));
    return s->device->wait();
}

facs_status facs_session_parameters(facs_session *s, facs_real **parameters)
{
    if (s->device->separate && s->uploaded != s->version) {
        if (!s->parameters)
            FACS_TRY(s->device->allocate(&s->parameters, slab_bytes(s), "parameters"));
        s->device->upload(s->parameters, s->network->parameters, slab_bytes(s));
        s->uploaded = s->version;
    }
    *parameters = s->parameters;
    return FACS_OK;
}

void facs_session_touch(facs_session *s)
{
    s->version++;
    s->moved = 0;
}

void facs_session_moved(facs_session *s)
{
    s->uploaded = ++s->version;
    s->moved = 1;
}

facs_status facs_session_fetch(facs_session *s)
{
    if (!s->device->separate || !s->moved) return FACS_OK;
    s->device->download(s->network->parameters, s->parameters, slab_bytes(s));
    s->moved = 0;
    return s->device->wait();
}

unsigned facs_session_version(const facs_session *s)
{
    return s->version;
}

void facs_session_set_pixels(facs_session *s, const facs_real scale[3],
                             const facs_real shift[3])
{
    memcpy(s->scale, scale, sizeof s->scale);
    memcpy(s->shift, shift, sizeof s->shift);
}

void facs_session_get_pixels(const facs_session *s, facs_real scale[3], facs_real shift[3])
{
    memcpy(scale, s->scale, sizeof s->scale);
    memcpy(shift, s->shift, sizeof s->shift);
}

static facs_plan_options inference_options(const facs_session *s, facs_stretch stretch,
                                           int entry)
{
    const facs_network *net = s->network;
    const int first[FACS_STRETCH_COUNT] = {[FACS_STRETCH_LOGITS] = net->input,
                                           [FACS_STRETCH_FEATURES] = net->input,
                                           [FACS_STRETCH_HEAD] = net->features,
                                           [FACS_STRETCH_BELOW] = net->input,
                                           [FACS_STRETCH_ABOVE] = entry};
    const int last[FACS_STRETCH_COUNT] = {[FACS_STRETCH_LOGITS] = net->logits,
                                          [FACS_STRETCH_FEATURES] = net->features,
                                          [FACS_STRETCH_HEAD] = net->logits,
                                          [FACS_STRETCH_BELOW] = entry,
                                          [FACS_STRETCH_ABOVE] = net->logits};
    return (facs_plan_options){
        .first = first[stretch],
        .last = last[stretch],
        .boundary = net->graph.count,
        .mode = FACS_MODE_INFER,
        .batch = s->device->separate ? DEVICE_BATCH : LANE_BATCH,
        .threads = s->threads,
        .lanes = s->threads,
        .narrow = facs_session_narrow(s),
        .device = s->device,
    };
}

static facs_status infer(facs_session *s, facs_stretch stretch, int entry, facs_source source,
                         int64_t n, facs_real *output)
{
    facs_plan **plan = &s->inference[stretch];
    facs_real *parameters;

    FACS_TRY(facs_session_parameters(s, &parameters));
    if (*plan && s->entry[stretch] != entry) {
        facs_plan_free(*plan);
        *plan = NULL;
    }
    if (!*plan) {
        const facs_plan_options options = inference_options(s, stretch, entry);
        FACS_TRY(facs_plan_create(plan, &s->network->graph, &s->kernels, &options));
        facs_plan_bind(*plan, parameters, NULL);
        s->entry[stretch] = entry;
        s->prepared[stretch] = 0;
    }
    if (s->prepared[stretch] != s->version) {
        facs_plan_prepare(*plan);
        s->prepared[stretch] = s->version;
    }
    source.scale = s->scale;
    source.shift = s->shift;
    facs_plan_infer(*plan, &source, n, output);
    return s->device->wait();
}

facs_status facs_session_infer(facs_session *s, facs_stretch stretch, facs_source source,
                               int64_t n, facs_real *output)
{
    return infer(s, stretch, 0, source, n, output);
}

facs_status facs_session_infer_below(facs_session *s, int block, facs_source source, int64_t n,
                                     facs_real *output)
{
    int entry;

    FACS_TRY(facs_graph_boundary(&s->network->graph, block, &entry));
    return infer(s, FACS_STRETCH_BELOW, entry, source, n, output);
}

facs_status facs_session_infer_above(facs_session *s, int block, facs_source source, int64_t n,
                                     facs_real *output)
{
    int entry;

    FACS_TRY(facs_graph_boundary(&s->network->graph, block, &entry));
    return infer(s, FACS_STRETCH_ABOVE, entry, source, n, output);
}

static facs_status training_plan(facs_session *s, facs_mode mode, int64_t n)
{
    const facs_plan_options *have = s->training ? facs_plan_get_options(s->training) : NULL;
    facs_real *gradients, *parameters;

    FACS_TRY(facs_session_gradients(s, &gradients));
    FACS_TRY(facs_session_parameters(s, &parameters));
    if (!have || have->mode != mode || have->batch < n) {
        const facs_plan_options options = {.first = s->network->input,
                                           .last = s->network->logits,
                                           .mode = mode,
                                           .batch = n,
                                           .threads = s->threads,
                                           .lanes = 1,
                                           .narrow = facs_session_narrow(s),
                                           .device = s->device};
        facs_plan_free(s->training);
        s->training = NULL;
        FACS_TRY(facs_plan_create(&s->training, &s->network->graph, &s->kernels, &options));
        facs_plan_bind(s->training, parameters, gradients);
    }
    return FACS_OK;
}

facs_status facs_session_forward(facs_session *s, facs_mode mode, const uint8_t *pixels,
                                 const facs_real *numbers, int64_t n, uint64_t seed,
                                 uint32_t step, facs_real *logits)
{
    const facs_source source = {
        .pixels = pixels, .numbers = numbers, .scale = s->scale, .shift = s->shift};

    FACS_TRY(training_plan(s, mode, n));
    facs_plan_prepare(s->training);
    facs_plan_load(s->training, &source, n);
    facs_plan_forward(s->training, n, seed, step);
    const facs_tensor y = facs_plan_value(s->training, s->network->logits, n);
    if (logits) s->device->download(logits, y.data, (size_t)(y.n * y.c) * sizeof *logits);
    if (mode == FACS_MODE_TRAIN) /* running statistics moved */
        facs_session_moved(s);
    return s->device->wait();
}

facs_status facs_session_backward(facs_session *s, const facs_real *dlogits, int64_t n)
{
    const int64_t images = s->training ? facs_plan_images(s->training) : 0;
    const int labels = s->network->options.labels;

    if (!images)
        return facs_fail(FACS_E_ARG, "backward: there was no forward pass before it, and each "
                                     "serves for one backward");
    if (n != images)
        return facs_fail(FACS_E_SHAPE, "dlogits: shape is (%lld, %d), want (%lld, %d)",
                         (long long)n, labels, (long long)images, labels);
    const facs_tensor dy = facs_plan_gradient(s->training, s->network->logits, n);
    s->device->upload(dy.data, dlogits, (size_t)(dy.n * dy.c) * sizeof *dlogits);
    facs_plan_backward(s->training);
    return s->device->wait();
}

facs_status facs_training_graph_create(facs_training_graph *t, const facs_network *network,
                                       facs_loss_kind kind, const facs_loss_options *options)
{
    const int labels = network->options.labels;

    FACS_TRY(facs_graph_borrow(&t->graph, &network->graph));
    facs_builder b = facs_builder_begin(&t->graph);
    t->target = facs_build_input(&b, "target", 1, 1, labels);
    t->mask = facs_build_input(&b, "mask", 1, 1, labels);
    t->loss = facs_build_loss(&b, "loss", network->logits, t->target, t->mask, kind, options);
    if (b.status != FACS_OK) {
        facs_free(t->graph.nodes);
        t->graph.nodes = NULL;
    }
    return b.status;
}

facs_status facs_session_measure(const facs_session *s, int64_t batch, int training, int block,
                                 int recompute, size_t *bytes)
{
    const facs_loss_options loss = {.epsilon = (facs_real)1e-7};
    facs_training_graph t;

    if (batch < 1)
        return facs_fail(FACS_E_ARG, "batch is %lld, want at least 1", (long long)batch);
    if (!training) {
        const facs_plan_options options = inference_options(s, FACS_STRETCH_LOGITS, 0);
        return facs_plan_measure(bytes, &s->network->graph, &s->kernels, &options);
    }
    FACS_TRY(facs_training_graph_create(&t, s->network, FACS_LOSS_BCE, &loss));
    const facs_plan_options options = {.first = s->network->input,
                                       .last = t.loss,
                                       .boundary = facs_graph_block_start(&t.graph, block),
                                       .mode = FACS_MODE_TRAIN,
                                       .batch = batch,
                                       .threads = s->threads,
                                       .lanes = 1,
                                       .narrow = facs_session_narrow(s),
                                       .recompute = recompute ? FACS_RECOMPUTE_BLOCKS
                                                              : FACS_RECOMPUTE_LIGHT,
                                       .device = s->device};
    const facs_status status = facs_plan_measure(bytes, &t.graph, &s->kernels, &options);
    facs_free(t.graph.nodes);
    return status;
}
