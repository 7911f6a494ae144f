/* Winograd conv2d and conv2d_transpose for CPUs; winograd_KxK_RxR.cl include it with a transform chosen.
 *
 * A task is a block of tiles (of one phase of the destination) and some panels of output channels. The block's tiles
 * are transformed; then, point by point, they are multiplied with the transformed filter, which streams by once a block
 * while what it meets stays in the caches: V of one point, and a piece of one panel in the first-level cache for all
 * tiles. The products of all points are transformed back. */
#ifndef WINOGRAD_GATHER_H
#define WINOGRAD_GATHER_H

#include "cpu/winograd_moments.h"
#include "winograd.h"

/* item = (phase * panels + panel) * channel groups + channel group */
KERNEL2(winograd_filter, struct winograd_filter_args, GLOBAL const float *weight, GLOBAL float *packed)
{
    const int groups = (arg.phase_depth + WINOGRAD_FILTER_CHANNELS - 1) / WINOGRAD_FILTER_CHANNELS;
    const int panels = (arg.dst_c + NR - 1) / NR;
    const int panel = item / groups % panels, phase = item / groups / panels;
    const int first_c = item % groups * WINOGRAD_FILTER_CHANNELS;
    const int column = panel * NR, valid = i_min(NR, arg.dst_c - column);
    const int channels = i_min(WINOGRAD_FILTER_CHANNELS, arg.phase_depth - first_c);
    const int exist = i_min(WINOGRAD_FILTER_CHANNELS, arg.src_c - first_c);
    const int phase_y = phase / arg.stride, phase_x = phase % arg.stride;
    const long depth = (long)arg.phase_depth * (arg.transposed ? 1 : arg.stride * arg.stride);
    const long point = WINOGRAD_SPACED(depth * NR);
    /* The filter's position that tap (a, b) is at: first + a step down, the same across. */
    const int step = arg.transposed ? -arg.stride : arg.stride;
    const int first_r =
        arg.transposed ? (phase_y + arg.pad_h) % arg.stride + arg.stride * (WINOGRAD_TAPS - 1) : phase_y;
    const int first_s =
        arg.transposed ? (phase_x + arg.pad_w) % arg.stride + arg.stride * (WINOGRAD_TAPS - 1) : phase_x;

    float g[WINOGRAD_TAPS * WINOGRAD_TAPS * WINOGRAD_FILTER_CHANNELS * NR];
    for (int tap = 0; tap < WINOGRAD_TAPS * WINOGRAD_TAPS; tap++) {
        const int r = first_r + tap / WINOGRAD_TAPS * step, s = first_s + tap % WINOGRAD_TAPS * step;
        GLOBAL const float *from = weight + (long)(r * arg.stride * WINOGRAD_TAPS + s) * arg.src_c * arg.dst_c;
        float *to = g + tap * WINOGRAD_FILTER_CHANNELS * NR;
        if (valid < NR || exist < channels)
            for (int i = 0; i < channels * NR; i++)
                to[i] = 0.0f;
        if (arg.transposed) { /* the filter's rows are dst channels */
            from += (long)column * arg.src_c + first_c;
            for (int j = 0; j < valid; j++, from += arg.src_c)
                for (int c = 0; c < exist; c++)
                    to[c * NR + j] = from[c];
        } else {
            from += (long)first_c * arg.dst_c + column;
            for (int c = 0; c < exist; c++, from += arg.dst_c)
                for (int j = 0; j < valid; j++)
                    to[c * NR + j] = from[j];
        }
    }
    const long row = arg.transposed ? first_c : (long)phase * arg.phase_depth + first_c;
    GLOBAL float *out =
        packed + ((long)(arg.transposed ? phase * panels : 0) + panel) * WINOGRAD_POINTS * point + row * NR;
    const int stream = LANES_ARE_LINES && arg.stream && line_begins(out);
    for (int c = 0; c < channels * NR; c += LANES) {
        lane rows[WINOGRAD_SIDE * WINOGRAD_TAPS], u[WINOGRAD_SIDE];
        for (int s = 0; s < WINOGRAD_TAPS; s++) {
            lane taps[WINOGRAD_TAPS];
            for (int r = 0; r < WINOGRAD_TAPS; r++)
                taps[r] = lane_load(g + (WINOGRAD_TAPS * r + s) * WINOGRAD_FILTER_CHANNELS * NR + c);
            FILTER_TRANSFORM(rows + s, WINOGRAD_TAPS, taps, 1)
        }
        for (int i = 0; i < WINOGRAD_SIDE; i++) {
            FILTER_TRANSFORM(u, 1, rows + i * WINOGRAD_TAPS, 1)
            for (int j = 0; j < WINOGRAD_SIDE; j++)
                lane_leave(out + (i * WINOGRAD_SIDE + j) * point + c, u[j], stream);
        }
    }
    if (stream)
        lane_stream_end();
}

