/* sample_step. Bound: x0 = A x + B eps has three roundings, the clamps shrink errors, the sum of four products seven
 * more, all counted on the magnitudes: 12 u |W||X|. Integers and powers of two: tolerance 0. A learned variance adds
 * the exponential, 4 ulp, and one product, and its argument's two roundings: u (2 (|L| + |M v|) + 10) |S z e|. */
#include "opcheck.h"

static const int shapes[][4] = {
    {1, 1, 1, 3}, {2, 3, 5, 7}, {1, 31, 33, 1}, {3, 1, 17, 19}, {5, 65, 3, 2}, {8, 3, 32, 32}, {1, 3, 129, 131},
};
static const int tiny[][4] = {{2, 3, 20, 17}, {1, 2, 33, 31}, {4, 8, 4, 4}};
static const int layers[][4] = {{16, 3, 64, 64}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 12 * COUNT(shapes); /* three clips, exact and not, eps narrow and wide */
    case OC_TINY: return 2 * COUNT(tiny);
    case OC_LONG: return COUNT(layers) + 90;
    case OC_PERF: return COUNT(layers);
    default: return 0;
    }
}

static void make(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const int random[4] = {1 + oc_below(rng, 16), 1 + oc_below(rng, 30), 1 + oc_below(rng, 60), 1 + oc_below(rng, 60)};
    const int *s = set == OC_SUITE         ? shapes[index / 6 % COUNT(shapes)]
                   : set == OC_TINY        ? tiny[index % COUNT(tiny)]
                   : index < COUNT(layers) ? layers[index]
                                           : random;
    const lun_desc image = lun_image(s[0], s[1], s[2], s[3]);
    c->op.attrs.sample.clip = (lun_clip)(index % 3);
    const bool wide = set == OC_SUITE  ? index >= 6 * COUNT(shapes)
                      : set == OC_TINY ? index >= COUNT(tiny)
                                       : index % 2 == 1;
    c->op.attrs.sample.learned = wide && (set != OC_SUITE || index / 3 % 2);
    c->exact = index / 3 % 2 == 0 && set != OC_PERF && !c->op.attrs.sample.learned;
    c->layout = oc_turn(index / 3 + index % 3);
    for (int i = 0; i < 3; i++) {
        const int src = oc_source(c, i == 1 && wide ? lun_image(s[0], 2 * s[1], s[2], s[3]) : image);
        for (int64_t j = 0; j < oc_src_count(c, src); j++)
            oc_set_float(c, src, j, c->exact ? (oc_below(rng, 65) - 32) / 32.0 : 1.5 * oc_real(rng));
    }
    const int coef = oc_source(c, lun_image(1, 8, 1, 1));
    static const double exact[6] = {2, -1, 0.5, 0.25, 0.5, -0.125}, real[6] = {1.9, -0.9, 0.31, 0.42, -0.23, 0.17};
    for (int i = 0; i < 6; i++)
        oc_set_float(c, coef, i, c->exact ? exact[i] : real[i]);
    oc_set_float(c, coef, 6, c->op.attrs.sample.learned ? -1.3 : 77); /* not used but for a learned variance */
    oc_set_float(c, coef, 7, c->op.attrs.sample.learned ? 0.4 : -77);
    oc_dest(c, image.shape);
}

static void bound(oc_case *c)
{
    const lun_shape s = c->op.dst[0].shape;
    const int64_t area = s.c * s.h * s.w;
    const double *k = c->src[3];
    for (int64_t i = 0; i < lun_count(s); i++) {
        c->bound[0][i] = 12 * OC_U * c->mag[0][i];
        if (!c->op.attrs.sample.learned)
            continue;
        const double mv = k[7] * c->src[1][i / area * 2 * area + area + i % area];
        c->bound[0][i] += OC_U * (2 * (fabs(k[6]) + fabs(mv)) + 10) * fabs(k[5] * c->src[2][i]) * exp(k[6] + mv);
    }
}

const oc_op oc_sample_step = {.kind = LUN_OP_SAMPLE_STEP, .count = count, .make = make, .bound = bound};
