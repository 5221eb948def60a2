#include "check.h"

#include "core/rng.h"
#include "graph/plan_internal.h"
#include "nets/network.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Properties of plans: no two live buffers overlap, and what a plan computes does not depend
 * on how it keeps, splits or places things. */

static void check_no_overlap(const facs_buffer *buffers, int count, size_t peak)
{
    int clashes = 0;
    for (int i = 0; i < count; i++) {
        const facs_buffer *a = &buffers[i];
        if (a->end < a->begin) continue;
        clashes += a->offset + a->bytes > peak;
        for (int j = 0; j < i; j++) {
            const facs_buffer *b = &buffers[j];
            const int live = b->end >= b->begin && a->begin <= b->end && b->begin <= a->end;
            clashes +=
                live && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
        }
    }
    CHECK(clashes == 0);
}

static void test_placing(void)
{
    enum { COUNT = 60 };
    facs_rng rng = facs_rng_stream(1, FACS_RNG_SHUFFLE, 0, 0);
    for (int round = 0; round < 50; round++) {
        facs_buffer buffers[COUNT];
        size_t most = 0, live[101] = {0};
        for (int i = 0; i < COUNT; i++) {
            const int begin = (int)facs_rng_below(&rng, 100);
            buffers[i] = (facs_buffer){.bytes = 64 * (1 + (size_t)facs_rng_below(&rng, 50)),
                                       .begin = begin,
                                       .end = begin - 1 + (int)facs_rng_below(&rng, 20)};
            for (int t = buffers[i].begin; t <= buffers[i].end && t <= 100; t++)
                live[t] += buffers[i].bytes;
        }
        for (int t = 0; t <= 100; t++) most = live[t] > most ? live[t] : most;
        const size_t peak = facs_plan_place(buffers, COUNT);
        check_no_overlap(buffers, COUNT, peak);
        CHECK(peak >= most);
        CHECK(peak <= 2 * most);
    }
}

enum { SIDE = 64, IMAGES = 3, LABELS = 2 };

static facs_network *make_network(const char *name)
{
    const facs_network_options options = {.input_size = SIDE,
                                          .labels = LABELS,
                                          .width = 0.25,
                                          .padding = FACS_PADDING_SAME,
                                          .activation = {0, 6},
                                          .epsilon = 1e-3,
                                          .dropout = 0.2};
    facs_network *network;
    CHECK_OK(facs_network_create(&network, name, &options, 5));
    return network;
}

static facs_plan_options training_options(const facs_network *network)
{
    return (facs_plan_options){.first = network->input,
                               .last = network->logits,
                               .mode = FACS_MODE_TRAIN,
                               .batch = IMAGES,
                               .threads = 2,
                               .lanes = 1};
}

static facs_plan_options inference_options(const facs_network *network, int64_t batch)
{
    return (facs_plan_options){.first = network->input,
                               .last = network->logits,
                               .boundary = network->graph.count,
                               .mode = FACS_MODE_INFER,
                               .batch = batch,
                               .threads = 2,
                               .lanes = 2};
}

static facs_real input[IMAGES * SIDE * SIDE * 3];

/* What a step of n images with fixed input and dlogits leaves: the gradients of all parameters,
 * then the parameters with their running statistics. The caller frees it. */
static facs_real *step_of(const facs_network *network, const facs_kernels *kernels,
                          const facs_plan_options *options, int64_t n)
{
    const facs_source source = {.numbers = input};
    const size_t count = (size_t)network->graph.parameter_numbers;
    facs_real *gradients = calloc(2 * count, sizeof *gradients);
    facs_plan *plan;
    size_t measured;

    memcpy(gradients + count, network->parameters, count * sizeof *gradients);
    CHECK_OK(facs_plan_create(&plan, &network->graph, kernels, options));
    CHECK_OK(facs_plan_measure(&measured, &network->graph, kernels, options));
    CHECK(measured == facs_plan_bytes(plan));
    check_no_overlap(plan->buffers, plan->buffer_count, plan->buffer_bytes);
    facs_plan_bind(plan, gradients + count, gradients);
    facs_plan_prepare(plan);
    facs_plan_load(plan, &source, n);
    facs_plan_forward(plan, n, 3, 1);
    facs_tensor dy = facs_plan_gradient(plan, network->logits, n);
    for (int i = 0; i < n * LABELS; i++) dy.data[i] = (facs_real)(i - 2);
    facs_plan_backward(plan);
    facs_plan_free(plan);
    return gradients;
}

