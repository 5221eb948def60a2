#include "image/face_parts.h"

#include "core/rng.h"

#include <math.h>

/* Sensor noise and conversion to bytes. */
static void develop(uint8_t *pixels, const facs_face *f, const float *work)
{
    facs_rng rng = facs_rng_stream(f->noise_seed, FACS_RNG_SYNTHETIC, 64, f->noise_item);
    for (int i = 0; i < FACS_FACE_SIZE * FACS_FACE_SIZE; i++) {
        /* four uniform bytes add up to something near a Gaussian */
        const uint32_t bits = facs_rng_bits(&rng);
        const int sum = (int)(bits & 255) + (int)(bits >> 8 & 255) + (int)(bits >> 16 & 255) +
                        (int)(bits >> 24);
        const double noise = f->noise * (sum - 510) / 148.0;
        for (int k = 0; k < 3; k++) {
            const double value = 255 * (work[3 * i + k] + noise) + 0.5;
            pixels[3 * i + k] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
        }
    }
}

void facs_face_draw(uint8_t *pixels, const facs_face *face, float *work)
{
    const facs_canvas canvas = {.pixels = work,
                                .x = FACS_FACE_SIZE / 2.0 + face->shift_x,
                                .y = FACS_FACE_SIZE / 2.0 + face->shift_y,
                                .scale = face->scale,
                                .cosine = cos(face->roll),
                                .sine = sin(face->roll)};

    for (int i = 0; i < 3 * FACS_FACE_SIZE * FACS_FACE_SIZE; i++) work[i] = 0;
    facs_draw_background(&canvas, face);
    facs_draw_head(&canvas, face);
    facs_draw_cheeks(&canvas, face);
    facs_draw_nose(&canvas, face);
    facs_draw_mouth(&canvas, face);
    facs_draw_hair_front(&canvas, face);
    facs_draw_brows(&canvas, face);
    facs_draw_eyes(&canvas, face);
    develop(pixels, face, work);
}
