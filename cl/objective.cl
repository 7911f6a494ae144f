/* What tells one sample from another in a loss, and guidance. The formulas are in src/op/objective.c. Storage is N H W
 * C; a pixel of pred may have more channels than one of the target.
 *
 * Sums: an item adds some pixels of one sample, on a CPU beside each other, on a GPU apart, so that neighbouring items
 * read neighbouring pixels; reduce.cl joins the results. Gradients: an item is a piece of a sample, one element on a
 * GPU. Comparisons are written so that NaN passes through.
 */
#include "kernel.h"
#include "objective.h"
#include "special.h"

static inline float objective_loss(const float d, const int kind, const float delta)
{
    const float size = f_abs(d), square = d * d;
    const float huber = size > delta ? delta * (size - 0.5f * delta) : 0.5f * square;
    return kind == 0 ? size : kind == 1 ? square : huber;
}

/* `weight` is not read unless arg.weighted. */
KERNEL4(loss_each, struct each_args, GLOBAL const float *pred, GLOBAL const float *target, GLOBAL const float *weight,
        GLOBAL float *partial)
{
    const int n = item / arg.pieces, piece = item % arg.pieces;
    float sum = 0.0f;
    for (int k = 0; k < arg.steps; k++) {
        const int pixel = piece * arg.first + k * arg.step;
        if (pixel >= arg.pixels)
            break;
        const int at = n * arg.pixels + pixel;
        for (int c = 0; c < arg.used; c++)
            sum += objective_loss(pred[at * arg.channels + c] - target[at * arg.used + c], arg.kind, arg.delta);
    }
    partial[item] = arg.weighted ? sum * weight[n] : sum;
}

KERNEL5(loss_each_backward, struct each_backward_args, GLOBAL const float *pred, GLOBAL const float *target,
        GLOBAL const float *deach, GLOBAL const float *weight, GLOBAL float *dpred)
{
    const int n = item / arg.pieces, piece = item % arg.pieces;
    const int row = piece / arg.blocks * arg.rows, rows = i_min(arg.rows, arg.pixels - row);
    const int c0 = piece % arg.blocks * arg.width, width = i_min(arg.width, arg.channels - c0);
    const float g = deach[n] * arg.scale * (arg.weighted ? weight[n] : 1.0f), limit = arg.delta;
    for (int r = 0; r < rows; r++) {
        const int pixel = n * arg.pixels + row + r;
        for (int c = c0; c < c0 + width; c++) {
            float slope = 0.0f;
            if (c < arg.used) {
                const float d = pred[pixel * arg.channels + c] - target[pixel * arg.used + c];
                if (arg.kind == 0)
                    slope = d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d; /* 0 at 0, and NaN stays NaN */
                else if (arg.kind == 1)
                    slope = 2.0f * d;
                else
                    slope = d > limit ? limit : d < -limit ? -limit : d;
                slope *= g;
            }
            dpred[pixel * arg.channels + c] = slope;
        }
    }
}

/* One item: batches are short. */
KERNEL3(weighted_mean, struct mean_args, GLOBAL const float *values, GLOBAL const float *weights, GLOBAL float *dst)
{
    float sum = 0.0f;
    for (int n = item; n < arg.count; n++)
        sum += values[n] * weights[n];
    dst[0] = sum * arg.scale;
}

KERNEL3(weighted_mean_backward, struct mean_args, GLOBAL const float *weights, GLOBAL const float *dmean,
        GLOBAL float *dvalues)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    const float g = dmean[0] * arg.scale;
    INDEPENDENT
    for (int n = first; n < end; n++)
        dvalues[n] = weights[n] * g;
}

/* ---- the variational bound ---- */

#define VARIATIONAL_LEVEL 0.003921568627f /* 1/255, half the distance of two levels */
#define VARIATIONAL_LEAST 1e-12f

/* (1 + tanh(a)) / 2 = 1 / (1 + e^-2a): this is 2a of the distribution function's approximation, and its slope. */
static inline float variational_bend(const float z)
{
    return 1.5957691216f * (z + 0.044715f * z * z * z);
}
static inline float variational_bend_slope(const float z)
{
    return 1.5957691216f * (1.0f + 0.134145f * z * z);
}

/* 1 / (1 + e^-x) without losing digits where it is small, and its derivative. */
static inline float variational_logistic(const float x)
{
    const float e = f_exp(x < 0.0f ? x : -x);
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}
static inline float variational_density(const float x)
{
    const float e = f_exp(x < 0.0f ? x : -x);
    return e / ((1.0f + e) * (1.0f + e));
}

struct variational_point {
    float delta, low, y; /* x0 - x0', log variance at least, and what it is above that */
    float c1, mean;
};

static inline struct variational_point variational_at(const float m, const float v, const float x0, const float xt,
                                                      GLOBAL const float *row)
{
    struct variational_point p;
    const float end = row[0] * xt + row[1] * m;
    p.c1 = row[2];
    p.low = row[3];
    p.y = row[4] * (0.5f * v + 0.5f);
    p.delta = p.c1 * (x0 - end);
    p.mean = p.c1 * end;
    return p;
}

/* The mass of x0's level; *slope: its derivative by the log variance. Of two small tails that meet on the same side the
 * nearer ones are subtracted. */
