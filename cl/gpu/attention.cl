/* Attention for GPUs: tiles of 32 rows by 32 pixels through local memory. The formulas are in src/op/attention.c, the
 * layout in attention.h; the order of the sums is that of cl/cpu/attention.cl with smaller blocks.
 *
 * A group of 256 work-items owns 32 rows of a result (queries, or keys for dK and dV) of one image and head, eight
 * items a row; it walks all pixels, 32 at a time. Every item keeps 4 scores, and of its row's channels every eighth in
 * registers. No atomics: a run repeats bit for bit.
 *
 * Macros: ATTENTION_PARTS, the width of a head in pieces of 32 channels, rounded up. Work-group size 256 exactly,
 * 12.4 KiB of local memory, no sub-groups. */
#include "kernel.h"
#include "attention.h"
#include "special.h"

#ifndef ATTENTION_PARTS
#define ATTENTION_PARTS 2
#endif

#define TILE         32
#define SIDE         8          /* items a row */
#define OWN          4          /* columns of a tile that an item has: SIDE apart */
#define LINE         (TILE + 1) /* one float of padding spreads the columns over the banks */
#define KEPT         (ATTENTION_PARTS * OWN)
#define GROUP_OF_256 __attribute__((reqd_work_group_size(TILE * SIDE, 1, 1)))
/* A launch may be enqueued in parts, in each of which get_group_id begins at 0. */
#define GROUP_NUMBER ((int)(get_group_id(0) + get_global_offset(0) / (TILE * SIDE)))

/* Up to TILE rows and channels; zero beyond them. */
static void load_tile(__local float *to, __global const float *from, const long step, const int rows, const int width)
{
    const int id = get_local_id(0);
    for (int i = 0; i < TILE * TILE; i += TILE * SIDE) {
        const int row = (id + i) / TILE, c = (id + i) % TILE;
        to[row * LINE + c] = row < rows && c < width ? from[row * step + c] : 0.0f;
    }
}

/* sum[j] = row (own row of the tile) of a times row (own column j of the tile) of b */
static void multiply(__local float *tile_a, __local float *tile_b, __global const float *a, const long a_step,
                     const int a_rows, __global const float *b, const long b_step, const int b_rows, const int width,
                     float *sum)
{
    const int row = get_local_id(0) / SIDE, column = get_local_id(0) % SIDE;
    for (int j = 0; j < OWN; j++)
        sum[j] = 0.0f;
    for (int first = 0; first < width; first += TILE) {
        barrier(CLK_LOCAL_MEM_FENCE); /* nobody reads the last tiles any more */
        load_tile(tile_a, a + first, a_step, a_rows, width - first);
        load_tile(tile_b, b + first, b_step, b_rows, width - first);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int k = 0; k < TILE; k++) {
            const float x = tile_a[row * LINE + k];
            for (int j = 0; j < OWN; j++)
                sum[j] += x * tile_b[(column + SIDE * j) * LINE + k];
        }
    }
}

/* sum += weights (own row of the tile) times the rows of b */
static void add_rows(__local float *weights, __local float *tile, __global const float *b, const long step,
                     const int rows, const int width, float *sum)
{
    const int row = get_local_id(0) / SIDE, column = get_local_id(0) % SIDE;
    for (int part = 0; part < ATTENTION_PARTS; part++) {
        barrier(CLK_LOCAL_MEM_FENCE); /* the weights are there, and nobody reads the last tile any more */
        load_tile(tile, b + part * TILE, step, rows, width - part * TILE);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int k = 0; k < TILE; k++) {
            const float x = weights[row * LINE + k];
            for (int j = 0; j < OWN; j++)
                sum[part * OWN + j] += x * tile[k * LINE + column + SIDE * j];
        }
    }
}

