#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include "core/memory.h"
#include "core/rng.h"
#include "data/loader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Images are made in memory and, for what concerns files, written as 24-bit BMP. */

enum { COUNT = 23, HEIGHT = 20, WIDTH = 17, LABELS = 3, SIZE = 16, BATCH = 4 };
enum { IMAGE = 3 * SIZE * SIZE, BMP_ROW = (3 * WIDTH + 3) / 4 * 4 };

static uint8_t pixels[COUNT][HEIGHT * WIDTH * 3];
static facs_image images[COUNT];
static float labels[COUNT * LABELS];
static char folder[256], names[COUNT][sizeof folder + 16];
static const char *paths[COUNT];

/* One pass, row by row of the table. */
typedef struct pass {
    uint8_t pixels[COUNT * IMAGE];
    float labels[COUNT * LABELS], mask[COUNT * LABELS];
    int64_t order[COUNT], n;
} pass;

static void put(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

static void write_bmp(int row, size_t cut)
{
    uint8_t file[54 + HEIGHT * BMP_ROW] = {'B', 'M'};
    put(file + 2, sizeof file);
    put(file + 10, 54);
    put(file + 14, 40);
    put(file + 18, WIDTH);
    put(file + 22, HEIGHT);
    file[26] = 1;
    file[28] = 24;
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < 3; c++)
                file[54 + y * BMP_ROW + 3 * x + c] =
                    pixels[row][((HEIGHT - 1 - y) * WIDTH + x) * 3 + 2 - c];
    FILE *out = fopen(paths[row], "wb");
    CHECK(out && fwrite(file, 1, sizeof file - cut, out) == sizeof file - cut);
    if (out) fclose(out);
}

static void make_samples(void)
{
    facs_rng rng = facs_rng_stream(1, FACS_RNG_SYNTHETIC, 0, 0);
    check_temporary(folder, sizeof folder, "facs_loader_XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    for (int i = 0; i < COUNT; i++) {
        for (int j = 0; j < HEIGHT * WIDTH * 3; j++)
            pixels[i][j] = (uint8_t)facs_rng_below(&rng, 256);
        images[i] = (facs_image){pixels[i], HEIGHT, WIDTH};
        for (int k = 0; k < LABELS; k++)
            labels[i * LABELS + k] = (float)facs_rng_below(&rng, 2);
        snprintf(names[i], sizeof names[i], "%s/%d.bmp", folder, i);
        paths[i] = names[i];
        write_bmp(i, 0);
    }
    labels[4 * LABELS + 1] = NAN;
}

static void remove_samples(void)
{
    for (int i = 0; i < COUNT; i++) unlink(paths[i]);
    rmdir(folder);
}

static facs_sample_table in_memory(void)
{
    return (facs_sample_table){
        .count = COUNT, .images = images, .labels = labels, .label_count = LABELS};
}

static facs_sample_table in_files(void)
{
    return (facs_sample_table){
        .count = COUNT, .paths = paths, .labels = labels, .label_count = LABELS};
}

static facs_loader_options usual(void)
{
    return (facs_loader_options){.batch = BATCH,
                                 .size = SIZE,
                                 .workers = 2,
                                 .slots = 3,
                                 .seed = 7,
                                 .augmentation = facs_augmentation_none(),
                                 .shuffle = 1};
}

static facs_loader *make(facs_sample_table table, facs_loader_options options)
{
    facs_loader *loader = NULL;
    CHECK_OK(facs_loader_create(&loader, &table, &options));
    return loader;
}

static void append(pass *p, const facs_batch *b)
{
    memcpy(p->pixels + p->n * IMAGE, b->pixels, (size_t)b->n * IMAGE);
    memcpy(p->labels + p->n * LABELS, b->labels, (size_t)b->n * LABELS * sizeof(float));
    memcpy(p->mask + p->n * LABELS, b->mask, (size_t)b->n * LABELS * sizeof(float));
    memcpy(p->order + p->n, b->indices, (size_t)b->n * sizeof *b->indices);
    p->n += b->n;
}

/* The rest of a pass; its status. */
static facs_status finish_pass(facs_loader *loader, pass *p)
{
    facs_batch batch;
    memset(p, 0, sizeof *p);
    for (;;) {
        FACS_TRY(facs_loader_next(loader, &batch));
        if (!batch.n) return FACS_OK;
        append(p, &batch);
    }
}

