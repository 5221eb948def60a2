#ifndef FACS_DATA_STORE_H
#define FACS_DATA_STORE_H

#include "data/loader.h"
#include "kernel/plugin.h"

/* Decoded images in a device's memory, and the variants of an epoch made there: the batches
 * of a loader without its labels, whose images travel once instead of in every epoch. One
 * thread uses a store at a time. */

typedef struct facs_store_options {
    int64_t batch; /* the most images of a batch */
    int size;      /* side of the square images in a batch */
    int threads;   /* that decode */
    uint64_t seed;
    facs_augmentation augmentation;
    size_t most_bytes; /* of the device's memory for decoded images */
} facs_store_options;

typedef struct facs_store facs_store;

/* The table's paths or images are borrowed until all of them are loaded; its labels are not
 * used. FACS_E_UNSUPPORTED where the device makes no variants. */
facs_status facs_store_create(facs_store **store, const facs_plugin *plugin,
                              const facs_sample_table *table,
                              const facs_store_options *options) FACS_MUST_USE;
void facs_store_free(facs_store *store); /* NULL is legal */

/* Decodes the next `count` images, or those that are left, and puts them on the device; how
 * many are there then is *loaded. FACS_E_OOM where they would be more than most_bytes. Of an
 * image that cannot be read, *failed_row is its row (-1 otherwise) and errno the reason. */
facs_status facs_store_load(facs_store *store, int64_t count, int64_t *loaded,
                            int64_t *failed_row) FACS_MUST_USE;

size_t facs_store_bytes(const facs_store *store); /* of the images on the device */

/* Begins an epoch over rows in this order: facs_draw_epoch's, which is a loader's. */
facs_status facs_store_start(facs_store *store, uint32_t epoch, const int64_t *order,
                             int64_t count) FACS_MUST_USE;

/* The next n images of the epoch as (n, size, size, 3) on the device, for what the calling
 * thread asks of it next; valid until the next call. */
facs_status facs_store_next(facs_store *store, int64_t n, uint8_t **pixels) FACS_MUST_USE;

#endif
