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

/* Losses of a few steps, then the parameters. */
static facs_real *train(const char *name, int on_device, facs_loss_kind loss, double *losses)
{
    facs_session *s = make_session(name, 0.25, FACS_PRECISION_FLOAT32, NULL, on_device);
    const facs_network *network = facs_session_network(s);
    const facs_stage stage = {
        .rate = 1e-2,
        .schedule = {.epochs = 1, .period = 1},
        .loss = loss,
        .loss_options = {.epsilon = 1e-7f, .alpha = 0.5f, .beta = 0.5f, .gamma_negative = 2},
        /* Adam would make steps of full length out of gradients that are rounding alone. */
        .optimiser = {.kind = FACS_OPTIMISER_SGD,
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .epsilon = 1e-6,
                      .average_decay = 0.9,
                      .clip_norm = 1},
    };
    const facs_training_batch batch = {
        .pixels = pixels, .target = target, .mask = mask, .n = IMAGES};
    const size_t bytes = (size_t)network->graph.parameter_numbers * sizeof(facs_real);
    facs_real *parameters = malloc(bytes);
    facs_trainer *trainer;
    facs_step_report report;

    CHECK_OK(facs_trainer_create(&trainer, s, &stage, IMAGES, 3));
    for (int step = 0; step < STEPS; step++) {
        CHECK_OK(facs_trainer_step(trainer, &batch, 0, &report));
        losses[step] = report.loss;
    }
    CHECK_OK(facs_trainer_swap_average(trainer));
    CHECK_OK(facs_session_fetch(s));
    memcpy(parameters, network->parameters, bytes);
    facs_trainer_free(trainer);
    facs_session_free(s);
    return parameters;
}

static void test_training(const char *name)
{
    for (int loss = 0; loss < FACS_LOSS_COUNT; loss++) {
        double cpu[STEPS], gpu[STEPS];
        facs_real *a = train(name, 0, (facs_loss_kind)loss, cpu);
        facs_real *b = train(name, 1, (facs_loss_kind)loss, gpu);
        for (int i = 0; i < STEPS; i++)
            CHECK(within("loss", name, fabs(cpu[i] - gpu[i]), 2e-3 * (1 + fabs(cpu[i]))));
        free(a);
        free(b);
    }
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