static int has_batchnorm(const facs_network *network)
{
    int found = 0; /* beside the one of the head */
    for (int i = 0; i < network->features; i++)
        found |= network->graph.nodes[i].op == FACS_OP_BATCHNORM;
    return found;
}

/* Distance of two gradients against the length of one. */
static double distance(const facs_real *a, const facs_real *b, int64_t count)
{
    double difference = 0, length = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += (double)(a[i] - b[i]) * (a[i] - b[i]);
        length += (double)b[i] * b[i];
    }
    return sqrt(difference / length);
}

static void test_applying_equals_keeping(const facs_network *network,
                                         const facs_kernels *kernels)
{
    facs_plan_options options = training_options(network);
    facs_real *applied = step_of(network, kernels, &options, IMAGES);
    size_t small, large;

    options.keep = 1;
    facs_real *kept = step_of(network, kernels, &options, IMAGES);
    options.keep = 0;

    /* sums in another order */
    CHECK(distance(applied, kept, network->graph.parameter_numbers) < 1e-4);
    CHECK_OK(facs_plan_measure(&small, &network->graph, kernels, &options));
    options.keep = 1;
    CHECK_OK(facs_plan_measure(&large, &network->graph, kernels, &options));
    CHECK(small < large || !has_batchnorm(network));
    free(applied);
    free(kept);
}

/* Values of the first pooling of a DenseNet at its usual size, and the gradients below it;
 * returns the value, which the caller frees. */
static facs_real *pool_of(const facs_network *network, const facs_kernels *kernels, int keep,
                          facs_real *gradients, int64_t *count)
{
    facs_plan_options options = training_options(network);
    const size_t bytes = (size_t)network->graph.parameter_numbers * sizeof(facs_real);
    const size_t numbers = (size_t)IMAGES * 224 * 224 * 3;
    facs_real *parameters = malloc(bytes), *pixels = malloc(numbers * sizeof *pixels);
    facs_plan *plan;

    for (size_t i = 0; i < numbers; i++) pixels[i] = (facs_real)(i * 7919 % 251) / 125 - 1;
    memcpy(parameters, network->parameters, bytes);
    options.last = facs_graph_find_node(&network->graph, "features.pool0");
    options.keep = keep;
    CHECK_OK(facs_plan_create(&plan, &network->graph, kernels, &options));
    facs_plan_bind(plan, parameters, gradients);
    facs_plan_prepare(plan);
    facs_plan_load(plan, &(facs_source){.numbers = pixels}, IMAGES);
    facs_plan_forward(plan, IMAGES, 0, 0);
    const facs_tensor y = facs_plan_value(plan, options.last, IMAGES);
    *count = facs_tensor_pixels(&y) * y.c;
    facs_real *value = malloc((size_t)*count * sizeof *value);
    memcpy(value, y.data, (size_t)*count * sizeof *value);
    facs_tensor dy = facs_plan_gradient(plan, options.last, IMAGES);
    for (int64_t i = 0; i < *count; i++) dy.data[i] = (facs_real)(i * 31 % 103) / 50 - 1;
    facs_plan_backward(plan);
    facs_plan_free(plan);
    free(parameters);
    free(pixels);
    return value;
}

static int64_t everything(void)
{
    return INT64_MAX;
}

/* A maximum that applies its BatchNorm to two images and then to one gives the bits of a whole
 * batch, at once or kept, and its gradients but for the order of the sums. */
