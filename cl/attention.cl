/* Attention straight from its definition, for devices and shapes that the other candidates decline: scores are made
 * again wherever they are needed, so nothing of size pixels x pixels is ever stored. The formulas are in
 * src/op/attention.c, the layout in attention.h.
 *
 * item = ((image * heads + head) * pieces + piece) * pixels + pixel: a row of the result, and of its channels one
 * piece, kept in private variables. Neighbouring items read the same keys at the same time. Sums run over the pixels in
 * order. No limits. */
#include "kernel.h"
#include "attention.h"
#include "special.h"

#ifndef ATTENTION_COLUMNS
#define ATTENTION_COLUMNS 64
#endif

/* Of an item: image, head, pixel; the first of its channels and how many there are. */
struct attention_place {
    int n, head, pixel, first, count;
};

static inline struct attention_place attention_find(const struct attention_args arg, const int item, const int pieces)
{
    struct attention_place at;
    const int line = item / arg.pixels;
    at.pixel = item - line * arg.pixels;
    at.first = line % pieces * arg.columns;
    at.head = line / pieces % arg.heads;
    at.n = line / pieces / arg.heads;
    at.count = i_min(arg.columns, arg.width - at.first);
    return at;
}

static inline float attention_dot(GLOBAL const float *a, GLOBAL const float *b, const int count)
{
    float sum = 0.0f;
    for (int i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* One item a row and head. */
KERNEL2(attention_direct_lse, struct attention_args, GLOBAL const float *qkv, GLOBAL float *lse)
{
    const struct attention_place at = attention_find(arg, item, 1);
    const int step = 3 * arg.channels;
    GLOBAL const float *keys = qkv + at.n * arg.pixels * step + at.head * arg.head_step + arg.k_first;
    GLOBAL const float *q = keys + at.pixel * step - arg.k_first;
    float top = attention_dot(q, keys, arg.width) * arg.scale, sum = 1.0f;
    for (int j = 1; j < arg.pixels; j++) {
        const float s = attention_dot(q, keys + j * step, arg.width) * arg.scale;
        if (s > top) {
            sum = sum * f_exp(top - s) + 1.0f;
            top = s;
        } else {
            sum += f_exp(s - top);
        }
    }
    lse[(at.n * arg.pixels + at.pixel) * arg.heads + at.head] = top + f_log(sum);
}

KERNEL3(attention_direct, struct attention_args, GLOBAL const float *qkv, GLOBAL const float *lse, GLOBAL float *dst)
{
    float o[ATTENTION_COLUMNS];
    const struct attention_place at = attention_find(arg, item, arg.pieces);
    const int step = 3 * arg.channels, row = at.n * arg.pixels + at.pixel;
    GLOBAL const float *head = qkv + at.n * arg.pixels * step + at.head * arg.head_step;
    GLOBAL const float *q = head + at.pixel * step, *k = head + arg.k_first, *v = head + arg.v_first + at.first;
    const float all = lse[row * arg.heads + at.head];
    for (int c = 0; c < ATTENTION_COLUMNS; c++)
        o[c] = 0.0f;
    for (int j = 0; j < arg.pixels; j++) {
        const float p = f_exp(attention_dot(q, k, arg.width) * arg.scale - all);
        for (int c = 0; c < ATTENTION_COLUMNS; c++) /* a constant, so that o lies in registers */
            o[c] += p * v[i_min(c, at.count - 1)];
        k += step;
        v += step;
    }
    GLOBAL float *to = dst + row * arg.channels + at.head * arg.width + at.first;
    for (int c = 0; c < ATTENTION_COLUMNS; c++)
        if (c < at.count)
            to[c] = o[c];
}

/* One item a row and head; for the candidates of cl/gpu too. */
KERNEL3(attention_delta, struct attention_args, GLOBAL const float *dst, GLOBAL const float *ddst, GLOBAL float *delta)
{
    const struct attention_place at = attention_find(arg, item, 1);
    const int row = at.n * arg.pixels + at.pixel, first = row * arg.channels + at.head * arg.width;
    delta[row * arg.heads + at.head] = attention_dot(dst + first, ddst + first, arg.width);
}

KERNEL5(attention_direct_dq, struct attention_args, GLOBAL const float *qkv, GLOBAL const float *ddst,
        GLOBAL const float *lse, GLOBAL const float *delta, GLOBAL float *dqkv)
{
    float dq[ATTENTION_COLUMNS];
    const struct attention_place at = attention_find(arg, item, arg.pieces);
    const int step = 3 * arg.channels, row = at.n * arg.pixels + at.pixel, offset = at.head * arg.head_step;
    GLOBAL const float *head = qkv + at.n * arg.pixels * step + offset;
    GLOBAL const float *q = head + at.pixel * step, *k = head + arg.k_first, *v = head + arg.v_first;
    GLOBAL const float *d = ddst + row * arg.channels + at.head * arg.width;
    const float all = lse[row * arg.heads + at.head], mean = delta[row * arg.heads + at.head];
    for (int c = 0; c < ATTENTION_COLUMNS; c++)
        dq[c] = 0.0f;
    for (int j = 0; j < arg.pixels; j++) {
        const float p = f_exp(attention_dot(q, k, arg.width) * arg.scale - all);
        const float g = p * (attention_dot(d, v, arg.width) - mean);
        for (int c = 0; c < ATTENTION_COLUMNS; c++)
            dq[c] += g * k[at.first + i_min(c, at.count - 1)];
        k += step;
        v += step;
    }
    GLOBAL float *to = dqkv + row * step + offset + at.first;
    for (int c = 0; c < ATTENTION_COLUMNS; c++)
        if (c < at.count)
            to[c] = dq[c] * arg.scale;
}

/* A row here is a key, and the sums run over the queries. */
KERNEL5(attention_direct_dkv, struct attention_args, GLOBAL const float *qkv, GLOBAL const float *ddst,
        GLOBAL const float *lse, GLOBAL const float *delta, GLOBAL float *dqkv)
{
    float dk[ATTENTION_COLUMNS], dv[ATTENTION_COLUMNS];
    const struct attention_place at = attention_find(arg, item, arg.pieces);
    const int step = 3 * arg.channels, row = at.n * arg.pixels + at.pixel, offset = at.head * arg.head_step;
    GLOBAL const float *q = qkv + at.n * arg.pixels * step + offset;
    GLOBAL const float *k = q + at.pixel * step + arg.k_first, *v = q + at.pixel * step + arg.v_first;
    GLOBAL const float *d = ddst + at.n * arg.pixels * arg.channels + at.head * arg.width;
    int of_query = at.n * arg.pixels * arg.heads + at.head;
    for (int c = 0; c < ATTENTION_COLUMNS; c++)
        dk[c] = dv[c] = 0.0f;
    for (int i = 0; i < arg.pixels; i++) {
        const float p = f_exp(attention_dot(q, k, arg.width) * arg.scale - lse[of_query]);
        const float g = p * (attention_dot(d, v, arg.width) - delta[of_query]);
        for (int c = 0; c < ATTENTION_COLUMNS; c++) {
            const int channel = at.first + i_min(c, at.count - 1);
            dk[c] += g * q[channel];
            dv[c] += p * d[channel];
        }
        q += step;
        d += arg.channels;
        of_query += arg.heads;
    }
    GLOBAL float *to = dqkv + row * step + offset + at.first;
    for (int c = 0; c < ATTENTION_COLUMNS; c++) {
        if (c < at.count) {
            to[arg.k_first + c] = dk[c] * arg.scale;
            to[arg.v_first + c] = dv[c];
        }
    }
}