static facs_status run_pass(facs_loader *loader, uint32_t epoch, pass *p)
{
    FACS_TRY(facs_loader_start(loader, epoch, NULL, 0, 0));
    return finish_pass(loader, p);
}

static void test_every_sample_once(void)
{
    static pass p;
    facs_loader *loader = make(in_memory(), usual());
    facs_image_scratch scratch = {0};
    uint8_t wanted[IMAGE];
    for (uint32_t epoch = 0; epoch < 3; epoch++) {
        int seen[COUNT] = {0};
        CHECK_OK(run_pass(loader, epoch, &p));
        CHECK(p.n == COUNT);
        for (int64_t i = 0; i < p.n; i++) {
            const int64_t row = p.order[i];
            seen[row]++;
            CHECK_OK(facs_image_resize(wanted, SIZE, SIZE, &images[row], &scratch));
            CHECK(!memcmp(wanted, p.pixels + i * IMAGE, IMAGE));
            for (int k = 0; k < LABELS; k++) {
                const float label = labels[row * LABELS + k];
                CHECK(p.mask[i * LABELS + k] == (isnan(label) ? 0 : 1));
                CHECK(p.labels[i * LABELS + k] == (isnan(label) ? 0 : label));
            }
        }
        for (int i = 0; i < COUNT; i++) CHECK(seen[i] == 1);
    }
    facs_image_scratch_free(&scratch);
    facs_loader_free(loader);
}

static void test_order(void)
{
    static pass first, other;
    facs_loader_options options = usual();
    facs_loader *loader = make(in_memory(), options);
    CHECK_OK(run_pass(loader, 0, &first));
    CHECK_OK(run_pass(loader, 1, &other));
    CHECK(memcmp(first.order, other.order, sizeof first.order) != 0);
    CHECK_OK(run_pass(loader, 0, &other));
    CHECK(!memcmp(&first, &other, sizeof first));
    facs_loader_free(loader);

    options.seed = 8;
    loader = make(in_memory(), options);
    CHECK_OK(run_pass(loader, 0, &other));
    CHECK(memcmp(first.order, other.order, sizeof first.order) != 0);
    facs_loader_free(loader);
}

/* Two loaders run side by side; the second has other workers, source and cache. */
static void test_same_bytes(facs_augmentation augmentation)
{
    static const struct {
        int workers, slots, files;
        int64_t cache_bytes;
    } variants[] = {{1, 2, 0, 0},       {2, 3, 1, 0},     {5, 2, 0, 1 << 20}, {5, 7, 1, 5000},
                    {2, 3, 1, 1 << 20}, {1, 2, 1, IMAGE}, {7, 3, 1, 1 << 20}};
    static pass wanted, found;
    facs_loader_options options = usual();
    options.augmentation = augmentation;
    options.workers = 1;
    facs_loader *reference = make(in_memory(), options);
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        options.workers = variants[v].workers;
        options.slots = variants[v].slots;
        options.cache_bytes = variants[v].cache_bytes;
        facs_loader *loader = make(variants[v].files ? in_files() : in_memory(), options);
        for (uint32_t epoch = 0; epoch < 3; epoch++) {
            CHECK_OK(facs_loader_start(loader, epoch, NULL, 0, 0));
            CHECK_OK(run_pass(reference, epoch, &wanted));
            CHECK_OK(finish_pass(loader, &found));
            CHECK(!memcmp(&wanted, &found, sizeof wanted));
        }
        facs_loader_free(loader);
    }
    facs_loader_free(reference);
}

static void test_cache(void)
{
    static pass p;
    int64_t twice[4] = {3, 3, 3, 3};
    facs_loader_statistics s;
    facs_loader_options options = usual();
    options.cache_bytes = COUNT * IMAGE;
    options.workers = 4;
    facs_loader *loader = make(in_files(), options);
    /* Workers that meet at one row keep it once and give the other reservations back. */
    for (uint32_t i = 0; i < 20; i++) {
        twice[0] = twice[1] = twice[2] = twice[3] = i;
        CHECK_OK(facs_loader_start(loader, 0, twice, 4, 0));
        CHECK_OK(finish_pass(loader, &p));
    }
    CHECK_OK(run_pass(loader, 0, &p));
    CHECK_OK(run_pass(loader, 1, &p));
    facs_loader_get_statistics(loader, &s);
    CHECK(s.decoded == 0 && s.cached == COUNT && s.skipped == 0 && s.waited >= 0);
    facs_loader_free(loader);
}

