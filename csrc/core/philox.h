#ifndef FACS_CORE_PHILOX_H
#define FACS_CORE_PHILOX_H

#include "core/host_device.h"

#include <stdint.h>

static inline FACS_HOST_DEVICE void facs_philox_round(uint32_t counter[4], uint32_t key0,
                                                      uint32_t key1)
{
    const uint64_t a = (uint64_t)0xD2511F53u * counter[0];
    const uint64_t b = (uint64_t)0xCD9E8D57u * counter[2];
    counter[0] = (uint32_t)(b >> 32) ^ counter[1] ^ key0;
    counter[1] = (uint32_t)b;
    counter[2] = (uint32_t)(a >> 32) ^ counter[3] ^ key1;
    counter[3] = (uint32_t)a;
}

/* Philox4x32-10 (Salmon et al., SC 2011): the counter becomes four random numbers, which a
 * stream gives out from the last to the first. */
static inline FACS_HOST_DEVICE void facs_philox(uint32_t counter[4], uint32_t key0,
                                                uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        facs_philox_round(counter, key0, key1);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

#endif
