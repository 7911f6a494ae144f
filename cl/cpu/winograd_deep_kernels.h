/* Filter-stationary Winograd convolution for CPUs; winograd_deep_KxK.cl include it with a transform chosen. The
 * geometry is explained in cl/winograd_deep.h.
 *
 * The source's transformed tiles V lie in memory; a panel of the filter is read once, a chunk of channels at a time,
 * and its transform U never leaves the caches:
 *
 *     V   [phase][block][chunk][point][tile][WINOGRAD_DEEP_CHUNK]
 *     U   [point][WINOGRAD_DEEP_CHUNK][NR]        scratch of an item
 *     M   [point][tile][NR]                       likewise, and after it the filter's taps as they are
 *
 * Points lie a cache line further apart than they need: at a large power of two all of them would fall into one set of
 * the first-level cache. */
#ifndef WINOGRAD_DEEP_KERNELS_H
#define WINOGRAD_DEEP_KERNELS_H

#include "cpu/winograd_moments.h"
#include "winograd_deep.h"

#define CHUNK        WINOGRAD_DEEP_CHUNK
#define V_POINT      ((long)arg.block * CHUNK + 16)
#define U_POINT      ((long)CHUNK * NR + 16)
#define M_POINT      ((long)arg.block * NR + 16)
#define V_CHUNK      (WINOGRAD_POINTS * V_POINT)
#define TAPS_SQUARED (WINOGRAD_TAPS * WINOGRAD_TAPS)

/* item = ((phase * blocks + block) * chunks + chunk) * groups + group of WINOGRAD_DEEP_TILES tiles */
KERNEL2(winograd_deep_tiles, struct winograd_deep_args, GLOBAL const float *src, GLOBAL float *transformed)
{
    const int groups = (arg.block + WINOGRAD_DEEP_TILES - 1) / WINOGRAD_DEEP_TILES;
    const int chunk = item / groups % arg.chunks, block = item / groups / arg.chunks % arg.blocks;
    const int phase = item / groups / arg.chunks / arg.blocks;
    const int first_h = phase / 2 ? arg.src_first_h1 : arg.src_first_h0;
    const int first_w = phase % 2 ? arg.src_first_w1 : arg.src_first_w0;
    const int tiles = i_min(arg.block, arg.tiles - block * arg.block);
    const int first = item % groups * WINOGRAD_DEEP_TILES, last = i_min(first + WINOGRAD_DEEP_TILES, arg.block);
    const int channel = chunk * CHUNK, channels = i_min(CHUNK, arg.src_c - channel);
    GLOBAL float *v = transformed + ((phase * (long)arg.blocks + block) * arg.chunks + chunk) * V_CHUNK;
    const int stream = LANES_ARE_LINES && arg.stream && line_begins(v);

    for (int t = first; t < last; t++) {
        if (t < tiles) {
            const int tile = block * arg.block + t, tx = tile % arg.tiles_w, ty = tile / arg.tiles_w % arg.tiles_h;
            const int n = tile / arg.tiles_w / arg.tiles_h;
            transform_tile(src + (long)n * arg.src_h * arg.src_w * arg.src_pitch, arg.src_h, arg.src_w, arg.src_c,
                           arg.src_pitch, ty * WINOGRAD_OUT * arg.src_step + first_h,
                           tx * WINOGRAD_OUT * arg.src_step + first_w, arg.src_step, channel, channel + channels,
                           v + t * CHUNK, V_POINT, stream);
        } else { /* rows of the register tile that are computed and thrown away, but never read unset */
            for (int e = 0; e < WINOGRAD_POINTS; e++)
                for (int c = 0; c < channels; c++)
                    v[e * V_POINT + t * CHUNK + c] = 0.0f;
        }
    }
    if (stream)
        lane_stream_end();
}

/* G g G' of one input channel and LANES output channels: taps at g, g + step, ... */
static void transform_taps(const lane *g, const int step, GLOBAL float *u)
{
    lane rows[WINOGRAD_SIDE * WINOGRAD_TAPS];
    for (int b = 0; b < WINOGRAD_TAPS; b++)
        FILTER_TRANSFORM(rows + b, WINOGRAD_TAPS, g + b * step, WINOGRAD_TAPS * step)
    for (int i = 0; i < WINOGRAD_SIDE; i++) {
        lane o[WINOGRAD_SIDE];
        FILTER_TRANSFORM(o, 1, rows + i * WINOGRAD_TAPS, 1)
        for (int j = 0; j < WINOGRAD_SIDE; j++)
            lane_store(u + (i * WINOGRAD_SIDE + j) * U_POINT, o[j]);
    }
}

