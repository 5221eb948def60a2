#include "kernel/ref/ref.h"

const facs_kernels facs_kernels_ref = {
    .name = "ref",
    .number = sizeof(facs_real),
#define KERNEL(type, name, arguments) .name = facs_ref_##name,
#include "kernel/kernel.def"
#undef KERNEL
};
