/* loss_each, weighted_mean, variational with their gradients, and guide.
 *
 * loss_each, loss_each_backward: the bounds of loss.c with one product more, 12 u for 10 u.
 *
 * weighted_mean: one rounding a product, N of the sum, one of the factor: (min(6 sqrt N, N) + 3) u |W||X|; its gradient
 * has two products and a rounded 1/N: 4 u |y|.
 *
 * guide: three roundings on numbers of up to |u| + |s| (|c| + |u|): 3 u of that.
 *
 * variational. Roundings reach an element's L in three ways. (1) The means: x0' = A xt + B m, the difference from x0
 * and the products with c1 are six roundings on the sizes of their terms: |d mean| <= 6 u |c1| (|A xt| + |B m| + |x0|);
 * the level's edges lie at x0 - mean +- 1/255, two more on |x0 - mean| + 1/255, relative to the same quantity. (2) The
 * log variance low + y: four roundings on |low| + |y|, and an exponential of it with 4 ulp; counted as |d lv| <= 4 u
 * (|low| + 2 |y|) + 32 u, the 32 for what multiplies z: the exponential, the cubic and its factor, ten roundings of z
 * or sixteen half units of lv with room. What these two do to L is found by moving them and taking the largest change
 * (L is smooth; a change of this size is linear). (3) What is rounded after that: the logarithm and the logistic
 * functions, 24 u (1 + |L|), of which 16 u are relative errors of the mass, whose logarithm they shift; for t > 0 the
 * square, 10 u delta^2 e^-lv, and y - 1 + e^-y: 10 u of its three terms' sizes, but of itself where |y| < 1/4 (a series
 * whose sum is near its first term); y has three roundings of its own, on |range| (|v| + 1) / 2, which the derivative
 * carries on. The sum over a sample and the factor add (min(6 sqrt T, T) + 6) u mean |L|. For the gradient the same is
 * done with dL/dlv, and at t = 0 24 u go to the sizes of its terms, |z| density / mass, which are below 4 max(1, |z
 * above|^2 + |z below|^2). */
#include "opcheck.h"
#include "reference.h"

/* N, C, H, W, and the further channels of pred in loss_each, or those that guide leaves alone. */
static const int shapes[][5] = {
    {1, 1, 1, 3, 1},   {2, 3, 5, 7, 3},   {3, 1, 17, 19, 0},   {2, 4, 8, 16, 0},   {5, 33, 3, 2, 2},
    {4, 3, 16, 16, 3}, {2, 3, 65, 64, 3}, {1, 2, 128, 128, 0}, {7, 16, 13, 11, 1}, {1, 4, 65, 63, 4},
};
static const int tiny[][5] = {{2, 3, 20, 17, 3}, {3, 2, 13, 11, 0}};
static const int layers[][5] = {{16, 3, 64, 64, 3}};
static const int grad[][5] = {{3, 2, 2, 3, 2}, {4, 1, 3, 2, 0}, {2, 3, 2, 2, 1}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 3 * COUNT(shapes);
    case OC_TINY: return COUNT(tiny);
    case OC_LONG: return COUNT(layers) + 60;
    case OC_PERF: return COUNT(layers);
    default: return COUNT(grad);
    }
}

static const int *shape_of(oc_set set, int index, oc_rng *rng, int random[5])
{
    const int drawn[5] = {1 + oc_below(rng, 16), 1 + oc_below(rng, 12), 1 + oc_below(rng, 60), 1 + oc_below(rng, 60),
                          oc_below(rng, 5)};
    for (int i = 0; i < 5; i++)
        random[i] = drawn[i];
    return set == OC_SUITE         ? shapes[index / 3]
           : set == OC_TINY        ? tiny[index]
           : set == OC_GRAD        ? grad[index]
           : index < COUNT(layers) ? layers[index]
                                   : random;
}

static void per_sample(oc_case *c, oc_rng *rng, int n, double centre, double spread)
{
    oc_fill_reals(c, oc_source(c, lun_image(n, 1, 1, 1)), rng, centre, spread);
}

/* ---- loss_each ---- */

