/* Batch norm, forward and backward; the formulas are in src/op/batch_norm.c, the statistics in norm_stats.h, and how
 * storage is seen and sums are taken too.
 */
#include "kernel.h"
#include "norm.h"
#include "norm_stats.h"

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
WIDE static inline void norm_scale_rows(GLOBAL const float *src, GLOBAL float *dst, const float *centre,
                                        const float *scale, const float *offset, const int rows, const int stride,
                                        const int dst_stride, const int width)
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
        INDEPENDENT
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
WIDE static inline void norm_back_rows(GLOBAL const float *src, GLOBAL const float *ddst, GLOBAL float *dsrc,
                                       const float *centre, const float *scale, const float *level, const float *slope,
                                       float *sum, const int rows, const int stride, const int ddst_stride,
                                       const int width, const int relu, const int sums)
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
