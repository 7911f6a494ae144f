/* embed, embed_backward, noise, store.
 *
 * embed_backward adds the rows of a batch of N: as a sum of N terms in conv2d.c, and the terms are exact.
 * embed and store only move numbers: tolerance 0. noise adds two products: three roundings, 3 u (|a x0| + |b eps|), and
 * tolerance 0 with a table of powers of two and integer data. */
#include "opcheck.h"

/* N, C, H, W, rows of the table */
static const int shapes[][5] = {
    {1, 1, 1, 3, 2},  {2, 3, 5, 7, 1},    {3, 1, 31, 33, 7},  {5, 3, 2, 17, 300}, {16, 32, 1, 1, 300},
    {1, 65, 3, 2, 3}, {8, 3, 32, 32, 31}, {2, 31, 37, 41, 5}, {7, 2, 65, 1, 13},  {1, 3, 129, 131, 33},
};
static const int tiny[][5] = {{3, 5, 11, 13, 7}, {70, 3, 1, 2, 5}};
static const int layers[][5] = {{16, 3, 64, 64, 300}};
static const int grad[][5] = {{2, 3, 2, 3, 4}};
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

static const int *choose(oc_set set, int index, oc_rng *rng, int random[5])
{
    random[0] = 1 + oc_below(rng, 20);
    random[1] = 1 + oc_below(rng, 80);
    random[2] = 1 + oc_below(rng, 40);
    random[3] = 1 + oc_below(rng, 40);
    random[4] = 2 + oc_below(rng, 300);
    if (set == OC_SUITE)
        return shapes[index / 2];
    if (set == OC_TINY)
        return tiny[index];
    if (set == OC_GRAD)
        return grad[index];
    return index < COUNT(layers) ? layers[index] : random;
}

static void make_embed(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    int random[5];
    const int *s = choose(set, index, rng, random);
    const int width = s[1] * s[2];
    c->layout = oc_turn(index);
    c->exact = true;
    const int at = oc_source(c, lun_typed(lun_image(s[0], 1, 1, 1), LUN_I32));
    oc_fill_indices(c, at, rng, 0, s[4] - 1);
    if (index % 2) /* beyond the table, both ways: clamped */
        oc_fill_indices(c, at, rng, -3, s[4] + 2);
    if (index % 4 == 3) {
        c->bits[at][0] = (uint32_t)INT32_MIN;
        c->src[at][0] = INT32_MIN;
    }
    oc_fill_reals(c, oc_source(c, lun_image(s[4], width, 1, 1)), rng, 0, 1);
    c->constant = width == 1; /* one row drawn for all, perhaps */
    oc_dest(c, lun_shape4(s[0], width, 1, 1));
}

static void make_embed_backward(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    int random[5];
    const int *s = choose(set, index, rng, random);
    const int width = s[1] * s[2];
    c->op.attrs.embed.rows = s[4];
    c->layout = oc_turn(index);
    c->exact = index % 2 == 0;
    const int at = oc_source(c, lun_typed(lun_image(s[0], 1, 1, 1), LUN_I32));
    oc_fill_indices(c, at, rng, index % 4 < 2 ? 0 : -3, s[4] + (index % 4 < 2 ? -1 : 2));
    const int ddst = oc_source(c, lun_image(s[0], width, 1, 1));
    if (c->exact)
        oc_fill_ints(c, ddst, rng, -100, 100);
    else
        oc_fill_reals(c, ddst, rng, 0, 1);
    c->constant = width == 1;
    oc_dest(c, lun_shape4(s[4], width, 1, 1));
}

static void bound_embed_backward(oc_case *c)
{
    const double terms = (double)c->op.src[0].shape.n;
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = oc_sum_factor(terms) * OC_U * c->mag[0][i];
}

static void make_noise(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    int random[5];
    const int *s = choose(set, index, rng, random);
    const lun_desc image = lun_image(s[0], s[1], s[2], s[3]);
    c->layout = oc_turn(index / 2);
    c->exact = set != OC_GRAD && index % 2 == 0;
    for (int i = 0; i < 2; i++) {
        const int src = oc_source(c, image);
        if (c->exact)
            oc_fill_ints(c, src, rng, -100, 100);
        else
            oc_fill_reals(c, src, rng, 0, 1);
    }
    const int beyond = index % 4 == 3 ? 3 : 0; /* the table, both ways: clamped */
    oc_fill_indices(c, oc_source(c, lun_typed(lun_image(s[0], 1, 1, 1), LUN_I32)), rng, -beyond, s[4] - 1 + beyond);
    const int table = oc_source(c, lun_image(s[4], 2, 1, 1));
    for (int64_t i = 0; i < 2 * s[4]; i++)
        oc_set_float(c, table, i, c->exact ? pow(2, oc_below(rng, 5) - 3) : fabs(oc_real(rng)));
    oc_dest(c, image.shape);
}

static void bound_noise(oc_case *c)
{
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = 3 * OC_U * c->mag[0][i];
}

static void make_store(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    int random[5];
    const int *s = choose(set, index, rng, random);
    const int slots = s[1] * s[4];
    c->layout = oc_turn(index);
    c->exact = true;
    c->constant = slots == 1;
    oc_fill_reals(c, oc_source(c, lun_image(1, slots, 1, 1)), rng, 3, 1);
    oc_fill_reals(c, oc_source(c, lun_image(1, 1, 1, 1)), rng, -3, 1);
    /* Every fourth one is outside the ring, which then must stay as it is. */
    const int slot = index % 4 < 3 ? oc_below(rng, slots) : index % 8 < 4 ? -1 : slots;
    oc_fill_indices(c, oc_source(c, lun_typed(lun_image(1, 1, 1, 1), LUN_I32)), rng, slot, slot);
    oc_dest(c, lun_shape4(1, slots, 1, 1));
}

static void nothing(oc_case *c)
{
    (void)c;
} /* always exact */

const oc_op oc_embed = {.kind = LUN_OP_EMBED, .count = count, .make = make_embed, .bound = nothing};
const oc_op oc_embed_backward = {
    .kind = LUN_OP_EMBED_BACKWARD, .count = count, .make = make_embed_backward, .bound = bound_embed_backward};
const oc_op oc_noise = {.kind = LUN_OP_NOISE, .count = count, .make = make_noise, .bound = bound_noise};
const oc_op oc_store = {.kind = LUN_OP_STORE, .count = count, .make = make_store, .bound = nothing};
