#include "kernel/cuda/cuda.h"

#include "kernel/cuda/runtime.h"

/* Positional, in the order of kernel.def: a missing row does not compile or link. */
template <class T>
static const facs_kernels table = {
    "cuda",
    sizeof(T),
#define KERNEL(type, name, arguments) facs_cuda_rows<T>::name,
#include "kernel/kernel.def"
#undef KERNEL
};

extern "C" __attribute__((visibility("default"))) facs_status
facs_plugin_open(facs_plugin *plugin, facs_report *report)
{
    plugin->abi = FACS_PLUGIN_ABI;
    plugin->kernel_bytes = sizeof(facs_kernels);
    plugin->device_bytes = sizeof(facs_device);
    plugin->device = &facs_cuda_device;
    plugin->kernels = &table<float>;
    plugin->narrow = &table<bfloat16>;
    plugin->varying = &facs_cuda_varying;
    return facs_cuda_describe(plugin, report);
}
