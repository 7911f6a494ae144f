/* Statistics of columns, for batch norm (the whole batch is one group of rows) and group norm (each sample is one), in
 * one pass over the source. Storage is rows x columns: a row is a pixel, a column a channel, columns contiguous.
 *
 * Each chunk of rows gives its mean and its sum of squared differences from that mean. Differences are taken from a
 * guess, the mean of the chunk's first NORM_PILOT rows, so a large common offset costs nothing (E[x^2] - mean^2 would
 * lose every digit there), and what the guess is off is subtracted at the end: M2 = sum d^2 - (sum d)^2 / n. That loses
 * little: with P pilot rows the guess g has P (g - mean)^2 <= M2, so sum d^2 <= (1 + n / P) M2, at worst 9 times for
 * 256 rows, and 1 + 1 / P times as a rule. Chunks are merged, always in the same order, by Chan's formula (Chan, Golub,
 * LeVeque 1979) for many groups: mean = sum n_i mean_i / n,   M2 = sum (M2_i + n_i (mean_i - mean)^2).
 *
 * An item has up to NORM_COLUMNS columns in private variables: one on a GPU, whole rows mostly on a CPU, so that memory
 * is read in long pieces. Sums take four rows a turn, a quarter of the chunk apart: the private sums are then loaded
 * and stored once for four, and a core that fetches ahead by stream has four of them (2.6 times as fast as neighbours).
 */
#ifndef NORM_STATS_H
#define NORM_STATS_H

#include "kernel.h"
#include "norm.h"

#ifndef NORM_COLUMNS
#ifdef __OPENCL_C_VERSION__
#define NORM_COLUMNS 1
#else
#define NORM_COLUMNS 256
#endif
#endif

/* An item's columns. A constant where it is 1, so that private arrays become registers. */
#define NORM_WIDTH(c0) (NORM_COLUMNS == 1 ? 1 : i_min(arg.width, arg.columns - (c0)))

/* One pair a chunk and column: mean[group][chunk][column], m2 likewise. */
KERNEL3(norm_chunk, struct norm_chunk_args, GLOBAL const float *src, GLOBAL float *mean, GLOBAL float *m2)
{
    float centre[NORM_COLUMNS], sum[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, place = item / arg.blocks, stride = arg.columns;
    const int group = place / arg.chunks, row = place % arg.chunks * arg.chunk;
    const int rows = i_min(arg.chunk, arg.rows - row), pilot = i_min(rows, NORM_PILOT);
    const int width = NORM_WIDTH(c0), to = place * stride + c0;
    const float inverse = 1.0f / (float)rows, share = 1.0f / (float)pilot;
    GLOBAL const float *from = src + (group * arg.rows + row) * stride + c0;
    for (int c = 0; c < width; c++)
        sum[c] = 0.0f;
    for (int r = 1; r < pilot; r++)
        for (int c = 0; c < width; c++)
            sum[c] += from[r * stride + c] - from[c];
    for (int c = 0; c < width; c++) {
        centre[c] = from[c] + sum[c] * share;
        sum[c] = square[c] = 0.0f;
    }
    const int quarter = rows / 4, apart = quarter * stride;
    for (int r = 0; r < quarter; r++) {
        GLOBAL const float *x = from + r * stride;
        for (int c = 0; c < width; c++) {
            const float d0 = x[c] - centre[c], d1 = x[apart + c] - centre[c];
            const float d2 = x[2 * apart + c] - centre[c], d3 = x[3 * apart + c] - centre[c];
            sum[c] += (d0 + d1) + (d2 + d3);
            square[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3);
        }
    }
    for (int r = 4 * quarter; r < rows; r++)
        for (int c = 0; c < width; c++) {
            const float d = from[r * stride + c] - centre[c];
            sum[c] += d;
            square[c] += d * d;
        }
    for (int c = 0; c < width; c++) {
        mean[to + c] = centre[c] + sum[c] * inverse;
        m2[to + c] = f_max(square[c] - sum[c] * sum[c] * inverse, square[c] * 0.0f); /* not below 0; NaN stays NaN */
    }
}

/* Merge `partials` pairs that stand for `rows` rows, `span` each but the last. The arrays hold `width` columns. */
static inline void norm_merge_columns(GLOBAL const float *mean, GLOBAL const float *m2, float *centre, float *square,
                                      const int partials, const int span, const int rows, const int stride,
                                      const int width)
{
    float sum[NORM_COLUMNS];
    for (int c = 0; c < width; c++)
        sum[c] = square[c] = 0.0f;
    for (int p = 1; p < partials; p++) {
        const float weight = (float)i_min(span, rows - p * span) / (float)rows;
        for (int c = 0; c < width; c++)
            sum[c] += (mean[p * stride + c] - mean[c]) * weight;
    }
    for (int c = 0; c < width; c++)
        centre[c] = mean[c] + sum[c];
    for (int p = 0; p < partials; p++) {
        const float weight = (float)i_min(span, rows - p * span);
        for (int c = 0; c < width; c++) {
            const float d = mean[p * stride + c] - centre[c];
            square[c] += m2[p * stride + c] + d * d * weight;
        }
    }
}

/* The same in each group. */
KERNEL4(norm_merge, struct norm_merge_args, GLOBAL const float *mean, GLOBAL const float *m2, GLOBAL float *mean_out,
        GLOBAL float *m2_out)
{
    float centre[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, place = item / arg.blocks;
    const int group = place / arg.merged, first = place % arg.merged * arg.fan;
    const int partials = i_min(arg.fan, arg.partials - first), width = NORM_WIDTH(c0);
    const int from = (group * arg.partials + first) * arg.columns + c0, to = place * arg.columns + c0;
    const int rows = arg.rows - first * arg.span; /* those left; the last partial may be short */
    const int own = partials < arg.partials - first ? partials * arg.span : rows;
    norm_merge_columns(mean + from, m2 + from, centre, square, partials, arg.span, own, arg.columns, width);
    for (int c = 0; c < width; c++) {
        mean_out[to + c] = centre[c];
        m2_out[to + c] = square[c];
    }
}

#endif
