#include <math.h>
#include <stddef.h>

#include "reference.h"

static int64_t at(lun_shape s, int64_t n, int64_t c, int64_t i)
{
    return (n * s.c + c) * s.h * s.w + i;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* scale of a channel of a sample, 1 + what emb says */
static double scale_of(const double *emb, lun_shape s, int64_t n, int64_t c)
{
    return emb != NULL ? 1 + emb[n * 2 * s.c + c] : 1;
}

static double shift_of(const double *emb, lun_shape s, int64_t n, int64_t c)
{
    return emb != NULL ? emb[n * 2 * s.c + s.c + c] : 0;
}

/* v = gamma (x - mean) rstd + beta, w = v (1 + scale) + shift, dst = w or silu(w). mag[1] is the mean of |x| in the
 * group (what the mean sums). */
void ref_group_norm(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_group_attrs a = op->attrs.group;
    const lun_shape s = op->src[0].shape;
    const int64_t area = s.h * s.w, size = s.c / a.groups;
    const double count = (double)(area * size), *emb = op->nsrc > 3 ? src[3] : NULL;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t g = 0; g < a.groups; g++) {
            /* A group's values lie side by side. */
            const double *x = src[0] + at(s, n, g * size, 0);
            double mean = 0, mean_abs = 0, var = 0;
            for (int64_t i = 0; i < size * area; i++) {
                mean += x[i] / count;
                mean_abs += fabs(x[i]) / count;
            }
            for (int64_t i = 0; i < size * area; i++)
                var += (x[i] - mean) * (x[i] - mean) / count;
            const double rstd = 1 / sqrt(var + (double)a.eps);
            dst[1][n * a.groups + g] = mean;
            dst[2][n * a.groups + g] = rstd;
            if (mag[1] != NULL)
                mag[1][n * a.groups + g] = mean_abs;
            for (int64_t c = g * size; c < (g + 1) * size; c++)
                for (int64_t i = 0; i < area; i++) {
                    const double v = src[1][c] * (src[0][at(s, n, c, i)] - mean) * rstd + src[2][c];
                    const double w = v * scale_of(emb, s, n, c) + shift_of(emb, s, n, c);
                    dst[0][at(s, n, c, i)] = a.silu ? w * sigmoid(w) : w;
                }
        }
}

/* The gradients one after the other, by the chain rule: of silu, of scale and shift, of the norm's gamma and beta, and
 * of x = mean + xhat / rstd with mean and rstd depending on every x of the group. mag[1] .. are the sums of the
 * absolute values of what is summed. */
void ref_group_norm_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_group_attrs a = op->attrs.group;
    const lun_shape s = op->src[0].shape;
    const int64_t area = s.h * s.w, size = s.c / a.groups;
    const bool scaled = op->nsrc - a.add > 6;
    const double count = (double)(area * size), *emb = scaled ? src[6] : NULL;
    for (int d = 1; d < op->ndst; d++)
        for (int64_t i = 0; i < lun_count(op->dst[d].shape); i++) {
            dst[d][i] = 0;
            if (mag[d] != NULL)
                mag[d][i] = 0;
        }
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t g = 0; g < a.groups; g++) {
            const double mean = src[4][n * a.groups + g], rstd = src[5][n * a.groups + g];
            double sum = 0, sum_xhat = 0; /* of the gradient with respect to xhat */
            for (int pass = 0; pass < 2; pass++)
                for (int64_t c = g * size; c < (g + 1) * size; c++)
                    for (int64_t i = 0; i < area; i++) {
                        const double xhat = (src[0][at(s, n, c, i)] - mean) * rstd;
                        const double v = src[2][c] * xhat + src[3][c];
                        const double w = v * scale_of(emb, s, n, c) + shift_of(emb, s, n, c);
                        const double slope = a.silu ? sigmoid(w) + w * sigmoid(w) * sigmoid(-w) : 1;
                        const double dw = src[1][at(s, n, c, i)] * slope, dv = dw * scale_of(emb, s, n, c);
                        const double dxhat = dv * src[2][c];
                        if (pass == 0) {
                            sum += dxhat;
                            sum_xhat += dxhat * xhat;
                            dst[1][c] += dv * xhat;
                            dst[2][c] += dv;
                            if (mag[1] != NULL) {
                                mag[1][c] += fabs(dv * xhat);
                                mag[2][c] += fabs(dv);
                            }
                            if (scaled) {
                                dst[3][n * 2 * s.c + c] += dw * v;
                                dst[3][n * 2 * s.c + s.c + c] += dw;
                            }
                            continue;
                        }
                        const double dx = rstd * (dxhat - sum / count - xhat * sum_xhat / count);
                        int d = 3 + scaled;
                        if (a.dbias)
                            dst[d++][c] += dx;
                        if (a.dsum)
                            dst[d][n * s.c + c] += dx;
                        dst[0][at(s, n, c, i)] = dx + (a.add ? src[op->nsrc - 1][at(s, n, c, i)] : 0);
                    }
        }
}

void ref_scale_shift(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[0].shape;
    for (int64_t i = 0; i < lun_count(s); i++) {
        const int64_t n = i / (s.c * s.h * s.w), c = i / (s.h * s.w) % s.c;
        dst[0][i] = src[0][i] * scale_of(src[1], s, n, c) + shift_of(src[1], s, n, c);
        if (mag[0] != NULL)
            mag[0][i] = fabs(src[0][i]) * (1 + fabs(src[1][n * 2 * s.c + c])) + fabs(shift_of(src[1], s, n, c));
    }
}

void ref_scale_shift_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[0].shape;
    for (int64_t i = 0; i < 2 * s.n * s.c; i++) {
        dst[1][i] = 0;
        if (mag[1] != NULL)
            mag[1][i] = 0;
    }
    for (int64_t i = 0; i < lun_count(s); i++) {
        const int64_t n = i / (s.c * s.h * s.w), c = i / (s.h * s.w) % s.c, to = n * 2 * s.c + c;
        dst[0][i] = src[1][i] * scale_of(src[2], s, n, c);
        dst[1][to] += src[1][i] * src[0][i];
        dst[1][to + s.c] += src[1][i];
        if (mag[1] != NULL) {
            mag[0][i] = fabs(src[1][i]) * (1 + fabs(src[2][to]));
            mag[1][to] += fabs(src[1][i] * src[0][i]);
            mag[1][to + s.c] += fabs(src[1][i]);
        }
    }
}
