#define _POSIX_C_SOURCE 200809L
#include "data/loader_internal.h"

#include "core/memory.h"

#include <string.h>
#include <time.h>

static facs_status check_options(const facs_sample_table *table, const facs_loader_options *o)
{
    if (table->count < 1) return facs_fail(FACS_E_ARG, "loader: there are no samples");
    if (o->batch < 1)
        return facs_fail(FACS_E_ARG, "loader: batch is %lld, want at least 1",
                         (long long)o->batch);
    if (o->drop_last && o->batch > table->count)
        return facs_fail(FACS_E_ARG, "loader: batch is %lld, but there are only %lld samples",
                         (long long)o->batch, (long long)table->count);
    if (o->size < 1 || o->size > 4096)
        return facs_fail(FACS_E_ARG, "loader: size is %d, want 1 to 4096", o->size);
    if (o->workers < 1 || o->workers > 256 || o->slots < 2)
        return facs_fail(FACS_E_ARG, "loader: %d workers and %d slots, want 1 to 256 and 2",
                         o->workers, o->slots);
    return facs_augmentation_check(&o->augmentation);
}

static facs_status make_slot(facs_loader *l, facs_slot *slot)
{
    const size_t n = (size_t)l->options.batch, k = (size_t)l->table.label_count;
    const size_t image = 3 * (size_t)l->options.size * (size_t)l->options.size;
    FACS_TRY(facs_allocate_slab(&slot->pixels, n * image, "loader's ring"));
    FACS_TRY(facs_allocate(&slot->labels, n * k, sizeof *slot->labels, "loader's ring"));
    FACS_TRY(facs_allocate(&slot->mask, n * k, sizeof *slot->mask, "loader's ring"));
    return facs_allocate(&slot->indices, n, sizeof *slot->indices, "loader's ring");
}

static facs_status start_workers(facs_loader *l)
{
    FACS_TRY(
        facs_allocate(&l->threads, (size_t)l->options.workers, sizeof *l->threads, "loader"));
    for (; l->started < l->options.workers; l->started++)
        if (pthread_create(&l->threads[l->started], NULL, facs_loader_worker, l))
            return facs_fail(FACS_E_OOM, "loader: worker %d of %d could not be started",
                             l->started, l->options.workers);
    return FACS_OK;
}

static facs_status make(facs_loader *l)
{
    const size_t rows = (size_t)l->table.count;
    FACS_TRY(facs_allocate(&l->slots, (size_t)l->options.slots, sizeof *l->slots, "loader"));
    for (int i = 0; i < l->options.slots; i++) FACS_TRY(make_slot(l, &l->slots[i]));
    FACS_TRY(facs_allocate(&l->order, rows, sizeof *l->order, "loader"));
    FACS_TRY(facs_allocate(&l->cache, rows, sizeof *l->cache, "loader"));
    l->cache_left = l->options.cache_bytes;
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

void facs_loader_free(facs_loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stopping = 1;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->started; i++) pthread_join(l->threads[i], NULL);
    for (int i = 0; l->slots && i < l->options.slots; i++) {
        facs_free(l->slots[i].pixels);
        facs_free(l->slots[i].labels);
        facs_free(l->slots[i].mask);
        facs_free(l->slots[i].indices);
    }
    for (int64_t i = 0; l->cache && i < l->table.count; i++) facs_image_free(&l->cache[i]);
    facs_free(l->cache);
    facs_free(l->slots);
    facs_free(l->order);
    facs_free(l->threads);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
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
    const int64_t left = l->total - batch * l->options.batch;
    slot->n = slot->missing = left < l->options.batch ? left : l->options.batch;
    slot->status = FACS_OK;
}

static facs_status check_indices(const facs_loader *l, const int64_t *indices, int64_t count)
{
    if (count < 1 || count > l->table.count)
        return facs_fail(FACS_E_ARG, "loader: %lld indices, want 1 to %lld", (long long)count,
                         (long long)l->table.count);
    for (int64_t i = 0; i < count; i++)
        if (indices[i] < 0 || indices[i] >= l->table.count)
            return facs_fail(FACS_E_ARG, "loader: index %lld is %lld, want 0 to %lld",
                             (long long)i, (long long)indices[i],
                             (long long)l->table.count - 1);
    return FACS_OK;
}

facs_status facs_loader_start(facs_loader *l, uint32_t epoch, const int64_t *indices,
                              int64_t count, int mirror)
{
    if (indices)
        FACS_TRY(check_indices(l, indices, count));
    else
        count = l->table.count;
    pthread_mutex_lock(&l->lock);
    drain(l);
    for (int64_t i = 0; i < count; i++) l->order[i] = indices ? indices[i] : i;
    if (l->options.shuffle) {
        facs_rng rng = facs_rng_stream(l->options.seed, FACS_RNG_SHUFFLE, epoch, 0);
        facs_rng_shuffle(&rng, l->order, count);
    }
    l->batches = count / l->options.batch;
    if (!l->options.drop_last && count % l->options.batch) l->batches++;
    l->total = l->options.drop_last ? l->batches * l->options.batch : count;
    l->handed = l->consumed = 0;
    l->holding = 0;
    l->epoch = epoch;
    l->mirror = mirror;
    memset(&l->statistics, 0, sizeof l->statistics);
    for (int64_t b = 0; b < l->options.slots && b < l->batches; b++) prepare_slot(l, b);
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return FACS_OK;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
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

/* Closes the gaps that failed images left. */
static void compact(const facs_loader *l, facs_slot *slot)
{
    const size_t k = (size_t)l->table.label_count;
    const size_t image = 3 * (size_t)l->options.size * (size_t)l->options.size;
    int64_t kept = 0;
    for (int64_t i = 0; i < slot->n; i++) {
        if (slot->indices[i] < 0) continue;
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
    const double before = now();
    if (l->consumed >= l->batches) return NULL;
    facs_slot *slot = &l->slots[l->consumed % l->options.slots];
    while (slot->missing) pthread_cond_wait(&l->ready, &l->lock);
    l->statistics.waited += now() - before;
    l->holding = 1;
    return slot;
}

facs_status facs_loader_next(facs_loader *l, facs_batch *batch)
{
    facs_status status = FACS_OK;
    facs_slot *slot;

    *batch = (facs_batch){0};
    pthread_mutex_lock(&l->lock);
    do { /* a batch may have lost all its images */
        give_back(l);
        slot = wait_for_batch(l);
        if (slot) compact(l, slot);
    } while (slot && slot->n == 0 && slot->status == FACS_OK);
    if (slot && slot->status != FACS_OK) {
        status = facs_fail(slot->status, "%s", slot->message);
        drain(l);
        l->consumed = l->batches;
        l->holding = 0;
    } else if (slot) {
        *batch = (facs_batch){.n = slot->n,
                              .pixels = slot->pixels,
                              .labels = slot->labels,
                              .mask = slot->mask,
                              .indices = slot->indices};
    }
    pthread_mutex_unlock(&l->lock);
    return status;
}

int64_t facs_loader_batches(const facs_loader *l)
{
    return l->batches;
}

void facs_loader_get_statistics(facs_loader *l, facs_loader_statistics *statistics)
{
    pthread_mutex_lock(&l->lock);
    *statistics = l->statistics;
    pthread_mutex_unlock(&l->lock);
}
