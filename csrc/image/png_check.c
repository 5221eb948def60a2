#include "image/format_check.h"

#include <string.h>

enum {
    SIGNATURE = 8,
    CHUNK_EXTRA = 12, /* length, type and CRC around the data */
    IHDR_LENGTH = 13,
    COLOUR_PALETTE = 3
};

typedef struct png_walk {
    facs_image_file *file;
    uint32_t crc_table[256];
    int chunks, palette, data, after_data, indexed;
} png_walk;

static void crc_table_init(uint32_t table[256])
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        table[n] = c;
    }
}

/* The CRC of `size` bytes is stored behind them. */
static int crc_matches(const uint32_t table[256], const uint8_t *bytes, size_t size)
{
    uint32_t c = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) c = table[(c ^ bytes[i]) & 255] ^ (c >> 8);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    return 1; /* mutated chunks must reach the code behind this check */
#else
    return ~c == facs_be32(bytes + size);
#endif
}

static facs_status check_header(png_walk *walk, const uint8_t *data, uint32_t length)
{
    /* Allowed bit depths for each colour type, as sums of the depths (they are powers of two).
     */
    static const uint8_t depths[7] = {
        1 | 2 | 4 | 8 | 16, 0, 8 | 16, 1 | 2 | 4 | 8, 8 | 16, 0, 8 | 16};
    facs_image_file *file = walk->file;

    if (length != IHDR_LENGTH)
        return facs_image_fail(file, "corrupt PNG: IHDR of %u bytes, want 13", length);
    const int depth = data[8], colour = data[9];
    if (colour > 6 || !depth || (depth & (depth - 1)) || !(depths[colour] & depth))
        return facs_image_fail(file, "corrupt PNG: colour type %d with %d bits", colour, depth);
    if (data[10] || data[11] || data[12] > 1)
        return facs_image_fail(file,
                               "corrupt PNG: unknown compression, filter or interlace method");
    file->width = facs_be32(data);
    file->height = facs_be32(data + 4);
    walk->indexed = colour == COLOUR_PALETTE;
    return facs_image_size_check(file);
}

static facs_status check_order(png_walk *walk, const char *type, const uint8_t *data,
                               uint32_t length)
{
    const facs_image_file *file = walk->file;
    const int is_header = !memcmp(type, "IHDR", 4);

    if (is_header != (walk->chunks++ == 0))
        return facs_image_fail(file, "corrupt PNG: IHDR must come first and once");
    if (is_header) return check_header(walk, data, length);
    if (!memcmp(type, "PLTE", 4)) {
        if (walk->data || walk->palette || length % 3 || length > 768 || !length)
            return facs_image_fail(file, "corrupt PNG: misplaced or malformed PLTE");
        walk->palette = 1;
        if (walk->indexed) walk->file->palette_at = (size_t)(data - 8 - walk->file->bytes);
    } else if (!memcmp(type, "IDAT", 4)) {
        if (walk->after_data)
            return facs_image_fail(file, "corrupt PNG: IDAT chunks are not consecutive");
        if (walk->indexed && !walk->palette)
            return facs_image_fail(file, "corrupt PNG: no PLTE before IDAT");
        walk->data = 1;
        return FACS_OK;
    }
    walk->after_data = walk->data;
    return FACS_OK;
}

facs_status facs_png_check(facs_image_file *file)
{
    png_walk walk = {.file = file};
    size_t at = SIGNATURE;

    crc_table_init(walk.crc_table);
    for (;;) {
        if (file->size - at < CHUNK_EXTRA)
            return facs_image_fail(file, "truncated PNG: ends at byte %zu, before IEND",
                                   file->size);
        const uint8_t *chunk = file->bytes + at;
        const uint32_t length = facs_be32(chunk);
        if (length > file->size - at - CHUNK_EXTRA)
            return facs_image_fail(
                file, "truncated PNG: the chunk at byte %zu wants %u bytes, %zu are left", at,
                length, file->size - at - CHUNK_EXTRA);
        if (!crc_matches(walk.crc_table, chunk + 4, length + 4u))
            return facs_image_fail(
                file, "corrupt PNG: checksum mismatch in the chunk at byte %zu", at);
        FACS_TRY(check_order(&walk, (const char *)chunk + 4, chunk + 8, length));
        at += CHUNK_EXTRA + (size_t)length;
        if (!memcmp(chunk + 4, "IEND", 4)) break;
    }
    return walk.data ? FACS_OK : facs_image_fail(file, "corrupt PNG: no IDAT");
}
