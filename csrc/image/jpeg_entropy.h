#ifndef FACS_IMAGE_JPEG_ENTROPY_H
#define FACS_IMAGE_JPEG_ENTROPY_H

#include <stddef.h>
#include <stdint.h>

/* Walks the Huffman codes of sequential JPEG scans without computing any pixel. A decoder
 * fills what is missing with grey; the walk finds that something is missing or damaged. */

enum { FACS_JPEG_MAX_COMPONENTS = 4, FACS_JPEG_FAST_BITS = 9 };

typedef struct facs_jpeg_huffman {
    uint16_t fast[1 << FACS_JPEG_FAST_BITS]; /* length << 8 | symbol of short codes, else 0 */
    uint32_t limit[17];                      /* first code beyond each length, as 16 bits */
    int32_t offset[17];                      /* from a code of each length to its symbol */
    uint8_t symbols[256];
} facs_jpeg_huffman;

/* From the counts per length and the symbols of a DHT segment; count is at most 256.
 * Returns 0 where more codes are asked for than a length has. */
int facs_jpeg_huffman_init(facs_jpeg_huffman *table, const uint8_t counts[16],
                           const uint8_t *symbols, int count);

typedef struct facs_jpeg_layout {
    int components;
    struct {
        const facs_jpeg_huffman *dc, *ac;
        int blocks; /* per unit */
    } component[FACS_JPEG_MAX_COMPONENTS];
} facs_jpeg_layout;

/* Reads `units` units from the stuffed bytes between two markers. NULL where they fit, else
 * what is wrong, as static text. Zero and fill bytes behind the last unit are legal. */
const char *facs_jpeg_entropy_check(const facs_jpeg_layout *layout, int64_t units,
                                    const uint8_t *bytes, size_t size);

#endif
