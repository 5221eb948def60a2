#ifndef FACS_CORE_MEMORY_H
#define FACS_CORE_MEMORY_H

#include "core/status.h"

#include <stddef.h>
#include <stdint.h>

/* The library's only way to the heap. Every block is zeroed. What the system could not fill
 * is FACS_E_OOM before any of it is touched, with the bytes wanted and available. */

enum { FACS_ALIGNMENT = 64 };

/* count objects of size bytes in *out; FACS_E_OOM names the purpose and the bytes.
 * A count of 0 gives a valid block. Ordinary alignment: for small bookkeeping. */
facs_status facs_allocate(void *out, size_t count, size_t size,
                          const char *purpose) FACS_MUST_USE;

/* A slab aligned to FACS_ALIGNMENT, backed by huge pages where the system has them. */
facs_status facs_allocate_slab(void *out, size_t bytes, const char *purpose) FACS_MUST_USE;

/* Frees either kind; NULL is legal. */
void facs_free(void *block);

/* Lets the system read ahead what of these bytes lies in a mapped file. */
void facs_memory_expect(const void *start, size_t bytes);

/* bytes rounded up to FACS_ALIGNMENT. */
static inline size_t facs_align(size_t bytes)
{
    return (bytes + FACS_ALIGNMENT - 1) & ~(size_t)(FACS_ALIGNMENT - 1);
}

#endif
