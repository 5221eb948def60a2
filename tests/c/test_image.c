#include "check.h"

#include "image/augment.h"
#include "image/image.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { W = 6, H = 4, ROW = (W * 3 + 3) / 4 * 4, HEADERS = 54, BMP_SIZE = HEADERS + ROW * H };

static void put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

/* A 24-bit BMP whose pixel (y, x) is (10 y, 10 x, 7). */
static void make_bmp(uint8_t bytes[BMP_SIZE])
{
    memset(bytes, 0, BMP_SIZE);
    memcpy(bytes, "BM", 2);
    put32(bytes + 2, BMP_SIZE);
    put32(bytes + 10, HEADERS);
    put32(bytes + 14, 40);
    put32(bytes + 18, W);
    put32(bytes + 22, H);
    bytes[26] = 1;
    bytes[28] = 24;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            uint8_t *p = bytes + HEADERS + (H - 1 - y) * ROW + 3 * x;
            p[0] = 7;
            p[1] = (uint8_t)(10 * x);
            p[2] = (uint8_t)(10 * y);
        }
}

static void test_bmp(void)
{
    uint8_t bytes[BMP_SIZE];
    facs_image image;
    int right = 1, refused = 0;

    make_bmp(bytes);
    CHECK_OK(facs_image_decode(&image, bytes, sizeof bytes, "a.bmp"));
    CHECK(image.height == H && image.width == W);
    for (int i = 0; i < H * W; i++)
        right &= image.pixels[3 * i] == 10 * (i / W) &&
                 image.pixels[3 * i + 1] == 10 * (i % W) && image.pixels[3 * i + 2] == 7;
    CHECK(right);
    facs_image_free(&image);
    CHECK(!image.pixels && !image.height);
    for (size_t size = 0; size < sizeof bytes; size++)
        refused += facs_image_decode(&image, bytes, size, "a.bmp") == FACS_E_FORMAT &&
                   strstr(facs_last_message(), "a.bmp") && !image.pixels;
    CHECK(refused == BMP_SIZE);
}

static void test_limits(void)
{
    uint8_t bytes[BMP_SIZE];
    facs_image image;

    make_bmp(bytes);
    put32(bytes + 18, 20000);
    put32(bytes + 22, 20000);
    CHECK_STATUS(facs_image_decode(&image, bytes, sizeof bytes, "big.bmp"), FACS_E_FORMAT);
    CHECK(strstr(facs_last_message(), "too many"));
    put32(bytes + 22, 0x80000000u); /* the height that has no absolute value */
    CHECK_STATUS(facs_image_decode(&image, bytes, sizeof bytes, "odd.bmp"), FACS_E_FORMAT);
    CHECK_STATUS(facs_image_decode(&image, bytes, 0, "empty"), FACS_E_FORMAT);
    CHECK_STATUS(facs_image_decode(&image, (const uint8_t *)"GIF89a..", 8, "a.gif"),
                 FACS_E_FORMAT);
}

static void test_long_name(void)
{
    char name[2000];
    facs_image image;

    memset(name, 'x', sizeof name);
    strcpy(name + sizeof name - sizeof "/the-end.png", "/the-end.png");
    CHECK_STATUS(facs_image_decode(&image, (const uint8_t *)"", 0, name), FACS_E_FORMAT);
    CHECK(strstr(facs_last_message(), "/the-end.png: the file is empty"));
}

static void test_read(void)
{
    facs_image image;

    CHECK_STATUS(facs_image_read(&image, "/no/such/file.png"), FACS_E_IO);
    CHECK(errno == ENOENT);
    CHECK(strstr(facs_last_message(), "/no/such/file.png"));
    CHECK_STATUS(facs_image_read(&image, "/"), FACS_E_IO);
    CHECK(errno == EISDIR);
    CHECK_STATUS(facs_image_read(&image, "/dev/zero"), FACS_E_IO);
}

enum { SIDE = 9 };

static facs_image make_image(int height, int width, uint32_t item)
{
    facs_rng rng = facs_rng_stream(1, FACS_RNG_SYNTHETIC, 0, item);
    facs_image image = {malloc((size_t)height * (size_t)width * 3), height, width};
    for (int i = 0; image.pixels && i < height * width * 3; i++)
        image.pixels[i] = (uint8_t)facs_rng_below(&rng, 256);
    return image;
}

static void test_resize(void)
{
    uint8_t same[7 * 5 * 3], flat[11 * 3 * 3], mean[3];
    facs_image image = make_image(7, 5, 0);
    facs_image_scratch scratch = {0};
    int sum = 0, level = 1;

    CHECK_OK(facs_image_resize(same, 7, 5, &image, &scratch));
    CHECK(!memcmp(same, image.pixels, sizeof same));
    /* Halving 2 x 2 weighs all four pixels alike. */
    facs_image quad = {image.pixels, 2, 2};
    CHECK_OK(facs_image_resize(mean, 1, 1, &quad, &scratch));
    for (int i = 0; i < 4; i++) sum += image.pixels[3 * i];
    CHECK(fabs(mean[0] - sum / 4.0) <= 1);
    memset(image.pixels, 200, sizeof same);
    CHECK_OK(facs_image_resize(flat, 11, 3, &image, &scratch));
    for (size_t i = 0; i < sizeof flat; i++) level &= flat[i] == 200;
    CHECK(level);
    /* What has been reserved is used again. */
    const uint8_t *before = scratch.bytes;
    CHECK_OK(facs_image_resize(flat, 11, 3, &image, &scratch));
    CHECK(scratch.bytes == before);
    CHECK_STATUS(facs_image_resize(flat, 0, 3, &image, &scratch), FACS_E_ARG);
    const facs_image_box outside = {0.5, 0, 0.6, 1}, undefined = {NAN, 0, 1, 1};
    CHECK_STATUS(facs_image_resize_box(flat, 11, 3, &image, &outside, &scratch), FACS_E_ARG);
    CHECK_STATUS(facs_image_resize_box(flat, 11, 3, &image, &undefined, &scratch), FACS_E_ARG);
    CHECK_STATUS(facs_image_crop_centre(flat, 8, 5, &image), FACS_E_SHAPE);
    facs_image_scratch_free(&scratch);
    facs_image_scratch_free(&scratch);
    facs_image_scratch_free(NULL);
    free(image.pixels);
}