/* What of the filter is transformed at a time: for one panel, a chunk of source channels. */
typedef struct piece {
    int first_r, first_s; /* filter position of the first tap */
    int channel, channels;
    int column, columns; /* columns: up to NR of them exist */
} piece;

/* Piece `step` of a task; without any channels beyond the last task. */
static piece piece_of(const struct winograd_deep_args arg, const int task, const int step)
{
    const int panels = (arg.dst_c + NR - 1) / NR;
    const int phase = task / panels / arg.blocks + step / arg.chunks;
    piece p;
    p.first_r = phase / 2 ? arg.tap_first1 : arg.tap_first0;
    p.first_s = phase % 2 ? arg.tap_first1 : arg.tap_first0;
    p.channel = step % arg.chunks * CHUNK;
    p.channels = task < arg.tasks ? i_min(CHUNK, arg.src_c - p.channel) : 0;
    p.column = task % panels * NR;
    p.columns = i_min(NR, arg.dst_c - p.column);
    return p;
}

/* Where the filter's tap begins that a piece begins with. */
static GLOBAL const float *find_tap(const struct winograd_deep_args arg, GLOBAL const float *weight, const piece p,
                                    const int tap)
{
    const int r = p.first_r + tap / WINOGRAD_TAPS * arg.tap_step, s = p.first_s + tap % WINOGRAD_TAPS * arg.tap_step;
    GLOBAL const float *from = weight + (long)(r * arg.kernel_w + s) * arg.src_c * arg.dst_c;
    return from + (arg.transposed ? (long)p.column * arg.src_c + p.channel : (long)p.channel * arg.dst_c + p.column);
}

/* The rows of a piece in the filter are short and far apart, often by a power of two: no hardware foresees them, and
 * they share few sets of the caches. So they are fetched a little ahead and copied, in PARTS, while the piece before is
 * multiplied: to taps [tap][channel][column], transposed [tap][column][channel]; zeros beyond what exists.
 *
 * Copies part `part` and fetches the one PARTS_AHEAD later; from -PARTS_AHEAD on. (A function that did no more than
 * fetch ahead, a compiler may take for one without effect.) */
#define PARTS       (4 * TAPS_SQUARED)
#define PARTS_AHEAD 4
#define TAP         (CHUNK * NR)

static void copy_part(const struct winograd_deep_args arg, GLOBAL const float *weight, const piece p, const int part,
                      GLOBAL float *taps)
{
    if (p.channels == 0)
        return;
    const int rows = arg.transposed ? p.columns : p.channels, width = arg.transposed ? p.channels : p.columns;
    const long stride = arg.transposed ? arg.src_c : arg.dst_c;
    const int later = part + PARTS_AHEAD;
    if (later < PARTS) {
        GLOBAL const float *from = find_tap(arg, weight, p, later / 4);
        for (int i = later % 4 * rows / 4; i < (later % 4 + 1) * rows / 4; i++)
            for (int j = 0; j < width; j += 16)
                lane_later_read(from + i * stride + j);
    }
    if (part >= 0) {
        const int all_rows = arg.transposed ? NR : p.channels, all_width = arg.transposed ? CHUNK : NR;
        GLOBAL const float *from = find_tap(arg, weight, p, part / 4);
        GLOBAL float *to = taps + part / 4 * TAP;
        for (int i = part % 4 * all_rows / 4; i < (part % 4 + 1) * all_rows / 4; i++)
            for (int j = 0; j < all_width; j += LANES)
                lane_store(to + i * all_width + j,
                           i < rows ? load_some(from + i * stride + j, width - j) : lane_splat(0.0f));
    }
}

