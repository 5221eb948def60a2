#include "check.h"

#include "core/bfloat16.h"
#include "core/memory.h"
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

/* The value that enters a block: there is one for every block of every network, and passes to
 * it and from it, and training from it, give the bits of the way in one piece. */

enum { IMAGES = 6, BATCH = 4, LABELS = 3, SIDE = 32 };

static const char *const names[] = {"mobilenet_v1", "mobilenet_v2", "densenet121",
                                    "densenet201",  "vgg19",        "vgg19_bn"};
enum { NAMES = sizeof names / sizeof *names };

/* OpenBLAS adds up in an order that depends on the size of the batch: where it would be used,
 * the portable kernels are. */
static const char *rung(void)
{
    facs_kernels k;
    CHECK(facs_kernels_select(&k, NULL));
    return strcmp(k.name, "blas") == 0 ? "generic" : NULL;
}

static facs_session *make_session(const char *name, facs_head head)
{
    const facs_network_options options = {.input_size = SIDE,
                                          .labels = LABELS,
                                          .width = 0.125,
                                          .padding = FACS_PADDING_SYMMETRIC,
                                          .activation = {0, 6},
                                          .epsilon = 1e-3,
                                          .dropout = 0.2,
                                          .head = head};
    facs_network *network;
    facs_session *session;
    CHECK_OK(facs_network_create(&network, name, &options, 7));
    CHECK_OK(facs_session_create(&session, network, rung(), 2, FACS_PRECISION_FLOAT32, NULL));
    return session;
}

static uint8_t pixels[IMAGES * SIDE * SIDE * 3];
static facs_real target[BATCH * LABELS], mask[BATCH * LABELS];

static void fill(void)
{
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * i * 73 % 255);
    for (int i = 0; i < BATCH * LABELS; i++) target[i] = i % 4 == 0, mask[i] = 1;
}

/* What enters a block, of all images; the caller frees it. */
static facs_real *below(facs_session *session, int block, size_t *count)
{
    const facs_graph *graph = &facs_session_network(session)->graph;
    int node;
    CHECK_OK(facs_graph_boundary(graph, block, &node));
    const facs_shape s = graph->nodes[node].shape;
    *count = (size_t)IMAGES * (size_t)s.h * (size_t)s.w * (size_t)s.c;
    facs_real *values = malloc(*count * sizeof *values);
    CHECK_OK(facs_session_infer_below(session, block, (facs_source){.pixels = pixels}, IMAGES,
                                      values));
    return values;
}

static void check_passes(const char *name, facs_head head)
{
    facs_session *session = make_session(name, head);
    const facs_graph *graph = &facs_session_network(session)->graph;
    facs_real whole[IMAGES * LABELS], parts[IMAGES * LABELS], few[2 * LABELS];
    const int64_t rows[] = {IMAGES - 1, 1};
    size_t count;
    int node;

    CHECK_STATUS(facs_graph_boundary(graph, 0, &node), FACS_E_ARG);
    CHECK_OK(facs_session_infer(session, FACS_STRETCH_LOGITS, (facs_source){.pixels = pixels},
                                IMAGES, whole));
    for (int block = 1; block < graph->block_count; block++) {
        facs_real *values = below(session, block, &count);
        const facs_source all = {.numbers = values}, two = {.numbers = values, .rows = rows};
        CHECK_OK(facs_session_infer_above(session, block, all, IMAGES, parts));
        CHECK(memcmp(whole, parts, sizeof whole) == 0);
        CHECK_OK(facs_session_infer_above(session, block, two, 2, few));
        for (int i = 0; i < 2; i++)
            CHECK(memcmp(few + i * LABELS, whole + rows[i] * LABELS, LABELS * sizeof *few) ==
                  0);
        free(values);
    }
    facs_session_free(session);
}

static const facs_stage usual = {
    .rate = 1e-2,
    .schedule = {.epochs = 1, .period = 1},
    .loss = FACS_LOSS_BCE,
    .loss_options = {.epsilon = 1e-7f},
    .optimiser = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .average_decay = 0.5},
};

typedef enum way { FROM_IMAGES, FROM_NUMBERS, FROM_BFLOATS, FROM_ROUNDED, WAYS } way;

/* Parameters after steps over changing images, from the activations as they are or rounded to
 * bfloat16; the caller frees them. */