static inline float variational_mass(const struct variational_point p, const float x0, float *slope)
{
    const float inverse = f_exp(-0.5f * (p.low + p.y)), centred = x0 - p.mean;
    const float above = inverse * (centred + VARIATIONAL_LEVEL), below = inverse * (centred - VARIATIONAL_LEVEL);
    const float a = variational_bend(above), b = variational_bend(below);
    const float da = -0.5f * above * variational_bend_slope(above) * variational_density(a);
    const float db = -0.5f * below * variational_bend_slope(below) * variational_density(b);
    if (x0 < -0.999f) {
        *slope = da;
        return variational_logistic(a);
    }
    if (x0 > 0.999f) {
        *slope = -db;
        return variational_logistic(-b);
    }
    *slope = da - db;
    return b > 0.0f ? variational_logistic(-b) - variational_logistic(-a)
                    : variational_logistic(a) - variational_logistic(b);
}

/* y - 1 + e^-y and its derivative. At most steps y is small, and one less the other would leave nothing of their
 * digits: below 1/4 Taylor's series. */
static inline float variational_excess(const float y)
{
    if (y < 0.25f && y > -0.25f)
        return y * y *
               (0.5f - y * (1.6666667e-1f -
                            y * (4.1666667e-2f - y * (8.3333333e-3f - y * (1.3888889e-3f - y * 1.984127e-4f)))));
    return y - 1.0f + f_exp(-y);
}
static inline float variational_excess_slope(const float y)
{
    if (y < 0.25f && y > -0.25f)
        return y *
               (1.0f -
                y * (0.5f - y * (1.6666667e-1f -
                                 y * (4.1666667e-2f - y * (8.3333333e-3f - y * (1.3888889e-3f - y * 1.984127e-4f))))));
    return 1.0f - f_exp(-y);
}

/* L of one element. */
static inline float variational_loss(const struct variational_point p, const float x0, const int t)
{
    if (t == 0) {
        float slope;
        const float mass = variational_mass(p, x0, &slope);
        return -f_log(mass < VARIATIONAL_LEAST ? VARIATIONAL_LEAST : mass);
    }
    return 0.5f * (variational_excess(p.y) + p.delta * p.delta * f_exp(-(p.low + p.y)));
}

/* Its derivative by the log variance. */
static inline float variational_slope(const struct variational_point p, const float x0, const int t)
{
    if (t == 0) {
        float slope;
        const float mass = variational_mass(p, x0, &slope);
        return mass < VARIATIONAL_LEAST ? 0.0f : -slope / mass;
    }
    return 0.5f * (variational_excess_slope(p.y) - p.delta * p.delta * f_exp(-(p.low + p.y)));
}

KERNEL6(variational, struct variational_args, GLOBAL const float *pred, GLOBAL const float *x0, GLOBAL const float *xt,
        GLOBAL const int *t, GLOBAL const float *table, GLOBAL float *partial)
{
    const int n = item / arg.pieces, piece = item % arg.pieces, time = i_max(0, i_min(t[n], arg.table - 1));
    GLOBAL const float *row = table + 8 * time;
    float sum = 0.0f;
    for (int k = 0; k < arg.steps; k++) {
        const int pixel = piece * arg.first + k * arg.step;
        if (pixel >= arg.pixels)
            break;
        const int at = (n * arg.pixels + pixel) * arg.used;
        for (int c = 0; c < arg.used; c++) {
            const float m = pred[2 * at + c], v = pred[2 * at + arg.used + c], end = x0[at + c];
            sum += variational_loss(variational_at(m, v, end, xt[at + c], row), end, time);
        }
    }
    partial[item] = sum;
}

KERNEL7(variational_backward, struct variational_backward_args, GLOBAL const float *pred, GLOBAL const float *x0,
        GLOBAL const float *xt, GLOBAL const int *t, GLOBAL const float *table, GLOBAL const float *deach,
        GLOBAL float *dpred)
{
    const int n = item / arg.pieces, piece = item % arg.pieces, time = i_max(0, i_min(t[n], arg.table - 1));
    const int row0 = piece / arg.blocks * arg.rows, rows = i_min(arg.rows, arg.pixels - row0);
    const int c0 = piece % arg.blocks * arg.width, width = i_min(arg.width, 2 * arg.used - c0);
    GLOBAL const float *row = table + 8 * time;
    const float g = deach[n] * arg.scale * (0.5f * row[4]);
    for (int r = 0; r < rows; r++) {
        const int at = (n * arg.pixels + row0 + r) * arg.used;
        for (int c = c0; c < c0 + width; c++) {
            float slope = 0.0f;
            if (c >= arg.used) {
                const int i = at + c - arg.used;
                const float m = pred[at + i], v = pred[2 * at + c]; /* 2 at + c - used */
                slope = g * variational_slope(variational_at(m, v, x0[i], xt[i], row), x0[i], time);
            }
            dpred[2 * at + c] = slope;
        }
    }
}

/* ---- guidance ---- */

KERNEL3(guide, struct guide_args, GLOBAL const float *src, GLOBAL const float *scale, GLOBAL float *dst)
{
    const int row = item / arg.blocks * arg.rows, rows = i_min(arg.rows, arg.pixels - row);
    const int c0 = item % arg.blocks * arg.width, width = i_min(arg.width, arg.channels - c0);
    const int half_count = arg.pixels * arg.channels; /* from a conditional element to its unconditional one */
    const float s = scale[0];
    for (int r = row; r < row + rows; r++)
        for (int c = c0; c < c0 + width; c++) {
            const int i = r * arg.channels + c;
            const float with = src[i], without = src[i + half_count];
            const float guided = c < arg.guided ? without + s * (with - without) : with;
            dst[i] = guided;
            dst[i + half_count] = guided;
        }
}
