/* Group norm with what may follow it at once (a scale and a shift of each sample's channels, SiLU), and these two ops
 * of scale and shift alone; forward and backward. The formulas are in src/op/group_norm.c, the statistics of single
 * channels in norm_stats.h, from which group_finish makes those of groups.
 *
 * Storage is samples x rows x columns: a row is a pixel, a column a channel, columns contiguous, so a group is a few
 * columns side by side and every loop runs over whole rows, whatever the groups. What differs from sample to sample
 * and from group to group is put into a row of numbers for each first (GROUP_COEFS), in memory that stays in the
 * caches.
 *
 * The gradient computes SiLU's derivative from src again: to read what came out of the norm, and to have kept it,
 * would cost more than an exp. Two passes: one for the sums, one for dsrc.
 */
#include "kernel.h"
#include "norm.h"
#include "norm_stats.h"
#include "group_norm.h"
#include "special.h"

/* The first three coefficients of a sample's channels c0 .. c0 + count - 1. */
static inline void group_scale(GLOBAL float *coef, GLOBAL const float *gamma, GLOBAL const float *beta,
                               GLOBAL const float *emb, const float mean, const float rstd, const int c0,
                               const int count, const int columns, const int scaled)
{
    for (int c = c0; c < c0 + count; c++) {
        float scale = gamma[c] * rstd, offset = beta[c];
        if (scaled) {
            const float more = 1.0f + emb[c];
            scale *= more;
            offset = offset * more + emb[columns + c];
        }
        coef[c] = mean;
        coef[columns + c] = scale;
        coef[2 * columns + c] = offset;
    }
}

/* Statistics of one group of one sample from those of its channels' chunks; its coefficients. A group's channels are
 * merged as chunks are: by Chan's formula, channels first. */
KERNEL7(group_finish, struct group_finish_args, GLOBAL const float *moments, GLOBAL const float *gamma,
        GLOBAL const float *beta, GLOBAL const float *emb, GLOBAL float *mean, GLOBAL float *rstd, GLOBAL float *coef)
{
    const int groups = arg.columns / arg.size, n = item / groups, c0 = item % groups * arg.size;
    const long line = 3 * (long)arg.columns;
    GLOBAL const float *own = moments + n * arg.partials * line + c0, *centres = own + arg.columns;
    GLOBAL const float *squares = centres + arg.columns;
    const float guess = centres[0];
    float sum = 0.0f, square = 0.0f;
    for (int p = 0; p < arg.partials; p++) {
        float part = 0.0f;
        for (int c = 0; c < arg.size; c++)
            part += centres[p * line + c] - guess;
        sum += part * (own[p * line] / (float)arg.rows);
    }
    const float centre = guess + sum / (float)arg.size;
    for (int p = 0; p < arg.partials; p++) {
        const float count = own[p * line];
        float part = 0.0f;
        for (int c = 0; c < arg.size; c++) {
            const float d = centres[p * line + c] - centre;
            part += squares[p * line + c] + d * d * count;
        }
        square += part;
    }
    const float scale = 1.0f / f_sqrt(square / ((float)arg.rows * (float)arg.size) + arg.eps);
    mean[item] = centre;
    rstd[item] = scale;
    group_scale(coef + n * GROUP_COEFS * arg.columns, gamma, beta, arg.scaled ? emb + n * 2 * arg.columns : emb, centre,
                scale, c0, arg.size, arg.columns, arg.scaled);
}

/* silu is a constant where it is called. */
WIDE static inline void group_apply_rows(GLOBAL const float *src, GLOBAL float *dst, GLOBAL const float *coef,
                                         const int rows, const int stride, const int width, const int silu)
{
    for (int r = 0; r < rows; r++) {
        GLOBAL const float *x = src + r * stride;
        GLOBAL float *y = dst + r * stride;
        INDEPENDENT
        for (int c = 0; c < width; c++) {
            const float v = f_madd(x[c] - coef[c], coef[stride + c], coef[2 * stride + c]);
            y[c] = silu ? f_silu(v) : v;
        }
    }
}

/* Where an item of group_rows_args works: n samples, rows and columns from there. */
#define GROUP_PLACE                                                                                                    \
    const int c0 = item % arg.blocks * arg.width, place = item / arg.blocks, stride = arg.columns;                     \
    const int n = place / arg.pieces, row = place % arg.pieces * arg.height;                                           \
    const int rows = i_min(arg.height, arg.rows - row), width = NORM_WIDTH(c0);                                        \
    const int at = (n * arg.rows + row) * stride + c0

KERNEL3(group_apply, struct group_rows_args, GLOBAL const float *src, GLOBAL const float *coef, GLOBAL float *dst)
{
    GROUP_PLACE;
    GLOBAL const float *k = coef + n * GROUP_COEFS * stride + c0;
    if (arg.silu)
        group_apply_rows(src + at, dst + at, k, rows, stride, width, 1);
    else
        group_apply_rows(src + at, dst + at, k, rows, stride, width, 0);
}

/* ---- Backward ---- */

