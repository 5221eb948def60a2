#include "image/synthetic_face.h"

#include "core/rng.h"

#include <string.h>

static const struct {
    const char *name;
    double rate;
} units[FACS_FACE_UNITS] = {
    /* counts of DISFA over its 130,814 frames at intensity 2 and above */
    [FACS_FACE_AU1] = {"AU01", 6506 / 130814.0},
    [FACS_FACE_AU2] = {"AU02", 5644 / 130814.0},
    [FACS_FACE_AU4] = {"AU04", 19933 / 130814.0},
    [FACS_FACE_AU6] = {"AU06", 10327 / 130814.0},
    [FACS_FACE_AU9] = {"AU09", 5473 / 130814.0},
    [FACS_FACE_AU12] = {"AU12", 16851 / 130814.0},
    [FACS_FACE_AU25] = {"AU25", 36247 / 130814.0},
    [FACS_FACE_AU26] = {"AU26", 11533 / 130814.0},
};

static const char *const attributes[FACS_FACE_ATTRIBUTES] = {
    [FACS_FACE_EYES_CLOSED] = "eyes_closed",
    [FACS_FACE_EYES_WIDE] = "eyes_wide",
    [FACS_FACE_GAZE_LEFT] = "gaze_left",
    [FACS_FACE_GAZE_RIGHT] = "gaze_right",
    [FACS_FACE_LIP_CORNERS_DOWN] = "lip_corners_down",
    [FACS_FACE_LIPS_PUCKERED] = "lips_puckered",
    [FACS_FACE_MOUTH_LEFT] = "mouth_left",
    [FACS_FACE_BROW_SINGLE] = "brow_single",
    [FACS_FACE_CHEEKS_PUFFED] = "cheeks_puffed",
    [FACS_FACE_HEAD_LEFT] = "head_left",
    [FACS_FACE_HEAD_TILTED] = "head_tilted",
    [FACS_FACE_LIGHT_LEFT] = "light_left",
    [FACS_FACE_GLASSES] = "glasses",
    [FACS_FACE_BEARD] = "beard",
    [FACS_FACE_DARK_BROWS] = "dark_brows",
    [FACS_FACE_FRINGE] = "fringe",
};

const char *facs_face_unit_name(int unit)
{
    return units[unit].name;
}

const char *facs_face_attribute_name(int attribute)
{
    return attributes[attribute];
}

static int happens(facs_rng *rng, double probability)
{
    return facs_rng_uniform(rng) < probability;
}

/* A unit that goes with another: given is its probability where the other is there; the
 * total stays at its rate. */
static int follows(facs_rng *rng, facs_face_unit unit, facs_face_unit other, int there,
                   double given)
{
    const double p = units[other].rate;
    return happens(rng, there ? given : (units[unit].rate - p * given) / (1 - p));
}

/* On: an intensity that a person sees. Off: nothing, or a trace of it. */
static double intensity(facs_rng *rng, int on)
{
    const double trace = facs_rng_uniform(rng), strength = facs_rng_between(rng, 0.6, 1);
    return on ? strength : trace < 0.15 ? trace : 0;
}

static void sample_units(facs_face *f, facs_rng *rng, facs_face_task task)
{
    int on[FACS_FACE_UNITS];
    if (task == FACS_FACE_TASK_UNITS) {
        on[FACS_FACE_AU1] = happens(rng, units[FACS_FACE_AU1].rate);
        on[FACS_FACE_AU2] = follows(rng, FACS_FACE_AU2, FACS_FACE_AU1, on[FACS_FACE_AU1], 0.6);
        on[FACS_FACE_AU9] = happens(rng, units[FACS_FACE_AU9].rate);
        on[FACS_FACE_AU4] = follows(rng, FACS_FACE_AU4, FACS_FACE_AU9, on[FACS_FACE_AU9], 0.7);
        on[FACS_FACE_AU12] = happens(rng, units[FACS_FACE_AU12].rate);
        on[FACS_FACE_AU6] =
            follows(rng, FACS_FACE_AU6, FACS_FACE_AU12, on[FACS_FACE_AU12], 0.5);
        on[FACS_FACE_AU26] = happens(rng, units[FACS_FACE_AU26].rate);
        on[FACS_FACE_AU25] =
            follows(rng, FACS_FACE_AU25, FACS_FACE_AU26, on[FACS_FACE_AU26], 0.9);
    } else {
        for (int i = 0; i < FACS_FACE_UNITS; i++) on[i] = happens(rng, 0.2);
    }
    for (int i = 0; i < FACS_FACE_UNITS; i++) f->unit[i] = intensity(rng, on[i]);
}

