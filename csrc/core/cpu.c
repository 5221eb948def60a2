#include "core/cpu.h"

facs_cpu facs_cpu_detect(void)
{
    facs_cpu cpu = {0};
#if defined(__x86_64__)
    __builtin_cpu_init();
    cpu.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    cpu.avx512 = cpu.avx2 && __builtin_cpu_supports("avx512f") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl");
    cpu.avx512_bf16 =
        cpu.avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd");
#elif defined(__aarch64__)
    cpu.neon = 1;
#endif
    return cpu;
}
