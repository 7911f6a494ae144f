/* batch_norm and batch_norm_backward.
 *
 * Bound, forward, in training. M values a channel, S = min(6 sqrt M, M), A = mean |x|, m the mean:
 *   e_m   = S u A + u |m|                          the sum and the division
 *   e_d   = e_m + u (|x| + |m|)                    of x - m: the cancellation when |m| is large beside the deviation
 *   e_v   = (S + 4) u var + e_m^2                  sum of d^2; a constant error e_m of d adds 2 e_m sum(d) = 0 and
 * e_m^2. E[x^2] - m^2 in float32 would err by S u m^2: the cases with m = 100 deviations fail it, as they should. e_r/r
 * = e_v / (2 (var + eps)) + 12 u           OpenCL allows sqrt 3 ulp and division 2.5 ulp, an ulp is 2 u e_y   = |gamma|
 * (r e_d + |d| r (e_r/r) + 2 u |d| r) + 2 u (|y| + |beta|) and twice u (|x| + |m|) in e_d, so that x scale + shift is
 * as welcome as (x - m) r gamma + beta. In evaluation, and with .given, m is given (e_m = 0) and so is var (e_v = 0).
 * What is added to each sample's channels counts as beta does.
 *
 * Backward, mean and rstd given, xhat = (x - m) r, e_x = 2 u (|x| + |m|) r + 2 u |xhat|:
 *   e_dbeta  = S u sum |dy| + u |dbeta|
 *   e_dgamma = (S + 1) u sum |dy xhat| + sum |dy| e_x + u |dgamma|
 *   e_dx     = |gamma| r ((e_dbeta + |xhat| e_dgamma + e_x |dgamma|) / M
 *                         + 8 u (|dy| + |dbeta| / M + |xhat dgamma| / M)) + u |dx|        (0 where relu masks it)
 *   e_dbias  = sum e_dx + S u sum |dx| + u |dbias|,  e_dshift = S u sum |dy| + u |dshift| over one sample
 *
 * Exact data: the forward on two points, m exact and var = 1, with eps = 3 (r = 1/2): the mean must be exact, what
 * hangs on sqrt and division within their ulps. The backward on small integers with M and r powers of two: tolerance 0.
 */
#include <string.h>

#include "opcheck.h"

enum { RANDOM, TWO_POINT, OFFSET };

typedef struct norm_shape {
    int n, c, h, w;
    bool training, update;
    int data;
    double eps, momentum;
} norm_shape;

static const norm_shape shapes[] = {
    {2, 3, 5, 7, true, true, RANDOM, 1e-5, 0.1},    {1, 1, 1, 2, true, true, RANDOM, 1e-2, 0.5},
    {2, 4, 4, 8, true, true, TWO_POINT, 3, 0.25},   {16, 33, 1, 1, true, true, RANDOM, 1e-5, 0.1},
    {3, 65, 7, 3, true, false, RANDOM, 1e-3, 0.1},  {2, 64, 8, 8, true, true, OFFSET, 1e-5, 0.1},
    {1, 31, 33, 32, true, true, RANDOM, 1e-5, 1},   {5, 2, 31, 13, true, true, OFFSET, 1e-5, 0.9},
    {1, 1, 65, 64, true, true, RANDOM, 1e-5, 0.01}, {4, 129, 3, 3, true, false, RANDOM, 0.5, 0.1},
    {1, 32, 4, 4, true, true, TWO_POINT, 3, 0.5},   {2, 3, 5, 7, false, false, RANDOM, 1e-5, 0.1},
    {1, 5, 1, 1, false, false, RANDOM, 1e-2, 0.1},  {3, 65, 7, 3, false, false, RANDOM, 1e-3, 0.1},
    {2, 64, 9, 8, false, false, OFFSET, 1e-5, 0.1}, {2, 3, 64, 96, true, true, RANDOM, 1e-5, 0.1},
    {8, 256, 2, 2, true, true, RANDOM, 1e-5, 0.1},  {1, 1031, 3, 1, true, true, RANDOM, 1e-5, 0.3},
};
static const norm_shape tiny[] = {
    {2, 70, 5, 3, true, true, RANDOM, 1e-5, 0.1},
    {3, 3, 12, 11, true, false, RANDOM, 1e-3, 0.1},
    {2, 66, 3, 3, false, false, RANDOM, 1e-5, 0.1},
};
static const norm_shape tiny_long = {1, 1, 66, 63, true, true, RANDOM, 1e-5, 0.1}; /* more than 64 chunks of a GPU */
static const norm_shape layers[] = {
    {16, 128, 64, 64, true, true, RANDOM, 1e-5, 0.1},
    {16, 512, 16, 16, true, true, RANDOM, 1e-5, 0.1},
    {16, 1024, 8, 8, true, true, RANDOM, 1e-5, 0.1},
};
static const norm_shape grad[] = {
    {2, 3, 2, 3, true, true, RANDOM, 1e-2, 0.1},
    {4, 2, 1, 1, true, false, RANDOM, 1e-1, 0.1},
    {2, 3, 3, 2, false, false, RANDOM, 1e-3, 0.1},
};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 4 * COUNT(shapes);
    case OC_TINY: return 4 * COUNT(tiny) + 1;
    case OC_LONG: return COUNT(layers) + 100;
    case OC_PERF: return 3 * COUNT(layers);
    default: return 2 * COUNT(grad);
    }
}

