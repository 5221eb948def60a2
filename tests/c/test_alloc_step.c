#include "check.h"

#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

/* Linked with --wrap: every call of the allocator is counted, and the k-th can fail. */

static long allocations, live, fail_at = -1;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
int __real_posix_memalign(void **block, size_t alignment, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
int __wrap_posix_memalign(void **block, size_t alignment, size_t size);
void __wrap_free(void *block);

static int fails(void)
{
    return allocations++ == fail_at;
}

void *__wrap_malloc(size_t size)
{
    void *block = fails() ? NULL : __real_malloc(size);
    live += block != NULL;
    return block;
}

void *__wrap_calloc(size_t count, size_t size)
{
    void *block = fails() ? NULL : __real_calloc(count, size);
    live += block != NULL;
    return block;
}

void *__wrap_realloc(void *block, size_t size)
{
    if (fails()) return NULL;
    live += !block;
    return __real_realloc(block, size);
}

int __wrap_posix_memalign(void **block, size_t alignment, size_t size)
{
    if (fails()) return 12;
    const int status = __real_posix_memalign(block, alignment, size);
    live += status == 0;
    return status;
}

void __wrap_free(void *block)
{
    live -= block != NULL;
    __real_free(block);
}

enum { BATCH = 3, LABELS = 4, SIDE = 64 };

static const facs_stage stage = {
    .first_block = 1,
    .recompute = 1, /* does what is done without, and more */
    .rate = 1e-3,
    .schedule = {.kind = FACS_SCHEDULE_COSINE, .epochs = 4, .period = 1},
    .loss = FACS_LOSS_PR,
    .loss_options = {.epsilon = 1e-7f, .bce_weight = 0.1f},
    .optimiser =
        {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .clip_norm = 1, .average_decay = 0.9},
};

static facs_status make(facs_session **session, facs_trainer **trainer)
{
    const facs_network_options options = {.input_size = SIDE,
                                          .labels = LABELS,
                                          .width = 0.25,
                                          .padding = FACS_PADDING_SAME,
                                          .activation = {0, 6},
                                          .epsilon = 1e-3,
                                          .dropout = 0.2};
    facs_network *network;

    *session = NULL, *trainer = NULL;
    FACS_TRY(facs_network_create(&network, "mobilenet_v1", &options, 0));
    const facs_status status =
        facs_session_create(session, network, NULL, 2, FACS_PRECISION_FLOAT32, NULL);
    if (status != FACS_OK) {
        facs_network_free(network);
        return status;
    }
    return facs_trainer_create(trainer, *session, &stage, BATCH, 0);
}

static uint8_t pixels[BATCH * SIDE * SIDE * 3];
static facs_real target[BATCH * LABELS], mask[BATCH * LABELS];

static facs_training_batch make_batch(void)
{
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 37 % 251);
    for (int i = 0; i < BATCH * LABELS; i++) target[i] = i % 3 == 0, mask[i] = i != 5;
    return (facs_training_batch){.pixels = pixels, .target = target, .mask = mask, .n = BATCH};
}

static void test_step_allocates_nothing(void)
{
    facs_session *session;
    facs_trainer *trainer;
    facs_step_report report;
    const facs_training_batch batch = make_batch();

    CHECK_OK(make(&session, &trainer));
    CHECK_OK(facs_trainer_step(trainer, &batch, 0, &report));
    const double first = report.loss;
    const long before = allocations;
    for (int i = 1; i < 20; i++) CHECK_OK(facs_trainer_step(trainer, &batch, i * 0.1, &report));
    CHECK(allocations == before);
    CHECK(report.loss < first); /* it did train */
    facs_trainer_free(trainer);
    facs_session_free(session);
}

static void test_failures_are_clean(void)
{
    int failures = 0;
    for (fail_at = 0;; fail_at++) {
        facs_session *session;
        facs_trainer *trainer;
        allocations = 0;
        const long before = live;
        const facs_status status = make(&session, &trainer);
        facs_trainer_free(trainer);
        facs_session_free(session);
        CHECK(live == before);
        if (status == FACS_OK) break;
        CHECK(status == FACS_E_OOM);
        CHECK(strstr(facs_last_message(), "cannot allocate") != NULL);
        failures++;
    }
    fail_at = -1;
    CHECK(failures > 10);
}

int main(void)
{
    test_step_allocates_nothing();
    test_failures_are_clean();
    return check_report("alloc_step");
}
