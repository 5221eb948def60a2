#include "check.h"

#include "metric/bootstrap.h"
#include "metric/calibration.h"
#include "metric/cooccurrence.h"
#include "metric/ranking.h"
#include "metric/thresholds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LARGE = 5000 };

/* Two labels: the first with ties, the second without a positive and with an unknown. */
static const float scores[] = {0.9f, 0.1f, 0.5f, 0.2f, 0.5f, 0.3f, 0.1f, 0.4f};
static const float target[] = {1, 0, 1, 0, 0, NAN, 0, 0};
static const facs_score_table table = {scores, target, NULL, 4, 2};

static facs_score_table column(const float *values, const float *known, int64_t n)
{
    return (facs_score_table){values, known, NULL, n, 1};
}

static void test_confusion(void)
{
    const float threshold[] = {0.5f, 0.4f};
    facs_confusion c[2];

    facs_confusion_count(c, &table, threshold);
    CHECK(c[0].true_positive == 2 && c[0].false_positive == 1);
    CHECK(c[0].false_negative == 0 && c[0].true_negative == 1);
    CHECK(c[1].true_positive == 0 && c[1].false_positive == 1);
    CHECK(c[1].false_negative == 0 && c[1].true_negative == 2);
    CHECK_CLOSE(facs_confusion_rate(c, FACS_RATE_PRECISION), 2.0 / 3, 1e-15);
    CHECK(facs_confusion_rate(c, FACS_RATE_RECALL) == 1);
    CHECK_CLOSE(facs_confusion_rate(c, FACS_RATE_F1), 0.8, 1e-15);
    CHECK(facs_confusion_rate(c, FACS_RATE_ACCURACY) == 0.75);
    CHECK(facs_confusion_rate(c + 1, FACS_RATE_PRECISION) == 0);
    CHECK(isnan(facs_confusion_rate(c + 1, FACS_RATE_RECALL)));
    CHECK(isnan(facs_confusion_rate(c + 1, FACS_RATE_F1)));
}

static void test_undefined(void)
{
    const facs_confusion nothing = {0, 0, 0, 0}, missed = {0, 0, 3, 5};
    const double values[] = {NAN, 0.5, NAN, 1};

    for (int rate = 0; rate < FACS_RATE_COUNT; rate++)
        CHECK(isnan(facs_confusion_rate(&nothing, (facs_rate)rate)));
    CHECK(isnan(facs_confusion_rate(&missed, FACS_RATE_PRECISION)));
    CHECK(facs_confusion_rate(&missed, FACS_RATE_RECALL) == 0);
    CHECK(facs_confusion_rate(&missed, FACS_RATE_F1) == 0);
    CHECK(facs_macro_mean(values, 4) == 0.75);
    CHECK(isnan(facs_macro_mean(values, 1)) && isnan(facs_macro_mean(values, 0)));
}

static void test_check(void)
{
    float broken[8], wrong[8], mask[8];

    CHECK_OK(facs_score_table_check(&table));
    memcpy(broken, scores, sizeof broken);
    memcpy(wrong, target, sizeof wrong);
    for (int i = 0; i < 8; i++) mask[i] = 1;
    facs_score_table bad = {broken, wrong, mask, 4, 2};
    broken[5] = NAN;
    CHECK_OK(facs_score_table_check(&bad)); /* its target is unknown */
    broken[7] = NAN;
    CHECK_STATUS(facs_score_table_check(&bad), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "scores: row 3, label 1"));
    mask[7] = 0;
    CHECK_OK(facs_score_table_check(&bad));
    wrong[2] = 0.5f;
    CHECK_STATUS(facs_score_table_check(&bad), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "target: row 1, label 0"));
    mask[1] = 2;
    CHECK_STATUS(facs_score_table_check(&bad), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "mask: row 0, label 1"));
}

static void test_ranking(void)
{
    double precision[4], recall[4], threshold[3];
    facs_ranking *r;

    CHECK_OK(facs_ranking_create(&r, 4));
    facs_ranking_fill(r, &table, 0);
    CHECK(r->steps == 3 && r->positives == 2 && r->negatives == 2);
    CHECK(r->score[0] == 0.9f && r->score[1] == 0.5f && r->score[2] == 0.1f);
    CHECK_CLOSE(facs_ranking_average_precision(r), 0.5 + 0.5 * 2 / 3, 1e-15);
    CHECK(facs_ranking_roc_auc(r) == 3.5 / 4);
    CHECK_CLOSE(facs_ranking_best_threshold(r), 0.3, 1e-7); /* scores are floats */
    facs_ranking_pr_curve(r, precision, recall, threshold);
    CHECK(threshold[0] == 0.1f && precision[0] == 0.5 && recall[0] == 1);
    CHECK(threshold[2] == 0.9f && precision[2] == 1 && recall[2] == 0.5);
    CHECK(precision[3] == 1 && recall[3] == 0);
    facs_ranking_fill(r, &table, 1);
    CHECK(r->steps == 3 && r->positives == 0 && r->negatives == 3);
    CHECK(isnan(facs_ranking_average_precision(r)) && isnan(facs_ranking_roc_auc(r)));
    CHECK(isnan(facs_ranking_best_threshold(r)));
    facs_ranking_free(r);
    facs_ranking_free(NULL);
}

