/* Convolution for CPUs: packed panels and a register tile, for OpenCL (one work-item a group) and for C.
 *
 * dst (rows x dst_c) = gathered src (rows x taps src_c) times filter (taps src_c x dst_c), an implicit matrix product:
 * an item owns CONV2D_ROW_BLOCK destination pixels and some panels of 2 LANES output channels. For each panel it walks
 * the depth (taps x input channels) in blocks that keep the panel in the first-level cache, and for each block every
 * tile of MR pixels: MR x 2 accumulators, one broadcast of a source value and two loads of the panel a multiply-add
 * pair. Source rows are read where they lie (channels last makes them contiguous), so there is no im2col.
 *
 * The weight gradient is the outer product form of the same tile: MR input channels by 2 LANES output channels,
 * accumulated over pixels; an item owns its part of dW and walks all pixels in order, so the sum's order is fixed by
 * the shape.
 *
 * Macros: LANES (see lane.h). Limits: none; any channel count, stride, padding. */
#include "kernel.h"
#include "lane.h"
#include "conv2d.h"
#include "cpu/column_moments.h"

/* item = panel * taps + tap */
KERNEL2(conv2d_pack, struct conv2d_pack_args, GLOBAL const float *weight, GLOBAL float *packed)
{
    const int panel = item / arg.taps, tap = item - panel * arg.taps;
    const int first = panel * arg.width, valid = i_min(arg.width, arg.dst_c - first);
    GLOBAL const float *from = weight + (long)tap * arg.src_c * arg.dst_c;
    GLOBAL float *to = packed + (long)item * arg.src_c * arg.width;
    for (int c = 0; c < arg.src_c; c++) {
        if (arg.transposed) { /* the filter's rows are dst channels */
            for (int j = 0; j < valid; j++)
                to[j] = from[(long)(first + j) * arg.src_c + c];
        } else {
            for (int j = 0; j < valid; j++)
                to[j] = from[(long)c * arg.dst_c + first + j];
        }
        for (int j = valid; j < arg.width; j++)
            to[j] = 0.0f;
        to += arg.width;
    }
    if (item == 0) {
        GLOBAL float *zeros =
            packed + (long)((arg.dst_c + arg.width - 1) / arg.width) * arg.taps * arg.src_c * arg.width;
        for (int c = 0; c < arg.src_c; c++)
            zeros[c] = 0.0f;
    }
}

