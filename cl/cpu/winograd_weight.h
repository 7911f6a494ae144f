/* Winograd weight gradient for CPUs (winograd_wgrad.h says what it computes and how scratch lies);
 * winograd_weight_OxO_TxT.cl include it with a transform chosen.
 *
 * Wide maps, few channels: in rounds of tiles, whose V and W stay in the last-level cache; each round transforms, then
 * adds its product to a dU that is kept for all channels; after the last round dU becomes dW. Deep layers, few tiles:
 * all V and W at once, then tasks that keep their piece of dU for themselves and turn it into dW at once. */
#ifndef WINOGRAD_WEIGHT_H
#define WINOGRAD_WEIGHT_H

#include "cpu/winograd_tile.h"
#include "winograd_wgrad.h"

/* Floats of a point's part of V, W and dU. */
#define V_POINT                  ((long)arg.room * arg.lines + WINOGRAD_SKEW)
#define W_POINT                  ((long)arg.room * NR + WINOGRAD_SKEW)
#define DU_POINT(lines, columns) ((long)(lines) * (columns) + WINOGRAD_SKEW)

static void tile_of_small(GLOBAL const float *picture, const struct winograd_wgrad_args arg, const int y0, const int x0,
                          GLOBAL float *w, const int stream)
{
    const int inside = y0 + WINOGRAD_OUT <= arg.small_h && x0 + WINOGRAD_OUT <= arg.small_w;
    for (int panel = 0; panel < arg.panels; panel++) {
        for (int k = 0; k < NR; k += LANES) {
            const int left = arg.small_c - panel * NR - k;
            GLOBAL const float *from = picture + ((long)y0 * arg.small_w + x0) * arg.small_pitch + panel * NR + k;
            lane rows[WINOGRAD_SIDE * WINOGRAD_OUT], y[WINOGRAD_OUT], all[WINOGRAD_SIDE];
            for (int j = 0; j < WINOGRAD_OUT; j++) {
                if (inside && left >= LANES) {
                    for (int i = 0; i < WINOGRAD_OUT; i++)
                        y[i] = lane_load(from + ((long)i * arg.small_w + j) * arg.small_pitch);
                } else {
                    for (int i = 0; i < WINOGRAD_OUT; i++)
                        y[i] = y0 + i < arg.small_h && x0 + j < arg.small_w && left > 0
                                   ? load_some(from + ((long)i * arg.small_w + j) * arg.small_pitch, left)
                                   : lane_splat(0.0f);
                }
                SMALL_TRANSFORM(rows + j, WINOGRAD_OUT, y, 1)
            }
            for (int i = 0; i < WINOGRAD_SIDE; i++) {
                SMALL_TRANSFORM(all, 1, rows + i * WINOGRAD_OUT, 1)
                for (int j = 0; j < WINOGRAD_SIDE; j++)
                    lane_leave(w + (i * WINOGRAD_SIDE + j) * W_POINT + k, all[j], stream);
            }
        }
        w += WINOGRAD_POINTS * W_POINT;
    }
}

/* The pixels high x wide from (y0, x0) on, which the next tile reads, start on their way from memory. */
static void soon(GLOBAL const float *picture, const int height, const int width, const int depth, const int pitch,
                 const int y0, const int x0, const int high, const int wide)
{
    const int first = i_max(x0, 0), pixels = i_min(x0 + wide, width) - first, dense = pitch == depth;
    const int runs = dense ? 1 : pixels, run = dense ? pixels * depth : depth;
    for (int y = i_max(y0, 0); y < i_min(y0 + high, height); y++) {
        for (int x = first; x < first + runs; x++) {
            GLOBAL const float *p = picture + ((long)y * width + x) * pitch;
            for (int c = 0; c < run; c += 16)
                lane_soon_read(p + c);
        }
    }
}

/* Where a tile lies. */
struct position {
    int n, y, x; /* picture, and pixel of `small` */
};

static struct position position_of(const struct winograd_wgrad_args arg, const int tile)
{
    struct position p;
    p.x = tile % arg.tiles_w * WINOGRAD_OUT;
    p.y = tile / arg.tiles_w % arg.tiles_h * WINOGRAD_OUT;
    p.n = tile / arg.tiles_w / arg.tiles_h;
    return p;
}

static void tile_of_big(GLOBAL const float *picture, const struct winograd_wgrad_args arg, const struct position p,
                        GLOBAL float *v, const int stream)
{
    const int a_phase = arg.blocks / (arg.stride * arg.stride);
    for (int block = 0; block < arg.blocks; block++) {
        const int phase = block / a_phase, first = (block - phase * a_phase) * arg.lines;
        const int last = i_min(first + arg.lines, arg.big_c);
        GLOBAL float *to = v + block * WINOGRAD_POINTS * V_POINT;
        for (int c = first; c < last; c += LINES, to += (long)arg.room * LINES) {
            const int end = i_min(c + LINES, last);
            transform_tile(picture, arg.big_h, arg.big_w, arg.big_c, arg.big_pitch,
                           p.y * arg.stride - arg.pad_h + phase / arg.stride,
                           p.x * arg.stride - arg.pad_w + phase % arg.stride, arg.stride, c, end, to, V_POINT, stream);
            /* Lanes are whole by now; tiles of MR lines must be too. */
            for (int k = (end - c + LANES - 1) / LANES * LANES; k < (end - c + MR - 1) / MR * MR; k++)
                for (int e = 0; e < WINOGRAD_POINTS; e++)
                    to[e * V_POINT + k] = 0.0f;
        }
    }
}

