#include "check.h"

#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 5, LABELS = 3, SIDE = 64 };

static facs_session *make_session(int threads)
{
    const facs_network_options options = {.input_size = SIDE,
                                          .labels = LABELS,
                                          .width = 0.25,
                                          .padding = FACS_PADDING_SAME,
                                          .activation = {0, 6},
                                          .epsilon = 1e-3,
                                          .dropout = 0.2};
    facs_network *network;
    facs_session *session;
    CHECK_OK(facs_network_create(&network, "mobilenet_v1", &options, 7));
    CHECK_OK(
        facs_session_create(&session, network, NULL, threads, FACS_PRECISION_FLOAT32, NULL));
    return session;
}

static facs_stage make_stage(int first_block)
{
    return (facs_stage){
        .first_block = first_block,
        .rate = 1e-2,
        .schedule = {.epochs = 1, .period = 1},
        .loss = FACS_LOSS_BCE,
        .loss_options = {.epsilon = 1e-7f},
        .optimiser = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
    };
}

/* Where the classifier's last bias lies in the slab. */
static int64_t last_trained(const facs_network *network)
{
    const facs_parameter *p = &network->graph.parameters[network->graph.parameter_count - 1];
    return p->offset + p->count - 1;
}

/* One copy takes all running statistics, since they lie behind all that is trained. */
static void test_statistics_lie_together(void)
{
    facs_session *session = make_session(1);
    const facs_network *network = facs_session_network(session);
    const int64_t last = last_trained(network);
    int64_t trained = 0, kept = 0;

    for (int i = 0; i < network->graph.parameter_count; i++) {
        const facs_parameter *p = &network->graph.parameters[i];
        const int is_trained = facs_parameter_is_trained(p);
        CHECK(p->offset == (is_trained ? trained : last + 1 + kept));
        if (is_trained)
            trained += p->count;
        else
            kept += p->count;
    }
    CHECK(kept > 0 && trained + kept == network->graph.parameter_numbers);
    facs_session_free(session);
}

static uint8_t pixels[BATCH * SIDE * SIDE * 3];
static facs_real target[BATCH * LABELS], mask[BATCH * LABELS];

static facs_training_batch make_batch(void)
{
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 73 % 255);
    for (int i = 0; i < BATCH * LABELS; i++) target[i] = i % 4 == 0, mask[i] = 1;
    return (facs_training_batch){.pixels = pixels, .target = target, .mask = mask, .n = BATCH};
}

/* Parameters after a few steps on so many threads; the caller frees them. */
static facs_real *train(int threads, int block, int steps, int64_t *count)
{
    facs_session *session = make_session(threads);
    const facs_network *network = facs_session_network(session);
    const facs_stage stage = make_stage(block);
    const facs_training_batch batch = make_batch();
    facs_trainer *trainer;
    facs_step_report report;

    CHECK_OK(facs_trainer_create(&trainer, session, &stage, BATCH, 3));
    for (int i = 0; i < steps; i++) CHECK_OK(facs_trainer_step(trainer, &batch, 0, &report));
    *count = network->graph.parameter_numbers;
    facs_real *copy = malloc((size_t)*count * sizeof *copy);
    memcpy(copy, network->parameters, (size_t)*count * sizeof *copy);
    facs_trainer_free(trainer);
    facs_session_free(session);
    return copy;
}

static void test_threads_give_equal_bytes(void)
{
    int64_t count;
    facs_real *one = train(1, 1, 3, &count);
    for (int threads = 2; threads <= 7; threads += 5) {
        facs_real *many = train(threads, 1, 3, &count);
        CHECK(memcmp(one, many, (size_t)count * sizeof *one) == 0);
        free(many);
    }
    free(one);
}

static void test_only_unfrozen_blocks_move(void)
{
    int64_t count;
    facs_session *session = make_session(1);
    const facs_graph *graph = &facs_session_network(session)->graph;
    const int block = facs_graph_find_block(graph, "block12");
    facs_real *before = train(1, block, 0, &count), *after = train(1, block, 2, &count);

    for (int i = 0; i < graph->parameter_count; i++) {
        const facs_parameter *p = &graph->parameters[i];
        const int same = memcmp(before + p->offset, after + p->offset,
                                (size_t)p->count * sizeof *before) == 0;
        CHECK(same == (p->block < block));
    }
    free(before);
    free(after);
    facs_session_free(session);
}

