#ifndef FACS_CORE_SYSTEM_MEMORY_H
#define FACS_CORE_SYSTEM_MEMORY_H

#include <stddef.h>

/* Bytes that this process could still fill: what the machine has to spare, or what is left
 * of the limit of a control group (version 1 or 2) it is in, where that is less. SIZE_MAX
 * where the system does not say. `root` stands before every path: "" outside of tests. */
size_t facs_system_memory(const char *root);

#endif
