#include "core/memory.h"
#include "image/augment.h"
#include "kernel/plugin.h"

#include <stdlib.h>
#include <string.h>

/* A plugin whose device is separate but computes on the processor: with it, tests meet all
 * that moves numbers to and from a device where there is no GPU. Its memory lies in the
 * host's; FACS_PRETEND_BYTES limits a block. Recordings count runs and do the work again. */

struct facs_recording {
    int runs;
};

static facs_report *report;

static facs_status allocate(void *out, size_t bytes, const char *purpose)
{
    const char *limit = getenv("FACS_PRETEND_BYTES");
    void *none = NULL;

    memcpy(out, &none, sizeof none);
    if (limit && bytes > strtoull(limit, NULL, 10))
        return report(FACS_E_OOM, "%s: cannot allocate %zu bytes, %s are free", purpose, bytes,
                      limit);
    return facs_allocate_slab(out, bytes, purpose);
}

static void run(facs_recording **recording, void (*work)(void *context), void *context)
{
    if (!*recording) *recording = calloc(1, sizeof **recording);
    if (*recording) (*recording)->runs++;
    work(context);
}

static void forget(facs_recording *recording)
{
    free(recording);
}

static size_t vary_scratch(const facs_variants *all)
{
    (void)all;
    return 1;
}

static void vary(uint8_t *out, const facs_variant *variants, const facs_variants *all,
                 void *scratch)
{
    facs_image_scratch own = {0};

    (void)scratch;
    for (int64_t i = 0; i < all->n; i++) {
        const facs_variant *v = &variants[i];
        const facs_image image = {(uint8_t *)(uintptr_t)v->pixels, v->height, v->width};
        const facs_augmentation_draw draw = {.crop = {v->x, v->y, v->box_width, v->box_height},
                                             .flip = v->flip,
                                             .angle = v->angle,
                                             .brightness = v->brightness,
                                             .contrast = v->contrast};
        uint8_t *to = out + i * 3 * all->size * all->size;
        if (facs_image_augment(to, &image, all->size, &draw, &own) != FACS_OK) abort();
    }
    facs_image_scratch_free(&own);
}

static const facs_varying varying = {vary_scratch, vary};

static facs_device device;

__attribute__((visibility("default"))) facs_plugin_opener facs_plugin_open;

facs_status facs_plugin_open(facs_plugin *plugin, facs_report *to)
{
    report = to;
    device = facs_device_cpu;
    device.name = "cuda";
    device.separate = 1;
    device.allocate = allocate;
    device.run = run;
    device.forget = forget;
    *plugin = (facs_plugin){.abi = FACS_PLUGIN_ABI,
                            .kernel_bytes = sizeof(facs_kernels),
                            .device_bytes = sizeof(facs_device),
                            .device = &device,
                            .kernels = &facs_kernels_ref,
                            .narrow = &facs_kernels_ref,
                            .varying = &varying,
                            .description = "pretend",
                            .capability = "none",
                            .memory_free = 1 << 30,
                            .memory_total = 1 << 30,
                            .driver = 13000};
    return FACS_OK;
}
