#include "check.h"

#include "core/threads.h"
#include "nets/session.h"

#include <stdlib.h>
#include <string.h>

/* Sessions: what backward and threads refuse, and how memory grows. */

enum { LABELS = 3, SIDE = 32, IMAGES = 4 };

static facs_real numbers[IMAGES * SIDE * SIDE * 3], logits[IMAGES * LABELS];

static facs_status make(facs_session **session, int threads)
{
    const facs_network_options options = {.input_size = SIDE,
                                          .labels = LABELS,
                                          .width = 0.25,
                                          .padding = FACS_PADDING_SAME,
                                          .activation = {0, 6},
                                          .epsilon = 1e-3,
                                          .dropout = 0.2};
    facs_network *network;
    CHECK_OK(facs_network_create(&network, "mobilenet_v1", &options, 7));
    const facs_status status =
        facs_session_create(session, network, NULL, threads, FACS_PRECISION_FLOAT32, NULL);
    if (status != FACS_OK) facs_network_free(network);
    return status;
}

static void test_backward_wants_the_images_of_forward(void)
{
    facs_session *session;

    CHECK_OK(make(&session, 1));
    CHECK_STATUS(facs_session_backward(session, logits, 1), FACS_E_ARG);
    for (int n = 1; n <= IMAGES; n += IMAGES - 1) {
        CHECK_OK(facs_session_forward(session, FACS_MODE_TRAIN, NULL, numbers, n, 0, 0, NULL));
        CHECK_STATUS(facs_session_backward(session, logits, n + 1), FACS_E_SHAPE);
        CHECK(strstr(facs_last_message(), "dlogits") != NULL);
        CHECK_OK(facs_session_backward(session, logits, n));
        CHECK_STATUS(facs_session_backward(session, logits, n), FACS_E_ARG);
    }
    facs_session_free(session);
}

static void test_threads_are_bounded(void)
{
    facs_session *session;

    CHECK_OK(make(&session, FACS_MOST_THREADS));
    facs_session_free(session);
    CHECK_STATUS(make(&session, FACS_MOST_THREADS + 1), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "threads is 257") != NULL);
    CHECK_STATUS(make(&session, -1), FACS_E_ARG);
    CHECK_OK(make(&session, 0));
    CHECK(facs_session_threads(session) >= 1);
    CHECK(facs_session_threads(session) <= FACS_MOST_THREADS);
    facs_session_free(session);
}

static size_t inference_bytes(int threads)
{
    facs_session *session;
    size_t bytes = 0;

    CHECK_OK(make(&session, threads));
    CHECK_OK(facs_session_measure(session, 1, 0, 0, 0, &bytes));
    facs_session_free(session);
    return bytes;
}

/* Each further thread wants its own lane, and no more than that. */
static void test_inference_grows_with_the_threads(void)
{
    const double one = (double)inference_bytes(1), two = (double)inference_bytes(2),
                 many = (double)inference_bytes(128);
    CHECK(two > one);
    CHECK(many - one <= 1.1 * 127 * (two - one));
}

static void test_measures_too_large_to_count(void)
{
    const int64_t batches[] = {INT64_C(1000000000000000), INT64_MAX / 2, INT64_MAX};
    facs_session *session;
    size_t bytes;

    CHECK_OK(make(&session, 1));
    for (int i = 0; i < 3; i++)
        CHECK_STATUS(facs_session_measure(session, batches[i], 1, 0, 0, &bytes), FACS_E_OOM);
    for (int training = 0; training < 2; training++)
        CHECK_STATUS(facs_session_measure(session, 0, training, 0, 0, &bytes), FACS_E_ARG);
    facs_session_free(session);
}

int main(void)
{
    for (int i = 0; i < IMAGES * SIDE * SIDE * 3; i++)
        numbers[i] = (facs_real)(i * 31 % 101) / 50 - 1;
    test_backward_wants_the_images_of_forward();
    test_threads_are_bounded();
    test_inference_grows_with_the_threads();
    test_measures_too_large_to_count();
    return check_report("session");
}
