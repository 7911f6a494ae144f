/* group_norm, scale_shift and their gradients.
 *
 * Bound of group_norm. M values a group, S = min(6 sqrt M, M), A = mean |x|, m the mean, k = gamma (1 + scale), u =
 * 2^-24; as for batch_norm (batch_norm.c):
 *   e_m = S u A + u |m|,   e_d = e_m + 2 u (|x| + |m|),   e_v = (S + 4) u var + e_m^2,
 *   e_r / r = e_v / (2 (var + eps)) + 12 u
 *   before silu  w = (x - m) a + b, a = r gamma (1 + scale) with three roundings, b = beta (1 + scale) + shift:
 *   e_w = |k| (r e_d + |xhat| (e_r / r + 5 u)) + 3 u (|w| + |beta (1 + scale)| + |shift|)
 *   e_y = e_w, or through silu, whose slope is at most 1.1: 1.1 e_w + 9 u |y|
 *
 * Backward, mean and rstd given, xhat = (x - m) r, e_x = 2 u (|x| + |m|) r + 2 u |xhat|:
 *   e_w = |k| (e_x + 5 u |xhat|) + 3 u (|w| + |beta (1 + scale)| + |shift|)
 *   d = dy silu'(w), |silu''| <= 1/2: e_d = |dy| (e_w / 2 + u s (14 |q| + 12 |1 + q|))   (cl/special.h), 0 without silu
 *   S = sum d, e_S = S u sum |d| + sum e_d + u |S|;   T = sum d xhat, e_T = (S + 1) u sum |d xhat| + sum (|d| e_x + e_d
 *   |xhat|) + u |T|                                       over a sample's channel
 *   demb: |gamma| e_T + |beta| e_S + 4 u (|gamma T| + |beta S|), e_S
 *   dgamma, dbeta: sum over n of |1 + scale| (e_T or e_S) + (N + 3) u sum |(1 + scale) (T or S)|
 *   A = sum k S over the group: e_A = sum |k| e_S + (C/G + 4) u sum |k S|;   B = sum k T likewise
 *   e_dx = r (|k| e_d + 6 u |k d| + (e_A + |xhat| e_B + e_x |B|) / M + 8 u (|A| + |xhat B|) / M) + u |dx|; with acc one
 *   more u |dx|
 *   dsum = r (k S - P A / M - B / M sum xhat), P pixels, X = sum |xhat|, e_X = S u X + sum e_x:
 *   e_dsum = r (|k| e_S + (P e_A + e_B X + |B| e_X) / M + 8 u Z), Z = |k S| + (P |A| + |B| X) / M
 *   e_dbias = sum over n of e_dsum + (N + 1) u r Z
 *
 * scale_shift: three roundings, 3 u (|x| (1 + |scale|) + |shift|). Its gradient: 2 u |dy| (1 + |scale|), and sums S u
 * sum |.|.
 *
 * Whole numbers: a forward on two points, mean exact and var = 1, with eps = 3 (r = 1/2): every mean exact, what hangs
 * on square root and division within their ulps. A backward with everything a small integer or a power of two:
 * tolerance 0. */
#include <stdlib.h>

#include "opcheck.h"

enum { RANDOM, TWO_POINT, OFFSET, CHANNELS }; /* CHANNELS: each has a centre of its own */

typedef struct group_shape {
    int n, c, h, w, groups;
    int data;
    double eps;
} group_shape;