static void test_maximum_in_parts(const facs_kernels *kernels)
{
    const facs_network_options o = {
        .input_size = 224, .labels = LABELS, .width = 1, .activation = {0, 6}, .epsilon = 1e-3};
    facs_network *network;
    CHECK_OK(facs_network_create(&network, "densenet121", &o, 5));
    const size_t bytes = (size_t)network->graph.parameter_numbers * sizeof(facs_real);
    const int64_t some = network->graph.parameters[2].offset +
                         network->graph.parameters[2].count; /* conv0, norm0's gamma, beta */
    facs_real *gradients[3] = {calloc(1, bytes), calloc(1, bytes), calloc(1, bytes)};
    facs_kernels greedy = *kernels;
    int64_t count;

    greedy.maxpool_part = everything;
    facs_real *parts = pool_of(network, kernels, 0, gradients[0], &count);
    facs_real *whole = pool_of(network, kernels, 1, gradients[1], &count);
    facs_real *once = pool_of(network, &greedy, 0, gradients[2], &count);
    CHECK(memcmp(parts, whole, (size_t)count * sizeof *parts) == 0);
    CHECK(memcmp(parts, once, (size_t)count * sizeof *parts) == 0);
    CHECK(distance(gradients[0], gradients[1], some) < 1e-4);
    CHECK(distance(gradients[0], gradients[2], some) < 1e-4);
    free(parts);
    free(whole);
    free(once);
    for (int i = 0; i < 3; i++) free(gradients[i]);
    facs_network_free(network);
}

/* Kernels that finish norms, as those of a GPU do: the usual ones, with the row behind them. */
static facs_kernels usual;

static int yes(void)
{
    return 1;
}

static void finish(const facs_norm *norm, int channels)
{
    const facs_norm_end *e = &norm->end;
    if (norm->sum && e->count)
        usual.norm_bwd_finish(e->dgamma, e->dbeta, e->slope, e->offset, channels, norm,
                              e->variance, e->epsilon, e->count);
}

static void begin(const facs_moments *moments, const facs_tensor *y)
{
    if (!moments || !moments->begin.sums) return;
    const facs_norm_begin *b = &moments->begin;
    usual.batchnorm_begin(b->scale, b->shift, b->sums, y->c, b->gamma, b->beta, moments->mean,
                          moments->variance, b->epsilon, b->running_mean, b->running_variance,
                          b->momentum, facs_tensor_pixels(y));
}

static void beginning_conv(const facs_context *ctx, const facs_conv *g, const facs_tensor *y,
                           const facs_tensor *x, const facs_norm *norm, const facs_real *packed,
                           const facs_real *bias, facs_clamp clamp, const facs_moments *moments)
{
    usual.conv_fwd(ctx, g, y, x, norm, packed, bias, clamp, moments);
    begin(moments, y);
}

static void beginning_dwconv(const facs_context *ctx, const facs_conv *g, const facs_tensor *y,
                             const facs_tensor *x, const facs_norm *norm,
                             const facs_real *packed, const facs_real *bias, facs_clamp clamp,
                             const facs_moments *moments)
{
    usual.dwconv_fwd(ctx, g, y, x, norm, packed, bias, clamp, moments);
    begin(moments, y);
}

static void finishing_conv(const facs_context *ctx, const facs_conv *g, const facs_tensor *dx,
                           facs_real *dw, const facs_tensor *x, const facs_norm *norm,
                           const facs_tensor *dy, const facs_correction *correction,
                           const facs_real *packed, int accumulate)
{
    usual.conv_bwd(ctx, g, dx, dw, x, norm, dy, correction, packed, accumulate);
    if (norm) finish(norm, g->ci);
}

static void finishing_dwconv(const facs_context *ctx, const facs_conv *g, const facs_tensor *dx,
                             facs_real *dw, const facs_tensor *x, const facs_norm *norm,
                             const facs_tensor *dy, const facs_correction *correction,
                             const facs_real *packed, int accumulate)
{
    usual.dwconv_bwd(ctx, g, dx, dw, x, norm, dy, correction, packed, accumulate);
    if (norm) finish(norm, g->ci);
}

static void finishing_norm(const facs_context *ctx, const facs_tensor *dx, const facs_tensor *x,
                           const facs_norm *norm, const facs_tensor *dy, int accumulate)
{
    usual.norm_bwd(ctx, dx, x, norm, dy, accumulate);
    finish(norm, x->c);
}

static int norms_begun, norms_left;

