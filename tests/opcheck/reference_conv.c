#include <math.h>
#include <stddef.h>
#include <string.h>

#include "reference.h"

/* Index of element (a, b, c, d) of a shape. */
static int64_t at(lun_shape s, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return ((a * s.c + b) * s.h + c) * s.w + d;
}

static void clear(lun_shape s, double *values)
{
    if (values != NULL)
        for (int64_t i = 0; i < lun_count(s); i++)
            values[i] = 0;
}

static void gather(double *dst, double *mag, int64_t i, double term)
{
    dst[i] += term;
    if (mag != NULL)
        mag[i] += fabs(term);
}

static void clamp(const lun_op *op, double *values)
{
    for (int64_t i = 0; op->attrs.conv.relu && i < lun_count(op->dst[0].shape); i++)
        values[i] = values[i] < 0 ? 0 : values[i];
}

/* With .stats: of each channel of the result the mean, then the biased variance. mag: the mean of |dst|, for both. */
static void statistics(const lun_op *op, double *const *dst, double *const *mag)
{
    const lun_shape s = op->dst[0].shape;
    const int64_t area = s.h * s.w;
    const double count = (double)(s.n * area);
    for (int64_t c = 0; op->attrs.conv.stats && c < s.c; c++) {
        double sum = 0, sum_abs = 0, square = 0;
        for (int64_t i = 0; i < s.n * area; i++) {
            const double value = dst[0][(i / area * s.c + c) * area + i % area];
            sum += value;
            sum_abs += fabs(value);
        }
        for (int64_t i = 0; i < s.n * area; i++) {
            const double d = dst[0][(i / area * s.c + c) * area + i % area] - sum / count;
            square += d * d;
        }
        dst[1][c] = sum / count;
        dst[1][s.c + c] = square / count;
        if (mag[1] != NULL)
            mag[1][c] = mag[1][s.c + c] = sum_abs / count;
    }
}

/* Visit every (n, k, c, ho, wo, r, s) whose source pixel lies in the picture. */
#define CONV_VISIT(a, big, filter, small, BODY)                                                                        \
    for (int64_t n = 0; n < (small).n; n++)                                                                            \
        for (int64_t k = 0; k < (filter).n; k++)                                                                       \
            for (int64_t c = 0; c < (filter).c; c++)                                                                   \
                for (int64_t ho = 0; ho < (small).h; ho++)                                                             \
                    for (int64_t r = 0; r < (filter).h; r++) {                                                         \
                        const int64_t h = ho * (a).stride_h - (a).pad_h + r;                                           \
                        if (h < 0 || h >= (big).h)                                                                     \
                            continue;                                                                                  \
                        for (int64_t wo = 0; wo < (small).w; wo++)                                                     \
                            for (int64_t s = 0; s < (filter).w; s++) {                                                 \
                                const int64_t w = wo * (a).stride_w - (a).pad_w + s;                                   \
                                if (w < 0 || w >= (big).w)                                                             \
                                    continue;                                                                          \
                                BODY;                                                                                  \
                            }                                                                                          \
                    }

/* dst[n,k,ho,wo] = bias[k] + sum over c,r,s of weight[k,c,r,s] src[n,c,ho stride - pad + r, wo stride - pad + s],
 * with .relu not below 0, and with .stats what statistics() says */
void ref_conv2d(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_conv_attrs a = op->attrs.conv;
    const lun_shape big = op->src[0].shape, filter = op->src[1].shape, small = op->dst[0].shape;
    clear(small, dst[0]);
    clear(small, mag[0]);
    CONV_VISIT(
        a, big, filter, small,
        gather(dst[0], mag[0], at(small, n, k, ho, wo), src[1][at(filter, k, c, r, s)] * src[0][at(big, n, c, h, w)]))
    if (op->nsrc > 2)
        for (int64_t i = 0; i < lun_count(small); i++)
            gather(dst[0], mag[0], i, src[2][i / (small.h * small.w) % small.c]);
    clamp(op, dst[0]);
    statistics(op, dst, mag);
}

/* dst[n,c,h,w] = bias[c] + the same products, scattered back to where conv2d gathered from; .relu, .stats as above */
void ref_conv2d_transpose(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_conv_attrs a = op->attrs.conv;
    const lun_shape small = op->src[0].shape, filter = op->src[1].shape, big = op->dst[0].shape;
    clear(big, dst[0]);
    clear(big, mag[0]);
    CONV_VISIT(
        a, big, filter, small,
        gather(dst[0], mag[0], at(big, n, c, h, w), src[1][at(filter, k, c, r, s)] * src[0][at(small, n, k, ho, wo)]))
    if (op->nsrc > 2)
        for (int64_t i = 0; i < lun_count(big); i++)
            gather(dst[0], mag[0], i, src[2][i / (big.h * big.w) % big.c]);
    clamp(op, dst[0]);
    statistics(op, dst, mag);
}

/* dweight[k,c,r,s] = sum over n,ho,wo of small[n,k,ho,wo] big[n,c,ho stride - pad + r, wo stride - pad + s] */
void ref_conv2d_wgrad(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_conv_attrs a = op->attrs.conv;
    const lun_shape big = op->src[0].shape, small = op->src[1].shape, filter = op->dst[0].shape;
    clear(filter, dst[0]);
    clear(filter, mag[0]);
    CONV_VISIT(
        a, big, filter, small,
        gather(dst[0], mag[0], at(filter, k, c, r, s), src[1][at(small, n, k, ho, wo)] * src[0][at(big, n, c, h, w)]))
}

void ref_channel_sum(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[0].shape;
    clear(op->dst[0].shape, dst[0]);
    clear(op->dst[0].shape, mag[0]);
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++)
            for (int64_t h = 0; h < s.h; h++)
                for (int64_t w = 0; w < s.w; w++)
                    gather(dst[0], mag[0], c, src[0][at(s, n, c, h, w)]);
}

void ref_spatial_sum(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[0].shape;
    clear(op->dst[0].shape, dst[0]);
    clear(op->dst[0].shape, mag[0]);
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++)
            for (int64_t h = 0; h < s.h; h++)
                for (int64_t w = 0; w < s.w; w++)
                    gather(dst[0], mag[0], n * s.c + c, src[0][at(s, n, c, h, w)]);
}
