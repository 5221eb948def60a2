#include "graph/plan_internal.h"

#include <stdint.h>

/* Greedy by size: the largest unplaced buffer, of equal ones the longest-lived, goes to the
 * lowest gap that is free during its whole life. For chains and dense blocks that is within one
 * per cent of the least there can be, what is in use at once. */

static int is_used(const facs_buffer *b)
{
    return b->end >= b->begin;
}

static int live_at_once(const facs_buffer *a, const facs_buffer *b)
{
    return a->begin <= b->end && b->begin <= a->end;
}

static int overlap(const facs_buffer *a, size_t offset, size_t bytes)
{
    return a->offset < offset + bytes && offset < a->offset + a->bytes;
}

static int goes_first(const facs_buffer *a, const facs_buffer *b)
{
    return a->bytes > b->bytes ||
           (a->bytes == b->bytes && a->end - a->begin > b->end - b->begin);
}

/* The lowest offset at which b collides with none of the placed ones. */
static size_t lowest_gap(const facs_buffer *buffers, int count, const facs_buffer *b)
{
    size_t offset = 0;
    for (int moved = 1; moved;) {
        moved = 0;
        for (int i = 0; i < count; i++) {
            const facs_buffer *a = &buffers[i];
            if (a->offset == SIZE_MAX || !live_at_once(a, b) || !overlap(a, offset, b->bytes))
                continue;
            offset = a->offset + a->bytes;
            moved = 1;
        }
    }
    return offset;
}

size_t facs_plan_place(facs_buffer *buffers, int count)
{
    size_t peak = 0;
    for (int i = 0; i < count; i++) buffers[i].offset = SIZE_MAX; /* not placed yet */
    for (;;) {
        facs_buffer *next = NULL;
        for (int i = 0; i < count; i++)
            if (buffers[i].offset == SIZE_MAX && is_used(&buffers[i]) &&
                (!next || goes_first(&buffers[i], next)))
                next = &buffers[i];
        if (!next) return peak;
        next->offset = lowest_gap(buffers, count, next);
        if (next->offset + next->bytes > peak) peak = next->offset + next->bytes;
    }
}