static void counting_begin(facs_real *scale, facs_real *shift, facs_real *sums, int c,
                           const facs_real *gamma, const facs_real *beta, const facs_real *mean,
                           const facs_real *variance, facs_real epsilon,
                           facs_real *running_mean, facs_real *running_variance,
                           facs_real momentum, int64_t count)
{
    norms_begun++;
    usual.batchnorm_begin(scale, shift, sums, c, gamma, beta, mean, variance, epsilon,
                          running_mean, running_variance, momentum, count);
}

static void counting_finish(facs_real *dgamma, facs_real *dbeta, facs_real *slope,
                            facs_real *offset, int c, const facs_norm *norm,
                            const facs_real *variance, facs_real epsilon, int64_t count)
{
    norms_left++;
    usual.norm_bwd_finish(dgamma, dbeta, slope, offset, c, norm, variance, epsilon, count);
}

/* It does not matter who does what follows a norm's moments and its sums. */
static void test_finishing_norms(const facs_network *network, const facs_kernels *kernels)
{
    const facs_plan_options options = training_options(network);
    const int64_t count = 2 * network->graph.parameter_numbers;
    facs_kernels finishing = *kernels;

    usual = *kernels;
    finishing.finishes_norms = yes;
    finishing.conv_fwd = beginning_conv;
    finishing.dwconv_fwd = beginning_dwconv;
    finishing.batchnorm_begin = counting_begin;
    finishing.conv_bwd = finishing_conv;
    finishing.dwconv_bwd = finishing_dwconv;
    finishing.norm_bwd = finishing_norm;
    finishing.norm_bwd_finish = counting_finish;
    int concats = 0, norms = 0;
    for (int i = 0; i < network->graph.count; i++)
        norms += network->graph.nodes[i].op == FACS_OP_BATCHNORM;
    norms_begun = norms_left = 0;
    facs_real *apart = step_of(network, kernels, &options, IMAGES);
    facs_real *together = step_of(network, &finishing, &options, IMAGES);
    CHECK(distance(together, apart, count) < 1e-5); /* corrections in another order */
    for (int i = 0; i < network->graph.count; i++)
        concats += network->graph.nodes[i].op == FACS_OP_CONCAT;
    CHECK(concats ? norms_begun < norms : norms_begun <= 1);
    CHECK(norms_left <= 2); /* before the features and the dropout of the head */
    free(apart);
    free(together);
}

static int count_dropped(const facs_network *network, const facs_kernels *kernels,
                         const facs_plan_options *options, size_t *bytes)
{
    facs_plan *plan;
    int dropped = 0;

    CHECK_OK(facs_plan_create(&plan, &network->graph, kernels, options));
    for (int i = 0; i < plan->count; i++)
        dropped += plan->nodes[i].dropped && plan->nodes[i].node.op == FACS_OP_CONV;
    *bytes = facs_plan_bytes(plan);
    facs_plan_free(plan);
    return dropped;
}

/* Convolutions that are computed again give the bits of kept ones: in full and in short
 * batches, with stored statistics, above a frozen part. */
static void test_recomputing(const facs_network *network, const facs_kernels *kernels,
                             const facs_kernels *narrow)
{
    const size_t bytes = 2 * (size_t)network->graph.parameter_numbers * sizeof(facs_real);
    facs_plan_options options = training_options(network);

    options.narrow = narrow;
    for (int variant = 0; variant < 4; variant++) {
        const int64_t n = variant == 3 ? IMAGES - 1 : IMAGES;
        options.mode = variant == 1 ? FACS_MODE_TRAIN_STORED : FACS_MODE_TRAIN;
        options.boundary = variant == 2 ? facs_graph_block_start(&network->graph, 3) : 0;
        options.recompute = FACS_RECOMPUTE_NORMS;
        facs_real *kept = step_of(network, kernels, &options, n);
        options.recompute = FACS_RECOMPUTE_LIGHT;
        facs_real *light = step_of(network, kernels, &options, n);
        options.recompute = FACS_RECOMPUTE_BLOCKS;
        facs_real *again = step_of(network, kernels, &options, n);
        CHECK(memcmp(kept, light, bytes) == 0);
        CHECK(memcmp(kept, again, bytes) == 0);
        free(kept);
        free(light);
        free(again);
    }
}

