#include <math.h>
#include <stddef.h>

#include "reference.h"

static int64_t at(lun_shape s, int64_t n, int64_t c, int64_t i)
{
    return (n * s.c + c) * s.h * s.w + i;
}

/* dst = gamma (x - mean) rstd + beta (+ shift[n][c]); training: mean and biased variance of the batch, else the running
 * ones; given: those of the last source, mean then biased variance. mag[1] is the mean of |x| (what the mean sums); the
 * others are computed by the case, which knows the cancellations.
 */
void ref_batch_norm(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_norm_attrs a = op->attrs.norm;
    const lun_shape s = op->src[0].shape;
    const int64_t area = s.h * s.w;
    const double count = (double)(s.n * area);
    for (int64_t c = 0; c < s.c; c++) {
        double sum = 0, sum_abs = 0, sum_sq = 0;
        for (int64_t n = 0; n < s.n; n++)
            for (int64_t i = 0; i < area; i++) {
                sum += src[0][at(s, n, c, i)];
                sum_abs += fabs(src[0][at(s, n, c, i)]);
            }
        double mean = sum / count;
        for (int64_t n = 0; n < s.n; n++)
            for (int64_t i = 0; i < area; i++)
                sum_sq += (src[0][at(s, n, c, i)] - mean) * (src[0][at(s, n, c, i)] - mean);
        double var = sum_sq / count;
        if (a.given) {
            mean = src[op->nsrc - 1][c];
            var = src[op->nsrc - 1][s.c + c];
        }
        if (a.training && a.update) {
            dst[3][c] = (1 - (double)a.momentum) * src[3][c] + (double)a.momentum * mean;
            dst[4][c] = (1 - (double)a.momentum) * src[4][c] + (double)a.momentum * (var * count / (count - 1));
        }
        if (!a.training) {
            mean = src[3][c];
            var = src[4][c];
        }
        const double rstd = 1 / sqrt(var + (double)a.eps);
        if (!a.bare) {
            dst[1][c] = mean;
            dst[2][c] = rstd;
        }
        if (!a.bare && mag[1] != NULL)
            mag[1][c] = sum_abs / count;
        for (int64_t n = 0; n < s.n; n++)
            for (int64_t i = 0; i < area; i++)
                dst[0][at(s, n, c, i)] = src[1][c] * (src[0][at(s, n, c, i)] - mean) * rstd + src[2][c] +
                                         (op->nsrc - a.given > 5 ? src[5][n * s.c + c] : 0);
    }
}

/* With xhat = (x - mean) rstd: dbeta = sum dy, dgamma = sum dy xhat,
 * dx = gamma rstd (dy - dbeta / M - xhat dgamma / M); in evaluation mean and rstd are constants: dx = gamma rstd dy.
 * relu: dx = 0 where x <= 0. dbias = sum dx, dshift = sum of a sample's dy.
 * mag[1], mag[2], of dbias, of dshift: sums of |dy xhat|, |dy|, |dx|, |dy|. */
void ref_batch_norm_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_norm_attrs a = op->attrs.norm;
    const lun_shape s = op->src[0].shape;
    const int64_t area = s.h * s.w;
    const double count = (double)(s.n * area);
    for (int64_t c = 0; c < s.c; c++) {
        const double gamma = src[2][c], mean = src[3][c], rstd = src[4][c];
        double dgamma = 0, dbeta = 0, mag_gamma = 0, mag_beta = 0;
        for (int64_t n = 0; n < s.n; n++)
            for (int64_t i = 0; i < area; i++) {
                const double dy = src[1][at(s, n, c, i)], xhat = (src[0][at(s, n, c, i)] - mean) * rstd;
                dbeta += dy;
                dgamma += dy * xhat;
                mag_beta += fabs(dy);
                mag_gamma += fabs(dy * xhat);
            }
        dst[1][c] = dgamma;
        dst[2][c] = dbeta;
        if (mag[1] != NULL)
            mag[1][c] = mag_gamma;
        if (mag[2] != NULL)
            mag[2][c] = mag_beta;
        for (int64_t n = 0; n < s.n; n++)
            for (int64_t i = 0; i < area; i++) {
                const double dy = src[1][at(s, n, c, i)], xhat = (src[0][at(s, n, c, i)] - mean) * rstd;
                const double through = op->attrs.norm.training ? dbeta / count + xhat * dgamma / count : 0;
                dst[0][at(s, n, c, i)] = a.relu && src[0][at(s, n, c, i)] <= 0 ? 0 : gamma * rstd * (dy - through);
            }
        int d = 3;
        if (a.dbias) {
            double sum = 0, sum_abs = 0;
            for (int64_t n = 0; n < s.n; n++)
                for (int64_t i = 0; i < area; i++) {
                    sum += dst[0][at(s, n, c, i)];
                    sum_abs += fabs(dst[0][at(s, n, c, i)]);
                }
            dst[d][c] = sum;
            if (mag[d] != NULL)
                mag[d][c] = sum_abs;
            d++;
        }
        for (int64_t n = 0; a.dshift && n < s.n; n++) {
            double sum = 0, sum_abs = 0;
            for (int64_t i = 0; i < area; i++) {
                sum += src[1][at(s, n, c, i)];
                sum_abs += fabs(src[1][at(s, n, c, i)]);
            }
            dst[d][n * s.c + c] = sum;
            if (mag[d] != NULL)
                mag[d][n * s.c + c] = sum_abs;
        }
    }
}
