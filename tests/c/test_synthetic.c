#include "check.h"

#include "core/memory.h"
#include "core/threads.h"
#include "image/synthetic_face.h"

#include <stdlib.h>
#include <string.h>

enum {
    BYTES = FACS_FACE_SIZE * FACS_FACE_SIZE * 3,
    SAMPLES = 100000,
    SUBJECTS = 27,
    FACES = 9
};

static int same(const void *a, const void *b, size_t size)
{
    return memcmp(a, b, size) == 0;
}

static const double present = 0.3; /* as the labels are made of the intensities */

/* Frames of DISFA at intensity 2 and above. */
static const double frames[FACS_FACE_UNITS] = {6506, 5644,  19933, 10327,
                                               5473, 16851, 36247, 11533};

static void test_rates(void)
{
    static int together[FACS_FACE_UNITS][FACS_FACE_UNITS];
    int unclear = 0;

    for (uint32_t i = 0; i < SAMPLES; i++) {
        const facs_face f = facs_face_sample(5, i, SUBJECTS, FACS_FACE_TASK_UNITS);
        for (int j = 0; j < FACS_FACE_UNITS; j++) {
            unclear += f.unit[j] >= 0.2 && f.unit[j] < 0.5;
            for (int k = 0; k < FACS_FACE_UNITS; k++)
                together[j][k] += f.unit[j] > present && f.unit[k] > present;
        }
    }
    CHECK(unclear == 0);
    for (int j = 0; j < FACS_FACE_UNITS; j++) {
        /* four standard deviations of a binomial: eight checks fail once in 2000 seeds */
        const double p = frames[j] / 130814;
        CHECK_CLOSE(together[j][j] / (double)SAMPLES, p, 4 * sqrt(p * (1 - p) / SAMPLES));
    }
    const int pair[][2] = {{FACS_FACE_AU1, FACS_FACE_AU2},
                           {FACS_FACE_AU6, FACS_FACE_AU12},
                           {FACS_FACE_AU4, FACS_FACE_AU9},
                           {FACS_FACE_AU25, FACS_FACE_AU26}};
    for (int i = 0; i < 4; i++) {
        const int a = pair[i][0], b = pair[i][1];
        CHECK(together[a][b] > 2.0 * together[a][a] * together[b][b] / SAMPLES);
    }
    CHECK(together[FACS_FACE_AU25][FACS_FACE_AU26] >
          0.8 * together[FACS_FACE_AU26][FACS_FACE_AU26]);
}

static void test_attribute_rates(void)
{
    int count[FACS_FACE_ATTRIBUTES] = {0};
    for (uint32_t i = 0; i < 4000; i++) {
        const facs_face f = facs_face_sample(5, i, SUBJECTS, FACS_FACE_TASK_ATTRIBUTES);
        for (int j = 0; j < FACS_FACE_ATTRIBUTES; j++) count[j] += f.attribute[j] > present;
    }
    for (int j = 0; j < FACS_FACE_ATTRIBUTES; j++) CHECK(count[j] > 400 && count[j] < 2400);
}

static void test_streams(void)
{
    const facs_face a = facs_face_sample(1, 4, SUBJECTS, FACS_FACE_TASK_UNITS);
    const facs_face again = facs_face_sample(1, 4, SUBJECTS, FACS_FACE_TASK_UNITS);
    const facs_face later = facs_face_sample(1, 4 + SUBJECTS, SUBJECTS, FACS_FACE_TASK_UNITS);
    const facs_face other = facs_face_sample(1, 5, SUBJECTS, FACS_FACE_TASK_UNITS);
    const facs_face elsewhere = facs_face_sample(1, 4, 3, FACS_FACE_TASK_UNITS);
    const facs_face reseeded = facs_face_sample(2, 4, SUBJECTS, FACS_FACE_TASK_UNITS);

    CHECK(same(&a.skin, &again.skin, sizeof a.skin) && a.yaw == again.yaw);
    /* one subject: the looks are the same, the picture is not */
    CHECK(same(&a.skin, &later.skin, sizeof a.skin) && a.width == later.width);
    CHECK(a.attribute[FACS_FACE_GLASSES] == later.attribute[FACS_FACE_GLASSES]);
    CHECK(a.yaw != later.yaw && a.light_x != later.light_x);
    CHECK(!same(&a.skin, &other.skin, sizeof a.skin) && a.width != other.width);
    /* one index: the picture is the same whoever is on it */
    CHECK(same(a.unit, elsewhere.unit, sizeof a.unit) && a.yaw == elsewhere.yaw);
    CHECK(a.width != elsewhere.width);
    CHECK(a.width != reseeded.width && a.yaw != reseeded.yaw);
}

