#ifndef FACS_CORE_CPU_H
#define FACS_CORE_CPU_H

/* What the processor and the operating system offer, asked of cpuid at run time. */
typedef struct facs_cpu {
    int avx2;   /* AVX2 and FMA */
    int avx512; /* AVX-512 F, BW, DQ, VL */
    /* AVX512_BF16 that is faster than float32; on Intel's it has half the rate. */
    int avx512_bf16;
    /* AMX tiles of bfloat16, with AVX512_BF16; the operating system lets this process use them.
     */
    int amx_bf16;
} facs_cpu;

facs_cpu facs_cpu_detect(void);

#endif