static void sample_attributes(facs_face *f, facs_rng *looks, facs_rng *frame,
                              facs_face_task task)
{
    const int even = task == FACS_FACE_TASK_ATTRIBUTES;
    const double rate = even ? 0.3 : 0.04;
    double *a = f->attribute;

    for (int i = FACS_FACE_EYES_CLOSED; i <= FACS_FACE_CHEEKS_PUFFED; i++)
        a[i] = happens(frame, rate) ? facs_rng_between(frame, 0.7, 1) : 0;
    if (a[FACS_FACE_EYES_CLOSED] > 0) a[FACS_FACE_EYES_WIDE] = 0;
    if (a[FACS_FACE_GAZE_LEFT] > 0) a[FACS_FACE_GAZE_RIGHT] = 0;
    if (a[FACS_FACE_LIP_CORNERS_DOWN] > 0) a[FACS_FACE_LIPS_PUCKERED] = 0;
    a[FACS_FACE_HEAD_LEFT] = happens(frame, 0.5);
    a[FACS_FACE_HEAD_TILTED] = happens(frame, even ? 0.4 : 0.1);
    a[FACS_FACE_LIGHT_LEFT] = happens(frame, 0.5);
    a[FACS_FACE_GLASSES] = happens(looks, even ? 0.3 : 0.2);
    a[FACS_FACE_BEARD] = happens(looks, even ? 0.3 : 0.2);
    a[FACS_FACE_DARK_BROWS] = happens(looks, 0.5);
    a[FACS_FACE_FRINGE] = happens(looks, 0.3);
}

static void sample_colours(facs_face *f, facs_rng *r)
{
    static const facs_colour skins[] = {
        {0.96f, 0.80f, 0.69f}, {0.91f, 0.72f, 0.58f}, {0.80f, 0.60f, 0.44f},
        {0.66f, 0.46f, 0.32f}, {0.50f, 0.33f, 0.22f}, {0.38f, 0.25f, 0.17f},
    };
    static const facs_colour hairs[] = {
        {0.09f, 0.07f, 0.06f}, {0.24f, 0.15f, 0.09f}, {0.42f, 0.27f, 0.15f},
        {0.72f, 0.55f, 0.32f}, {0.55f, 0.25f, 0.12f}, {0.62f, 0.61f, 0.60f},
    };
    static const facs_colour irises[] = {{0.27f, 0.16f, 0.08f},
                                         {0.32f, 0.45f, 0.58f},
                                         {0.33f, 0.42f, 0.25f},
                                         {0.16f, 0.10f, 0.06f}};
    const double tone = facs_rng_between(r, 0, 4.999);
    const int low = (int)tone;
    f->skin = facs_colour_mix(skins[low], skins[low + 1], tone - low);
    f->hair = facs_colour_scale(hairs[facs_rng_below(r, tone > 2.5 ? 2 : 6)],
                                facs_rng_between(r, 0.8, 1.2));
    f->iris = irises[tone > 2.5 ? 3 * (int)facs_rng_below(r, 2) : (int)facs_rng_below(r, 4)];
    const facs_colour red = {0.70f, 0.26f, 0.26f};
    f->lips =
        facs_colour_mix(facs_colour_scale(f->skin, 0.86), red, facs_rng_between(r, 0.25, 0.6));
    f->shirt = (facs_colour){(float)facs_rng_between(r, 0.1, 0.8),
                             (float)facs_rng_between(r, 0.1, 0.8),
                             (float)facs_rng_between(r, 0.1, 0.8)};
}

