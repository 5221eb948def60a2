#ifndef FACS_TESTS_CHECK_H
#define FACS_TESTS_CHECK_H

/* What every C test uses. A test is a program: it checks, and ends with
 * `return check_report("name");`. A failed check prints where and what, is counted, and
 * the program goes on; a program without a single check fails. */

#include "core/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHECK_SHOWN = 25 }; /* failures printed; the rest is only counted */

static int check_passed, check_failed;

static inline int check_count(int passed)
{
    if (passed) return check_passed++, 0;
    return check_failed++ < CHECK_SHOWN;
}

/* The expression is true. */
#define CHECK(expression)                                                                      \
    do {                                                                                       \
        if (check_count(!!(expression)))                                                       \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #expression);                            \
    } while (0)

/* |a - b| <= tolerance; NaN is never close. */
#define CHECK_CLOSE(a, b, tolerance)                                                           \
    do {                                                                                       \
        const double a_ = (double)(a), b_ = (double)(b), tolerance_ = (double)(tolerance);     \
        if (check_count(fabs(a_ - b_) <= tolerance_))                                          \
            printf("%s:%d: %s is %.17g, %s is %.17g, apart by %g, allowed %g\n", __FILE__,     \
                   __LINE__, #a, a_, #b, b_, fabs(a_ - b_), tolerance_);                       \
    } while (0)

/* The call returns this status; otherwise its message is printed. */
#define CHECK_STATUS(expression, expected)                                                     \
    do {                                                                                       \
        const facs_status found_ = (expression), expected_ = (expected);                       \
        if (check_count(found_ == expected_))                                                  \
            printf("%s:%d: %s: status '%s', expected '%s'; message: %s\n", __FILE__, __LINE__, \
                   #expression, facs_status_text(found_), facs_status_text(expected_),         \
                   facs_last_message());                                                       \
    } while (0)

#define CHECK_OK(expression) CHECK_STATUS(expression, FACS_OK)

/* Writes to path[size] where a file of this name is among other temporary ones: in TMPDIR, or
 * /tmp where it is not set. */
static inline void check_temporary(char *path, size_t size, const char *name)
{
    const char *folder = getenv("TMPDIR");
    const int length = snprintf(path, size, "%s/%s", folder && *folder ? folder : "/tmp", name);
    CHECK(length > 0 && (size_t)length < size);
}

/* Prints "name: N passed, N failed"; the exit status of main. */
static inline int check_report(const char *name)
{
    if (check_failed > CHECK_SHOWN)
        printf("%s: %d further failures not shown\n", name, check_failed - CHECK_SHOWN);
    if (!check_passed && !check_failed) check_failed = 1;
    printf("%s: %d passed, %d failed\n", name, check_passed, check_failed);
    return check_failed != 0;
}

/* Prints why nothing was checked; the exit status of main, by which run.sh counts the program
 * as skipped. */
static inline int check_skipped(const char *name, const char *reason)
{
    printf("%s: skipped, %s\n", name, reason);
    return 77;
}

#endif