/* The first three coefficients of a group, from its mean and rstd. */
KERNEL6(group_coefs, struct group_finish_args, GLOBAL const float *gamma, GLOBAL const float *beta,
        GLOBAL const float *emb, GLOBAL const float *mean, GLOBAL const float *rstd, GLOBAL float *coef)
{
    const int groups = arg.columns / arg.size, n = item / groups, c0 = item % groups * arg.size;
    group_scale(coef + n * GROUP_COEFS * arg.columns, gamma, beta, arg.scaled ? emb + n * 2 * arg.columns : emb,
                mean[item], rstd[item], c0, arg.size, arg.columns, arg.scaled);
}

/* The gradient before SiLU, d being what is `away` from the mean. */
#define GROUP_SLOPE(dy, away) (silu ? (dy)*f_silu_slope(f_madd(away, coef[stride + c], coef[2 * stride + c])) : (dy))

WIDE static inline void group_back_sums(GLOBAL const float *src, GLOBAL const float *ddst, GLOBAL const float *coef,
                                        float *sum, float *cross, float *off, const int rows, const int stride,
                                        const int width, const int silu)
{
    const int quarter = rows / 4, apart = quarter * stride;
    for (int r = 0; r < quarter; r++) {
        GLOBAL const float *x = src + r * stride, *dy = ddst + r * stride;
        INDEPENDENT
        for (int c = 0; c < width; c++) {
            const float x0 = x[c] - coef[c], x1 = x[apart + c] - coef[c];
            const float x2 = x[2 * apart + c] - coef[c], x3 = x[3 * apart + c] - coef[c];
            const float d0 = GROUP_SLOPE(dy[c], x0), d1 = GROUP_SLOPE(dy[apart + c], x1);
            const float d2 = GROUP_SLOPE(dy[2 * apart + c], x2), d3 = GROUP_SLOPE(dy[3 * apart + c], x3);
            sum[c] += (d0 + d1) + (d2 + d3);
            cross[c] += (d0 * x0 + d1 * x1) + (d2 * x2 + d3 * x3);
            off[c] += (x0 + x1) + (x2 + x3);
        }
    }
    for (int r = 4 * quarter; r < rows; r++) {
        INDEPENDENT
        for (int c = 0; c < width; c++) {
            const float away = src[r * stride + c] - coef[c], d = GROUP_SLOPE(ddst[r * stride + c], away);
            sum[c] += d;
            cross[c] += d * away;
            off[c] += away;
        }
    }
}

/* A piece's sums of d (src - mean), of d and of src - mean, d being the gradient before SiLU:
 * part[sample][piece][0, 1 or 2][column]; sum_rows of reduce.cl joins the pieces of a sample. */
KERNEL4(group_back_chunk, struct group_rows_args, GLOBAL const float *src, GLOBAL const float *ddst,
        GLOBAL const float *coef, GLOBAL float *part)
{
    float sum[NORM_COLUMNS], cross[NORM_COLUMNS], off[NORM_COLUMNS];
    GROUP_PLACE;
    GLOBAL const float *k = coef + n * GROUP_COEFS * stride + c0;
    GLOBAL float *to = part + place * 3 * stride + c0;
    for (int c = 0; c < width; c++)
        sum[c] = cross[c] = off[c] = 0.0f;
    if (arg.silu)
        group_back_sums(src + at, ddst + at, k, sum, cross, off, rows, stride, width, 1);
    else
        group_back_sums(src + at, ddst + at, k, sum, cross, off, rows, stride, width, 0);
    for (int c = 0; c < width; c++) {
        to[c] = cross[c];
        to[stride + c] = sum[c];
        to[2 * stride + c] = off[c];
    }
}

/* The sum of a channel's dsrc over a sample, from those three sums and the coefficients of c. */
static inline float group_dsum(GLOBAL const float *coef, GLOBAL const float *sums, const int c, const int columns,
                               const int rows)
{
    return coef[columns + c] * sums[columns + c] -
           ((float)rows * coef[3 * columns + c] + coef[4 * columns + c] * sums[2 * columns + c]);
}

/* From the sums of a sample's channels those of one group, as the last two coefficients; demb and dsum of its channels.
 */
KERNEL7(group_back_finish, struct group_back_finish_args, GLOBAL const float *sums, GLOBAL const float *gamma,
        GLOBAL const float *beta, GLOBAL const float *rstd, GLOBAL float *coef, GLOBAL float *demb, GLOBAL float *dsum)
{
    const int groups = arg.columns / arg.size, n = item / groups, c0 = item % groups * arg.size;
    GLOBAL const float *with = sums + n * 3 * arg.columns, *alone = with + arg.columns;
    GLOBAL float *k = coef + n * GROUP_COEFS * arg.columns;
    GLOBAL float *dscale = arg.scaled ? demb + n * 2 * arg.columns : demb;
    const float scale = rstd[item], values = (float)arg.rows * (float)arg.size;
    float level = 0.0f, slope = 0.0f;
    for (int c = c0; c < c0 + arg.size; c++) {
        level += k[arg.columns + c] * alone[c];
        slope += k[arg.columns + c] * with[c];
    }
    level = level / values;
    slope = slope * scale * scale / values;
    for (int c = c0; c < c0 + arg.size; c++) {
        k[3 * arg.columns + c] = level;
        k[4 * arg.columns + c] = slope;
        if (arg.scaled) {
            dscale[c] = gamma[c] * (scale * with[c]) + beta[c] * alone[c];
            dscale[arg.columns + c] = alone[c];
        }
        if (arg.dsum)
            dsum[n * arg.columns + c] = group_dsum(k, with, c, arg.columns, arg.rows);
    }
}

