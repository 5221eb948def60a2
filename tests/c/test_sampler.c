#include "check.h"

#include "data/sampler.h"

#include <string.h>

/* 40 rows of 3 interleaved subjects; label 0 is in every second row, label 1 in one. */

enum { ROWS = 40, LABELS = 2, SUBJECTS = 3 };

static int64_t groups[ROWS];
static float labels[ROWS * LABELS];

static void make_table(void)
{
    for (int i = 0; i < ROWS; i++) {
        groups[i] = i % SUBJECTS;
        labels[i * LABELS] = (float)(i % 2);
    }
    labels[7 * LABELS + 1] = 1;
    labels[8 * LABELS] = NAN;
}

static facs_sampler_table whole(void)
{
    return (facs_sampler_table){
        .count = ROWS, .groups = groups, .labels = labels, .label_count = LABELS};
}

/* Counts how often each row is drawn; returns how many are. */
static int64_t draw(facs_sampler_options options, uint32_t epoch, int times[ROWS])
{
    const facs_sampler_table table = whole();
    int64_t rows[ROWS], drawn = 0;
    CHECK_OK(facs_sampler_draw(rows, &drawn, &table, &options, 9, epoch));
    memset(times, 0, ROWS * sizeof *times);
    for (int64_t i = 0; i < drawn; i++) times[rows[i]]++;
    return drawn;
}

static int drawn_of_subject(const int times[ROWS], int subject, int first, int last)
{
    int sum = 0;
    for (int i = 0, place = 0; i < ROWS; i++) {
        if (groups[i] != subject) continue;
        if (place >= first && place < last) sum += times[i];
        place++;
    }
    return sum;
}

static void test_every(void)
{
    int times[ROWS];
    for (uint32_t epoch = 0; epoch < 5; epoch++) {
        /* subject 0 has 14 rows, the others 13 */
        CHECK(draw((facs_sampler_options){.every = 5}, epoch, times) == 9);
        for (int subject = 0; subject < SUBJECTS; subject++)
            for (int first = 0; first < 15; first += 5)
                CHECK(drawn_of_subject(times, subject, first, first + 5) == 1);
    }
}

static void test_per_group(void)
{
    int times[ROWS];
    CHECK(draw((facs_sampler_options){.every = 1, .per_group = 4}, 1, times) == 12);
    for (int subject = 0; subject < SUBJECTS; subject++)
        CHECK(drawn_of_subject(times, subject, 0, ROWS) == 4);
    for (int i = 0; i < ROWS; i++) CHECK(times[i] <= 1);
    CHECK(draw((facs_sampler_options){.every = 1, .per_group = 13}, 1, times) == 39);
    CHECK(draw((facs_sampler_options){.every = 1}, 1, times) == ROWS);
}

static void test_balanced(void)
{
    int times[ROWS];
    CHECK(draw((facs_sampler_options){.every = 1, .balanced = 1}, 0, times) == ROWS);
    /* 40 draws of three classes: 14, 13, 13; row 7 is of two */
    int none = 0;
    for (int i = 0; i < ROWS; i += 2) none += times[i];
    CHECK(none == 13);
    CHECK(times[7] >= 13 && times[7] <= 15);
}

static void test_refusals(void)
{
    const facs_sampler_options all = {.every = 1}, wrong = {0}, less = {1, -1, 0};
    facs_sampler_table table = whole();
    int64_t rows[ROWS], drawn;
    CHECK_STATUS(facs_sampler_draw(rows, &drawn, &table, &wrong, 0, 0), FACS_E_ARG);
    CHECK_STATUS(facs_sampler_draw(rows, &drawn, &table, &less, 0, 0), FACS_E_ARG);
    groups[3] = ROWS;
    CHECK_STATUS(facs_sampler_draw(rows, &drawn, &table, &all, 0, 0), FACS_E_ARG);
    groups[3] = 0;
    table.count = 0;
    CHECK_STATUS(facs_sampler_draw(rows, &drawn, &table, &all, 0, 0), FACS_E_ARG);
}

int main(void)
{
    make_table();
    test_every();
    test_per_group();
    test_balanced();
    test_refusals();
    return check_report("sampler");
}