static facs_real *train(const char *name, int block, way w, int stored)
{
    static const int64_t rows[][BATCH] = {{0, 1, 2, 3}, {5, 2, 0, 4}, {3, 1, 4, 5}};
    facs_session *session = make_session(name, FACS_HEAD_ACTION_UNITS);
    const facs_network *network = facs_session_network(session);
    facs_stage stage = usual;
    facs_trainer *trainer;
    facs_step_report report = {0};
    uint8_t batch_pixels[BATCH * SIDE * SIDE * 3];
    size_t count;
    facs_real *values = below(session, block, &count);
    uint16_t *bfloats = malloc(count * sizeof *bfloats);

    for (size_t i = 0; i < count; i++) {
        bfloats[i] = facs_bfloat16_from((float)values[i]);
        if (w == FROM_ROUNDED) values[i] = facs_bfloat16_to(bfloats[i]);
    }
    stage.first_block = block;
    stage.from_boundary = w != FROM_IMAGES;
    stage.stored_statistics = stored;
    CHECK_OK(facs_trainer_create(&trainer, session, &stage, BATCH, 3));
    for (int step = 0; step < 3; step++) {
        facs_training_batch batch = {.target = target, .mask = mask, .n = BATCH};
        for (int i = 0; i < BATCH; i++)
            memcpy(batch_pixels + i * SIDE * SIDE * 3, pixels + rows[step][i] * SIDE * SIDE * 3,
                   SIDE * SIDE * 3);
        batch.pixels = w == FROM_IMAGES ? batch_pixels : NULL;
        batch.numbers = w == FROM_NUMBERS || w == FROM_ROUNDED ? values : NULL;
        batch.bfloats = w == FROM_BFLOATS ? bfloats : NULL;
        batch.rows = w == FROM_IMAGES ? NULL : rows[step];
        CHECK_OK(facs_trainer_step(trainer, &batch, 0, &report));
        if (step == 1) CHECK_OK(facs_trainer_swap_average(trainer));
    }
    const size_t bytes = (size_t)network->graph.parameter_numbers * sizeof(facs_real);
    facs_real *copy = malloc(bytes);
    memcpy(copy, network->parameters, bytes);
    facs_trainer_free(trainer);
    facs_session_free(session);
    free(values);
    free(bfloats);
    return copy;
}

static void check_training(const char *name, int stored)
{
    facs_session *session = make_session(name, FACS_HEAD_ACTION_UNITS);
    const facs_graph *graph = &facs_session_network(session)->graph;
    const size_t bytes = (size_t)graph->parameter_numbers * sizeof(facs_real);

    for (int block = graph->block_count - 1; block > 1; block -= 3) {
        facs_real *end[WAYS];
        for (int w = 0; w < WAYS; w++) end[w] = train(name, block, (way)w, stored);
        if (memcmp(end[FROM_IMAGES], end[FROM_NUMBERS], bytes))
            printf("%s block %s stored %d\n", name, graph->blocks[block], stored);
        CHECK(memcmp(end[FROM_IMAGES], end[FROM_NUMBERS], bytes) == 0);
        CHECK(memcmp(end[FROM_IMAGES], end[FROM_BFLOATS], bytes) != 0);
        CHECK(memcmp(end[FROM_ROUNDED], end[FROM_BFLOATS], bytes) == 0);
        for (int w = 0; w < WAYS; w++) free(end[w]);
    }
    facs_session_free(session);
}

/* Loss of the second of two steps on images; between them somebody else writes to the first
 * frozen convolution, or does not. */
static double loss_after_writing(int writes)
{
    facs_session *session = make_session("mobilenet_v1", FACS_HEAD_ACTION_UNITS);
    const facs_network *network = facs_session_network(session);
    const facs_training_batch batch = {
        .pixels = pixels, .target = target, .mask = mask, .n = BATCH};
    facs_stage stage = usual;
    facs_trainer *trainer;
    facs_step_report report;

    stage.first_block = network->graph.block_count - 1;
    CHECK_OK(facs_trainer_create(&trainer, session, &stage, BATCH, 3));
    CHECK_OK(facs_trainer_step(trainer, &batch, 0, &report));
    for (int i = 0; writes && i < 20; i++) network->parameters[i] *= -3;
    if (writes) facs_session_touch(session);
    CHECK_OK(facs_trainer_step(trainer, &batch, 0, &report));
    facs_trainer_free(trainer);
    facs_session_free(session);
    return report.loss;
}

static void test_frozen_parameters_that_others_write(void)
{
    CHECK(loss_after_writing(0) == loss_after_writing(0));
    CHECK(loss_after_writing(0) != loss_after_writing(1));
}

static void test_two_values_are_refused(void)
{
    facs_graph graph = {0};
    facs_builder b = facs_builder_begin(&graph);
    int node;

    facs_builder_block(&b, "input");
    const int x = facs_build_input(&b, "image", 8, 8, 3);
    facs_builder_block(&b, "low");
    const int left = facs_build_conv(&b, "left", x, 4, 1, 1, 1, 0);
    const int right = facs_build_conv(&b, "right", x, 4, 1, 1, 1, 0);
    facs_builder_block(&b, "high");
    facs_build_add(&b, "sum", left, right);
    CHECK_OK(b.status);
    CHECK_OK(facs_graph_boundary(&graph, 1, &node));
    CHECK(node == x); /* read twice, yet one value */
    CHECK_STATUS(facs_graph_boundary(&graph, 2, &node), FACS_E_UNSUPPORTED);
    CHECK(strstr(facs_last_message(), "block high: more than one value enters it, left and "
                                      "right") != NULL);
    facs_graph_free(&graph);
}

/* Any address may be named, also of memory that no file backs. */
static void test_expecting_changes_nothing(void)
{
    char block[100000];
    memset(block, 7, sizeof block);
    facs_memory_expect(block + 1, sizeof block - 1);
    facs_memory_expect(block, 0);
    for (size_t i = 0; i < sizeof block; i += 999) CHECK(block[i] == 7);
}

int main(void)
{
    fill();
    for (int i = 0; i < NAMES; i++)
        for (int head = 0; head < FACS_HEAD_COUNT; head++)
            check_passes(names[i], (facs_head)head);
    for (int i = 0; i < NAMES; i++) check_training(names[i], i % 2);
    test_frozen_parameters_that_others_write();
    test_two_values_are_refused();
    test_expecting_changes_nothing();
    return check_report("boundary");
}
