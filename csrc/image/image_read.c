#define _POSIX_C_SOURCE 200809L
#include "image/image.h"

#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static facs_status io_failure(const char *path, int reason)
{
    char text[128] = "";
    if (strerror_r(reason, text, sizeof text)) snprintf(text, sizeof text, "error %d", reason);
    const facs_status status = facs_fail(FACS_E_IO, "%.380s: %s", path, text);
    errno = reason;
    return status;
}

static facs_status read_all(FILE *file, const char *path, uint8_t **bytes, size_t *size)
{
    struct stat facts;

    if (fstat(fileno(file), &facts)) return io_failure(path, errno);
    if (S_ISDIR(facts.st_mode)) return io_failure(path, EISDIR);
    /* Pipes and devices have no size and may never end. */
    if (!S_ISREG(facts.st_mode)) return io_failure(path, EINVAL);
    if (facts.st_size > FACS_IMAGE_MAX_FILE)
        return facs_fail(FACS_E_FORMAT, "%.380s: %lld bytes are too many for an image", path,
                         (long long)facts.st_size);
    *size = (size_t)facts.st_size;
    FACS_TRY(facs_allocate(bytes, *size, 1, "image file"));
    /* A file that shrank since is a short one for the decoder to refuse. */
    *size = fread(*bytes, 1, *size, file);
    return ferror(file) ? io_failure(path, errno) : FACS_OK;
}

facs_status facs_image_read(facs_image *out, const char *path)
{
    uint8_t *bytes = NULL;
    size_t size = 0;

    *out = (facs_image){0};
    /* Opening a pipe nobody writes to must not wait. */
    const int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return io_failure(path, errno);
    FILE *file = fdopen(descriptor, "rb");
    if (!file) {
        const int reason = errno;
        close(descriptor);
        return io_failure(path, reason);
    }
    facs_status status = read_all(file, path, &bytes, &size);
    const int reason = errno;
    fclose(file);
    if (status == FACS_OK) status = facs_image_decode(out, bytes, size, path);
    facs_free(bytes);
    errno = reason;
    return status;
}
