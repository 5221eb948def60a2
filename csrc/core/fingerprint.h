#ifndef FACS_CORE_FINGERPRINT_H
#define FACS_CORE_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

/* count bytes in one number, to see whether they were written to: one changed word always
 * shows, more than one but for a chance of 2^-64. No defence against who means to deceive.
 * The number does not depend on the threads. */
uint64_t facs_fingerprint(const void *bytes, size_t count, int threads);

#endif
