#define _GNU_SOURCE
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

static facs_status out_of_memory(const char *purpose, double bytes)
{
    return facs_fail(FACS_E_OOM, "%s: cannot allocate %.1f MiB", purpose, bytes / (1 << 20));
}

facs_status facs_allocate(void *out, size_t count, size_t size, const char *purpose)
{
    void *block = calloc(count ? count : 1, size ? size : 1);
    memcpy(out, &block, sizeof block);
    return block ? FACS_OK : out_of_memory(purpose, (double)count * (double)size);
}

facs_status facs_allocate_slab(void *out, size_t bytes, const char *purpose)
{
    void *block = NULL;
    const size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : FACS_ALIGNMENT;

    memcpy(out, &block, sizeof block);
    if (bytes > SIZE_MAX - 2 * alignment) return out_of_memory(purpose, (double)bytes);
    const size_t size = (bytes + alignment - 1) / alignment * alignment;
    if (posix_memalign(&block, alignment, size ? size : alignment))
        return out_of_memory(purpose, (double)bytes);
    /* Large slabs span thousands of small pages; the hint must come before the first touch. */
    if (size >= HUGE_PAGE) (void)madvise(block, size, MADV_HUGEPAGE);
    memset(block, 0, size);
    memcpy(out, &block, sizeof block);
    return FACS_OK;
}

void facs_free(void *block)
{
    free(block);
}
