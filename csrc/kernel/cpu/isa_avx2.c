#include "kernel/kernel.h"

const facs_kernels facs_kernels_avx2 = {.name = "avx2"};