static void test_order_of_all_floats(void)
{
    static const float values[] = {-3e38f, -2, -1e-40f, -0.0f, 0, 1e-45f, 1, 3e38f};
    static const float known[] = {0, 0, 0, 0, 1, 1, 1, 1};
    const facs_score_table one = column(values, known, 8);
    facs_ranking *r;

    CHECK_OK(facs_ranking_create(&r, 8));
    facs_ranking_fill(r, &one, 0);
    CHECK(r->steps == 7); /* both zeros are one score */
    CHECK(r->score[0] == 3e38f && r->score[6] == -3e38f);
    CHECK(r->score[3] == 0 && r->score[4] == -1e-40f);
    CHECK(facs_ranking_roc_auc(r) == 1 - 0.5 / 16);
    facs_ranking_free(r);
}

/* Against counting pairs, with many ties, and in two orders of the rows. */
static void test_large(void)
{
    static float values[LARGE], known[LARGE], turned[LARGE], turned_known[LARGE];
    uint32_t state = 1;
    double twice = 0, pairs = 0;
    facs_ranking *r;

    for (int i = 0; i < LARGE; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)((int)(state >> 20) - 2000) / 64;
        known[i] = (float)(state >> 8 & 1);
        turned[LARGE - 1 - i] = values[i];
        turned_known[LARGE - 1 - i] = known[i];
    }
    for (int i = 0; i < LARGE; i++)
        for (int j = 0; j < LARGE; j++)
            if (known[i] > known[j]) {
                pairs++;
                twice += values[i] > values[j] ? 2 : values[i] == values[j];
            }
    const facs_score_table one = column(values, known, LARGE),
                           other = column(turned, turned_known, LARGE);
    CHECK_OK(facs_ranking_create(&r, LARGE));
    facs_ranking_fill(r, &one, 0);
    const double area = facs_ranking_roc_auc(r), precision = facs_ranking_average_precision(r);
    CHECK(area == twice / (2 * pairs));
    for (int64_t i = 1; i < r->steps; i++)
        if (r->score[i] >= r->score[i - 1]) CHECK(!"scores fall");
    facs_ranking_fill(r, &other, 0);
    CHECK(facs_ranking_roc_auc(r) == area);
    CHECK(facs_ranking_average_precision(r) == precision);
    facs_ranking_free(r);
}

static void test_empty(void)
{
    const facs_score_table none = column(NULL, NULL, 0);
    double precision, recall, threshold = 7;
    facs_ranking *r;

    CHECK_OK(facs_score_table_check(&none));
    CHECK_OK(facs_ranking_create(&r, 0));
    facs_ranking_fill(r, &none, 0);
    CHECK(r->steps == 0 && isnan(facs_ranking_best_threshold(r)));
    facs_ranking_pr_curve(r, &precision, &recall, &threshold);
    CHECK(precision == 1 && isnan(recall) && threshold == 7);
    facs_ranking_free(r);
}

static void test_best_threshold(void)
{
    static const float two[] = {1, 0.875f, 0.75f, 0.5f, 0}, two_known[] = {1, 0, 0, 1, 0};
    static const float all[] = {0.75f, 0.5f}, all_known[] = {1, 1};
    const facs_score_table intervals = column(two, two_known, 5),
                           positive = column(all, all_known, 2);
    facs_ranking *r;

    CHECK_OK(facs_ranking_create(&r, 5));
    facs_ranking_fill(r, &intervals, 0); /* F1 of 2/3 on (0.875, 1] and on (0, 0.5] */
    CHECK(facs_ranking_best_threshold(r) == 0.25);
    facs_ranking_fill(r, &positive, 0);
    CHECK(facs_ranking_best_threshold(r) == 0.5);
    facs_ranking_free(r);
}

static void test_shrink(void)
{
    double thresholds[] = {0.25, NAN, 0.75, 0.5}, none[] = {NAN, NAN};
    const int64_t positives[] = {10, 0, 30, 0};
    CHECK_OK(facs_shrink_thresholds(thresholds, positives, 4, 10)); /* the median is 0.5 */
    CHECK(thresholds[0] == 0.375 && thresholds[1] == 0.5);
    CHECK(thresholds[2] == 0.6875 && thresholds[3] == 0.5);
    CHECK_OK(facs_shrink_thresholds(thresholds, positives, 4, 0));
    CHECK(thresholds[0] == 0.375 && thresholds[2] == 0.6875);
    CHECK_OK(facs_shrink_thresholds(none, positives, 2, 1));
    CHECK(isnan(none[0]) && isnan(none[1]));
    CHECK_STATUS(facs_shrink_thresholds(thresholds, positives, 4, -1), FACS_E_ARG);
    CHECK_STATUS(facs_shrink_thresholds(thresholds, positives, 4, NAN), FACS_E_ARG);
}