/* item = row block * panel groups + panel group */
KERNEL5(conv2d_panel, struct conv2d_gather_args, GLOBAL const float *src, GLOBAL const float *packed,
        GLOBAL const float *bias, GLOBAL float *dst, GLOBAL float *moments)
{
    const int panels = (arg.dst_c + NR - 1) / NR;
    const int groups = (panels + arg.panels_per_item - 1) / arg.panels_per_item;
    const int block = item / groups;
    const int first_panel = (item - block * groups) * arg.panels_per_item;
    const int last_panel = i_min(first_panel + arg.panels_per_item, panels);
    const int first_row = block * CONV2D_ROW_BLOCK;
    const int rows = i_min(CONV2D_ROW_BLOCK, arg.rows - first_row);
    const int taps = arg.kernel_h * arg.kernel_w;
    GLOBAL const float *zeros = packed + (long)panels * taps * arg.src_c * NR;

    /* Where each row reads (before a tap's offset) and writes. Rows beyond the last read zeros and write nothing. */
    int row_y[CONV2D_ROW_BLOCK], row_x[CONV2D_ROW_BLOCK], row_base[CONV2D_ROW_BLOCK], row_dst[CONV2D_ROW_BLOCK];
    int gx = first_row % arg.grid_w, gy = first_row / arg.grid_w % arg.grid_h, n = first_row / arg.grid_w / arg.grid_h;
    for (int i = 0; i < CONV2D_ROW_BLOCK; i++) {
        row_y[i] = i < rows ? gy * arg.src_step_h + arg.off_h : -0x40000000;
        row_x[i] = gx * arg.src_step_w + arg.off_w;
        row_base[i] = n * arg.src_h * arg.src_w;
        row_dst[i] =
            (n * arg.dst_h + gy * arg.dst_step_h + arg.dst_first_h) * arg.dst_w + gx * arg.dst_step_w + arg.dst_first_w;
        if (++gx == arg.grid_w) {
            gx = 0;
            if (++gy == arg.grid_h) {
                gy = 0;
                n++;
            }
        }
    }

    /* Depth blocks: several whole taps, or a part of one. */
    const int depth = i_min(arg.src_c, CONV2D_DEPTH_BLOCK);
    const int phase_taps = arg.taps_h * arg.taps_w;
    const int taps_per_block = arg.src_c < CONV2D_DEPTH_BLOCK ? CONV2D_DEPTH_BLOCK / arg.src_c : 1;

    for (int panel = first_panel; panel < last_panel; panel++) {
        const int column = panel * NR, valid = i_min(NR, arg.dst_c - column);
        GLOBAL const float *panel_base = packed + (long)panel * taps * arg.src_c * NR;
        lane start0 = lane_splat(0.0f), start1 = start0;
        if (arg.has_bias)
            load_columns(bias + column, valid, &start0, &start1);
        int tap0 = 0, c0 = 0, begun = 0;
        do {
            const int tap1 = i_min(tap0 + taps_per_block, phase_taps), c1 = i_min(c0 + depth, arg.src_c);
            for (int tile = 0; tile < rows; tile += MR) {
                GLOBAL float *out[MR];
                for (int i = 0; i < MR; i++)
                    out[i] = dst + (long)row_dst[tile + i] * arg.dst_pitch + column;
#define DECLARE(i)                                                                                                     \
    lane acc##i##0 = start0, acc##i##1 = start1;                                                                       \
    if (begun && tile + i < rows)                                                                                      \
        load_columns(out[i], valid, &acc##i##0, &acc##i##1);
                ROWS(DECLARE)
                for (int tap = tap0; tap < tap1; tap++) {
                    const int ti = tap / arg.taps_w, tj = tap - ti * arg.taps_w;
                    const int dy = ti * arg.off_step_h, dx = tj * arg.off_step_w;
                    const int filter_tap =
                        (arg.first_r + ti * arg.step_r) * arg.kernel_w + arg.first_s + tj * arg.step_s;
                    GLOBAL const float *b = panel_base + ((long)filter_tap * arg.src_c + c0) * NR;
#define LOCATE(i)                                                                                                      \
    const int y##i = row_y[tile + i] + dy, x##i = row_x[tile + i] + dx;                                                \
    GLOBAL const float *a##i = (uint)y##i < (uint)arg.src_h && (uint)x##i < (uint)arg.src_w                            \
                                   ? src + (long)(row_base[tile + i] + y##i * arg.src_w + x##i) * arg.src_pitch + c0   \
                                   : zeros;
                    ROWS(LOCATE)
                    for (int c = 0; c < c1 - c0; c++) {
                        const lane b0 = lane_load(b), b1 = lane_load(b + LANES);
                        b += NR;
#define ACCUMULATE(i)                                                                                                  \
    {                                                                                                                  \
        const lane x = lane_splat(a##i[c]);                                                                            \
        acc##i##0 = lane_madd(x, b0, acc##i##0);                                                                       \
        acc##i##1 = lane_madd(x, b1, acc##i##1);                                                                       \
    }
                        ROWS(ACCUMULATE)
                    }
                }
#define CLAMP(i)                                                                                                       \
    acc##i##0 = lane_relu(acc##i##0);                                                                                  \
    acc##i##1 = lane_relu(acc##i##1);
                if (arg.relu && c1 == arg.src_c && tap1 >= phase_taps) { /* the sum is complete */
                    ROWS(CLAMP)
                }
#define STORE(i)                                                                                                       \
    if (tile + i < rows)                                                                                               \
        store_columns(out[i], valid, acc##i##0, acc##i##1);
                ROWS(STORE)
            }
            begun = 1;
            if (c1 < arg.src_c) {
                c0 = c1;
            } else {
                c0 = 0;
                tap0 = tap1;
            }
        } while (tap0 < phase_taps);
        if (arg.moments)
            leave_moments(dst + column, row_dst, rows, arg.dst_pitch, valid,
                          moments + 3 * (long)arg.moments * (arg.first_moments + block) + column, arg.moments);
    }
}

/* item = channel block * panels + panel */
KERNEL3(conv2d_wgrad_panel, struct conv2d_wgrad_args, GLOBAL const float *big, GLOBAL const float *small,
        GLOBAL float *dweight)
{
    const int panels = (arg.small_c + NR - 1) / NR;
    const int block = item / panels, panel = item - block * panels;
    const int column = panel * NR, valid = i_min(NR, arg.small_c - column);
    const int first_c = block * arg.channels_per_item, last_c = i_min(first_c + arg.channels_per_item, arg.big_c);

    float packed[CONV2D_WGRAD_ROWS * NR];                                                /* this panel of `small` */
    int row_y[CONV2D_WGRAD_ROWS], row_x[CONV2D_WGRAD_ROWS], row_base[CONV2D_WGRAD_ROWS]; /* in `big`, for tap (0, 0) */
    int from[CONV2D_WGRAD_ROWS], with[CONV2D_WGRAD_ROWS]; /* rows that a tap really has, of both */

    int ox = 0, oy = 0, n = 0;
    for (int row0 = 0; row0 < arg.rows; row0 += CONV2D_WGRAD_ROWS) {
        const int rows = i_min(CONV2D_WGRAD_ROWS, arg.rows - row0);
        for (int i = 0; i < rows; i++) {
            GLOBAL const float *p = small + (long)(row0 + i) * arg.small_pitch + column;
            for (int j = 0; j < NR; j++)
                packed[i * NR + j] = j < valid ? p[j] : 0.0f;
            row_y[i] = oy * arg.stride_h - arg.pad_h;
            row_x[i] = ox * arg.stride_w - arg.pad_w;
            row_base[i] = n * arg.big_h * arg.big_w;
            if (++ox == arg.small_w) {
                ox = 0;
                if (++oy == arg.small_h) {
                    oy = 0;
                    n++;
                }
            }
        }
        for (int r = 0; r < arg.kernel_h; r++) {
            for (int s = 0; s < arg.kernel_w; s++) {
                int used = 0;
                for (int i = 0; i < rows; i++) {
                    const int y = row_y[i] + r, x = row_x[i] + s;
                    if ((uint)y < (uint)arg.big_h && (uint)x < (uint)arg.big_w) {
                        from[used] = (row_base[i] + y * arg.big_w + x) * arg.big_pitch;
                        with[used++] = i * NR;
                    }
                }
                for (int c = first_c; c < last_c; c += MR) {
                    GLOBAL float *out = dweight + ((long)(r * arg.kernel_w + s) * arg.big_c + c) * arg.small_c + column;
                    const int channels = i_min(MR, last_c - c);
                    GLOBAL const float *base = big + c;
#define BEGIN(i)                                                                                                       \
    const int o##i = i_min(i, channels - 1);                                                                           \
    lane acc##i##0 = lane_splat(0.0f), acc##i##1 = acc##i##0;                                                          \
    if (row0 > 0 && i < channels)                                                                                      \
        load_columns(out + (long)i * arg.small_c, valid, &acc##i##0, &acc##i##1);
                    ROWS(BEGIN)
                    for (int k = 0; k < used; k++) {
                        GLOBAL const float *a = base + from[k];
                        const lane b0 = lane_load(packed + with[k]), b1 = lane_load(packed + with[k] + LANES);
#define OUTER(i)                                                                                                       \
    {                                                                                                                  \
        const lane x = lane_splat(a[o##i]);                                                                            \
        acc##i##0 = lane_madd(x, b0, acc##i##0);                                                                       \
        acc##i##1 = lane_madd(x, b1, acc##i##1);                                                                       \
    }
                        ROWS(OUTER)
                    }
#define END(i)                                                                                                         \
    if (i < channels)                                                                                                  \
        store_columns(out + (long)i * arg.small_c, valid, acc##i##0, acc##i##1);
                    ROWS(END)
                }
            }
        }
    }
}

#undef DECLARE
#undef LOCATE
#undef ACCUMULATE
#undef STORE
#undef CLAMP
#undef BEGIN
#undef OUTER
#undef END
