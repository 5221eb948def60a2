#include "image/face_canvas.h"

#include <math.h>

facs_colour facs_colour_mix(facs_colour a, facs_colour b, double share)
{
    const float t = (float)share;
    return (facs_colour){a.r + t * (b.r - a.r), a.g + t * (b.g - a.g), a.b + t * (b.b - a.b)};
}

facs_colour facs_colour_scale(facs_colour colour, double factor)
{
    const float f = (float)factor;
    return (facs_colour){colour.r * f, colour.g * f, colour.b * f};
}

facs_point facs_canvas_at(const facs_canvas *canvas, int column, int row)
{
    const double dx = (column + 0.5 - canvas->x) / canvas->scale;
    const double dy = (row + 0.5 - canvas->y) / canvas->scale;
    return (facs_point){canvas->cosine * dx + canvas->sine * dy,
                        -canvas->sine * dx + canvas->cosine * dy};
}

double facs_canvas_coverage(const facs_canvas *canvas, double distance, double soft)
{
    const double width = soft + 1 / canvas->scale;
    const double t = 0.5 - distance / width;
    return t <= 0 ? 0 : t >= 1 ? 1 : t * t * (3 - 2 * t);
}

void facs_canvas_blend(const facs_canvas *canvas, int column, int row, facs_colour colour,
                       double alpha)
{
    float *pixel = canvas->pixels + 3 * (row * FACS_FACE_SIZE + column);
    const float a = (float)alpha;
    pixel[0] += a * (colour.r - pixel[0]);
    pixel[1] += a * (colour.g - pixel[1]);
    pixel[2] += a * (colour.b - pixel[2]);
}

static int clamped(double x)
{
    return x < 0 ? 0 : x > FACS_FACE_SIZE ? FACS_FACE_SIZE : (int)x;
}

facs_pixel_box facs_canvas_box(const facs_canvas *canvas, facs_point centre, double radius)
{
    const double x =
        canvas->x + canvas->scale * (canvas->cosine * centre.x - canvas->sine * centre.y);
    const double y =
        canvas->y + canvas->scale * (canvas->sine * centre.x + canvas->cosine * centre.y);
    const double reach = radius * canvas->scale + 2;
    return (facs_pixel_box){clamped(x - reach), clamped(y - reach), clamped(x + reach + 1),
                            clamped(y + reach + 1)};
}

double facs_arc_at(const facs_arc *arc, double left, double right, double x)
{
    const double t = (x - left) / (right - left);
    return arc->left * (1 - t) * (1 - 2 * t) + 4 * arc->middle * t * (1 - t) +
           arc->right * t * (2 * t - 1);
}

double facs_lens_coverage(const facs_canvas *canvas, const facs_lens *lens, facs_point p)
{
    const double margin = 1 / canvas->scale;
    if (p.x < lens->left - margin || p.x > lens->right + margin) return 0;
    const double x = p.x < lens->left ? lens->left : p.x > lens->right ? lens->right : p.x;
    const double top = facs_arc_at(&lens->top, lens->left, lens->right, x);
    const double bottom = facs_arc_at(&lens->bottom, lens->left, lens->right, x);
    return facs_canvas_coverage(canvas, top - p.y, 0) *
           facs_canvas_coverage(canvas, p.y - bottom, 0);
}

static double clip_of(const facs_canvas *canvas, facs_point p)
{
    return canvas->clip ? facs_lens_coverage(canvas, canvas->clip, p) : 1;
}

#define FOR_PIXELS(box, column, row)                                                           \
    for (int row = (box).top; row < (box).bottom; row++)                                       \
        for (int column = (box).left; column < (box).right; column++)

static double largest(double a, double b)
{
    return a > b ? a : b;
}

void facs_paint_lens(const facs_canvas *canvas, const facs_lens *lens, facs_colour colour,
                     double alpha)
{
    const double middle = (lens->left + lens->right) / 2;
    const double height = largest(fabs(lens->bottom.middle - lens->top.middle),
                                  fabs(lens->top.left - lens->top.right));
    const facs_point centre = {middle, (lens->top.middle + lens->bottom.middle) / 2};
    const double radius =
        (lens->right - lens->left) / 2 + height + fabs(lens->top.left - lens->top.middle);
    const facs_pixel_box box = facs_canvas_box(canvas, centre, radius);

    FOR_PIXELS(box, column, row)
    {
        const facs_point p = facs_canvas_at(canvas, column, row);
        const double cover = facs_lens_coverage(canvas, lens, p);
        if (cover > 0)
            facs_canvas_blend(canvas, column, row, colour, alpha * cover * clip_of(canvas, p));
    }
}

