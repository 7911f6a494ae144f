/* Winograd forward convolution and data gradient for CPUs; winograd_KxK.cl include it with a transform chosen. */
#ifndef WINOGRAD_GATHER_H
#define WINOGRAD_GATHER_H

#include "cpu/winograd_tile.h"
#include "winograd.h"

/* item = panel * channel groups + channel group */
KERNEL2(winograd_filter, struct winograd_filter_args, GLOBAL const float *weight, GLOBAL float *packed)
{
    const int groups = (arg.src_c + WINOGRAD_FILTER_CHANNELS - 1) / WINOGRAD_FILTER_CHANNELS;
    const int panel = item / groups, first_c = (item - panel * groups) * WINOGRAD_FILTER_CHANNELS;
    const int channels = i_min(WINOGRAD_FILTER_CHANNELS, arg.src_c - first_c);
    const int column = panel * NR, valid = i_min(NR, arg.dst_c - column);

    float g[9 * WINOGRAD_FILTER_CHANNELS * NR];
    for (int tap = 0; tap < 9; tap++) {
        GLOBAL const float *from = weight + (long)(arg.transposed ? 8 - tap : tap) * arg.src_c * arg.dst_c;
        float *to = g + tap * WINOGRAD_FILTER_CHANNELS * NR;
        for (int c = 0; c < channels; c++)
            for (int j = 0; j < NR; j++)
                to[c * NR + j] = 0.0f;
        if (arg.transposed) { /* the filter's rows are dst channels */
            for (int j = 0; j < valid; j++)
                for (int c = 0; c < channels; c++)
                    to[c * NR + j] = from[(long)(column + j) * arg.src_c + first_c + c];
        } else {
            for (int c = 0; c < channels; c++)
                for (int j = 0; j < valid; j++)
                    to[c * NR + j] = from[(long)(first_c + c) * arg.dst_c + column + j];
        }
    }
    GLOBAL float *out = packed + ((long)panel * WINOGRAD_POINTS * arg.src_c + first_c) * NR;
    for (int c = 0; c < channels; c++) {
        for (int side = 0; side < 2; side++) {
            lane rows[18], u[WINOGRAD_POINTS];
            const float *at = g + c * NR + side * LANES;
            for (int s = 0; s < 3; s++) {
                lane taps[3];
                for (int r = 0; r < 3; r++)
                    taps[r] = lane_load(at + (3 * r + s) * WINOGRAD_FILTER_CHANNELS * NR);
                FILTER_TRANSFORM(rows + s, 3, taps, 1)
            }
            for (int i = 0; i < 6; i++)
                FILTER_TRANSFORM(u + i * 6, 1, rows + i * 3, 1)
            for (int e = 0; e < WINOGRAD_POINTS; e++)
                lane_store(out + ((long)e * arg.src_c + c) * NR + side * LANES, u[e]);
        }
    }
}

