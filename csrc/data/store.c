#include "data/store.h"

#include "data/draw.h"

#include "core/memory.h"
#include "core/threads.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Images of the device lie in slabs one behind the other, large enough to be few. */
enum { SLAB = 64 << 20 };

typedef struct slab {
    struct slab *next;
    uint8_t *block;
    size_t bytes;
} slab;

struct facs_store {
    const facs_device *device;
    const facs_varying *varying;
    facs_sample_table table;
    facs_store_options options;
    facs_image *images;      /* of every row; pixels are the device's */
    slab *slabs;             /* the last one first */
    size_t left;             /* in that slab */
    size_t allocated, bytes; /* of all slabs; of all images */
    int64_t loaded;
    int largest; /* side of an image */
    /* The epoch. */
    uint32_t epoch;
    int64_t *order, *copies, *seen; /* see facs_draw_copies */
    int64_t count, given;
    /* A batch. */
    facs_variant *variants; /* the host's */
    facs_variant *device_variants;
    uint8_t *pixels;
    void *scratch;
    size_t scratch_bytes;
};

static facs_status check(const facs_plugin *plugin, const facs_sample_table *table,
                         const facs_store_options *o)
{
    if (!plugin->varying)
        return facs_fail(FACS_E_UNSUPPORTED, "store: the device varies no images");
    if (table->count < 1 || table->count > UINT32_MAX)
        return facs_fail(FACS_E_ARG, "store: has %lld images, want 1 to 2^32 - 1",
                         (long long)table->count);
    if (o->batch < 1 || o->batch > 65535)
        return facs_fail(FACS_E_ARG, "batch: is %lld, want 1 to 65535", (long long)o->batch);
    if (o->size < 1 || o->size > FACS_IMAGE_MAX_SIDE)
        return facs_fail(FACS_E_ARG, "size: is %d, want 1 to %d", o->size, FACS_IMAGE_MAX_SIDE);
    if (o->threads < 1 || o->threads > FACS_MOST_THREADS)
        return facs_fail(FACS_E_ARG, "threads: is %d, want 1 to %d", o->threads,
                         FACS_MOST_THREADS);
    return facs_augmentation_check(&o->augmentation);
}

static facs_status allocate(facs_store *s)
{
    const size_t count = (size_t)s->table.count, batch = (size_t)s->options.batch;
    const size_t image = 3 * (size_t)s->options.size * (size_t)s->options.size;
    const char *const purpose = "batches on the device";

    FACS_TRY(facs_allocate(&s->images, count, sizeof *s->images, "images on the device"));
    FACS_TRY(facs_allocate(&s->order, count, sizeof *s->order, "order of an epoch"));
    FACS_TRY(facs_allocate(&s->copies, count, sizeof *s->copies, "order of an epoch"));
    FACS_TRY(facs_allocate(&s->seen, count, sizeof *s->seen, "order of an epoch"));
    FACS_TRY(facs_allocate(&s->variants, batch, sizeof *s->variants, purpose));
    FACS_TRY(s->device->allocate(&s->device_variants, batch * sizeof *s->variants, purpose));
    return s->device->allocate(&s->pixels, batch * image, purpose);
}

facs_status facs_store_create(facs_store **store, const facs_plugin *plugin,
                              const facs_sample_table *table, const facs_store_options *options)
{
    *store = NULL;
    FACS_TRY(check(plugin, table, options));
    FACS_TRY(facs_allocate(store, 1, sizeof **store, "store of images"));
    facs_store *s = *store;
    s->device = plugin->device;
    s->varying = plugin->varying;
    s->table = *table;
    s->options = *options;
    const facs_status status = allocate(s);
    if (status != FACS_OK) {
        facs_store_free(s);
        *store = NULL;
    }
    return status;
}

