/* Winograd convolution for CPUs: F(4x4, 3x3) and its weight gradient F(3x3, 4x4). One work-item a group, or plain C.
 *
 *     dst tile = A' [ (G g G') . (B' d B) ] A       d: 6x6 source pixels, g: the 3x3 filter, "." element by element
 *
 * For each of the 36 points the element-wise product is a matrix product over channels, (tiles x src_c) (src_c x
 * dst_c). An item transforms a block of tiles, all channels, into scratch of its own that stays in the second-level
 * cache; for each panel of 2 LANES output channels it runs the 36 products with the register tile of cpu/conv2d.cl and
 * transforms back. Nothing in between goes to memory. The weight gradient is the transpose: per point V'W summed over
 * all tiles, in order, by the one task that owns those channels and panels; then 6x6 to 3x3.
 *
 * Items take tasks slot, slot + slots, ...: which item computes a tile never changes its value.
 *
 * Macros: LANES. Limits: 3x3, stride 1; tiles may hang over the right and bottom edges. The rounding error is several
 * times the direct method's; its bound is derived where it is checked. */
#include "kernel.h"
#include "lane.h"
#include "winograd.h"

/* Six values at p, p + step, ... times B' (points 0, 1, -1, 2, -2, infinity), in place. */
#define INPUT_TRANSFORM(p, step)                                                                                       \
    {                                                                                                                  \
        const lane d0 = (p)[0], d1 = (p)[step], d2 = (p)[2 * step], d3 = (p)[3 * step], d4 = (p)[4 * step];            \
        const lane even = lane_madd(lane_splat(-4.0f), d2, d4), odd = lane_madd(lane_splat(-4.0f), d1, d3);            \
        const lane low = lane_sub(d4, d2), high = lane_mul(lane_splat(2.0f), lane_sub(d3, d1));                        \
        (p)[0] = lane_madd(lane_splat(4.0f), d0, lane_madd(lane_splat(-5.0f), d2, d4));                                \
        (p)[5 * step] = lane_madd(lane_splat(4.0f), d1, lane_madd(lane_splat(-5.0f), d3, (p)[5 * step]));              \
        (p)[step] = lane_add(even, odd);                                                                               \
        (p)[2 * step] = lane_sub(even, odd);                                                                           \
        (p)[3 * step] = lane_add(low, high);                                                                           \
        (p)[4 * step] = lane_sub(low, high);                                                                           \
    }

/* out0..5 = G g for the three values g0, g1, g2. */
#define FILTER_TRANSFORM(out, step, g0, g1, g2)                                                                        \
    {                                                                                                                  \
        const lane outer = lane_mul(lane_splat(-1.0f / 6.0f), lane_add(g0, g2));                                       \
        const lane inner = lane_mul(lane_splat(-1.0f / 6.0f), g1);                                                     \
        const lane wide = lane_madd(lane_splat(1.0f / 24.0f), g0, lane_mul(lane_splat(1.0f / 6.0f), g2));              \
        const lane middle = lane_mul(lane_splat(1.0f / 12.0f), g1);                                                    \
        (out)[0] = lane_mul(lane_splat(0.25f), g0);                                                                    \
        (out)[step] = lane_add(outer, inner);                                                                          \
        (out)[2 * step] = lane_sub(outer, inner);                                                                      \
        (out)[3 * step] = lane_add(wide, middle);                                                                      \
        (out)[4 * step] = lane_sub(wide, middle);                                                                      \
        (out)[5 * step] = g2;                                                                                          \
    }

/* The same for a filter of four, y0..y3: the weight gradient's `small` tile. */
#define SMALL_TRANSFORM(out, step, y0, y1, y2, y3)                                                                     \
    {                                                                                                                  \
        const lane even = lane_add(y0, y2), odd = lane_add(y1, y3);                                                    \
        const lane even2 = lane_madd(lane_splat(4.0f), y2, y0);                                                        \
        const lane odd2 = lane_mul(lane_splat(2.0f), lane_madd(lane_splat(4.0f), y3, y1));                             \
        (out)[0] = lane_mul(lane_splat(0.25f), y0);                                                                    \
        (out)[step] = lane_mul(lane_splat(-1.0f / 6.0f), lane_add(even, odd));                                         \
        (out)[2 * step] = lane_mul(lane_splat(-1.0f / 6.0f), lane_sub(even, odd));                                     \
        (out)[3 * step] = lane_mul(lane_splat(1.0f / 24.0f), lane_add(even2, odd2));                                   \
        (out)[4 * step] = lane_mul(lane_splat(1.0f / 24.0f), lane_sub(even2, odd2));                                   \
        (out)[5 * step] = y3;                                                                                          \
    }

/* Four values A' m of six at m, m + step, ... */
#define OUTPUT_TRANSFORM(m, step, o0, o1, o2, o3)                                                                      \
    {                                                                                                                  \
        const lane s1 = lane_add((m)[step], (m)[2 * step]), s2 = lane_add((m)[3 * step], (m)[4 * step]);               \
        const lane d1 = lane_sub((m)[step], (m)[2 * step]), d2 = lane_sub((m)[3 * step], (m)[4 * step]);               \
        o0 = lane_add((m)[0], lane_add(s1, s2));                                                                       \
        o1 = lane_madd(lane_splat(2.0f), d2, d1);                                                                      \
        o2 = lane_madd(lane_splat(4.0f), s2, s1);                                                                      \
        o3 = lane_add(lane_madd(lane_splat(8.0f), d2, d1), (m)[5 * step]);                                             \
    }

