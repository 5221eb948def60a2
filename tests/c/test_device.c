#include "check.h"

#include "core/clock.h"
#include "core/memory.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sessions and trainers on a device (FACS_TEST_PLUGIN, the path of its plugin) against the
 * CPU's. */

enum { LABELS = 5, SIDE = 64, IMAGES = 6, STEPS = 4 };

static uint8_t pixels[IMAGES * SIDE * SIDE * 3];
static facs_real target[IMAGES * LABELS], mask[IMAGES * LABELS];
static facs_plugin plugin;

static void fill(void)
{
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 7919 % 251);
    for (int i = 0; i < IMAGES * LABELS; i++) target[i] = i % 3 == 0, mask[i] = i % 7 != 6;
}

static facs_session *make_session(const char *name, double width, facs_precision precision,
                                  const char *rung, int on_device)
{
    const facs_network_options options = {.input_size = SIDE,
                                          .labels = LABELS,
                                          .width = width,
                                          .padding = FACS_PADDING_SAME,
                                          .activation = {0, 6},
                                          .epsilon = 1e-3,
                                          .dropout = 0.2};
    const facs_real scale[3] = {2 / 255.0f, 2 / 255.0f, 2 / 255.0f}, shift[3] = {-1, -1, -1};
    facs_network *network;
    facs_session *session;
    CHECK_OK(facs_network_create(&network, name, &options, 7));
    CHECK_OK(
        facs_session_create(&session, network, rung, 0, precision, on_device ? &plugin : NULL));
    facs_session_set_pixels(session, scale, shift);
    return session;
}

/* |a - b| over the length of b */
static double distance(const facs_real *a, const facs_real *b, int64_t count)
{
    double difference = 0, length = 1e-30;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        length += (double)b[i] * b[i];
    }
    return sqrt(difference / length);
}

static int within(const char *what, const char *name, double found, double limit)
{
    if (found <= limit) return 1;
    printf("%s of %s: %g, want at most %g\n", what, name, found, limit);
    return 0;
}

typedef struct result {
    facs_real logits[IMAGES * LABELS], trained[IMAGES * LABELS];
    facs_real *gradients;
    int64_t count;
} result;

static result run(const char *name, double width, facs_precision precision, facs_mode mode,
                  const char *rung, int on_device)
{
    facs_session *s = make_session(name, width, precision, rung, on_device);
    facs_real dlogits[IMAGES * LABELS], *gradients = NULL;
    result r = {.count = facs_session_network(s)->graph.parameter_numbers};

    for (int i = 0; i < IMAGES * LABELS; i++) dlogits[i] = (facs_real)(i % 5 - 2) / 10;
    CHECK_OK(facs_session_infer(s, FACS_STRETCH_LOGITS, (facs_source){.pixels = pixels}, IMAGES,
                                r.logits));
    /* All rounds give the same; a device's later ones are recordings. */
    for (int round = 0; round < (on_device ? 4 : 1); round++) {
        CHECK_OK(facs_session_forward(s, mode, pixels, NULL, IMAGES, 3, 1, r.trained));
        CHECK_OK(facs_session_backward(s, dlogits, IMAGES));
    }
    CHECK_OK(facs_session_read_gradients(s, &gradients));
    r.gradients = malloc((size_t)r.count * sizeof *gradients);
    memcpy(r.gradients, gradients, (size_t)r.count * sizeof *gradients);
    facs_session_free(s);
    return r;
}

/* Rounding grows on its way through a network, most of all where a batch of few images gives
 * the statistics and where an activation has its corner. How much is seen from another rung of
 * the CPU, or for bfloat16 from what it differs from float32 there: the device may differ from
 * the exacter of the two by little more. */
static void check_like(const char *what, const char *name, const facs_real *device,
                       const facs_real *other, const facs_real *exact, int64_t count,
                       double least)
{
    const double usual = distance(other, exact, count);
    CHECK(within(what, name, distance(device, exact, count), least + 2 * usual));
}

