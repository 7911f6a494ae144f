/* Batch norm, forward and backward; the formulas are in src/op/batch_norm.c. Storage is rows x columns: a row is a
 * pixel of the batch, a column a channel, columns contiguous.
 *
 * Statistics, in one pass over the source: each chunk of rows gives its mean and its sum of squared differences from
 * that mean. Differences are taken from a guess, the mean of the chunk's first NORM_PILOT rows, so a large common
 * offset costs nothing (E[x^2] - mean^2 would lose every digit there), and what the guess is off is subtracted at the
 * end: M2 = sum d^2 - (sum d)^2 / n. That loses little: with P pilot rows the guess g has P (g - mean)^2 <= M2, so sum
 * d^2 <= (1 + n / P) M2, at worst 9 times for 256 rows, and 1 + 1 / P times as a rule. Chunks are merged, always in the
 * same order, by Chan's formula (Chan, Golub, LeVeque 1979) for many groups: mean = sum n_i mean_i / n,   M2 = sum
 * (M2_i + n_i (mean_i - mean)^2).
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

/* One pair a chunk and column: mean[chunk][column], m2[chunk][column]. */
KERNEL3(norm_chunk, struct norm_chunk_args, GLOBAL const float *src, GLOBAL float *mean, GLOBAL float *m2)
{
    float centre[NORM_COLUMNS], sum[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, chunk = item / arg.blocks, stride = arg.columns;
    const int row = chunk * arg.chunk, rows = i_min(arg.chunk, arg.rows - row), pilot = i_min(rows, NORM_PILOT);
    const int width = NORM_WIDTH(c0), to = chunk * stride + c0;
    const float inverse = 1.0f / (float)rows, share = 1.0f / (float)pilot;
    GLOBAL const float *from = src + row * stride + c0;
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

KERNEL4(norm_merge, struct norm_merge_args, GLOBAL const float *mean, GLOBAL const float *m2, GLOBAL float *mean_out,
        GLOBAL float *m2_out)
{
    float centre[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, place = item / arg.blocks, first = place * arg.fan;
    const int partials = i_min(arg.fan, arg.partials - first), width = NORM_WIDTH(c0);
    const int from = first * arg.columns + c0, to = place * arg.columns + c0;
    const int rows = arg.rows - first * arg.span; /* those left; the last partial may be short */
    const int own = partials < arg.partials - first ? partials * arg.span : rows;
    norm_merge_columns(mean + from, m2 + from, centre, square, partials, arg.span, own, arg.columns, width);
    for (int c = 0; c < width; c++) {
        mean_out[to + c] = centre[c];
        m2_out[to + c] = square[c];
    }
}

KERNEL4(norm_finish, struct norm_finish_args, GLOBAL const float *mean_in, GLOBAL const float *m2_in,
        GLOBAL float *mean, GLOBAL float *rstd)
{
    float centre[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item * arg.width, width = NORM_WIDTH(c0);
    norm_merge_columns(mean_in + c0, m2_in + c0, centre, square, arg.partials, arg.span, arg.rows, arg.columns, width);
    for (int c = 0; c < width; c++) {
        mean[c0 + c] = centre[c];
        rstd[c0 + c] = 1.0f / f_sqrt(square[c] / (float)arg.rows + arg.eps);
    }
}

KERNEL6(norm_finish_update, struct norm_finish_args, GLOBAL const float *mean_in, GLOBAL const float *m2_in,
        GLOBAL float *mean, GLOBAL float *rstd, GLOBAL float *running_mean, GLOBAL float *running_var)
{
    float centre[NORM_COLUMNS], square[NORM_COLUMNS];
    const int c0 = item * arg.width, width = NORM_WIDTH(c0);
    norm_merge_columns(mean_in + c0, m2_in + c0, centre, square, arg.partials, arg.span, arg.rows, arg.columns, width);
    for (int c = 0; c < width; c++) {
        const float var = square[c] / (float)arg.rows;
        mean[c0 + c] = centre[c];
        rstd[c0 + c] = 1.0f / f_sqrt(var + arg.eps);
        running_mean[c0 + c] = arg.kept * running_mean[c0 + c] + arg.fresh * centre[c];
        running_var[c0 + c] = arg.kept * running_var[c0 + c] + arg.fresh * (var * arg.unbias);
    }
}

/* Evaluation mode: the statistics are the running ones. */
KERNEL4(norm_fixed, struct norm_fixed_args, GLOBAL const float *running_mean, GLOBAL const float *running_var,
        GLOBAL float *mean, GLOBAL float *rstd)
{
    const int c0 = item * arg.width, width = NORM_WIDTH(c0);
    for (int c = c0; c < c0 + width; c++) {
        mean[c] = running_mean[c];
        rstd[c] = 1.0f / f_sqrt(running_var[c] + arg.eps);
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
    const int first = group * arg.rows + row, to = place * stride + c0, pitch = arg.ddst_pitch;
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
