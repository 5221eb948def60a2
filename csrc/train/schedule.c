#include "train/schedule.h"

#include <math.h>

static double after_warmup(const facs_schedule *s, double epoch, const facs_plateau *plateau)
{
    const double length = s->epochs - s->warmup;
    const double done = length > 0 ? fmin(fmax((epoch - s->warmup) / length, 0), 1) : 1;

    switch (s->kind) {
    case FACS_SCHEDULE_STEP:
        return pow(s->factor, floor(epoch / s->period));
    case FACS_SCHEDULE_COSINE:
        return s->factor + (1 - s->factor) * 0.5 * (1 + cos(3.141592653589793 * done));
    case FACS_SCHEDULE_PLATEAU:
        return plateau->factor;
    case FACS_SCHEDULE_CONSTANT:
    case FACS_SCHEDULE_COUNT:
        break;
    }
    return 1;
}

double facs_schedule_factor(const facs_schedule *s, double epoch, const facs_plateau *plateau)
{
    const double rise = s->warmup > 0 && epoch < s->warmup ? epoch / s->warmup : 1;
    return rise * after_warmup(s, epoch, plateau);
}

void facs_plateau_observe(facs_plateau *plateau, const facs_schedule *s, double score)
{
    if (score > plateau->best) {
        plateau->best = score;
        plateau->waited = 0;
        return;
    }
    if (++plateau->waited >= s->period) {
        plateau->factor *= s->factor;
        plateau->waited = 0;
    }
}
