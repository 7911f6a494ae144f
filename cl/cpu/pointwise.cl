/* Convolution with 1x1 filters for CPUs: plain matrix products on the register tile, for OpenCL (one work-item a group)
 * and for C. What they compute, pointwise.h says.
 *
 * Forward and data gradient: the filter is packed into panels (conv2d_pack); a piece of a panel stays in the
 * first-level cache for all rows of an item. Rows are read where they lie.
 *
 * Weight gradient: both sides lie a pixel's channels apart, often a power of two, so some rows of the item's columns
 * are packed at a time: `big` in groups of LINES columns, [group][row][LINES], which stay in the second-level cache;
 * `small` panel by panel. The sum over rows goes in pieces of depth_block, in order.
 *
 * Macros: LANES (see lane.h). Limits: none; any channel count. */
#include "kernel.h"
#include "lane.h"
#include "pointwise.h"
#include "cpu/columns.h"

/* item = row block * panel groups + panel group */
KERNEL4(pointwise_rows, struct pointwise_args, GLOBAL const float *src, GLOBAL const float *packed,
        GLOBAL const float *bias, GLOBAL float *dst)
{
    const int panels = (arg.dst_c + NR - 1) / NR;
    const int groups = (panels + arg.panels_per_item - 1) / arg.panels_per_item;
    const int block = item / groups, first_panel = (item - block * groups) * arg.panels_per_item;
    const int last_panel = i_min(first_panel + arg.panels_per_item, panels);
    const int stream =
        PAIRS_ARE_LINES && arg.stream && arg.dst_c % NR == 0 && arg.dst_pitch % LINE_FLOATS == 0 && line_begins(dst);
    const int first_row = block * POINTWISE_ROWS, rows = i_min(POINTWISE_ROWS, arg.rows - first_row);
    for (int panel = first_panel; panel < last_panel; panel++) {
        const int column = panel * NR, valid = i_min(NR, arg.dst_c - column);
        GLOBAL const float *piece = packed + (long)panel * arg.src_c * NR;
        lane start0 = lane_splat(0.0f), start1 = start0;
        if (arg.has_bias)
            load_columns(bias + column, valid, &start0, &start1);
        for (int c0 = 0; c0 < arg.src_c; c0 += arg.depth_block) {
            const int count = i_min(arg.depth_block, arg.src_c - c0);
            for (int tile = 0; tile < rows; tile += MR) {
                const int last = i_min(MR, rows - tile) - 1; /* rows beyond it are computed as it, and not written */
                GLOBAL const float *a = src + (long)(first_row + tile) * arg.src_pitch + c0, *b = piece;
                GLOBAL const float *later = a + (long)(last + 1) * arg.src_pitch;
                GLOBAL float *out = dst + (long)(first_row + tile) * arg.dst_pitch + column;
#define BEGIN(i)                                                                                                       \
    GLOBAL const float *a##i = a + (long)i_min(i, last) * arg.src_pitch;                                               \
    lane acc##i##0 = start0, acc##i##1 = start1;                                                                       \
    if (c0 > 0)                                                                                                        \
        load_columns(out + (long)i_min(i, last) * arg.dst_pitch, valid, &acc##i##0, &acc##i##1);
                ROWS(BEGIN)
                for (int c = 0; c < count; c++) {
                    const lane b0 = lane_load(b), b1 = lane_load(b + LANES);
                    b += NR;
                    if (panel == first_panel)
                        lane_soon_read(later + (long)(c % MR) * arg.src_pitch + c / MR * 16);
#define STEP(i)                                                                                                        \
    {                                                                                                                  \
        const lane x = lane_splat(a##i[c]);                                                                            \
        acc##i##0 = lane_madd(x, b0, acc##i##0);                                                                       \
        acc##i##1 = lane_madd(x, b1, acc##i##1);                                                                       \
    }
                    ROWS(STEP)
                }
#define CLAMP(i)                                                                                                       \
    acc##i##0 = lane_relu(acc##i##0);                                                                                  \
    acc##i##1 = lane_relu(acc##i##1);
                if (arg.relu && c0 + count == arg.src_c) { /* the sum is complete */
                    ROWS(CLAMP)
                }
#define STORE(i)                                                                                                       \
    if (i <= last)                                                                                                     \
        store_columns(out + (long)i * arg.dst_pitch, valid, acc##i##0, acc##i##1);
#define STREAM(i)                                                                                                      \
    if (i <= last) {                                                                                                   \
        lane_stream(out + (long)i * arg.dst_pitch, acc##i##0);                                                         \
        lane_stream(out + (long)i * arg.dst_pitch + LANES, acc##i##1);                                                 \
    }
                if (stream && c0 + count == arg.src_c) {
                    ROWS(STREAM)
                } else {
                    ROWS(STORE)
                }
            }
            piece += (long)count * NR;
        }
    }
    if (stream)
        lane_stream_end();
}

/* Columns first .. first + count - 1 of `rows` rows to [group of LINES][row][LINES], a group having room for `room`
 * rows; columns from `exist` on are zero. */
static void pack_lines(GLOBAL const float *from, const int pitch, const int rows, const int count, const int exist,
                       GLOBAL float *to, const int room)
{
    for (int r = 0; r < rows; r++, from += pitch, to += LINES) {
        GLOBAL float *group = to;
        for (int c = 0; c < count; c += LINES, group += (long)room * LINES) {
            if (c + LINES <= exist) {
                for (int j = 0; j < LINES; j += LANES) {
                    lane_soon_read(from + 4l * pitch + c + j);
                    lane_store(group + j, lane_load(from + c + j));
                }
            } else {
                for (int j = 0; j < LINES; j++)
                    group[j] = c + j < exist ? from[c + j] : 0.0f;
            }
        }
    }
}

static void soon_rows(GLOBAL const float *from, const int pitch, const int begin, const int end, const int count)
{
    for (int r = begin; r < end; r++)
        for (int c = 0; c < count; c += 16)
            lane_soon_read(from + (long)r * pitch + c);
}

/* item = block of lines * panel groups + panel group. Scratch of an item: `big` packed, then a panel of `small`. */
KERNEL4(pointwise_wgrad, struct pointwise_wgrad_args, GLOBAL const float *big, GLOBAL const float *small,
        GLOBAL float *dweight, GLOBAL float *scratch)
{
    const int panels = (arg.small_c + NR - 1) / NR, groups = (panels + arg.panels - 1) / arg.panels;
    const int block = item / groups, first_panel = (item - block * groups) * arg.panels;
    const int last_panel = i_min(first_panel + arg.panels, panels);
    const int first_c = block * arg.lines, channels = i_min(arg.lines, arg.big_c - first_c);
    GLOBAL float *a = scratch + (long)item * (arg.lines + NR) * arg.depth_block;
    GLOBAL float *b = a + (long)arg.lines * arg.depth_block;
    const int share = ((channels + last_panel - first_panel - 1) / (last_panel - first_panel) + 15) / 16 * 16;

    for (int row0 = 0; row0 < arg.rows; row0 += arg.depth_block) {
        const int rows = i_min(arg.depth_block, arg.rows - row0);
        pack_lines(big + (long)row0 * arg.big_pitch + first_c, arg.big_pitch, rows, arg.lines, channels, a,
                   arg.depth_block);
        for (int panel = first_panel; panel < last_panel; panel++) {
            const int column = panel * NR, valid = i_min(NR, arg.small_c - column);
            GLOBAL const float *from = small + (long)row0 * arg.small_pitch + column;
            if (valid < NR) {
                for (int r = 0; r < rows; r++) {
                    lane v0, v1;
                    load_columns(from + (long)r * arg.small_pitch, valid, &v0, &v1);
                    lane_store(b + r * NR, v0);
                    lane_store(b + r * NR + LANES, v1);
                }
            }
            for (int c = 0, tile = 0; c < channels; c += MR, tile++) {
                /* What will be packed next is far away, in rows that no hardware foresees: a few of them are fetched
                 * before each tile. */
                const int tiles = (channels + MR - 1) / MR, next = panel + 1 < last_panel;
                const int begin = tile * rows / tiles, end = (tile + 1) * rows / tiles;
                soon_rows(small + (long)(next ? row0 : row0 + arg.depth_block) * arg.small_pitch +
                              (next ? column + NR : first_panel * NR),
                          arg.small_pitch, begin, end, NR);
                const int part = (panel - first_panel) * share;
                soon_rows(big + (long)(row0 + arg.depth_block) * arg.big_pitch + first_c + part, arg.big_pitch, begin,
                          end, i_min(share, channels - part));
                GLOBAL const float *x = a + (long)(c / LINES) * arg.depth_block * LINES + c % LINES;
                GLOBAL float *y = b;
                GLOBAL float *out = dweight + (long)(first_c + c) * arg.small_c + column;
                const int last = i_min(MR, channels - c) - 1;
#define OUTER_BEGIN(i) lane acc##i##0 = lane_splat(0.0f), acc##i##1 = acc##i##0;
                ROWS(OUTER_BEGIN)
#define OUTER_STEP(i)                                                                                                  \
    {                                                                                                                  \
        const lane v = lane_splat(x[i]);                                                                               \
        acc##i##0 = lane_madd(v, b0, acc##i##0);                                                                       \
        acc##i##1 = lane_madd(v, b1, acc##i##1);                                                                       \
    }
                if (c == 0 && valid == NR) { /* the panel is packed by the way */
                    for (int r = 0; r < rows; r++) {
                        const lane b0 = lane_load(from), b1 = lane_load(from + LANES);
                        lane_store(y, b0);
                        lane_store(y + LANES, b1);
                        from += arg.small_pitch;
                        y += NR;
                        ROWS(OUTER_STEP)
                        x += LINES;
                    }
                } else {
                    for (int r = 0; r < rows; r++) {
                        const lane b0 = lane_load(y), b1 = lane_load(y + LANES);
                        y += NR;
                        ROWS(OUTER_STEP)
                        x += LINES;
                    }
                }
                /* Pieces are summed on their own first: rounding grows with the longest sum. */
#define OUTER_END(i)                                                                                                   \
    if (i <= last) {                                                                                                   \
        if (row0 > 0) {                                                                                                \
            lane before0, before1;                                                                                     \
            load_columns(out + (long)i * arg.small_c, valid, &before0, &before1);                                      \
            acc##i##0 = lane_add(before0, acc##i##0);                                                                  \
            acc##i##1 = lane_add(before1, acc##i##1);                                                                  \
        }                                                                                                              \
        store_columns(out + (long)i * arg.small_c, valid, acc##i##0, acc##i##1);                                       \
    }
                ROWS(OUTER_END)
            }
        }
    }
}

#undef BEGIN
#undef STEP
#undef CLAMP
#undef STORE
#undef STREAM
#undef OUTER_BEGIN
#undef OUTER_STEP
#undef OUTER_END
