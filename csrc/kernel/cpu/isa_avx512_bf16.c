#ifndef FACS_DOUBLE
#    define FACS_STORES_BFLOAT16
#    define FACS_RUNG      facs_kernels_avx512_pairs_bfloat16
#    define FACS_RUNG_NAME "avx512_bf16"
#    include "kernel/cpu/rung.inc"
#endif
