/* The private side of the check device.
 *
 * Its candidates are named "X|Y": X on A and Y on B; "X" alone: on both. A side whose name is empty makes its own
 * choice; "?X" is X where that side takes it for the op, and its own choice elsewhere. "~" on A is the first of its
 * candidates that is another than B's, or its own choice where there is none. */
#ifndef LUN_CHECK_H
#define LUN_CHECK_H

#include "device/driver.h"

/* A (0) or B (1). Owned by the check device. For tests: they change caps, so that one machine tries what others do. */
lun_device *lun_check_side(const lun_device *dev, int which);

/* What the comparison of one destination found. */
typedef struct lun_check_finding {
    const lun_op *op;
    const char *candidate_a, *candidate_b; /* static */
    int dst;
    /* The largest difference over what rounding may do there: 0 for equal bits, up to 1 right, above 1 wrong; infinite
     * where nothing may differ, or where one side has no number. */
    double share;
    const char *detail; /* of a wrong one, one line; else NULL. Gone when the call returns. */
} lun_check_finding;

/* From now on a difference does not fail: every comparison is handed to `observe` instead. */
void lun_check_observe(lun_device *dev, void (*observe)(void *payload, const lun_check_finding *finding),
                       void *payload);

#endif
