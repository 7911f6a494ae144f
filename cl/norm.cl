/* Batch norm, forward and backward; the formulas are in src/op/batch_norm.c. Storage is rows x columns: a row is a
 * pixel of the batch, a column a channel, columns contiguous.
 *
 * Statistics, in one pass over the source: each chunk of rows gives its moments (norm.h), or a convolution leaves them
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
 * where the mean is summed as what the means differ from the first of all, for the same reason as above.
 *
 * An item has up to NORM_COLUMNS columns in private variables: one on a GPU, whole rows mostly on a CPU, so that memory
 * is read in long pieces. Sums take four rows a turn, a quarter of the chunk apart: the private sums are then loaded
 * and stored once for four, and a core that fetches ahead by stream has four of them (2.6 times as fast as neighbours).
 */
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

/* Moments of each chunk; the stride is `columns`. */
KERNEL2(norm_chunk, struct norm_chunk_args, GLOBAL const float *src, GLOBAL float *moments)
{
    float centre[NORM_COLUMNS], sum[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, chunk = item / arg.blocks, stride = arg.columns;
    const int pitch = arg.pitch;
    const int row = chunk * arg.chunk, rows = i_min(arg.chunk, arg.rows - row), pilot = i_min(rows, NORM_PILOT);
    const int width = NORM_WIDTH(c0);
    GLOBAL float *to = moments + 3 * chunk * stride + c0;
    const float inverse = 1.0f / (float)rows, share = 1.0f / (float)pilot;
    GLOBAL const float *from = src + row * pitch + c0;
    for (int c = 0; c < width; c++)
        sum[c] = 0.0f;
    for (int r = 1; r < pilot; r++)
        for (int c = 0; c < width; c++)
            sum[c] += from[r * pitch + c] - from[c];
    for (int c = 0; c < width; c++) {
        centre[c] = from[c] + sum[c] * share;
        sum[c] = square[c] = 0.0f;
    }
    const int quarter = rows / 4, apart = quarter * pitch;
    for (int r = 0; r < quarter; r++) {
        GLOBAL const float *x = from + r * pitch;
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

/* item = merged * blocks + block */
KERNEL2(norm_merge, struct norm_merge_args, GLOBAL const float *moments, GLOBAL float *merged)
{
    float count[NORM_COLUMNS], centre[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, place = item / arg.blocks, first = place * arg.fan;
    const int width = NORM_WIDTH(c0);
    const long line = 3 * (long)arg.stride;
    GLOBAL float *to = merged + place * line + c0;
    norm_merge_columns(moments + first * line + c0, moments + arg.stride + c0, count, centre, square,
                       i_min(arg.fan, arg.partials - first), arg.stride, width);
    for (int c = 0; c < width; c++) {
        to[c] = count[c];
        to[arg.stride + c] = centre[c];
        to[2 * arg.stride + c] = square[c];
    }
}

/* stats[0][column]: the mean, stats[1][column]: the biased variance */
KERNEL2(norm_finish, struct norm_finish_args, GLOBAL const float *moments, GLOBAL float *stats)
{
    float count[NORM_COLUMNS], centre[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item * arg.width, width = NORM_WIDTH(c0);
    norm_merge_columns(moments + c0, moments + arg.stride + c0, count, centre, square, arg.partials, arg.stride, width);
    for (int c = 0; c < width; c++) {
        stats[c0 + c] = centre[c];
        stats[arg.columns + c0 + c] = square[c] / (float)arg.rows;
    }
}

/* What the op leaves of given statistics: the batch's, or in evaluation mode the running ones. running_*: anything
 * without `update`. */
KERNEL6(norm_given, struct norm_given_args, GLOBAL const float *given_mean, GLOBAL const float *given_var,
        GLOBAL float *mean, GLOBAL float *rstd, GLOBAL float *running_mean, GLOBAL float *running_var)
{
    const int c0 = item * arg.width, width = NORM_WIDTH(c0);
    for (int c = c0; c < c0 + width; c++) {
        const float centre = given_mean[c], var = given_var[c];
        mean[c] = centre;
        rstd[c] = 1.0f / f_sqrt(var + arg.eps);
        if (arg.update) {
            running_mean[c] = arg.kept * running_mean[c] + arg.fresh * centre;
            running_var[c] = arg.kept * running_var[c] + arg.fresh * (var * arg.unbias);
        }
    }
}

/* rows of y = (x - centre) scale + offset; the private arrays hold `width` columns. */
static inline void norm_scale_rows(GLOBAL const float *src, GLOBAL float *dst, const float *centre, const float *scale,
                                   const float *offset, const int rows, const int stride, const int dst_stride,
                                   const int width)
{
    for (int r = 0; r < rows; r++) {
        GLOBAL const float *x = src + r * stride;
        GLOBAL float *y = dst + r * dst_stride;
        INDEPENDENT
        for (int c = 0; c < width; c++)
            y[c] = (x[c] - centre[c]) * scale[c] + offset[c];
    }
}

/* item = (group * pieces + piece) * blocks + block. shift: a row of columns for each group, or anything. */
KERNEL7(norm_apply, struct norm_apply_args, GLOBAL const float *src, GLOBAL const float *gamma,
        GLOBAL const float *beta, GLOBAL const float *mean, GLOBAL const float *rstd, GLOBAL const float *shift,
        GLOBAL float *dst)
{
    float centre[NORM_COLUMNS], scale[NORM_COLUMNS], offset[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, width = NORM_WIDTH(c0), place = item / arg.blocks;
    const int group = place / arg.pieces, row = place % arg.pieces * arg.height;
    const int first = group * arg.rows + row, rows = i_min(arg.height, arg.rows - row);
    for (int c = 0; c < width; c++) {
        centre[c] = mean[c0 + c];
        scale[c] = rstd[c0 + c] * gamma[c0 + c];
        offset[c] = beta[c0 + c];
        if (arg.shifted)
            offset[c] += shift[group * arg.columns + c0 + c];
    }
    norm_scale_rows(src + first * arg.columns + c0, dst + first * arg.dst_pitch + c0, centre, scale, offset, rows,
                    arg.columns, arg.dst_pitch, width);
}

/* The same in evaluation mode, straight from the running statistics. */
KERNEL7(norm_fixed_apply, struct norm_apply_args, GLOBAL const float *src, GLOBAL const float *gamma,
        GLOBAL const float *beta, GLOBAL const float *running_mean, GLOBAL const float *running_var,
        GLOBAL const float *shift, GLOBAL float *dst)
{
    float centre[NORM_COLUMNS], scale[NORM_COLUMNS], offset[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, width = NORM_WIDTH(c0), place = item / arg.blocks;
    const int group = place / arg.pieces, row = place % arg.pieces * arg.height;
    const int first = group * arg.rows + row, rows = i_min(arg.height, arg.rows - row);
    for (int c = 0; c < width; c++) {
        centre[c] = running_mean[c0 + c];
        scale[c] = 1.0f / f_sqrt(running_var[c0 + c] + arg.eps) * gamma[c0 + c];
        offset[c] = beta[c0 + c];
        if (arg.shifted)
            offset[c] += shift[group * arg.columns + c0 + c];
    }
    norm_scale_rows(src + first * arg.columns + c0, dst + first * arg.dst_pitch + c0, centre, scale, offset, rows,
                    arg.columns, arg.dst_pitch, width);
}

/* ---- Backward: sums over chunks, coefficients, and one pass that applies them ---- */

/* A chunk's sums of ddst (src - mean) and of ddst: part[0 or 1][group][chunk][column]; sum_rows of reduce.cl may join
 * chunks of a group. */
KERNEL4(norm_back_chunk, struct norm_chunk_args, GLOBAL const float *src, GLOBAL const float *ddst,
        GLOBAL const float *mean, GLOBAL float *part)
{
    float centre[NORM_COLUMNS], sum[NORM_COLUMNS], cross[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, place = item / arg.blocks, stride = arg.columns;
    const int group = place / arg.chunks, row = place % arg.chunks * arg.chunk;
    const int rows = i_min(arg.chunk, arg.rows - row), width = NORM_WIDTH(c0);
    const int first = group * arg.rows + row, to = place * stride + c0, pitch = arg.pitch;
    GLOBAL const float *from = src + first * stride + c0, *given = ddst + first * pitch + c0;
    GLOBAL float *dgamma = part + to, *dbeta = part + arg.groups * arg.chunks * stride + to;
    for (int c = 0; c < width; c++) {
        centre[c] = mean[c0 + c];
        sum[c] = cross[c] = 0.0f;
    }
    const int quarter = rows / 4, apart = quarter * stride, leap = quarter * pitch;
    for (int r = 0; r < quarter; r++) {
        GLOBAL const float *x = from + r * stride, *dy = given + r * pitch;
        for (int c = 0; c < width; c++) {
            const float d0 = dy[c], d1 = dy[leap + c], d2 = dy[2 * leap + c], d3 = dy[3 * leap + c];
            const float x0 = x[c] - centre[c], x1 = x[apart + c] - centre[c];
            const float x2 = x[2 * apart + c] - centre[c], x3 = x[3 * apart + c] - centre[c];
            sum[c] += (d0 + d1) + (d2 + d3);
            cross[c] += (d0 * x0 + d1 * x1) + (d2 * x2 + d3 * x3);
        }
    }
    for (int r = 4 * quarter; r < rows; r++)
        for (int c = 0; c < width; c++) {
            const float d = given[r * pitch + c];
            sum[c] += d;
            cross[c] += d * (from[r * stride + c] - centre[c]);
        }
    for (int c = 0; c < width; c++) {
        dgamma[c] = cross[c];
        dbeta[c] = sum[c];
    }
}

/* dgamma, dbeta and (shifted) dshift from the parts, and the coefficients of
 *     dsrc = coef[0] ddst - coef[1] - coef[2] (src - mean). */
KERNEL7(norm_back_finish, struct norm_back_finish_args, GLOBAL const float *part, GLOBAL const float *gamma,
        GLOBAL const float *rstd, GLOBAL float *dgamma, GLOBAL float *dbeta, GLOBAL float *dshift, GLOBAL float *coef)
{
    float sum[NORM_COLUMNS], cross[NORM_COLUMNS], own[NORM_COLUMNS];
    const int c0 = item * arg.width, width = NORM_WIDTH(c0), stride = arg.columns;
    GLOBAL const float *with = part + c0, *alone = with + arg.groups * arg.partials * stride;
    for (int c = 0; c < width; c++)
        sum[c] = cross[c] = 0.0f;
    for (int group = 0; group < arg.groups; group++) {
        for (int c = 0; c < width; c++)
            own[c] = 0.0f;
        for (int p = 0; p < arg.partials; p++) {
            for (int c = 0; c < width; c++) {
                cross[c] += with[c];
                own[c] += alone[c];
            }
            with += stride;
            alone += stride;
        }
        for (int c = 0; c < width; c++) {
            sum[c] += own[c];
            if (arg.shifted)
                dshift[group * stride + c0 + c] = own[c];
        }
    }
    for (int c = 0; c < width; c++) {
        const float scale = gamma[c0 + c] * rstd[c0 + c], slope = cross[c] * rstd[c0 + c];
        dgamma[c0 + c] = slope;
        dbeta[c0 + c] = sum[c];
        coef[c0 + c] = scale;
        coef[stride + c0 + c] = scale * (arg.inverse * sum[c]);
        coef[2 * stride + c0 + c] = scale * (arg.inverse * slope) * rstd[c0 + c];
    }
}

/* relu and sums are constants where it is called. */
static inline void norm_back_rows(GLOBAL const float *src, GLOBAL const float *ddst, GLOBAL float *dsrc,
                                  const float *centre, const float *scale, const float *level, const float *slope,
                                  float *sum, const int rows, const int stride, const int ddst_stride, const int width,
                                  const int relu, const int sums)
{
    for (int r = 0; r < rows; r++) {
        GLOBAL const float *x = src + r * stride, *dy = ddst + r * ddst_stride;
        GLOBAL float *dx = dsrc + r * stride;
        INDEPENDENT
        for (int c = 0; c < width; c++) {
            const float at = x[c], d = scale[c] * dy[c] - (level[c] + slope[c] * (at - centre[c]));
            const float masked = relu && at <= 0.0f ? 0.0f : d;
            if (sums)
                sum[c] += masked;
            dx[c] = masked;
        }
    }
}

/* dsrc, and with `sums` part[piece][column], the sum of the piece's rows. */
KERNEL6(norm_back_apply, struct norm_back_apply_args, GLOBAL const float *src, GLOBAL const float *ddst,
        GLOBAL const float *mean, GLOBAL const float *coef, GLOBAL float *part, GLOBAL float *dsrc)
{
    float centre[NORM_COLUMNS], scale[NORM_COLUMNS], level[NORM_COLUMNS], slope[NORM_COLUMNS], sum[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, width = NORM_WIDTH(c0), piece = item / arg.blocks;
    const int row = piece * arg.height, rows = i_min(arg.height, arg.rows - row), at = row * arg.columns + c0;
    for (int c = 0; c < width; c++) {
        centre[c] = mean[c0 + c];
        scale[c] = coef[c0 + c];
        level[c] = coef[arg.columns + c0 + c];
        slope[c] = coef[2 * arg.columns + c0 + c];
        sum[c] = 0.0f;
    }
#define ROWS_(relu, sums)                                                                                              \
    norm_back_rows(src + at, ddst + row * arg.ddst_pitch + c0, dsrc + at, centre, scale, level, slope, sum, rows,      \
                   arg.columns, arg.ddst_pitch, width, relu, sums)
    if (arg.relu && arg.sums)
        ROWS_(1, 1);
    else if (arg.relu)
        ROWS_(1, 0);
    else if (arg.sums)
        ROWS_(0, 1);
    else
        ROWS_(0, 0);
#undef ROWS_
    if (arg.sums)
        for (int c = 0; c < width; c++)
            part[piece * arg.columns + c0 + c] = sum[c];
}