static void test_parts(void)
{
    static pass p;
    const int64_t chosen[] = {5, 2, 19, 0, 7, 3};
    facs_loader_options options = usual();
    options.shuffle = 0;
    facs_loader *loader = make(in_memory(), options);
    CHECK_OK(facs_loader_start(loader, 0, chosen, 6, 0));
    CHECK(facs_loader_batches(loader) == 2);
    CHECK_OK(finish_pass(loader, &p));
    CHECK(p.n == 6 && !memcmp(p.order, chosen, sizeof chosen));

    CHECK_STATUS(facs_loader_start(loader, 0, chosen, 0, 0), FACS_E_ARG);
    const int64_t outside[] = {1, COUNT}, negative[] = {-1};
    CHECK_STATUS(facs_loader_start(loader, 0, outside, 2, 0), FACS_E_ARG);
    CHECK(strstr(facs_last_message(), "index 1 is 23"));
    CHECK_STATUS(facs_loader_start(loader, 0, negative, 1, 0), FACS_E_ARG);
    facs_loader_free(loader);
}

static void test_mirror(void)
{
    static pass plain, mirrored;
    facs_loader *loader = make(in_memory(), usual());
    CHECK_OK(run_pass(loader, 0, &plain));
    CHECK_OK(facs_loader_start(loader, 0, NULL, 0, 1));
    CHECK_OK(finish_pass(loader, &mirrored));
    int64_t wrong = 0;
    for (int64_t i = 0; i < COUNT * SIZE; i++)
        for (int x = 0; x < SIZE; x++)
            wrong += memcmp(plain.pixels + 3 * (i * SIZE + x),
                            mirrored.pixels + 3 * (i * SIZE + SIZE - 1 - x), 3) != 0;
    CHECK(wrong == 0);
    facs_loader_free(loader);
}

static void test_restart(void)
{
    static pass wanted, found;
    facs_batch batch;
    facs_loader *loader = make(in_files(), usual());
    CHECK_OK(run_pass(loader, 0, &wanted));
    for (int taken = 0; taken < 6; taken++) {
        CHECK_OK(facs_loader_start(loader, 9, NULL, 0, 0));
        for (int i = 0; i < taken; i++) CHECK_OK(facs_loader_next(loader, &batch));
        CHECK_OK(run_pass(loader, 0, &found));
        CHECK(!memcmp(&wanted, &found, sizeof wanted));
    }
    facs_loader_free(loader);
    facs_loader_free(NULL);
    for (int taken = 0; taken < 6; taken++) { /* freed while workers run */
        loader = make(in_files(), usual());
        CHECK_OK(facs_loader_start(loader, 0, NULL, 0, 0));
        for (int i = 0; i < taken; i++) CHECK_OK(facs_loader_next(loader, &batch));
        facs_loader_free(loader);
    }
}

/* Rows 9 and 10 (batch 2) are damaged, row 12 (batch 3) is missing. */
static void test_unreadable(int workers)
{
    static pass p;
    facs_batch batch;
    facs_loader_statistics s;
    facs_loader_options options = usual();
    options.shuffle = 0;
    options.workers = workers;
    facs_loader *loader = make(in_files(), options);
    CHECK_STATUS(run_pass(loader, 0, &p), FACS_E_FORMAT);
    CHECK(p.n == 8 && strstr(facs_last_message(), "9.bmp"));
    CHECK_OK(facs_loader_next(loader, &batch));
    CHECK(batch.n == 0);
    facs_loader_free(loader);

    options.most_skipped = 2;
    loader = make(in_files(), options);
    errno = 0;
    CHECK_STATUS(run_pass(loader, 0, &p), FACS_E_IO);
    CHECK(errno == ENOENT && p.n == 10 && strstr(facs_last_message(), "12.bmp"));
    facs_loader_free(loader);

    options.most_skipped = 3;
    loader = make(in_files(), options);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(run_pass(loader, 0, &p));
        facs_loader_get_statistics(loader, &s);
        CHECK(p.n == COUNT - 3 && s.skipped == 3 && s.decoded == COUNT - 3);
        CHECK(s.skipped_rows[0] == 9 && s.skipped_rows[1] == 10 && s.skipped_rows[2] == 12);
        CHECK(strstr(s.first_skipped, "9.bmp") != NULL);
        CHECK(p.order[8] == 8 && p.order[9] == 11 && p.order[10] == 13);
    }
    const int64_t lost[] = {9, 10, 12, 11, 3}; /* batches that shrink */
    CHECK_OK(facs_loader_start(loader, 0, lost, 5, 0));
    CHECK_OK(finish_pass(loader, &p));
    CHECK(p.n == 2 && p.order[0] == 11 && p.order[1] == 3);
    facs_loader_free(loader);
}