static norm_shape choose(oc_set set, int index, oc_rng *rng)
{
    if (set == OC_SUITE)
        return shapes[index % COUNT(shapes)];
    if (set == OC_TINY)
        return index < 4 * COUNT(tiny) ? tiny[index % COUNT(tiny)] : tiny_long;
    if (set == OC_GRAD)
        return grad[index % COUNT(grad)];
    if (set == OC_PERF)
        return layers[index % COUNT(layers)];
    if (index < COUNT(layers))
        return layers[index];
    norm_shape s = {1 + oc_below(rng, 8),
                    1 + oc_below(rng, 200),
                    1 + oc_below(rng, 40),
                    2 + oc_below(rng, 40),
                    oc_below(rng, 4) > 0,
                    false,
                    oc_below(rng, 2) ? RANDOM : OFFSET,
                    1e-5,
                    0.1};
    s.update = s.training && oc_below(rng, 2);
    return s;
}

/* Which way of merging with the ops around it (src/graph/fuse.c) the case tries; 0: none. Each is tried with each
 * shape. */
static int merging(oc_set set, int index)
{
    switch (set) {
    case OC_SUITE: return index < COUNT(shapes) ? 0 : (index % COUNT(shapes) / 2 + index / COUNT(shapes)) % 5;
    case OC_TINY: return index < COUNT(tiny) ? 0 : 1 + index % 4;
    case OC_LONG: return index % 5;
    case OC_PERF: return index < COUNT(layers) ? 0 : 4;
    default: return index < COUNT(grad) ? 0 : 1;
    }
}

/* Whether a convolution has left the statistics (only in training, and only forward). */
static bool given(oc_set set, int index)
{
    switch (set) {
    case OC_SUITE: return index >= 3 * COUNT(shapes);
    case OC_TINY: return index >= 2 * COUNT(tiny) && index < 4 * COUNT(tiny);
    case OC_LONG: return index % 3 == 2;
    case OC_PERF: return index >= 2 * COUNT(layers);
    default: return false;
    }
}

/* Equal numbers of a_c - 1 and a_c + 1, a_c a small integer. */
static void fill_two_point(oc_case *c, int s)
{
    const lun_shape shape = c->op.src[s].shape;
    const int64_t area = shape.h * shape.w;
    for (int64_t i = 0; i < lun_count(shape); i++)
        oc_set_float(c, s, i, (double)(i / area % shape.c % 5) - 2 + ((i + i / 8) % 2 ? 1 : -1));
}

static void make_forward(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const norm_shape s = choose(set, index, rng);
    const lun_desc vector = lun_image(1, s.c, 1, 1);
    lun_norm_attrs *a = &c->op.attrs.norm;
    a->training = s.training;
    a->update = s.update;
    a->eps = (float)s.eps;
    a->momentum = (float)s.momentum;
    const int merge = merging(set, index);
    a->bare = !s.training && merge > 2;
    a->given = s.training && given(set, index);
    c->layout = oc_turn(index);
    const int src = oc_source(c, lun_image(s.n, s.c, s.h, s.w));
    if (s.data == TWO_POINT)
        fill_two_point(c, src);
    else
        oc_fill_reals(c, src, rng, s.data == OFFSET ? 100 : 0.3, 1.7);
    oc_fill_reals(c, oc_source(c, vector), rng, 1, 0.5);
    oc_fill_reals(c, oc_source(c, vector), rng, 0.2, 0.5);
    oc_fill_reals(c, oc_source(c, vector), rng, s.data == OFFSET ? 100 : 0.2, 0.5);
    oc_fill_reals(c, oc_source(c, vector), rng, 1, 0.9);
    if (merge == 1 || merge == 4 || (merge > 0 && s.training))
        oc_fill_reals(c, oc_source(c, lun_image(s.n, s.c, 1, 1)), rng, 0.1, 1);
    if (a->given) { /* not quite those of src, which the op may not use */
        const int stats = oc_source(c, lun_image(2, s.c, 1, 1));
        for (int64_t i = 0; i < 2 * s.c; i++)
            oc_set_float(c, stats, i,
                         i >= s.c           ? 1 + 0.9 * oc_real(rng)
                         : s.data == OFFSET ? 100 + oc_real(rng)
                                            : oc_real(rng));
    }
    oc_dest(c, lun_shape4(s.n, s.c, s.h, s.w));
    for (int d = 0; d < (s.update ? 4 : a->bare ? 0 : 2); d++)
        oc_dest(c, vector.shape);
}

