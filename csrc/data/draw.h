#ifndef FACS_DATA_DRAW_H
#define FACS_DATA_DRAW_H

#include "image/augment.h"

/* What is drawn for an epoch: the order of its images, and how each is varied. Whoever makes
 * batches draws here, so that they are the same whoever makes them. */

/* What a shuffled pass over `rows` (NULL: all) of a table draws at a probability of flips:
 * their order, and whether the image at each place of it is mirrored. (count) each. */
facs_status facs_draw_epoch(uint64_t seed, uint32_t epoch, double flip, int64_t table_count,
                            const int64_t *rows, int64_t count, int64_t *order,
                            uint8_t *mirrored) FACS_MUST_USE;

/* FACS_E_ARG names the first row outside a table, as `what` its place. */
facs_status facs_draw_check_rows(const char *what, const int64_t *rows, int64_t count,
                                 int64_t table_count) FACS_MUST_USE;

void facs_draw_shuffle(uint64_t seed, uint32_t epoch, int64_t *order, int64_t count);

/* copies[i] is how often order has its row before i; `seen` (table_count) is overwritten. */
void facs_draw_copies(int64_t *copies, int64_t *seen, int64_t table_count, const int64_t *order,
                      int64_t count);

/* How a row's image is varied in an epoch, where the pass had it `copy` times before. */
facs_augmentation_draw facs_draw_variant(uint64_t seed, uint32_t epoch, int64_t table_count,
                                         int64_t row, int64_t copy,
                                         const facs_augmentation *options);

#endif
