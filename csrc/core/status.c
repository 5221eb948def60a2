#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[FACS_MESSAGE_SIZE];

static const struct {
    const char *text, *exception;
} statuses[FACS_STATUS_COUNT] = {
#define FACS_STATUS(code, text, exception) [FACS_##code] = {text, exception},
#include "core/status.def"
#undef FACS_STATUS
};

facs_status facs_fail(facs_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return status;
}

const char *facs_last_message(void)
{
    return message;
}

const char *facs_status_text(facs_status status)
{
    return (unsigned)status < FACS_STATUS_COUNT ? statuses[status].text : "unknown status";
}

const char *facs_status_exception(facs_status status)
{
    return (unsigned)status < FACS_STATUS_COUNT ? statuses[status].exception : "SystemError";
}
