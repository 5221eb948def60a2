#ifndef FACS_DOUBLE
#    define FACS_RUNG      facs_kernels_generic
#    define FACS_RUNG_NAME "generic"
#    include "kernel/cpu/rung.inc"
#endif
