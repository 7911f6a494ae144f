/* Statistics of columns, for batch norm (the whole batch is one group of rows) and group norm (each sample is one), in
 * one pass over the source. Storage is rows x columns: a row is a pixel, a column a channel, columns contiguous.
 *
 * Each chunk of rows gives its moments (norm.h), or a convolution leaves them
 * of each piece of its result while it has it at hand (cl/cpu). Differences are taken from a guess, the mean of some
 * pilot rows (here the chunk's first NORM_PILOT), so a large common offset costs nothing (E[x^2] - mean^2 would lose
 * every digit there), and what the guess is off is subtracted at the end: M2 = sum d^2 - (sum d)^2 / n. That loses
 * little: with P pilot rows the guess g has P (g - mean)^2 <= M2, so sum d^2 <= (1 + n / P) M2, at worst 9 times for
 * 256 rows with 32 pilots, and 1 + 1 / P times as a rule. A convolution's pieces are 120 rows with 32 pilots, or up to
 * 24 Winograd tiles with the first one's pixels as pilots: 25 times at worst, and more only where that tile hangs over
 * the edge (with one pixel, 2 times as a rule).
 *
 * Moments are merged, always in the same order, by Chan's formula (Chan, Golub, LeVeque 1979) for many groups:
 *     mean = sum n_i mean_i / n,   M2 = sum (M2_i + n_i (mean_i - mean)^2),
 * where the mean is summed as what the means differ from the first of the group, for the same reason as above.
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
#define NORM_COLUMNS 512
#endif
#endif

/* An item's columns. A constant where it is 1, so that private arrays become registers. */
#define NORM_WIDTH(c0) (NORM_COLUMNS == 1 ? 1 : i_min(arg.width, arg.columns - (c0)))

/* Moments of each chunk of each group; the stride is `columns`. */
KERNEL2(norm_chunk, struct norm_chunk_args, GLOBAL const float *src, GLOBAL float *moments)
{
    float centre[NORM_COLUMNS], sum[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, place = item / arg.blocks, stride = arg.columns;
    const int group = place / arg.chunks, row = place % arg.chunks * arg.chunk;
    const int rows = i_min(arg.chunk, arg.rows - row), pilot = i_min(rows, NORM_PILOT);
    const int width = NORM_WIDTH(c0), pitch = arg.pitch;
    GLOBAL float *to = moments + 3 * (long)place * stride + c0;
    const float inverse = 1.0f / (float)rows, share = 1.0f / (float)pilot;
    GLOBAL const float *from = src + (group * arg.rows + row) * pitch + c0;
    for (int c = 0; c < width; c++)
        sum[c] = 0.0f;
    for (int r = 1; r < pilot; r++) {
        INDEPENDENT
        for (int c = 0; c < width; c++)
            sum[c] += from[r * pitch + c] - from[c];
    }
    for (int c = 0; c < width; c++) {
        centre[c] = from[c] + sum[c] * share;
        sum[c] = square[c] = 0.0f;
    }
    const int quarter = rows / 4, apart = quarter * pitch;
    for (int r = 0; r < quarter; r++) {
        GLOBAL const float *x = from + r * pitch;
        INDEPENDENT
        for (int c = 0; c < width; c++) {
            const float d0 = x[c] - centre[c], d1 = x[apart + c] - centre[c];
            const float d2 = x[2 * apart + c] - centre[c], d3 = x[3 * apart + c] - centre[c];
            sum[c] += (d0 + d1) + (d2 + d3);
            square[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3);
        }
    }
    for (int r = 4 * quarter; r < rows; r++)
        for (int c = 0; c < width; c++) {
            const float d = from[r * pitch + c] - centre[c];
            sum[c] += d;
            square[c] += d * d;
        }
    for (int c = 0; c < width; c++) {
        to[c] = (float)rows;
        to[stride + c] = centre[c] + sum[c] * inverse;
        /* not below 0; NaN stays NaN */
        to[2 * stride + c] = f_max(square[c] - sum[c] * sum[c] * inverse, square[c] * 0.0f);
    }
}

/* Merge `partials` moments. The arrays hold `width` columns; guess: the mean of a partial with rows. */
static inline void norm_merge_columns(GLOBAL const float *moments, GLOBAL const float *guess, float *count,
                                      float *centre, float *square, const int partials, const int stride,
                                      const int width)
{
    for (int c = 0; c < width; c++)
        count[c] = centre[c] = square[c] = 0.0f;
    for (int p = 0; p < partials; p++) {
        GLOBAL const float *n = moments + 3 * (long)stride * p, *mean = n + stride;
        for (int c = 0; c < width; c++) {
            count[c] += n[c];
            centre[c] += (mean[c] - guess[c]) * n[c];
        }
    }
    for (int c = 0; c < width; c++)
        centre[c] = guess[c] + centre[c] / f_max(count[c], 1.0f);
    for (int p = 0; p < partials; p++) {
        GLOBAL const float *n = moments + 3 * (long)stride * p, *mean = n + stride, *m2 = mean + stride;
        for (int c = 0; c < width; c++) {
            const float d = mean[c] - centre[c];
            square[c] += m2[c] + d * d * n[c];
        }
    }
}

/* The same in each group: item = (group * merged + place) * blocks + block. */
KERNEL2(norm_merge, struct norm_merge_args, GLOBAL const float *moments, GLOBAL float *merged)
{
    float count[NORM_COLUMNS], centre[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, place = item / arg.blocks, width = NORM_WIDTH(c0);
    const int group = place / arg.merged, first = place % arg.merged * arg.fan;
    const long line = 3 * (long)arg.stride;
    GLOBAL const float *own = moments + group * arg.partials * line + c0;
    GLOBAL float *to = merged + place * line + c0;
    norm_merge_columns(own + first * line, own + arg.stride, count, centre, square,
                       i_min(arg.fan, arg.partials - first), arg.stride, width);
    for (int c = 0; c < width; c++) {
        to[c] = count[c];
        to[arg.stride + c] = centre[c];
        to[2 * arg.stride + c] = square[c];
    }
}

#endif