void facs_store_free(facs_store *s)
{
    if (!s) return;
    while (s->slabs) {
        slab *first = s->slabs;
        s->slabs = first->next;
        s->device->release(first->block);
        facs_free(first);
    }
    s->device->release(s->device_variants);
    s->device->release(s->pixels);
    s->device->release(s->scratch);
    facs_free(s->variants);
    facs_free(s->seen);
    facs_free(s->copies);
    facs_free(s->order);
    facs_free(s->images);
    facs_free(s);
}

size_t facs_store_bytes(const facs_store *s)
{
    return s->bytes;
}

/* --- loading */

/* Images of the host on their way, enough for many threads. */
enum { AT_ONCE = 128 };

typedef struct decoding {
    const facs_store *store;
    facs_image images[AT_ONCE];
    facs_status status[AT_ONCE];
    int reason[AT_ONCE];
    char message[AT_ONCE][FACS_MESSAGE_SIZE];
} decoding;

static void decode(void *context, int64_t i, int thread)
{
    decoding *d = context;
    const facs_sample_table *table = &d->store->table;

    (void)thread;
    d->status[i] = facs_image_read(&d->images[i], table->paths[d->store->loaded + i]);
    if (d->status[i] == FACS_OK) return;
    d->reason[i] = errno;
    snprintf(d->message[i], sizeof d->message[i], "%s", facs_last_message());
}

static facs_status add_slab(facs_store *s, size_t bytes)
{
    const char *const purpose = "images on the device";
    slab *added;

    FACS_TRY(facs_allocate(&added, 1, sizeof *added, purpose));
    const facs_status status = s->device->allocate(&added->block, bytes, purpose);
    if (status != FACS_OK) {
        facs_free(added);
        return status;
    }
    added->bytes = s->left = bytes;
    s->allocated += bytes;
    added->next = s->slabs;
    s->slabs = added;
    return FACS_OK;
}

/* A place for an image on the device. */
static facs_status place(facs_store *s, size_t bytes, uint8_t **pixels)
{
    const size_t wanted = facs_align(bytes);

    if (s->left < wanted) {
        const size_t room = s->options.most_bytes - s->allocated;
        const size_t usual = wanted > SLAB ? wanted : SLAB;
        if (wanted > room)
            return facs_fail(FACS_E_OOM, "the decoded images take more than %.1f MiB",
                             (double)s->options.most_bytes / (1 << 20));
        FACS_TRY(add_slab(s, usual < room ? usual : room));
    }
    *pixels = s->slabs->block + (s->slabs->bytes - s->left);
    s->left -= wanted;
    return FACS_OK;
}

static facs_status keep(facs_store *s, const facs_image *image)
{
    const size_t bytes = (size_t)image->height * (size_t)image->width * 3;
    facs_image kept = *image;

    if (image->height < 1 || image->width < 1)
        return facs_fail(FACS_E_SHAPE, "store: image %lld is empty (%d x %d)",
                         (long long)s->loaded, image->height, image->width);
    FACS_TRY(place(s, bytes, &kept.pixels));
    s->device->upload(kept.pixels, image->pixels, bytes);
    s->images[s->loaded++] = kept;
    s->bytes += bytes;
    const int side = image->height > image->width ? image->height : image->width;
    if (side > s->largest) s->largest = side;
    return FACS_OK;
}

/* Decodes `count` images from the first that is not loaded on, and keeps them. */
static facs_status load_files(facs_store *s, decoding *d, int64_t count, int64_t *failed_row)
{
    facs_status status = FACS_OK;
    int reason = 0;

    memset(d->images, 0, sizeof d->images);
    d->store = s;
    facs_parallel(s->options.threads, count, decode, d);
    for (int64_t i = 0; i < count; i++) {
        if (status == FACS_OK && d->status[i] != FACS_OK) {
            *failed_row = s->loaded;
            reason = d->reason[i];
            status = facs_fail(d->status[i], "%s", d->message[i]);
        }
        if (status == FACS_OK) status = keep(s, &d->images[i]);
        facs_image_free(&d->images[i]);
    }
    errno = reason;
    return status;
}

