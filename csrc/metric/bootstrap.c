#include "metric/bootstrap.h"

#include "core/memory.h"
#include "core/rng.h"
#include "core/threads.h"
#include "metric/ranking.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One known entry of a label. */
typedef struct entry {
    float score;
    int positive;
    int64_t subject;
} entry;

/* What one label needs for its draws; all draws read it. */
typedef struct resampling {
    const facs_bootstrap *b;
    facs_resampled measure;
    int64_t label, count;
    entry *entries;         /* count of them, from the highest score down */
    facs_confusion *counts; /* of every subject, at the threshold */
    int64_t *weight;        /* of the subjects, for every worker */
    facs_ranking **ranking; /* of every worker */
    double *values;
} resampling;

void facs_bootstrap_draw(int64_t *weight, const facs_bootstrap *b, int64_t draw)
{
    facs_rng rng = facs_rng_stream(b->seed, FACS_RNG_RESAMPLE, (uint32_t)draw, b->part);

    memset(weight, 0, (size_t)b->subjects * sizeof *weight);
    for (int64_t i = 0; i < b->subjects; i++)
        weight[facs_rng_below(&rng, (uint32_t)b->subjects)]++;
}

/* --- one draw */

static double f1_of(const resampling *r, const int64_t *weight)
{
    facs_confusion sum = {0, 0, 0, 0};

    for (int64_t i = 0; i < r->b->subjects; i++) {
        sum.true_positive += weight[i] * r->counts[i].true_positive;
        sum.false_positive += weight[i] * r->counts[i].false_positive;
        sum.false_negative += weight[i] * r->counts[i].false_negative;
        sum.true_negative += weight[i] * r->counts[i].true_negative;
    }
    return facs_confusion_rate(&sum, FACS_RATE_F1);
}

/* The ranking of the rows as often as they were drawn. A score that nobody drawn has is no
 * step of it. */
static void rank_drawn(facs_ranking *ranking, const resampling *r, const int64_t *weight)
{
    ranking->positives = ranking->negatives = ranking->steps = 0;
    int64_t drawn = 0;
    for (int64_t i = 0; i < r->count; i++) {
        const entry *e = r->entries + i;
        const int64_t times = weight[e->subject];
        drawn += times;
        if (e->positive)
            ranking->positives += times;
        else
            ranking->negatives += times;
        if (i + 1 < r->count && e->score == e[1].score) continue;
        if (!drawn) continue;
        ranking->score[ranking->steps] = e->score;
        ranking->true_positive[ranking->steps] = ranking->positives;
        ranking->false_positive[ranking->steps++] = ranking->negatives;
        drawn = 0;
    }
}

static void measure_draw(void *context, int64_t draw, int worker)
{
    const resampling *r = context;
    int64_t *weight = r->weight + worker * r->b->subjects;
    double value;

    facs_bootstrap_draw(weight, r->b, draw);
    if (r->measure == FACS_RESAMPLED_F1) {
        value = f1_of(r, weight);
    } else {
        facs_ranking *ranking = r->ranking[worker];
        rank_drawn(ranking, r, weight);
        value = r->measure == FACS_RESAMPLED_ROC_AUC ? facs_ranking_roc_auc(ranking)
                                                     : facs_ranking_average_precision(ranking);
    }
    r->values[draw * r->b->table->k + r->label] = value;
}

/* --- one label */

static int falling(const void *a, const void *b)
{
    const float x = ((const entry *)a)->score, y = ((const entry *)b)->score;
    return (x < y) - (x > y);
}

static void rank_label(resampling *r)
{
    const facs_score_table *table = r->b->table;

    r->count = 0;
    for (int64_t row = 0; row < table->n; row++) {
        const int64_t i = row * table->k + r->label;
        if (!facs_score_counts(table, i)) continue;
        r->entries[r->count++] =
            (entry){table->scores[i], table->target[i] != 0, r->b->subject[row]};
    }
    qsort(r->entries, (size_t)r->count, sizeof *r->entries, falling);
}

static void count_label(resampling *r)
{
    const facs_score_table *table = r->b->table;

    memset(r->counts, 0, (size_t)r->b->subjects * sizeof *r->counts);
    for (int64_t row = 0; row < table->n; row++) {
        const int64_t i = row * table->k + r->label;
        if (!facs_score_counts(table, i)) continue;
        facs_confusion *c = r->counts + r->b->subject[row];
        const int predicted = table->scores[i] >= r->b->threshold[r->label];
        const int positive = table->target[i] != 0;
        c->true_positive += predicted && positive;
        c->false_positive += predicted && !positive;
        c->false_negative += !predicted && positive;
        c->true_negative += !predicted && !positive;
    }
}

/* --- all */

static void release(resampling *r, int workers)
{
    for (int i = 0; r->ranking && i < workers; i++) facs_ranking_free(r->ranking[i]);
    facs_free(r->ranking);
    facs_free(r->weight);
    facs_free(r->counts);
    facs_free(r->entries);
}

static facs_status reserve(resampling *r, int workers)
{
    const size_t subjects = (size_t)r->b->subjects, rows = (size_t)r->b->table->n;

    FACS_TRY(
        facs_allocate(&r->weight, (size_t)workers, subjects * sizeof *r->weight, "bootstrap"));
    if (r->measure == FACS_RESAMPLED_F1)
        return facs_allocate(&r->counts, subjects, sizeof *r->counts, "bootstrap");
    FACS_TRY(facs_allocate(&r->entries, rows, sizeof *r->entries, "bootstrap"));
    FACS_TRY(facs_allocate(&r->ranking, (size_t)workers, sizeof *r->ranking, "bootstrap"));
    for (int i = 0; i < workers; i++)
        FACS_TRY(facs_ranking_create(&r->ranking[i], r->b->table->n));
    return FACS_OK;
}

static facs_status check(const facs_bootstrap *b)
{
    for (int64_t row = 0; row < b->table->n; row++)
        if (b->subject[row] < 0 || b->subject[row] >= b->subjects)
            return facs_fail(FACS_E_ARG, "subjects: row %lld is %lld, want 0 to %lld",
                             (long long)row, (long long)b->subject[row],
                             (long long)b->subjects - 1);
    if (b->subjects > INT32_MAX || b->draws > INT32_MAX)
        return facs_fail(FACS_E_ARG, "%lld subjects and %lld draws, want at most %d of each",
                         (long long)b->subjects, (long long)b->draws, INT32_MAX);
    return FACS_OK;
}

facs_status facs_bootstrap_run(double *values, const facs_bootstrap *b, facs_resampled measure)
{
    resampling r = {.b = b, .measure = measure, .values = values};
    const int workers = b->threads;

    FACS_TRY(check(b));
    const facs_status status = reserve(&r, workers);
    for (r.label = 0; status == FACS_OK && r.label < b->table->k; r.label++) {
        if (measure == FACS_RESAMPLED_F1)
            count_label(&r);
        else
            rank_label(&r);
        facs_parallel(workers, b->draws, measure_draw, &r);
    }
    release(&r, workers);
    return status;
}
