#define _GNU_SOURCE
#include "check.h"

#include "core/memory.h"
#include "core/system_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* How much memory there is, read off small copies of /proc and /sys, and what is refused. */

static char root[256];

static void write_file(const char *path, const char *text)
{
    char name[512];
    (void)snprintf(name, sizeof name, "%s%s", root, path);
    for (char *slash = strchr(name + strlen(root), '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(name, 0700);
        *slash = '/';
    }
    FILE *file = fopen(name, "w");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void clear(void)
{
    char command[sizeof root + 16];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", root);
    CHECK(system(command) == 0);
}

enum { MIB = 1 << 20 };

static const char *const meminfo = "MemTotal:       16384 kB\n"
                                   "MemFree:         1024 kB\n"
                                   "MemAvailable:    8192 kB\n"
                                   "SwapTotal:       4096 kB\n"
                                   "SwapFree:        2048 kB\n";

static void test_the_machine(void)
{
    CHECK(facs_system_memory(root) == SIZE_MAX); /* nothing to read */
    write_file("/proc/meminfo", "MemTotal: 16384 kB\n");
    CHECK(facs_system_memory(root) == SIZE_MAX);
    write_file("/proc/meminfo", meminfo);
    CHECK(facs_system_memory(root) == 10 * MIB);
    clear();
}

static void test_groups_of_version_2(void)
{
    write_file("/proc/meminfo", meminfo);
    write_file("/proc/self/cgroup", "0::/job/step\n");
    CHECK(facs_system_memory(root) == 10 * MIB);
    write_file("/sys/fs/cgroup/job/step/memory.max", "max\n");
    write_file("/sys/fs/cgroup/job/step/memory.current", "1000\n");
    CHECK(facs_system_memory(root) == 10 * MIB);
    write_file("/sys/fs/cgroup/job/memory.max", "7340032\n"); /* 7 MiB */
    write_file("/sys/fs/cgroup/job/memory.current", "5242880\n");
    CHECK(facs_system_memory(root) == 2 * MIB);
    write_file("/sys/fs/cgroup/job/memory.stat",
               "anon 1\nfile 3145728\ninactive_file 2097152\nactive_file 1048576\n");
    CHECK(facs_system_memory(root) == 5 * MIB);
    write_file("/sys/fs/cgroup/job/step/memory.max", "4096\n");
    write_file("/sys/fs/cgroup/job/step/memory.current", "8192\n");
    CHECK(facs_system_memory(root) == 0);
    clear();
}

/* In a container: the path is the host's, the folder at hand is the container's. */
static void test_groups_of_version_1(void)
{
    write_file("/proc/meminfo", meminfo);
    write_file("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/0123\n0::/\n");
    write_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4194304\n");
    write_file("/sys/fs/cgroup/memory/memory.usage_in_bytes", "2097152\n");
    write_file("/sys/fs/cgroup/memory/memory.stat",
               "cache 9\ninactive_file 7\ntotal_inactive_file 1048576\ntotal_active_file 0\n");
    CHECK(facs_system_memory(root) == 3 * MIB);
    write_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    CHECK(facs_system_memory(root) == 10 * MIB);
    clear();
}

/* Keeps a failure of this test from filling the machine; the sanitizer lives beyond it. */
#ifdef __SANITIZE_ADDRESS__
#    define MOST RLIM_INFINITY
#else
#    define MOST (1 << 30)
#endif

static void test_more_than_there_is(void)
{
    const size_t available = facs_system_memory("");
    const struct rlimit before = {RLIM_INFINITY, RLIM_INFINITY}, tight = {MOST, RLIM_INFINITY};
    void *block = root;

    if (available == SIZE_MAX) return;
    CHECK(setrlimit(RLIMIT_AS, &tight) == 0);
    CHECK_STATUS(facs_allocate_slab(&block, available + available / 4, "slab"), FACS_E_OOM);
    CHECK(block == NULL);
    CHECK(strstr(facs_last_message(), "MiB are available") != NULL);
    CHECK_STATUS(facs_allocate(&block, available / 4, 5, "table"), FACS_E_OOM);
    CHECK(block == NULL);
    CHECK(strstr(facs_last_message(), "MiB are available") != NULL);
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    CHECK_OK(facs_allocate_slab(&block, 65 << 20, "slab"));
    facs_free(block);
}

int main(void)
{
    check_temporary(root, sizeof root, "facs_memory_XXXXXX");
    CHECK(mkdtemp(root) != NULL);
    test_the_machine();
    test_groups_of_version_2();
    test_groups_of_version_1();
    test_more_than_there_is();
    return check_report("memory");
}