/* item = run of WINOGRAD_RUN tiles of the round * 2 + which: 0 transforms `big`, 1 `small` */
KERNEL4(winograd_wgrad_tiles, struct winograd_wgrad_args, GLOBAL const float *big, GLOBAL const float *small,
        GLOBAL float *v, GLOBAL float *w)
{
    const int first = item / 2 * WINOGRAD_RUN, last = i_min(first + WINOGRAD_RUN, arg.tiles);
    const long big_picture = (long)arg.big_h * arg.big_w * arg.big_pitch;
    const long small_picture = (long)arg.small_h * arg.small_w * arg.small_pitch;
    const int stream = LANES_ARE_LINES && arg.stream && line_begins(v) && line_begins(w);
    for (int t = first; t < last; t++) {
        const struct position p = position_of(arg, arg.first_tile + t);
        const struct position next = position_of(arg, arg.first_tile + i_min(t + 1, last - 1));
        if (item & 1) {
            soon(small + next.n * small_picture, arg.small_h, arg.small_w, arg.small_c, arg.small_pitch, next.y, next.x,
                 WINOGRAD_OUT, WINOGRAD_OUT);
            tile_of_small(small + p.n * small_picture, arg, p.y, p.x, w + (long)t * NR, stream);
        } else {
            if (next.x == 0) /* what lies further on in the row, transform_tile fetches */
                soon(big + next.n * big_picture, arg.big_h, arg.big_w, arg.big_c, arg.big_pitch,
                     next.y * arg.stride - arg.pad_h, -arg.pad_w, WINOGRAD_SIDE * arg.stride,
                     WINOGRAD_SIDE * arg.stride);
            tile_of_big(big + p.n * big_picture, arg, p, v + (long)t * LINES, stream);
        }
    }
    if (stream)
        lane_stream_end();
}

/* A part of dU: lines of one block of V by columns of some panels of W, that is of dW's channels and columns. */
struct part {
    int block, line, lines;
    int panel, panels;
};

