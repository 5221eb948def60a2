#ifndef FACS_TESTS_REACHABLE_H
#define FACS_TESTS_REACHABLE_H

/* Memory that the kernels under test can reach. With FACS_TEST_PLUGIN=/path/plugin.so these
 * are a GPU's: every block is then cut from one region of the host's that the driver has mapped
 * for it at the same addresses, and whoever reads results settles first. Without a GPU such a
 * run fails, unless FACS_TEST_DRIVER is another driver (tests/emulator). Otherwise blocks are
 * the heap's. */

#include "check.h"

#include "kernel/plugin.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const size_t REACHABLE_BYTES = (size_t)2 << 30;
enum { BLOCK_HEADER = 64, BLOCK_CLASSES = 30 };

static struct reachable {
    int opened;
    facs_plugin plugin; /* device is NULL without one */
    unsigned char *region;
    size_t used;
    void *spare[BLOCK_CLASSES]; /* given back blocks of 2^i bytes, linked through their start */
} reachable;

static inline void reachable_fail(const char *what)
{
    printf("FACS_TEST_PLUGIN: %s\n", what);
    exit(1);
}

/* Calls the driver as `call` says, or ends the test. */
#define DRIVER(library, name, types, arguments)                                                \
    do {                                                                                       \
        int(*call) types;                                                                      \
        void *symbol = dlsym(library, name);                                                   \
        if (!symbol) reachable_fail("the driver has no " name);                                \
        memcpy(&call, &symbol, sizeof call);                                                   \
        if (call arguments != 0) reachable_fail(name " failed");                               \
    } while (0)

static inline void reachable_map(struct reachable *r)
{
    const unsigned portable_and_mapped = 3;
    int device = 0;
    const char *wanted = getenv("FACS_TEST_DRIVER"), *name = wanted ? wanted : "libcuda.so.1";
    void *context = NULL, *region = NULL, *driver = dlopen(name, RTLD_NOW);

    if (!driver) reachable_fail("there is no driver");
    DRIVER(driver, "cuInit", (unsigned), (0));
    DRIVER(driver, "cuDeviceGet", (int *, int), (&device, 0));
    DRIVER(driver, "cuDevicePrimaryCtxRetain", (void **, int), (&context, device));
    DRIVER(driver, "cuCtxSetCurrent", (void *), (context));
    DRIVER(driver, "cuMemHostAlloc", (void **, size_t, unsigned),
           (&region, REACHABLE_BYTES, portable_and_mapped));
    r->region = region;
}

/* The plugin under test, or NULL. */
static inline const facs_plugin *tested_plugin(void)
{
    struct reachable *r = &reachable;
    const char *path = getenv("FACS_TEST_PLUGIN");

    if (!path || !*path) return NULL;
    if (r->opened) return &r->plugin;
    if (facs_plugin_load(&r->plugin, path) != FACS_OK) reachable_fail(facs_last_message());
    reachable_map(r);
    r->opened = 1;
    printf("testing %s on %s, %s\n", path, r->plugin.description, r->plugin.capability);
    return &r->plugin;
}

/* Waits for what kernels were asked to do; their errors are failed checks. */
static inline void settle(void)
{
    if (tested_plugin()) CHECK_OK(reachable.plugin.device->wait());
}

static inline void *block_allocate(size_t bytes)
{
    struct reachable *r = &reachable;
    int class = 7;

    if (!tested_plugin()) return malloc(bytes ? bytes : 1);
    while (((size_t)1 << class) < bytes + BLOCK_HEADER) class ++;
    unsigned char *block = r->spare[class];
    if (block) {
        memcpy(&r->spare[class], block, sizeof(void *));
    } else {
        block = r->region + r->used;
        r->used += (size_t)1 << class;
        if (r->used > REACHABLE_BYTES) reachable_fail("the region is full");
    }
    memcpy(block, &class, sizeof class);
    return block + BLOCK_HEADER;
}

static inline void block_free(void *p)
{
    struct reachable *r = &reachable;
    int class;

    if (!tested_plugin()) {
        free(p);
        return;
    }
    if (!p) return;
    settle();
    unsigned char *block = (unsigned char *)p - BLOCK_HEADER;
    memcpy(&class, block, sizeof class);
    memcpy(block, &r->spare[class], sizeof(void *));
    r->spare[class] = block;
}

#endif