typedef struct drawing {
    uint8_t *pixels;
    float *work;
} drawing;

static void draw(void *context, int64_t i, int worker)
{
    const drawing *d = context;
    const facs_face face = facs_face_sample(9, (uint32_t)i, SUBJECTS, FACS_FACE_TASK_UNITS);
    facs_face_draw(d->pixels + i * BYTES, &face, d->work + (int64_t)worker * BYTES);
}

static void test_threads(void)
{
    static const int threads[3] = {1, 2, 7};
    uint8_t *faces[3];
    float *work;

    CHECK_OK(facs_allocate(&work, (size_t)7 * BYTES, sizeof *work, "test"));
    for (int i = 0; i < 3; i++) {
        CHECK_OK(facs_allocate(&faces[i], FACES, BYTES, "test"));
        facs_parallel(threads[i], FACES, draw, &(drawing){faces[i], work});
    }
    CHECK(same(faces[0], faces[1], FACES * BYTES));
    CHECK(same(faces[0], faces[2], FACES * BYTES));
    CHECK(!same(faces[0], faces[0] + BYTES, BYTES));
    for (int i = 0; i < 3; i++) facs_free(faces[i]);
    facs_free(work);
}

/* A face seen from the front, with one action unit or none (-1). */
static void draw_unit(uint8_t *pixels, float *work, int subject, int unit, facs_face *face)
{
    *face = facs_face_sample(3, (uint32_t)subject, 1 << 20, FACS_FACE_TASK_UNITS);
    for (int i = 0; i < FACS_FACE_UNITS; i++) face->unit[i] = i == unit ? 0.8 : 0;
    for (int i = FACS_FACE_EYES_CLOSED; i <= FACS_FACE_CHEEKS_PUFFED; i++)
        face->attribute[i] = 0;
    face->yaw = face->pitch = face->roll = face->shift_x = face->shift_y = 0;
    facs_face_draw(pixels, face, work);
}

/* Where each unit may change a face, in face heights below the middle of the picture. */
static const double reach[FACS_FACE_UNITS][2] = {
    [FACS_FACE_AU1] = {-1.0, 0.15}, [FACS_FACE_AU2] = {-1.0, 0.15},
    [FACS_FACE_AU4] = {-1.0, 0.15}, [FACS_FACE_AU6] = {-0.6, 0.7},
    [FACS_FACE_AU9] = {-0.7, 0.9},  [FACS_FACE_AU12] = {-0.1, 0.9},
    [FACS_FACE_AU25] = {0.3, 1.0},  [FACS_FACE_AU26] = {-0.1, 1.5}};

static void test_regions(void)
{
    uint8_t *neutral, *moved;
    float *work;
    facs_face face;

    CHECK_OK(facs_allocate(&neutral, BYTES, 1, "test"));
    CHECK_OK(facs_allocate(&moved, BYTES, 1, "test"));
    CHECK_OK(facs_allocate(&work, BYTES, sizeof *work, "test"));
    for (int subject = 0; subject < 4; subject++)
        for (int unit = 0; unit < FACS_FACE_UNITS; unit++) {
            int changed = 0, outside = 0;
            draw_unit(neutral, work, subject, -1, &face);
            draw_unit(moved, work, subject, unit, &face);
            for (int i = 0; i < BYTES; i++) {
                const double y = (i / (3 * FACS_FACE_SIZE) - FACS_FACE_SIZE / 2) / face.scale;
                const int differs = neutral[i] != moved[i];
                changed += abs(neutral[i] - moved[i]) > 12;
                outside += differs && (y < reach[unit][0] || y > reach[unit][1]);
            }
            if (changed <= 300 || outside)
                printf("subject %d, %s: %d samples changed, %d out of reach\n", subject,
                       facs_face_unit_name(unit), changed, outside);
            CHECK(changed > 300);
            CHECK(outside == 0);
        }
    facs_free(neutral);
    facs_free(moved);
    facs_free(work);
}

int main(void)
{
    test_rates();
    test_attribute_rates();
    test_streams();
    test_threads();
    test_regions();
    return check_report("synthetic");
}