/* Weighted by hand: every draw's measures are those of the table with its rows repeated. */
static void test_bootstrap(void)
{
    static const float values[] = {0.9f, 0.8f, 0.4f, 0.4f, 0.1f}, known[] = {1, 0, 1, 0, NAN};
    static const int64_t subject[] = {0, 1, 1, 2, 2}, wrong[] = {0, 1, 3, 2, 2};
    static const float threshold = 0.5f;
    const facs_score_table one = column(values, known, 5);
    enum { DRAWS = 50, SUBJECTS = 3 };
    double found[FACS_RESAMPLED_COUNT][DRAWS], again[DRAWS];
    facs_bootstrap b = {&one, &threshold, subject, SUBJECTS, DRAWS, 7, 1, 2};
    int undefined = 0;

    for (int m = 0; m < FACS_RESAMPLED_COUNT; m++)
        CHECK_OK(facs_bootstrap_run(found[m], &b, (facs_resampled)m));
    for (int draw = 0; draw < DRAWS; draw++) {
        int64_t weight[SUBJECTS];
        float repeated[16], target_of[16];
        int64_t n = 0;
        facs_ranking *r;
        facs_confusion c;
        facs_bootstrap_draw(weight, &b, draw);
        CHECK(weight[0] + weight[1] + weight[2] == SUBJECTS);
        for (int i = 0; i < 5; i++)
            for (int64_t times = 0; times < weight[subject[i]]; times++) {
                repeated[n] = values[i];
                target_of[n++] = known[i];
            }
        const facs_score_table drawn = column(repeated, target_of, n);
        facs_confusion_count(&c, &drawn, &threshold);
        CHECK_OK(facs_ranking_create(&r, n));
        facs_ranking_fill(r, &drawn, 0);
        const double wanted[FACS_RESAMPLED_COUNT] = {
            [FACS_RESAMPLED_F1] = facs_confusion_rate(&c, FACS_RATE_F1),
            [FACS_RESAMPLED_AVERAGE_PRECISION] = facs_ranking_average_precision(r),
            [FACS_RESAMPLED_ROC_AUC] = facs_ranking_roc_auc(r)};
        for (int m = 0; m < FACS_RESAMPLED_COUNT; m++) {
            CHECK(isnan(wanted[m]) == isnan(found[m][draw]));
            if (!isnan(wanted[m])) CHECK_CLOSE(found[m][draw], wanted[m], 1e-14);
        }
        undefined += isnan(wanted[FACS_RESAMPLED_F1]);
        facs_ranking_free(r);
    }
    CHECK(undefined > 0 && undefined < DRAWS); /* subject 2 three times has no positive */
    b.threads = 1;
    CHECK_OK(facs_bootstrap_run(again, &b, FACS_RESAMPLED_F1));
    CHECK(memcmp(again, found[FACS_RESAMPLED_F1], sizeof again) == 0);
    b.subject = wrong;
    CHECK_STATUS(facs_bootstrap_run(again, &b, FACS_RESAMPLED_F1), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "subjects: row 2 is 3, want 0 to 2"));
}

static void test_calibration(void)
{
    static const float values[] = {0, 0.25f, 0.5f, 1, 0.75f}, known[] = {0, 1, 1, 0, NAN};
    static const float boast[] = {0.5f, 1.5f}, both[] = {1, 1};
    const facs_score_table one = column(values, known, 5), bad = column(boast, both, 2);
    facs_calibration_bin bin[2];

    CHECK_OK(facs_calibration_count(bin, 2, &one));
    CHECK(bin[0].count == 2 && bin[0].score == 0.25 && bin[0].positive == 1);
    CHECK(bin[1].count == 2 && bin[1].score == 1.5 && bin[1].positive == 1);
    CHECK_CLOSE(facs_calibration_error(bin, 2), (0.75 + 0.5) / 4, 1e-15);
    CHECK_STATUS(facs_calibration_count(bin, 2, &bad), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "row 1, label 0 is 1.5"));
    bin[0].count = bin[0].score = bin[0].positive = 0;
    CHECK(isnan(facs_calibration_error(bin, 1)));
}

static void test_cooccurrence(void)
{
    static const float rows[] = {1, 1, 1, 0, 1, NAN, 0, 1};
    int64_t both[4], given[4];

    facs_cooccurrence_count(both, given, rows, 4, 2);
    CHECK(both[0] == 3 && given[0] == 3 && both[1] == 1 && given[1] == 2);
    CHECK(both[2] == 1 && given[2] == 2 && both[3] == 2 && given[3] == 2);
}

int main(void)
{
    test_confusion();
    test_undefined();
    test_check();
    test_ranking();
    test_order_of_all_floats();
    test_large();
    test_empty();
    test_best_threshold();
    test_shrink();
    test_bootstrap();
    test_calibration();
    test_cooccurrence();
    return check_report("metric");
}