/* The item's channels of a row of a head. */
static void store_row(__global float *to, const int width, const float *values, const float factor)
{
    const int column = get_local_id(0) % SIDE;
    for (int i = 0; i < KEPT; i++)
        if (column + SIDE * i < width)
            to[column + SIDE * i] = values[i] * factor;
}

/* group = (image * heads + head) * blocks of rows + block */
__kernel GROUP_OF_256 void attention_tile(P_(0), P_(1), P_(2), const struct attention_args arg, const uint items)
{
    __global const float *qkv = B_(0);
    __global float *dst = B_(1), *lse = B_(2);
    __local float a[TILE * LINE], b[TILE * LINE], weights[TILE * LINE];
    const int row = get_local_id(0) / SIDE, column = get_local_id(0) % SIDE;
    const int blocks = (arg.pixels + TILE - 1) / TILE, line = GROUP_NUMBER / blocks;
    const int head = line % arg.heads, n = line / arg.heads;
    const int first = (GROUP_NUMBER - line * blocks) * TILE, queries = i_min(TILE, arg.pixels - first);
    const long step = 3 * arg.channels;
    __global const float *base = qkv + (long)n * arg.pixels * step + head * arg.head_step;

    float top = -0x1.fffffep+127f, sum = 0.0f, o[KEPT], s[OWN];
    for (int i = 0; i < KEPT; i++)
        o[i] = 0.0f;
    for (int key = 0; key < arg.pixels; key += TILE) {
        const int keys = i_min(TILE, arg.pixels - key);
        multiply(a, b, base + first * step, step, queries, base + arg.k_first + key * step, step, keys, arg.width, s);
        for (int j = 0; j < OWN; j++) {
            s[j] *= arg.scale;
            weights[row * LINE + column + SIDE * j] = column + SIDE * j < keys ? s[j] : -0x1.fffffep+127f;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        float best = top;
        for (int k = 0; k < TILE; k++)
            best = weights[row * LINE + k] > best ? weights[row * LINE + k] : best;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int j = 0; j < OWN; j++)
            weights[row * LINE + column + SIDE * j] = column + SIDE * j < keys ? f_exp(s[j] - best) : 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE);
        const float fade = f_exp(top - best);
        sum *= fade;
        for (int k = 0; k < TILE; k++)
            sum += weights[row * LINE + k];
        for (int i = 0; i < KEPT; i++)
            o[i] *= fade;
        add_rows(weights, b, base + arg.v_first + key * step, step, keys, arg.width, o);
        top = best;
    }
    if (row < queries) {
        const int at = n * arg.pixels + first + row;
        store_row(dst + (long)at * arg.channels + head * arg.width, arg.width, o, 1.0f / sum);
        if (column == 0)
            lse[at * arg.heads + head] = top + f_log(sum);
    }
}

__kernel GROUP_OF_256 void attention_dq_tile(P_(0), P_(1), P_(2), P_(3), P_(4), const struct attention_args arg,
                                             const uint items)
{
    __global const float *qkv = B_(0), *ddst = B_(1), *lse = B_(2), *delta = B_(3);
    __global float *dqkv = B_(4);
    __local float a[TILE * LINE], b[TILE * LINE], weights[TILE * LINE];
    const int row = get_local_id(0) / SIDE, column = get_local_id(0) % SIDE;
    const int blocks = (arg.pixels + TILE - 1) / TILE, line = GROUP_NUMBER / blocks;
    const int head = line % arg.heads, n = line / arg.heads;
    const int first = (GROUP_NUMBER - line * blocks) * TILE, queries = i_min(TILE, arg.pixels - first);
    const long step = 3 * arg.channels;
    const int at = n * arg.pixels + first + i_min(row, queries - 1);
    __global const float *base = qkv + (long)n * arg.pixels * step + head * arg.head_step;
    __global const float *grad = ddst + ((long)n * arg.pixels + first) * arg.channels + head * arg.width;

    float dq[KEPT], s[OWN], d[OWN];
    for (int i = 0; i < KEPT; i++)
        dq[i] = 0.0f;
    for (int key = 0; key < arg.pixels; key += TILE) {
        const int keys = i_min(TILE, arg.pixels - key);
        __global const float *k = base + arg.k_first + key * step, *v = base + arg.v_first + key * step;
        multiply(a, b, base + first * step, step, queries, k, step, keys, arg.width, s);
        multiply(a, b, grad, arg.channels, queries, v, step, keys, arg.width, d);
        for (int j = 0; j < OWN; j++) {
            /* Not before the loops: Intel's driver for CPUs (2026.22) takes other rows' values over the barriers, and
             * see cl/gpu/conv2d.cl. */
            const float all = lse[at * arg.heads + head], mean = delta[at * arg.heads + head];
            weights[row * LINE + column + SIDE * j] =
                column + SIDE * j < keys ? f_exp(s[j] * arg.scale - all) * (d[j] - mean) : 0.0f;
        }
        add_rows(weights, b, k, step, keys, arg.width, dq);
    }
    if (row < queries)
        store_row(dqkv + at * step + head * arg.head_step, arg.width, dq, arg.scale);
}

