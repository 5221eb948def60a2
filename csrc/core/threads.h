#ifndef FACS_CORE_THREADS_H
#define FACS_CORE_THREADS_H

#include <stdint.h>

/* OpenMP ends the process when it cannot start a thread, so nobody may ask for a number
 * that a system may refuse. */
enum { FACS_MOST_THREADS = 256 };

/* One task over numbered blocks. Which worker runs which block is not fixed, so a task
 * writes only what its block owns; sums go to one slot per block and are added in the
 * order of the blocks. Then results do not depend on the number of threads. */
typedef void facs_task(void *context, int64_t block, int worker);

/* Runs task for block = 0 .. blocks - 1 on up to `threads` workers, numbered from 0,
 * and returns when all are done. Called from inside a task it runs serially. */
void facs_parallel(int threads, int64_t blocks, facs_task *task, void *context);

/* Processors this process may use, or OMP_NUM_THREADS where it is set; at most
 * FACS_MOST_THREADS. */
int facs_threads_default(void);

/* Makes fork safe after parallel work (the child would wait for workers it does not
 * have). Once per process; further calls do nothing. */
void facs_threads_survive_fork(void);

#endif
