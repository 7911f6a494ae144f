/* How long a plan's ops take, without its memory. Private. */
#ifndef LUN_GRAPH_MEASURE_H
#define LUN_GRAPH_MEASURE_H

#include <lunette/graph.h>

#include "device/driver.h"

/* One step of a plan. */
typedef struct lun_op_time {
    const char *kind;    /* the op's name */
    bool product;        /* a convolution, a matrix product or attention: its time goes with its FLOPs */
    double flops, bytes; /* of one run, direct method */
    double seconds;      /* NaN: not measured */
} lun_op_time;

typedef struct lun_measure_params {
    double seconds; /* begin no op after this much time, but the first */
    size_t memory;  /* most bytes of operands and workspace at a time */
    /* Called before each op that is timed, with how many of how many have been; non-zero: measure no more. NULL: none.
     */
    int (*progress)(void *payload, int done, int of);
    void *payload;
} lun_measure_params;

/* Time each different op of `plan`, which may be one of a shadow (device/shadow.h), on `dev`: alone, on made-up
 * numbers, by the candidate that the plan has, the dearest first. An update of the whole store is timed on a part of
 * it. What does not fit into the memory, and what the time does not suffice for, stays NaN. `times` has room for
 * lun_plan_get_info(plan).nodes. Each op runs at least twice, and the best but the first counts. */
lun_status lun_plan_measure(const lun_plan *plan, lun_device *dev, const lun_measure_params *params,
                            lun_op_time *times);
/* The table without any measuring. */
void lun_plan_list(const lun_plan *plan, lun_op_time *times);

#endif