static void test_refusals(void)
{
    facs_loader *loader;
    const facs_sample_table table = in_memory(), none = {.label_count = 1};
    facs_loader_options o = usual();
    CHECK_STATUS(facs_loader_create(&loader, &none, &o), FACS_E_ARG);
    CHECK(loader == NULL);
    o.batch = 0;
    CHECK_STATUS(facs_loader_create(&loader, &table, &o), FACS_E_ARG);
    o = usual(), o.slots = 1;
    CHECK_STATUS(facs_loader_create(&loader, &table, &o), FACS_E_ARG);
    o = usual(), o.most_skipped = -1;
    CHECK_STATUS(facs_loader_create(&loader, &table, &o), FACS_E_ARG);
    o = usual(), o.cache_bytes = -1;
    CHECK_STATUS(facs_loader_create(&loader, &table, &o), FACS_E_ARG);
    o = usual(), o.workers = 0;
    CHECK_STATUS(facs_loader_create(&loader, &table, &o), FACS_E_ARG);
    o = usual(), o.augmentation.crop_scale = 0;
    CHECK_STATUS(facs_loader_create(&loader, &table, &o), FACS_E_ARG);
}

/* A ring is no larger than the table wants, whatever the batch. */
static void test_huge_batch(void)
{
    static pass p;
    facs_loader_options options = usual();
    options.batch = INT64_MAX;
    facs_loader *loader = make(in_memory(), options);
    CHECK_OK(run_pass(loader, 0, &p));
    CHECK(p.n == COUNT && facs_loader_batches(loader) == 1);
    facs_loader_free(loader);
}

/* The workers stay behind in the parent; the child is told so, and can free. */
static void test_fork(void)
{
    facs_batch batch;
    int outcome = -1;
    facs_loader *loader = make(in_files(), usual());
    CHECK_OK(facs_loader_start(loader, 0, NULL, 0, 0));
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        facs_loader_statistics s;
        alarm(20);
        const int told = facs_loader_next(loader, &batch) == FACS_E_UNSUPPORTED &&
                         facs_loader_start(loader, 0, NULL, 0, 0) == FACS_E_UNSUPPORTED;
        facs_loader_get_statistics(loader, &s);
        facs_loader_free(loader);
        _exit(told ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &outcome, 0) == child && outcome == 0);
    CHECK_OK(facs_loader_next(loader, &batch));
    CHECK(batch.n == BATCH);
    facs_loader_free(loader);
}

int main(void)
{
    const facs_augmentation none = facs_augmentation_none();
    const facs_augmentation all = {.crop_scale = 0.5,
                                   .flip_probability = 0.5,
                                   .rotation = 15,
                                   .brightness = 0.2,
                                   .contrast = 0.2};
    facs_augmentation whole = all;
    whole.crop_scale = 1;

    make_samples();
    test_every_sample_once();
    test_order();
    test_same_bytes(none);
    test_same_bytes(whole);
    test_same_bytes(all);
    test_cache();
    test_parts();
    test_mirror();
    test_restart();
    test_refusals();
    test_huge_batch();
    test_fork();
    write_bmp(9, 100);
    write_bmp(10, 100);
    unlink(paths[12]);
    for (int workers = 1; workers <= 5; workers += 2)
        for (int i = 0; i < 20; i++) test_unreadable(workers);
    remove_samples();
    return check_report("loader");
}