/* Rows are keys here, and the tile's columns queries. */
__kernel GROUP_OF_256 void attention_dkv_tile(P_(0), P_(1), P_(2), P_(3), P_(4), const struct attention_args arg,
                                              const uint items)
{
    __global const float *qkv = B_(0), *ddst = B_(1), *lse = B_(2), *delta = B_(3);
    __global float *dqkv = B_(4);
    __local float a[TILE * LINE], b[TILE * LINE], weights[TILE * LINE];
    const int row = get_local_id(0) / SIDE, column = get_local_id(0) % SIDE;
    const int blocks = (arg.pixels + TILE - 1) / TILE, line = GROUP_NUMBER / blocks;
    const int head = line % arg.heads, n = line / arg.heads;
    const int first = (GROUP_NUMBER - line * blocks) * TILE, keys = i_min(TILE, arg.pixels - first);
    const long step = 3 * arg.channels;
    __global const float *base = qkv + (long)n * arg.pixels * step + head * arg.head_step;
    __global const float *k = base + arg.k_first + first * step, *v = base + arg.v_first + first * step;

    float dk[KEPT], dv[KEPT], s[OWN], d[OWN];
    for (int i = 0; i < KEPT; i++)
        dk[i] = dv[i] = 0.0f;
    for (int query = 0; query < arg.pixels; query += TILE) {
        const int queries = i_min(TILE, arg.pixels - query);
        __global const float *q = base + query * step;
        __global const float *grad = ddst + ((long)n * arg.pixels + query) * arg.channels + head * arg.width;
        multiply(a, b, k, step, keys, q, step, queries, arg.width, s);
        multiply(a, b, v, step, keys, grad, arg.channels, queries, arg.width, d);
        for (int j = 0; j < OWN; j++) {
            const int own = column + SIDE * j;
            const int at = (n * arg.pixels + query + i_min(own, queries - 1)) * arg.heads + head;
            const float p = own < queries ? f_exp(s[j] * arg.scale - lse[at]) : 0.0f;
            weights[row * LINE + own] = p;
            s[j] = p * (d[j] - delta[at]);
        }
        add_rows(weights, b, grad, arg.channels, queries, arg.width, dv);
        barrier(CLK_LOCAL_MEM_FENCE); /* nobody reads P any more */
        for (int j = 0; j < OWN; j++)
            weights[row * LINE + column + SIDE * j] = s[j];
        add_rows(weights, b, q, step, queries, arg.width, dk);
    }
    if (row < keys) {
        __global float *to = dqkv + ((long)n * arg.pixels + first + row) * step + head * arg.head_step;
        store_row(to + arg.k_first, arg.width, dk, arg.scale);
        store_row(to + arg.v_first, arg.width, dv, 1.0f);
    }
}