KERNEL7(group_back_weights, struct group_back_weights_args, GLOBAL const float *sums, GLOBAL const float *rstd,
        GLOBAL const float *emb, GLOBAL const float *coef, GLOBAL float *dgamma, GLOBAL float *dbeta,
        GLOBAL float *dbias)
{
    const int c0 = item * arg.width, groups = arg.columns / arg.size;
    for (int c = c0; c < i_min(c0 + arg.width, arg.columns); c++) {
        float with = 0.0f, alone = 0.0f, bias = 0.0f;
        for (int n = 0; n < arg.samples; n++) {
            GLOBAL const float *own = sums + n * 3 * arg.columns;
            const float more = arg.scaled ? 1.0f + emb[n * 2 * arg.columns + c] : 1.0f;
            with += more * (rstd[n * groups + c / arg.size] * own[c]);
            alone += more * own[arg.columns + c];
            if (arg.dbias)
                bias += group_dsum(coef + n * GROUP_COEFS * arg.columns, own, c, arg.columns, arg.rows);
        }
        dgamma[c] = with;
        dbeta[c] = alone;
        if (arg.dbias)
            dbias[c] = bias;
    }
}

/* silu and add are constants where it is called. */
WIDE static inline void group_back_rows(GLOBAL const float *src, GLOBAL const float *ddst, GLOBAL const float *acc,
                                        GLOBAL float *dsrc, GLOBAL const float *coef, const int rows, const int stride,
                                        const int width, const int silu, const int add)
{
    for (int r = 0; r < rows; r++) {
        GLOBAL const float *x = src + r * stride, *dy = ddst + r * stride, *more = acc + r * stride;
        GLOBAL float *dx = dsrc + r * stride;
        INDEPENDENT
        for (int c = 0; c < width; c++) {
            const float away = x[c] - coef[c], d = GROUP_SLOPE(dy[c], away);
            const float own = coef[stride + c] * d - f_madd(coef[4 * stride + c], away, coef[3 * stride + c]);
            dx[c] = add ? own + more[c] : own;
        }
    }
}

/* acc: read with arg.add only. */
KERNEL5(group_back_apply, struct group_rows_args, GLOBAL const float *src, GLOBAL const float *ddst,
        GLOBAL const float *acc, GLOBAL const float *coef, GLOBAL float *dsrc)
{
    GROUP_PLACE;
    GLOBAL const float *k = coef + n * GROUP_COEFS * stride + c0;
#define ROWS_(silu, add) group_back_rows(src + at, ddst + at, acc + at, dsrc + at, k, rows, stride, width, silu, add)
    if (arg.silu && arg.add)
        ROWS_(1, 1);
    else if (arg.silu)
        ROWS_(1, 0);
    else if (arg.add)
        ROWS_(0, 1);
    else
        ROWS_(0, 0);
#undef ROWS_
}

/* ---- Scale and shift alone ---- */

KERNEL3(scale_shift, struct group_rows_args, GLOBAL const float *src, GLOBAL const float *emb, GLOBAL float *dst)
{
    GROUP_PLACE;
    GLOBAL const float *scale = emb + n * 2 * stride + c0, *shift = scale + stride;
    for (int r = 0; r < rows; r++) {
        GLOBAL const float *x = src + at + r * stride;
        GLOBAL float *y = dst + at + r * stride;
        INDEPENDENT
        for (int c = 0; c < width; c++)
            y[c] = f_madd(x[c], 1.0f + scale[c], shift[c]);
    }
}

/* dsrc, and a piece's sums for demb: part[sample][piece][0 or 1][column]. */
KERNEL5(scale_shift_backward, struct group_rows_args, GLOBAL const float *src, GLOBAL const float *ddst,
        GLOBAL const float *emb, GLOBAL float *part, GLOBAL float *dsrc)
{
    float sum[NORM_COLUMNS], cross[NORM_COLUMNS];
    GROUP_PLACE;
    GLOBAL const float *scale = emb + n * 2 * stride + c0;
    GLOBAL float *to = part + place * 2 * stride + c0;
    for (int c = 0; c < width; c++)
        sum[c] = cross[c] = 0.0f;
    for (int r = 0; r < rows; r++) {
        GLOBAL const float *x = src + at + r * stride, *dy = ddst + at + r * stride;
        GLOBAL float *dx = dsrc + at + r * stride;
        INDEPENDENT
        for (int c = 0; c < width; c++) {
            const float d = dy[c];
            sum[c] += d;
            cross[c] += d * x[c];
            dx[c] = d * (1.0f + scale[c]);
        }
    }
    for (int c = 0; c < width; c++) {
        to[c] = cross[c];
        to[stride + c] = sum[c];
    }
}
