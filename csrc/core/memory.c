#define _GNU_SOURCE
#include "core/memory.h"

#include "core/system_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Blocks from LARGE bytes on are worth the tenth of a millisecond that it takes to ask. */
enum { HUGE_PAGE = 2 << 20, LARGE = 64 << 20 };

static facs_status out_of_memory(const char *purpose, double bytes)
{
    return facs_fail(FACS_E_OOM, "%s: cannot allocate %.1f MiB", purpose, bytes / (1 << 20));
}

/* Systems give out more memory than there is and end the process that fills it: refuse what
 * there is not before it is touched. */
static facs_status check_available(const char *purpose, double bytes)
{
    if (bytes < LARGE) return FACS_OK;
    const double available = (double)facs_system_memory("");
    if (bytes <= available) return FACS_OK;
    return facs_fail(FACS_E_OOM, "%s: cannot allocate %.1f MiB, %.1f MiB are available",
                     purpose, bytes / (1 << 20), available / (1 << 20));
}

facs_status facs_allocate(void *out, size_t count, size_t size, const char *purpose)
{
    void *block = NULL;

    memcpy(out, &block, sizeof block);
    FACS_TRY(check_available(purpose, (double)count * (double)size));
    block = calloc(count ? count : 1, size ? size : 1);
    memcpy(out, &block, sizeof block);
    return block ? FACS_OK : out_of_memory(purpose, (double)count * (double)size);
}

facs_status facs_allocate_slab(void *out, size_t bytes, const char *purpose)
{
    void *block = NULL;
    const size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : FACS_ALIGNMENT;

    memcpy(out, &block, sizeof block);
    if (bytes > SIZE_MAX - 2 * alignment) return out_of_memory(purpose, (double)bytes);
    FACS_TRY(check_available(purpose, (double)bytes));
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

void facs_memory_expect(const void *start, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)start;
    const uintptr_t first = at & ~(page - 1);
    (void)madvise((void *)first, at - first + bytes, MADV_WILLNEED);
}
