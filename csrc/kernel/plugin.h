#ifndef FACS_KERNEL_PLUGIN_H
#define FACS_KERNEL_PLUGIN_H

#include "core/device.h"
#include "kernel/kernel.h"
#include "kernel/variants.h"

/* A device in a shared object of its own, so that the library needs neither its driver nor
 * its compiler. The object exports one function, facs_plugin_open. */

/* Changes whenever a table of this folder or facs_device does. */
enum { FACS_PLUGIN_ABI = 4 };

typedef struct facs_plugin {
    int abi;                           /* FACS_PLUGIN_ABI of its build */
    size_t kernel_bytes, device_bytes; /* sizeof of the tables in its build */
    const facs_device *device;
    const facs_kernels *kernels, *narrow; /* of facs_real, of bfloat16 */
    const facs_varying *varying;
    /* The device's name, what it can do ("sm_90") and bytes of memory, free and in all. */
    char description[256], capability[16];
    size_t memory_free, memory_total;
    int driver; /* the newest CUDA that the driver knows: 13000 is 13.0 */
} facs_plugin;

/* Records a message as facs_fail does, in the library that opens the plugin. */
typedef facs_status facs_report(facs_status status, const char *format, ...);

/* Fills *plugin, or fails with FACS_E_DEVICE and what is missing. */
typedef facs_status facs_plugin_opener(facs_plugin *plugin, facs_report *report);

/* Loads the object at an absolute path and opens it; it stays loaded. */
facs_status facs_plugin_load(facs_plugin *plugin, const char *path) FACS_MUST_USE;

#endif
