#include <math.h>
#include <stddef.h>

#include "reference.h"

static void note(double *const *mag, int d, int64_t i, double value)
{
    if (mag[d] != NULL)
        mag[d][i] = value;
}

void ref_accumulate(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const double keep = src[2][0] != 0 ? 0 : 1;
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        dst[0][i] = keep * src[0][i] + src[1][i];
        note(mag, 0, i, keep * fabs(src[0][i]) + fabs(src[1][i]));
    }
}

void ref_sum_squares(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    double sum = 0;
    for (int64_t i = 0; i < lun_count(op->src[0].shape); i++)
        sum += src[0][i] * src[0][i];
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        dst[0][i] = i == op->attrs.squares.slot ? sum : src[1][i];
        note(mag, 0, i, fabs(dst[0][i]));
    }
}

void ref_clip_norm(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    double sum = 0;
    for (int64_t i = 0; i < lun_count(op->src[0].shape); i++)
        sum += src[0][i];
    const double norm = sqrt(sum), ratio = (double)op->attrs.clip.limit / (norm + 1e-6);
    dst[0][0] = fmin(ratio, 1);
    dst[1][0] = norm;
    note(mag, 0, 0, dst[0][0]);
    note(mag, 1, 0, norm);
}

/* mag: |a| + 2 |w| (|param| + |a|), what is subtracted and added */
void ref_ema(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    for (int r = 0; r < op->ndst; r++)
        for (int64_t i = 0; i < lun_count(op->dst[r].shape); i++) {
            const double w = src[1][r], a = src[2 + r][i], p = src[0][i];
            dst[r][i] = a + w * (p - a);
            note(mag, r, i, fabs(a) + fabs(w) * (fabs(p) + fabs(a)));
        }
}

void ref_loss_seed(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    dst[0][0] = isfinite(src[0][0]) ? (double)op->attrs.seed.weight : NAN;
    note(mag, 0, 0, fabs(dst[0][0]));
}

void ref_health(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    double sum = 0;
    for (int64_t i = 0; i < lun_count(op->src[0].shape); i++)
        sum += src[0][i];
    const bool finite = isfinite((float)sum);
    dst[0][0] = src[1][0] == 0 && !finite ? src[2][0] + 1 : src[1][0];
    for (int i = 0; i < 4; i++)
        dst[1][i] = i == 3 && dst[0][0] != 0 ? 1 : src[3][i];
    dst[2][0] = sqrt(sum);
    for (int i = 0; op->nsrc > 4 && i < 4; i++)
        dst[3][i] = dst[0][0] != 0 ? 0 : src[4][i];
    for (int d = 0; d < op->ndst; d++)
        for (int64_t i = 0; i < lun_count(op->dst[d].shape); i++)
            note(mag, d, i, fabs(dst[d][i]));
}

void ref_settle(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const int from = src[2][3] == 1;
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++)
        for (int d = 0; d < 2; d++) {
            dst[d][i] = src[from][i];
            note(mag, d, i, fabs(dst[d][i]));
        }
}
