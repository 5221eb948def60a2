#ifndef FACS_CORE_BFLOAT16_H
#define FACS_CORE_BFLOAT16_H

#include "core/host_device.h"

#include <stdint.h>
#include <string.h>

/* bfloat16 is the upper half of a float's bits. */

/* The nearest one, ties to even; what is not a number stays so. */
static inline FACS_HOST_DEVICE uint16_t facs_bfloat16_from(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1), quiet = bits | 0x400000;
    return (uint16_t)(((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded) >> 16);
}

static inline FACS_HOST_DEVICE float facs_bfloat16_to(uint16_t x)
{
    const uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
