#include "metric/ranking.h"

#include "core/memory.h"

#include <math.h>
#include <string.h>

facs_status facs_ranking_create(facs_ranking **out, int64_t rows)
{
    facs_ranking *r;
    const size_t count = (size_t)rows;

    *out = NULL;
    FACS_TRY(facs_allocate(&r, 1, sizeof *r, "ranking"));
    facs_status status = facs_allocate(&r->score, count, sizeof *r->score, "ranking");
    if (status == FACS_OK)
        status =
            facs_allocate(&r->true_positive, count, 2 * sizeof *r->true_positive, "ranking");
    if (status == FACS_OK)
        status = facs_allocate(&r->keys, count, 2 * sizeof *r->keys, "ranking");
    if (status != FACS_OK) {
        facs_ranking_free(r);
        return status;
    }
    r->false_positive = r->true_positive + rows;
    r->spare = r->keys + rows;
    *out = r;
    return FACS_OK;
}

void facs_ranking_free(facs_ranking *ranking)
{
    if (!ranking) return;
    facs_free(ranking->score);
    facs_free(ranking->true_positive);
    facs_free(ranking->keys);
    facs_free(ranking);
}

/* --- keys: the score's bits, made to fall with the score, above one bit of target */

static uint64_t key_of(float score, int positive)
{
    uint32_t bits;
    score += 0.0f; /* -0 and 0 are one score */
    memcpy(&bits, &score, sizeof bits);
    bits = bits >> 31 ? bits : ~bits & 0x7fffffffu;
    return (uint64_t)bits << 1 | (uint64_t)positive;
}

static float score_of(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 1);
    float score;
    bits = bits >> 31 ? bits : ~bits & 0x7fffffffu;
    memcpy(&score, &bits, sizeof score);
    return score;
}

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS, KEY_BITS = 33 };

/* Radix sort, least significant digit first. Returns where the sorted keys lie. */
static const uint64_t *sort_keys(facs_ranking *r, int64_t count)
{
    uint64_t *from = r->keys, *to = r->spare;

    for (int shift = 0; shift < KEY_BITS; shift += DIGIT_BITS) {
        int64_t place[DIGITS] = {0}, sum = 0;
        for (int64_t i = 0; i < count; i++) place[from[i] >> shift & (DIGITS - 1)]++;
        for (int digit = 0; digit < DIGITS; digit++) {
            const int64_t size = place[digit];
            place[digit] = sum;
            sum += size;
        }
        for (int64_t i = 0; i < count; i++)
            to[place[from[i] >> shift & (DIGITS - 1)]++] = from[i];
        uint64_t *sorted = to;
        to = from;
        from = sorted;
    }
    return from;
}

void facs_ranking_fill(facs_ranking *r, const facs_score_table *table, int64_t label)
{
    int64_t count = 0;

    for (int64_t row = 0; row < table->n; row++) {
        const int64_t i = row * table->k + label;
        if (facs_score_counts(table, i))
            r->keys[count++] = key_of(table->scores[i], table->target[i] != 0);
    }
    const uint64_t *keys = sort_keys(r, count);
    r->positives = r->negatives = r->steps = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t positive = (int64_t)(keys[i] & 1);
        r->positives += positive;
        r->negatives += !positive;
        if (i + 1 < count && keys[i] >> 1 == keys[i + 1] >> 1) continue;
        r->score[r->steps] = score_of(keys[i]);
        r->true_positive[r->steps] = r->positives;
        r->false_positive[r->steps++] = r->negatives;
    }
}

/* --- measures */

double facs_ranking_average_precision(const facs_ranking *r)
{
    double sum = 0;
    int64_t before = 0;

    if (!r->positives) return NAN;
    for (int64_t i = 0; i < r->steps; i++) {
        const double hits = (double)r->true_positive[i];
        sum += (hits - (double)before) * hits / (hits + (double)r->false_positive[i]);
        before = r->true_positive[i];
    }
    return sum / (double)r->positives;
}

double facs_ranking_roc_auc(const facs_ranking *r)
{
    double twice_area = 0;
    int64_t hits = 0, misses = 0;

    if (!r->positives || !r->negatives) return NAN;
    for (int64_t i = 0; i < r->steps; i++) {
        twice_area +=
            (double)(r->false_positive[i] - misses) * (double)(r->true_positive[i] + hits);
        hits = r->true_positive[i];
        misses = r->false_positive[i];
    }
    return twice_area / (2 * (double)r->positives * (double)r->negatives);
}

/* Sign of F1 of step i minus F1 of step j, exactly: F1 = 2 TP / (positives + predicted). */
static int compare_f1(const facs_ranking *r, int64_t i, int64_t j)
{
    const int64_t predicted_i = r->true_positive[i] + r->false_positive[i];
    const int64_t predicted_j = r->true_positive[j] + r->false_positive[j];
    const int64_t left = r->true_positive[i] * (r->positives + predicted_j);
    const int64_t right = r->true_positive[j] * (r->positives + predicted_i);
    return (left > right) - (left < right);
}

double facs_ranking_best_threshold(const facs_ranking *r)
{
    int64_t best = 0;
    double threshold = NAN, widest = -1;

    if (!r->positives) return NAN;
    for (int64_t i = 1; i < r->steps; i++)
        if (compare_f1(r, i, best) > 0) best = i;
    for (int64_t first = best, last; first < r->steps; first = last + 1) {
        last = first;
        if (compare_f1(r, first, best) != 0) continue;
        while (last + 1 < r->steps && compare_f1(r, last + 1, best) == 0) last++;
        /* Below the lowest score nothing is known, so that the interval ends there. */
        const double high = r->score[first];
        const double low = r->score[last + 1 < r->steps ? last + 1 : last];
        if (high - low <= widest) continue;
        widest = high - low;
        const float middle = (float)(low + (high - low) / 2);
        threshold = middle > low ? middle : high;
    }
    return threshold;
}

void facs_ranking_pr_curve(const facs_ranking *r, double *precision, double *recall,
                           double *threshold)
{
    for (int64_t i = 0; i < r->steps; i++) {
        const int64_t step = r->steps - 1 - i, hits = r->true_positive[step];
        threshold[i] = r->score[step];
        precision[i] = (double)hits / (double)(hits + r->false_positive[step]);
        recall[i] = r->positives ? (double)hits / (double)r->positives : NAN;
    }
    precision[r->steps] = 1;
    recall[r->steps] = r->positives ? 0 : NAN;
}
