/* Attention for CPUs: blocks of queries by blocks of keys, as matrix products of a register tile of MR rows and two
 * lanes (lane.h). The formulas are in src/op/attention.c, the layout in attention.h.
 *
 * Forward (Dao et al. 2022; the running maximum of Milakov and Gimelshein 2018): a block of queries meets all keys, a
 * block at a time. S lies with a key's scores for all queries in one row, so that maxima and sums of the queries are
 * sums of lanes and need no order within a lane. What was summed up under an older maximum fades with each new one.
 *
 * Gradient: a block of keys meets all queries; P is made again from the forward's lse, and dK, dV of the block and dQ
 * of all queries are added up, always in this order. Where images and heads are too few to share out, the keys are cut
 * into a few chunks, each with a dQ of its own, which attention_sum adds.
 *
 * Operands that are read again and again are packed into the scratch of the item, in panels: transposed, [NR rows of
 * the block][channel][NR], for sums over channels; [NR channels][row][NR] for sums over rows; with zeros beyond what
 * exists. Rows that a tile has beyond the last are computed and never used. Scratch is linear in the pixels.
 *
 * Macros: LANES (see lane.h). Limits: none; any width of a head. */
#include "kernel.h"
#include "lane.h"
#include "attention.h"
#include "special.h"

#define BLOCK         ATTENTION_BLOCK
#define PADDED(count) (((count) + NR - 1) / NR * NR)
/* Rows of one head are short and far apart, which no hardware foresees: they are fetched so many rows ahead. */
#define AHEAD 8

/* exp(x) for x up to 88; below -80, where nothing of a sum that has a 1 in it is left, exp(-80), which is far enough
 * from the denormals that no product becomes one. NaN stays. */
static inline float attention_exp(const float x)
{
    return f_exp_within(x < -80.0f ? -80.0f : x);
}

static void soon_read(GLOBAL const float *row, const int count)
{
    for (int c = 0; c < count; c += 16)
        lane_soon_read(row + c);
}

static void soon_written(GLOBAL float *row, const int count)
{
    for (int c = 0; c < count; c += 16)
        lane_soon_written(row + c);
}

#define STEP(i)                                                                                                        \
    {                                                                                                                  \
        const lane x = lane_splat(A(i));                                                                               \
        acc##i##0 = lane_madd(x, b0, acc##i##0);                                                                       \
        acc##i##1 = lane_madd(x, b1, acc##i##1);                                                                       \
    }
#define MORE(i)                                                                                                        \
    acc##i##0 = lane_add(lane_load(out + i * out_step), acc##i##0);                                                    \
    acc##i##1 = lane_add(lane_load(out + i * out_step + LANES), acc##i##1);
