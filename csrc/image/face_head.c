#include "image/face_parts.h"

#include <math.h>

/* What is behind and around the features: background, shoulders, hair, head and its light. */

facs_point facs_face_point(const facs_face *f, double x, double y, double depth)
{
    const double far = x * f->yaw < 0 ? 0 : fabs(f->yaw) * 0.16;
    return (facs_point){x * (1 - far) + 0.24 * f->yaw * depth, y + 0.2 * f->pitch * depth};
}

double facs_face_jaw_drop(const facs_face *f)
{
    return 0.17 * f->unit[FACS_FACE_AU26];
}

static double chin_of(const facs_face *f)
{
    return 0.98 + 0.75 * facs_face_jaw_drop(f);
}

/* Half the width of the head at height y. */
static double half_width(const facs_face *f, double y)
{
    const double end = y < 0 ? 1.0 : chin_of(f);
    const double t = fabs(y) / end;
    if (t >= 1) return 0;
    const double round = sqrt(1 - t * t);
    const double puffed =
        0.05 * f->attribute[FACS_FACE_CHEEKS_PUFFED] * exp(-(y - 0.42) * (y - 0.42) / 0.05);
    if (y < 0) return f->width * pow(1 - pow(t, 2.3), 0.5);
    return f->width * (f->jaw * pow(1 - pow(t, 3.2), 0.5) + (1 - f->jaw) * round) + puffed;
}

/* half_width at ROWS heights, since it is asked at every pixel. */
enum { ROWS = 512 };
typedef struct outline {
    double half[ROWS];
} outline;

static const double outline_top = -1.1, outline_height = 2.4;

static outline outline_of(const facs_face *f)
{
    outline o;
    for (int i = 0; i < ROWS; i++)
        o.half[i] = half_width(f, outline_top + outline_height * i / (ROWS - 1));
    return o;
}

static double outline_at(const outline *o, double y)
{
    const double row = (y - outline_top) / outline_height * (ROWS - 1);
    if (row < 0 || row >= ROWS - 1) return 0;
    const int low = (int)row;
    return o->half[low] + (row - low) * (o->half[low + 1] - o->half[low]);
}

static facs_colour lit(const facs_face *f, facs_colour colour, double amount)
{
    const double factor = f->light * (1 + f->contrast * amount);
    return facs_colour_scale(colour, factor);
}

void facs_draw_background(const facs_canvas *canvas, const facs_face *f)
{
    const facs_colour shade = facs_colour_scale(f->shirt, 0.8);
    for (int row = 0; row < FACS_FACE_SIZE; row++)
        for (int column = 0; column < FACS_FACE_SIZE; column++) {
            const double t = (row + 0.35 * column) / (1.35 * FACS_FACE_SIZE);
            facs_canvas_blend(canvas, column, row,
                              facs_colour_mix(f->background[0], f->background[1], t), 1);
        }
    const facs_colour hair = facs_colour_scale(f->hair, 0.75 * f->light);
    const double volume = f->hair_volume;
    if (f->hair_kind == 1) /* long hair falls behind the shoulders */
        facs_paint_ellipse(canvas, (facs_point){0, 0.35}, f->width * 1.22 * volume, 1.25, 0,
                           0.03, hair, 1);
    facs_paint_ellipse(canvas, (facs_point){0, 1.75}, 1.15, 0.62, 0, 0.02,
                       facs_colour_scale(f->shirt, f->light), 1);
    const facs_lens neck = {-0.36, 0.36, {0.6, 0.6, 0.6}, {1.3, 1.42, 1.3}};
    facs_paint_lens(canvas, &neck, lit(f, f->skin, -0.9), 1);
    facs_paint_stroke(canvas, (facs_point){-0.38, 1.24}, (facs_point){0, 1.6},
                      (facs_point){0.38, 1.24}, 0.04, 0.05, 0.04, 0.01, shade, 1);
    if (f->hair_kind != 2)
        facs_paint_ellipse(canvas, (facs_point){0, -0.2}, f->width * 1.08 * volume,
                           0.9 * volume, 0, 0.04, hair, 1);
}

/* Lambert's law on an ellipsoid, softened by light from all sides. */
static double light_at(const facs_face *f, double x, double y, double half)
{
    const double u = half > 0.05 ? x / half : 0, v = y / 1.05;
    const double depth2 = 1 - 0.85 * u * u - 0.6 * v * v;
    const double depth = depth2 > 0 ? sqrt(depth2) : 0;
    return u * f->light_x * 0.8 + v * f->light_y * 0.8 + 1.25 * depth - 1;
}

