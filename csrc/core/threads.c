#define _GNU_SOURCE
#include "core/threads.h"

#ifdef _OPENMP
#    include <omp.h>
#    include <pthread.h>
#    include <stdatomic.h>

enum { CACHE_LINE = 64 };

/* The blocks that are left of a worker's part, on a cache line of its own. */
typedef struct part {
    _Alignas(CACHE_LINE) atomic_int_fast64_t next;
    int64_t end;
} part;

/* A worker takes its own part block by block, then what the others have left. So each of them
 * works on the same part of a map layer after layer, which its cache still holds. */
static void run_parts(part *parts, int workers, int worker, facs_task *task, void *context)
{
    for (int i = 0; i < workers; i++) {
        part *p = &parts[(worker + i) % workers];
        for (int64_t block; (block = atomic_fetch_add(&p->next, 1)) < p->end;)
            task(context, block, worker);
    }
}
#endif

void facs_parallel(int threads, int64_t blocks, facs_task *task, void *context)
{
#ifdef _OPENMP
    if (threads > blocks) threads = (int)blocks;
    if (threads > FACS_MOST_THREADS) threads = FACS_MOST_THREADS;
    if (threads > 1 && !omp_in_parallel()) {
        part parts[FACS_MOST_THREADS];
        for (int i = 0; i < threads; i++) {
            atomic_init(&parts[i].next, blocks * i / threads);
            parts[i].end = blocks * (i + 1) / threads;
        }
#    pragma omp parallel num_threads(threads)
        run_parts(parts, threads, omp_get_thread_num(), task, context);
        return;
    }
#else
    (void)threads;
#endif
    for (int64_t block = 0; block < blocks; block++) task(context, block, 0);
}

int facs_threads_default(void)
{
#ifdef _OPENMP
    const int threads = omp_get_max_threads();
    return threads < FACS_MOST_THREADS ? threads : FACS_MOST_THREADS;
#else
    return 1;
#endif
}

#ifdef _OPENMP
static void release_workers(void)
{
    /* A second runtime in the process is not ours to stop, and a refusal inside a
     * parallel region is right: nobody forks there. */
    (void)omp_pause_resource_all(omp_pause_soft);
}

static void install(void)
{
    (void)pthread_atfork(release_workers, NULL, NULL);
}
#endif

void facs_threads_survive_fork(void)
{
#ifdef _OPENMP
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, install);
#endif
}
