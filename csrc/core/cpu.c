#define _GNU_SOURCE
#include "core/cpu.h"

#if defined(__x86_64__) && defined(__linux__)
#    include <cpuid.h>
#    include <sys/syscall.h>
#    include <unistd.h>

/* Linux keeps the tiles' registers from a process until it asks; threads and children inherit
 * what it is given. Asking again does nothing. */
static int may_use_tiles(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, AMX_BF16 = 22, AMX_TILE = 24 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (!(d >> AMX_BF16 & 1) || !(d >> AMX_TILE & 1)) return 0;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#elif defined(__x86_64__)
static int may_use_tiles(void)
{
    return 0;
}
#endif

facs_cpu facs_cpu_detect(void)
{
    facs_cpu cpu = {0};
#if defined(__x86_64__)
    __builtin_cpu_init();
    cpu.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl");
    const int pairs = cpu.avx512 && __builtin_cpu_supports("avx512bf16");
    cpu.avx512_bf16 = pairs && __builtin_cpu_is("amd");
    cpu.amx_bf16 = pairs && may_use_tiles();
#endif
    return cpu;
}