static void test_boxes(void)
{
    const facs_image wide = {NULL, 100, 250};
    const facs_image_box box = facs_image_box_square(&wide);
    CHECK_CLOSE(box.x, 0.3, 1e-12);
    CHECK_CLOSE(box.width, 0.4, 1e-12);
    CHECK(box.y == 0 && box.height == 1);
}

static void test_augment(void)
{
    uint8_t plain[SIDE * SIDE * 3], varied[SIDE * SIDE * 3];
    facs_image image = make_image(20, 13, 2);
    facs_image_scratch scratch = {0};
    facs_augmentation_draw draw = facs_augmentation_draw_neutral();
    int turned = 1, mirrored = 1;

    CHECK_OK(facs_image_resize(plain, SIDE, SIDE, &image, &scratch));
    CHECK_OK(facs_image_augment(varied, &image, SIDE, &draw, &scratch));
    CHECK(!memcmp(plain, varied, sizeof plain));
    draw.angle = 180;
    CHECK_OK(facs_image_augment(varied, &image, SIDE, &draw, &scratch));
    for (int i = 0; i < SIDE * SIDE; i++)
        turned &= !memcmp(varied + 3 * i, plain + 3 * (SIDE * SIDE - 1 - i), 3);
    CHECK(turned);
    draw.angle = 0;
    draw.flip = 1;
    CHECK_OK(facs_image_augment(varied, &image, SIDE, &draw, &scratch));
    for (int i = 0; i < SIDE * SIDE; i++)
        mirrored &=
            !memcmp(varied + 3 * i, plain + 3 * (i / SIDE * SIDE + SIDE - 1 - i % SIDE), 3);
    CHECK(mirrored);
    draw.brightness = -1;
    CHECK_STATUS(facs_image_augment(varied, &image, SIDE, &draw, &scratch), FACS_E_ARG);
    draw.brightness = 1;
    draw.angle = INFINITY;
    CHECK_STATUS(facs_image_augment(varied, &image, SIDE, &draw, &scratch), FACS_E_ARG);
    facs_image_scratch_free(&scratch);
    free(image.pixels);
}

static int within(double x, double least, double most)
{
    return x >= least && x <= most;
}

static void test_draws(void)
{
    const facs_augmentation none = facs_augmentation_none();
    const facs_augmentation all = {0.5, 0.5, 10, 0.2, 0.3};
    facs_augmentation unflipped = all;
    int inside = 1, neutral = 1, independent = 1, flips = 0;

    unflipped.flip_probability = 0;
    for (uint32_t item = 0; item < 2000; item++) {
        facs_rng a = facs_rng_stream(3, FACS_RNG_AUGMENT, 1, item), b = a, c = a;
        const facs_augmentation_draw d = facs_augmentation_make_draw(&all, &a);
        const facs_augmentation_draw e = facs_augmentation_make_draw(&unflipped, &b);
        const facs_augmentation_draw n = facs_augmentation_make_draw(&none, &c);
        inside &= d.crop.x >= 0 && d.crop.x + d.crop.width <= 1 + 1e-12 && d.crop.y >= 0 &&
                  within(d.crop.width * d.crop.height, 0.5 - 1e-12, 1) &&
                  within(d.angle, -10, 10) && within(d.brightness, 0.8, 1.2) &&
                  within(d.contrast, 0.7, 1.3);
        neutral &= n.crop.x == 0 && n.crop.y == 0 && n.crop.width == 1 && n.crop.height == 1 &&
                   !n.flip && n.angle == 0 && n.brightness == 1 && n.contrast == 1;
        independent &=
            d.angle == e.angle && d.crop.x == e.crop.x && d.contrast == e.contrast && !e.flip;
        flips += d.flip;
    }
    CHECK(inside);
    CHECK(neutral);
    CHECK(independent);
    CHECK(within(flips, 900, 1100)); /* 4.5 standard deviations about 1000 */
    CHECK(facs_augmentation_is_none(&none) && !facs_augmentation_is_none(&all));
}

static void test_option_ranges(void)
{
    const facs_augmentation good = {0.5, 0.5, 10, 0.2, 0.3};
    facs_augmentation bad = good;

    CHECK_OK(facs_augmentation_check(&good));
    bad.crop_scale = 0;
    CHECK_STATUS(facs_augmentation_check(&bad), FACS_E_ARG);
    bad = good;
    bad.flip_probability = 1.5;
    CHECK_STATUS(facs_augmentation_check(&bad), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "flip_probability: is 1.5"));
    bad = good;
    bad.contrast = NAN;
    CHECK_STATUS(facs_augmentation_check(&bad), FACS_E_ARG);
}

int main(void)
{
    test_bmp();
    test_limits();
    test_long_name();
    test_read();
    test_resize();
    test_boxes();
    test_augment();
    test_draws();
    test_option_ranges();
    return check_report("image");
}