static void draw_ears(const facs_canvas *canvas, const facs_face *f)
{
    for (int side = -1; side <= 1; side += 2) {
        const double hidden = side * f->yaw > 0 ? 0.05 : -0.02;
        const facs_point ear = {side * (f->width * 0.99 - hidden), 0.02};
        facs_paint_ellipse(canvas, ear, 0.1, 0.19, -side * 0.12, 0.02,
                           lit(f, f->skin, side * f->light_x - 0.35), 1);
        facs_paint_ellipse(canvas, (facs_point){ear.x + side * 0.015, ear.y}, 0.05, 0.11,
                           -side * 0.12, 0.05, lit(f, f->skin, -1.2), 0.6);
    }
}

static void draw_beard(const facs_canvas *canvas, const facs_face *f, const outline *o)
{
    const double drop = facs_face_jaw_drop(f), strength = f->attribute[FACS_FACE_BEARD];
    const facs_colour colour = facs_colour_scale(f->hair, 0.9 * f->light);
    if (strength <= 0) return;
    for (int row = 0; row < FACS_FACE_SIZE; row++)
        for (int column = 0; column < FACS_FACE_SIZE; column++) {
            const facs_point p = facs_canvas_at(canvas, column, row);
            const double half = outline_at(o, p.y);
            const double edge = 0.3 + 0.35 * (1 - fabs(p.x) / f->width);
            if (half <= 0 || p.y < edge - 0.1) continue;
            const double inside = facs_canvas_coverage(canvas, fabs(p.x) - half, 0.03);
            const double below = facs_canvas_coverage(canvas, edge - p.y + 0.05, 0.12);
            const double dx = p.x / (f->mouth_width * 1.15);
            const double dy = (p.y - f->mouth_height - 0.35 * drop) / (0.13 + 0.45 * drop);
            const double q = dx * dx + dy * dy, mouth = exp(-q * q);
            facs_canvas_blend(canvas, column, row, colour,
                              0.75 * strength * inside * below * (1 - mouth));
        }
}

void facs_draw_head(const facs_canvas *canvas, const facs_face *f)
{
    const outline o = outline_of(f);
    draw_ears(canvas, f);
    for (int row = 0; row < FACS_FACE_SIZE; row++)
        for (int column = 0; column < FACS_FACE_SIZE; column++) {
            const facs_point p = facs_canvas_at(canvas, column, row);
            const double half = outline_at(&o, p.y);
            const double cover = facs_canvas_coverage(canvas, fabs(p.x) - half, 0.01);
            if (half > 0 && cover > 0)
                facs_canvas_blend(canvas, column, row,
                                  lit(f, f->skin, light_at(f, p.x, p.y, half)), cover);
        }
    draw_beard(canvas, f, &o);
    /* the light falls off below the cheekbones and beside the forehead */
    for (int side = -1; side <= 1; side += 2) {
        const facs_point cheek = facs_face_point(f, side * 0.5, 0.42, 0.3);
        facs_shade_blob(canvas, cheek, 0.16, 0.26, side * 0.4, -0.05);
        facs_shade_blob(canvas, facs_face_point(f, side * 0.36, -0.1, 0.3), 0.22, 0.15, 0,
                        -0.07);
    }
    facs_shade_blob(canvas, facs_face_point(f, 0, 0.86 + 0.7 * facs_face_jaw_drop(f), 0.8),
                    0.16, 0.09, 0, 0.06);
}

void facs_draw_hair_front(const facs_canvas *canvas, const facs_face *f)
{
    const facs_colour colour = facs_colour_scale(f->hair, f->light);
    const double width = f->width * 1.03;
    if (f->hair_kind == 2) return;
    const double line = f->attribute[FACS_FACE_FRINGE] > 0 ? -0.5 : f->hair_line;
    const facs_lens above = {-width, width, {-2, -2, -2}, {-0.12, line, -0.12}};
    facs_canvas dome = *canvas;
    dome.clip = &above;
    facs_paint_ellipse(&dome, (facs_point){0, -0.2}, f->width * 1.08 * f->hair_volume,
                       0.9 * f->hair_volume, 0, 0.03, colour, 1);
    facs_shade_blob(canvas, (facs_point){0.3 * f->light_x, -0.85}, 0.35, 0.12, 0, 0.25);
    for (int side = -1; side <= 1; side += 2) /* temples */
        facs_paint_stroke(canvas, (facs_point){side * width * 0.93, -0.5},
                          (facs_point){side * width * 1.02, -0.25},
                          (facs_point){side * width * 1.0, f->hair_kind == 1 ? 0.75 : 0.0},
                          0.14, 0.12, f->hair_kind == 1 ? 0.16 : 0.02, 0.02, colour, 1);
}
