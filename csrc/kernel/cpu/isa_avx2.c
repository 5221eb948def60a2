#ifndef FACS_DOUBLE
#    define FACS_RUNG      facs_kernels_avx2
#    define FACS_RUNG_NAME "avx2"
#    include "kernel/cpu/rung.inc"
#endif
