#include "check.h"

#include "core/memory.h"
#include "core/rng.h"
#include "graph/plan.h"
#include "nets/network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Gradients of whole graphs, built in double with the reference kernels, against central
 * differences. */

enum { IMAGES = 3, LABELS = 4, SIDE = 9 };

typedef struct subject {
    facs_graph graph;
    facs_plan *plan;
    facs_kernels kernels;
    facs_real *parameters, *gradients, *input;
    int first, last, target, mask;
    facs_shape shape;
} subject;

static double random_between(facs_rng *rng, double a, double b)
{
    return facs_rng_between(rng, a, b);
}

static void fill_values(subject *s, uint64_t seed)
{
    facs_rng rng = facs_rng_stream(seed, FACS_RNG_INITIALISE, 0, 0);
    for (int i = 0; i < s->graph.parameter_count; i++) {
        const facs_parameter *p = &s->graph.parameters[i];
        const int positive =
            p->kind == FACS_PARAMETER_GAMMA || p->kind == FACS_PARAMETER_VARIANCE;
        for (int64_t j = 0; j < p->count; j++)
            s->parameters[p->offset + j] =
                positive ? random_between(&rng, 0.5, 1.5) : facs_rng_normal(&rng) * 0.5;
    }
    const int64_t count = IMAGES * (int64_t)s->shape.h * s->shape.w * s->shape.c;
    for (int64_t i = 0; i < count; i++) s->input[i] = facs_rng_normal(&rng);
}

static double run(subject *s)
{
    const facs_source source = {.numbers = s->input};
    facs_plan_load(s->plan, &source, IMAGES);
    facs_tensor target = facs_plan_value(s->plan, s->target, IMAGES);
    facs_tensor mask = facs_plan_value(s->plan, s->mask, IMAGES);
    for (int i = 0; i < IMAGES * LABELS; i++) {
        target.data[i] = i % 3 == 0 || i == 4;
        mask.data[i] = i != 7;
    }
    facs_plan_prepare(s->plan);
    facs_plan_forward(s->plan, IMAGES, 11, 5);
    return facs_plan_value(s->plan, s->last, IMAGES).data[0];
}

/* Appends target, mask and loss, and makes the plan. */
static void finish(subject *s, facs_builder *b, int logits, facs_loss_kind kind, facs_mode mode,
                   int boundary, int keep)
{
    const facs_loss_options options = {.bce_weight = 0.1,
                                       .epsilon = 1e-7,
                                       .true_negatives = mode == FACS_MODE_TRAIN,
                                       .alpha = 0.7,
                                       .beta = 0.4,
                                       .gamma_positive = 1,
                                       .gamma_negative = 2.5,
                                       .margin = 0.05};
    s->target = facs_build_input(b, "target", 1, 1, LABELS);
    s->mask = facs_build_input(b, "mask", 1, 1, LABELS);
    s->last = facs_build_loss(b, "loss", logits, s->target, s->mask, kind, &options);
    CHECK_OK(b->status);
    CHECK(facs_kernels_select(&s->kernels, "ref"));
    const facs_plan_options plan = {.first = s->first,
                                    .last = s->last,
                                    .boundary = boundary,
                                    .mode = mode,
                                    .batch = IMAGES,
                                    .threads = 1,
                                    .lanes = 1,
                                    .keep = keep};
    CHECK_OK(facs_plan_create(&s->plan, &s->graph, &s->kernels, &plan));
    s->shape = s->graph.nodes[s->first].shape;
    s->parameters = calloc((size_t)s->graph.parameter_numbers, sizeof(facs_real));
    s->gradients = calloc((size_t)s->graph.parameter_numbers, sizeof(facs_real));
    s->input = calloc((size_t)IMAGES * (size_t)(s->shape.h * s->shape.w * s->shape.c),
                      sizeof(facs_real));
    facs_plan_bind(s->plan, s->parameters, s->gradients);
}

static void release(subject *s)
{
    facs_plan_free(s->plan);
    facs_graph_free(&s->graph);
    free(s->parameters);
    free(s->gradients);
    free(s->input);
    memset(s, 0, sizeof *s);
}

/* The loss with one parameter moved by `change`. */
static double moved(subject *s, const facs_real *original, int64_t index, double change)
{
    memcpy(s->parameters, original, (size_t)s->graph.parameter_numbers * sizeof *original);
    s->parameters[index] += change;
    return run(s);
}

