#include "image/format_check.h"
#include "image/jpeg_entropy.h"

#include <string.h>

enum {
    SOF0 = 0xC0,
    SOF1 = 0xC1,
    SOF2 = 0xC2,
    DHT = 0xC4,
    JPG = 0xC8,
    DAC = 0xCC,
    SOF15 = 0xCF,
    RST0 = 0xD0,
    RST7 = 0xD7,
    SOI = 0xD8,
    EOI = 0xD9,
    SOS = 0xDA,
    DQT = 0xDB,
    DRI = 0xDD,
    MAX_COMPONENTS = FACS_JPEG_MAX_COMPONENTS,
    MAX_SCANS = 256 /* a legal progressive file of many more would only burn time */
};

typedef struct jpeg_component {
    int id, h, v, quantiser, seen;
} jpeg_component;

typedef struct jpeg_scan {
    int components, first, refines;
    int64_t blocks, mcus;
    facs_jpeg_layout layout;
} jpeg_scan;

typedef struct jpeg_walk {
    facs_image_file *file;
    size_t at;
    jpeg_component component[MAX_COMPONENTS];
    int components, progressive, h_max, v_max, scans;
    unsigned quantisers, huffman[2]; /* bit per table defined; 0 is DC, 1 is AC */
    facs_jpeg_huffman table[2][4];
    uint32_t restart_interval;
} jpeg_walk;

static int64_t ceil_divide(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static facs_status truncated(const jpeg_walk *walk)
{
    return facs_image_fail(walk->file,
                           "truncated JPEG: ends at byte %zu, before the end marker",
                           walk->file->size);
}

static facs_status corrupt(const jpeg_walk *walk, const char *what)
{
    return facs_image_fail(walk->file, "corrupt JPEG: %s at byte %zu", what, walk->at);
}

static facs_status check_frame(jpeg_walk *walk, int marker, const uint8_t *data, size_t length)
{
    facs_image_file *file = walk->file;

    if (marker > SOF2)
        return facs_image_fail(
            file,
            "JPEG process SOF%d is not supported (arithmetic coded, lossless or "
            "hierarchical)",
            marker - SOF0);
    if (walk->components) return corrupt(walk, "second frame header");
    if (length < 6 || length != 6 + 3u * data[5])
        return corrupt(walk, "malformed frame header");
    if (data[0] != 8)
        return facs_image_fail(file, "JPEG of %d bits per sample is not supported, only 8",
                               data[0]);
    if (data[5] != 1 && data[5] != 3 && data[5] != 4)
        return facs_image_fail(file, "JPEG of %d components is not supported", data[5]);
    file->height = facs_be16(data + 1);
    file->width = facs_be16(data + 3);
    walk->progressive = marker == SOF2;
    walk->components = data[5];
    for (int i = 0; i < walk->components; i++) {
        const uint8_t *p = data + 6 + 3 * i;
        jpeg_component *c = &walk->component[i];
        *c = (jpeg_component){.id = p[0], .h = p[1] >> 4, .v = p[1] & 15, .quantiser = p[2]};
        if (c->h < 1 || c->h > 4 || c->v < 1 || c->v > 4 || c->quantiser > 3)
            return corrupt(walk, "malformed component");
        walk->h_max = c->h > walk->h_max ? c->h : walk->h_max;
        walk->v_max = c->v > walk->v_max ? c->v : walk->v_max;
    }
    return facs_image_size_check(file);
}

static facs_status check_quantisers(jpeg_walk *walk, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length;) {
        const int wide = data[i] >> 4, table = data[i] & 15;
        const size_t bytes = wide ? 129 : 65;
        if (wide > 1 || table > 3 || length - i < bytes)
            return corrupt(walk, "malformed quantisation table");
        walk->quantisers |= 1u << table;
        i += bytes;
    }
    return FACS_OK;
}

