#ifndef FACS_IMAGE_SYNTHETIC_FACE_H
#define FACS_IMAGE_SYNTHETIC_FACE_H

#include "image/face_canvas.h"

/* Drawn faces with known action units: data for a demo, for tests and for pretraining a
 * small backbone. A subject's looks depend on (seed, subject), a face's expression, pose and
 * light on (seed, index) alone. */

typedef enum facs_face_unit {
    FACS_FACE_AU1,
    FACS_FACE_AU2,
    FACS_FACE_AU4,
    FACS_FACE_AU6,
    FACS_FACE_AU9,
    FACS_FACE_AU12,
    FACS_FACE_AU25,
    FACS_FACE_AU26,
    FACS_FACE_UNITS
} facs_face_unit;

/* What is not one of the eight action units but shows in the same places. */
typedef enum facs_face_attribute {
    FACS_FACE_EYES_CLOSED,
    FACS_FACE_EYES_WIDE,
    FACS_FACE_GAZE_LEFT,
    FACS_FACE_GAZE_RIGHT,
    FACS_FACE_LIP_CORNERS_DOWN,
    FACS_FACE_LIPS_PUCKERED,
    FACS_FACE_MOUTH_LEFT,
    FACS_FACE_BROW_SINGLE, /* one brow up */
    FACS_FACE_CHEEKS_PUFFED,
    FACS_FACE_HEAD_LEFT,
    FACS_FACE_HEAD_TILTED,
    FACS_FACE_LIGHT_LEFT,
    FACS_FACE_GLASSES,
    FACS_FACE_BEARD,
    FACS_FACE_DARK_BROWS,
    FACS_FACE_FRINGE,
    FACS_FACE_ATTRIBUTES
} facs_face_attribute;

typedef enum facs_face_task {
    FACS_FACE_TASK_UNITS,      /* action units at DISFA's rates, a fixed set of subjects */
    FACS_FACE_TASK_ATTRIBUTES, /* attributes at even rates, every face a subject of its own */
    FACS_FACE_TASK_COUNT
} facs_face_task;

const char *facs_face_unit_name(int unit);           /* "AU01" */
const char *facs_face_attribute_name(int attribute); /* "eyes_closed" */

/* Everything about one face. Intensities are 0 .. 1. */
typedef struct facs_face {
    double unit[FACS_FACE_UNITS], attribute[FACS_FACE_ATTRIBUTES];
    int subject;
    /* looks */
    double width, jaw, eye_distance, eye_size, brow_height, brow_width, brow_arch, nose_length;
    double nose_width, mouth_height, mouth_width, lip_fullness, age, hair_line, hair_volume;
    int hair_kind; /* 0 short, 1 long, 2 bald */
    facs_colour skin, hair, iris, lips, shirt;
    /* picture */
    double yaw, pitch, roll, scale, shift_x, shift_y, light_x, light_y, light, contrast, noise;
    facs_colour background[2];
    uint64_t noise_seed;
    uint32_t noise_item;
} facs_face;

/* Draws the parameters of face `index`. */
facs_face facs_face_sample(uint64_t seed, uint32_t index, int subjects, facs_face_task task);

/* Pixels (FACS_FACE_SIZE, FACS_FACE_SIZE, 3); work has room for as many floats. */
void facs_face_draw(uint8_t *pixels, const facs_face *face, float *work);

#endif
