#include "image/format_check.h"

enum { FILE_HEADER = 14, CORE_HEADER = 12, INFO_HEADER = 40, BITFIELDS = 3 };

/* Bytes from the start of the file to the end of headers and colour masks. */
static size_t headers_end(uint32_t header, uint32_t compression)
{
    return FILE_HEADER + header + (header == INFO_HEADER && compression == BITFIELDS ? 12 : 0);
}

static facs_status check_pixels(const facs_image_file *file, uint32_t header, uint32_t bits,
                                uint32_t compression)
{
    const uint32_t declared = facs_le32(file->bytes + 2), start = facs_le32(file->bytes + 10);
    const uint64_t row = ((uint64_t)file->width * bits + 31) / 32 * 4;
    const uint64_t end = start + row * (uint64_t)file->height;

    if (start < headers_end(header, compression))
        return facs_image_fail(file, "corrupt BMP: pixels at byte %u lie inside the headers",
                               start);
    /* Some writers leave the size of the file 0. */
    if (end > file->size || declared > file->size)
        return facs_image_fail(file, "truncated BMP: has %zu bytes, wants %llu", file->size,
                               (unsigned long long)(end > declared ? end : declared));
    return FACS_OK;
}

facs_status facs_bmp_check(facs_image_file *file)
{
    const uint8_t *bytes = file->bytes;

    if (file->size < FILE_HEADER + 4)
        return facs_image_fail(file, "truncated BMP: %zu bytes do not hold a header",
                               file->size);
    const uint32_t header = facs_le32(bytes + 14);
    const int core = header == CORE_HEADER;
    if (!core && header != INFO_HEADER && header != 56 && header != 108 && header != 124)
        return facs_image_fail(file, "corrupt BMP: header of %u bytes", header);
    if (file->size < FILE_HEADER + header)
        return facs_image_fail(file, "truncated BMP: %zu bytes do not hold the header",
                               file->size);

    const uint8_t *after = bytes + (core ? 22 : 26); /* planes, bits, compression */
    const uint32_t planes = facs_le16(after), bits = facs_le16(after + 2);
    const uint32_t compression = core ? 0 : facs_le32(after + 4);
    if (core) {
        file->width = facs_le16(bytes + 18);
        file->height = facs_le16(bytes + 20);
    } else {
        file->width = (int32_t)facs_le32(bytes + 18);
        file->height = (int32_t)facs_le32(bytes + 22);
        if (file->height < 0) /* rows from the top */
            file->height = -file->height;
    }
    if (planes != 1) return facs_image_fail(file, "corrupt BMP: %u planes, want 1", planes);
    if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32)
        return facs_image_fail(file, "corrupt BMP: %u bits per pixel", bits);
    if (compression != 0 && compression != BITFIELDS)
        return facs_image_fail(file, "compressed BMP (method %u) is not supported",
                               compression);
    FACS_TRY(facs_image_size_check(file));
    return check_pixels(file, header, bits, compression);
}
