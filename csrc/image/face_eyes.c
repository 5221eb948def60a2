#include "image/face_parts.h"

#include <math.h>

/* Eyes, brows and what shows around them: AU1, AU2, AU4, AU6 and the wrinkles they make. */

static facs_colour shadow_of(const facs_face *f, double darkness)
{
    const facs_colour warm = {0.20f, 0.09f, 0.06f};
    return facs_colour_mix(facs_colour_scale(f->skin, 0.6 * f->light), warm, darkness);
}

/* The opening of one eye. */
static facs_lens opening(const facs_face *f, facs_point c, int side)
{
    const double *u = f->unit, *a = f->attribute;
    const double half = 0.15 * f->eye_size;
    double up = 0.066 * f->eye_size, down = 0.05 * f->eye_size;
    up *= 1 + 0.45 * a[FACS_FACE_EYES_WIDE] - 0.15 * u[FACS_FACE_AU4] - 0.2 * u[FACS_FACE_AU9];
    down *= 1 + 0.1 * a[FACS_FACE_EYES_WIDE];
    up *= 1 - 0.3 * u[FACS_FACE_AU6];
    down *= 1 - 0.75 * u[FACS_FACE_AU6] - 0.35 * u[FACS_FACE_AU9];
    const double closed = a[FACS_FACE_EYES_CLOSED] > 0 ? 1 : 0;
    up *= 1 - 1.35 * closed;
    down *= 1 - 0.55 * closed;
    const double slant = 0.012 * side;
    return (facs_lens){c.x - half,
                       c.x + half,
                       {c.y + slant, c.y - up, c.y - slant},
                       {c.y + slant, c.y + down, c.y - slant}};
}

static void draw_ball(const facs_canvas *canvas, const facs_face *f, const facs_lens *lens,
                      facs_point c)
{
    const facs_colour white = facs_colour_scale((facs_colour){0.95f, 0.93f, 0.91f}, f->light);
    const facs_colour black = {0.03f, 0.03f, 0.03f};
    const double gaze =
        0.06 * (f->attribute[FACS_FACE_GAZE_RIGHT] - f->attribute[FACS_FACE_GAZE_LEFT]) +
        0.02 * f->yaw;
    const facs_point iris = {c.x + gaze, c.y - 0.006};
    facs_canvas clipped = *canvas;

    facs_paint_lens(canvas, lens, white, 1);
    clipped.clip = lens;
    facs_paint_ellipse(&clipped, iris, 0.072, 0.072, 0, 0.006, facs_colour_scale(f->iris, 0.55),
                       1);
    facs_paint_ellipse(&clipped, iris, 0.056, 0.056, 0, 0.02, facs_colour_scale(f->iris, 1.2),
                       1);
    facs_paint_ellipse(&clipped, iris, 0.03, 0.03, 0, 0.008, black, 1);
    facs_shade_blob(&clipped, (facs_point){c.x, lens->top.middle}, 0.2, 0.035, 0, -0.45);
    facs_paint_ellipse(&clipped, (facs_point){iris.x + 0.02 * f->light_x, iris.y - 0.025},
                       0.012, 0.012, 0, 0.006, (facs_colour){1, 1, 1}, 0.9);
}