/* One point of a part of dU with all lines of its block, rows of `columns` floats: V' W of this round, or dU + V' W. */
static void multiply(GLOBAL const float *v, GLOBAL const float *w, GLOBAL float *du, const int columns,
                     const struct winograd_wgrad_args arg, const struct part part, const int point)
{
    v += (part.block * WINOGRAD_POINTS + point) * V_POINT;
    w += (part.panel * WINOGRAD_POINTS + point) * W_POINT;
    for (int panel = 0; panel < part.panels; panel++) {
        for (int c = 0; c < part.lines; c += MR) {
            GLOBAL const float *a = v + (long)(c / LINES) * arg.room * LINES + c % LINES, *b = w;
            GLOBAL float *out = du + (long)c * columns + panel * NR;
            if (arg.begun) { /* what is added at last comes from a far cache, rows that no hardware foresees */
                for (int i = 0; i < MR; i++)
                    for (int j = 0; j < NR; j += 16)
                        lane_soon_read(out + i * columns + j);
            }
#define OUTER_BEGIN(i) lane acc##i##0 = lane_splat(0.0f), acc##i##1 = acc##i##0;
            ROWS(OUTER_BEGIN)
            for (int t = 0; t < arg.tiles; t++) {
                const lane b0 = lane_load(b), b1 = lane_load(b + LANES);
#define OUTER_STEP(i)                                                                                                  \
    {                                                                                                                  \
        const lane x = lane_splat(a[i]);                                                                               \
        acc##i##0 = lane_madd(x, b0, acc##i##0);                                                                       \
        acc##i##1 = lane_madd(x, b1, acc##i##1);                                                                       \
    }
                ROWS(OUTER_STEP)
                a += LINES;
                b += NR;
            }
            /* Rounds are summed on their own first: rounding grows with the longest sum. */
#define OUTER_MORE(i)                                                                                                  \
    acc##i##0 = lane_add(lane_load(out + i * columns), acc##i##0);                                                     \
    acc##i##1 = lane_add(lane_load(out + i * columns + LANES), acc##i##1);
            if (arg.begun) {
                ROWS(OUTER_MORE)
            }
#define OUTER_END(i)                                                                                                   \
    lane_store(out + i * columns, acc##i##0);                                                                          \
    lane_store(out + i * columns + LANES, acc##i##1);
            ROWS(OUTER_END)
        }
        w += WINOGRAD_POINTS * W_POINT;
    }
}

/* A part's dU, points `du_point` apart, to dW. A deep layer's dW is larger than the caches and its taps lie a multiple
 * of every cache's size apart, so its lanes are streamed where they are whole. */
static void gradient(GLOBAL const float *du, const int columns, const long du_point, GLOBAL float *dweight,
                     const struct winograd_wgrad_args arg, const struct part part)
{
    const int a_phase = arg.blocks / (arg.stride * arg.stride), phase = part.block / a_phase;
    const int size = WINOGRAD_TAPS * arg.stride;
    const int first_c = (part.block - phase * a_phase) * arg.lines + part.line, column = part.panel * NR;
    const int channels = i_min(part.lines, arg.big_c - first_c), width = i_min(part.panels * NR, arg.small_c - column);
    const long tap = (long)arg.big_c * arg.small_c;
    dweight += (phase / arg.stride * size + phase % arg.stride) * tap + (long)first_c * arg.small_c + column;
    const int stream = LANES_ARE_LINES && arg.small_c % LANES == 0 && line_begins(dweight);
    for (int c = 0; c < channels; c++) {
        for (int k = 0; k < width; k += LANES) {
            GLOBAL const float *from = du + (long)c * columns + k;
            GLOBAL float *to = dweight + (long)c * arg.small_c + k;
            lane all[WINOGRAD_SIDE], rows[WINOGRAD_TAPS * WINOGRAD_SIDE], o[WINOGRAD_TAPS];
            for (int j = 0; j < WINOGRAD_SIDE; j++) {
                for (int i = 0; i < WINOGRAD_SIDE; i++)
                    all[i] = lane_load(from + (i * WINOGRAD_SIDE + j) * du_point);
                GRADIENT_TRANSFORM(rows + j, WINOGRAD_SIDE, all, 1)
            }
            for (int i = 0; i < WINOGRAD_TAPS; i++) {
                GRADIENT_TRANSFORM(o, 1, rows + i * WINOGRAD_SIDE, 1)
                for (int j = 0; j < WINOGRAD_TAPS; j++) {
                    GLOBAL float *p = to + (i * size + j) * arg.stride * tap;
                    if (stream)
                        lane_stream(p, o[j]);
                    else
                        store_some(p, width - k, o[j]);
                }
            }
        }
    }
}

/* A task: all lines of a block that there are, some panels. */
static struct part part_of(const int task, const struct winograd_wgrad_args arg)
{
    const int groups = (arg.panels + arg.panels_per_task - 1) / arg.panels_per_task;
    const int a_phase = arg.blocks / (arg.stride * arg.stride);
    struct part part;
    part.block = task / groups;
    part.line = 0;
    part.lines = i_min(arg.lines, arg.big_c - part.block % a_phase * arg.lines);
    part.panel = (task - part.block * groups) * arg.panels_per_task;
    part.panels = i_min(arg.panels_per_task, arg.panels - part.panel);
    return part;
}

/* item = point * tasks + task */
KERNEL3(winograd_wgrad_products, struct winograd_wgrad_args, GLOBAL const float *v, GLOBAL const float *w,
        GLOBAL float *du)
{
    const int point = item / arg.tasks, task = item - point * arg.tasks, columns = arg.panels_per_task * NR;
    multiply(v, w, du + ((long)task * WINOGRAD_POINTS + point) * DU_POINT(arg.lines, columns), columns, arg,
             part_of(task, arg), point);
}

/* item = task * pieces + piece of WINOGRAD_LINES lines */
KERNEL2(winograd_wgrad_gradient, struct winograd_wgrad_args, GLOBAL const float *du, GLOBAL float *dweight)
{
    const int pieces = (arg.lines + WINOGRAD_LINES - 1) / WINOGRAD_LINES, task = item / pieces;
    const int columns = arg.panels_per_task * NR;
    const long point = DU_POINT(arg.lines, columns);
    struct part part = part_of(task, arg);
    part.line = (item - task * pieces) * WINOGRAD_LINES;
    part.lines = i_min(WINOGRAD_LINES, part.lines - part.line);
    gradient(du + task * WINOGRAD_POINTS * point + (long)part.line * columns, columns, point, dweight, arg, part);
    lane_stream_end();
}

/* item = slot: a run of tasks, one after another in the slot's own dU */
KERNEL4(winograd_wgrad_deep, struct winograd_wgrad_args, GLOBAL const float *v, GLOBAL const float *w,
        GLOBAL float *dweight, GLOBAL float *scratch)
{
    const int begin = (int)((long)arg.tasks * item / arg.slots), end = (int)((long)arg.tasks * (item + 1) / arg.slots);
    const int columns = arg.panels_per_task * NR;
    const long point = DU_POINT(arg.lines, columns);
    GLOBAL float *du = scratch + item * WINOGRAD_POINTS * point;
    for (int task = begin; task < end; task++) {
        const struct part part = part_of(task, arg);
        for (int e = 0; e < WINOGRAD_POINTS; e++)
            multiply(v, w, du + e * point, columns, arg, part, e);
        gradient(du, columns, point, dweight, arg, part);
    }
    lane_stream_end();
}

#undef OUTER_BEGIN
#undef OUTER_STEP
#undef OUTER_MORE
#undef OUTER_END
#undef V_POINT
#undef W_POINT
#undef DU_POINT

#endif