static bool two_point(const oc_case *c)
{
    return c->op.attrs.norm.eps == 3;
}

static void bound_forward(oc_case *c)
{
    const lun_norm_attrs a = c->op.attrs.norm;
    const lun_shape s = c->op.src[0].shape;
    const int64_t area = s.h * s.w;
    const double count_ = (double)(s.n * area), S = oc_sum_factor(count_);
    for (int64_t ch = 0; ch < s.c; ch++) {
        const double m = a.bare ? c->src[3][ch] : c->want[1][ch];
        const double r = a.bare ? 1 / sqrt(c->src[4][ch] + (double)a.eps) : c->want[2][ch];
        const double floor = 1 / (r * r); /* var + eps */
        double e_m = 0, e_v = 0, var = 0;
        if (a.training) {
            var = fmax(floor - (double)a.eps, 0);
            e_m = two_point(c) || a.given ? 0 : S * OC_U * c->mag[1][ch] + OC_U * fabs(m);
            e_v = two_point(c) || a.given ? 0 : (S + 4) * OC_U * var + e_m * e_m;
        }
        const double e_r = e_v / (2 * floor) + 12 * OC_U;
        if (!a.bare) {
            c->bound[1][ch] = e_m;
            c->bound[2][ch] = r * e_r;
        }
        if (c->op.ndst > 3) {
            const double momentum = (double)a.momentum, unbiased = count_ / (count_ - 1);
            c->bound[3][ch] = momentum * e_m + 4 * OC_U * ((1 - momentum) * fabs(c->src[3][ch]) + momentum * fabs(m));
            c->bound[4][ch] = momentum * unbiased * e_v +
                              8 * OC_U * ((1 - momentum) * fabs(c->src[4][ch]) + momentum * unbiased * var);
        }
        const double gamma = c->src[1][ch], beta = c->src[2][ch];
        for (int64_t n = 0; n < s.n; n++) {
            const double added = fabs(beta) + (lun_norm_is_shifted(&c->op) ? fabs(c->src[5][n * s.c + ch]) : 0);
            for (int64_t i = (n * s.c + ch) * area; i < (n * s.c + ch + 1) * area; i++) {
                const double x = c->src[0][i], xhat = (x - m) * r;
                const double e_d = e_m + 2 * OC_U * (fabs(x) + fabs(m));
                c->bound[0][i] =
                    fabs(gamma) * (r * e_d + fabs(xhat) * (e_r + 2 * OC_U)) + 2 * OC_U * (fabs(c->want[0][i]) + added);
            }
        }
    }
}

/* The backward op gets the mean and rstd of the data, rounded, as the forward would have left them; in evaluation a
 * mean that is not the data's. */
