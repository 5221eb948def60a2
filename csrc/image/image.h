#ifndef FACS_IMAGE_IMAGE_H
#define FACS_IMAGE_IMAGE_H

#include "core/status.h"

#include <stddef.h>
#include <stdint.h>

/* Files to pixels. JPEG (baseline and progressive, 8 bits), PNG and BMP are read through
 * stb_image, which takes damaged files without complaint; therefore the structure of a
 * file is checked first, and truncated, damaged or unusually large ones are refused. */

enum {
    FACS_IMAGE_CHANNELS = 3,
    FACS_IMAGE_MAX_SIDE = 32768,
    FACS_IMAGE_MAX_PIXELS = 100000000,
    FACS_IMAGE_MAX_FILE = 1 << 29 /* bytes of one file */
};

/* 8-bit RGB, rows without gaps, (height, width, 3). Whoever made the image owns it. */
typedef struct facs_image {
    uint8_t *pixels;
    int height, width;
} facs_image;

/* Decodes a whole file in memory into *out, owned by the caller. Grey becomes three equal
 * channels, alpha is dropped, 16-bit samples keep their high byte; orientation tags are not
 * applied, bytes after the end of the image are ignored. FACS_E_FORMAT says name and reason.
 * *out is empty on failure. */
facs_status facs_image_decode(facs_image *out, const uint8_t *bytes, size_t size,
                              const char *name) FACS_MUST_USE;

/* Reads and decodes a file. FACS_E_IO names the path and the system's reason, which errno
 * still holds on return. */
facs_status facs_image_read(facs_image *out, const char *path) FACS_MUST_USE;

/* Frees the pixels and empties the image; an empty one is legal. */
void facs_image_free(facs_image *image);

#endif
