/* loss and loss_backward.
 *
 * Bound of loss: each term has a few roundings (d one, d^2 two more, Huber's straight part delta (|d| - delta/2) three,
 * counted on delta (|d| + delta/2)), the sum of T terms min(6 sqrt T, T), the division 2.5 ulp = 5 u:
 * (S + 10) u mean(terms), and not above 1e-6, which a fixed tree of partial sums keeps at any T. Integers, T a power of
 * two: tolerance 0. loss_backward: d, the products and the division, relative: 10 u |y|. Where |d| = delta the two
 * parts of Huber agree. */
#include "opcheck.h"

static const int shapes[][4] = {
    {1, 1, 1, 1},    {2, 3, 5, 7},  {2, 4, 8, 16},  {1, 31, 33, 1},   {1, 1, 32, 64},  {3, 1, 17, 19},
    {16, 3, 16, 16}, {5, 65, 3, 2}, {2, 3, 65, 64}, {1, 2, 128, 128}, {7, 32, 13, 11}, {1, 3, 127, 131},
};
static const int tiny[][4] = {{2, 3, 20, 17}, {1, 2, 33, 31}, {4, 8, 4, 4}};
static const int layers[][4] = {{16, 3, 64, 64}};
static const int grad[][4] = {{2, 3, 2, 3}, {1, 2, 5, 2}, {3, 1, 2, 4}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* The suite: every shape with every kind of loss. */
static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 3 * COUNT(shapes);
    case OC_TINY: return COUNT(tiny);
    case OC_LONG: return COUNT(layers) + 90;
    case OC_PERF: return COUNT(layers);
    default: return COUNT(grad);
    }
}

static void make(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const int random[4] = {1 + oc_below(rng, 16), 1 + oc_below(rng, 30), 1 + oc_below(rng, 60), 1 + oc_below(rng, 60)};
    const int *s = set == OC_SUITE         ? shapes[index / 3]
                   : set == OC_TINY        ? tiny[index]
                   : set == OC_GRAD        ? grad[index]
                   : index < COUNT(layers) ? layers[index]
                                           : random;
    const bool backward = c->op.kind == LUN_OP_LOSS_BACKWARD;
    const lun_desc image = lun_image(s[0], s[1], s[2], s[3]);
    const int64_t elements = lun_count(image.shape);
    lun_loss_attrs *a = &c->op.attrs.loss;
    a->kind = (lun_loss_kind)(index % 3);
    c->exact = (elements & (elements - 1)) == 0 && set != OC_GRAD && set != OC_PERF;
    a->delta = c->exact ? 2 : 0.75f;
    c->layout = oc_turn(index / 3 + index % 3);
    for (int i = 0; i < 2; i++) {
        const int src = oc_source(c, image);
        if (c->exact)
            oc_fill_ints(c, src, rng, -4, 4);
        else
            oc_fill_reals(c, src, rng, i ? 0.1 : 0, 1);
    }
    if (set == OC_GRAD) /* clear of the kinks at d = 0 and |d| = delta */
        for (int64_t i = 0; i < elements; i++) {
            const double d = (i % 4 < 2 ? 0.2 + 0.5 * fabs(oc_real(rng)) : 0.8 + fabs(oc_real(rng))) * (i % 2 ? 1 : -1);
            oc_set_float(c, 0, i, c->src[1][i] + d);
        }
    if (backward) {
        const int dloss = oc_source(c, lun_image(1, 1, 1, 1));
        oc_set_float(c, dloss, 0, c->exact ? 0.5 : 1.3);
        c->constant = elements < 4; /* the sign of one element */
        oc_dest(c, image.shape);
    } else {
        oc_dest(c, lun_shape4(1, 1, 1, 1));
    }
}

static void bound_loss(oc_case *c)
{
    c->bound[0][0] = fmin((oc_sum_factor((double)lun_count(c->op.src[0].shape)) + 10) * OC_U, 1e-6) * c->mag[0][0];
}

static void bound_backward(oc_case *c)
{
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = 10 * OC_U * fabs(c->want[0][i]);
}

const oc_op oc_loss = {.kind = LUN_OP_LOSS, .count = count, .make = make, .bound = bound_loss};
const oc_op oc_loss_backward = {.kind = LUN_OP_LOSS_BACKWARD, .count = count, .make = make, .bound = bound_backward};
