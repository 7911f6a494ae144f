/* Batch norm, forward and backward; the formulas are in src/op/batch_norm.c. Storage is rows x columns: a row is a
 * pixel of the batch, a column a channel, columns contiguous.
 *
 * Statistics: each chunk of rows gives its mean and its sum of squared differences from that mean, in two passes over
 * the chunk; chunks are merged, always in the same order, by Chan's formula (Chan, Golub, LeVeque 1979) for many
 * groups:
 *     mean = sum n_i mean_i / n,   M2 = sum (M2_i + n_i (mean_i - mean)^2).
 * Means are summed as differences from the first value, so a large common offset costs nothing; E[x^2] - mean^2 would
 * lose every digit there. The second pass subtracts (sum of differences)^2 / n, which the rounding of the mean leaves
 * over.
 *
 * An item has up to NORM_COLUMNS columns in private variables: one on a GPU, several vectors of them on a CPU.
 * Functions of a `width` are inlined twice, once with the constant one, which vectorises.
 */
#include "kernel.h"
#include "norm.h"

#ifndef NORM_COLUMNS
#ifdef __OPENCL_C_VERSION__
#define NORM_COLUMNS 1
#else
#define NORM_COLUMNS 64
#endif
#endif

/* An item's columns. A constant where it is 1, so that private arrays become registers. */
#define NORM_WIDTH(c0) (NORM_COLUMNS == 1 ? 1 : i_min(arg.width, arg.columns - (c0)))

static inline void norm_chunk_columns(GLOBAL const float *src, GLOBAL float *mean, GLOBAL float *m2, const int rows,
                                      const int stride, const int width)
{
    float centre[NORM_COLUMNS], sum[NORM_COLUMNS], square[NORM_COLUMNS];
    const float inverse = 1.0f / (float)rows;
    for (int c = 0; c < width; c++) {
        centre[c] = src[c];
        sum[c] = 0.0f;
    }
    for (int r = 1; r < rows; r++)
        for (int c = 0; c < width; c++)
            sum[c] += src[r * stride + c] - centre[c];
    for (int c = 0; c < width; c++) {
        centre[c] += sum[c] * inverse;
        sum[c] = square[c] = 0.0f;
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < width; c++) {
            const float d = src[r * stride + c] - centre[c];
            sum[c] += d;
            square[c] += d * d;
        }
    for (int c = 0; c < width; c++) {
        mean[c] = centre[c] + sum[c] * inverse;
        m2[c] = f_max(square[c] - sum[c] * sum[c] * inverse, square[c] * 0.0f); /* not below 0; NaN stays NaN */
    }
}

/* One pair a chunk and column: mean[chunk][column], m2[chunk][column]. */
KERNEL3(norm_chunk, struct norm_chunk_args, GLOBAL const float *src, GLOBAL float *mean, GLOBAL float *m2)
{
    const int c0 = item % arg.blocks * arg.width, chunk = item / arg.blocks;
    const int row = chunk * arg.chunk, rows = i_min(arg.chunk, arg.rows - row);
    const int width = NORM_WIDTH(c0), to = chunk * arg.columns + c0;
    GLOBAL const float *from = src + row * arg.columns + c0;
    if (width == NORM_COLUMNS)
        norm_chunk_columns(from, mean + to, m2 + to, rows, arg.columns, NORM_COLUMNS);
    else
        norm_chunk_columns(from, mean + to, m2 + to, rows, arg.columns, width);
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

KERNEL6(norm_apply, struct norm_apply_args, GLOBAL const float *src, GLOBAL const float *gamma,
        GLOBAL const float *beta, GLOBAL const float *mean, GLOBAL const float *rstd, GLOBAL float *dst)
{
    const int row = item / arg.blocks * arg.height, rows = i_min(arg.height, arg.rows - row);
    const int c0 = item % arg.blocks * arg.width, c1 = c0 + i_min(arg.width, arg.columns - c0);
    for (int r = row; r < row + rows; r++) {
        GLOBAL const float *x = src + r * arg.columns;
        GLOBAL float *y = dst + r * arg.columns;
        INDEPENDENT
        for (int c = c0; c < c1; c++)
            y[c] = (x[c] - mean[c]) * (rstd[c] * gamma[c]) + beta[c];
    }
}

static inline void norm_back_columns(GLOBAL const float *src, GLOBAL const float *ddst, GLOBAL const float *mean,
                                     GLOBAL const float *rstd, GLOBAL float *dgamma, GLOBAL float *dbeta,
                                     const int rows, const int stride, const int width)
{
    float centre[NORM_COLUMNS], sum[NORM_COLUMNS], cross[NORM_COLUMNS];
    for (int c = 0; c < width; c++) {
        centre[c] = mean[c];
        sum[c] = cross[c] = 0.0f;
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < width; c++) {
            const float d = ddst[r * stride + c];
            sum[c] += d;
            cross[c] += d * (src[r * stride + c] - centre[c]);
        }
    for (int c = 0; c < width; c++) {
        dgamma[c] = cross[c] * rstd[c];
        dbeta[c] = sum[c];
    }
}

/* A chunk's part of dgamma and dbeta; sum_rows of reduce.cl adds them up. */
KERNEL6(norm_back_chunk, struct norm_chunk_args, GLOBAL const float *src, GLOBAL const float *ddst,
        GLOBAL const float *mean, GLOBAL const float *rstd, GLOBAL float *dgamma, GLOBAL float *dbeta)
{
    const int c0 = item % arg.blocks * arg.width, chunk = item / arg.blocks;
    const int row = chunk * arg.chunk, rows = i_min(arg.chunk, arg.rows - row);
    const int width = NORM_WIDTH(c0), from = row * arg.columns + c0, to = chunk * arg.columns + c0;
    if (width == NORM_COLUMNS)
        norm_back_columns(src + from, ddst + from, mean + c0, rstd + c0, dgamma + to, dbeta + to, rows, arg.columns,
                          NORM_COLUMNS);
    else
        norm_back_columns(src + from, ddst + from, mean + c0, rstd + c0, dgamma + to, dbeta + to, rows, arg.columns,
                          width);
}

KERNEL8(norm_back_apply, struct norm_apply_args, GLOBAL const float *src, GLOBAL const float *ddst,
        GLOBAL const float *gamma, GLOBAL const float *mean, GLOBAL const float *rstd, GLOBAL const float *dgamma,
        GLOBAL const float *dbeta, GLOBAL float *dsrc)
{
    const int row = item / arg.blocks * arg.height, rows = i_min(arg.height, arg.rows - row);
    const int c0 = item % arg.blocks * arg.width, c1 = c0 + i_min(arg.width, arg.columns - c0);
    for (int r = row; r < row + rows; r++) {
        GLOBAL const float *x = src + r * arg.columns, *dy = ddst + r * arg.columns;
        GLOBAL float *dx = dsrc + r * arg.columns;
        INDEPENDENT
        for (int c = c0; c < c1; c++) {
            const float xhat = (x[c] - mean[c]) * rstd[c];
            dx[c] = gamma[c] * rstd[c] * (dy[c] - arg.inverse * (dbeta[c] + xhat * dgamma[c]));
        }
    }
}