static void make_each(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    int random[5];
    const int *s = shape_of(set, index, rng, random);
    const lun_desc pred = lun_image(s[0], s[1] + s[4], s[2], s[3]), target = lun_image(s[0], s[1], s[2], s[3]);
    c->op.attrs.loss.kind = (lun_loss_kind)(index % 3);
    c->op.attrs.loss.delta = 0.75f;
    c->layout = oc_turn(index / 3 + index % 3);
    oc_fill_reals(c, oc_source(c, pred), rng, 0, 1);
    oc_fill_reals(c, oc_source(c, target), rng, 0.1, 1);
    if (set == OC_GRAD) { /* clear of the kinks */
        const int64_t area = (int64_t)s[2] * s[3], few = s[1] * area, many = (s[1] + s[4]) * area;
        for (int64_t i = 0; i < oc_src_count(c, 1); i++) {
            const double d = (i % 4 < 2 ? 0.2 + 0.5 * fabs(oc_real(rng)) : 0.8 + fabs(oc_real(rng))) * (i % 2 ? 1 : -1);
            oc_set_float(c, 0, i / few * many + i % few, c->src[1][i] + d);
        }
    }
    if (c->op.kind == LUN_OP_LOSS_EACH_BACKWARD) {
        per_sample(c, rng, s[0], 1.3, 0.2);
        c->constant = lun_count(target.shape) < 4;
        oc_dest(c, pred.shape);
    } else {
        oc_dest(c, lun_shape4(s[0], 1, 1, 1));
    }
    if (index % 2 == 0)
        per_sample(c, rng, s[0], 0.8, 0.7);
}

static void bound_each(oc_case *c)
{
    const lun_shape s = c->op.src[1].shape;
    for (int64_t n = 0; n < s.n; n++)
        c->bound[0][n] = fmin((oc_sum_factor((double)(s.c * s.h * s.w)) + 12) * OC_U, 1e-6) * c->mag[0][n];
}

static void bound_each_backward(oc_case *c)
{
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = 12 * OC_U * fabs(c->want[0][i]);
}

/* ---- weighted_mean ---- */

static void make_mean(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    static const int sizes[] = {1, 2, 3, 7, 16, 33, 64, 100, 128, 257};
    const int n = set == OC_SUITE ? sizes[index % COUNT(sizes)] : set == OC_GRAD ? 3 + index : 1 + oc_below(rng, 300);
    c->layout = oc_turn(index);
    per_sample(c, rng, n, 0.3, 1);
    if (c->op.kind == LUN_OP_WEIGHTED_MEAN) {
        per_sample(c, rng, n, 1, 0.9);
        oc_dest(c, lun_shape4(1, 1, 1, 1));
    } else {
        oc_set_float(c, oc_source(c, lun_image(1, 1, 1, 1)), 0, 1.7);
        oc_dest(c, lun_shape4(n, 1, 1, 1));
    }
}

static void bound_mean(oc_case *c)
{
    c->bound[0][0] = (oc_sum_factor((double)oc_src_count(c, 0)) + 3) * OC_U * c->mag[0][0];
}

static void bound_mean_backward(oc_case *c)
{
    for (int64_t n = 0; n < oc_src_count(c, 0); n++)
        c->bound[0][n] = 4 * OC_U * fabs(c->want[0][n]);
}

/* ---- variational ---- */

enum { STEPS = 12 };

/* Rows of a schedule from 1e-4 to 0.05, of a network that predicts eps, x0 or v. */
static void fill_table(oc_case *c, int table, int prediction)
{
    double abar = 1, variance[STEPS], beta[STEPS];
    for (int t = 0; t < STEPS; t++) {
        const double before = abar;
        beta[t] = 1e-4 + (0.05 - 1e-4) * t / (STEPS - 1);
        abar *= 1 - beta[t];
        variance[t] = beta[t] * (1 - before) / (1 - abar);
        const double a[3] = {1 / sqrt(abar), 0, sqrt(abar)}, b[3] = {-sqrt(1 / abar - 1), 1, -sqrt(1 - abar)};
        oc_set_float(c, table, 8 * t, a[prediction]);
        oc_set_float(c, table, 8 * t + 1, b[prediction]);
        oc_set_float(c, table, 8 * t + 2, beta[t] * sqrt(before) / (1 - abar));
    }
    for (int t = 0; t < STEPS; t++) {
        const double low = log(variance[t > 0 ? t : 1]);
        oc_set_float(c, table, 8 * t + 3, low);
        oc_set_float(c, table, 8 * t + 4, log(beta[t]) - low);
        for (int i = 5; i < 8; i++)
            oc_set_float(c, table, 8 * t + i, 1e3); /* not read */
    }
}

