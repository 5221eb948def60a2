#ifndef FACS_CORE_CLOCK_H
#define FACS_CORE_CLOCK_H

/* Seconds of a clock that never goes back, from an arbitrary start. */
double facs_clock_seconds(void);

#endif
