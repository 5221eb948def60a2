#include "image/face_parts.h"

#include <math.h>

/* Nose, cheeks, mouth and jaw: AU6, AU9, AU12, AU25, AU26. */

static facs_colour crease_of(const facs_face *f, double darkness)
{
    const facs_colour warm = {0.22f, 0.10f, 0.07f};
    return facs_colour_mix(facs_colour_scale(f->skin, 0.62 * f->light), warm, darkness);
}

void facs_draw_nose(const facs_canvas *canvas, const facs_face *f)
{
    const double wrinkle = f->unit[FACS_FACE_AU9];
    const double tip = -0.08 + f->nose_length - 0.035 * wrinkle, w = f->nose_width;
    const facs_colour dark = crease_of(f, 0.6), line = crease_of(f, 0.35);
    const double lit = f->light_x > 0 ? 1 : -1;

    facs_shade_blob(canvas, facs_face_point(f, -lit * 0.075, 0.02, 0.9), 0.05, 0.2, 0, -0.17);
    facs_shade_blob(canvas, facs_face_point(f, lit * 0.02, 0.05, 1.0), 0.035, 0.22, 0, 0.12);
    facs_shade_blob(canvas, facs_face_point(f, 0, tip - 0.02, 1.35), 0.08, 0.07, 0, 0.12);
    facs_shade_blob(canvas, facs_face_point(f, 0, tip + 0.075, 1.1), 0.15, 0.04, 0, -0.22);
    for (int side = -1; side <= 1; side += 2) {
        const double wing = w + 0.02 * wrinkle, lift = 0.03 * wrinkle;
        facs_paint_ellipse(canvas, facs_face_point(f, side * w * 0.5, tip + 0.035, 1.2), 0.042,
                           0.02, -side * 0.25, 0.02, dark, 0.85);
        facs_paint_stroke(canvas,
                          facs_face_point(f, side * wing * 0.92, tip - 0.08 - lift, 0.95),
                          facs_face_point(f, side * wing * 1.25, tip - 0.01 - lift, 0.95),
                          facs_face_point(f, side * wing * 0.85, tip + 0.035, 1.0), 0.006,
                          0.016, 0.006, 0.012, line, 0.7 + 0.2 * wrinkle);
        /* AU9: lines across the bridge and down its sides */
        for (int i = 0; i < 3; i++) {
            const double y = -0.2 + 0.055 * i;
            facs_paint_stroke(canvas, facs_face_point(f, side * 0.012, y, 1.0),
                              facs_face_point(f, side * 0.06, y - 0.022, 0.95),
                              facs_face_point(f, side * (0.105 + 0.012 * i), y + 0.03, 0.85),
                              0.014, 0.016, 0.004, 0.008, line, 0.95 * wrinkle);
        }
        facs_paint_stroke(canvas, facs_face_point(f, side * 0.15, -0.02, 0.75),
                          facs_face_point(f, side * 0.19, 0.06, 0.75),
                          facs_face_point(f, side * 0.2, 0.15, 0.75), 0.004, 0.02, 0.004, 0.014,
                          line, 0.75 * wrinkle);
    }
}

void facs_draw_cheeks(const facs_canvas *canvas, const facs_face *f)
{
    const double *u = f->unit, raise = u[FACS_FACE_AU6], smile = u[FACS_FACE_AU12];
    const double nose = u[FACS_FACE_AU9], old = 0.22 * f->age;
    const facs_colour fold = crease_of(f, 0.3), blush = {0.80f, 0.38f, 0.34f};
    const double corner = f->mouth_width + 0.09 * smile;

    for (int side = -1; side <= 1; side += 2) {
        const double y = 0.2 - 0.05 * raise - 0.03 * smile;
        const facs_point ball = facs_face_point(f, side * 0.42, y, 0.6);
        facs_shade_blob(canvas, ball, 0.16, 0.11, side * 0.35,
                        0.06 + 0.13 * raise + 0.05 * smile);
        facs_shade_blob(canvas, (facs_point){ball.x, ball.y + 0.17}, 0.17, 0.07, side * 0.35,
                        -0.12 * raise - 0.05 * smile);
        facs_paint_ellipse(canvas, ball, 0.13, 0.09, side * 0.3, 0.18, blush,
                           0.1 + 0.12 * raise);
        /* nasolabial fold: from the wing of the nose around the corner of the mouth */
        facs_paint_stroke(
            canvas, facs_face_point(f, side * (f->nose_width + 0.05), 0.2 - 0.03 * nose, 0.9),
            facs_face_point(f, side * (corner + 0.07 + 0.05 * smile), 0.31, 0.75),
            facs_face_point(f, side * (corner + 0.075), f->mouth_height - 0.03 - 0.02 * smile,
                            0.6),
            0.01, 0.022, 0.004, 0.018, fold,
            fmin(old + 0.8 * smile + 0.55 * nose + 0.12 * raise, 0.85));
    }
}

/* The mouth's key points, before the head is turned. */
typedef struct mouth {
    double x, half, corner; /* middle, half width, height of the corners */
    double line, gap;       /* height of the lip line, opening */
    double upper, lower;    /* thickness of the lips */
    double depth;
} mouth;

