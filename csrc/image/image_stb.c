#include "image/image_stb.h"

#include "core/memory.h"

#include <string.h>

/* What stb_image may allocate in one block during the decode that runs on this thread, and
 * what went wrong if it could not. Its allocation hooks have no argument to carry this. */
static _Thread_local struct {
    size_t limit;
    facs_status status;
    const facs_image_file *file;
} decode;

static void *decoder_allocate(size_t size)
{
    void *block = NULL;
    if (size > decode.limit) {
        decode.status =
            facs_image_fail(decode.file, "corrupt image: unpacks to more than its header says");
        return NULL;
    }
    const facs_status status = facs_allocate(&block, 1, size, "image decoder");
    if (status != FACS_OK) decode.status = status;
    return block;
}

static void *decoder_reallocate(void *old, size_t old_size, size_t size)
{
    void *block = decoder_allocate(size);
    if (block && old) {
        memcpy(block, old, old_size < size ? old_size : size);
        facs_free(old);
    }
    return block;
}

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MAX_DIMENSIONS                       32768
#define STBI_ASSERT(condition)                    ((void)0)
#define STBI_MALLOC(size)                         decoder_allocate(size)
#define STBI_REALLOC_SIZED(block, old_size, size) decoder_reallocate(block, old_size, size)
#define STBI_FREE(block)                          facs_free(block)
/* gcc tells of static functions without a body at the end of the unit, so no pop brings
 * this one back. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic push
#ifdef __clang__
#    pragma GCC diagnostic ignored "-Wunknown-warning-option"
#endif
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wshift-negative-value"
/* Damaged data makes it shift zeros by 32 and more and numbers overflow, which is harmless
 * where it runs (they wrap: tools/build_flags.py) but stops a sanitizer; accesses to memory
 * stay checked. */
#ifdef __clang__
#    pragma clang attribute push(                                                              \
        __attribute__((no_sanitize("shift", "signed-integer-overflow"))), apply_to = function)
#endif
#include <stb/stb_image.h>
#ifdef __clang__
#    pragma clang attribute pop
#endif
#pragma GCC diagnostic pop

_Static_assert(STBI_MAX_DIMENSIONS == FACS_IMAGE_MAX_SIDE,
               "one limit on the sides of an image");

/* The decoders' largest blocks are 16-bit RGBA in a buffer that grows by doubling, the
 * coefficients of a JPEG padded to whole units, and the file's own compressed data. */
static size_t largest_block(const facs_image_file *file)
{
    return (size_t)(file->width + 64) * (size_t)(file->height + 64) * 16 + 2 * file->size +
           (1 << 16);
}

facs_status facs_stb_decode(facs_image *out, const facs_image_file *file)
{
    int width = 0, height = 0, channels = 0;

    decode.limit = largest_block(file);
    decode.status = FACS_OK;
    decode.file = file;
    uint8_t *pixels = stbi_load_from_memory(file->bytes, (int)file->size, &width, &height,
                                            &channels, FACS_IMAGE_CHANNELS);
    decode.file = NULL;
    if (!pixels)
        return decode.status != FACS_OK
                   ? decode.status
                   : facs_image_fail(file, "corrupt image: %s", stbi_failure_reason());
    *out = (facs_image){.pixels = pixels, .height = height, .width = width};
    if (height == file->height && width == file->width) return FACS_OK;
    facs_image_free(out);
    return facs_image_fail(file, "corrupt image: %d x %d pixels, the header says %lld x %lld",
                           width, height, (long long)file->width, (long long)file->height);
}
