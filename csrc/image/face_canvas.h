#ifndef FACS_IMAGE_FACE_CANVAS_H
#define FACS_IMAGE_FACE_CANVAS_H

#include <stdint.h>

/* A small painter for drawn faces: antialiased shapes in a face's own coordinates, x to the
 * right, y down, the face about 1.2 wide and 2 high around (0, 0). Shapes are blended over
 * what is there, in linear numbers 0 .. 1. */

enum { FACS_FACE_SIZE = 224 };

typedef struct facs_colour {
    float r, g, b;
} facs_colour;

typedef struct facs_point {
    double x, y;
} facs_point;

/* A height over x in [left, right], through three points at the left, middle and right. */
typedef struct facs_arc {
    double left, middle, right;
} facs_arc;

/* What lies between two arcs. */
typedef struct facs_lens {
    double left, right;
    facs_arc top, bottom;
} facs_lens;

typedef struct facs_canvas {
    float *pixels; /* (FACS_FACE_SIZE, FACS_FACE_SIZE, 3), borrowed */
    double x, y;   /* pixel of the origin */
    double scale;  /* pixels to a unit */
    double cosine, sine;
    const facs_lens *clip; /* paint only inside it; NULL: everywhere */
} facs_canvas;

facs_colour facs_colour_mix(facs_colour a, facs_colour b, double share_of_b);
facs_colour facs_colour_scale(facs_colour colour, double factor);

/* Pixel centre to face coordinates. */
facs_point facs_canvas_at(const facs_canvas *canvas, int column, int row);

/* How much of a pixel lies within `distance` <= 0 of an edge that is `soft` wide. */
double facs_canvas_coverage(const facs_canvas *canvas, double distance, double soft);

void facs_canvas_blend(const facs_canvas *canvas, int column, int row, facs_colour colour,
                       double alpha);

/* Columns and rows that a circle in face coordinates may touch. */
typedef struct facs_pixel_box {
    int left, top, right, bottom; /* right and bottom excluded */
} facs_pixel_box;
facs_pixel_box facs_canvas_box(const facs_canvas *canvas, facs_point centre, double radius);

double facs_arc_at(const facs_arc *arc, double left, double right, double x);
double facs_lens_coverage(const facs_canvas *canvas, const facs_lens *lens, facs_point p);

void facs_paint_lens(const facs_canvas *canvas, const facs_lens *lens, facs_colour colour,
                     double alpha);
void facs_paint_ellipse(const facs_canvas *canvas, facs_point centre, double rx, double ry,
                        double angle, double soft, facs_colour colour, double alpha);
/* The outline of an ellipse, `width` wide. */
void facs_paint_ring(const facs_canvas *canvas, facs_point centre, double rx, double ry,
                     double width, facs_colour colour, double alpha);
/* A quadratic Bezier of width w0 at p0, w1 in the middle, w2 at p2. */
void facs_paint_stroke(const facs_canvas *canvas, facs_point p0, facs_point p1, facs_point p2,
                       double w0, double w1, double w2, double soft, facs_colour colour,
                       double alpha);
/* Multiplies by 1 + amount at the centre, fading out as a Gaussian of these radii. */
void facs_shade_blob(const facs_canvas *canvas, facs_point centre, double rx, double ry,
                     double angle, double amount);

#endif
