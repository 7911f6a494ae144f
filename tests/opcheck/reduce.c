/* channel_sum, spatial_sum. Bound: a sum of T terms, as in conv2d.c; the terms themselves are exact. */
#include "opcheck.h"

static const int shapes[][4] = {
    {1, 1, 1, 2},   {2, 3, 5, 7},   {1, 31, 33, 1}, {3, 1, 17, 19},  {5, 65, 3, 2},   {2, 64, 8, 8},   {16, 33, 1, 1},
    {1, 2, 65, 64}, {8, 128, 4, 4}, {2, 257, 7, 3}, {1, 3, 31, 127}, {7, 32, 13, 11}, {3, 1, 100, 99}, {2, 1031, 2, 1},
};
static const int tiny[][4] = {{2, 3, 20, 17}, {3, 70, 3, 5}};
static const int layers[][4] = {{16, 64, 64, 64}, {16, 256, 32, 32}, {16, 1024, 4, 4}};
static const int grad[][4] = {{2, 3, 3, 4}, {3, 2, 1, 5}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 2 * COUNT(shapes);
    case OC_TINY: return COUNT(tiny);
    case OC_LONG: return COUNT(layers) + 200;
    case OC_PERF: return COUNT(layers);
    default: return COUNT(grad);
    }
}

static void make(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const int random[4] = {1 + oc_below(rng, 8), 1 + oc_below(rng, 200), 1 + oc_below(rng, 40), 1 + oc_below(rng, 40)};
    const int *s = set == OC_SUITE         ? shapes[index / 2]
                   : set == OC_TINY        ? tiny[index]
                   : set == OC_GRAD        ? grad[index]
                   : index < COUNT(layers) ? layers[index]
                                           : random;
    c->exact = set != OC_GRAD && index % 2 == 0;
    c->layout = oc_turn(index / 2);
    const int src = oc_source(c, lun_image(s[0], s[1], s[2], s[3]));
    if (c->exact)
        oc_fill_ints(c, src, rng, -7, 8);
    else
        oc_fill_reals(c, src, rng, 0.2, 1);
    if (c->op.kind == LUN_OP_CHANNEL_SUM)
        oc_dest(c, lun_shape4(1, s[1], 1, 1));
    else
        oc_dest(c, lun_shape4(s[0], s[1], 1, 1));
}

static void bound(oc_case *c)
{
    const lun_shape s = c->op.src[0].shape;
    const double terms = (double)(s.h * s.w * (c->op.kind == LUN_OP_CHANNEL_SUM ? s.n : 1));
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = oc_sum_factor(terms) * OC_U * c->mag[0][i] + OC_U * fabs(c->want[0][i]);
}

const oc_op oc_channel_sum = {.kind = LUN_OP_CHANNEL_SUM, .count = count, .make = make, .bound = bound};
const oc_op oc_spatial_sum = {.kind = LUN_OP_SPATIAL_SUM, .count = count, .make = make, .bound = bound};
