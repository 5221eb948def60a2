#include "check.h"

#include "core/threads.h"

#include <stdatomic.h>

/* Every block runs once, whoever takes it. */

enum { MOST_BLOCKS = 1000 };

typedef struct counts {
    atomic_int runs[MOST_BLOCKS];
    atomic_int others, wrong_worker; /* others: blocks but the first that have run */
    int64_t blocks;
    int threads;
    int waits; /* the first block waits for all others, which another worker must then take */
} counts;

static void count_block(void *context, int64_t block, int worker)
{
    counts *c = context;
    if (worker < 0 || worker >= c->threads) atomic_fetch_add(&c->wrong_worker, 1);
    atomic_fetch_add(&c->runs[block], 1);
    if (block > 0) atomic_fetch_add(&c->others, 1);
    while (c->waits && block == 0 && atomic_load(&c->others) < c->blocks - 1) {
    }
}

static void check_counts(int threads, int64_t blocks, int waits)
{
    counts c = {.blocks = blocks, .threads = threads, .waits = waits};
    int wrong = 0;
    facs_parallel(threads, blocks, count_block, &c);
    for (int64_t i = 0; i < blocks; i++) wrong += atomic_load(&c.runs[i]) != 1;
    CHECK(wrong == 0);
    CHECK(atomic_load(&c.wrong_worker) == 0);
}

static void run_inside(void *context, int64_t block, int worker)
{
    (void)block;
    (void)worker;
    facs_parallel(4, MOST_BLOCKS, count_block, context);
}

static void test_inside_a_task(void)
{
    counts c = {.blocks = MOST_BLOCKS, .threads = 1};
    int wrong = 0;
    facs_parallel(2, 2, run_inside, &c);
    for (int i = 0; i < MOST_BLOCKS; i++) wrong += atomic_load(&c.runs[i]) != 2;
    CHECK(wrong == 0);
    CHECK(atomic_load(&c.wrong_worker) == 0); /* serially, as worker 0 */
}

int main(void)
{
    const int threads[] = {1, 2, 7, FACS_MOST_THREADS};
    const int64_t blocks[] = {0, 1, 2, 5, MOST_BLOCKS};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 5; j++) check_counts(threads[i], blocks[j], 0);
#ifdef _OPENMP
    for (int round = 0; round < 20; round++) check_counts(2, 5, 1);
#endif
    test_inside_a_task();
    return check_report("threads");
}
