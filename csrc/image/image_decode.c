#include "image/format_check.h"
#include "image/image_stb.h"

#include "core/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

facs_status facs_image_fail(const facs_image_file *file, const char *format, ...)
{
    enum { LONGEST_NAME = 300 };
    char reason[FACS_MESSAGE_SIZE];
    const size_t length = strlen(file->name);
    const int cut = length > LONGEST_NAME;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return facs_fail(FACS_E_FORMAT, "%s%s: %.190s", cut ? "..." : "",
                     file->name + (cut ? length - LONGEST_NAME : 0), reason);
}

facs_status facs_image_size_check(const facs_image_file *file)
{
    if (file->width < 1 || file->height < 1)
        return facs_image_fail(file, "corrupt image: %lld x %lld pixels",
                               (long long)file->width, (long long)file->height);
    if (file->width > FACS_IMAGE_MAX_SIDE || file->height > FACS_IMAGE_MAX_SIDE ||
        file->width * file->height > FACS_IMAGE_MAX_PIXELS)
        return facs_image_fail(
            file, "%lld x %lld pixels are too many: at most %d a side and %d together",
            (long long)file->width, (long long)file->height, FACS_IMAGE_MAX_SIDE,
            FACS_IMAGE_MAX_PIXELS);
    return FACS_OK;
}

static int starts_with(const facs_image_file *file, const char *signature, size_t length)
{
    return file->size >= length && !memcmp(file->bytes, signature, length);
}

static facs_status check(facs_image_file *file)
{
    static const char png[] = "\x89PNG\r\n\x1a\n";

    if (!file->size) return facs_image_fail(file, "the file is empty");
    if (file->size > FACS_IMAGE_MAX_FILE)
        return facs_image_fail(file, "%zu bytes are too many for an image", file->size);
    if (starts_with(file, "\xFF\xD8", 2)) return facs_jpeg_check(file);
    if (starts_with(file, png, 8)) return facs_png_check(file);
    if (starts_with(file, "BM", 2)) return facs_bmp_check(file);
    return facs_image_fail(file, "not a JPEG, PNG or BMP image");
}

/* stb_image looks up pixels beyond a short palette in memory it never wrote, so it gets a
 * copy of the file whose palette is padded with black. It does not read checksums. */
static facs_status decode_indexed(facs_image *out, const facs_image_file *file)
{
    enum { FULL = 3 * 256, BEFORE = 8, AFTER = 4 };
    const size_t at = file->palette_at, length = facs_be32(file->bytes + at);
    const size_t behind = at + BEFORE + length + AFTER;
    uint8_t *copy = NULL;
    facs_image_file padded = *file;

    padded.size = file->size + FULL - length;
    FACS_TRY(facs_allocate(&copy, padded.size, 1, "image palette"));
    memcpy(copy, file->bytes, at + BEFORE + length);
    copy[at + 2] = FULL >> 8;
    copy[at + 3] = FULL & 255;
    memcpy(copy + at + BEFORE + FULL + AFTER, file->bytes + behind, file->size - behind);
    padded.bytes = copy;
    const facs_status status = facs_stb_decode(out, &padded);
    facs_free(copy);
    return status;
}

facs_status facs_image_decode(facs_image *out, const uint8_t *bytes, size_t size,
                              const char *name)
{
    facs_image_file file = {.bytes = bytes, .size = size, .name = name};

    *out = (facs_image){0};
    FACS_TRY(check(&file));
    return file.palette_at ? decode_indexed(out, &file) : facs_stb_decode(out, &file);
}

void facs_image_free(facs_image *image)
{
    facs_free(image->pixels);
    *image = (facs_image){0};
}