static const group_shape shapes[] = {
    {2, 6, 5, 7, 3, RANDOM, 1e-5},    {1, 4, 1, 1, 1, RANDOM, 1e-2},      {2, 4, 4, 8, 2, TWO_POINT, 3},
    {3, 32, 4, 4, 32, RANDOM, 1e-6},  {2, 64, 8, 8, 32, OFFSET, 1e-5},    {1, 96, 16, 16, 32, CHANNELS, 1e-5},
    {5, 65, 3, 2, 5, RANDOM, 1e-3},   {16, 33, 1, 1, 3, RANDOM, 1e-5},    {1, 32, 33, 32, 8, CHANNELS, 1e-5},
    {2, 3, 65, 64, 1, OFFSET, 1e-5},  {1, 32, 4, 4, 4, TWO_POINT, 3},     {2, 129, 7, 3, 43, RANDOM, 1e-5},
    {1, 1032, 3, 1, 8, RANDOM, 1e-5}, {4, 320, 5, 5, 32, CHANNELS, 1e-5}, {2, 16, 19, 17, 16, OFFSET, 1e-5},
    {1, 2, 1, 140, 2, RANDOM, 1e-5},  {3, 256, 2, 2, 1, RANDOM, 1e-5},    {1, 1, 259, 257, 1, RANDOM, 1e-5},
};
static const group_shape tiny[] = {
    {2, 70, 5, 3, 7, RANDOM, 1e-5}, {3, 6, 12, 11, 2, OFFSET, 1e-3}, {2, 66, 9, 9, 33, CHANNELS, 1e-5}};
static const group_shape layers[] = {
    {16, 128, 64, 64, 32, RANDOM, 1e-5}, {16, 256, 32, 32, 32, RANDOM, 1e-5}, {16, 512, 8, 8, 32, RANDOM, 1e-5}};
static const group_shape grad[] = {{2, 6, 2, 3, 3, RANDOM, 1e-2}, {1, 4, 3, 1, 1, RANDOM, 1e-1}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
enum { MERGED = 6 }; /* ways of merging with the ops around, below */

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 3 * COUNT(shapes);
    case OC_TINY: return COUNT(tiny) + MERGED;
    case OC_LONG: return COUNT(layers) + 100;
    case OC_PERF: return 2 * COUNT(layers);
    default: return 4 * COUNT(grad);
    }
}

static group_shape choose(oc_set set, int index, oc_rng *rng)
{
    if (set == OC_SUITE)
        return shapes[index % COUNT(shapes)];
    if (set == OC_TINY)
        return tiny[index % COUNT(tiny)];
    if (set == OC_GRAD)
        return grad[index % COUNT(grad)];
    if (set == OC_PERF)
        return layers[index % COUNT(layers)];
    if (index < COUNT(layers))
        return layers[index];
    const int groups = 1 + oc_below(rng, 32), data = oc_below(rng, 3);
    group_shape s = {1 + oc_below(rng, 8),
                     groups * (1 + oc_below(rng, 12)),
                     1 + oc_below(rng, 40),
                     2 + oc_below(rng, 40),
                     groups,
                     data == 0   ? RANDOM
                     : data == 1 ? OFFSET
                                 : CHANNELS,
                     1e-5};
    return s;
}

/* Which way of merging with the ops around (src/graph/fuse.c) the case tries; 0: none. Three of them with each shape.
 */
static int merging(oc_set set, int index)
{
    switch (set) {
    case OC_SUITE:
        return (index % COUNT(shapes) + index % COUNT(shapes) / MERGED + 2 * (index / COUNT(shapes))) % MERGED;
    case OC_TINY: return index < COUNT(tiny) ? 0 : index - COUNT(tiny);
    case OC_LONG: return index % MERGED;
    case OC_PERF: return index < COUNT(layers) ? 0 : 1;
    default: return index / COUNT(grad);
    }
}

/* 1: silu; 2: emb; 3: both; 4, 5: for the gradient, what its result goes into too. */
static bool has_silu(int merge)
{
    return merge == 1 || merge == 3 || merge == 4;
}
static bool has_emb(int merge)
{
    return merge == 2 || merge == 3 || merge == 5;
}

/* Equal numbers of a - 1 and a + 1 in every group, a a small integer. */
static void fill_two_point(oc_case *c, int s)
{
    const lun_shape shape = c->op.src[s].shape;
    const int64_t per_group = shape.c / c->op.attrs.group.groups * shape.h * shape.w;
    for (int64_t i = 0; i < lun_count(shape); i++)
        oc_set_float(c, s, i, (double)(i / per_group % 5) - 2 + ((i + i / 8) % 2 ? 1 : -1));
}

