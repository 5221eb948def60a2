#include "check.h"

#include "image/align.h"

#include <string.h>

enum { W = 9, H = 7 };

static uint8_t pixels[H * W * 3];
static const facs_image image = {pixels, H, W};

/* Pixel (y, x) is (20 y, 20 x, 7). */
static void make_image(void)
{
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            uint8_t *p = pixels + 3 * (y * W + x);
            p[0] = (uint8_t)(20 * y), p[1] = (uint8_t)(20 * x), p[2] = 7;
        }
}

static facs_similarity from_points(const facs_position in[2], const facs_position out[2])
{
    facs_similarity s = {0};
    CHECK_OK(facs_similarity_from_points(&s, in, out));
    return s;
}

static void test_points(void)
{
    const facs_position in[2] = {{3, 5}, {7, 2}}, out[2] = {{10, 20}, {40, 25}};
    const facs_similarity s = from_points(in, out);
    for (int i = 0; i < 2; i++) {
        CHECK_CLOSE(s.a * out[i].x - s.b * out[i].y + s.shift.x, in[i].x, 1e-12);
        CHECK_CLOSE(s.b * out[i].x + s.a * out[i].y + s.shift.y, in[i].y, 1e-12);
    }
    CHECK_CLOSE(hypot(s.a, s.b), 5 / hypot(30, 5), 1e-12);
}

static void test_identity_and_quarter_turn(void)
{
    uint8_t out[4 * 4 * 3];
    int same = 1, turned = 1;
    const facs_similarity shift = {1, 0, {2, 1}};
    CHECK_OK(facs_image_align(out, 4, &image, &shift));
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++)
            same &= out[3 * (4 * y + x)] == 20 * (y + 1) &&
                    out[3 * (4 * y + x) + 1] == 20 * (x + 2) && out[3 * (4 * y + x) + 2] == 7;
    CHECK(same);
    /* output (x, y) comes from (5 - y, 1 + x) */
    const facs_similarity turn = {0, 1, {5, 1}};
    CHECK_OK(facs_image_align(out, 4, &image, &turn));
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++)
            turned &= out[3 * (4 * y + x)] == 20 * (1 + x) &&
                      out[3 * (4 * y + x) + 1] == 20 * (5 - y);
    CHECK(turned);
}

static void test_scales(void)
{
    uint8_t out[3 * 3 * 3];
    /* half way between pixels */
    const facs_similarity enlarged = {0.5, 0, {1, 1}};
    CHECK_OK(facs_image_align(out, 3, &image, &enlarged));
    CHECK(out[3 + 1] == 30 && out[3 * 3] == 30);
    /* a ramp stays a ramp in a reduction, away from the edges */
    const facs_similarity reduced = {2, 0, {2, 2}};
    CHECK_OK(facs_image_align(out, 2, &image, &reduced));
    CHECK(out[1] == 40 && out[3 + 1] == 80 && out[3 * 2] == 80);
}

static void test_edges_repeat(void)
{
    uint8_t out[4 * 4 * 3];
    const facs_similarity shift = {1, 0, {-2, -2}};
    CHECK_OK(facs_image_align(out, 4, &image, &shift));
    CHECK(out[0] == 0 && out[1] == 0);
    CHECK(out[3 * 15] == 20 && out[3 * 15 + 1] == 20);
}

static void test_refusals(void)
{
    uint8_t out[3];
    facs_similarity s;
    const facs_position apart[2] = {{1, 2}, {3, 4}}, same[2] = {{1, 2}, {1, 2}},
                        wild[2] = {{1, NAN}, {3, 4}}, huge[2] = {{-1e300, 0}, {1e300, 0}};
    CHECK_STATUS(facs_similarity_from_points(&s, same, apart), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "both points are (1, 2)"));
    CHECK_STATUS(facs_similarity_from_points(&s, apart, same), FACS_E_ARG);
    CHECK_STATUS(facs_similarity_from_points(&s, wild, apart), FACS_E_ARG);
    s = from_points(huge, apart);
    CHECK_STATUS(facs_image_align(out, 1, &image, &s), FACS_E_ARG);
    const facs_similarity outside = {1, 0, {20, 0}}, inside = {1, 0, {0, 0}};
    CHECK_STATUS(facs_image_align(out, 1, &image, &outside), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "outside of an image of 9 x 7"));
    CHECK_STATUS(facs_image_align(out, 0, &image, &inside), FACS_E_ARG);
    CHECK_STATUS(facs_image_align(out, FACS_IMAGE_MAX_SIDE + 1, &image, &inside), FACS_E_ARG);
    const facs_image empty = {NULL, 0, 4};
    CHECK_STATUS(facs_image_align(out, 1, &empty, &inside), FACS_E_SHAPE);
}

int main(void)
{
    make_image();
    test_points();
    test_identity_and_quarter_turn();
    test_scales();
    test_edges_repeat();
    test_refusals();
    return check_report("align");
}
