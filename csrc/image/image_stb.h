#ifndef FACS_IMAGE_IMAGE_STB_H
#define FACS_IMAGE_IMAGE_STB_H

#include "image/format_check.h"
#include "image/image.h"

/* The only place of stb_image. Decodes a file that passed its check and whose height and
 * width are known; *out is the caller's and must be empty. */
facs_status facs_stb_decode(facs_image *out, const facs_image_file *file) FACS_MUST_USE;

#endif