/* U of a piece. */
static void transform_piece(const struct winograd_deep_args arg, GLOBAL const float *taps, const piece p,
                            GLOBAL float *u)
{
    if (arg.transposed) {
        for (int side = 0; side < NR; side += LANES) {
            for (int c = 0; c < p.channels; c += LANES) {
                lane g[TAPS_SQUARED * LANES];
                for (int tap = 0; tap < TAPS_SQUARED; tap++) {
                    for (int j = 0; j < LANES; j++)
                        g[tap * LANES + j] = lane_load(taps + tap * TAP + (side + j) * CHUNK + c);
                    lane_transpose(g + tap * LANES);
                }
                for (int i = 0; i < LANES && c + i < p.channels; i++)
                    transform_taps(g + i, LANES, u + side + (c + i) * NR);
            }
        }
    } else {
        for (int c = 0; c < p.channels; c++) {
            for (int side = 0; side < NR; side += LANES) {
                lane g[TAPS_SQUARED];
                for (int tap = 0; tap < TAPS_SQUARED; tap++)
                    g[tap] = lane_load(taps + tap * TAP + c * NR + side);
                transform_taps(g, 1, u + side + c * NR);
            }
        }
    }
}

/* m += v u for the rows of a register tile, or half as many. V comes in order, but from a cache too far away for the
 * hardware's foresight: the rows after these, of this point or the next, are fetched meanwhile, line by line, for many
 * at once would wait for each other. */
#define BEGIN(i)                                                                                                       \
    lane acc##i##0 = first ? lane_splat(0.0f) : lane_load(m + i * NR);                                                 \
    lane acc##i##1 = first ? lane_splat(0.0f) : lane_load(m + i * NR + LANES);
#define STEP(i)                                                                                                        \
    {                                                                                                                  \
        const lane x = lane_splat(v[i * CHUNK + c]);                                                                   \
        acc##i##0 = lane_madd(x, b0, acc##i##0);                                                                       \
        acc##i##1 = lane_madd(x, b1, acc##i##1);                                                                       \
    }