/* Central difference; *smooth tells whether a step of half the size agrees, which it does
 * not where a ReLU or a maximum changes sides in between. */
static double difference(subject *s, const facs_real *original, int64_t index, int *smooth)
{
    double slope[2];
    for (int i = 0; i < 2; i++) {
        const double step = i ? 2e-6 : 4e-6;
        slope[i] =
            (moved(s, original, index, step) - moved(s, original, index, -step)) / (2 * step);
    }
    *smooth = fabs(slope[0] - slope[1]) < 5e-7 * (1e-2 + fabs(slope[1]));
    return slope[1];
}

/* Compares about `samples` numbers of every trained parameter of the trained nodes. */
static void check_gradients(subject *s, const char *name, int boundary, int samples)
{
    const size_t bytes = (size_t)s->graph.parameter_numbers * sizeof(facs_real);
    double worst = 0;
    int64_t compared = 0, kinks = 0;

    fill_values(s, 3);
    facs_real *original = malloc(bytes);
    memcpy(original, s->parameters, bytes);
    run(s);
    facs_plan_backward(s->plan);
    for (int i = 0; i < s->graph.parameter_count; i++) {
        const facs_parameter *p = &s->graph.parameters[i];
        if (!facs_parameter_is_trained(p) || p->node < boundary) continue;
        const int64_t stride = p->count > samples ? p->count / samples : 1;
        for (int64_t j = 0; j < p->count; j += stride) {
            int smooth;
            const double numeric = difference(s, original, p->offset + j, &smooth);
            const double analytic = s->gradients[p->offset + j];
            const double error = fabs(numeric - analytic) / (1e-2 + fabs(numeric));
            kinks += !smooth;
            compared += smooth;
            if (!smooth) continue;
            if (error > 1e-6)
                fprintf(stderr, "%s: %s[%lld]: %.9g by difference, %.9g by backward\n", name,
                        p->name, (long long)j, numeric, analytic);
            worst = error > worst ? error : worst;
        }
    }
    free(original);
    CHECK(compared > 10);
    CHECK(kinks <= compared / 4);
    CHECK_CLOSE(worst, 0, 1e-6);
}

static void begin(subject *s, facs_builder *b, int channels)
{
    memset(s, 0, sizeof *s);
    *b = facs_builder_begin(&s->graph);
    facs_builder_block(b, "all");
    s->first = facs_build_input(b, "input", SIDE, SIDE - 1, channels);
}

static int classify(facs_builder *b, int x)
{
    x = facs_build_globalpool(b, "features", x);
    return facs_build_conv(b, "classifier", x, LABELS, 1, 1, 1, 1);
}