static void make_variational(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    int random[5];
    const int *s = shape_of(set, index, rng, random);
    const int64_t area = (int64_t)s[1] * s[2] * s[3];
    const lun_desc half = lun_image(s[0], s[1], s[2], s[3]);
    const int prediction = index % 3;
    c->op.attrs.variational.scale = index % 2 ? 1 : 0.3f;
    c->layout = oc_turn(index / 3 + index % 3);
    const int pred = oc_source(c, lun_image(s[0], 2 * s[1], s[2], s[3])), x0 = oc_source(c, half),
              xt = oc_source(c, half);
    const int t = oc_source(c, lun_typed(lun_image(s[0], 1, 1, 1), LUN_I32)),
              table = oc_source(c, lun_image(STEPS, 8, 1, 1));
    const int beyond = index % 4 == 1 ? 4 : 0; /* the table, both ways: clamped */
    oc_fill_indices(c, t, rng, -beyond, STEPS - 1 + beyond);
    c->bits[t][0] = 0; /* both branches, whatever is drawn */
    c->src[t][0] = 0;
    fill_table(c, table, prediction);
    for (int64_t i = 0; i < lun_count(half.shape); i++) {
        const int64_t n = i / area, at = 2 * n * area + i % area;
        const double *row = c->src[table] + 8 * ref_row(c->src[t][n], STEPS);
        /* A network that is off by up to two standard deviations; among the true values some levels at the ends. */
        const int kind = oc_below(rng, 8);
        oc_set_float(c, x0, i, kind == 0 ? -1 : kind == 1 ? 1 : 0.99 * oc_real(rng));
        const double off = 2 * oc_real(rng) * exp(row[3] / 2) / row[2], end = c->src[x0][i] + off;
        /* x0' = A xt + B m = end */
        oc_set_float(c, xt, i, prediction == 1 ? oc_real(rng) : c->src[x0][i] + 0.3 * oc_real(rng));
        oc_set_float(c, pred, at, (end - row[0] * c->src[xt][i]) / row[1]);
        oc_set_float(c, pred, at + area, 1.1 * oc_real(rng));
    }
    if (c->op.kind == LUN_OP_VARIATIONAL_BACKWARD) {
        per_sample(c, rng, s[0], 1.1, 0.3);
        c->constant = true;
        c->max_zero = 0.6f;
        oc_dest(c, lun_shape4(s[0], 2 * s[1], s[2], s[3]));
    } else {
        oc_dest(c, lun_shape4(s[0], 1, 1, 1));
    }
}

/* The largest error of L, or of dL/dlv, at element i. */
static double element_bound(const oc_case *c, int64_t i, bool of_slope, double *value)
{
    const lun_shape s = c->op.src[1].shape;
    const int64_t area = s.c * s.h * s.w, at = i / area * 2 * area + i % area;
    const int64_t t = ref_row(c->src[3][i / area], STEPS);
    const double *row = c->src[4] + 8 * t;
    const bool first = t == 0;
    const double x0 = c->src[1][i], ax = row[0] * c->src[2][i], bm = row[1] * c->src[0][at], end = ax + bm;
    const double y = row[4] * (c->src[0][at + area] + 1) / 2, low = row[3];
    const double delta = row[2] * (x0 - end), mean = row[2] * end;
    const double moved =
        6 * OC_U * fabs(row[2]) * (fabs(ax) + fabs(bm) + fabs(x0)) + 2 * OC_U * (fabs(x0 - mean) + 1.0 / 255);
    const double wider = 4 * OC_U * (fabs(low) + 2 * fabs(y)) + 32 * OC_U;
    double slope, change = 0;
    const double loss = ref_variational_of(delta, mean, low, y, x0, first, &slope);
    *value = of_slope ? slope : loss;
    for (int k = 0; k < 4; k++) {
        const double by = k % 2 ? moved : -moved, lv = k / 2 ? wider : -wider;
        double other;
        const double there = ref_variational_of(delta - by, mean + by, low + lv, y, x0, first, &other);
        change = fmax(change, of_slope ? fabs(other - slope) : fabs(there - loss));
    }
    const double tail = delta * delta * exp(-low - y), sigma = exp((low + y) / 2);
    const double above = (x0 - mean + 1.0 / 255) / sigma, below = (x0 - mean - 1.0 / 255) / sigma;
    if (first)
        return change + 24 * OC_U * (of_slope ? 4 * fmax(1, above * above + below * below) : 1 + fabs(loss));
    const bool series = fabs(y) < 0.25;
    const double y_moved = 3 * OC_U * fabs(row[4]) * (fabs(c->src[0][at + area]) + 1) / 2;
    const double excess = 10 * OC_U * (series ? y + expm1(-y) : fabs(y) + 1 + exp(-y)) + fabs(expm1(-y)) * y_moved;
    const double excess_slope = 10 * OC_U * (series ? fabs(expm1(-y)) : 1 + exp(-y)) + exp(-y) * y_moved;
    return change + (of_slope ? excess_slope + 10 * OC_U * tail : excess + 10 * OC_U * tail) / 2;
}

