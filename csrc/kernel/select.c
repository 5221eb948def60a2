#include "core/blas.h"
#include "core/cpu.h"
#include "kernel/kernel.h"

#include <string.h>

static void overlay(facs_kernels *kernels, const facs_kernels *rung)
{
    kernels->name = rung->name;
    kernels->number = rung->number;
#define KERNEL(type, row, arguments)                                                           \
    if (rung->row) kernels->row = rung->row;
#include "kernel/kernel.def"
#undef KERNEL
}

enum { RUNGS = 5 };

/* The usable rungs from the plainest upwards; returns how many. */
static int usable_rungs(const facs_kernels *rungs[RUNGS])
{
    int count = 0;
    rungs[count++] = &facs_kernels_ref;
#ifndef FACS_DOUBLE
    const facs_cpu cpu = facs_cpu_detect();
    (void)cpu;
    rungs[count++] = &facs_kernels_generic;
    if (facs_blas_available()) rungs[count++] = &facs_kernels_blas;
#    if defined(__x86_64__)
    if (cpu.avx2) rungs[count++] = &facs_kernels_avx2;
    if (cpu.avx512) rungs[count++] = &facs_kernels_avx512;
#    endif
#endif
    return count;
}

/* The processor's, where the compiler knew it. */
static int has_amx(void)
{
#if defined(__x86_64__) && !defined(FACS_DOUBLE)
    return facs_kernels_amx_bfloat16.name && facs_cpu_detect().amx_bf16;
#else
    return 0;
#endif
}

/* The highest rungs are of bfloat16 alone; floats have the one below. */
static const char *limit_of_floats(const char *limit)
{
    if (!limit || !*limit) return NULL;
    if (strcmp(limit, "amx") == 0 && has_amx()) return "avx512";
    return strcmp(limit, "avx512_bf16") == 0 && facs_cpu_detect().avx512_bf16 ? "avx512"
                                                                              : limit;
}

int facs_kernels_select(facs_kernels *kernels, const char *limit)
{
    const facs_kernels *rungs[RUNGS];
    const int count = usable_rungs(rungs);
    limit = limit_of_floats(limit);
    const int limited = limit != NULL;

    memset(kernels, 0, sizeof *kernels);
    for (int i = 0; i < count; i++) {
        overlay(kernels, rungs[i]);
        if (limited && strcmp(limit, rungs[i]->name) == 0) return 1;
    }
    return !limited;
}

#ifndef FACS_DOUBLE
/* The rows of tensors of bfloat16, from the plainest upwards. */
static int usable_bfloat16(const facs_kernels *rungs[RUNGS])
{
    int count = 0;
    rungs[count++] = &facs_kernels_generic_bfloat16;
#    if defined(__x86_64__)
    const facs_cpu cpu = facs_cpu_detect();
    if (cpu.avx2) rungs[count++] = &facs_kernels_avx2_bfloat16;
    if (cpu.avx512) rungs[count++] = &facs_kernels_avx512_bfloat16;
    if (cpu.avx512_bf16) rungs[count++] = &facs_kernels_avx512_pairs_bfloat16;
    if (has_amx()) rungs[count++] = &facs_kernels_amx_bfloat16;
#    endif
    return count;
}

int facs_kernels_select_bfloat16(facs_kernels *kernels, const char *limit)
{
    const facs_kernels *rungs[RUNGS];
    const int count = usable_bfloat16(rungs);

    if (!facs_kernels_select(kernels, limit)) return 0;
    const int lowest = limit && (!strcmp(limit, "ref") || !strcmp(limit, "blas"));
    for (int i = 0; i < count; i++) {
        overlay(kernels, rungs[i]);
        if (limit && (lowest || strcmp(limit, rungs[i]->name) == 0)) break;
    }
    kernels->groupconv_fwd = NULL;
    kernels->groupconv_bwd_x = NULL;
    kernels->groupconv_bwd_w = NULL;
    kernels->dropout = NULL;
    return 1;
}
#endif

const char *facs_kernels_rung(int i)
{
    const facs_kernels *rungs[RUNGS];
    return i >= 0 && i < usable_rungs(rungs) ? rungs[i]->name : NULL;
}