/* item = slot. Scratch: V [point][block][channels, rounded up to LANES], then M [point][block][NR]. */
KERNEL5(winograd_conv2d, struct winograd_args, GLOBAL const float *src, GLOBAL const float *packed,
        GLOBAL const float *bias, GLOBAL float *dst, GLOBAL float *scratch)
{
    const int panels = (arg.dst_c + NR - 1) / NR;
    const int groups = (panels + arg.panels_per_task - 1) / arg.panels_per_task;
    const int depth = (arg.src_c + LANES - 1) / LANES * LANES;
    GLOBAL float *v = scratch + (long)item * arg.slot_floats;
    GLOBAL float *m = v + (long)WINOGRAD_POINTS * arg.block * depth;
    const long v_point = (long)arg.block * depth, m_point = (long)arg.block * NR;

    for (int task = item; task < arg.tasks; task += arg.slots) {
        const int tile0 = task / groups * arg.block, tiles = i_min(arg.block, arg.tiles - tile0);
        const int first_panel = task % groups * arg.panels_per_task;
        const int last_panel = i_min(first_panel + arg.panels_per_task, panels);

        for (int t = 0; t < tiles; t++) {
            const int tile = tile0 + t, tx = tile % arg.tiles_w, ty = tile / arg.tiles_w % arg.tiles_h;
            const int n = tile / arg.tiles_w / arg.tiles_h;
            transform_tile(src + (long)n * arg.src_h * arg.src_w * arg.src_c, arg.src_h, arg.src_w, arg.src_c,
                           ty * WINOGRAD_OUT - arg.pad_h, tx * WINOGRAD_OUT - arg.pad_w, 1, 0, arg.src_c, v + t * depth,
                           v_point);
        }
        /* The register tile takes MR rows: rows beyond the last are computed and thrown away, but never read unset. */
        for (int t = tiles; t < (tiles + MR - 1) / MR * MR; t++)
            for (int e = 0; e < WINOGRAD_POINTS; e++)
                for (int c = 0; c < depth; c++)
                    v[e * v_point + t * depth + c] = 0.0f;

        for (int panel = first_panel; panel < last_panel; panel++) {
            for (int e = 0; e < WINOGRAD_POINTS; e++) {
                GLOBAL const float *u = packed + ((long)panel * WINOGRAD_POINTS + e) * arg.src_c * NR;
                for (int t = 0; t < tiles; t += MR) {
                    GLOBAL const float *b = u;
                    GLOBAL float *out = m + e * m_point + t * NR;
#define BEGIN(i)                                                                                                       \
    GLOBAL const float *a##i = v + e * v_point + (t + i) * depth;                                                      \
    lane acc##i##0 = lane_splat(0.0f), acc##i##1 = acc##i##0;
                    ROWS(BEGIN)
                    for (int c = 0; c < arg.src_c; c++) {
                        const lane b0 = lane_load(b), b1 = lane_load(b + LANES);
                        b += NR;
#define STEP(i)                                                                                                        \
    {                                                                                                                  \
        const lane x = lane_splat(a##i[c]);                                                                            \
        acc##i##0 = lane_madd(x, b0, acc##i##0);                                                                       \
        acc##i##1 = lane_madd(x, b1, acc##i##1);                                                                       \
    }
                        ROWS(STEP)
                    }
#define END(i)                                                                                                         \
    lane_store(out + i * NR, acc##i##0);                                                                               \
    lane_store(out + i * NR + LANES, acc##i##1);
                    ROWS(END)
                }
            }
            for (int side = 0; side < 2; side++) {
                const int column = panel * NR + side * LANES, valid = arg.dst_c - column;
                if (valid <= 0)
                    break;
                const lane start = arg.has_bias ? load_some(bias + column, valid) : lane_splat(0.0f);
                for (int t = 0; t < tiles; t++) {
                    const int tile = tile0 + t, tx = tile % arg.tiles_w, ty = tile / arg.tiles_w % arg.tiles_h;
                    const int n = tile / arg.tiles_w / arg.tiles_h;
                    lane all[WINOGRAD_POINTS], rows[24];
                    for (int e = 0; e < WINOGRAD_POINTS; e++)
                        all[e] = lane_load(m + e * m_point + t * NR + side * LANES);
                    for (int j = 0; j < 6; j++)
                        OUTPUT_TRANSFORM(rows + j, 6, all + j, 6)
                    for (int i = 0; i < WINOGRAD_OUT; i++) {
                        const int y = ty * WINOGRAD_OUT + i, x = tx * WINOGRAD_OUT;
                        if (y >= arg.dst_h)
                            break;
                        lane o[WINOGRAD_OUT];
                        OUTPUT_TRANSFORM(o, 1, rows + i * 6, 1)
                        GLOBAL float *to = dst + ((long)(n * arg.dst_h + y) * arg.dst_w + x) * arg.dst_c + column;
                        for (int j = 0; j < WINOGRAD_OUT && x + j < arg.dst_w; j++)
                            store_some(to + (long)j * arg.dst_c, valid, lane_add(o[j], start));
                    }
                }
            }
        }
    }
}

#undef BEGIN
#undef STEP
#undef END

#endif