static void test_recomputing_everywhere(void)
{
    static const char *const names[] = {"mobilenet_v1", "mobilenet_v2", "densenet121",
                                        "vgg19_bn"};
    for (int i = 0; i < 4; i++) {
        facs_network *network = make_network(names[i]);
        /* the plainest is slow, and has one way for every convolution */
        for (int rung = i < 2 ? 0 : 1; facs_kernels_rung(rung); rung++) {
            facs_kernels kernels, narrow;
            CHECK(facs_kernels_select(&kernels, facs_kernels_rung(rung)));
            if (strcmp(kernels.name, facs_kernels_rung(rung)) == 0)
                test_recomputing(network, &kernels, NULL);
            CHECK(facs_kernels_select_bfloat16(&narrow, facs_kernels_rung(rung)));
            if (rung > 0) test_recomputing(network, &kernels, &narrow);
        }
        facs_network_free(network);
    }
}

/* What a network drops is what it saves: nothing where there is no BatchNorm. The largest
 * depthwise results are dropped anyway, but late ones are not, although they are large beside
 * what a stage trains. */
static void test_recomputing_saves(const facs_network *network, const char *name,
                                   const facs_kernels *kernels)
{
    facs_plan_options options = training_options(network);
    size_t small, large;

    const int light = count_dropped(network, kernels, &options, &large);
    CHECK(light == (strncmp(name, "mobilenet", 9) == 0 ? 2 : 0));
    options.boundary = facs_graph_block_start(&network->graph, network->graph.block_count - 3);
    CHECK(count_dropped(network, kernels, &options, &small) == 0);
    options.boundary = 0;
    options.recompute = FACS_RECOMPUTE_NORMS;
    CHECK(count_dropped(network, kernels, &options, &small) == 0);
    CHECK(light > 0 ? small > large : small == large);
    options.recompute = FACS_RECOMPUTE_BLOCKS;
    const int dropped = count_dropped(network, kernels, &options, &small) - light;
    CHECK(dropped > 0 ? small < large : small == large);
    CHECK((dropped > 0) == (strcmp(name, "vgg19") != 0));
}

static void test_lanes_and_chunks(const facs_network *network, const facs_kernels *kernels)
{
    const facs_source source = {.numbers = input};
    facs_real wanted[IMAGES * LABELS], found[IMAGES * LABELS];
    for (int variant = 0; variant < 6; variant++) {
        const facs_plan_options options = {.first = network->input,
                                           .last = network->logits,
                                           .boundary = network->graph.count,
                                           .mode = FACS_MODE_INFER,
                                           .batch = 1 + variant % 3,
                                           .threads = 2,
                                           .lanes = 1 + variant / 3};
        facs_plan *plan;
        CHECK_OK(facs_plan_create(&plan, &network->graph, kernels, &options));
        facs_plan_bind(plan, network->parameters, NULL);
        facs_plan_prepare(plan);
        facs_plan_infer(plan, &source, IMAGES, variant ? found : wanted);
        CHECK(!variant || memcmp(found, wanted, sizeof found) == 0);
        facs_plan_free(plan);
    }
}

typedef struct looks {
    atomic_int times[IMAGES], wrong_threads;
    int refused; /* this image, or none where -1 */
} looks;

static int look(void *watcher, int64_t image, int threads)
{
    looks *l = watcher;
    if (threads < 1) atomic_fetch_add(&l->wrong_threads, 1);
    atomic_fetch_add(&l->times[image], 1);
    return image != l->refused;
}

/* Inference tells of each image once, and leaves out the chunk of one that is refused. */
static void test_images_are_seen(const facs_network *network, const facs_kernels *kernels)
{
    for (int variant = 0; variant < 4; variant++) {
        looks l = {.refused = variant % 2 ? IMAGES - 1 : -1};
        const facs_source source = {.numbers = input, .seen = look, .watcher = &l};
        const facs_plan_options options = inference_options(network, variant < 2 ? 1 : IMAGES);
        facs_real logits[IMAGES * LABELS];
        facs_plan *plan;
        CHECK_OK(facs_plan_create(&plan, &network->graph, kernels, &options));
        facs_plan_bind(plan, network->parameters, NULL);
        facs_plan_prepare(plan);
        for (int i = 0; i < IMAGES * LABELS; i++) logits[i] = NAN;
        facs_plan_infer(plan, &source, IMAGES, logits);
        for (int i = 0; i < IMAGES; i++) CHECK(atomic_load(&l.times[i]) == 1);
        CHECK(atomic_load(&l.wrong_threads) == 0);
        CHECK(isnan(logits[IMAGES * LABELS - 1]) == (l.refused >= 0));
        facs_plan_free(plan);
    }
}