static void test_convolutions(facs_padding padding)
{
    static const int cases[][4] = {
        {6, 3, 2, 1}, {5, 1, 1, 1}, {6, 3, 1, 3}, {3, 3, 2, 3}, {4, 5, 2, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        subject s;
        facs_builder b;
        begin(&s, &b, 3);
        b.padding = padding;
        int x = facs_build_conv(&b, "first", s.first, 3, 3, 1, 1, 1);
        x = facs_build_conv(&b, "conv", x, cases[i][0], cases[i][1], cases[i][2], cases[i][3],
                            0);
        finish(&s, &b, classify(&b, x), FACS_LOSS_BCE, FACS_MODE_TRAIN, 0, 0);
        check_gradients(&s, "convolution", 0, 8);
        release(&s);
    }
}

/* conv, BatchNorm and ReLU6, twice, with a residual */
static int residual(facs_builder *b, int x)
{
    x = facs_build_conv(b, "conv0", x, 4, 3, 2, 1, 0);
    x = facs_build_batchnorm(b, "norm0", x);
    const int y = facs_build_activation(b, "act0", x, (facs_clamp){0, 6});
    x = facs_build_conv(b, "conv1", y, 4, 3, 1, 4, 0);
    x = facs_build_batchnorm(b, "norm1", x);
    x = facs_build_add(b, "add", x, y);
    return facs_build_activation(b, "act1", x, (facs_clamp){0, INFINITY});
}

/* two layers of a dense block, pools around it */
static int dense(facs_builder *b, int x)
{
    x = facs_build_conv(b, "conv0", x, 5, 3, 1, 1, 0);
    x = facs_build_pool(b, "pool0", x, FACS_OP_MAXPOOL, 3, 2, 1);
    for (int i = 0; i < 2; i++) {
        facs_builder_scope(b, "layer%d.", i);
        int y = facs_build_batchnorm(b, "norm", x);
        y = facs_build_activation(b, "act", y, (facs_clamp){0, INFINITY});
        y = facs_build_conv(b, "conv", y, 3, 3, 1, 1, 0);
        x = facs_build_concat(b, "concat", x, y);
    }
    facs_builder_scope(b, "%s", "");
    x = facs_build_batchnorm(b, "norm1", x);
    return facs_build_pool(b, "pool1", x, FACS_OP_AVGPOOL, 2, 2, 0);
}

/* an activation that no neighbour takes in, before a BatchNorm and a convolution */
static int preactivated(facs_builder *b, int x)
{
    x = facs_build_conv(b, "conv0", x, 4, 3, 1, 1, 0);
    x = facs_build_pool(b, "pool0", x, FACS_OP_AVGPOOL, 2, 2, 0);
    x = facs_build_activation(b, "act0", x, (facs_clamp){0, 6});
    x = facs_build_batchnorm(b, "norm0", x);
    x = facs_build_activation(b, "act1", x, (facs_clamp){0, 6});
    return facs_build_conv(b, "conv1", x, 3, 3, 1, 1, 0);
}

static void test_graph(const char *name, int (*build)(facs_builder *, int), facs_mode mode,
                       facs_loss_kind kind, int keep)
{
    subject s;
    facs_builder b;
    begin(&s, &b, 3);
    int x = build(&b, s.first);
    x = facs_build_globalpool(&b, "features", x);
    x = facs_build_dropout(&b, "dropout", x, 0.3);
    x = facs_build_conv(&b, "classifier", x, LABELS, 1, 1, 1, 1);
    finish(&s, &b, x, kind, mode, 0, keep);
    check_gradients(&s, name, 0, 4);
    release(&s);
}

/* A narrow network on small images, all of it or from one block on. */
static void test_network(const char *name, const char *block, facs_mode mode,
                         facs_loss_kind kind)
{
    const facs_network_options options = {.input_size = 33,
                                          .labels = LABELS,
                                          .width = 0.125,
                                          .padding = FACS_PADDING_SAME,
                                          .activation = {0, 6},
                                          .epsilon = 1e-3,
                                          .dropout = 0.2};
    facs_network *net;
    subject s = {0};

    CHECK_OK(facs_network_create(&net, name, &options, 0));
    s.graph = net->graph;
    facs_builder b = facs_builder_begin(&s.graph);
    s.first = net->input;
    const int start = facs_graph_block_start(&s.graph, facs_graph_find_block(&s.graph, block));
    finish(&s, &b, net->logits, kind, mode, start, 0);
    check_gradients(&s, block, start, 4);
    memset(&net->graph, 0, sizeof net->graph);
    facs_network_free(net);
    release(&s);
}

int main(void)
{
    test_convolutions(FACS_PADDING_SYMMETRIC);
    test_convolutions(FACS_PADDING_SAME);
    test_convolutions(FACS_PADDING_KERAS);
    for (int mode = FACS_MODE_TRAIN; mode < FACS_MODE_COUNT; mode++)
        for (int kind = 0; kind < FACS_LOSS_COUNT; kind++)
            for (int keep = 0; keep < 2; keep++) {
                test_graph("residual", residual, (facs_mode)mode, (facs_loss_kind)kind, keep);
                test_graph("preactivated", preactivated, (facs_mode)mode, (facs_loss_kind)kind,
                           keep);
                test_graph("dense", dense, (facs_mode)mode, (facs_loss_kind)kind, keep);
            }
    test_network("mobilenet_v1", "stem", FACS_MODE_TRAIN, FACS_LOSS_PR);
    test_network("mobilenet_v1", "block12", FACS_MODE_TRAIN, FACS_LOSS_BCE);
    test_network("mobilenet_v1", "head", FACS_MODE_TRAIN_STORED, FACS_LOSS_LSEP);
    test_network("mobilenet_v2", "block3", FACS_MODE_TRAIN, FACS_LOSS_BCE);
    test_network("densenet121", "stem", FACS_MODE_TRAIN_STORED, FACS_LOSS_BCE);
    test_network("densenet121", "transition3", FACS_MODE_TRAIN, FACS_LOSS_PR);
    test_network("vgg19", "block4", FACS_MODE_TRAIN, FACS_LOSS_BCE);
    test_network("vgg19_bn", "block5", FACS_MODE_TRAIN, FACS_LOSS_PR);
    return check_report("gradients");
}