static void fill_images(oc_case *c, int s, int data, oc_rng *rng)
{
    const lun_shape shape = c->op.src[s].shape;
    if (data == TWO_POINT) {
        fill_two_point(c, s);
        return;
    }
    oc_fill_reals(c, s, rng, data == OFFSET ? 100 : 0.3, 1.7);
    for (int64_t i = 0; data == CHANNELS && i < lun_count(shape); i++)
        oc_set_float(c, s, i, c->src[s][i] + 3 * (double)(i / (shape.h * shape.w) % shape.c % 7) - 8);
}

static void make_forward(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const group_shape s = choose(set, index, rng);
    const int merge = merging(set, index);
    lun_group_attrs *a = &c->op.attrs.group;
    a->eps = (float)s.eps;
    a->groups = s.groups;
    a->silu = has_silu(merge);
    c->layout = oc_turn(index);
    fill_images(c, oc_source(c, lun_image(s.n, s.c, s.h, s.w)), s.data, rng);
    oc_fill_reals(c, oc_source(c, lun_image(1, s.c, 1, 1)), rng, 1, 0.5);
    oc_fill_reals(c, oc_source(c, lun_image(1, s.c, 1, 1)), rng, 0.2, 0.5);
    if (has_emb(merge))
        oc_fill_reals(c, oc_source(c, lun_image(s.n, 2 * s.c, 1, 1)), rng, 0.1, 1);
    oc_dest(c, lun_shape4(s.n, s.c, s.h, s.w));
    oc_dest(c, lun_shape4(s.n, s.groups, 1, 1));
    oc_dest(c, lun_shape4(s.n, s.groups, 1, 1));
}

/* What a channel of a sample is multiplied with after the norm, and what is added then. */
typedef struct affine {
    double gamma, beta, scale, shift;
} affine;

static affine affine_of(const oc_case *c, int gamma, int emb, bool scaled, int64_t n, int64_t ch)
{
    const int64_t channels = c->op.src[0].shape.c;
    const double *e = scaled ? c->src[emb] + n * 2 * channels : NULL;
    const affine f = {c->src[gamma][ch], c->src[gamma + 1][ch], scaled ? 1 + e[ch] : 1, scaled ? e[channels + ch] : 0};
    return f;
}

/* The roundings of what is added: beta (1 + scale) + shift, and the sum w. */
static double rounded(affine f, double w)
{
    return 3 * OC_U * (fabs(w) + fabs(f.beta * f.scale) + fabs(f.shift));
}

static void bound_forward(oc_case *c)
{
    const lun_group_attrs a = c->op.attrs.group;
    const lun_shape s = c->op.src[0].shape;
    const int64_t area = s.h * s.w, size = s.c / a.groups;
    const double S = oc_sum_factor((double)(area * size));
    const bool exact = a.eps == 3;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t ch = 0; ch < s.c; ch++) {
            const int64_t g = n * a.groups + ch / size;
            const double m = c->want[1][g], r = c->want[2][g], floor = 1 / (r * r),
                         var = fmax(floor - (double)a.eps, 0);
            const double e_m = exact ? 0 : S * OC_U * c->mag[1][g] + OC_U * fabs(m);
            const double e_v = exact ? 0 : (S + 4) * OC_U * var + e_m * e_m;
            const double e_r = e_v / (2 * floor) + 12 * OC_U;
            const affine f = affine_of(c, 1, 3, c->op.nsrc > 3, n, ch);
            c->bound[1][g] = e_m;
            c->bound[2][g] = r * e_r;
            for (int64_t i = (n * s.c + ch) * area; i < (n * s.c + ch + 1) * area; i++) {
                const double x = c->src[0][i], xhat = (x - m) * r, w = (xhat * f.gamma + f.beta) * f.scale + f.shift;
                const double e_d = e_m + 2 * OC_U * (fabs(x) + fabs(m));
                const double e_w = fabs(f.gamma * f.scale) * (r * e_d + fabs(xhat) * (e_r + 5 * OC_U)) + rounded(f, w);
                c->bound[0][i] = a.silu ? 1.1 * e_w + 9 * OC_U * fabs(c->want[0][i]) : e_w;
            }
        }
}

