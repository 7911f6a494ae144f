/* accumulate, sum_squares, clip_norm, ema, loss_seed, health, settle.
 *
 * accumulate: one rounding, u |y|; whole numbers exactly.
 *
 * sum_squares: T squares, each rounded once (not where fused), summed: (min(6 sqrt T, T) + 2) u S, all terms being of
 * one sign, and not above 1e-6 S, which a fixed tree of partial sums keeps at any T. Whole numbers with S below 2^24:
 * exactly. The other parts may not change at all.
 *
 * clip_norm: P terms of one sign: their sum errs relatively by min(6 sqrt P, P) u, its root by half of that and the 3
 * ulp (6 u) of OpenCL's sqrt; the scale by that, an addition (u, and the rounding of 1e-6), and the 2.5 ulp (5 u) of a
 * division. Where the limit is just met, both sides of the minimum agree.
 *
 * ema: p - a, the product and the sum round: u |p - a| |w| + u |w (p - a)| + u |y|, or less where fused.
 *
 * loss_seed, health, settle pass on what they are given, exactly, or say NaN; the norm of health is that of clip_norm.
 */
#include "opcheck.h"

static const int shapes[][4] = {
    {1, 1, 1, 1},   {2, 3, 5, 7},  {1, 31, 33, 1}, {3, 1, 17, 19},  {5, 65, 3, 2},    {2, 64, 8, 8},
    {16, 33, 1, 1}, {1, 1, 1, 64}, {1, 2, 65, 64}, {7, 32, 13, 11}, {1, 1, 131, 257}, {1, 16449, 1, 1},
};
/* The last have three and four averages, and health with them. */
static const int tiny[][4] = {{2, 3, 20, 17}, {3, 70, 3, 5}, {1, 5, 3, 2}, {2, 9, 8, 1}, {1, 67, 1, 1}};
static const int layers[][4] = {{1024, 1024, 3, 3}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* The suite: every shape three times. */
static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 3 * COUNT(shapes);
    case OC_TINY: return COUNT(tiny);
    case OC_LONG: return COUNT(layers) + 60;
    case OC_PERF: return COUNT(layers);
    default: return 0;
    }
}

static lun_desc pick(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const int random[4] = {1 + oc_below(rng, 16), 1 + oc_below(rng, 60), 1 + oc_below(rng, 40), 1 + oc_below(rng, 40)};
    const int *s = set == OC_SUITE         ? shapes[index / 3]
                   : set == OC_TINY        ? tiny[index]
                   : index < COUNT(layers) ? layers[index]
                                           : random;
    c->layout = oc_turn(index / 3 + index % 3);
    return index % 2 ? lun_filter(s[0], s[1], s[2], s[3]) : lun_image(s[0], s[1], s[2], s[3]);
}

static void fill(oc_case *c, int s, oc_rng *rng, int limit)
{
    if (c->exact)
        oc_fill_ints(c, s, rng, -limit, limit + 1);
    else
        oc_fill_reals(c, s, rng, 0.2, 1);
}

static void make_accumulate(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const lun_desc desc = pick(c, set, index, rng);
    c->exact = index % 3 == 0;
    for (int i = 0; i < 2; i++)
        fill(c, oc_source(c, desc), rng, 50);
    oc_fill_indices(c, oc_source(c, lun_typed(lun_image(1, 1, 1, 1), LUN_I32)), rng, index % 2, index % 2);
    oc_dest(c, desc.shape);
}

static void bound_accumulate(oc_case *c)
{
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = c->src[2][0] != 0 ? 0 : OC_U * fabs(c->want[0][i]);
}

static void make_squares(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    static const int parts[] = {1, 5, 64};
    const lun_desc desc = pick(c, set, index, rng);
    const int places = parts[index % 3], limit = oc_exact_limit(lun_count(desc.shape)) - 1;
    c->exact = index % 2 == 0 && limit > 1;
    fill(c, oc_source(c, desc), rng, limit);
    fill(c, oc_source(c, lun_image(1, places, 1, 1)), rng, 9);
    c->op.attrs.squares.slot = oc_below(rng, places);
    oc_dest(c, lun_shape4(1, places, 1, 1));
}

static void bound_squares(oc_case *c)
{
    const double terms = (double)lun_count(c->op.src[0].shape);
    const int slot = c->op.attrs.squares.slot;
    c->bound[0][slot] = fmin((oc_sum_factor(terms) + 2) * OC_U, 1e-6) * c->want[0][slot];
}

/* Under the limit and over it; the last parts are zero, as in a store of few pieces. */
static void make_clip(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    static const int parts[] = {1, 2, 7, 64};
    const int places = parts[index % 4], used = 1 + oc_below(rng, places);
    double sum = 0;
    (void)set;
    c->layout = oc_turn(index / 4);
    const int src = oc_source(c, lun_image(1, places, 1, 1));
    for (int i = 0; i < used; i++) {
        oc_set_float(c, src, i, (index % 5 == 0 ? 1e-9 : 3.0) * fabs(oc_real(rng)));
        sum += c->src[src][i];
    }
    c->op.attrs.clip.limit = (float)(sqrt(sum) * (index % 3 == 0 ? 2 : 0.3));
    for (int i = 0; i < 2; i++)
        oc_dest(c, lun_shape4(1, 1, 1, 1));
}