static void test_passes(const char *name, double width)
{
    for (int p = 0; p < FACS_PRECISION_COUNT; p++)
        for (int mode = FACS_MODE_TRAIN; mode < FACS_MODE_COUNT; mode++) {
            const facs_precision precision = (facs_precision)p;
            const double least = p ? 1e-2 : 1e-4;
            const result exact =
                run(name, width, FACS_PRECISION_FLOAT32, (facs_mode)mode, NULL, 0);
            const result other =
                run(name, width, precision, (facs_mode)mode, p ? NULL : "ref", 0);
            const result device = run(name, width, precision, (facs_mode)mode, NULL, 1);
            check_like("inference", name, device.logits, other.logits, exact.logits,
                       IMAGES * LABELS, least);
            check_like("training", name, device.trained, other.trained, exact.trained,
                       IMAGES * LABELS, least);
            check_like("gradients", name, device.gradients, other.gradients, exact.gradients,
                       exact.count, 10 * least);
            free(exact.gradients);
            free(other.gradients);
            free(device.gradients);
        }
}

/* BatchNorms after which an activation lies between the corners of ReLU6, below or above both:
 * rounding would decide on which side of a corner others fall, and move gradients by per cents.
 */
static void clear_corners(facs_session *s)
{
    const facs_network *network = facs_session_network(s);
    for (int i = 0; i < network->graph.parameter_count; i++) {
        const facs_parameter *p = &network->graph.parameters[i];
        facs_real *values = network->parameters + p->offset;
        for (int64_t j = 0; j < p->count; j++)
            if (p->kind == FACS_PARAMETER_GAMMA)
                values[j] = 0.5f + 0.02f * (facs_real)(j * 7 % 11);
            else if (p->kind == FACS_PARAMETER_BETA)
                values[j] = j % 10 == 9 ? -3.0f : j % 20 == 8 ? 9.0f : 3.0f;
    }
    facs_session_touch(s);
}

typedef struct training {
    const char *network;
    facs_loss_kind loss;
    facs_optimiser_kind optimiser;
} training;

/* Epsilon lets Adam make small steps of small gradients, which are rounding at some places. */
static facs_stage stage_of(const training *t)
{
    const int sgd = t->optimiser == FACS_OPTIMISER_SGD;
    return (facs_stage){
        .rate = 1e-2,
        .schedule = {.epochs = 1, .period = 1},
        .loss = t->loss,
        .loss_options = {.epsilon = 1e-7f, .alpha = 0.5f, .beta = 0.5f, .gamma_negative = 2},
        .optimiser = {.kind = t->optimiser,
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .epsilon = 1e-2,
                      .weight_decay = sgd ? 0.01 : 1,
                      .average_decay = 0.9,
                      .clip_norm = 0.5},
    };
}

typedef struct trained {
    double losses[STEPS], norms[STEPS];
    facs_real *moved; /* what a few steps make of the parameters' average */
} trained;

static trained train(const training *t, int on_device)
{
    facs_session *s = make_session(t->network, 0.25, FACS_PRECISION_FLOAT32, NULL, on_device);
    const facs_network *network = facs_session_network(s);
    const facs_stage stage = stage_of(t);
    const facs_training_batch batch = {
        .pixels = pixels, .target = target, .mask = mask, .n = IMAGES};
    const int64_t count = network->graph.parameter_numbers;
    trained r = {.moved = malloc((size_t)count * sizeof *r.moved)};
    facs_trainer *trainer;
    facs_step_report report;

    clear_corners(s);
    for (int64_t i = 0; i < count; i++) r.moved[i] = -network->parameters[i];
    CHECK_OK(facs_trainer_create(&trainer, s, &stage, IMAGES, 3));
    for (int step = 0; step < STEPS; step++) {
        CHECK_OK(facs_trainer_step(trainer, &batch, 0, &report));
        r.losses[step] = report.loss;
        r.norms[step] = report.gradient_norm;
    }
    CHECK_OK(facs_trainer_swap_average(trainer));
    CHECK_OK(facs_session_fetch(s));
    for (int64_t i = 0; i < count; i++) r.moved[i] += network->parameters[i];
    facs_trainer_free(trainer);
    facs_session_free(s);
    return r;
}