static facs_status check_huffman(jpeg_walk *walk, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length;) {
        const int type = data[i] >> 4, table = data[i] & 15;
        size_t bytes = 17;
        if (type > 1 || table > 3 || length - i < bytes)
            return corrupt(walk, "malformed Huffman table");
        for (int n = 1; n <= 16; n++) bytes += data[i + (size_t)n];
        if (bytes > 17 + 256 || bytes == 17 || length - i < bytes)
            return corrupt(walk, "malformed Huffman table");
        if (!facs_jpeg_huffman_init(&walk->table[type][table], data + i + 1, data + i + 17,
                                    (int)bytes - 17))
            return corrupt(walk, "overfull Huffman table");
        walk->huffman[type] |= 1u << table;
        i += bytes;
    }
    return FACS_OK;
}

/* A decoder would take a missing table for one of zeros. */
static facs_status check_tables(const jpeg_walk *walk, const jpeg_scan *scan,
                                const jpeg_component *c, int tables)
{
    const int needs_dc = scan->first == 0 && !scan->refines;
    const int needs_ac = walk->progressive ? scan->first > 0 : 1;

    if (tables >> 4 > 3 || (tables & 15) > 3) return corrupt(walk, "malformed scan header");
    if (!(walk->quantisers >> c->quantiser & 1))
        return corrupt(walk, "scan without its quantisation table");
    if ((needs_dc && !(walk->huffman[0] >> (tables >> 4) & 1)) ||
        (needs_ac && !(walk->huffman[1] >> (tables & 15) & 1)))
        return corrupt(walk, "scan without its Huffman table");
    return FACS_OK;
}

static void count_blocks(const jpeg_walk *walk, jpeg_scan *scan, const jpeg_component *last,
                         int per_mcu)
{
    const facs_image_file *file = walk->file;
    if (scan->components == 1) {
        scan->blocks = ceil_divide(ceil_divide(file->width * last->h, walk->h_max), 8) *
                       ceil_divide(ceil_divide(file->height * last->v, walk->v_max), 8);
        scan->mcus = scan->blocks;
        return;
    }
    scan->mcus =
        ceil_divide(file->width, 8 * walk->h_max) * ceil_divide(file->height, 8 * walk->v_max);
    scan->blocks = scan->mcus * per_mcu;
}

static facs_status check_scan_header(jpeg_walk *walk, jpeg_scan *scan, const uint8_t *data,
                                     size_t length)
{
    jpeg_component *c = NULL;
    int per_mcu = 0;

    if (!walk->components) return corrupt(walk, "scan before the frame header");
    if (length < 4 || data[0] < 1 || data[0] > walk->components || length != 4 + 2u * data[0])
        return corrupt(walk, "malformed scan header");
    if (++walk->scans > MAX_SCANS) return corrupt(walk, "too many scans");
    scan->components = data[0];
    scan->first = data[length - 3];
    scan->refines = data[length - 1] >> 4;
    for (int i = 0; i < scan->components; i++) {
        c = NULL;
        for (int k = 0; k < walk->components; k++)
            if (walk->component[k].id == data[1 + 2 * i]) c = &walk->component[k];
        if (!c) return corrupt(walk, "scan of an unknown component");
        const int tables = data[2 + 2 * i];
        FACS_TRY(check_tables(walk, scan, c, tables));
        scan->layout.component[i].dc = &walk->table[0][tables >> 4];
        scan->layout.component[i].ac = &walk->table[1][tables & 15];
        scan->layout.component[i].blocks = scan->components == 1 ? 1 : c->h * c->v;
        c->seen |= scan->first == 0 && !scan->refines;
        per_mcu += c->h * c->v;
    }
    scan->layout.components = scan->components;
    count_blocks(walk, scan, c, per_mcu);
    return FACS_OK;
}

/* Each block takes at least one bit in a DC scan, and a second one (end of block) in a
 * sequential scan. This bounds what a small file can unpack to. */
static int enough_bits(const jpeg_walk *walk, const jpeg_scan *scan, uint64_t data_bytes)
{
    const int least = walk->progressive ? scan->first == 0 : 2;
    return data_bytes * 8 >= (uint64_t)(scan->blocks * least);
}

/* The data between two restart markers. A progressive scan refines coefficients that only a
 * decoder has, so its codes are not walked. */
static facs_status check_interval(const jpeg_walk *walk, const jpeg_scan *scan,
                                  int64_t interval, const uint8_t *begin, const uint8_t *end)
{
    const int64_t length = walk->restart_interval;
    if (walk->progressive) return FACS_OK;
    int64_t units = length ? scan->mcus - interval * length : scan->mcus;
    units = length && units > length ? length : units < 0 ? 0 : units;
    const char *fault =
        facs_jpeg_entropy_check(&scan->layout, units, begin, (size_t)(end - begin));
    return fault ? corrupt(walk, fault) : FACS_OK;
}

