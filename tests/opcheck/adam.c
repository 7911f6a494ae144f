/* adam.
 *
 * Bound, with g' = g + wd p (not decoupled), e_g = 2 u (|g| + |wd p|) there and 0 otherwise; with a scale s, s g for g
 * and u |s g| more in e_g:
 *   e_m = 3 u (b1 |m| + (1 - b1) |g'|) + (1 - b1) e_g
 *   e_v = 4 u v' + 2 (1 - b2) |g'| e_g
 *   den = sqrt(v') / hyper2 + eps; den errs relatively by e_v / (2 v') and sqrt 3 ulp, division 2.5 ulp, addition
 *   e_p = 8 ulp (16 u) |update| + lr / hyper1 (e_m / den + |m'| e_v / (2 v' den)) + u |p'|,
 *         and u |p| + 4 u |lr wd p| more where decoupled: p is rounded twice
 *   e_a = |w| (e_p + 2 u |p' - a|) + u |a'|, the average's (w small: as ema's, in update.c) */
#include "opcheck.h"

typedef struct adam_case {
    int n, c, h, w;
    bool filter, decoupled;
    double b1, b2, eps, wd, lr;
    int step;
    double scale;  /* 0: none */
    double weight; /* of the average; 0: none */
    bool skip;     /* nothing may change */
} adam_case;

static const adam_case cases[] = {
    {1, 1, 1, 3, false, false, 0.9, 0.999, 1e-8, 0, 1e-3, 1, 0, 0, false},
    {64, 3, 3, 3, true, false, 0.9, 0.999, 1e-8, 0, 1e-3, 1000, 0, 0, false},
    {33, 31, 3, 2, true, true, 0.9, 0.999, 1e-8, 0.01, 1e-3, 7, 0, 0, false},
    {1, 65, 1, 1, false, false, 0.5, 0.9, 1e-3, 0.1, 1e-1, 2, 0, 0, false},
    {7, 5, 4, 4, true, true, 0.8, 0.99, 1e-6, 0.2, 3e-2, 3, 0, 0, false},
    {128, 64, 3, 3, true, false, 0.9, 0.999, 1e-8, 0, 1e-3, 100, 0, 0, false},
    {1, 1, 131, 257, false, true, 0.95, 0.98, 1e-8, 0.05, 1e-2, 50, 0, 0, false},
    {2, 3, 5, 7, false, false, 0, 0, 1e-8, 0, 1e-3, 1, 0, 0, false},
    {1, 1031, 1, 1, false, false, 0.9, 0.999, 1e-8, 0.5, 1e-3, 10, 0, 0, false},
    {64, 3, 3, 3, true, false, 0.9, 0.999, 1e-8, 0, 1e-3, 1000, 0.37, 0, false},
    {33, 31, 3, 2, true, true, 0.9, 0.999, 1e-8, 0.01, 1e-3, 7, 1, 0, false},
    {1, 1, 131, 257, false, true, 0.95, 0.98, 1e-8, 0.05, 1e-2, 50, 0.1, 0, false},
    {1, 65, 1, 1, false, false, 0.5, 0.9, 1e-3, 0.1, 1e-1, 2, 0.8, 0, false},
    {64, 3, 3, 3, true, false, 0.9, 0.999, 1e-8, 0, 1e-3, 1000, 0, 1e-4, false},
    {1, 1, 131, 257, false, true, 0.95, 0.98, 1e-8, 0.05, 1e-2, 50, 0, 0.3, false},
    {33, 31, 3, 2, true, true, 0.9, 0.999, 1e-8, 0.01, 1e-3, 7, 0.6, 0.01, false},
    {7, 5, 4, 4, true, false, 0.8, 0.99, 1e-6, 0.2, 3e-2, 3, 1, 1, false},
    {33, 31, 3, 2, true, true, 0.9, 0.999, 1e-8, 0.01, 1e-3, 7, 0, 0, true},
    {1, 1, 131, 257, false, false, 0.95, 0.98, 1e-8, 0.05, 1e-2, 50, 0.1, 0, true},
    {33, 31, 3, 2, true, true, 0.9, 0.999, 1e-8, 0.01, 1e-3, 7, 0, 0.3, true},
    {1, 1, 131, 257, false, false, 0.95, 0.98, 1e-8, 0.05, 1e-2, 50, 0.1, 0.2, true},
};
static const adam_case tiny[] = {{33, 9, 3, 2, true, true, 0.9, 0.999, 1e-8, 0.01, 1e-3, 7, 0, 0, false},
                                 {33, 9, 3, 2, true, true, 0.9, 0.999, 1e-8, 0.01, 1e-3, 7, 0.3, 0, false},
                                 {33, 9, 3, 2, true, true, 0.9, 0.999, 1e-8, 0.01, 1e-3, 7, 0, 0.1, false},
                                 {33, 9, 3, 2, true, false, 0.9, 0.999, 1e-8, 0.01, 1e-3, 7, 0.3, 0.1, false}};
