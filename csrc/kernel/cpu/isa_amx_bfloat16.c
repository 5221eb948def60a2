#include "kernel/kernel.h"

/* A compiler that does not know these instructions leaves the table empty. */
#ifndef FACS_DOUBLE
#    if defined(__AMX_BF16__) && defined(__AVX512BF16__)
#        define FACS_STORES_BFLOAT16
#        define FACS_RUNG      facs_kernels_amx_bfloat16
#        define FACS_RUNG_NAME "amx"
#        include "kernel/cpu/rung.inc"
#    else
const facs_kernels facs_kernels_amx_bfloat16 = {.name = NULL};
#    endif
#endif
