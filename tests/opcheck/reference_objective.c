#include <math.h>
#include <stddef.h>

#include "reference.h"

static void note(double *const *mag, int64_t i, double value)
{
    if (mag[0] != NULL)
        mag[0][i] = value;
}

/* Where element i of an image of `few` channels a pixel is in one of `many`, whose first channels it fills. */
static int64_t among(int64_t i, lun_shape few, int64_t many)
{
    const int64_t per_image = few.c * few.h * few.w;
    return i / per_image * many * few.h * few.w + i % per_image;
}

/* mag: as of loss (reference_rest.c) */
void ref_loss_each(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[1].shape;
    const int64_t per_image = s.c * s.h * s.w;
    const lun_loss_attrs a = op->attrs.loss;
    for (int64_t n = 0; n < s.n; n++) {
        const double weight = op->nsrc > 2 ? src[2][n] : 1, delta = (double)a.delta;
        double sum = 0, sum_mag = 0;
        for (int64_t i = n * per_image; i < (n + 1) * per_image; i++) {
            const double d = src[0][among(i, s, op->src[0].shape.c)] - src[1][i];
            sum += ref_loss_of(a, d);
            sum_mag += a.kind == LUN_LOSS_HUBER && fabs(d) > delta ? delta * (fabs(d) + delta / 2) : ref_loss_of(a, d);
        }
        dst[0][n] = weight * sum / (double)per_image;
        note(mag, n, fabs(weight) * sum_mag / (double)per_image);
    }
}

void ref_loss_each_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[1].shape;
    const int64_t per_image = s.c * s.h * s.w;
    for (int64_t i = 0; i < lun_count(op->src[0].shape); i++) {
        dst[0][i] = 0;
        note(mag, i, 0);
    }
    for (int64_t i = 0; i < lun_count(s); i++) {
        const int64_t n = i / per_image, at = among(i, s, op->src[0].shape.c);
        dst[0][at] = ref_slope_of(op->attrs.loss, src[0][at] - src[1][i]) * src[2][n] * (op->nsrc > 3 ? src[3][n] : 1) /
                     (double)per_image;
        note(mag, at, fabs(dst[0][at]));
    }
}

void ref_weighted_mean(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const int64_t count = op->src[0].shape.n;
    double sum = 0, size = 0;
    for (int64_t n = 0; n < count; n++) {
        sum += src[0][n] * src[1][n];
        size += fabs(src[0][n] * src[1][n]);
    }
    dst[0][0] = sum / (double)count;
    note(mag, 0, size / (double)count);
}

void ref_weighted_mean_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const int64_t count = op->src[0].shape.n;
    for (int64_t n = 0; n < count; n++) {
        dst[0][n] = src[0][n] * src[1][0] / (double)count;
        note(mag, n, fabs(dst[0][n]));
    }
}

/* (1 + tanh(a)) / 2 is the logistic function of 2a; of a small tail this form keeps the digits. */
static double tail(double z)
{
    const double a = sqrt(8 / 3.14159265358979323846) * (z + 0.044715 * z * z * z);
    return 1 / (1 + exp(-a));
}

static double density(double z)
{
    return sqrt(8 / 3.14159265358979323846) * (1 + 3 * 0.044715 * z * z) * tail(z) * tail(-z);
}

double ref_variational_of(double delta, double mean, double low, double y, double x0, bool first, double *slope)
{
    if (!first) {
        *slope = (-expm1(-y) - delta * delta * exp(-low - y)) / 2;
        return (y + expm1(-y) + delta * delta * exp(-low - y)) / 2;
    }
    const double sigma = exp((low + y) / 2), above = (x0 - mean + 1.0 / 255) / sigma,
                 below = (x0 - mean - 1.0 / 255) / sigma;
    const double up = -density(above) * above / 2, down = -density(below) * below / 2;
    double mass = below > 0 ? tail(-below) - tail(-above) : tail(above) - tail(below), change = up - down;
    if (x0 < -0.999) {
        mass = tail(above);
        change = up;
    } else if (x0 > 0.999) {
        mass = tail(-below);
        change = -down;
    }
    *slope = mass < 1e-12 ? 0 : -change / mass;
    return -log(fmax(mass, 1e-12));
}

/* One element of a sample at step t; *slope: dL/dv */
static double element(const lun_op *op, const double *const *src, int64_t i, double *slope)
{
    const lun_shape s = op->src[1].shape;
    const int64_t per_image = s.c * s.h * s.w, at = among(i, s, 2 * s.c);
    const int64_t t = ref_row(src[3][i / per_image], op->src[4].shape.n);
    const double *row = src[4] + 8 * t, end = row[0] * src[2][i] + row[1] * src[0][at];
    const double y = row[4] * (src[0][at + per_image] + 1) / 2;
    const double loss =
        ref_variational_of(row[2] * (src[1][i] - end), row[2] * end, row[3], y, src[1][i], t == 0, slope);
    *slope *= row[4] / 2;
    return loss;
}

void ref_variational(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[1].shape;
    const int64_t per_image = s.c * s.h * s.w;
    const double factor = (double)op->attrs.variational.scale / log(2) / (double)per_image;
    for (int64_t n = 0; n < s.n; n++) {
        double sum = 0, size = 0, slope;
        for (int64_t i = n * per_image; i < (n + 1) * per_image; i++) {
            const double loss = element(op, src, i, &slope);
            sum += loss;
            size += fabs(loss);
        }
        dst[0][n] = factor * sum;
        note(mag, n, fabs(factor) * size);
    }
}

void ref_variational_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[1].shape;
    const int64_t per_image = s.c * s.h * s.w;
    const double factor = (double)op->attrs.variational.scale / log(2) / (double)per_image;
    for (int64_t i = 0; i < lun_count(s); i++) {
        const int64_t at = among(i, s, 2 * s.c);
        double slope;
        element(op, src, i, &slope);
        dst[0][at] = 0;
        dst[0][at + per_image] = factor * slope * src[5][i / per_image];
        note(mag, at, 0);
        note(mag, at + per_image, fabs(dst[0][at + per_image]));
    }
}

void ref_guide(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->dst[0].shape;
    const int64_t half = lun_count(s) / 2, area = s.h * s.w;
    for (int64_t i = 0; i < half; i++) {
        const double with = src[0][i], without = src[0][i + half], scale = src[1][0];
        const bool guided = i / area % s.c < op->attrs.guide.channels;
        dst[0][i] = dst[0][i + half] = guided ? without + scale * (with - without) : with;
        for (int k = 0; k < 2; k++)
            note(mag, i + k * half, guided ? fabs(without) + fabs(scale) * (fabs(with) + fabs(without)) : fabs(with));
    }
}