static void draw_lids(const facs_canvas *canvas, const facs_face *f, const facs_lens *lens,
                      facs_point c, int side)
{
    const double *u = f->unit;
    const facs_colour dark = shadow_of(f, 0.85), soft = shadow_of(f, 0.25);
    const double top = 2 * lens->top.middle - (lens->top.left + lens->top.right) / 2;
    const double bottom =
        2 * lens->bottom.middle - (lens->bottom.left + lens->bottom.right) / 2;

    facs_paint_stroke(canvas, (facs_point){lens->left, lens->top.left}, (facs_point){c.x, top},
                      (facs_point){lens->right, lens->top.right}, 0.014, 0.028, 0.014, 0.008,
                      dark, 0.95);
    facs_paint_stroke(canvas, (facs_point){lens->left, lens->bottom.left},
                      (facs_point){c.x, bottom}, (facs_point){lens->right, lens->bottom.right},
                      0.008, 0.012, 0.008, 0.008, dark, 0.55);
    /* the fold of the upper lid */
    facs_paint_stroke(canvas, (facs_point){lens->left + 0.01, c.y - 0.045},
                      (facs_point){c.x, c.y - 0.16 * f->eye_size},
                      (facs_point){lens->right - 0.01, c.y - 0.045}, 0.004, 0.012, 0.004, 0.012,
                      soft, 0.55);
    /* AU6: the cheek pushes a bag and creases under the eye, crow's feet beside it */
    const double raise = u[FACS_FACE_AU6], old = 0.25 * f->age;
    facs_paint_stroke(canvas, (facs_point){c.x - 0.16, c.y + 0.07},
                      (facs_point){c.x, c.y + 0.125 - 0.03 * raise},
                      (facs_point){c.x + 0.16, c.y + 0.07}, 0.006, 0.014 + 0.008 * raise, 0.006,
                      0.016, soft, fmin(0.25 * old + 0.75 * raise, 0.9));
    const double outer = side < 0 ? lens->left : lens->right;
    for (int i = -1; i <= 1; i++) {
        const facs_point from = {outer + side * 0.045, c.y + 0.012 + 0.03 * i};
        const facs_point to = {from.x + side * (0.11 + 0.02 * (i * i)),
                               c.y + 0.005 + 0.075 * i};
        const facs_point bend = {(from.x + to.x) / 2, (from.y + to.y) / 2 + 0.012};
        facs_paint_stroke(canvas, from, bend, to, 0.006, 0.014, 0.002, 0.008, shadow_of(f, 0.4),
                          fmin(0.15 * old + 0.9 * raise, 0.85));
    }
}

static void draw_glasses(const facs_canvas *canvas, const facs_face *f)
{
    const facs_colour frame = {0.10f, 0.09f, 0.10f};
    if (f->attribute[FACS_FACE_GLASSES] <= 0) return;
    for (int side = -1; side <= 1; side += 2) {
        const facs_point c = facs_face_point(f, side * f->eye_distance, -0.1, 0.75);
        const double w = 0.245, h = 0.17;
        facs_paint_ellipse(canvas, c, w, h, 0, 0.01, (facs_colour){0.9f, 0.95f, 1}, 0.06);
        facs_paint_ring(canvas, c, w, h, 0.022, frame, 0.95);
        facs_paint_stroke(canvas, (facs_point){c.x + side * w, c.y - 0.02},
                          (facs_point){side * f->width * 0.85, c.y - 0.05},
                          (facs_point){side * f->width, c.y - 0.06}, 0.022, 0.02, 0.018, 0.004,
                          frame, 0.95);
    }
    const facs_point l = facs_face_point(f, -f->eye_distance, -0.1, 0.75);
    const facs_point r = facs_face_point(f, f->eye_distance, -0.1, 0.75);
    facs_paint_stroke(canvas, (facs_point){l.x + 0.245, l.y - 0.02},
                      (facs_point){(l.x + r.x) / 2, l.y - 0.08},
                      (facs_point){r.x - 0.245, r.y - 0.02}, 0.024, 0.02, 0.024, 0.004, frame,
                      0.95);
}

void facs_draw_eyes(const facs_canvas *canvas, const facs_face *f)
{
    for (int side = -1; side <= 1; side += 2) {
        const facs_point c = facs_face_point(f, side * f->eye_distance, -0.12, 0.6);
        const facs_lens lens = opening(f, c, side);
        facs_shade_blob(canvas, (facs_point){c.x, c.y - 0.02}, 0.2, 0.13, 0, -0.1);
        if (f->attribute[FACS_FACE_EYES_CLOSED] <= 0) draw_ball(canvas, f, &lens, c);
        draw_lids(canvas, f, &lens, c, side);
    }
    draw_glasses(canvas, f);
}

