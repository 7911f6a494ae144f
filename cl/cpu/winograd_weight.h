/* Winograd weight gradient for CPUs; winograd_weight_KxK.cl include it with a transform chosen. */
#ifndef WINOGRAD_WEIGHT_H
#define WINOGRAD_WEIGHT_H

#include "cpu/winograd_tile.h"
#include "winograd_wgrad.h"

/* item = slot. Scratch: V [point][block][channels], W [point][block][columns], dU [point][channels][columns]. */
KERNEL4(winograd_wgrad, struct winograd_wgrad_args, GLOBAL const float *big, GLOBAL const float *small,
        GLOBAL float *dweight, GLOBAL float *scratch)
{
    const int panels = (arg.small_c + NR - 1) / NR;
    const int groups = (panels + arg.panels_per_task - 1) / arg.panels_per_task;
    const int columns = arg.panels_per_task * NR, lines = arg.channels_per_task;
    GLOBAL float *v = scratch + (long)item * arg.slot_floats;
    GLOBAL float *w = v + (long)WINOGRAD_POINTS * arg.block * lines;
    GLOBAL float *du = w + (long)WINOGRAD_POINTS * arg.block * columns;
    const long v_point = (long)arg.block * lines, w_point = (long)arg.block * columns, du_point = (long)lines * columns;

    for (int task = item; task < arg.tasks; task += arg.slots) {
        const int first_c = task / groups * lines, last_c = i_min(first_c + lines, arg.big_c);
        const int first_column = task % groups * columns, last_column = i_min(first_column + columns, arg.small_c);
        const int used_lines = (last_c - first_c + MR - 1) / MR * MR,
                  used_columns = (last_column - first_column + NR - 1) / NR * NR;
        /* Lines of V beyond the last channel are transformed from zeros by load_some, up to a whole lane; the rest is
         * set here. */
        for (int e = 0; e < WINOGRAD_POINTS; e++)
            for (int t = 0; t < arg.block; t++)
                for (int c = (last_c - first_c + LANES - 1) / LANES * LANES; c < used_lines; c++)
                    v[e * v_point + t * lines + c] = 0.0f;

        for (int tile0 = 0; tile0 < arg.tiles; tile0 += arg.block) {
            const int tiles = i_min(arg.block, arg.tiles - tile0);
            for (int t = 0; t < tiles; t++) {
                const int tile = tile0 + t, tx = tile % arg.tiles_w, ty = tile / arg.tiles_w % arg.tiles_h;
                const int n = tile / arg.tiles_w / arg.tiles_h;
                const int y0 = ty * WINOGRAD_OUT, x0 = tx * WINOGRAD_OUT;
                transform_tile(big + (long)n * arg.big_h * arg.big_w * arg.big_c, arg.big_h, arg.big_w, arg.big_c,
                               y0 - arg.pad_h, x0 - arg.pad_w, 1, first_c, last_c, v + t * lines, v_point);
                for (int k = 0; k < used_columns; k += LANES) {
                    lane y[16], rows[24], all[WINOGRAD_POINTS];
                    const int column = first_column + k;
                    for (int i = 0; i < WINOGRAD_OUT; i++) {
                        for (int j = 0; j < WINOGRAD_OUT; j++) {
                            const int inside = y0 + i < arg.small_h && x0 + j < arg.small_w && column < arg.small_c;
                            y[i * 4 + j] =
                                inside ? load_some(small +
                                                       ((long)(n * arg.small_h + y0 + i) * arg.small_w + x0 + j) *
                                                           arg.small_c +
                                                       column,
                                                   arg.small_c - column)
                                       : lane_splat(0.0f);
                        }
                    }
                    for (int j = 0; j < WINOGRAD_OUT; j++)
                        SMALL_TRANSFORM(rows + j, 4, y + j, 4)
                    for (int i = 0; i < 6; i++)
                        SMALL_TRANSFORM(all + i * 6, 1, rows + i * 4, 1)
                    for (int e = 0; e < WINOGRAD_POINTS; e++)
                        lane_store(w + e * w_point + t * columns + k, all[e]);
                }
            }
            for (int e = 0; e < WINOGRAD_POINTS; e++) {
                for (int k = 0; k < used_columns; k += NR) {
                    for (int c = 0; c < used_lines; c += MR) {
                        GLOBAL const float *a = v + e * v_point + c;
                        GLOBAL const float *b = w + e * w_point + k;
                        GLOBAL float *out = du + e * du_point + (long)c * columns + k;
#define OUTER_BEGIN(i)                                                                                                 \
    lane acc##i##0 = lane_splat(0.0f), acc##i##1 = acc##i##0;                                                          \
    if (tile0 > 0) {                                                                                                   \
        acc##i##0 = lane_load(out + i * columns);                                                                      \
        acc##i##1 = lane_load(out + i * columns + LANES);                                                              \
    }
                        ROWS(OUTER_BEGIN)
                        for (int t = 0; t < tiles; t++) {
                            const lane b0 = lane_load(b), b1 = lane_load(b + LANES);
#define OUTER_STEP(i)                                                                                                  \
    {                                                                                                                  \
        const lane x = lane_splat(a[i]);                                                                               \
        acc##i##0 = lane_madd(x, b0, acc##i##0);                                                                       \
        acc##i##1 = lane_madd(x, b1, acc##i##1);                                                                       \
    }
                            ROWS(OUTER_STEP)
                            a += lines;
                            b += columns;
                        }
#define OUTER_END(i)                                                                                                   \
    lane_store(out + i * columns, acc##i##0);                                                                          \
    lane_store(out + i * columns + LANES, acc##i##1);
                        ROWS(OUTER_END)
                    }
                }
            }
        }

        for (int c = first_c; c < last_c; c++) {
            for (int k = first_column; k < last_column; k += LANES) {
                GLOBAL const float *from = du + (long)(c - first_c) * columns + k - first_column;
                lane all[WINOGRAD_POINTS], rows[18], o[3];
                for (int e = 0; e < WINOGRAD_POINTS; e++)
                    all[e] = lane_load(from + e * du_point);
                for (int j = 0; j < 6; j++)
                    GRADIENT_TRANSFORM(rows + j, 6, all + j, 6)
                for (int i = 0; i < 3; i++) {
                    GRADIENT_TRANSFORM(o, 1, rows + i * 6, 1)
                    for (int j = 0; j < 3; j++)
                        store_some(dweight + ((long)(i * 3 + j) * arg.big_c + c) * arg.small_c + k, arg.small_c - k,
                                   o[j]);
                }
            }
        }
    }
}

#undef OUTER_BEGIN
#undef OUTER_STEP
#undef OUTER_END

#endif
