#ifndef FACS_DOUBLE
#    define FACS_STORES_BFLOAT16
#    define FACS_RUNG      facs_kernels_avx2_bfloat16
#    define FACS_RUNG_NAME "avx2"
#    include "kernel/cpu/rung.inc"
#endif
