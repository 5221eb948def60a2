#include "core/fingerprint.h"

#include "core/threads.h"

#include <string.h>

enum { BLOCKS = 64, LANES = 4 };

typedef struct work {
    const char *bytes;
    size_t count;
    uint64_t sums[BLOCKS];
} work;

/* One to one in either argument. */
static uint64_t mix(uint64_t sum, uint64_t word)
{
    const uint64_t product = (sum ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return product ^ product >> 32; /* or the highest bits would never reach the others */
}

static void sum_block(void *context, int64_t block, int worker)
{
    work *w = context;
    const size_t each = w->count / BLOCKS;
    const char *bytes = w->bytes + (size_t)block * each;
    size_t left = block + 1 < BLOCKS ? each : w->count - (BLOCKS - 1) * each;
    uint64_t sums[LANES] = {0}, words[LANES]; /* lanes hide how long a product takes */

    (void)worker;
    for (; left >= sizeof words; bytes += sizeof words, left -= sizeof words) {
        memcpy(words, bytes, sizeof words);
        for (int i = 0; i < LANES; i++) sums[i] = mix(sums[i], words[i]);
    }
    if (left) {
        memset(words, 0, sizeof words);
        memcpy(words, bytes, left);
        for (int i = 0; i < LANES; i++) sums[i] = mix(sums[i], words[i]);
    }
    for (int i = 0; i < LANES; i++) w->sums[block] = mix(w->sums[block], sums[i]);
}

uint64_t facs_fingerprint(const void *bytes, size_t count, int threads)
{
    work w = {.bytes = bytes, .count = count};
    uint64_t sum = count;

    facs_parallel(threads, BLOCKS, sum_block, &w);
    for (int i = 0; i < BLOCKS; i++) sum = mix(sum, w.sums[i]);
    return sum;
}
