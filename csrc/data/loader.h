#ifndef FACS_DATA_LOADER_H
#define FACS_DATA_LOADER_H

#include "image/augment.h"

/* Samples to batches: worker threads read, vary and pack images into a fixed ring of
 * batches, which one consumer takes in order. The order depends on (seed, epoch), a
 * sample's variation on (seed, epoch, sample) and how often the pass had it before, so batches
 * do not depend on the number of workers. The batches of a pass differ in size by at most one
 * image, so that no BatchNorm sees a remainder of one. Workers do not follow into a forked
 * process: there start and next give FACS_E_UNSUPPORTED, and free releases the memory. */

/* Borrowed for the life of the loader. Either paths or images. */
typedef struct facs_sample_table {
    int64_t count;
    const char *const *paths;
    const facs_image *images;
    const float *labels; /* (count, label_count); NaN is unknown */
    int label_count;
} facs_sample_table;

typedef struct facs_loader_options {
    int64_t batch;
    int size; /* side of the square images in a batch */
    int workers;
    int slots; /* batches in the ring, at least 2 */
    uint64_t seed;
    facs_augmentation augmentation;
    int shuffle;
    int64_t cache_bytes;  /* decoded images kept in memory for later passes */
    int64_t most_skipped; /* unreadable images left out of one pass; 0: the first is an error */
} facs_loader_options;

typedef struct facs_batch {
    int64_t n;              /* 0 at the end of the pass and on failure */
    const uint8_t *pixels;  /* (n, size, size, 3) */
    const float *labels;    /* (n, label_count), 0 where unknown */
    const float *mask;      /* (n, label_count), 1 where known */
    const int64_t *indices; /* (n), rows of the table */
    int64_t failed_row;     /* on failure, the row of the image; -1 where it is none's */
} facs_batch;

typedef struct facs_loader_statistics {
    double waited;                         /* seconds the consumer waited in this pass */
    int64_t decoded, cached;               /* images read from files, taken from memory */
    int64_t skipped;                       /* unreadable images of the batches so far */
    const int64_t *skipped_rows;           /* (at most most_skipped), valid until start */
    char first_skipped[FACS_MESSAGE_SIZE]; /* why */
} facs_loader_statistics;

typedef struct facs_loader facs_loader;

/* Allocates the ring and starts the workers. */
facs_status facs_loader_create(facs_loader **loader, const facs_sample_table *table,
                               const facs_loader_options *options) FACS_MUST_USE;
/* Stops and joins the workers, also in mid-pass. */
void facs_loader_free(facs_loader *loader);

/* Begins a pass over the rows in `indices` (NULL: all), ending one that is under way. A row
 * may be there several times, in all no more than the table has. FACS_E_ARG names an index
 * outside the table.
 * `mirror` turns every image left to right, whatever the augmentation draws. */
facs_status facs_loader_start(facs_loader *loader, uint32_t epoch, const int64_t *indices,
                              int64_t count, int mirror) FACS_MUST_USE;

/* The next batch, valid until the next call. Where more images than most_skipped cannot be
 * read, the first of the batch that holds the surplus gives its status and message (and errno
 * with FACS_E_IO), and the pass ends; other failures end it at once. */
facs_status facs_loader_next(facs_loader *loader, facs_batch *batch) FACS_MUST_USE;

/* Batches of the current pass, when no image is skipped. */
int64_t facs_loader_batches(const facs_loader *loader);

void facs_loader_get_statistics(facs_loader *loader, facs_loader_statistics *statistics);

#endif