static int look_alone(void *watcher, int64_t image, int threads)
{
    (void)image;
    if (threads == 1) atomic_fetch_add((atomic_int *)watcher, 1);
    return 1;
}

/* As many images as lanes or more: each image has a thread of its own. */
static void test_lanes_take_what_fills_them(const facs_network *network,
                                            const facs_kernels *kernels)
{
    enum { LANES = 3 };
    const int64_t rows[] = {0, 1, 2, 0};
    for (int64_t n = LANES - 1; n <= LANES + 1; n++) {
        atomic_int alone = 0;
        const facs_source source = {
            .numbers = input, .rows = rows, .seen = look_alone, .watcher = &alone};
        facs_plan_options options = inference_options(network, 2);
        facs_real logits[(LANES + 1) * LABELS];
        facs_plan *plan;

        options.threads = options.lanes = LANES;
        CHECK_OK(facs_plan_create(&plan, &network->graph, kernels, &options));
        facs_plan_bind(plan, network->parameters, NULL);
        facs_plan_prepare(plan);
        facs_plan_infer(plan, &source, n, logits);
        CHECK(atomic_load(&alone) == (n < LANES ? 0 : n));
        facs_plan_free(plan);
    }
}

static int never_suits(const facs_separable *s)
{
    (void)s;
    return 0;
}

/* Logits of inference; returns how many nodes of the plan others compute in passing. */
static int infer(const facs_network *network, const facs_kernels *kernels, facs_real *logits,
                 size_t *bytes)
{
    const facs_plan_options options = inference_options(network, 2);
    const facs_source source = {.numbers = input};
    facs_plan *plan;
    int inner = 0;

    CHECK_OK(facs_plan_create(&plan, &network->graph, kernels, &options));
    facs_plan_bind(plan, network->parameters, NULL);
    facs_plan_prepare(plan);
    facs_plan_infer(plan, &source, IMAGES, logits);
    for (int i = 0; i < facs_plan_count(plan); i++) {
        const facs_node *node = facs_plan_node_at(plan, i);
        inner += facs_plan_step_of(plan, i) != i;
        /* the transitions of a DenseNet halve the channels behind their pooling */
        if (node->op == FACS_OP_AVGPOOL)
            CHECK(facs_plan_node_at(plan, i + 1)->shape.c == node->shape.c / 2);
    }
    *bytes = facs_plan_bytes(plan);
    facs_plan_free(plan);
    return inner;
}

/* One kernel for a chain of convolutions gives the bits of a kernel for each. */
static void test_fusing(const facs_network *network, const char *name,
                        const facs_kernels *kernels)
{
    facs_real together[IMAGES * LABELS], apart[IMAGES * LABELS];
    size_t fused, whole;
    facs_kernels plain = *kernels;

    plain.separable_suits = never_suits;
    CHECK(infer(network, &plain, apart, &whole) == 0);
    const int inner = infer(network, kernels, together, &fused);
    CHECK(memcmp(together, apart, sizeof apart) == 0);
    CHECK((inner > 0) == (strncmp(name, "mobilenet", 9) == 0));
    CHECK(inner > 0 || fused == whole);
}

