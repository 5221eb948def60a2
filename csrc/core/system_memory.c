#define _GNU_SOURCE
#include "core/system_memory.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Files of proc and cgroup are read with system calls, which take nothing from the heap. */

enum { FILE_SIZE = 16 << 10, PATH_SIZE = 1 << 10 };

typedef struct file {
    char text[FILE_SIZE];
} file;

static int read_file(file *f, const char *root, const char *folder, const char *name)
{
    char path[3 * PATH_SIZE];
    size_t used = 0;
    ssize_t got = 1;

    if (snprintf(path, sizeof path, "%s%s%s", root, folder, name) >= (int)sizeof path) return 0;
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return 0;
    for (; got > 0 && used<sizeof f->text - 1; used += got> 0 ? (size_t)got : 0)
        got = read(descriptor, f->text + used, sizeof f->text - 1 - used);
    (void)close(descriptor);
    f->text[used] = '\0';
    return used > 0;
}

/* The number behind a key at the start of a line; 0 when there is none. */
static uint64_t entry(const file *f, const char *key)
{
    const size_t length = strlen(key);
    for (const char *line = f->text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, length) == 0) return strtoull(line + length, NULL, 10);
    }
    return 0;
}

static uint64_t machine(const char *root)
{
    file f;
    if (!read_file(&f, root, "", "/proc/meminfo") || !strstr(f.text, "MemAvailable:"))
        return UINT64_MAX;
    return (entry(&f, "MemAvailable:") + entry(&f, "SwapFree:")) << 10;
}

/* Names of one version of control groups. */
typedef struct version {
    const char *mark; /* before the path in /proc/self/cgroup */
    const char *mount, *limit, *usage, *inactive, *active;
} version;

static const version versions[] = {
    {"0::", "/sys/fs/cgroup", "/memory.max", "/memory.current", "inactive_file ",
     "active_file "},
    {":memory:", "/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes",
     "total_inactive_file ", "total_active_file "},
};

/* What is left of one group's limit; cached files count as free, as they are given back. */
static uint64_t group(const char *root, const version *v, const char *folder)
{
    file f;
    if (!read_file(&f, root, folder, v->limit) || f.text[0] < '0' || f.text[0] > '9')
        return UINT64_MAX; /* "max" */
    const uint64_t limit = strtoull(f.text, NULL, 10);
    if (!read_file(&f, root, folder, v->usage)) return UINT64_MAX;
    const uint64_t usage = strtoull(f.text, NULL, 10);
    const uint64_t cached = read_file(&f, root, folder, "/memory.stat")
                                ? entry(&f, v->inactive) + entry(&f, v->active)
                                : 0;
    const uint64_t held = usage > cached ? usage - cached : 0;
    return limit > held ? limit - held : 0;
}

/* The least of a group and those around it. A container may see its own group as the root of
 * the tree and yet be told the whole path: folders that are not there are passed over. */
static uint64_t groups(const char *root, const version *v, const file *membership)
{
    char folder[2 * PATH_SIZE];
    const char *start = strstr(membership->text, v->mark);
    uint64_t least = UINT64_MAX;

    if (!start) return least;
    start += strlen(v->mark);
    const size_t length = strcspn(start, "\n"), mount = strlen(v->mount);
    if (length >= PATH_SIZE) return least;
    (void)snprintf(folder, sizeof folder, "%s%.*s", v->mount, (int)length, start);
    for (;;) {
        const uint64_t left = group(root, v, folder);
        least = left < least ? left : least;
        if (strlen(folder) <= mount) return least;
        *strrchr(folder, '/') = '\0';
    }
}

size_t facs_system_memory(const char *root)
{
    file membership;
    uint64_t least = machine(root);

    if (read_file(&membership, root, "", "/proc/self/cgroup"))
        for (int i = 0; i < 2; i++) {
            const uint64_t left = groups(root, &versions[i], &membership);
            least = left < least ? left : least;
        }
    return least < SIZE_MAX ? (size_t)least : SIZE_MAX;
}