static double length_of(const facs_real *a, const facs_real *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        const double x = (double)a[i] - (b ? b[i] : 0);
        sum += x * x;
    }
    return sqrt(sum);
}

/* Every parameter to a part of itself and a little of what is usual: what should be 0, as of a
 * shift before a BatchNorm, is rounding. */
static void check_moved(const training *t, const facs_real *device, const facs_real *cpu,
                        double part)
{
    facs_session *s = make_session(t->network, 0.25, FACS_PRECISION_FLOAT32, NULL, 0);
    const facs_graph *graph = &facs_session_network(s)->graph;
    double squares = 0, trained_numbers = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < graph->parameter_count; i++) {
            const facs_parameter *p = &graph->parameters[i];
            const facs_real *want = cpu + p->offset;
            if (!facs_parameter_is_trained(p)) continue;
            const double own = length_of(want, NULL, p->count), count = (double)p->count;
            if (pass == 0) {
                squares += own * own;
                trained_numbers += count;
                continue;
            }
            const double usual = sqrt(squares / trained_numbers * count);
            const double apart = length_of(device + p->offset, want, p->count);
            CHECK(within(p->name, t->network, apart, part * own + part * usual / 2));
        }
    CHECK(squares > 0);
    facs_session_free(s);
}

static void check_training(const training *t)
{
    const double part = t->optimiser == FACS_OPTIMISER_SGD ? 3e-3 : 2e-2;
    trained cpu = train(t, 0), device = train(t, 1);
    for (int i = 0; i < STEPS; i++) {
        const double loss = cpu.losses[i], norm = cpu.norms[i];
        CHECK(within("loss", t->network, fabs(device.losses[i] - loss), 1e-3 * (1 + loss)));
        CHECK(within("norm", t->network, fabs(device.norms[i] - norm), 3e-3 * norm));
    }
    check_moved(t, device.moved, cpu.moved, part);
    free(cpu.moved);
    free(device.moved);
}

static void test_training(const char *network)
{
    for (int loss = 0; loss < FACS_LOSS_COUNT; loss++)
        check_training(&(training){network, (facs_loss_kind)loss, FACS_OPTIMISER_SGD});
    for (int optimiser = 0; optimiser < FACS_OPTIMISER_COUNT; optimiser++)
        if (optimiser != FACS_OPTIMISER_SGD)
            check_training(&(training){network, FACS_LOSS_BCE, (facs_optimiser_kind)optimiser});
}

static void test_too_large(void)
{
    facs_session *s = make_session("mobilenet_v1", 1, FACS_PRECISION_FLOAT32, NULL, 1);
    facs_real logits[LABELS];
    CHECK_STATUS(facs_session_forward(s, FACS_MODE_TRAIN, pixels, NULL, 500000, 0, 0, NULL),
                 FACS_E_OOM);
    CHECK(strstr(facs_last_message(), "free") != NULL);
    CHECK_OK(
        facs_session_infer(s, FACS_STRETCH_LOGITS, (facs_source){.pixels = pixels}, 1, logits));
    facs_session_free(s);
}

int main(void)
{
    const char *path = getenv("FACS_TEST_PLUGIN");
    if (!path || !*path) return check_skipped("device", "FACS_TEST_PLUGIN is not set");
    fill();
    CHECK_OK(facs_plugin_load(&plugin, path));
    if (!check_failed) {
        test_passes("mobilenet_v1", 0.25);
        test_passes("mobilenet_v2", 0.35);
        test_passes("densenet121", 1);
        test_training("mobilenet_v1");
        test_training("mobilenet_v2");
        test_too_large();
    }
    return check_report("device");
}