#define END(i)                                                                                                         \
    lane_store(m + i * NR, acc##i##0);                                                                                 \
    lane_store(m + i * NR + LANES, acc##i##1);

static void multiply_rows(GLOBAL const float *v, GLOBAL const float *u, GLOBAL float *m, const int channels,
                          const int first)
{
    ROWS(BEGIN)
    for (int c = 0; c < channels; c++) {
        lane_soon_read(v + MR * CHUNK + c * MR);
        const lane b0 = lane_load(u + c * NR), b1 = lane_load(u + c * NR + LANES);
        ROWS(STEP)
    }
    ROWS(END)
}

#if MR == 8
#define HALF_ROWS(X) X(0) X(1) X(2) X(3)
#elif MR == 6
#define HALF_ROWS(X) X(0) X(1) X(2)
#else
#define HALF_ROWS(X) X(0) X(1)
#endif

static void multiply_half(GLOBAL const float *v, GLOBAL const float *u, GLOBAL float *m, const int channels,
                          const int first)
{
    HALF_ROWS(BEGIN)
    for (int c = 0; c < channels; c++) {
        lane_soon_read(v + MR / 2 * CHUNK + c * (MR / 2));
        const lane b0 = lane_load(u + c * NR), b1 = lane_load(u + c * NR + LANES);
        HALF_ROWS(STEP)
    }
    HALF_ROWS(END)
}

#undef BEGIN
#undef STEP
#undef END

/* item = slot. Moments are of groups of tiles, all of one block: part * (groups a part) + group. */
KERNEL6(winograd_deep, struct winograd_deep_args, GLOBAL const float *transformed, GLOBAL const float *weight,
        GLOBAL const float *bias, GLOBAL float *dst, GLOBAL float *scratch, GLOBAL float *moments)
{
    const int panels = (arg.dst_c + NR - 1) / NR;
    const int tile_groups = (arg.tiles + arg.moments_tiles - 1) / arg.moments_tiles;
    const int steps = (arg.gathered ? arg.phases * arg.phases : 1) * arg.chunks;
    GLOBAL float *u = scratch + (long)item * arg.slot_floats, *m = u + WINOGRAD_POINTS * U_POINT;
    GLOBAL float *taps = m + WINOGRAD_POINTS * M_POINT;

    const piece begin = piece_of(arg, item, 0);
    for (int i = -PARTS_AHEAD; i < PARTS; i++)
        copy_part(arg, weight, begin, i, taps);

    for (int task = item; task < arg.tasks; task += arg.slots) {
        const int panel = task % panels, block = task / panels % arg.blocks, part = task / panels / arg.blocks;
        const int column = panel * NR, tiles = i_min(arg.block, arg.tiles - block * arg.block);

        for (int step = 0; step < steps; step++) {
            const piece now = piece_of(arg, task, step);
            const piece next = step + 1 < steps ? piece_of(arg, task, step + 1) : piece_of(arg, task + arg.slots, 0);
            const int phase = part + step / arg.chunks;
            GLOBAL const float *v =
                transformed + ((phase * (long)arg.blocks + block) * arg.chunks + step % arg.chunks) * V_CHUNK;
            for (int i = -PARTS_AHEAD; i < 0; i++)
                copy_part(arg, weight, next, i, taps);
            transform_piece(arg, taps, now, u);
            for (int e = 0; e < WINOGRAD_POINTS; e++) {
                for (int i = e * PARTS / WINOGRAD_POINTS; i < (e + 1) * PARTS / WINOGRAD_POINTS; i++)
                    copy_part(arg, weight, next, i, taps);
                int t = 0;
                for (; t + MR / 2 < tiles; t += MR)
                    multiply_rows(v + e * V_POINT + t * CHUNK, u + e * U_POINT, m + e * M_POINT + t * NR, now.channels,
                                  step == 0);
                for (; t < tiles; t += MR / 2)
                    multiply_half(v + e * V_POINT + t * CHUNK, u + e * U_POINT, m + e * M_POINT + t * NR, now.channels,
                                  step == 0);
            }
        }

        const int y_first = part / 2 ? arg.dst_first_h1 : arg.dst_first_h0;
        const int x_first = part % 2 ? arg.dst_first_w1 : arg.dst_first_w0;
        for (int side = 0; side < 2; side++) {
            const int k = column + side * LANES, valid = arg.dst_c - k;
            if (valid <= 0)
                break;
            const lane start = arg.has_bias ? load_some(bias + k, valid) : lane_splat(0.0f);
            lane centre = lane_splat(0.0f), total = centre, square = centre;
            int seen = 0; /* pixels of this group of tiles */
            for (int t = 0; t < tiles; t++) {
                const int tile = block * arg.block + t, tx = tile % arg.tiles_w, ty = tile / arg.tiles_w % arg.tiles_h;
                const int n = tile / arg.tiles_w / arg.tiles_h;
                const int high = tile_extent(ty * WINOGRAD_OUT * arg.dst_step + y_first, arg.dst_step, arg.dst_h);
                const int wide = tile_extent(tx * WINOGRAD_OUT * arg.dst_step + x_first, arg.dst_step, arg.dst_w);
                lane all[WINOGRAD_POINTS], rows[WINOGRAD_OUT * WINOGRAD_SIDE];
                for (int e = 0; e < WINOGRAD_POINTS; e++)
                    all[e] = lane_load(m + e * M_POINT + t * NR + side * LANES);
                for (int j = 0; j < WINOGRAD_SIDE; j++)
                    OUTPUT_TRANSFORM(rows + j, WINOGRAD_SIDE, all + j, WINOGRAD_SIDE)
                if (t % arg.moments_tiles == 0)
                    seen = 0;
                if (arg.moments && seen == 0) {
                    centre = tile_mean(rows, start, arg.relu, high, wide);
                    total = square = lane_splat(0.0f);
                }
                for (int i = 0; i < WINOGRAD_OUT; i++) {
                    const int y = (ty * WINOGRAD_OUT + i) * arg.dst_step + y_first;
                    if (y >= arg.dst_h)
                        break;
                    lane o[WINOGRAD_OUT];
                    OUTPUT_TRANSFORM(o, 1, rows + i * WINOGRAD_SIDE, 1)
                    for (int j = 0; j < WINOGRAD_OUT; j++) {
                        const int x = (tx * WINOGRAD_OUT + j) * arg.dst_step + x_first;
                        if (x >= arg.dst_w)
                            break;
                        const lane sum = lane_add(o[j], start);
                        o[j] = arg.relu ? lane_relu(sum) : sum;
                        store_some(dst + ((long)(n * arg.dst_h + y) * arg.dst_w + x) * arg.dst_pitch + k, valid, o[j]);
                    }
                    if (arg.moments && wide > 0)
                        tile_add(o, wide, centre, &total, &square);
                }
                seen += high * wide;
                if (arg.moments && ((t + 1) % arg.moments_tiles == 0 || t + 1 == tiles))
                    moments_leave(moments + 3 * (long)arg.moments * (part * tile_groups + tile / arg.moments_tiles) + k,
                                  arg.moments, seen, centre, total, square);
            }
        }
    }
}

#endif