static const adam_case layers[] = {{1024, 1024, 3, 3, true, false, 0.9, 0.999, 1e-8, 0, 1e-3, 100, 0, 0, false},
                                   {1024, 1024, 3, 3, true, true, 0.9, 0.999, 1e-8, 0.01, 1e-3, 100, 0.5, 0, false},
                                   {1024, 1024, 3, 3, true, false, 0.9, 0.999, 1e-8, 0, 1e-3, 100, 0, 1e-3, false}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return COUNT(cases);
    case OC_TINY: return COUNT(tiny);
    case OC_LONG: return COUNT(layers) + COUNT(cases) * 8;
    case OC_PERF: return COUNT(layers);
    default: return 0;
    }
}

static void make(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const adam_case *s = set == OC_SUITE         ? &cases[index]
                         : set == OC_TINY        ? &tiny[index]
                         : index < COUNT(layers) ? &layers[index]
                                                 : &cases[index % COUNT(cases)];
    lun_adam_attrs *a = &c->op.attrs.adam;
    a->beta1 = (float)s->b1;
    a->beta2 = (float)s->b2;
    a->eps = (float)s->eps;
    a->weight_decay = (float)s->wd;
    a->decoupled = s->decoupled;
    c->layout = oc_turn(index);
    const lun_desc desc = s->filter ? lun_filter(s->n, s->c, s->h, s->w) : lun_image(s->n, s->c, s->h, s->w);
    for (int i = 0; i < 4; i++)
        oc_source(c, desc);
    oc_fill_reals(c, 0, rng, 0, 0.5);
    oc_fill_reals(c, 1, rng, 0, 0.1);
    oc_fill_reals(c, 2, rng, 0, 0.05);
    oc_fill_reals(c, 3, rng, 0.02, 0.0199);
    const int hyper = oc_source(c, lun_image(1, 4, 1, 1));
    oc_set_float(c, hyper, 0, s->lr);
    oc_set_float(c, hyper, 1, 1 - pow(s->b1, s->step));
    oc_set_float(c, hyper, 2, sqrt(1 - pow(s->b2, s->step)));
    oc_set_float(c, hyper, 3, s->skip);
    if (s->skip) /* whatever the gradient is */
        oc_set_float(c, 1, 0, NAN);
    if (s->weight > 0) {
        const int weights = oc_source(c, lun_image(1, LUN_OP_MAX_EMA, 1, 1));
        for (int r = 0; r < LUN_OP_MAX_EMA; r++) /* the first counts */
            oc_set_float(c, weights, r, r == 0 ? s->weight : 0.7);
        oc_fill_reals(c, oc_source(c, desc), rng, 0, 0.5);
    }
    if (s->scale > 0)
        oc_set_float(c, oc_source(c, lun_image(1, 1, 1, 1)), 0, s->scale);
    for (int i = 0; i < (s->weight > 0 ? 4 : 3); i++)
        oc_dest(c, desc.shape);
}

static void bound(oc_case *c)
{
    const lun_adam_attrs a = c->op.attrs.adam;
    const double b1 = (double)a.beta1, b2 = (double)a.beta2, wd = (double)a.weight_decay;
    const double lr = c->src[4][0], correct1 = c->src[4][1], correct2 = c->src[4][2];
    const int place = lun_adam_scale(&c->op);
    const double scale = place >= 0 ? c->src[place][0] : 1;
    if (c->src[4][3] == 1) /* as it was, to the bit */
        return;
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++) {
        const double p = c->src[0][i], given = scale * c->src[1][i], g = fabs(given + (a.decoupled ? 0 : wd * p));
        const double e_g = (a.decoupled || wd == 0 ? 0 : 2 * OC_U * (fabs(given) + fabs(wd * p))) +
                           (place >= 0 ? OC_U * fabs(given) : 0);
        const double m = c->want[1][i], v = c->want[2][i], den = sqrt(v) / correct2 + (double)a.eps;
        const double e_m = 3 * OC_U * (b1 * fabs(c->src[2][i]) + (1 - b1) * g) + (1 - b1) * e_g;
        const double e_v = 4 * OC_U * v + 2 * (1 - b2) * g * e_g;
        c->bound[1][i] = e_m;
        c->bound[2][i] = e_v;
        c->bound[0][i] = 16 * OC_U * c->mag[0][i] + lr / correct1 * (e_m / den + fabs(m) * e_v / (2 * v * den)) +
                         OC_U * fabs(c->want[0][i]) + (a.decoupled ? OC_U * fabs(p) + 4 * OC_U * fabs(lr * wd * p) : 0);
        if (c->op.ndst > 3) {
            const double weight = fabs(c->src[5][0]), away = fabs(c->want[0][i] - c->src[6][i]);
            c->bound[3][i] = weight * (c->bound[0][i] + 2.001 * OC_U * away) + OC_U * fabs(c->want[3][i]);
        }
    }
}

const oc_op oc_adam = {.kind = LUN_OP_ADAM, .count = count, .make = make, .bound = bound};
