#include "core/blas.h"
#include "core/cpu.h"
#include "kernel/kernel.h"

#include <string.h>

static void overlay(facs_kernels *kernels, const facs_kernels *rung)
{
    kernels->name = rung->name;
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

int facs_kernels_select(facs_kernels *kernels, const char *limit)
{
    const facs_kernels *rungs[RUNGS];
    const int count = usable_rungs(rungs);
    const int limited = limit && *limit;

    memset(kernels, 0, sizeof *kernels);
    for (int i = 0; i < count; i++) {
        overlay(kernels, rungs[i]);
        if (limited && strcmp(limit, rungs[i]->name) == 0) return 1;
    }
    return !limited;
}

const char *facs_kernels_rung(int i)
{
    const facs_kernels *rungs[RUNGS];
    return i >= 0 && i < usable_rungs(rungs) ? rungs[i]->name : NULL;
}
