#define _DEFAULT_SOURCE
#include "check.h"

#include "data/loader.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Linked with --wrap: every call of the allocator, in any thread, is counted, and the k-th
 * can fail. */

static atomic_long allocations, live;
static long fail_at = -1;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
int __real_posix_memalign(void **block, size_t alignment, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
int __wrap_posix_memalign(void **block, size_t alignment, size_t size);
void __wrap_free(void *block);

static int fails(void)
{
    return atomic_fetch_add(&allocations, 1) == fail_at;
}

void *__wrap_malloc(size_t size)
{
    void *block = fails() ? NULL : __real_malloc(size);
    live += block != NULL;
    return block;
}

void *__wrap_calloc(size_t count, size_t size)
{
    void *block = fails() ? NULL : __real_calloc(count, size);
    live += block != NULL;
    return block;
}

void *__wrap_realloc(void *block, size_t size)
{
    if (fails()) return NULL;
    live += !block;
    return __real_realloc(block, size);
}

int __wrap_posix_memalign(void **block, size_t alignment, size_t size)
{
    if (fails()) return 12;
    const int status = __real_posix_memalign(block, alignment, size);
    live += status == 0;
    return status;
}

void __wrap_free(void *block)
{
    live -= block != NULL;
    __real_free(block);
}

enum { COUNT = 9, SIDE = 12, BMP_BYTES = 54 + 3 * SIDE * SIDE };

static uint8_t pixels[COUNT][SIDE * SIDE * 3];
static facs_image images[COUNT];
static float labels[COUNT];
static char name[256];
static const char *paths[COUNT];

/* One black image, under all paths. */
static void write_image(void)
{
    uint8_t file[BMP_BYTES] = {'B', 'M', BMP_BYTES & 255, BMP_BYTES >> 8};
    file[10] = 54, file[14] = 40, file[18] = file[22] = SIDE, file[26] = 1, file[28] = 24;
    check_temporary(name, sizeof name, "facs_alloc_XXXXXX.bmp");
    const int descriptor = mkstemps(name, 4);
    FILE *out = descriptor < 0 ? NULL : fdopen(descriptor, "wb");
    CHECK(out && fwrite(file, 1, sizeof file, out) == sizeof file);
    if (out) fclose(out);
    for (int i = 0; i < COUNT; i++) {
        paths[i] = name;
        images[i] = (facs_image){pixels[i], SIDE, SIDE};
    }
}

static facs_sample_table make_table(int files)
{
    facs_sample_table table = {.count = COUNT, .labels = labels, .label_count = 1};
    if (files)
        table.paths = paths;
    else
        table.images = images;
    return table;
}

static facs_loader_options make_options(double crop_scale)
{
    return (facs_loader_options){.batch = 2,
                                 .size = 8,
                                 .workers = 2,
                                 .slots = 3,
                                 .augmentation = {.crop_scale = crop_scale, .rotation = 5},
                                 .shuffle = 1,
                                 .cache_bytes = 1 << 20,
                                 .most_skipped = COUNT};
}

static facs_status run_pass(facs_loader *loader, uint32_t epoch, int64_t *images_seen)
{
    facs_batch batch;
    *images_seen = 0;
    FACS_TRY(facs_loader_start(loader, epoch, NULL, 0, 0));
    for (;;) {
        FACS_TRY(facs_loader_next(loader, &batch));
        if (!batch.n) return FACS_OK;
        *images_seen += batch.n;
    }
}

/* A worker grows its scratch as its first images want, and may sleep through passes before
 * them; therefore passes that allocate are counted, wherever they lie. */
static void test_steady_state(int files, double crop_scale)
{
    facs_loader *loader;
    const facs_sample_table table = make_table(files);
    const facs_loader_options options = make_options(crop_scale);
    int64_t seen;
    int noisy = 0;

    fail_at = -1;
    CHECK_OK(facs_loader_create(&loader, &table, &options));
    for (uint32_t epoch = 0; epoch < 100; epoch++) {
        const long before = allocations;
        CHECK_OK(run_pass(loader, epoch, &seen));
        CHECK(seen == COUNT);
        noisy += allocations != before;
    }
    CHECK(noisy <= 6);
    facs_loader_free(loader);
    CHECK(live == 0);
}

/* Every allocation fails once: that is said or done without, never a sample left out. */
static void test_failures(int files, double crop_scale)
{
    const facs_sample_table table = make_table(files);
    const facs_loader_options options = make_options(crop_scale);
    int done = 0;

    for (long k = 0; !done && k < 500; k++) {
        facs_loader *loader;
        int64_t seen = 0;
        allocations = 0;
        fail_at = k;
        facs_status status = facs_loader_create(&loader, &table, &options);
        CHECK((status == FACS_OK) == (loader != NULL));
        if (status == FACS_OK) status = run_pass(loader, 0, &seen);
        done = allocations <= k;
        CHECK(status == FACS_E_OOM || (status == FACS_OK && seen == COUNT));
        CHECK(!done || status == FACS_OK);
        if (loader) { /* the next pass has what the last one lacked */
            fail_at = -1;
            CHECK_OK(run_pass(loader, 1, &seen));
            CHECK(seen == COUNT);
        }
        facs_loader_free(loader);
        CHECK(live == 0);
    }
    CHECK(done);
}

int main(void)
{
    write_image();
    for (int files = 0; files < 2; files++)
        for (int crops = 0; crops < 2; crops++) {
            test_steady_state(files, crops ? 0.5 : 1);
            test_failures(files, crops ? 0.5 : 1);
        }
    remove(name);
    return check_report("alloc_loader");
}