#define END(i)                                                                                                         \
    lane_store(out + i * out_step, acc##i##0);                                                                         \
    lane_store(out + i * out_step + LANES, acc##i##1);

/* out[i][0 .. NR - 1] = sum over k of a[i][k] b[k], for MR rows of a, of which those beyond `last` are `last` again;
 * with `add`, += */
static void multiply_rows(GLOBAL const float *a, const long a_step, const int last, GLOBAL const float *b,
                          const int b_step, const int depth, const int add, GLOBAL float *out, const int out_step)
{
#define BEGIN(i)                                                                                                       \
    GLOBAL const float *a##i = a + i_min(i, last) * a_step;                                                            \
    lane acc##i##0 = lane_splat(0.0f), acc##i##1 = acc##i##0;
#define A(i) a##i[k]
    ROWS(BEGIN)
    for (int k = 0; k < depth; k++) {
        const lane b0 = lane_load(b), b1 = lane_load(b + LANES);
        b += b_step;
        ROWS(STEP)
    }
    if (add) {
        ROWS(MORE)
    }
    ROWS(END)
#undef BEGIN
#undef A
}

/* The same for MR columns of a: out[i] = sum over k of a[k][i] b[k] */
static void multiply_columns(GLOBAL const float *a, const int a_step, GLOBAL const float *b, const int b_step,
                             const int depth, const int add, GLOBAL float *out, const int out_step)
{
#define BEGIN(i) lane acc##i##0 = lane_splat(0.0f), acc##i##1 = acc##i##0;
#define A(i)     a[i]
    ROWS(BEGIN)
    for (int k = 0; k < depth; k++) {
        const lane b0 = lane_load(b), b1 = lane_load(b + LANES);
        b += b_step;
        ROWS(STEP)
        a += a_step;
    }
    if (add) {
        ROWS(MORE)
    }
    ROWS(END)
#undef BEGIN
#undef A
}

#undef STEP
#undef MORE
#undef END

/* to[panel][row][NR] of rows of `width` channels, times `factor`; a panel has room for `room` rows. */
static void pack_panels(GLOBAL const float *from, const int step, const int rows, const int width, const float factor,
                        GLOBAL float *to, const int room)
{
    const lane times = lane_splat(factor);
    for (int first = 0; first < width; first += NR) {
        const int valid = i_min(NR, width - first);
        GLOBAL const float *row = from + first;
        for (int r = 0; r < rows; r++) {
            soon_read(row + (long)AHEAD * step, valid);
            if (valid == NR) {
                lane_store(to + r * NR, lane_mul(lane_load(row), times));
                lane_store(to + r * NR + LANES, lane_mul(lane_load(row + LANES), times));
            } else {
                for (int c = 0; c < NR; c++)
                    to[r * NR + c] = c < valid ? row[c] * factor : 0.0f;
            }
            row += step;
        }
        to += (long)room * NR;
    }
}

/* to[panel][channel][NR], panels of NR rows, of up to BLOCK rows, times `factor`; rows up to a whole NR are zero. */
static void pack_transposed(GLOBAL const float *from, const int step, const int rows, const int width,
                            const float factor, GLOBAL float *to)
{
    for (int first = 0; first < PADDED(rows); first += LANES) {
        const int valid = i_min(LANES, rows - first);
        GLOBAL float *panel = to + (long)(first / NR) * width * NR + first % NR;
        int c = 0;
#if LANES > 1
        const lane times = lane_splat(factor);
        for (; valid == LANES && c + LANES <= width; c += LANES) {
            lane block[LANES];
            for (int r = 0; r < LANES; r++) {
                lane_soon_read(from + (long)(first + LANES + r) * step + c);
                block[r] = lane_mul(lane_load(from + (long)(first + r) * step + c), times);
            }
            lane_transpose(block);
            for (int r = 0; r < LANES; r++)
                lane_store(panel + (c + r) * NR, block[r]);
        }
#endif
        for (int r = 0; r < LANES; r++)
            for (int channel = c; channel < width; channel++)
                panel[channel * NR + r] = r < valid ? from[(long)(first + r) * step + channel] * factor : 0.0f;
    }
}

/* S of a block of keys becomes P = exp(S - maximum), and what has been summed up so far fades to the new maximum. */
WIDE static void add_to_softmax(GLOBAL float *s, const int keys, const int queries, const int begun, float *top,
                                float *sum, GLOBAL float *o, const int padded)
{
    float best[BLOCK], fade[BLOCK];
    const int wide = PADDED(queries);
    for (int c = 0; c < wide; c++)
        best[c] = begun ? top[c] : s[c];
    for (int key = 0; key < keys; key++)
        for (int c = 0; c < wide; c++)
            best[c] = s[key * BLOCK + c] > best[c] ? s[key * BLOCK + c] : best[c];
    if (begun) {
        for (int c = 0; c < wide; c++) {
            fade[c] = attention_exp(top[c] - best[c]);
            sum[c] *= fade[c];
        }
        for (int i = 0; i < queries; i++)
            for (int c = 0; c < padded; c++)
                o[i * padded + c] *= fade[i];
    } else {
        for (int c = 0; c < wide; c++)
            sum[c] = 0.0f;
    }
    for (int key = 0; key < keys; key++) {
        GLOBAL float *row = s + key * BLOCK;
        INDEPENDENT
        for (int c = 0; c < wide; c++) {
            const float p = attention_exp(row[c] - best[c]);
            sum[c] += p;
            row[c] = p;
        }
    }
    for (int c = 0; c < wide; c++)
        top[c] = best[c];
}

/* item = slot. Scratch: V in panels, Q transposed, O [query][padded], S [key][query]. */
KERNEL4(attention_panel, struct attention_args, GLOBAL const float *qkv, GLOBAL float *dst, GLOBAL float *lse,
        GLOBAL float *scratch)
{
    const int pixels = arg.pixels, width = arg.width, padded = PADDED(width), step = 3 * arg.channels;
    GLOBAL float *v = scratch + (long)item * arg.slot_floats, *q = v + (long)pixels * padded, *o = q + width * BLOCK,
                 *s = o + BLOCK * padded;
    float top[BLOCK], sum[BLOCK];
    for (int task = item; task < arg.tasks; task += arg.slots) {
        const int line = task / arg.chunks, head = line % arg.heads, n = line / arg.heads;
        const int begin = (task - line * arg.chunks) * arg.blocks * BLOCK;
        const int end = i_min(begin + arg.blocks * BLOCK, pixels);
        GLOBAL const float *base = qkv + (long)n * pixels * step + head * arg.head_step, *k = base + arg.k_first;
        pack_panels(base + arg.v_first, step, pixels, width, 1.0f, v, pixels);
        for (int first = begin; first < end; first += BLOCK) {
            const int queries = i_min(BLOCK, end - first);
            pack_transposed(base + (long)first * step, step, queries, width, arg.scale, q);
            for (int key = 0; key < pixels; key += BLOCK) {
                const int keys = i_min(BLOCK, pixels - key);
                for (int c = 0; c < queries; c += NR)
                    for (int t = 0; t < keys; t += MR)
                        multiply_rows(k + (long)(key + t) * step, step, keys - 1 - t, q + c * width, NR, width, 0,
                                      s + t * BLOCK + c, BLOCK);
                add_to_softmax(s, keys, queries, key > 0, top, sum, o, padded);
                for (int c = 0; c < width; c += NR)
                    for (int t = 0; t < queries; t += MR)
                        multiply_columns(s + t, BLOCK, v + (long)c * pixels + key * NR, NR, keys, key > 0,
                                         o + t * padded + c, padded);
            }
            for (int i = 0; i < queries; i++) {
                const int row = n * pixels + first + i;
                GLOBAL float *to = dst + (long)row * arg.channels + head * width;
                const float inverse = 1.0f / sum[i];
                soon_written(to + (long)AHEAD * arg.channels, width);
                INDEPENDENT
                for (int c = 0; c < width; c++)
                    to[c] = o[i * padded + c] * inverse;
                lse[row * arg.heads + head] = top[i] + f_log(sum[i]);
            }
        }
    }
}

static float row_product(GLOBAL const float *a, GLOBAL const float *b, const int count)
{
    float part[LANES], sum = 0.0f;
    lane all = lane_splat(0.0f);
    int c = 0;
    for (; c + LANES <= count; c += LANES)
        all = lane_madd(lane_load(a + c), lane_load(b + c), all);
    lane_store(part, all);
    for (; c < count; c++)
        sum += a[c] * b[c];
    for (int i = 0; i < LANES; i++)
        sum += part[i];
    return sum;
}

/* item = slot. Scratch, with the rows of all pixels: Q and dDst in panels, dQ [query][padded] and lse and delta; of a
 * block: K and V transposed, K in panels, P and G [query][key], dK and dV [key][padded]. `part`: where there are
 * chunks, their dQ [chunk][row][channel]. */
KERNEL7(attention_backward_panel, struct attention_args, GLOBAL const float *qkv, GLOBAL const float *dst,
        GLOBAL const float *ddst, GLOBAL const float *lse, GLOBAL float *dqkv, GLOBAL float *part,
        GLOBAL float *scratch)
{
    const int pixels = arg.pixels, width = arg.width, padded = PADDED(width), step = 3 * arg.channels;
    GLOBAL float *q = scratch + (long)item * arg.slot_floats, *d = q + (long)pixels * padded,
                 *dq = d + (long)pixels * padded, *dk = dq + (long)((pixels + BLOCK - 1) / BLOCK * BLOCK) * padded,
                 *dv = dk + BLOCK * padded, *k_panels = dv + BLOCK * padded, *k = k_panels + BLOCK * padded,
                 *v = k + width * BLOCK, *p = v + width * BLOCK, *g = p + BLOCK * BLOCK, *all = g + BLOCK * BLOCK,
                 *delta = all + pixels;
    for (int task = item; task < arg.tasks; task += arg.slots) {
        const int line = task / arg.chunks, chunk = task - line * arg.chunks, head = line % arg.heads;
        const int n = line / arg.heads, row0 = n * pixels;
        const int begin = chunk * arg.blocks * BLOCK, end = i_min(begin + arg.blocks * BLOCK, pixels);
        GLOBAL const float *base = qkv + (long)row0 * step + head * arg.head_step;
        GLOBAL const float *grad = ddst + (long)row0 * arg.channels + head * width;
        pack_panels(base, step, pixels, width, 1.0f, q, pixels);
        pack_panels(grad, arg.channels, pixels, width, 1.0f, d, pixels);
        for (int i = 0; i < pixels; i++) {
            GLOBAL const float *result = dst + (long)(row0 + i) * arg.channels + head * width;
            soon_read(result + (long)AHEAD * arg.channels, width);
            all[i] = lse[(row0 + i) * arg.heads + head];
            delta[i] = row_product(result, grad + (long)i * arg.channels, width);
        }
        for (int key = begin; key < end; key += BLOCK) {
            const int keys = i_min(BLOCK, end - key), wide = PADDED(keys);
            GLOBAL const float *key_rows = base + (long)key * step;
            pack_transposed(key_rows + arg.k_first, step, keys, width, arg.scale, k);
            pack_transposed(key_rows + arg.v_first, step, keys, width, 1.0f, v);
            pack_panels(key_rows + arg.k_first, step, keys, width, arg.scale, k_panels, BLOCK);
            for (int first = 0; first < pixels; first += BLOCK) {
                const int queries = i_min(BLOCK, pixels - first);
                for (int c = 0; c < keys; c += NR)
                    for (int t = 0; t < queries; t += MR)
                        multiply_rows(base + (long)(first + t) * step, step, queries - 1 - t, k + c * width, NR, width,
                                      0, p + t * BLOCK + c, BLOCK);
                for (int c = 0; c < keys; c += NR)
                    for (int t = 0; t < queries; t += MR)
                        multiply_rows(grad + (long)(first + t) * arg.channels, arg.channels, queries - 1 - t,
                                      v + c * width, NR, width, 0, g + t * BLOCK + c, BLOCK);
                for (int i = 0; i < queries; i++) {
                    const float less = all[first + i], mean = delta[first + i];
                    GLOBAL float *p_row = p + i * BLOCK, *g_row = g + i * BLOCK;
                    INDEPENDENT
                    for (int c = 0; c < wide; c++) {
                        const float e = attention_exp(p_row[c] - less);
                        p_row[c] = e;
                        g_row[c] = e * (g_row[c] - mean);
                    }
                }
                for (int c = 0; c < width; c += NR) {
                    const long panel = (long)c * pixels + first * NR;
                    for (int t = 0; t < keys; t += MR)
                        multiply_columns(p + t, BLOCK, d + panel, NR, queries, first > 0, dv + t * padded + c, padded);
                    for (int t = 0; t < keys; t += MR)
                        multiply_columns(g + t, BLOCK, q + panel, NR, queries, first > 0, dk + t * padded + c, padded);
                    for (int t = 0; t < queries; t += MR)
                        multiply_rows(g + t * BLOCK, BLOCK, queries - 1 - t, k_panels + c * BLOCK, NR, keys,
                                      key > begin, dq + (long)(first + t) * padded + c, padded);
                }
            }
            for (int i = 0; i < keys; i++) {
                GLOBAL float *to = dqkv + (long)(row0 + key + i) * step + head * arg.head_step;
                soon_written(to + (long)AHEAD * step + arg.k_first, width);
                soon_written(to + (long)AHEAD * step + arg.v_first, width);
                for (int c = 0; c < width; c++) {
                    to[arg.k_first + c] = dk[i * padded + c] * arg.scale;
                    to[arg.v_first + c] = dv[i * padded + c];
                }
            }
        }
        const int to_step = arg.chunks == 1 ? step : arg.channels;
        GLOBAL float *to = arg.chunks == 1 ? dqkv + (long)row0 * step + head * arg.head_step
                                           : part + ((long)chunk * arg.rows + row0) * arg.channels + head * width;
        for (int i = 0; i < pixels; i++) {
            soon_written(to + (long)AHEAD * to_step, width);
            for (int c = 0; c < width; c++)
                to[c] = dq[(long)i * padded + c];
            to += to_step;
        }
    }
}

/* dq = the sum over chunks, in order; item = row */
KERNEL2(attention_sum, struct attention_args, GLOBAL const float *part, GLOBAL float *dqkv)
{
    for (int head = 0; head < arg.heads; head++) {
        GLOBAL const float *from = part + (long)item * arg.channels + head * arg.width;
        GLOBAL float *to = dqkv + (long)item * 3 * arg.channels + head * arg.head_step;
        for (int c = 0; c < arg.width; c++) {
            float sum = 0.0f;
            for (int chunk = 0; chunk < arg.chunks; chunk++)
                sum += from[(long)chunk * arg.rows * arg.channels + c];
            to[c] = sum;
        }
    }
}