/* At its usual size the large maps of MobileNet-v1 are never whole either. */
static void test_fusing_chains(const facs_kernels *kernels)
{
    enum { SIZE = 224 };
    const facs_network_options o = {.input_size = SIZE,
                                    .labels = LABELS,
                                    .width = 1,
                                    .activation = {0, 6},
                                    .epsilon = 1e-3};
    facs_real *images = calloc((size_t)2 * SIZE * SIZE * 3, sizeof *images);
    facs_kernels plain = *kernels;
    facs_real logits[2][2 * LABELS];
    facs_network *network;
    int steps[2] = {0};

    for (int i = 0; i < 2 * SIZE * SIZE * 3; i++) images[i] = (facs_real)(i % 1013) / 500 - 1;
    plain.separable_suits = never_suits;
    CHECK_OK(facs_network_create(&network, "mobilenet_v1", &o, 5));
    for (int fused = 0; fused < 2; fused++) {
        const facs_source source = {.numbers = images};
        const facs_plan_options options = inference_options(network, 1);
        facs_plan *plan;
        CHECK_OK(facs_plan_create(&plan, &network->graph, fused ? kernels : &plain, &options));
        facs_plan_bind(plan, network->parameters, NULL);
        facs_plan_prepare(plan);
        facs_plan_infer(plan, &source, 2, logits[fused]);
        facs_plan_infer(plan, &source, 1, logits[fused]); /* split among the threads */
        for (int i = 0; i < facs_plan_count(plan); i++)
            steps[fused] += plan->nodes[i].step == i;
        facs_plan_free(plan);
    }
    /* 13 depthwise convolutions join the 1x1 behind them, the first one the stem, and chains
     * of these each other. */
    CHECK(steps[1] < steps[0] - 14);
    CHECK(memcmp(logits[0], logits[1], sizeof *logits) == 0);
    facs_network_free(network);
    free(images);
}

/* At its usual size MobileNet-v2 needs much less memory where expanded maps are never whole. */
static void test_fusing_saves(const facs_kernels *kernels)
{
    const facs_network_options o = {
        .input_size = 224, .labels = LABELS, .width = 1, .activation = {0, 6}, .epsilon = 1e-3};
    facs_kernels plain = *kernels;
    facs_network *network;
    size_t fused, whole;

    plain.separable_suits = never_suits;
    CHECK_OK(facs_network_create(&network, "mobilenet_v2", &o, 5));
    const facs_plan_options options = inference_options(network, 2);
    CHECK_OK(facs_plan_measure(&fused, &network->graph, kernels, &options));
    CHECK_OK(facs_plan_measure(&whole, &network->graph, &plain, &options));
    CHECK(fused < whole * 2 / 3);
    facs_network_free(network);
}

static size_t most_in_use(const facs_plan *plan)
{
    size_t most = 0;
    for (int step = 0; step <= 2 * plan->count; step++) {
        size_t used = 0;
        for (int i = 0; i < plan->buffer_count; i++) {
            const facs_buffer *b = &plan->buffers[i];
            used += b->begin <= step && step <= b->end ? b->bytes : 0;
        }
        most = used > most ? used : most;
    }
    return most;
}

static size_t bytes_of(const facs_network *network, const facs_kernels *kernels,
                       const facs_kernels *narrow, facs_recompute recompute)
{
    facs_plan_options options = training_options(network);
    size_t bytes;
    options.batch = 64;
    options.narrow = narrow;
    options.recompute = recompute;
    CHECK_OK(facs_plan_measure(&bytes, &network->graph, kernels, &options));
    return bytes;
}

/* Computing blocks again saves a third at least of what keeping takes, in either dtype. */
static void test_recomputing_saves_a_third(const facs_network *network,
                                           const facs_kernels *kernels)
{
    facs_kernels narrow;
    CHECK(facs_kernels_select_bfloat16(&narrow, ""));
    for (int i = 0; i < 2; i++) {
        const facs_kernels *chosen = i ? &narrow : NULL;
        const size_t kept = bytes_of(network, kernels, chosen, FACS_RECOMPUTE_NORMS);
        CHECK(3 * bytes_of(network, kernels, chosen, FACS_RECOMPUTE_BLOCKS) < 2 * kept);
    }
}

/* At their usual size the buffers of a training step have hardly a gap between them. */
static void test_training_is_tight(const facs_kernels *kernels)
{
    static const char *const names[] = {"mobilenet_v1", "mobilenet_v2", "densenet121",
                                        "densenet201"};
    const facs_network_options o = {
        .input_size = 224, .labels = LABELS, .width = 1, .activation = {0, 6}, .epsilon = 1e-3};

    for (int i = 0; i < 8; i++) {
        facs_network *network;
        facs_plan *plan;
        CHECK_OK(facs_network_create(&network, names[i / 2], &o, 5));
        facs_plan_options options = training_options(network);
        options.recompute = i % 2 ? FACS_RECOMPUTE_BLOCKS : FACS_RECOMPUTE_LIGHT;
        CHECK_OK(facs_plan_create(&plan, &network->graph, kernels, &options));
        CHECK((double)plan->buffer_bytes <= 1.01 * (double)most_in_use(plan));
        if (i % 2) test_recomputing_saves_a_third(network, kernels);
        facs_plan_free(plan);
        facs_network_free(network);
    }
}