/* --- backward --- */
static bool power_of_two(int64_t value)
{
    return (value & (value - 1)) == 0;
}

/* The mean and rstd of the data, rounded, as the forward would have left them. */
static void fill_statistics(oc_case *c, double eps)
{
    const lun_shape s = c->op.src[0].shape;
    const int64_t groups = c->op.attrs.group.groups, values = s.c / groups * s.h * s.w;
    for (int64_t g = 0; g < s.n * groups; g++) {
        const double *x = c->src[0] + g * values;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < values; i++)
            mean += x[i] / (double)values;
        for (int64_t i = 0; i < values; i++)
            var += pow(x[i] - mean, 2) / (double)values;
        oc_set_float(c, 4, g, mean);
        oc_set_float(c, 5, g, 1 / sqrt(var + eps));
    }
}

static void make_backward(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const group_shape s = choose(set, index, rng);
    const lun_desc image = lun_image(s.n, s.c, s.h, s.w), vector = lun_image(1, s.c, 1, 1);
    const int64_t values = (int64_t)s.c / s.groups * s.h * s.w;
    const int merge = merging(set, index);
    lun_group_attrs *a = &c->op.attrs.group;
    a->eps = (float)s.eps;
    a->groups = s.groups;
    a->silu = has_silu(merge);
    a->add = merge >= 4;
    a->dbias = merge == 4 || merge == 2;
    a->dsum = merge == 5 || merge == 2;
    c->layout = oc_turn(index);
    c->exact = !a->silu && power_of_two(values) && values > 2 && values * s.n <= 4096 && set == OC_SUITE;
    for (int i = 0; i < 2; i++)
        oc_source(c, image);
    for (int i = 0; i < 2; i++)
        oc_source(c, vector);
    for (int i = 0; i < 2; i++)
        oc_source(c, lun_image(s.n, s.groups, 1, 1));
    if (has_emb(merge))
        oc_source(c, lun_image(s.n, 2 * s.c, 1, 1));
    if (a->add)
        oc_source(c, image);
    if (c->exact) {
        oc_fill_ints(c, 0, rng, -2, 2);
        oc_fill_ints(c, 1, rng, -2, 2);
        for (int i = 2; i < 5; i++)
            oc_fill_ints(c, i, rng, -1, 2);
        for (int64_t g = 0; g < oc_src_count(c, 5); g++)
            oc_set_float(c, 5, g, oc_below(rng, 2) ? 0.5 : 1);
        for (int i = 6; i < c->op.nsrc; i++)
            oc_fill_ints(c, i, rng, -2, 2);
    } else {
        fill_images(c, 0, s.data == TWO_POINT ? RANDOM : s.data, rng);
        oc_fill_reals(c, 1, rng, 0.05, 1);
        oc_fill_reals(c, 2, rng, 1, 0.5);
        oc_fill_reals(c, 3, rng, 0.2, 0.5);
        fill_statistics(c, s.eps);
        for (int i = 6; i < c->op.nsrc; i++)
            oc_fill_reals(c, i, rng, 0.1, 1);
    }
    c->max_zero = c->exact ? 0.6f : 0.3f;
    oc_dest(c, image.shape);
    oc_dest(c, vector.shape);
    oc_dest(c, vector.shape);
    if (has_emb(merge))
        oc_dest(c, lun_shape4(s.n, 2 * s.c, 1, 1));
    if (a->dbias)
        oc_dest(c, vector.shape);
    if (a->dsum)
        oc_dest(c, lun_shape4(s.n, s.c, 1, 1));
}

/* One element's way to before silu. */
typedef struct inner {
    double xhat, e_x, d, e_d;
} inner;

