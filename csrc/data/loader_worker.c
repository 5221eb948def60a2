#include "data/loader_internal.h"

#include "core/memory.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* One image of one batch. */
typedef struct job {
    facs_slot *slot;
    int64_t position, row, copy;
    uint32_t epoch;
    int mirror;
} job;

/* Where every variant starts from the whole image, it starts as well from the resized one. */
static int caches_resized(const facs_loader *l)
{
    return l->options.augmentation.crop_scale == 1;
}

static void unreserve(facs_loader *l, int64_t bytes)
{
    pthread_mutex_lock(&l->lock);
    l->cache_left += bytes;
    pthread_mutex_unlock(&l->lock);
}

/* Reserves room for an image of the cache; the image is empty when there is none. */
static void reserve(facs_loader *l, facs_image *kept, int height, int width)
{
    const int64_t bytes = (int64_t)height * width * 3;
    *kept = (facs_image){0};
    pthread_mutex_lock(&l->lock);
    const int fits = bytes <= l->cache_left;
    if (fits) l->cache_left -= bytes;
    pthread_mutex_unlock(&l->lock);
    if (!fits) return;
    if (facs_allocate(&kept->pixels, (size_t)bytes, 1, "cache of images") != FACS_OK) {
        unreserve(l, bytes);
        return;
    }
    kept->height = height;
    kept->width = width;
}

static void discard(facs_loader *l, facs_image *kept)
{
    unreserve(l, (int64_t)kept->height * kept->width * 3);
    facs_image_free(kept);
}

/* Files an image under its row; another worker may have been faster. */
static void publish(facs_loader *l, int64_t row, facs_image *kept)
{
    pthread_mutex_lock(&l->lock);
    const int first = !l->cache[row].pixels;
    if (first) l->cache[row] = *kept;
    pthread_mutex_unlock(&l->lock);
    if (!first) discard(l, kept);
}

static facs_image cached(facs_loader *l, int64_t row)
{
    pthread_mutex_lock(&l->lock);
    const facs_image image = l->cache[row];
    pthread_mutex_unlock(&l->lock);
    return image;
}

/* Puts what later passes can start from into the cache. */
static facs_status keep(facs_loader *l, const job *j, const facs_image *image,
                        facs_image_scratch *scratch)
{
    const int size = l->options.size, resized = caches_resized(l);
    facs_image kept;

    if (l->table.images && (!resized || (image->height == size && image->width == size)))
        return FACS_OK; /* it is in memory as it is wanted */
    reserve(l, &kept, resized ? size : image->height, resized ? size : image->width);
    if (!kept.pixels) return FACS_OK;
    if (resized) {
        const facs_status status = facs_image_resize(kept.pixels, size, size, image, scratch);
        if (status != FACS_OK) {
            discard(l, &kept);
            return status;
        }
    } else {
        memcpy(kept.pixels, image->pixels, (size_t)image->height * (size_t)image->width * 3);
    }
    publish(l, j->row, &kept);
    return FACS_OK;
}

static facs_status vary(facs_loader *l, const job *j, const facs_image *image,
                        facs_image_scratch *scratch)
{
    const int size = l->options.size;
    facs_augmentation_draw draw = facs_draw_variant(l->options.seed, j->epoch, l->table.count,
                                                    j->row, j->copy, &l->options.augmentation);
    if (j->mirror) draw.flip = !draw.flip;
    return facs_image_augment(j->slot->pixels + j->position * 3 * size * size, image, size,
                              &draw, scratch);
}

static facs_status make_image(facs_loader *l, const job *j, facs_image_scratch *scratch,
                              int *decoded)
{
    facs_image image = cached(l, j->row);

    *decoded = 0;
    if (image.pixels) return vary(l, j, &image, scratch);
    if (l->table.images) {
        FACS_TRY(keep(l, j, &l->table.images[j->row], scratch));
        return vary(l, j, &l->table.images[j->row], scratch);
    }
    FACS_TRY(facs_image_read(&image, l->table.paths[j->row]));
    *decoded = 1;
    facs_status status = keep(l, j, &image, scratch);
    if (status == FACS_OK) status = vary(l, j, &image, scratch);
    facs_image_free(&image);
    return status;
}

static void copy_labels(facs_loader *l, const job *j)
{
    const int k = l->table.label_count;
    const float *from = l->table.labels + j->row * k;
    float *labels = j->slot->labels + j->position * k, *mask = j->slot->mask + j->position * k;
    for (int i = 0; i < k; i++) {
        const int known = !isnan(from[i]);
        labels[i] = known ? from[i] : 0;
        mask[i] = (float)known;
    }
}

/* Takes the next image in order, waiting until its batch has a slot; 0 when stopping. Called
 * with the lock held. */
static int take(facs_loader *l, job *j)
{
    for (;;) {
        if (l->stopping) return 0;
        if (l->handed < l->total && l->filling < l->consumed + l->options.slots) break;
        pthread_cond_wait(&l->work, &l->lock);
    }
    *j = (job){.slot = &l->slots[l->filling % l->options.slots],
               .position = l->position,
               .row = l->order[l->handed],
               .copy = l->copies[l->handed],
               .epoch = l->epoch,
               .mirror = l->mirror};
    l->handed++;
    if (++l->position == facs_loader_batch_size(l, l->filling)) {
        l->position = 0;
        l->filling++;
    }
    l->busy++;
    return 1;
}

/* Writes a failure into the slot unless the slot knows one that goes before. */
static void note_failure(facs_slot *slot, int64_t position, facs_status status, int reason)
{
    if (slot->status != FACS_OK) {
        const int graver = facs_loader_skippable(slot->status) - facs_loader_skippable(status);
        if (graver < 0 || (graver == 0 && slot->failed < position)) return;
    }
    slot->status = status;
    slot->failed = position;
    slot->reason = reason;
    snprintf(slot->message, sizeof slot->message, "%s", facs_last_message());
}

/* Books the outcome of a job. Called with the lock held. */
static void finish(facs_loader *l, const job *j, facs_status status, int reason, int decoded)
{
    facs_loader_statistics *s = &l->statistics;
    j->slot->indices[j->position] = status == FACS_OK ? j->row : -1 - j->row;
    s->decoded += decoded;
    s->cached += !decoded && status == FACS_OK;
    if (status != FACS_OK) note_failure(j->slot, j->position, status, reason);
    l->busy--;
    j->slot->missing--;
    if (!j->slot->missing || !l->busy) pthread_cond_signal(&l->ready);
}

void *facs_loader_worker(void *argument)
{
    facs_loader *l = argument;
    facs_image_scratch scratch = {0};
    job j;

    pthread_mutex_lock(&l->lock);
    while (take(l, &j)) {
        int decoded;
        pthread_mutex_unlock(&l->lock);
        copy_labels(l, &j);
        const facs_status status = make_image(l, &j, &scratch, &decoded);
        const int reason = errno;
        pthread_mutex_lock(&l->lock);
        finish(l, &j, status, reason, decoded);
    }
    pthread_mutex_unlock(&l->lock);
    facs_image_scratch_free(&scratch);
    return NULL;
}