void facs_paint_ellipse(const facs_canvas *canvas, facs_point centre, double rx, double ry,
                        double angle, double soft, facs_colour colour, double alpha)
{
    const facs_pixel_box box = facs_canvas_box(canvas, centre, largest(rx, ry) + soft);
    const double c = cos(angle), s = sin(angle), thin = rx < ry ? rx : ry;

    FOR_PIXELS(box, column, row)
    {
        const facs_point p = facs_canvas_at(canvas, column, row);
        const double dx = p.x - centre.x, dy = p.y - centre.y;
        const double u = (c * dx + s * dy) / rx, v = (-s * dx + c * dy) / ry;
        const double cover =
            facs_canvas_coverage(canvas, (sqrt(u * u + v * v) - 1) * thin, soft);
        if (cover > 0)
            facs_canvas_blend(canvas, column, row, colour, alpha * cover * clip_of(canvas, p));
    }
}

void facs_paint_ring(const facs_canvas *canvas, facs_point centre, double rx, double ry,
                     double width, facs_colour colour, double alpha)
{
    const facs_pixel_box box = facs_canvas_box(canvas, centre, largest(rx, ry) + width);
    const double thin = rx < ry ? rx : ry;

    FOR_PIXELS(box, column, row)
    {
        const facs_point p = facs_canvas_at(canvas, column, row);
        const double u = (p.x - centre.x) / rx, v = (p.y - centre.y) / ry;
        const double edge = fabs(sqrt(u * u + v * v) - 1) * thin;
        const double cover = facs_canvas_coverage(canvas, edge - width / 2, 0);
        if (cover > 0) facs_canvas_blend(canvas, column, row, colour, alpha * cover);
    }
}

void facs_shade_blob(const facs_canvas *canvas, facs_point centre, double rx, double ry,
                     double angle, double amount)
{
    const facs_pixel_box box = facs_canvas_box(canvas, centre, 2.2 * largest(rx, ry));
    const double c = cos(angle), s = sin(angle);

    FOR_PIXELS(box, column, row)
    {
        const facs_point p = facs_canvas_at(canvas, column, row);
        const double dx = p.x - centre.x, dy = p.y - centre.y;
        const double u = (c * dx + s * dy) / rx, v = (-s * dx + c * dy) / ry;
        const double q = u * u + v * v;
        if (q > 4.5) continue;
        const float factor = (float)(1 + amount * exp(-q) * clip_of(canvas, p));
        float *pixel = canvas->pixels + 3 * (row * FACS_FACE_SIZE + column);
        for (int k = 0; k < 3; k++) pixel[k] *= factor;
    }
}

enum { SEGMENTS = 10 };

typedef struct stroke {
    facs_point point[SEGMENTS + 1];
    double width[SEGMENTS + 1];
} stroke;

static stroke divide(facs_point p0, facs_point p1, facs_point p2, double w0, double w1,
                     double w2)
{
    const facs_arc width = {w0, w1, w2};
    stroke s;
    for (int i = 0; i <= SEGMENTS; i++) {
        const double t = (double)i / SEGMENTS, u = 1 - t;
        s.point[i].x = u * u * p0.x + 2 * u * t * p1.x + t * t * p2.x;
        s.point[i].y = u * u * p0.y + 2 * u * t * p1.y + t * t * p2.y;
        s.width[i] = largest(facs_arc_at(&width, 0, 1, t), 0);
    }
    return s;
}

/* Distance from p to the edge of the stroke, negative inside. */
static double stroke_distance(const stroke *s, facs_point p)
{
    double nearest = INFINITY;
    for (int i = 0; i < SEGMENTS; i++) {
        const facs_point a = s->point[i], b = s->point[i + 1];
        const double ex = b.x - a.x, ey = b.y - a.y, length = ex * ex + ey * ey + 1e-12;
        double t = ((p.x - a.x) * ex + (p.y - a.y) * ey) / length;
        t = t < 0 ? 0 : t > 1 ? 1 : t;
        const double dx = p.x - a.x - t * ex, dy = p.y - a.y - t * ey;
        const double half = (s->width[i] + t * (s->width[i + 1] - s->width[i])) / 2;
        const double distance = sqrt(dx * dx + dy * dy) - half;
        nearest = distance < nearest ? distance : nearest;
    }
    return nearest;
}

void facs_paint_stroke(const facs_canvas *canvas, facs_point p0, facs_point p1, facs_point p2,
                       double w0, double w1, double w2, double soft, facs_colour colour,
                       double alpha)
{
    const stroke s = divide(p0, p1, p2, w0, w1, w2);
    const facs_point centre = s.point[SEGMENTS / 2];
    const double reach = largest(hypot(p0.x - centre.x, p0.y - centre.y),
                                 hypot(p2.x - centre.x, p2.y - centre.y)) +
                         largest(w1, largest(w0, w2)) + soft;
    const facs_pixel_box box = facs_canvas_box(canvas, centre, reach);

    FOR_PIXELS(box, column, row)
    {
        const facs_point p = facs_canvas_at(canvas, column, row);
        const double cover = facs_canvas_coverage(canvas, stroke_distance(&s, p), soft);
        if (cover > 0)
            facs_canvas_blend(canvas, column, row, colour, alpha * cover * clip_of(canvas, p));
    }
}
