/* What the check device's driver (check.c) and its comparison (check_compare.c) share. */
#ifndef LUN_DEVICE_CHECK_PLAN_H
#define LUN_DEVICE_CHECK_PLAN_H

#include "device/check.h"
#include "device/driver.h"

typedef struct check_state {
    lun_device *a, *b;
    void (*observe)(void *payload, const lun_check_finding *finding); /* NULL: a difference is an error */
    void *payload;
} check_state;

typedef struct check_buffer {
    lun_buffer base;
    lun_buffer *a, *b;
} check_buffer;

typedef struct check_plan {
    lun_op_plan base;
    lun_op_plan *a, *b;
    lun_place src[LUN_OP_MAX_SRC], dst[LUN_OP_MAX_DST]; /* of check buffers */
    /* Room for the largest destination (twice) and the largest source, with what lies between their pixels. */
    float *host_a, *host_b, *host_src;
    double *x, *g, *scale; /* by channel: rms of source 0, of source 1, and the scale in use */
    char candidate[96];
} check_plan;

static inline lun_place on_a(lun_place place)
{
    return (lun_place){((check_buffer *)place.buffer)->a, place.offset};
}
static inline lun_place on_b(lun_place place)
{
    return (lun_place){((check_buffer *)place.buffer)->b, place.offset};
}

/* Look at the sources of an op that is about to run, as its bounds need them. *plain: the size that a sum of terms of
 * random sign has in it, S of check_compare.c; 0 where it has none. */
lun_status lun_check_sources(check_plan *plan, double *plain);
/* Hold destination d against each other, with both sides' in host memory; it is made dense there. `plain` is of
 * lun_check_sources(), `equal`: both have the same bits. LUN_ERR_DEVICE with what differs, unless the device has an
 * observer, who is told. */
lun_status lun_check_compare(check_plan *plan, int d, double plain, bool equal);

#endif
