#ifndef FACS_CORE_STATUS_H
#define FACS_CORE_STATUS_H

/* Status codes, with one message per thread. A function that can fail returns a
 * facs_status; whoever finds the fault records the message with facs_fail. */

typedef enum facs_status {
#define FACS_STATUS(code, text, exception) FACS_##code,
#include "core/status.def"
#undef FACS_STATUS
    FACS_STATUS_COUNT
} facs_status;

#if defined(__GNUC__)
#    define FACS_PRINTF(format_index, first)                                                   \
        __attribute__((format(printf, format_index, first)))
#    define FACS_MUST_USE __attribute__((warn_unused_result))
#else
#    define FACS_PRINTF(format_index, first)
#    define FACS_MUST_USE
#endif

enum { FACS_MESSAGE_SIZE = 512 };

/* Records a message for the calling thread and returns status, so that a failing
 * function is one line: return facs_fail(FACS_E_SHAPE, "got %d, want %d", a, b); */
facs_status facs_fail(facs_status status, const char *format, ...) FACS_PRINTF(2, 3);

/* The calling thread's last message; valid until its next facs_fail. */
const char *facs_last_message(void);

/* Static text and static exception name of a status. */
const char *facs_status_text(facs_status status);
const char *facs_status_exception(facs_status status);

#define FACS_TRY(expression)                                                                   \
    do {                                                                                       \
        facs_status status_ = (expression);                                                    \
        if (status_ != FACS_OK) return status_;                                                \
    } while (0)

#endif
