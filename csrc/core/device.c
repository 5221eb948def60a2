#include "core/device.h"

#include "core/memory.h"

#include <string.h>

/* The processor's own memory: nothing is ever under way. */

static void copy(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

static void gather(void *to, const void *from, const int64_t *rows, int64_t n, size_t row_bytes)
{
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)to + (size_t)i * row_bytes,
               (const char *)from + (size_t)rows[i] * row_bytes, row_bytes);
}

static void run(facs_recording **recording, void (*work)(void *context), void *context)
{
    (void)recording;
    work(context);
}

static void forget(facs_recording *recording)
{
    (void)recording;
}

static facs_status wait(void)
{
    return FACS_OK;
}

const facs_device facs_device_cpu = {
    .name = "cpu",
    .allocate = facs_allocate_slab,
    .release = facs_free,
    .upload = copy,
    .download = copy,
    .copy = copy,
    .gather = gather,
    .parallel = facs_parallel,
    .run = run,
    .forget = forget,
    .wait = wait,
};
