/* Moments (norm.h) of what a kernel for CPUs computes, while it has it in registers or the nearest cache; a lane of
 * channels at a time. How exact they are is said in norm.cl. */
#ifndef MOMENTS_H
#define MOMENTS_H

#include "lane.h"
#include "norm.h"

/* Leave those of `count` values, of which `sum` and `square` have added up d and d^2, d = value - centre. Without any,
 * all three are 0. */
static void moments_leave(GLOBAL float *moments, const int stride, const int count, const lane centre, const lane sum,
                          const lane square)
{
    const lane off = lane_mul(sum, lane_splat(1.0f / (float)i_max(count, 1)));
    const lane m2 = lane_sub(square, lane_mul(sum, off));
    lane_store(moments, lane_splat((float)count));
    lane_store(moments + stride, lane_add(centre, off));
    lane_store(moments + 2 * (long)stride, lane_relu(m2)); /* not below 0; NaN stays NaN */
}

#endif
