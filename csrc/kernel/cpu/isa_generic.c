#include "kernel/kernel.h"

const facs_kernels facs_kernels_generic = {.name = "generic"};
