#ifndef FACS_DOUBLE
#    define FACS_STORES_BFLOAT16
#    define FACS_RUNG      facs_kernels_generic_bfloat16
#    define FACS_RUNG_NAME "generic"
#    include "kernel/cpu/rung.inc"
#endif
