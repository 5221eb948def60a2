#ifndef FACS_KERNEL_CPU_CUT_H
#define FACS_KERNEL_CPU_CUT_H

#include <stdint.h>

/* Whole numbers for cutting work into blocks. */

static inline int64_t ceil_divide(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t round_up(int64_t a, int64_t b)
{
    return ceil_divide(a, b) * b;
}

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif
