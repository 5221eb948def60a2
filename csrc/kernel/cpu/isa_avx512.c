#include "kernel/kernel.h"

const facs_kernels facs_kernels_avx512 = {.name = "avx512"};