facs_status facs_store_load(facs_store *s, int64_t count, int64_t *loaded, int64_t *failed_row)
{
    const int64_t left = s->table.count - s->loaded,
                  end = s->loaded + (count < left ? count : left);
    facs_status status = FACS_OK;
    decoding *d = NULL;

    *failed_row = -1;
    if (!s->table.images) FACS_TRY(facs_allocate(&d, 1, sizeof *d, "decoding"));
    while (status == FACS_OK && s->loaded < end) {
        if (s->table.images)
            status = keep(s, &s->table.images[s->loaded]);
        else
            status = load_files(s, d, end - s->loaded < AT_ONCE ? end - s->loaded : AT_ONCE,
                                failed_row);
    }
    const int reason = errno;
    facs_free(d);
    if (status == FACS_OK) status = s->device->wait();
    *loaded = s->loaded;
    errno = reason;
    return status;
}

/* --- epochs */

facs_status facs_store_start(facs_store *s, uint32_t epoch, const int64_t *order, int64_t count)
{
    if (s->loaded < s->table.count)
        return facs_fail(FACS_E_ARG, "store: %lld of %lld images are loaded",
                         (long long)s->loaded, (long long)s->table.count);
    if (count > s->table.count)
        return facs_fail(FACS_E_ARG, "store: an epoch of %lld rows, there are %lld",
                         (long long)count, (long long)s->table.count);
    FACS_TRY(facs_draw_check_rows("store: row", order, count, s->table.count));
    memcpy(s->order, order, (size_t)count * sizeof *order);
    facs_draw_copies(s->copies, s->seen, s->table.count, s->order, count);
    s->epoch = epoch;
    s->count = count;
    s->given = 0;
    return FACS_OK;
}

static facs_variant variant_of(const facs_image *image, const facs_augmentation_draw *draw)
{
    const double radians = draw->angle * 0.017453292519943295;
    return (facs_variant){
        .pixels = image->pixels,
        .height = image->height,
        .width = image->width,
        .x = draw->crop.x,
        .y = draw->crop.y,
        .box_width = draw->crop.width,
        .box_height = draw->crop.height,
        .angle = draw->angle,
        .cosine = cos(radians),
        .sine = sin(radians),
        .flip = draw->flip,
        .brightness = draw->brightness,
        .contrast = draw->contrast,
    };
}

static facs_status reserve_scratch(facs_store *s, size_t bytes)
{
    if (bytes <= s->scratch_bytes) return FACS_OK;
    s->device->release(s->scratch);
    s->scratch_bytes = 0;
    FACS_TRY(s->device->allocate(&s->scratch, bytes, "variants of images"));
    s->scratch_bytes = bytes;
    return FACS_OK;
}

facs_status facs_store_next(facs_store *s, int64_t n, uint8_t **pixels)
{
    facs_variants all = {
        .n = n, .size = s->options.size, .taps = facs_vary_taps(s->largest, s->options.size)};

    if (n < 1 || n > s->options.batch || n > s->count - s->given)
        return facs_fail(FACS_E_ARG,
                         "store: a batch of %lld images, %lld are left of the epoch",
                         (long long)n, (long long)(s->count - s->given));
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = s->given + i, row = s->order[at];
        const facs_augmentation_draw draw =
            facs_draw_variant(s->options.seed, s->epoch, s->table.count, row, s->copies[at],
                              &s->options.augmentation);
        s->variants[i] = variant_of(&s->images[row], &draw);
        all.shaded |= draw.brightness != 1 || draw.contrast != 1;
    }
    FACS_TRY(reserve_scratch(s, s->varying->scratch(&all)));
    s->device->upload(s->device_variants, s->variants, (size_t)n * sizeof *s->variants);
    s->varying->vary(s->pixels, s->device_variants, &all, s->scratch);
    s->given += n;
    *pixels = s->pixels;
    return FACS_OK;
}
