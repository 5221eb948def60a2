/* Speed of multiply-adds on numbers that never leave the registers: the limit that a network's
 * speed is a part of. A line "float32 GFLOP/s", and where the processor multiplies bfloat16 a
 * line "bfloat16 GFLOP/s" of its fastest way.
 *
 *   cc -O2 -pthread fma_peak.c -o fma_peak && fma_peak THREADS MILLISECONDS
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#    include <cpuid.h>
#    include <immintrin.h>
#    include <sys/syscall.h>
#    include <unistd.h>
#    define WITH(isa) __attribute__((target(isa), noinline))
#else
#    define WITH(isa) __attribute__((noinline))
#endif

enum { SUMS = 12, STEPS = 20000, MOST_THREADS = 256 };

/* FLOP of one call. */
typedef double work(void);

/* The sums start apart, or the compiler would see that they stay equal. */
#define FLOAT_WORK(name, isa, lanes)                                                           \
    typedef float name##_vector __attribute__((vector_size(4 * (lanes))));                     \
    WITH(isa) static double name(void)                                                         \
    {                                                                                          \
        name##_vector sum[SUMS] = {0}, a = sum[0] + 0.5f, b = sum[0] + 1e-7f;                  \
        for (int i = 0; i < SUMS; i++) sum[i] += (float)i;                                     \
        for (int step = 0; step < STEPS; step++)                                               \
            _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * a + b;   \
        for (int i = 1; i < SUMS; i++) sum[0] += sum[i];                                       \
        volatile float kept = sum[0][0];                                                       \
        (void)kept;                                                                            \
        return 2.0 * (lanes)*SUMS * STEPS;                                                     \
    }
FLOAT_WORK(float_plain, "sse2", 4)

#if defined(__x86_64__)
FLOAT_WORK(float_avx2, "avx2,fma", 8)
FLOAT_WORK(float_avx512, "avx512f", 16)

WITH("avx512f,avx512bf16") static double bfloat_avx512(void)
{
    __m512 sum[SUMS];
    const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f));
    __m512bh b = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3f), _mm512_set1_ps(1e-4f));
    for (int i = 0; i < SUMS; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int step = 0; step < STEPS; step++) {
        __asm__ volatile("" : "+v"(b));
#    pragma GCC unroll 12
        for (int i = 0; i < SUMS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], a, b);
    }
    for (int i = 1; i < SUMS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    volatile float kept = _mm512_cvtss_f32(sum[0]);
    (void)kept;
    return 2.0 * 32 * SUMS * STEPS;
}

/* Static and behind a barrier: _tile_loadconfig tells some compilers of 8 of its 64 bytes only.
 */
static uint8_t tile_settings[64] __attribute__((aligned(64)));

/* Four sums of 16 x 16 from tiles of 16 x 32 numbers. */
WITH("amx-tile,amx-bf16") static double bfloat_amx(void)
{
    float result[16 * 16] = {0};
    static const uint16_t zeros[16 * 32];
    __asm__ volatile("" ::: "memory");
    _tile_loadconfig(tile_settings);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, zeros, 64);
    _tile_loadd(5, zeros, 64);
    for (int step = 0; step < STEPS / 16; step++) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, result, 64);
    _tile_release();
    volatile float kept = result[0];
    (void)kept;
    return 2.0 * 16 * 16 * 32 * 4 * (STEPS / 16);
}

/* Whether there are tiles and the kernel lets the process use them. */
static int has_amx(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (!(d >> 22 & 1) || !(d >> 24 & 1)) return 0;
    if (syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) != 0) return 0;
    tile_settings[0] = 1;
    for (int tile = 0; tile < 6; tile++) {
        tile_settings[16 + 2 * tile] = 64; /* bytes of a row */
        tile_settings[48 + tile] = 16;     /* rows */
    }
    return 1;
}
#endif

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct worker {
    pthread_t thread;
    pthread_barrier_t *start;
    work *run;
    double duration, speed;
};

static void *run_worker(void *context)
{
    struct worker *worker = context;
    pthread_barrier_wait(worker->start);
    const double start = seconds();
    double flop = 0, used;
    do {
        flop += worker->run();
        used = seconds() - start;
    } while (used < worker->duration);
    worker->speed = flop / used;
    return NULL;
}

/* FLOP/s of all threads together. */
static double measure(work *run, int threads, double duration)
{
    static struct worker workers[MOST_THREADS];
    pthread_barrier_t start;
    if (pthread_barrier_init(&start, NULL, (unsigned)threads) != 0) exit(1);
    for (int i = 0; i < threads; i++) {
        workers[i] = (struct worker){.start = &start, .run = run, .duration = duration};
        if (pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) != 0) exit(1);
    }
    double speed = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        speed += workers[i].speed;
    }
    pthread_barrier_destroy(&start);
    return speed;
}

int main(int count, char **arguments)
{
    const int threads = count > 1 ? atoi(arguments[1]) : 1;
    const double duration = 1e-3 * (count > 2 ? atof(arguments[2]) : 50.0);
    if (threads < 1 || threads > MOST_THREADS) return 2;
    work *run = float_plain;
    double bfloat = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) run = float_avx2;
    if (__builtin_cpu_supports("avx512f")) run = float_avx512;
    if (__builtin_cpu_supports("avx512bf16"))
        bfloat = measure(bfloat_avx512, threads, duration);
    if (has_amx()) {
        const double tiles = measure(bfloat_amx, threads, duration);
        if (tiles > bfloat) bfloat = tiles;
    }
#endif
    printf("float32 %.2f\n", measure(run, threads, duration) / 1e9);
    if (bfloat > 0) printf("bfloat16 %.2f\n", bfloat / 1e9);
    return 0;
}
