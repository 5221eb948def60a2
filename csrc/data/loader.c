#define _POSIX_C_SOURCE 200809L
#include "data/loader_internal.h"

#include "core/clock.h"
#include "core/memory.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static facs_status check_options(const facs_sample_table *table, const facs_loader_options *o)
{
    if (table->count < 1) return facs_fail(FACS_E_ARG, "loader: there are no samples");
    if (o->batch < 1)
        return facs_fail(FACS_E_ARG, "loader: batch is %lld, want at least 1",
                         (long long)o->batch);
    if (o->size < 1 || o->size > 4096)
        return facs_fail(FACS_E_ARG, "loader: size is %d, want 1 to 4096", o->size);
    if (o->workers < 1 || o->workers > 256 || o->slots < 2)
        return facs_fail(FACS_E_ARG, "loader: %d workers and %d slots, want 1 to 256 and 2",
                         o->workers, o->slots);
    if (o->cache_bytes < 0 || o->most_skipped < 0)
        return facs_fail(FACS_E_ARG,
                         "loader: cache_bytes is %lld, most_skipped %lld, want at least 0",
                         (long long)o->cache_bytes, (long long)o->most_skipped);
    return facs_augmentation_check(&o->augmentation);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static facs_status make_slot(facs_loader *l, facs_slot *slot)
{
    const size_t n = (size_t)smaller(l->options.batch, l->table.count);
    const size_t k = (size_t)l->table.label_count;
    const size_t image = 3 * (size_t)l->options.size * (size_t)l->options.size;
    FACS_TRY(facs_allocate_slab(&slot->pixels, n * image, "loader's ring"));
    FACS_TRY(facs_allocate(&slot->labels, n * k, sizeof *slot->labels, "loader's ring"));
    FACS_TRY(facs_allocate(&slot->mask, n * k, sizeof *slot->mask, "loader's ring"));
    return facs_allocate(&slot->indices, n, sizeof *slot->indices, "loader's ring");
}

static facs_status start_workers(facs_loader *l)
{
    sigset_t all, before;
    int failure = 0;

    FACS_TRY(
        facs_allocate(&l->threads, (size_t)l->options.workers, sizeof *l->threads, "loader"));
    /* Signals are for the caller's threads: workers inherit that none reaches them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (!failure && l->started < l->options.workers) {
        failure = pthread_create(&l->threads[l->started], NULL, facs_loader_worker, l);
        l->started += !failure;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure)
        return facs_fail(FACS_E_OOM, "loader: worker %d of %d could not be started: %s",
                         l->started + 1, l->options.workers, strerror(failure));
    return FACS_OK;
}

static facs_status make(facs_loader *l)
{
    const size_t rows = (size_t)l->table.count;
    FACS_TRY(facs_allocate(&l->slots, (size_t)l->options.slots, sizeof *l->slots, "loader"));
    for (int i = 0; i < l->options.slots; i++) FACS_TRY(make_slot(l, &l->slots[i]));
    FACS_TRY(facs_allocate(&l->order, rows, sizeof *l->order, "loader"));
    FACS_TRY(facs_allocate(&l->copies, rows, sizeof *l->copies, "loader"));
    FACS_TRY(facs_allocate(&l->seen, rows, sizeof *l->seen, "loader"));
    FACS_TRY(facs_allocate(&l->cache, rows, sizeof *l->cache, "loader"));
    l->cache_left = l->options.cache_bytes;
    if (l->options.most_skipped > 0) {
        const int64_t most = smaller(l->options.most_skipped, l->table.count);
        FACS_TRY(
            facs_allocate(&l->skipped_rows, (size_t)most, sizeof *l->skipped_rows, "loader"));
    }
    return start_workers(l);
}

facs_status facs_loader_create(facs_loader **out, const facs_sample_table *table,
                               const facs_loader_options *options)
{
    facs_loader *l;

    *out = NULL;
    FACS_TRY(check_options(table, options));
    FACS_TRY(facs_allocate(&l, 1, sizeof *l, "loader"));
    l->table = *table;
    l->options = *options;
    l->process = getpid();
    if (pthread_mutex_init(&l->lock, NULL) || pthread_cond_init(&l->work, NULL) ||
        pthread_cond_init(&l->ready, NULL)) {
        facs_free(l);
        return facs_fail(FACS_E_OOM, "loader: no lock could be made");
    }
    const facs_status status = make(l);
    if (status != FACS_OK) {
        facs_loader_free(l);
        return status;
    }
    *out = l;
    return FACS_OK;
}

/* In a forked process a worker that is not there may hold the lock. */
static int has_workers(const facs_loader *l)
{
    return l->process == getpid();
}

static facs_status check_process(const facs_loader *l)
{
    if (has_workers(l)) return FACS_OK;
    return facs_fail(FACS_E_UNSUPPORTED,
                     "loader: its workers run in process %ld, this is the forked process %ld; "
                     "make the loader after the fork",
                     (long)l->process, (long)getpid());
}

static void stop_workers(facs_loader *l)
{
    pthread_mutex_lock(&l->lock);
    l->stopping = 1;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->started; i++) pthread_join(l->threads[i], NULL);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
}

void facs_loader_free(facs_loader *l)
{
    if (!l) return;
    if (has_workers(l)) stop_workers(l);
    for (int i = 0; l->slots && i < l->options.slots; i++) {
        facs_free(l->slots[i].pixels);
        facs_free(l->slots[i].labels);
        facs_free(l->slots[i].mask);
        facs_free(l->slots[i].indices);
    }
    for (int64_t i = 0; l->cache && i < l->table.count; i++) facs_image_free(&l->cache[i]);
    facs_free(l->cache);
    facs_free(l->skipped_rows);
    facs_free(l->slots);
    facs_free(l->seen);
    facs_free(l->copies);
    facs_free(l->order);
    facs_free(l->threads);
    facs_free(l);
}

/* Stops handing out and waits for the images under way. Called with the lock held. */
static void drain(facs_loader *l)
{
    l->handed = l->total;
    while (l->busy) pthread_cond_wait(&l->ready, &l->lock);
}

static void prepare_slot(facs_loader *l, int64_t batch)
{
    facs_slot *slot = &l->slots[batch % l->options.slots];
    slot->n = slot->missing = facs_loader_batch_size(l, batch);
    slot->status = FACS_OK;
}

static facs_status check_indices(const facs_loader *l, const int64_t *indices, int64_t count)
{
    if (count < 1 || count > l->table.count)
        return facs_fail(FACS_E_ARG, "loader: %lld indices, want 1 to %lld", (long long)count,
                         (long long)l->table.count);
    return facs_draw_check_rows("loader: index", indices, count, l->table.count);
}

facs_status facs_loader_start(facs_loader *l, uint32_t epoch, const int64_t *indices,
                              int64_t count, int mirror)
{
    FACS_TRY(check_process(l));
    if (indices)
        FACS_TRY(check_indices(l, indices, count));
    else
        count = l->table.count;
    pthread_mutex_lock(&l->lock);
    drain(l);
    for (int64_t i = 0; i < count; i++) l->order[i] = indices ? indices[i] : i;
    if (l->options.shuffle) facs_draw_shuffle(l->options.seed, epoch, l->order, count);
    facs_draw_copies(l->copies, l->seen, l->table.count, l->order, count);
    l->total = count;
    l->batches = (count - 1) / l->options.batch + 1;
    l->handed = l->filling = l->position = l->consumed = 0;
    l->holding = 0;
    l->epoch = epoch;
    l->mirror = mirror;
    memset(&l->statistics, 0, sizeof l->statistics);
    for (int64_t b = 0; b < l->options.slots && b < l->batches; b++) prepare_slot(l, b);
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return FACS_OK;
}

/* Gives the batch that the consumer holds back to the workers. */
static void give_back(facs_loader *l)
{
    if (!l->holding) return;
    l->holding = 0;
    const int64_t freed = l->consumed++ + l->options.slots;
    if (freed < l->batches) prepare_slot(l, freed);
    pthread_cond_broadcast(&l->work);
}

static void book_skipped(facs_loader *l, const facs_slot *slot, int64_t row)
{
    facs_loader_statistics *s = &l->statistics;
    if (!s->skipped) memcpy(s->first_skipped, slot->message, sizeof s->first_skipped);
    if (s->skipped < smaller(l->options.most_skipped, l->table.count))
        l->skipped_rows[s->skipped] = row;
    s->skipped++;
}

/* Closes the gaps that failed images left. Images are counted here, in their order, so that
 * what a pass skips and where it fails do not depend on the workers. */
static void compact(facs_loader *l, facs_slot *slot)
{
    const size_t k = (size_t)l->table.label_count;
    const size_t image = 3 * (size_t)l->options.size * (size_t)l->options.size;
    int64_t kept = 0;
    for (int64_t i = 0; i < slot->n; i++) {
        if (slot->indices[i] < 0) {
            book_skipped(l, slot, -1 - slot->indices[i]);
            continue;
        }
        if (kept < i) {
            memcpy(slot->pixels + (size_t)kept * image, slot->pixels + (size_t)i * image,
                   image);
            memcpy(slot->labels + (size_t)kept * k, slot->labels + (size_t)i * k,
                   k * sizeof *slot->labels);
            memcpy(slot->mask + (size_t)kept * k, slot->mask + (size_t)i * k,
                   k * sizeof *slot->mask);
            slot->indices[kept] = slot->indices[i];
        }
        kept++;
    }
    slot->n = kept;
}

/* Waits for batch `consumed`; NULL at the end of the pass. Called with the lock held. */
static facs_slot *wait_for_batch(facs_loader *l)
{
    const double before = facs_clock_seconds();
    if (l->consumed >= l->batches) return NULL;
    facs_slot *slot = &l->slots[l->consumed % l->options.slots];
    while (slot->missing) pthread_cond_wait(&l->ready, &l->lock);
    l->statistics.waited += facs_clock_seconds() - before;
    l->holding = 1;
    return slot;
}

static int is_refused(const facs_loader *l, const facs_slot *slot)
{
    if (slot->status == FACS_OK) return 0;
    return !facs_loader_skippable(slot->status) ||
           l->statistics.skipped > l->options.most_skipped;
}

/* Ends the pass with the failure of a batch. */
static facs_status refuse(facs_loader *l, facs_batch *batch, const facs_slot *slot, int64_t row)
{
    batch->failed_row = row;
    drain(l);
    l->consumed = l->batches;
    l->holding = 0;
    return facs_fail(slot->status, "%s", slot->message);
}

/* As facs_loader_next; *reason is the errno of a failure. */
static facs_status next_batch(facs_loader *l, facs_batch *batch, int *reason)
{
    for (;;) { /* a batch may have lost all its images */
        give_back(l);
        facs_slot *slot = wait_for_batch(l);
        if (!slot) return FACS_OK;
        const int64_t row = slot->status == FACS_OK ? -1 : -1 - slot->indices[slot->failed];
        compact(l, slot);
        if (is_refused(l, slot)) {
            *reason = slot->reason;
            return refuse(l, batch, slot, row);
        }
        *batch = (facs_batch){.n = slot->n,
                              .pixels = slot->pixels,
                              .labels = slot->labels,
                              .mask = slot->mask,
                              .indices = slot->indices,
                              .failed_row = -1};
        if (slot->n) return FACS_OK;
    }
}

facs_status facs_loader_next(facs_loader *l, facs_batch *batch)
{
    int reason = 0;

    *batch = (facs_batch){.failed_row = -1};
    FACS_TRY(check_process(l));
    pthread_mutex_lock(&l->lock);
    const facs_status status = next_batch(l, batch, &reason);
    pthread_mutex_unlock(&l->lock);
    if (status != FACS_OK) errno = reason;
    return status;
}

int64_t facs_loader_batches(const facs_loader *l)
{
    return l->batches;
}

void facs_loader_get_statistics(facs_loader *l, facs_loader_statistics *statistics)
{
    const int locks = has_workers(l);
    if (locks) pthread_mutex_lock(&l->lock);
    *statistics = l->statistics;
    statistics->skipped_rows = l->skipped_rows;
    if (locks) pthread_mutex_unlock(&l->lock);
}