/* Part `part` of `parts` of the pixels that tiles first .. first + count - 1 read, with stride 1, each those of its own
 * columns: they start on their way from memory. */
static void soon_tiles(GLOBAL const float *src, const struct winograd_args arg, const int origin_y, const int first,
                       const int count, const int part, const int parts)
{
    const int a_tile = WINOGRAD_SIDE * WINOGRAD_OUT, all = count * a_tile;
    for (int k = (int)((long)part * all / parts); k < (int)((long)(part + 1) * all / parts); k++) {
        const int tile = first + k / a_tile, tx = tile % arg.tiles_w, ty = tile / arg.tiles_w % arg.tiles_h;
        const int n = tile / arg.tiles_w / arg.tiles_h, pixel = k % a_tile;
        const int y = ty * WINOGRAD_OUT + origin_y + pixel / WINOGRAD_OUT;
        const int x = tx * WINOGRAD_OUT + pixel % WINOGRAD_OUT;
        if ((uint)y < (uint)arg.src_h && (uint)x < (uint)arg.src_w) {
            GLOBAL const float *from = src + ((long)(n * arg.src_h + y) * arg.src_w + x) * arg.src_pitch;
            for (int c = 0; c < arg.src_c; c += 16)
                lane_later_read(from + c);
        }
    }
}

/* item = slot, a run of tasks. Scratch: V [point][piece of the depth][tile][depth_block], then M [point][panel of the
 * pass][tile][NR].
 *
 * Moments are of groups of tiles, all of one block: phase * (groups a phase) + group. Until a group's last tile they
 * hold sum, guess and sum of squares. */
