#ifndef FACS_CORE_REAL_H
#define FACS_CORE_REAL_H

/* The number of the engine: float, or double when the reference kernels are built
 * for gradient checks (FACS_DOUBLE, tests only). */
#ifdef FACS_DOUBLE
typedef double facs_real;
#else
typedef float facs_real;
#endif

#endif
