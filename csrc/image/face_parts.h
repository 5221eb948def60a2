#ifndef FACS_IMAGE_FACE_PARTS_H
#define FACS_IMAGE_FACE_PARTS_H

#include "image/synthetic_face.h"

/* The parts of a drawn face, from the back to the front; shared by the files that draw. */

/* A point of the face, turned by yaw and pitch; depth is how far it stands out. */
facs_point facs_face_point(const facs_face *face, double x, double y, double depth);

/* How far the jaw has dropped, in units. */
double facs_face_jaw_drop(const facs_face *face);

void facs_draw_background(const facs_canvas *canvas, const facs_face *face);
void facs_draw_head(const facs_canvas *canvas, const facs_face *face);
void facs_draw_hair_front(const facs_canvas *canvas, const facs_face *face);
void facs_draw_eyes(const facs_canvas *canvas, const facs_face *face);
void facs_draw_brows(const facs_canvas *canvas, const facs_face *face);
void facs_draw_nose(const facs_canvas *canvas, const facs_face *face);
void facs_draw_cheeks(const facs_canvas *canvas, const facs_face *face);
void facs_draw_mouth(const facs_canvas *canvas, const facs_face *face);

#endif
