#define _GNU_SOURCE
#include "core/threads.h"

#ifdef _OPENMP
#    include <omp.h>
#    include <pthread.h>
#endif

void facs_parallel(int threads, int64_t blocks, facs_task *task, void *context)
{
#ifdef _OPENMP
    if (threads > blocks) threads = (int)blocks;
    if (threads > FACS_MOST_THREADS) threads = FACS_MOST_THREADS;
    if (threads > 1 && !omp_in_parallel()) {
#    pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (int64_t block = 0; block < blocks; block++)
            task(context, block, omp_get_thread_num());
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