/* Horizontal forehead lines: the middle for AU1, the sides for AU2. */
static void draw_forehead(const facs_canvas *canvas, const facs_face *f)
{
    const double *u = f->unit, inner = u[FACS_FACE_AU1], outer = u[FACS_FACE_AU2];
    const facs_colour line = shadow_of(f, 0.3);
    for (int i = 0; i < 3; i++) {
        const double y = -0.53 - 0.055 * i;
        facs_paint_stroke(canvas, facs_face_point(f, -0.17, y + 0.01, 0.7),
                          facs_face_point(f, 0, y - 0.03, 0.7),
                          facs_face_point(f, 0.17, y + 0.01, 0.7), 0.004, 0.016, 0.004, 0.012,
                          line, fmin(0.9 * inner + 0.12 * f->age, 0.85));
        for (int side = -1; side <= 1; side += 2)
            facs_paint_stroke(canvas, facs_face_point(f, side * 0.2, y, 0.6),
                              facs_face_point(f, side * 0.34, y - 0.05, 0.55),
                              facs_face_point(f, side * 0.47, y + 0.04, 0.45), 0.004, 0.016,
                              0.004, 0.012, line, fmin(0.9 * outer + 0.08 * f->age, 0.85));
    }
}

/* AU4: furrows between the brows, and a knot of shade. */
static void draw_glabella(const facs_canvas *canvas, const facs_face *f)
{
    const double lower = f->unit[FACS_FACE_AU4];
    const facs_colour line = shadow_of(f, 0.45);
    for (int side = -1; side <= 1; side += 2)
        facs_paint_stroke(canvas, facs_face_point(f, side * 0.055, -0.42, 0.8),
                          facs_face_point(f, side * 0.035, -0.33, 0.85),
                          facs_face_point(f, side * 0.05, -0.24, 0.85), 0.006, 0.022, 0.006,
                          0.012, line, fmin(0.95 * lower + 0.1 * f->age, 0.9));
    facs_shade_blob(canvas, facs_face_point(f, 0, -0.3, 0.85), 0.13, 0.09, 0, -0.22 * lower);
}

void facs_draw_brows(const facs_canvas *canvas, const facs_face *f)
{
    const double *u = f->unit;
    const int dark = f->attribute[FACS_FACE_DARK_BROWS] > 0;
    const facs_colour hair =
        facs_colour_mix(facs_colour_scale(f->hair, 0.8 * f->light),
                        (facs_colour){0.06f, 0.04f, 0.03f}, dark ? 0.75 : 0.2);
    const double width = f->brow_width * (dark ? 1.2 : 0.9);

    draw_forehead(canvas, f);
    draw_glabella(canvas, f);
    for (int side = -1; side <= 1; side += 2) {
        const double single = side > 0 ? f->attribute[FACS_FACE_BROW_SINGLE] : 0;
        const double base = -0.12 - f->brow_height;
        const double lower = 0.085 * u[FACS_FACE_AU4] + 0.05 * u[FACS_FACE_AU9];
        const double inner = base - 0.15 * u[FACS_FACE_AU1] + 1.15 * lower - 0.05 * single;
        const double outer =
            base + 0.035 - 0.11 * u[FACS_FACE_AU2] + 0.25 * lower - 0.11 * single;
        const double peak = base - f->brow_arch - 0.05 * u[FACS_FACE_AU1] -
                            0.115 * u[FACS_FACE_AU2] + 0.75 * lower - 0.12 * single;
        const double close = 0.035 * u[FACS_FACE_AU4] + 0.015 * u[FACS_FACE_AU9];
        facs_paint_stroke(
            canvas, facs_face_point(f, side * (f->eye_distance - 0.2 - close), inner, 0.8),
            facs_face_point(f, side * (f->eye_distance + 0.04), 2 * peak - (inner + outer) / 2,
                            0.65),
            facs_face_point(f, side * (f->eye_distance + 0.21), outer, 0.45), width * 1.1,
            width, width * 0.35, 0.022, hair, 0.92);
    }
}