static void make_backward(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    norm_shape s = choose(set, index, rng);
    const lun_desc image = lun_image(s.n, s.c, s.h, s.w), vector = lun_image(1, s.c, 1, 1);
    const int64_t area = (int64_t)s.h * s.w, per_channel = s.n * area;
    c->op.attrs.norm.training = s.training;
    c->op.attrs.norm.eps = (float)s.eps;
    c->op.attrs.norm.momentum = (float)s.momentum;
    c->layout = oc_turn(index);
    c->exact = (per_channel & (per_channel - 1)) == 0 && per_channel > 2 && index % 2 == 0;
    /* Without relu, and in training, the sum of dsrc is 0; of exact data it would need more digits than there are. */
    const int merge = merging(set, index);
    lun_norm_attrs *a = &c->op.attrs.norm;
    a->relu = merge == 1 || merge == 2 || merge == 4;
    a->dbias = !c->exact && (merge == 2 || merge == 4 || (merge == 3 && !s.training));
    a->dshift = merge >= 3;
    for (int i = 0; i < 2; i++)
        oc_source(c, image);
    for (int i = 0; i < 3; i++)
        oc_source(c, vector);
    if (c->exact) {
        oc_fill_ints(c, 0, rng, -4, 4);
        oc_fill_ints(c, 1, rng, -4, 4);
        oc_fill_ints(c, 2, rng, 1, 3);
        oc_fill_ints(c, 3, rng, -2, 2);
        for (int64_t ch = 0; ch < s.c; ch++)
            oc_set_float(c, 4, ch, oc_below(rng, 2) ? 0.5 : 1);
    } else {
        oc_fill_reals(c, 0, rng, s.data == OFFSET ? 100 : 0.3, 1.7);
        oc_fill_reals(c, 1, rng, 0.05, 1);
        oc_fill_reals(c, 2, rng, 1, 0.5);
        for (int64_t ch = 0; ch < s.c; ch++) {
            double mean = 0, var = 0;
            for (int64_t i = 0; i < per_channel; i++)
                mean += c->src[0][(i / area * s.c + ch) * area + i % area];
            mean /= (double)per_channel;
            for (int64_t i = 0; i < per_channel; i++)
                var += pow(c->src[0][(i / area * s.c + ch) * area + i % area] - mean, 2);
            oc_set_float(c, 3, ch, s.training ? mean : mean + 0.3);
            oc_set_float(c, 4, ch, 1 / sqrt(var / (double)per_channel + s.eps));
        }
    }
    /* Two values a channel have xhat = -1 and 1: dx is all cancellation. */
    c->max_zero = a->relu ? 0.8f : c->exact ? 0.5f : 0.3f;
    oc_dest(c, image.shape);
    oc_dest(c, vector.shape);
    oc_dest(c, vector.shape);
    if (a->dbias)
        oc_dest(c, vector.shape);
    if (a->dshift)
        oc_dest(c, lun_shape4(s.n, s.c, 1, 1));
}

static void bound_backward(oc_case *c)
{
    const lun_norm_attrs a = c->op.attrs.norm;
    const lun_shape s = c->op.src[0].shape;
    const int64_t area = s.h * s.w;
    const double M = (double)(s.n * area), S = oc_sum_factor(M);
    for (int64_t ch = 0; ch < s.c; ch++) {
        const double gamma = c->src[2][ch], m = c->src[3][ch], r = c->src[4][ch];
        const double dgamma = c->want[1][ch], dbeta = c->want[2][ch];
        double e_dgamma = (S + 1) * OC_U * c->mag[1][ch] + OC_U * fabs(dgamma);
        const double e_dbeta = S * OC_U * c->mag[2][ch] + OC_U * fabs(dbeta);
        for (int64_t n = 0; n < s.n; n++)
            for (int64_t i = (n * s.c + ch) * area; i < (n * s.c + ch + 1) * area; i++) {
                const double x = c->src[0][i];
                e_dgamma += fabs(c->src[1][i]) * (2 * OC_U * (fabs(x) + fabs(m)) * r + 2 * OC_U * fabs(x - m) * r);
            }
        c->bound[1][ch] = e_dgamma;
        c->bound[2][ch] = e_dbeta;
        double e_sum = 0;
        for (int64_t n = 0; n < s.n; n++)
            for (int64_t i = (n * s.c + ch) * area; i < (n * s.c + ch + 1) * area; i++) {
                const double x = c->src[0][i], dy = fabs(c->src[1][i]), xhat = fabs(x - m) * r;
                const double e_x = 2 * OC_U * (fabs(x) + fabs(m)) * r + 2 * OC_U * xhat;
                double e = 8 * OC_U * dy;
                if (c->op.attrs.norm.training)
                    e += (e_dbeta + xhat * e_dgamma + e_x * fabs(dgamma)) / M +
                         8 * OC_U * (fabs(dbeta) + xhat * fabs(dgamma)) / M;
                c->bound[0][i] = a.relu && x <= 0 ? 0 : fabs(gamma) * r * e + OC_U * fabs(c->want[0][i]);
                e_sum += c->bound[0][i];
            }
        if (a.dbias)
            c->bound[3][ch] = e_sum + S * OC_U * c->mag[3][ch] + OC_U * fabs(c->want[3][ch]);
        const int d = a.dbias ? 4 : 3;
        for (int64_t i = ch; a.dshift && i < s.n * s.c; i += s.c)
            c->bound[d][i] = oc_sum_factor((double)area) * OC_U * c->mag[d][i] + OC_U * fabs(c->want[d][i]);
    }
}

const oc_op oc_batch_norm = {.kind = LUN_OP_BATCH_NORM, .count = count, .make = make_forward, .bound = bound_forward};
const oc_op oc_batch_norm_backward = {
    .kind = LUN_OP_BATCH_NORM_BACKWARD, .count = count, .make = make_backward, .bound = bound_backward};