static inner inner_of(const oc_case *c, affine f, double x, double dy, double m, double r)
{
    inner v = {.xhat = (x - m) * r, .d = dy};
    v.e_x = 2 * OC_U * (fabs(x) + fabs(m)) * r + 2 * OC_U * fabs(v.xhat);
    if (c->op.attrs.group.silu) {
        const double w = (v.xhat * f.gamma + f.beta) * f.scale + f.shift, s = 1 / (1 + exp(-w)), q = w / (1 + exp(w));
        const double e_w = fabs(f.gamma * f.scale) * (v.e_x + 5 * OC_U * fabs(v.xhat)) + rounded(f, w);
        v.d = dy * s * (1 + q);
        v.e_d = fabs(dy) * (e_w / 2 + OC_U * s * (14 * fabs(q) + 12 * fabs(1 + q)));
    }
    return v;
}

/* A channel's sums over a sample, and their errors. */
typedef struct sums {
    double S, T, X, e_S, e_T, e_X;
} sums;

static sums sums_of(const oc_case *c, affine f, int64_t n, int64_t ch, double m, double r)
{
    const lun_shape s = c->op.src[0].shape;
    const int64_t area = s.h * s.w;
    const double factor = oc_sum_factor((double)area) * OC_U;
    sums v = {0};
    double size_S = 0, size_T = 0;
    for (int64_t i = (n * s.c + ch) * area; i < (n * s.c + ch + 1) * area; i++) {
        const inner e = inner_of(c, f, c->src[0][i], c->src[1][i], m, r);
        v.S += e.d;
        v.T += e.d * e.xhat;
        v.X += fabs(e.xhat);
        size_S += fabs(e.d);
        size_T += fabs(e.d * e.xhat);
        v.e_S += e.e_d;
        v.e_T += fabs(e.d) * e.e_x + e.e_d * fabs(e.xhat);
        v.e_X += e.e_x;
    }
    v.e_S += factor * size_S + OC_U * fabs(v.S);
    v.e_T += (factor + OC_U) * size_T + OC_U * fabs(v.T);
    v.e_X += factor * v.X;
    return v;
}

static void bound_backward(oc_case *c)
{
    const lun_group_attrs a = c->op.attrs.group;
    const lun_shape s = c->op.src[0].shape;
    const int64_t area = s.h * s.w, size = s.c / a.groups;
    const double M = (double)(area * size), P = (double)area, N = (double)s.n;
    const bool scaled = c->op.nsrc - a.add > 6;
    const int d_bias = 3 + scaled, d_sum = d_bias + a.dbias;
    sums *all = oc_alloc((size_t)size, sizeof *all);
    for (int64_t g = 0; g < s.n * a.groups; g++) {
        const int64_t n = g / a.groups, first = g % a.groups * size;
        const double m = c->src[4][g], r = c->src[5][g];
        double A = 0, B = 0, e_A = 0, e_B = 0, size_A = 0, size_B = 0;
        for (int64_t j = 0; j < size; j++) {
            const int64_t ch = first + j;
            const affine f = affine_of(c, 2, 6, scaled, n, ch);
            const double k = f.gamma * f.scale;
            const sums v = all[j] = sums_of(c, f, n, ch, m, r);
            A += k * v.S;
            B += k * v.T;
            e_A += fabs(k) * v.e_S;
            e_B += fabs(k) * v.e_T;
            size_A += fabs(k * v.S);
            size_B += fabs(k * v.T);
            c->bound[1][ch] += fabs(f.scale) * (v.e_T + (N + 3) * OC_U * fabs(v.T));
            c->bound[2][ch] += fabs(f.scale) * (v.e_S + (N + 3) * OC_U * fabs(v.S));
            if (scaled) {
                c->bound[3][n * 2 * s.c + ch] = fabs(f.gamma) * v.e_T + fabs(f.beta) * v.e_S +
                                                4 * OC_U * (fabs(f.gamma * v.T) + fabs(f.beta * v.S));
                c->bound[3][n * 2 * s.c + s.c + ch] = v.e_S;
            }
        }
        e_A += ((double)size + 4) * OC_U * size_A;
        e_B += ((double)size + 4) * OC_U * size_B;
        for (int64_t j = 0; j < size; j++) {
            const int64_t ch = first + j;
            const affine f = affine_of(c, 2, 6, scaled, n, ch);
            const double k = f.gamma * f.scale;
            const sums v = all[j];
            const double terms = fabs(k * v.S) + (P * fabs(A) + fabs(B) * v.X) / M;
            const double e_sum = r * (fabs(k) * v.e_S + (P * e_A + e_B * v.X + fabs(B) * v.e_X) / M + 8 * OC_U * terms);
            if (a.dbias)
                c->bound[d_bias][ch] += e_sum + (N + 1) * OC_U * r * terms;
            if (a.dsum)
                c->bound[d_sum][n * s.c + ch] = e_sum;
            for (int64_t i = (n * s.c + ch) * area; i < (n * s.c + ch + 1) * area; i++) {
                const inner e = inner_of(c, f, c->src[0][i], c->src[1][i], m, r);
                const double through =
                    e_A + fabs(e.xhat) * e_B + e.e_x * fabs(B) + 8 * OC_U * (fabs(A) + fabs(e.xhat * B));
                c->bound[0][i] = r * (fabs(k) * (e.e_d + 6 * OC_U * fabs(e.d)) + through / M) +
                                 (a.add ? 2 : 1) * OC_U * fabs(c->want[0][i]);
                if (a.add) /* the norm's own part is rounded before it is added */
                    c->bound[0][i] += OC_U * fabs(c->want[0][i] - c->src[c->op.nsrc - 1][i]);
            }
        }
    }
    free(all);
}

