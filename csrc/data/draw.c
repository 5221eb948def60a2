#include "data/draw.h"

#include "core/memory.h"

#include <string.h>

facs_status facs_draw_check_rows(const char *what, const int64_t *rows, int64_t count,
                                 int64_t table_count)
{
    for (int64_t i = 0; i < count; i++)
        if (rows[i] < 0 || rows[i] >= table_count)
            return facs_fail(FACS_E_ARG, "%s %lld is %lld, want 0 to %lld", what, (long long)i,
                             (long long)rows[i], (long long)table_count - 1);
    return FACS_OK;
}

void facs_draw_shuffle(uint64_t seed, uint32_t epoch, int64_t *order, int64_t count)
{
    facs_rng rng = facs_rng_stream(seed, FACS_RNG_SHUFFLE, epoch, 0);
    facs_rng_shuffle(&rng, order, count);
}

void facs_draw_copies(int64_t *copies, int64_t *seen, int64_t table_count, const int64_t *order,
                      int64_t count)
{
    memset(seen, 0, (size_t)table_count * sizeof *seen);
    for (int64_t i = 0; i < count; i++) copies[i] = seen[order[i]]++;
}

facs_augmentation_draw facs_draw_variant(uint64_t seed, uint32_t epoch, int64_t table_count,
                                         int64_t row, int64_t copy,
                                         const facs_augmentation *options)
{
    facs_rng rng =
        facs_rng_stream(seed, FACS_RNG_AUGMENT, epoch, (uint32_t)(row + copy * table_count));
    return facs_augmentation_make_draw(options, &rng);
}

facs_status facs_draw_epoch(uint64_t seed, uint32_t epoch, double flip, int64_t table_count,
                            const int64_t *rows, int64_t count, int64_t *order,
                            uint8_t *mirrored)
{
    facs_augmentation augmentation = facs_augmentation_none();
    int64_t *copies;

    for (int64_t i = 0; i < count; i++) order[i] = rows ? rows[i] : i;
    FACS_TRY(facs_draw_check_rows("epoch: row", order, count, table_count));
    FACS_TRY(facs_allocate(&copies, (size_t)(count + table_count), sizeof *copies,
                           "order of an epoch"));
    facs_draw_shuffle(seed, epoch, order, count);
    facs_draw_copies(copies, copies + count, table_count, order, count);
    augmentation.flip_probability = flip;
    for (int64_t i = 0; i < count; i++)
        mirrored[i] = (uint8_t)facs_draw_variant(seed, epoch, table_count, order[i], copies[i],
                                                 &augmentation)
                          .flip;
    facs_free(copies);
    return FACS_OK;
}
