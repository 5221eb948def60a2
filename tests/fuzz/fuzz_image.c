/* Any bytes as an image file. With clang: -fsanitize=fuzzer,address,undefined. With
 * -DFACS_FUZZ_REPLAY it is a program that runs every file named on its command line and
 * ends with 1 if one of them cannot be opened or breaks a promise. */
#include "image/augment.h"
#include "image/image.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Promises beyond memory safety: a refusal has a message with the name and leaves no image;
 * an image has sane sides and can be augmented. */
static int check(const uint8_t *bytes, size_t size)
{
    enum { SIDE = 16 };
    uint8_t out[SIDE * SIDE * FACS_IMAGE_CHANNELS];
    facs_image image;
    facs_image_scratch scratch = {0};
    facs_augmentation_draw draw = facs_augmentation_draw_neutral();

    const facs_status status = facs_image_decode(&image, bytes, size, "fuzz-input");
    if (status != FACS_OK)
        return !image.pixels &&
               (status == FACS_E_OOM ||
                (status == FACS_E_FORMAT && strstr(facs_last_message(), "fuzz-input")));
    draw.angle = 10;
    draw.contrast = 1.5;
    const int kept = image.pixels && image.height > 0 && image.width > 0 &&
                     facs_image_augment(out, &image, SIDE, &draw, &scratch) == FACS_OK;
    facs_image_scratch_free(&scratch);
    facs_image_free(&image);
    return kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (!check(bytes, size)) abort();
    return 0;
}

#ifdef FACS_FUZZ_REPLAY
static int replay(const char *path)
{
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 0;
    }
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    /* A copy of the exact size, so that a sanitizer sees reads past the end. */
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) return 0;
    memcpy(exact, bytes, size);
    const int kept = check(exact, size);
    free(exact);
    if (!kept) fprintf(stderr, "%s: breaks a promise\n", path);
    return kept;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;
    for (int i = 1; i < argc; i++) failed += !replay(argv[i]);
    printf("%d inputs, %d failed\n", argc - 1, failed);
    return failed != 0;
}
#endif
