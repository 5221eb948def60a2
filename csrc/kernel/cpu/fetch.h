#ifndef FACS_KERNEL_CPU_FETCH_H
#define FACS_KERNEL_CPU_FETCH_H

#include "kernel/cpu/cut.h"
#include "kernel/cpu/simd.h"
#include "kernel/cpu/stored.h"

/* Rows of tensors that are wanted next, fetched towards the second-level cache while a product
 * runs: the processor cannot look past a tile. Rows that follow each other without a gap are
 * fetched step by step inside the tiles, as many lines at once would wait for each other; rows
 * of a slice of channels between the tiles. */

enum { FETCH_SPANS = 4, FETCH_LINE = 64 };

typedef struct fetch_span {
    const char *row;
    int64_t bytes, stride, rows;
} fetch_span;

typedef struct fetch {
    fetch_span span[FETCH_SPANS];
    int spans;
    int64_t lines, per_call; /* of all spans, of a call of fetch_take */
    int at;                  /* where it is: span, byte of its first row */
    int64_t byte;
} fetch;

/* Adds `columns` channels from c on of some pixels. t may be NULL. */
static inline void fetch_add(fetch *f, const facs_tensor *t, int64_t pixel, int64_t pixels,
                             int64_t c, int64_t columns)
{
    const int64_t number = sizeof(stored);
    if (!t || !t->data || pixels <= 0 || f->spans == FETCH_SPANS) return;
    fetch_span s = {(const char *)(stored_of(t) + pixel * t->stride + c), columns * number,
                    t->stride * number, pixels};
    if (t->stride == columns) {
        s.bytes *= pixels;
        s.rows = 1;
    }
    f->lines += s.rows * ceil_divide(s.bytes, FETCH_LINE);
    f->span[f->spans++] = s;
}

/* Shares what was added out among `calls` of fetch_some. */
static inline void fetch_share(fetch *f, int64_t calls)
{
    f->per_call = ceil_divide(f->lines, larger(calls, 1));
}

static inline void fetch_lines(fetch *f, int64_t lines)
{
    for (; lines > 0 && f->at < f->spans; lines--) {
        fetch_span *s = &f->span[f->at];
        simd_prefetch(s->row + f->byte);
        f->byte += FETCH_LINE;
        if (f->byte < s->bytes) continue;
        f->byte = 0;
        s->row += s->stride;
        if (--s->rows == 0) f->at++;
    }
}

/* Takes the next lines: returns the address that a tile of `steps` fetches first, *step bytes
 * further at each step, or NULL. */
static inline const char *fetch_take(fetch *f, int64_t steps, int64_t *step)
{
    if (f->at == f->spans) return NULL;
    const fetch_span *s = &f->span[f->at];
    const int64_t left = s->rows == 1 ? ceil_divide(s->bytes - f->byte, FETCH_LINE) : 0;
    const int64_t lines = smaller(smaller(f->per_call, steps), left);
    const char *first = s->row + f->byte;

    *step = ceil_divide(lines * FETCH_LINE, larger(steps, 1));
    f->byte += lines * FETCH_LINE;
    if (lines == left && s->rows == 1) f->byte = 0, f->at++;
    fetch_lines(f, f->per_call - lines);
    return first;
}

#endif