/* From the first byte of entropy-coded data to the marker that ends it. */
static facs_status walk_entropy(jpeg_walk *walk, const jpeg_scan *scan)
{
    const uint8_t *bytes = walk->file->bytes, *end = bytes + walk->file->size;
    const uint8_t *p = bytes + walk->at, *begin = p;
    const int64_t length = walk->restart_interval;
    uint64_t data_bytes = 0;
    int64_t restarts = 0;

    for (;; p++) {
        const uint8_t *mark = memchr(p, 0xFF, (size_t)(end - p));
        if (!mark) return truncated(walk);
        data_bytes += (uint64_t)(mark - p);
        p = mark;
        while (p < end && *p == 0xFF) p++;
        if (p == end) return truncated(walk);
        if (*p == 0) {
            data_bytes++;
            continue;
        }
        walk->at = (size_t)(mark - bytes);
        const int restart = *p >= RST0 && *p <= RST7;
        if (restart && (*p - RST0 != (restarts & 7) || !length))
            return corrupt(walk, "unexpected restart marker");
        if (!restart && !enough_bits(walk, scan, data_bytes))
            return corrupt(walk, "too little image data");
        FACS_TRY(check_interval(walk, scan, restarts, begin, mark));
        if (!restart) break;
        restarts++;
        begin = p + 1;
    }
    if (length && restarts < ceil_divide(scan->mcus, length) - 1)
        return corrupt(walk, "missing restart markers");
    return FACS_OK;
}

static facs_status check_segment(jpeg_walk *walk, int marker, const uint8_t *data,
                                 size_t length)
{
    if (marker == DHT) return check_huffman(walk, data, length);
    if (marker == DQT) return check_quantisers(walk, data, length);
    if (marker >= SOF0 && marker <= SOF15 && marker != JPG && marker != DAC)
        return check_frame(walk, marker, data, length);
    if (marker == DRI) {
        if (length != 2) return corrupt(walk, "malformed restart interval");
        walk->restart_interval = facs_be16(data);
    }
    return FACS_OK;
}

/* Finds the next marker and leaves `at` behind it. */
static facs_status next_marker(jpeg_walk *walk, int *marker)
{
    const facs_image_file *file = walk->file;
    if (walk->at >= file->size) return truncated(walk);
    if (file->bytes[walk->at] != 0xFF) return corrupt(walk, "no marker where one is wanted");
    while (walk->at < file->size && file->bytes[walk->at] == 0xFF) walk->at++;
    if (walk->at == file->size) return truncated(walk);
    *marker = file->bytes[walk->at++];
    return FACS_OK;
}

facs_status facs_jpeg_check(facs_image_file *file)
{
    jpeg_walk walk = {.file = file, .at = 2};
    int marker = 0;

    for (;;) {
        FACS_TRY(next_marker(&walk, &marker));
        if (marker == EOI) break;
        if (marker < SOF0 || (marker >= RST0 && marker <= SOI))
            return corrupt(&walk, "unexpected marker");
        if (file->size - walk.at < 2) return truncated(&walk);
        const size_t length = facs_be16(file->bytes + walk.at);
        const uint8_t *data = file->bytes + walk.at + 2;
        if (length < 2) return corrupt(&walk, "malformed segment");
        if (length > file->size - walk.at) return truncated(&walk);
        if (marker == SOS) {
            jpeg_scan scan = {0};
            FACS_TRY(check_scan_header(&walk, &scan, data, length - 2));
            walk.at += length;
            FACS_TRY(walk_entropy(&walk, &scan));
        } else {
            FACS_TRY(check_segment(&walk, marker, data, length - 2));
            walk.at += length;
        }
    }
    if (!walk.components) return facs_image_fail(file, "corrupt JPEG: no frame header");
    for (int i = 0; i < walk.components; i++)
        if (!walk.component[i].seen)
            return facs_image_fail(file, "corrupt JPEG: no image data for component %d", i);
    return FACS_OK;
}