static mouth shape_of(const facs_face *f)
{
    const double *u = f->unit, *a = f->attribute;
    const double smile = u[FACS_FACE_AU12], down = a[FACS_FACE_LIP_CORNERS_DOWN];
    const double pucker = a[FACS_FACE_LIPS_PUCKERED];
    mouth m = {.depth = 0.85};
    m.x = -0.07 * a[FACS_FACE_MOUTH_LEFT];
    m.half =
        f->mouth_width * (1 - 0.38 * pucker) * (1 - 0.1 * u[FACS_FACE_AU26]) + 0.085 * smile;
    m.line = f->mouth_height - 0.02 * u[FACS_FACE_AU9];
    m.corner = m.line - 0.115 * smile + 0.085 * down;
    m.gap = 0.085 * u[FACS_FACE_AU25] +
            1.25 * facs_face_jaw_drop(f) * (u[FACS_FACE_AU25] > 0.2 ? 1 : 0.12);
    const double thin =
        (1 - 0.25 * smile) * (1 - 0.2 * u[FACS_FACE_AU26]) * (1 + 0.35 * pucker);
    m.upper = 0.05 * f->lip_fullness * thin + 0.012 * u[FACS_FACE_AU9];
    m.lower = 0.07 * f->lip_fullness * thin;
    return m;
}

static facs_lens between(const facs_face *f, const mouth *m, double top, double bottom)
{
    const facs_point l = facs_face_point(f, m->x - m->half, m->corner, m->depth);
    const facs_point r = facs_face_point(f, m->x + m->half, m->corner, m->depth);
    const double pitch = l.y - m->corner;
    return (facs_lens){l.x, r.x, {l.y, top + pitch, r.y}, {l.y, bottom + pitch, r.y}};
}

static void draw_inside(const facs_canvas *canvas, const facs_face *f, const mouth *m)
{
    const facs_lens hole = between(f, m, m->line - 0.22 * m->gap, m->line + 0.78 * m->gap);
    const facs_colour dark = {0.18f, 0.05f, 0.05f};
    const facs_colour teeth = facs_colour_scale((facs_colour){0.93f, 0.91f, 0.86f}, f->light);
    const facs_colour tongue = {0.66f, 0.30f, 0.29f};
    facs_canvas inside = *canvas;

    facs_paint_lens(canvas, &hole, dark, 1);
    inside.clip = &hole;
    facs_lens row = hole;
    row.bottom.middle = hole.top.middle + fmin(0.075, 0.75 * m->gap);
    row.bottom.left = row.bottom.right = hole.top.left + 0.02;
    facs_paint_lens(&inside, &row, teeth, 0.95);
    if (m->gap > 0.12)
        facs_paint_ellipse(&inside,
                           (facs_point){(hole.left + hole.right) / 2, hole.bottom.middle},
                           0.6 * m->half, 0.25 * m->gap, 0, 0.03, tongue, 0.9);
}

static void draw_lips(const facs_canvas *canvas, const facs_face *f, const mouth *m)
{
    const double top = m->line - 0.22 * m->gap, bottom = m->line + 0.78 * m->gap;
    const facs_colour lips = facs_colour_scale(f->lips, f->light);
    const facs_lens upper = between(f, m, top - m->upper, top);
    const facs_lens lower = between(f, m, bottom, bottom + m->lower);
    const double middle = (upper.left + upper.right) / 2;

    facs_paint_lens(canvas, &upper, facs_colour_scale(lips, 0.86), 0.95);
    facs_paint_lens(canvas, &lower, lips, 0.95);
    facs_shade_blob(canvas, (facs_point){middle, lower.bottom.middle - 0.6 * m->lower},
                    0.5 * m->half, 0.02, 0, 0.16);
    facs_shade_blob(canvas, (facs_point){middle, lower.bottom.middle + 0.045}, 0.7 * m->half,
                    0.035, 0, -0.18);
    if (m->gap < 0.02) { /* a line where the lips meet */
        const double bend = 2 * upper.bottom.middle - (upper.top.left + upper.top.right) / 2;
        facs_paint_stroke(canvas, (facs_point){upper.left, upper.top.left},
                          (facs_point){middle, bend},
                          (facs_point){upper.right, upper.top.right}, 0.012, 0.014, 0.012,
                          0.008, crease_of(f, 0.75), 0.9);
    }
    for (int side = -1; side <= 1; side += 2) { /* the corners */
        const facs_point c = {side < 0 ? upper.left : upper.right, upper.top.left};
        facs_paint_ellipse(canvas, c, 0.018 + 0.01 * f->unit[FACS_FACE_AU12], 0.014, 0, 0.03,
                           crease_of(f, 0.5), 0.7);
    }
    facs_shade_blob(canvas, (facs_point){middle, upper.top.middle - 0.06}, 0.035, 0.045, 0,
                    -0.08);
}

void facs_draw_mouth(const facs_canvas *canvas, const facs_face *f)
{
    const mouth m = shape_of(f);
    draw_inside(canvas, f, &m);
    draw_lips(canvas, f, &m);
    facs_shade_blob(canvas, facs_face_point(f, 0, 0.75 + 0.75 * facs_face_jaw_drop(f), 0.9),
                    0.15, 0.03, 0, -0.1);
}
