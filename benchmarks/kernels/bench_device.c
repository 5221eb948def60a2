/* Images a second of a device: training steps with the loss read, and inference, of images
 * that lie in its memory.
 *
 *   build/ctest/plain/bench_device PLUGIN [network [batch [dtype [infer batch]]]] */

#include "core/clock.h"
#include "core/memory.h"
#include "train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABELS = 8, SIDE = 224, WARM = 5, ROUNDS = 30 };

static void check(facs_status status)
{
    if (status == FACS_OK) return;
    fprintf(stderr, "%s\n", facs_last_message());
    exit(1);
}

static uint8_t *images(const facs_device *device, int64_t n)
{
    const size_t bytes = (size_t)n * SIDE * SIDE * 3;
    uint8_t *host = malloc(bytes), *there;
    for (size_t i = 0; i < bytes; i++) host[i] = (uint8_t)(i * 7919 % 251);
    check(device->allocate(&there, bytes, "images"));
    device->upload(there, host, bytes);
    check(device->wait());
    free(host);
    return there;
}

static void time_training(facs_session *session, int64_t n)
{
    const facs_device *device = facs_session_device(session);
    const facs_stage stage = {.rate = 1e-5,
                              .schedule = {.epochs = 1, .period = 1},
                              .loss_options = {.epsilon = 1e-7f},
                              .optimiser = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8}};
    uint8_t *pixels = images(device, n);
    facs_real *target = calloc((size_t)n * LABELS, sizeof *target);
    facs_real *mask = malloc((size_t)n * LABELS * sizeof *mask);
    facs_trainer *trainer;
    facs_step_report report;
    double start = 0;

    for (int64_t i = 0; i < n * LABELS; i++) mask[i] = 1, target[i] = i % 5 == 0;
    const facs_training_batch batch = {
        .pixels = pixels, .target = target, .mask = mask, .n = n};
    check(facs_trainer_create(&trainer, session, &stage, n, 3));
    for (int step = -WARM; step < ROUNDS; step++) {
        if (!step) start = facs_clock_seconds();
        check(facs_trainer_step(trainer, &batch, 0, &report));
    }
    const double seconds = (facs_clock_seconds() - start) / ROUNDS;
    printf("training  batch %4lld %9.3f ms %9.0f img/s, %.2f GB, loss %.5f\n", (long long)n,
           1e3 * seconds, (double)n / seconds, (double)facs_trainer_bytes(trainer) / 1e9,
           report.loss);
    facs_trainer_free(trainer);
    device->release(pixels);
    free(target);
    free(mask);
}

static void time_inference(facs_session *session, int64_t n)
{
    const facs_device *device = facs_session_device(session);
    uint8_t *pixels = images(device, n);
    facs_real *logits = malloc((size_t)n * LABELS * sizeof *logits);
    double start = 0;

    for (int round = -WARM; round < ROUNDS; round++) {
        if (!round) start = facs_clock_seconds();
        check(facs_session_infer(session, FACS_STRETCH_LOGITS, (facs_source){.pixels = pixels},
                                 n, logits));
    }
    const double seconds = (facs_clock_seconds() - start) / ROUNDS;
    printf("inference batch %4lld %9.3f ms %9.0f img/s\n", (long long)n, 1e3 * seconds,
           (double)n / seconds);
    device->release(pixels);
    free(logits);
}

int main(int argc, char **argv)
{
    const facs_network_options options = {.input_size = SIDE,
                                          .labels = LABELS,
                                          .width = 1,
                                          .activation = {0, 6},
                                          .epsilon = 1e-5};
    const char *name = argc > 2 ? argv[2] : "mobilenet_v1";
    const int narrow = argc > 4 && !strcmp(argv[4], "bfloat16");
    facs_plugin plugin;
    facs_network *network;
    facs_session *session;

    if (argc < 2) return 2;
    check(facs_plugin_load(&plugin, argv[1]));
    check(facs_network_create(&network, name, &options, 1));
    check(facs_session_create(&session, network, NULL, 0,
                              narrow ? FACS_PRECISION_BFLOAT16 : FACS_PRECISION_FLOAT32,
                              &plugin));
    printf("%s, %s, %s\n", name, narrow ? "bfloat16" : "float32", plugin.description);
    time_training(session, argc > 3 ? atoll(argv[3]) : 64);
    time_inference(session, argc > 5 ? atoll(argv[5]) : 256);
    facs_session_free(session);
    return 0;
}
