/* What the files of this folder share about schedules. Private. */
#ifndef LUN_SCHEDULE_PRIVATE_H
#define LUN_SCHEDULE_PRIVATE_H

#include <lunette/diffusion.h>

#include "base/base.h"

/* Arrays of so many steps, uninitialised. */
lun_status lun_schedule_allocate(int steps, lun_schedule *out);
/* beta -> the rest but timestep */
void lun_schedule_derive(lun_schedule *schedule);

/* How x0 = a x + b m and eps = p x + q m follow from what a network predicts, m, of x at this abar. */
typedef struct lun_reading {
    double a, b, p, q;
} lun_reading;
lun_reading lun_reading_of(lun_prediction prediction, double abar);

#endif
