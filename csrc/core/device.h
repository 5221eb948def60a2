#ifndef FACS_CORE_DEVICE_H
#define FACS_CORE_DEVICE_H

#include "core/status.h"
#include "core/threads.h"

#include <stddef.h>
#include <stdint.h>

/* Where tensors lie and kernels run. What is asked of a device is done in the order it was
 * asked by the calling thread, and may still be under way when the call returns; `wait` and
 * `download` wait for it. Functions without a status leave their error to the next `wait`. */

typedef struct facs_recording facs_recording; /* what a device keeps of a run */

typedef struct facs_device {
    const char *name;
    int separate; /* its memory is not the host's */
    /* A zeroed block aligned to FACS_ALIGNMENT; FACS_E_OOM names the bytes wanted and free. */
    facs_status (*allocate)(void *out, size_t bytes, const char *purpose);
    void (*release)(void *block); /* NULL is legal */
    /* From the host, or from the device's own memory; the source may change once it returns. */
    void (*upload)(void *to, const void *from, size_t bytes);
    void (*download)(void *host, const void *from, size_t bytes);
    void (*copy)(void *to, const void *from, size_t bytes);
    /* Row i of `to` becomes row rows[i] of `from`, which is either's memory; rows is the
     * host's. */
    void (*gather)(void *to, const void *from, const int64_t *rows, int64_t n,
                   size_t row_bytes);
    /* Blocks that depend on nothing but what was asked for before, as facs_parallel has them.
     */
    void (*parallel)(int threads, int64_t blocks, facs_task *task, void *context);
    /* Does work(context), which launches kernels and nothing else, or what it did the first
     * times with this recording (NULL at first). Its arguments must be the same. */
    void (*run)(facs_recording **recording, void (*work)(void *context), void *context);
    void (*forget)(facs_recording *recording); /* NULL is legal */
    facs_status (*wait)(void);
} facs_device;

/* The processor that runs this code. */
extern const facs_device facs_device_cpu;

#endif