/* A plan asks for the scratch of its whole batch, so fewer images must not need more. */
static void test_scratch_grows(const char *name, int side, double width,
                               const facs_kernels *kernels)
{
    enum { MOST = 33 };
    const facs_network_options options = {.input_size = side,
                                          .labels = LABELS,
                                          .width = width,
                                          .activation = {0, 6},
                                          .epsilon = 1e-3};
    facs_network *network;
    CHECK_OK(facs_network_create(&network, name, &options, 5));
    int shrinks = 0;
    for (int i = 0; i < network->graph.count; i++) {
        const facs_node *node = &network->graph.nodes[i];
        const facs_op *op = facs_op_get(node->op)->op;
        for (int mode = 0; mode < FACS_MODE_COUNT && op->demand; mode++)
            for (int threads = 1; threads < 4; threads++) {
                size_t before = 0;
                for (int n = 1; n <= MOST; n++) {
                    const size_t wanted =
                        op->demand(kernels, node, (facs_mode)mode, n, threads).scratch;
                    shrinks += wanted < before;
                    before = wanted;
                }
            }
    }
    CHECK(shrinks == 0);
    facs_network_free(network);
}

static void test_scratch(void)
{
    for (int rung = 0; facs_kernels_rung(rung); rung++) {
        facs_kernels kernels;
        CHECK(facs_kernels_select(&kernels, facs_kernels_rung(rung)));
        test_scratch_grows("densenet121", 80, 0.5, &kernels);
        test_scratch_grows("vgg19", 96, 0.5, &kernels);
        test_scratch_grows("mobilenet_v1", 40, 0.75, &kernels);
        if (facs_kernels_select_bfloat16(&kernels, facs_kernels_rung(rung)))
            test_scratch_grows("mobilenet_v2", 64, 1, &kernels);
    }
}

static void test_refusals(const facs_network *network, const facs_kernels *kernels)
{
    facs_plan_options options = training_options(network);
    facs_plan *plan;

    options.batch = 0;
    CHECK_STATUS(facs_plan_create(&plan, &network->graph, kernels, &options), FACS_E_ARG);
    options = training_options(network);
    options.last = network->graph.count;
    CHECK_STATUS(facs_plan_create(&plan, &network->graph, kernels, &options), FACS_E_ARG);
    options = training_options(network);
    options.lanes = 2;
    CHECK_STATUS(facs_plan_create(&plan, &network->graph, kernels, &options), FACS_E_ARG);
    options = training_options(network);
    options.batch = INT64_C(1) << 50;
    CHECK_STATUS(facs_plan_create(&plan, &network->graph, kernels, &options), FACS_E_OOM);
    CHECK(plan == NULL);
}

int main(void)
{
    facs_kernels kernels;

    CHECK(facs_kernels_select(&kernels, NULL));
    for (int i = 0; i < IMAGES * SIDE * SIDE * 3; i++)
        input[i] = (facs_real)(i * 31 % 101) / 50 - 1;
    test_placing();
    test_scratch();
    test_fusing_chains(&kernels);
    test_fusing_saves(&kernels);
    test_training_is_tight(&kernels);
    test_recomputing_everywhere();
    test_maximum_in_parts(&kernels);
    for (int i = 0; facs_network_names(i); i++) {
        facs_network *network = make_network(facs_network_names(i));
        test_applying_equals_keeping(network, &kernels);
        test_finishing_norms(network, &kernels);
        test_recomputing_saves(network, facs_network_names(i), &kernels);
        test_lanes_and_chunks(network, &kernels);
        test_images_are_seen(network, &kernels);
        test_lanes_take_what_fills_them(network, &kernels);
        test_fusing(network, facs_network_names(i), &kernels);
        if (i == 0) test_refusals(network, &kernels);
        facs_network_free(network);
    }
    return check_report("plan");
}