/* Three values of six: the weight gradient. */
#define GRADIENT_TRANSFORM(m, step, o0, o1, o2)                                                                        \
    {                                                                                                                  \
        const lane s1 = lane_add((m)[step], (m)[2 * step]), s2 = lane_add((m)[3 * step], (m)[4 * step]);               \
        const lane d1 = lane_sub((m)[step], (m)[2 * step]), d2 = lane_sub((m)[3 * step], (m)[4 * step]);               \
        o0 = lane_add((m)[0], lane_add(s1, s2));                                                                       \
        o1 = lane_madd(lane_splat(2.0f), d2, d1);                                                                      \
        o2 = lane_add(lane_madd(lane_splat(4.0f), s2, s1), (m)[5 * step]);                                             \
    }

static lane load_some(GLOBAL const float *p, const int valid)
{
    if (valid >= LANES)
        return lane_load(p);
    float part[LANES];
    for (int j = 0; j < LANES; j++)
        part[j] = j < valid ? p[j] : 0.0f;
    return lane_load(part);
}

static void store_some(GLOBAL float *p, const int valid, const lane v)
{
    if (valid >= LANES) {
        lane_store(p, v);
        return;
    }
    float part[LANES];
    lane_store(part, v);
    for (int j = 0; j < valid; j++)
        p[j] = part[j];
}

/* B' d B of the 6x6 pixels from (y0, x0) of one picture, `channels` of them from c on, to v[point * point_step + c -
 * first]. */
static void transform_tile(GLOBAL const float *picture, const int height, const int width, const int depth,
                           const int y0, const int x0, const int first, const int last, GLOBAL float *v,
                           const long point_step)
{
    for (int c = first; c < last; c += LANES) {
        lane d[WINOGRAD_POINTS];
        for (int i = 0; i < 6; i++) {
            for (int j = 0; j < 6; j++) {
                const int y = y0 + i, x = x0 + j;
                const int inside = (uint)y < (uint)height && (uint)x < (uint)width;
                d[i * 6 + j] =
                    inside ? load_some(picture + ((long)y * width + x) * depth + c, depth - c) : lane_splat(0.0f);
            }
        }
        for (int j = 0; j < 6; j++)
            INPUT_TRANSFORM(d + j, 6)
        for (int i = 0; i < 6; i++)
            INPUT_TRANSFORM(d + i * 6, 1)
        for (int e = 0; e < WINOGRAD_POINTS; e++)
            lane_store(v + e * point_step + c - first, d[e]);
    }
}

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
                const lane g0 = lane_load(at + s * WINOGRAD_FILTER_CHANNELS * NR);
                const lane g1 = lane_load(at + (3 + s) * WINOGRAD_FILTER_CHANNELS * NR);
                const lane g2 = lane_load(at + (6 + s) * WINOGRAD_FILTER_CHANNELS * NR);
                FILTER_TRANSFORM(rows + s, 3, g0, g1, g2)
            }
            for (int i = 0; i < 6; i++)
                FILTER_TRANSFORM(u + i * 6, 1, rows[i * 3], rows[i * 3 + 1], rows[i * 3 + 2])
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
                           ty * WINOGRAD_OUT - arg.pad_h, tx * WINOGRAD_OUT - arg.pad_w, 0, arg.src_c, v + t * depth,
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
                        OUTPUT_TRANSFORM(all + j, 6, rows[j], rows[6 + j], rows[12 + j], rows[18 + j])
                    for (int i = 0; i < WINOGRAD_OUT; i++) {
                        const int y = ty * WINOGRAD_OUT + i, x = tx * WINOGRAD_OUT;
                        if (y >= arg.dst_h)
                            break;
                        lane o[WINOGRAD_OUT];
                        OUTPUT_TRANSFORM(rows + i * 6, 1, o[0], o[1], o[2], o[3])
                        GLOBAL float *to = dst + ((long)(n * arg.dst_h + y) * arg.dst_w + x) * arg.dst_c + column;
                        for (int j = 0; j < WINOGRAD_OUT && x + j < arg.dst_w; j++)
                            store_some(to + (long)j * arg.dst_c, valid, lane_add(o[j], start));
                    }
                }
            }
        }
    }
}

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
                               y0 - arg.pad_h, x0 - arg.pad_w, first_c, last_c, v + t * lines, v_point);
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
                        SMALL_TRANSFORM(rows + j, 4, y[j], y[4 + j], y[8 + j], y[12 + j])
                    for (int i = 0; i < 6; i++)
                        SMALL_TRANSFORM(all + i * 6, 1, rows[i * 4], rows[i * 4 + 1], rows[i * 4 + 2], rows[i * 4 + 3])
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
                    GRADIENT_TRANSFORM(all + j, 6, rows[j], rows[6 + j], rows[12 + j])
                for (int i = 0; i < 3; i++) {
                    GRADIENT_TRANSFORM(rows + i * 6, 1, o[0], o[1], o[2])
                    for (int j = 0; j < 3; j++)
                        store_some(dweight + ((long)(i * 3 + j) * arg.big_c + c) * arg.small_c + k, arg.small_c - k,
                                   o[j]);
                }
            }
        }
    }
}

#undef BEGIN
#undef STEP
#undef END
#undef OUTER_BEGIN
#undef OUTER_STEP
#undef OUTER_END
