/* Moments of Winograd's results, tile by tile: only `high` x `wide` pixels of a tile exist. */
#ifndef WINOGRAD_MOMENTS_H
#define WINOGRAD_MOMENTS_H

#include "cpu/moments.h"
#include "cpu/winograd_tile.h"

/* How many of a tile's WINOGRAD_OUT pixels from `first` on, `step` apart, lie before `end`. */
static int tile_extent(const int first, const int step, const int end)
{
    return i_max(0, i_min(WINOGRAD_OUT, (end - first + step - 1) / step));
}

/* The mean of a tile, from which others are compared. rows: transformed back in one dimension. */
static lane tile_mean(const lane *rows, const lane start, const int relu, const int high, const int wide)
{
    lane sum = lane_splat(0.0f);
    for (int i = 0; i < high; i++) {
        lane o[WINOGRAD_OUT];
        OUTPUT_TRANSFORM(o, 1, rows + i * WINOGRAD_SIDE, 1)
        for (int j = 0; j < wide; j++) {
            const lane value = lane_add(o[j], start);
            sum = lane_add(sum, relu ? lane_relu(value) : value);
        }
    }
    return lane_mul(sum, lane_splat(1.0f / (float)i_max(1, high * wide)));
}

/* One row of a tile, `wide` > 0. Rows add up on their own, so that they need not wait for each other. */
static void tile_add(const lane *o, const int wide, const lane centre, lane *sum, lane *square)
{
    const lane first = lane_sub(o[0], centre);
    lane row_sum = first, row_square = lane_mul(first, first);
    if (wide == WINOGRAD_OUT) {
        UNROLLED
        for (int j = 1; j < WINOGRAD_OUT; j++) {
            const lane d = lane_sub(o[j], centre);
            row_sum = lane_add(row_sum, d);
            row_square = lane_madd(d, d, row_square);
        }
    } else {
        UNROLLED
        for (int j = 1; j < WINOGRAD_OUT; j++) {
            if (j < wide) {
                const lane d = lane_sub(o[j], centre);
                row_sum = lane_add(row_sum, d);
                row_square = lane_madd(d, d, row_square);
            }
        }
    }
    *sum = lane_add(*sum, row_sum);
    *square = lane_add(*square, row_square);
}

#endif