KERNEL6(winograd_conv2d, struct winograd_args, GLOBAL const float *src, GLOBAL const float *packed,
        GLOBAL const float *bias, GLOBAL float *dst, GLOBAL float *scratch, GLOBAL float *moments)
{
    const int panels = (arg.dst_c + NR - 1) / NR;
    const int groups = (panels + arg.panels_per_task - 1) / arg.panels_per_task;
    const int blocks = (arg.tiles + arg.block - 1) / arg.block;
    const int src_step = arg.transposed ? 1 : arg.stride, dst_step = arg.transposed ? arg.stride : 1;
    const int depth = arg.phase_depth * src_step * src_step;
    const int pieces = (depth + arg.depth_block - 1) / arg.depth_block;
    const int v_piece = arg.block * arg.depth_block, v_point = WINOGRAD_SPACED(pieces * v_piece);
    const int m_panel = arg.block * NR, m_point = WINOGRAD_SPACED(arg.panels_per_pass * m_panel);
    const long across = (long)dst_step * arg.dst_pitch, down = across * arg.dst_w;
    const long u_point = WINOGRAD_SPACED((long)depth * NR);
    const int stream =
        LANES_ARE_LINES && arg.stream && arg.dst_c % LANES == 0 && arg.dst_pitch % LANES == 0 && line_begins(dst);
    const int tile_groups = (arg.tiles + arg.moments_tiles - 1) / arg.moments_tiles;
    GLOBAL float *v = scratch + (long)item * arg.slot_floats;
    GLOBAL float *m = v + (long)WINOGRAD_POINTS * v_point;

    const int begin = (int)((long)arg.tasks * item / arg.slots), end = (int)((long)arg.tasks * (item + 1) / arg.slots);
    for (int task = begin; task < end; task++) {
        const int phase = task / groups / blocks; /* of the destination */
        const int phase_y = phase / dst_step, phase_x = phase % dst_step;
        const int tile0 = task / groups % blocks * arg.block, tiles = i_min(arg.block, arg.tiles - tile0);
        const int first_panel = task % groups * arg.panels_per_task;
        const int last_panel = i_min(first_panel + arg.panels_per_task, panels);
        const int origin_y = arg.transposed ? (phase_y + arg.pad_h) / arg.stride - (WINOGRAD_TAPS - 1) : -arg.pad_h;
        const int origin_x = arg.transposed ? (phase_x + arg.pad_w) / arg.stride - (WINOGRAD_TAPS - 1) : -arg.pad_w;

        for (int t = 0; t < tiles; t++) {
            const int tile = tile0 + t, tx = tile % arg.tiles_w, ty = tile / arg.tiles_w % arg.tiles_h;
            const int n = tile / arg.tiles_w / arg.tiles_h;
            GLOBAL const float *picture = src + (long)n * arg.src_h * arg.src_w * arg.src_pitch;
            const int y0 = ty * WINOGRAD_OUT * src_step + origin_y, x0 = tx * WINOGRAD_OUT * src_step + origin_x;
            for (int q = 0; q < src_step * src_step; q++) {
                for (int c = 0; c < arg.src_c;) {
                    const int column = q * arg.phase_depth + c, piece = column / arg.depth_block;
                    const int stop = i_min(arg.src_c, c + (piece + 1) * arg.depth_block - column);
                    transform_tile(picture, arg.src_h, arg.src_w, arg.src_c, arg.src_pitch, y0 + q / src_step,
                                   x0 + q % src_step, src_step, c, stop,
                                   v + piece * v_piece + t * arg.depth_block + column - piece * arg.depth_block,
                                   v_point, 0);
                    c = stop;
                }
            }
        }
        /* The register tile takes MR rows: rows beyond the last are computed and thrown away, but never read unset. */
        for (int t = tiles; t < (tiles + MR - 1) / MR * MR; t++)
            for (int e = 0; e < WINOGRAD_POINTS; e++)
                for (int piece = 0; piece < pieces; piece++)
                    for (int c = 0; c < arg.depth_block; c++)
                        v[e * v_point + piece * v_piece + t * arg.depth_block + c] = 0.0f;

        /* The next task's pixels come while this one's products are computed. */
        const int next_block = task + 1 < end && arg.stride == 1 ? (task + 1) / groups : task / groups;
        const int soon = next_block == task / groups ? 0 : i_min(arg.block, arg.tiles - next_block * arg.block);
        for (int pass = first_panel; pass < last_panel; pass += arg.panels_per_pass) {
            const int pass_end = i_min(pass + arg.panels_per_pass, last_panel);
            for (int e = 0; e < WINOGRAD_POINTS; e++) {
                for (int panel = pass; panel < pass_end; panel++) {
                    if (soon > 0)
                        soon_tiles(src, arg, origin_y, next_block * arg.block, soon,
                                   ((pass - first_panel) * WINOGRAD_POINTS + e * (pass_end - pass) + panel - pass),
                                   (last_panel - first_panel) * WINOGRAD_POINTS);
                    GLOBAL const float *u = packed + (((long)phase * panels + panel) * WINOGRAD_POINTS + e) * u_point;
                    /* What comes after this panel lies far from it, in a cache as far: it comes a piece ahead. */
                    GLOBAL const float *later = u + WINOGRAD_POINTS * u_point;
                    if (panel + 1 == pass_end)
                        later =
                            u + (e + 1 < WINOGRAD_POINTS ? (1 - (pass_end - 1 - pass) * (long)WINOGRAD_POINTS) * u_point
                                                         : u_point);
                    for (int piece = 0; piece < pieces; piece++) {
                        const int count = i_min(arg.depth_block, depth - piece * arg.depth_block);
                        GLOBAL const float *lines = v + e * v_point + piece * v_piece;
                        GLOBAL float *out = m + e * m_point + (panel - pass) * m_panel;
                        for (int t = 0; t < tiles; t += MR) {
                            GLOBAL const float *b = u, *soon_b = t == 0 ? later : u;
#define BEGIN(i)                                                                                                       \
    GLOBAL const float *a##i = lines + i * arg.depth_block;                                                            \
    lane acc##i##0 = lane_splat(0.0f), acc##i##1 = acc##i##0;                                                          \
    if (piece > 0) {                                                                                                   \
        acc##i##0 = lane_load(out + i * NR);                                                                           \
        acc##i##1 = lane_load(out + i * NR + LANES);                                                                   \
    }
                            ROWS(BEGIN)
                            for (int c = 0; c < count; c++) {
                                const lane b0 = lane_load(b), b1 = lane_load(b + LANES);
                                b += NR;
                                for (int j = 0; j < NR; j += 16)
                                    lane_later_read(soon_b + j);
                                soon_b += NR;
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
                            lines += MR * arg.depth_block;
                            out += MR * NR;
                        }
                        u += (long)arg.depth_block * NR;
                        later += (long)arg.depth_block * NR;
                    }
                }
            }
            int seen = 0; /* pixels of this group of tiles */
            for (int t = 0; t < tiles; t++) {
                const int tile = tile0 + t, tx = tile % arg.tiles_w, ty = tile / arg.tiles_w % arg.tiles_h;
                const int n = tile / arg.tiles_w / arg.tiles_h;
                const int y0 = ty * WINOGRAD_OUT * dst_step + phase_y, x0 = tx * WINOGRAD_OUT * dst_step + phase_x;
                const int whole =
                    y0 + (WINOGRAD_OUT - 1) * dst_step < arg.dst_h && x0 + (WINOGRAD_OUT - 1) * dst_step < arg.dst_w;
                GLOBAL float *corner = dst + ((long)(n * arg.dst_h + y0) * arg.dst_w + x0) * arg.dst_pitch;
                const int high = tile_extent(y0, dst_step, arg.dst_h), wide = tile_extent(x0, dst_step, arg.dst_w);
                const int last = (t + 1) % arg.moments_tiles == 0 || t + 1 == tiles;
                GLOBAL float *group =
                    moments + 3 * (long)arg.moments * (phase * tile_groups + tile / arg.moments_tiles);
                if (t % arg.moments_tiles == 0)
                    seen = 0;
                for (int column = pass * NR; column < i_min(pass_end * NR, arg.dst_c); column += LANES) {
                    const int valid = arg.dst_c - column, at = column - pass * NR;
                    GLOBAL const float *from = m + at / NR * m_panel + t * NR + at % NR;
                    const lane start = arg.has_bias ? load_some(bias + column, valid) : lane_splat(0.0f);
                    lane rows[WINOGRAD_OUT * WINOGRAD_SIDE];
                    for (int i = 0; i < WINOGRAD_OUT && !stream; i++)
                        for (int j = WINOGRAD_OUT; j < 2 * WINOGRAD_OUT; j++)
                            lane_soon_written(corner + i * down + j * across + column); /* by the next tile */
                    for (int j = 0; j < WINOGRAD_SIDE; j++) {
                        lane all[WINOGRAD_SIDE];
                        UNROLLED
                        for (int i = 0; i < WINOGRAD_SIDE; i++)
                            all[i] = lane_load(from + (i * WINOGRAD_SIDE + j) * m_point);
                        OUTPUT_TRANSFORM(rows + j, WINOGRAD_SIDE, all, 1)
                    }
                    lane centre = lane_splat(0.0f), sum = centre, square = centre;
                    if (arg.moments && seen > 0) {
                        sum = lane_load(group + column);
                        centre = lane_load(group + arg.moments + column);
                        square = lane_load(group + 2 * arg.moments + column);
                    } else if (arg.moments) {
                        centre = tile_mean(rows, start, arg.relu, high, wide);
                    }
                    for (int i = 0; i < WINOGRAD_OUT; i++) {
                        lane o[WINOGRAD_OUT];
                        OUTPUT_TRANSFORM(o, 1, rows + i * WINOGRAD_SIDE, 1)
                        UNROLLED
                        for (int j = 0; j < WINOGRAD_OUT; j++)
                            o[j] = lane_add(o[j], start);
                        if (arg.relu) {
                            UNROLLED
                            for (int j = 0; j < WINOGRAD_OUT; j++)
                                o[j] = lane_relu(o[j]);
                        }
                        if (arg.moments && i < high && wide > 0)
                            tile_add(o, wide, centre, &sum, &square);
                        GLOBAL float *to = corner + i * down + column;
                        if (whole && valid >= LANES) {
                            UNROLLED
                            for (int j = 0; j < WINOGRAD_OUT; j++)
                                lane_leave(to + j * across, o[j], stream);
                        } else if (y0 + i * dst_step < arg.dst_h) {
                            for (int j = 0; j < WINOGRAD_OUT; j++)
                                if (x0 + j * dst_step < arg.dst_w)
                                    store_some(to + j * across, valid, o[j]);
                        }
                    }
                    if (arg.moments && last) {
                        moments_leave(group + column, arg.moments, seen + high * wide, centre, sum, square);
                    } else if (arg.moments) {
                        lane_store(group + column, sum);
                        lane_store(group + arg.moments + column, centre);
                        lane_store(group + 2 * arg.moments + column, square);
                    }
                }
                seen += high * wide;
            }
        }
    }
    if (stream)
        lane_stream_end();
}

#undef BEGIN
#undef STEP
#undef END

#endif