/* --- scale_shift --- */
static void make_scale_shift(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const group_shape s = choose(set, index, rng);
    const lun_desc image = lun_image(s.n, s.c, s.h, s.w), emb = lun_image(s.n, 2 * s.c, 1, 1);
    const bool backward = c->op.kind == LUN_OP_SCALE_SHIFT_BACKWARD;
    c->layout = oc_turn(index);
    c->exact = index % 2 == 0 && set != OC_GRAD;
    for (int i = 0; i < (backward ? 2 : 1); i++)
        oc_source(c, image);
    oc_source(c, emb);
    for (int i = 0; i < c->op.nsrc; i++) {
        if (c->exact)
            oc_fill_ints(c, i, rng, -4, 5);
        else
            oc_fill_reals(c, i, rng, 0.2, 1.5);
    }
    c->max_zero = 0.5f;
    oc_dest(c, image.shape);
    if (backward)
        oc_dest(c, emb.shape);
}

static void bound_scale_shift(oc_case *c)
{
    const lun_shape s = c->op.src[0].shape;
    const bool backward = c->op.kind == LUN_OP_SCALE_SHIFT_BACKWARD;
    for (int64_t i = 0; i < lun_count(s); i++)
        c->bound[0][i] = (backward ? 2 : 3) * OC_U * c->mag[0][i];
    for (int64_t i = 0; backward && i < 2 * s.n * s.c; i++)
        c->bound[1][i] = (oc_sum_factor((double)(s.h * s.w)) + 1) * OC_U * c->mag[1][i];
}

const oc_op oc_group_norm = {.kind = LUN_OP_GROUP_NORM, .count = count, .make = make_forward, .bound = bound_forward};
const oc_op oc_group_norm_backward = {
    .kind = LUN_OP_GROUP_NORM_BACKWARD, .count = count, .make = make_backward, .bound = bound_backward};
const oc_op oc_scale_shift = {
    .kind = LUN_OP_SCALE_SHIFT, .count = count, .make = make_scale_shift, .bound = bound_scale_shift};
const oc_op oc_scale_shift_backward = {
    .kind = LUN_OP_SCALE_SHIFT_BACKWARD, .count = count, .make = make_scale_shift, .bound = bound_scale_shift};
