/* Moments of what a panel has just been written to. */
#ifndef COLUMN_MOMENTS_H
#define COLUMN_MOMENTS_H

#include "cpu/columns.h"
#include "cpu/moments.h"

/* Moments of a panel's columns in the rows (pixels) of image that `row` lists, which the caches still have. */
static void leave_moments(GLOBAL const float *image, const int *row, const int rows, const int pitch, const int valid,
                          GLOBAL float *moments, const int stride)
{
    const int pilot = i_min(rows, NORM_PILOT);
    const lane zero = lane_splat(0.0f), share = lane_splat(1.0f / (float)pilot);
    lane x0, x1, centre0 = zero, centre1 = zero, sum0 = zero, sum1 = zero, square0 = zero, square1 = zero;
    for (int i = 0; i < pilot; i++) {
        load_columns(image + (long)row[i] * pitch, valid, &x0, &x1);
        centre0 = lane_add(centre0, x0);
        centre1 = lane_add(centre1, x1);
    }
    centre0 = lane_mul(centre0, share);
    centre1 = lane_mul(centre1, share);
    for (int i = 0; i < rows; i++) {
        load_columns(image + (long)row[i] * pitch, valid, &x0, &x1);
        const lane d0 = lane_sub(x0, centre0), d1 = lane_sub(x1, centre1);
        sum0 = lane_add(sum0, d0);
        sum1 = lane_add(sum1, d1);
        square0 = lane_madd(d0, d0, square0);
        square1 = lane_madd(d1, d1, square1);
    }
    moments_leave(moments, stride, rows, centre0, sum0, square0);
    moments_leave(moments + LANES, stride, rows, centre1, sum1, square1);
}

#endif