static void bound_clip(oc_case *c)
{
    const double root = (oc_sum_factor((double)c->op.src[0].shape.c) / 2 + 6) * OC_U;
    c->bound[1][0] = root * c->want[1][0];
    c->bound[0][0] = (root + 7 * OC_U) * c->want[0][0];
}

static void make_ema(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    static const double weights[] = {1e-4, 0.05, 1, 0.5};
    const lun_desc desc = pick(c, set, index, rng);
    const int averages = 1 + index % LUN_OP_MAX_EMA;
    oc_fill_reals(c, oc_source(c, desc), rng, 0.2, 1);
    const int w = oc_source(c, lun_image(1, LUN_OP_MAX_EMA, 1, 1));
    for (int i = 0; i < LUN_OP_MAX_EMA; i++)
        oc_set_float(c, w, i, weights[(i + index) % COUNT(weights)]);
    for (int i = 0; i < averages; i++) {
        oc_fill_reals(c, oc_source(c, desc), rng, 0.1, 1);
        oc_dest(c, desc.shape);
    }
}

static void bound_ema(oc_case *c)
{
    for (int r = 0; r < c->op.ndst; r++)
        for (int64_t i = 0; i < lun_count(c->op.dst[r].shape); i++) {
            const double step = fabs(c->src[1][r] * (c->src[0][i] - c->src[2 + r][i]));
            c->bound[r][i] = OC_U * (2.001 * step + fabs(c->want[r][i]));
        }
}

static void make_seed(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    static const double losses[] = {0, -3.5, 1e38, NAN, INFINITY, -INFINITY};
    (void)set;
    c->layout = oc_turn(index);
    oc_set_float(c, oc_source(c, lun_image(1, 1, 1, 1)), 0, index < COUNT(losses) ? losses[index] : oc_real(rng));
    c->op.attrs.seed.weight = index % 2 ? 0.125f : 1.0f;
    c->nans = index >= 3 && index < COUNT(losses);
    c->passes = true;
    c->exact = !c->nans;
    oc_dest(c, lun_shape4(1, 1, 1, 1));
}

/* The state down and up, parts with and without a NaN, averages or none. */
static void make_health(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    static const int parts[] = {1, 64, 7};
    const int places = parts[index % 3];
    (void)set;
    c->layout = oc_turn(index / 3);
    const int src = oc_source(c, lun_image(1, places, 1, 1));
    for (int i = 0; i < places; i++)
        oc_set_float(c, src, i, fabs(oc_real(rng)));
    c->passes = true;
    c->nans = index / 2 % 2 == 0;
    if (c->nans)
        oc_set_float(c, src, oc_below(rng, places), NAN);
    oc_set_float(c, oc_source(c, lun_image(1, 1, 1, 1)), 0, index % 2 ? 5 : 0);
    oc_fill_indices(c, oc_source(c, lun_typed(lun_image(1, 1, 1, 1), LUN_I32)), rng, 0, 63);
    const int hyper = oc_source(c, lun_image(1, 4, 1, 1));
    oc_fill_reals(c, hyper, rng, 0.5, 0.4);
    oc_set_float(c, hyper, 3, index % 5 == 4);
    if (index / 4 % 2)
        oc_fill_reals(c, oc_source(c, lun_image(1, LUN_OP_MAX_EMA, 1, 1)), rng, 0.5, 0.4);
    oc_dest(c, lun_shape4(1, 1, 1, 1));
    oc_dest(c, lun_shape4(1, 4, 1, 1));
    oc_dest(c, lun_shape4(1, 1, 1, 1));
    if (c->op.nsrc > 4)
        oc_dest(c, lun_shape4(1, LUN_OP_MAX_EMA, 1, 1));
}

static void bound_health(oc_case *c)
{
    if (!isnan(c->want[2][0]))
        c->bound[2][0] = (oc_sum_factor((double)c->op.src[0].shape.c) / 2 + 6) * OC_U * c->want[2][0];
}

static void make_settle(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const lun_desc desc = pick(c, set, index, rng);
    c->exact = true;
    for (int i = 0; i < 2; i++)
        fill(c, oc_source(c, desc), rng, 1 << 20);
    const int hyper = oc_source(c, lun_image(1, 4, 1, 1));
    oc_fill_reals(c, hyper, rng, 0.5, 0.4);
    oc_set_float(c, hyper, 3, index % 2);
    for (int i = 0; i < 2; i++)
        oc_dest(c, desc.shape);
}

/* Of those that are exact whatever comes. */
static void no_bound(oc_case *c)
{
    (void)c;
}

const oc_op oc_accumulate = {
    .kind = LUN_OP_ACCUMULATE, .count = count, .make = make_accumulate, .bound = bound_accumulate};
const oc_op oc_sum_squares = {.kind = LUN_OP_SUM_SQUARES, .count = count, .make = make_squares, .bound = bound_squares};
const oc_op oc_clip_norm = {.kind = LUN_OP_CLIP_NORM, .count = count, .make = make_clip, .bound = bound_clip};
const oc_op oc_ema = {.kind = LUN_OP_EMA, .count = count, .make = make_ema, .bound = bound_ema};
const oc_op oc_loss_seed = {.kind = LUN_OP_LOSS_SEED, .count = count, .make = make_seed, .bound = no_bound};
const oc_op oc_health = {.kind = LUN_OP_HEALTH, .count = count, .make = make_health, .bound = bound_health};
const oc_op oc_settle = {.kind = LUN_OP_SETTLE, .count = count, .make = make_settle, .bound = no_bound};
