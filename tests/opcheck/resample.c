/* upsample2, pool2, and those of filters: sums of at most four numbers. Repeating is exact, and so is a quarter of it.
 * Four numbers added: three roundings of sums of at most all four, 3 u |X|; a quarter of that is exact. */
#include "opcheck.h"

/* N, C, H, W of the smaller picture */
static const int shapes[][4] = {
    {1, 1, 1, 1},  {2, 3, 5, 7},   {1, 31, 9, 1}, {3, 2, 17, 19}, {5, 65, 3, 2},
    {2, 64, 8, 8}, {8, 128, 4, 4}, {2, 67, 7, 3}, {1, 8, 65, 66}, {1, 20000, 1, 2},
};
static const int tiny[][4] = {{2, 5, 7, 6}, {3, 66, 2, 3}};
static const int layers[][4] = {{16, 128, 32, 32}, {16, 512, 8, 8}};
static const int grad[][4] = {{2, 3, 2, 3}, {1, 5, 1, 2}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 4 * COUNT(shapes);
    case OC_TINY: return COUNT(tiny);
    case OC_LONG: return COUNT(layers) + 100;
    case OC_PERF: return COUNT(layers);
    default: return 2 * COUNT(grad);
    }
}

static void make(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const int random[4] = {1 + oc_below(rng, 8), 1 + oc_below(rng, 150), 1 + oc_below(rng, 30), 1 + oc_below(rng, 30)};
    const int *s = set == OC_SUITE         ? shapes[index / 4]
                   : set == OC_TINY        ? tiny[index]
                   : set == OC_GRAD        ? grad[index / 2]
                   : index < COUNT(layers) ? layers[index]
                                           : random;
    const bool real = set == OC_GRAD || index / 2 % 2 == 1, up = c->op.kind == LUN_OP_UPSAMPLE2;
    const lun_desc small = lun_image(s[0], s[1], s[2], s[3]), big = lun_image(s[0], s[1], 2 * s[2], 2 * s[3]);
    c->op.attrs.resample.mean = index % 2 == 1;
    c->layout = oc_turn(index / 2 + index % 2);
    c->exact = up || !real;
    c->constant = up && lun_count(small.shape) == 1;
    const int src = oc_source(c, up ? small : big);
    if (real)
        oc_fill_reals(c, src, rng, 0.2, 3);
    else
        oc_fill_ints(c, src, rng, -100, 100);
    oc_dest(c, (up ? big : small).shape);
}

static void bound(oc_case *c)
{
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = 3 * OC_U * c->mag[0][i];
}

const oc_op oc_upsample2 = {.kind = LUN_OP_UPSAMPLE2, .count = count, .make = make, .bound = bound};
const oc_op oc_pool2 = {.kind = LUN_OP_POOL2, .count = count, .make = make, .bound = bound};

/* K, C, R, S of the filter that upsample2_filter takes and pool2_filter gives. */
static const int filters[][4] = {{1, 1, 1, 1},   {2, 3, 3, 3},   {17, 33, 3, 3},
                                 {5, 130, 1, 4}, {40, 16, 2, 5}, {31, 48, 4, 1}};
static const int tiny_filters[][4] = {{3, 18, 3, 2}};
static const int layer_filters[][4] = {{256, 256, 3, 3}, {512, 128, 3, 3}};
static const int grad_filters[][4] = {{2, 3, 3, 2}, {1, 2, 1, 1}};

static int count_filters(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 2 * COUNT(filters);
    case OC_TINY: return COUNT(tiny_filters);
    case OC_LONG: return COUNT(layer_filters) + 100;
    case OC_PERF: return COUNT(layer_filters);
    default: return COUNT(grad_filters);
    }
}

static void make_filter(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const int random[4] = {1 + oc_below(rng, 80), 1 + oc_below(rng, 80), 1 + oc_below(rng, 5), 1 + oc_below(rng, 5)};
    const int *s = set == OC_SUITE                ? filters[index / 2]
                   : set == OC_TINY               ? tiny_filters[index]
                   : set == OC_GRAD               ? grad_filters[index]
                   : index < COUNT(layer_filters) ? layer_filters[index]
                                                  : random;
    const lun_desc small = lun_filter(s[0], s[1], s[2], s[3]), big = lun_filter(s[1], s[0], s[2] + 1, s[3] + 1);
    const bool up = c->op.kind == LUN_OP_UPSAMPLE2_FILTER;
    c->exact = set != OC_GRAD && index % 2 == 0;
    c->constant = up && lun_count(small.shape) == 1;
    const int src = oc_source(c, up ? small : big);
    if (c->exact)
        oc_fill_ints(c, src, rng, -100, 100);
    else
        oc_fill_reals(c, src, rng, 0.2, 3);
    oc_dest(c, (up ? big : small).shape);
}

const oc_op oc_upsample2_filter = {
    .kind = LUN_OP_UPSAMPLE2_FILTER, .count = count_filters, .make = make_filter, .bound = bound};
const oc_op oc_pool2_filter = {
    .kind = LUN_OP_POOL2_FILTER, .count = count_filters, .make = make_filter, .bound = bound};
