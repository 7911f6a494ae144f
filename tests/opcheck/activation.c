/* silu, gelu and their gradients. The bounds are those derived in cl/special.h, u = 2^-24:
 *   silu           9 u |y| + tiny                         its own division included
 *   silu_backward  |dy| u s (14 |q| + 12 |1 + q|) + tiny  s = sigmoid(x), q = x (1 - s)
 *   gelu           |x| u (t (26 + x^2 / 2) + 2 Phi)       t = Phi(-|x|), the tail; the product rounds too
 *   gelu_backward  |dy| u (t (26 + x^2 / 2) + 2 Phi + |x| phi (8 + x^2 / 2) + 2 |Phi + x phi|)
 * tiny = 2^-124 (1 + |x|) |dy|: exp stops at exp(-87), and results below 2^-126 may be flushed. */
#include "opcheck.h"

static const int shapes[][4] = {
    {1, 1, 1, 3}, {2, 3, 5, 7}, {1, 31, 33, 1}, {3, 2, 17, 19}, {16, 33, 1, 1}, {8, 128, 4, 4}, {2, 37, 64, 65},
};
static const int tiny[][4] = {{2, 5, 31, 17}};
static const int layers[][4] = {{16, 128, 64, 64}, {16, 512, 1, 1}};
static const int grad[][4] = {{2, 3, 2, 3}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 2 * COUNT(shapes);
    case OC_TINY: return COUNT(tiny);
    case OC_LONG: return COUNT(layers) + 60;
    case OC_PERF: return COUNT(layers);
    default: return COUNT(grad);
    }
}

/* What a kernel may stumble over: zero, the ends of exp, infinities of intermediate values, NaN. */
static void special_values(oc_case *c, int s)
{
    static const double values[] = {0,   -0.0, 1e-30, -1e-30, 87,   -87,   87.5, -87.5,
                                    -88, 88.8, 1e10,  -1e10,  13.2, -13.2, -20,  (double)NAN};
    for (int i = 0; i < COUNT(values); i++)
        oc_set_float(c, s, i, values[i]);
}

/* Every second case has values far out, where tails are small and exp ends. */
static void make(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const int random[4] = {1 + oc_below(rng, 8), 1 + oc_below(rng, 150), 1 + oc_below(rng, 40), 1 + oc_below(rng, 40)};
    const int *s = set == OC_SUITE         ? shapes[index / 2]
                   : set == OC_TINY        ? tiny[index]
                   : set == OC_GRAD        ? grad[index]
                   : index < COUNT(layers) ? layers[index]
                                           : random;
    const lun_desc image = lun_image(s[0], s[1], s[2], s[3]);
    const bool far = index % 2 == 1 && set != OC_GRAD;
    c->layout = oc_turn(index / 2 + index % 2);
    const int src = oc_source(c, image);
    oc_fill_reals(c, src, rng, 0, far ? 30 : 3);
    if (far && oc_src_count(c, src) > 40) {
        special_values(c, src);
        c->nans = true;
    }
    if (c->op.kind == LUN_OP_SILU_BACKWARD || c->op.kind == LUN_OP_GELU_BACKWARD)
        oc_fill_reals(c, oc_source(c, image), rng, 0, 1);
    oc_dest(c, image.shape);
}

static void bound(oc_case *c)
{
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++) {
        const double x = c->src[0][i], y = fabs(c->want[0][i]), dy = c->op.nsrc > 1 ? fabs(c->src[1][i]) : 1;
        const double s = 1 / (1 + exp(-x)), q = x / (1 + exp(x));
        const double below = erfc(-x * sqrt(0.5)) / 2, tail = erfc(fabs(x) * sqrt(0.5)) / 2;
        const double density = exp(-x * x / 2) / sqrt(2 * acos(-1.0)), away = x * x / 2;
        double e = 0;
        switch (c->op.kind) {
        case LUN_OP_SILU: e = 9 * y; break;
        case LUN_OP_SILU_BACKWARD: e = dy * s * (14 * fabs(q) + 12 * fabs(1 + q)); break;
        case LUN_OP_GELU: e = fabs(x) * (tail * (26 + away) + 2 * below); break;
        default: /* gelu_backward */ e = dy * (tail * (26 + away) + 2 * below + fabs(x) * density * (8 + away)) + 2 * y;
        }
        c->bound[0][i] = isnan(x) ? 0 : OC_U * e + 0x1p-124 * (1 + fabs(x)) * dy;
    }
}

const oc_op oc_silu = {.kind = LUN_OP_SILU, .count = count, .make = make, .bound = bound};
const oc_op oc_silu_backward = {.kind = LUN_OP_SILU_BACKWARD, .count = count, .make = make, .bound = bound};
const oc_op oc_gelu = {.kind = LUN_OP_GELU, .count = count, .make = make, .bound = bound};
const oc_op oc_gelu_backward = {.kind = LUN_OP_GELU_BACKWARD, .count = count, .make = make, .bound = bound};