/* The head on cached features takes the very step it takes behind the frozen backbone. */
static void test_features_equal_images(void)
{
    const facs_training_batch images = make_batch();
    facs_step_report report[2];
    facs_real classifier[2][3];

    for (int cached = 0; cached < 2; cached++) {
        facs_session *session = make_session(2);
        facs_network *network = facs_session_network(session);
        facs_stage stage = make_stage(network->graph.block_count - 1);
        const int c = network->graph.nodes[network->features].shape.c;
        facs_real *features = malloc(BATCH * (size_t)c * sizeof *features);
        facs_training_batch batch = images;
        facs_trainer *trainer;

        CHECK_OK(facs_session_infer(session, FACS_STRETCH_FEATURES,
                                    (facs_source){.pixels = pixels}, BATCH, features));
        if (cached) batch.pixels = NULL, batch.numbers = features;
        stage.from_boundary = cached;
        CHECK_OK(facs_trainer_create(&trainer, session, &stage, BATCH, 1));
        CHECK_OK(facs_trainer_step(trainer, &batch, 0, &report[cached]));
        memcpy(classifier[cached], network->parameters + last_trained(network) - 2,
               sizeof classifier[cached]);
        facs_trainer_free(trainer);
        facs_session_free(session);
        free(features);
    }
    CHECK_CLOSE(report[0].loss, report[1].loss, 1e-6);
    for (int i = 0; i < 3; i++) CHECK_CLOSE(classifier[0][i], classifier[1][i], 1e-6);
}

static void test_refusals(void)
{
    facs_session *session = make_session(1);
    facs_stage stage = make_stage(1);
    facs_training_batch batch = make_batch();
    facs_step_report report;
    facs_trainer *trainer;

    stage.from_boundary = 1; /* the input block reads nothing */
    stage.first_block = 0;
    CHECK_STATUS(facs_trainer_create(&trainer, session, &stage, BATCH, 0), FACS_E_ARG);
    stage = make_stage(1);
    stage.rate = 0;
    CHECK_STATUS(facs_trainer_create(&trainer, session, &stage, BATCH, 0), FACS_E_ARG);
    stage = make_stage(1);
    CHECK_OK(facs_trainer_create(&trainer, session, &stage, BATCH, 0));
    batch.n = BATCH + 1;
    CHECK_STATUS(facs_trainer_step(trainer, &batch, 0, &report), FACS_E_ARG);
    batch.n = BATCH;
    target[1] = NAN;
    CHECK_STATUS(facs_trainer_step(trainer, &batch, 0, &report), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "classifier") != NULL);
    target[1] = 0;
    facs_trainer_free(trainer);
    facs_session_free(session);
}

/* The average after every step, by the rule of the header. */
static void test_average(void)
{
    facs_session *session = make_session(1);
    const facs_network *network = facs_session_network(session);
    const int64_t last = last_trained(network);
    const facs_training_batch batch = make_batch();
    facs_stage stage = make_stage(network->graph.block_count - 1);
    facs_trainer *trainer;
    facs_step_report report;

    stage.optimiser.average_decay = 0.3;
    CHECK_OK(facs_trainer_create(&trainer, session, &stage, BATCH, 0));
    double average = network->parameters[last];
    for (int t = 1; t <= 8; t++) {
        const double decay = fmin(0.3, (1.0 + t) / (10.0 + t)); /* 0.3 from step 3 on */
        CHECK_OK(facs_trainer_step(trainer, &batch, 0, &report));
        average += (1 - decay) * (network->parameters[last] - average);
        CHECK_OK(facs_trainer_swap_average(trainer));
        CHECK_CLOSE(network->parameters[last], average, 1e-7);
        CHECK_OK(facs_trainer_swap_average(trainer));
    }
    facs_trainer_free(trainer);
    facs_session_free(session);
}

static void test_schedules(void)
{
    const facs_schedule cosine = {FACS_SCHEDULE_COSINE, 1, 5, 0.1, 1};
    const facs_schedule steps = {FACS_SCHEDULE_STEP, 0, 9, 0.5, 3};
    const facs_schedule plateau = {FACS_SCHEDULE_PLATEAU, 0, 9, 0.5, 2};
    facs_plateau state = {.best = -INFINITY, .factor = 1};

    CHECK_CLOSE(facs_schedule_factor(&cosine, 0.5, NULL), 0.5, 1e-12);
    CHECK_CLOSE(facs_schedule_factor(&cosine, 1, NULL), 1, 1e-12);
    CHECK_CLOSE(facs_schedule_factor(&cosine, 3, NULL), 0.55, 1e-12);
    CHECK_CLOSE(facs_schedule_factor(&cosine, 5, NULL), 0.1, 1e-12);
    CHECK_CLOSE(facs_schedule_factor(&steps, 2.9, NULL), 1, 1e-12);
    CHECK_CLOSE(facs_schedule_factor(&steps, 6, NULL), 0.25, 1e-12);
    const double scores[] = {0.5, 0.6, 0.6, NAN, 0.7, 0.1, 0.2};
    const double wanted[] = {1, 1, 1, 0.5, 0.5, 0.5, 0.25};
    for (int i = 0; i < 7; i++) {
        facs_plateau_observe(&state, &plateau, scores[i]);
        CHECK_CLOSE(facs_schedule_factor(&plateau, i, &state), wanted[i], 1e-12);
    }
}

int main(void)
{
    test_statistics_lie_together();
    test_threads_give_equal_bytes();
    test_only_unfrozen_blocks_move();
    test_features_equal_images();
    test_refusals();
    test_average();
    test_schedules();
    return check_report("train");
}
