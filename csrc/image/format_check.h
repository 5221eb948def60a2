#ifndef FACS_IMAGE_FORMAT_CHECK_H
#define FACS_IMAGE_FORMAT_CHECK_H

#include "core/status.h"

#include <stddef.h>
#include <stdint.h>

/* Integrity of image files, checked on the bytes before a decoder sees them. */

typedef struct facs_image_file {
    const uint8_t *bytes;
    size_t size;
    const char *name; /* for messages */
    int64_t height, width;
    size_t palette_at; /* the PLTE chunk of an indexed PNG, else 0 */
} facs_image_file;

/* Each walks one format, whose signature the caller has seen, and fills in height and width.
 * FACS_E_FORMAT names the file and the first fault. Any proper prefix of a file that ends
 * with its image is refused. */
facs_status facs_jpeg_check(facs_image_file *file) FACS_MUST_USE;
facs_status facs_png_check(facs_image_file *file) FACS_MUST_USE;
facs_status facs_bmp_check(facs_image_file *file) FACS_MUST_USE;

/* Refuses sizes of 0 and above the limits of image.h. */
facs_status facs_image_size_check(const facs_image_file *file) FACS_MUST_USE;

/* facs_fail with the name of the file in front; long names keep their end. */
facs_status facs_image_fail(const facs_image_file *file, const char *format, ...)
    FACS_PRINTF(2, 3);

static inline uint32_t facs_be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t facs_be32(const uint8_t *p)
{
    return facs_be16(p) << 16 | facs_be16(p + 2);
}

static inline uint32_t facs_le16(const uint8_t *p)
{
    return (uint32_t)p[1] << 8 | p[0];
}

static inline uint32_t facs_le32(const uint8_t *p)
{
    return facs_le16(p + 2) << 16 | facs_le16(p);
}

#endif
