#ifndef FACS_DOUBLE
#    define FACS_RUNG      facs_kernels_avx512
#    define FACS_RUNG_NAME "avx512"
#    include "kernel/cpu/rung.inc"
#endif
