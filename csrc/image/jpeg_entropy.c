#include "image/jpeg_entropy.h"

#include <string.h>

enum { FAST_BITS = FACS_JPEG_FAST_BITS, BAD = -1 };

int facs_jpeg_huffman_init(facs_jpeg_huffman *table, const uint8_t counts[16],
                           const uint8_t *symbols, int count)
{
    uint32_t code = 0;
    int symbol = 0;

    memset(table, 0, sizeof *table);
    memcpy(table->symbols, symbols, (size_t)count);
    for (int length = 1; length <= 16; length++) {
        table->offset[length] = symbol - (int32_t)code;
        for (int i = 0; i < counts[length - 1]; i++, code++, symbol++) {
            if (code >> length) return 0;
            if (length > FAST_BITS) continue;
            const int spare = FAST_BITS - length;
            for (uint32_t k = 0; k < 1u << spare; k++)
                table->fast[(code << spare) + k] =
                    (uint16_t)(length << 8 | table->symbols[symbol]);
        }
        table->limit[length] = code << (16 - length);
        code <<= 1;
    }
    return 1;
}

/* Bits beyond the end read as 0 and leave `bits` negative. */
typedef struct bit_reader {
    const uint8_t *at, *end;
    uint64_t window; /* the next bits, at the top */
    int bits;
} bit_reader;

static inline void fill(bit_reader *reader)
{
    while (reader->bits <= 56 && reader->at < reader->end) {
        const uint8_t byte = *reader->at++;
        if (byte == 0xFF) /* a stuffed zero follows, after fill bytes at most */
            while (reader->at < reader->end && *reader->at++ == 0xFF)
                ;
        reader->window |= (uint64_t)byte << (56 - reader->bits);
        reader->bits += 8;
    }
}

static inline void skip(bit_reader *reader, int count)
{
    reader->window <<= count;
    reader->bits -= count;
}

static inline int read_symbol(bit_reader *reader, const facs_jpeg_huffman *table)
{
    if (reader->bits < 32) fill(reader);
    const int fast = table->fast[reader->window >> (64 - FAST_BITS)];
    if (fast) {
        skip(reader, fast >> 8);
        return fast & 255;
    }
    const uint32_t code = (uint32_t)(reader->window >> 48);
    int length = FAST_BITS + 1;
    while (length <= 16 && code >= table->limit[length]) length++;
    if (length > 16) return BAD;
    skip(reader, length);
    return table->symbols[((int32_t)(code >> (16 - length)) + table->offset[length]) & 255];
}

static const char *read_block(bit_reader *reader, const facs_jpeg_huffman *dc,
                              const facs_jpeg_huffman *ac)
{
    static const char invalid[] = "invalid Huffman code";

    const int category = read_symbol(reader, dc);
    if (category < 0 || category > 15) return invalid;
    skip(reader, category);
    for (int k = 1; k < 64;) {
        const int symbol = read_symbol(reader, ac);
        if (symbol < 0) return invalid;
        const int run = symbol >> 4, size = symbol & 15;
        if (!size && run < 15) break;
        k += run + 1;
        if (k > 64 && size) return "coefficient beyond its block";
        skip(reader, size);
    }
    return reader->bits < 0 ? "missing image data" : NULL;
}

const char *facs_jpeg_entropy_check(const facs_jpeg_layout *layout, int64_t units,
                                    const uint8_t *bytes, size_t size)
{
    bit_reader reader = {.at = bytes, .end = bytes + size};

    for (int64_t unit = 0; unit < units; unit++)
        for (int c = 0; c < layout->components; c++)
            for (int i = 0; i < layout->component[c].blocks; i++) {
                const char *fault =
                    read_block(&reader, layout->component[c].dc, layout->component[c].ac);
                if (fault) return fault;
            }
    skip(&reader, reader.bits & 7);
    for (fill(&reader); reader.bits > 0; fill(&reader)) {
        const uint64_t byte = reader.window >> 56;
        if (byte != 0 && byte != 0xFF) return "image data left over";
        skip(&reader, 8);
    }
    return NULL;
}