static void bound_variational(oc_case *c)
{
    const lun_shape s = c->op.src[1].shape;
    const int64_t area = s.c * s.h * s.w;
    const double factor = (double)c->op.attrs.variational.scale / log(2) / (double)area;
    for (int64_t n = 0; n < s.n; n++) {
        double sum = 0, size = 0, value;
        for (int64_t i = n * area; i < (n + 1) * area; i++) {
            sum += element_bound(c, i, false, &value);
            size += fabs(value);
        }
        c->bound[0][n] = factor * (sum + (oc_sum_factor((double)area) + 6) * OC_U * size);
    }
}

static void bound_variational_backward(oc_case *c)
{
    const lun_shape s = c->op.src[1].shape;
    const int64_t area = s.c * s.h * s.w;
    const double factor = (double)c->op.attrs.variational.scale / log(2) / (double)area;
    for (int64_t i = 0; i < lun_count(s); i++) {
        const int64_t n = i / area, at = 2 * n * area + i % area;
        const double outer = fabs(factor * c->src[5][n] * c->src[4][8 * ref_row(c->src[3][n], STEPS) + 4] / 2);
        double slope;
        const double error = element_bound(c, i, true, &slope);
        c->bound[0][at] = 0;
        c->bound[0][at + area] = outer * (error + 8 * OC_U * fabs(slope));
    }
}

/* ---- guide ---- */

static void make_guide(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    int random[5];
    const int *s = shape_of(set, index, rng, random);
    const lun_desc both = lun_image(2 * s[0], s[1] + s[4], s[2], s[3]);
    c->op.attrs.guide.channels = s[1];
    c->exact = index % 3 == 0 && set != OC_PERF;
    c->layout = oc_turn(index / 3 + index % 3);
    const int src = oc_source(c, both);
    if (c->exact)
        oc_fill_ints(c, src, rng, -20, 20);
    else
        oc_fill_reals(c, src, rng, 0, 2);
    oc_set_float(c, oc_source(c, lun_image(1, 1, 1, 1)), 0, c->exact ? 3 : 2.7);
    oc_dest(c, both.shape);
}

static void bound_guide(oc_case *c)
{
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = 3 * OC_U * c->mag[0][i];
}

const oc_op oc_loss_each = {.kind = LUN_OP_LOSS_EACH, .count = count, .make = make_each, .bound = bound_each};
const oc_op oc_loss_each_backward = {
    .kind = LUN_OP_LOSS_EACH_BACKWARD, .count = count, .make = make_each, .bound = bound_each_backward};
const oc_op oc_weighted_mean = {.kind = LUN_OP_WEIGHTED_MEAN, .count = count, .make = make_mean, .bound = bound_mean};
const oc_op oc_weighted_mean_backward = {
    .kind = LUN_OP_WEIGHTED_MEAN_BACKWARD, .count = count, .make = make_mean, .bound = bound_mean_backward};
const oc_op oc_variational = {
    .kind = LUN_OP_VARIATIONAL, .count = count, .make = make_variational, .bound = bound_variational};
const oc_op oc_variational_backward = {
    .kind = LUN_OP_VARIATIONAL_BACKWARD, .count = count, .make = make_variational, .bound = bound_variational_backward};
const oc_op oc_guide = {.kind = LUN_OP_GUIDE, .count = count, .make = make_guide, .bound = bound_guide};
