#ifndef FACS_DATA_LOADER_INTERNAL_H
#define FACS_DATA_LOADER_INTERNAL_H

#include "data/draw.h"
#include "data/loader.h"

#include <pthread.h>
#include <sys/types.h>

/* Shared by the consumer (loader.c) and the workers (loader_worker.c); nobody else
 * includes it. */

typedef struct facs_slot {
    uint8_t *pixels;
    float *labels, *mask;
    int64_t *indices;   /* -1 - row where the image failed */
    int64_t n, missing; /* images of the batch, images not yet done */
    /* Of the first image that failed; one that must not be skipped goes before. */
    facs_status status;
    int64_t failed; /* its position */
    int reason;     /* its errno */
    char message[FACS_MESSAGE_SIZE];
} facs_slot;

struct facs_loader {
    facs_sample_table table;
    facs_loader_options options;
    pthread_mutex_t lock;
    pthread_cond_t work, ready; /* for workers, for the consumer */
    pthread_t *threads;
    int started;   /* threads that run */
    pid_t process; /* in which they run */
    facs_slot *slots;
    facs_image *cache; /* per row: resized or decoded, empty where it is not kept */
    int64_t cache_left;
    int64_t *skipped_rows; /* min(most_skipped, rows) */
    /* The pass, guarded by lock. Batch b uses slot b % slots. */
    int64_t *order;
    int64_t *copies, *seen; /* see facs_draw_copies */
    int64_t total, batches; /* images and batches of the pass */
    int64_t handed;         /* images given to workers */
    int64_t filling;        /* the batch of the next image, */
    int64_t position;       /* and its place there */
    int64_t consumed;       /* batches the consumer has given back */
    int64_t busy;           /* images being worked on */
    int holding;            /* the consumer reads batch `consumed` */
    uint32_t epoch;
    int mirror, stopping;
    facs_loader_statistics statistics;
};

static inline int64_t facs_loader_batch_size(const facs_loader *l, int64_t batch)
{
    return l->total / l->batches + (batch < l->total % l->batches);
}

/* Failures of files, which a pass may leave out. */
static inline int facs_loader_skippable(facs_status status)
{
    return status == FACS_E_IO || status == FACS_E_FORMAT;
}

void *facs_loader_worker(void *loader);

#endif