static void sample_looks(facs_face *f, facs_rng *r)
{
    f->width = facs_rng_between(r, 0.66, 0.78);
    f->jaw = facs_rng_between(r, 0.25, 0.6);
    f->eye_distance = facs_rng_between(r, 0.31, 0.36);
    f->eye_size = facs_rng_between(r, 0.9, 1.12);
    f->brow_height = facs_rng_between(r, 0.24, 0.29);
    f->brow_width = facs_rng_between(r, 0.035, 0.065);
    f->brow_arch = facs_rng_between(r, 0.02, 0.07);
    f->nose_length = facs_rng_between(r, 0.3, 0.38);
    f->nose_width = facs_rng_between(r, 0.12, 0.18);
    f->mouth_height = facs_rng_between(r, 0.54, 0.59);
    f->mouth_width = facs_rng_between(r, 0.24, 0.31);
    f->lip_fullness = facs_rng_between(r, 0.8, 1.3);
    f->age = facs_rng_uniform(r);
    f->hair_line = facs_rng_between(r, -0.72, -0.58);
    f->hair_volume = facs_rng_between(r, 1.02, 1.22);
    f->hair_kind = happens(r, 0.1) ? 2 : (int)facs_rng_below(r, 2);
    sample_colours(f, r);
}

static void sample_picture(facs_face *f, facs_rng *r)
{
    const double *a = f->attribute;
    const double side = a[FACS_FACE_HEAD_LEFT] > 0 ? -1 : 1;
    f->yaw = side * facs_rng_between(r, 0.05, 0.5);
    f->pitch = facs_rng_between(r, -0.25, 0.25);
    const double tilt = a[FACS_FACE_HEAD_TILTED] > 0 ? facs_rng_between(r, 0.14, 0.24)
                                                     : facs_rng_between(r, 0, 0.07);
    f->roll = happens(r, 0.5) ? tilt : -tilt;
    f->scale = facs_rng_between(r, 78, 90);
    f->shift_x = facs_rng_between(r, -8, 8);
    f->shift_y = facs_rng_between(r, -5, 7);
    f->light_x = (a[FACS_FACE_LIGHT_LEFT] > 0 ? -1 : 1) * facs_rng_between(r, 0.25, 0.8);
    f->light_y = facs_rng_between(r, -0.7, -0.1);
    f->light = facs_rng_between(r, 0.82, 1.12);
    f->contrast = facs_rng_between(r, 0.2, 0.42);
    f->noise = facs_rng_between(r, 0.004, 0.02);
    for (int i = 0; i < 2; i++) {
        const double grey = facs_rng_between(r, 0.2, 0.85);
        f->background[i] = (facs_colour){(float)(grey + facs_rng_between(r, -0.1, 0.1)),
                                         (float)(grey + facs_rng_between(r, -0.1, 0.1)),
                                         (float)(grey + facs_rng_between(r, -0.1, 0.1))};
    }
}

facs_face facs_face_sample(uint64_t seed, uint32_t index, int subjects, facs_face_task task)
{
    facs_face f;
    memset(&f, 0, sizeof f);
    facs_rng frame = facs_rng_stream(seed, FACS_RNG_SYNTHETIC, 1 + (uint32_t)task, index);
    f.subject = task == FACS_FACE_TASK_UNITS ? (int)(index % (uint32_t)subjects) : (int)index;
    facs_rng looks =
        facs_rng_stream(seed, FACS_RNG_SYNTHETIC, 16 + (uint32_t)task, (uint32_t)f.subject);
    sample_looks(&f, &looks);
    sample_units(&f, &frame, task);
    sample_attributes(&f, &looks, &frame, task);
    sample_picture(&f, &frame);
    f.noise_seed = seed;
    f.noise_item = index;
    return f;
}
