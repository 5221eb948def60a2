#ifndef FACS_KERNEL_CUDA_RUNTIME_H
#define FACS_KERNEL_CUDA_RUNTIME_H

extern "C" {
#include "kernel/plugin.h"
}

extern const facs_device facs_cuda_device;
extern const facs_varying facs_cuda_varying;

/* Fills in what the device is, or reports why there is none; errors of this device are
 * reported there from now on. */
facs_status facs_cuda_describe(facs_plugin *plugin, facs_report *report);

#endif
