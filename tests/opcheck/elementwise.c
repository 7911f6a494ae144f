/* relu, relu_backward, add, add_channel, concat, slice. Reals too are exact but for the one rounding of an addition,
 * which IEEE 754 (and OpenCL's full profile) rounds correctly: |y - y64| <= u |y64|. */
#include "opcheck.h"

/* N, C, H, W, and the second operand's channels (concat) or the slice's first channel. The long ones are more than one
 * piece of work on a CPU device. */
static const int shapes[][5] = {
    {1, 1, 1, 3, 1},    {2, 3, 5, 7, 2},     {1, 31, 33, 1, 30}, {3, 2, 17, 19, 1},   {5, 65, 3, 2, 64},
    {2, 64, 8, 8, 1},   {16, 33, 1, 1, 5},   {1, 3, 65, 64, 2},  {8, 128, 4, 4, 128}, {2, 67, 7, 3, 33},
    {1, 1, 31, 127, 1}, {7, 32, 13, 11, 16}, {2, 37, 64, 65, 3}, {1, 8, 129, 131, 4},
};
static const int tiny[][5] = {{2, 5, 31, 17, 3}, {3, 66, 3, 5, 31}};
static const int layers[][5] = {{16, 128, 64, 64, 64}, {16, 1024, 4, 4, 512}};
static const int grad[][5] = {{2, 3, 2, 3, 1}, {1, 5, 3, 1, 2}};
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

static void fill(oc_case *c, int s, oc_rng *rng, bool real)
{
    if (!real)
        oc_fill_ints(c, s, rng, -100, 100);
    else
        oc_fill_reals(c, s, rng, 0, 3);
}

static void make(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const int n = 1 + oc_below(rng, 8), ch = 2 + oc_below(rng, 150);
    const int random[5] = {n, ch, 1 + oc_below(rng, 40), 1 + oc_below(rng, 40), 1 + oc_below(rng, ch - 1)};
    const int *s = set == OC_SUITE         ? shapes[index / 2]
                   : set == OC_TINY        ? tiny[index]
                   : set == OC_GRAD        ? grad[index]
                   : index < COUNT(layers) ? layers[index]
                                           : random;
    const bool real = index % 2 == 1 || set == OC_GRAD;
    const lun_desc image = lun_image(s[0], s[1], s[2], s[3]);
    c->layout = oc_turn(index / 2 + index % 2);
    c->exact = !real || (c->op.kind != LUN_OP_ADD && c->op.kind != LUN_OP_ADD_CHANNEL);
    switch (c->op.kind) {
    case LUN_OP_RELU:
        fill(c, oc_source(c, image), rng, real);
        if (set == OC_GRAD)
            for (int64_t i = 0; i < lun_count(image.shape); i++)
                oc_set_float(c, 0, i, c->src[0][i] + (c->src[0][i] > 0 ? 0.01 : -0.01)); /* clear of the kink */
        if (set != OC_GRAD && lun_count(image.shape) > 8) {
            oc_set_float(c, 0, 5, (double)NAN);
            c->nans = true;
        }
        c->max_zero = 0.8f;
        oc_dest(c, image.shape);
        break;
    case LUN_OP_RELU_BACKWARD:
        fill(c, oc_source(c, image), rng, real);
        for (int64_t i = 0; i < lun_count(image.shape); i++)
            oc_set_float(c, 0, i, fmax(c->src[0][i], 0)); /* relu's result */
        fill(c, oc_source(c, image), rng, real);
        c->max_zero = 0.8f;
        oc_dest(c, image.shape);
        break;
    case LUN_OP_ADD:
        fill(c, oc_source(c, image), rng, real);
        fill(c, oc_source(c, image), rng, real);
        oc_dest(c, image.shape);
        break;
    case LUN_OP_ADD_CHANNEL:
        fill(c, oc_source(c, image), rng, real);
        fill(c, oc_source(c, lun_image(s[0], s[1], 1, 1)), rng, real);
        oc_dest(c, image.shape);
        break;
    case LUN_OP_CONCAT:
        fill(c, oc_source(c, image), rng, real);
        fill(c, oc_source(c, lun_image(s[0], s[4], s[2], s[3])), rng, real);
        oc_dest(c, lun_shape4(s[0], s[1] + s[4], s[2], s[3]));
        break;
    default: /* slice */
        fill(c, oc_source(c, image), rng, real);
        c->op.attrs.slice.first = s[4] < s[1] ? s[4] : 0;
        c->op.attrs.slice.count = (s[1] - c->op.attrs.slice.first + 1) / 2;
        oc_dest(c, lun_shape4(s[0], c->op.attrs.slice.count, s[2], s[3]));
        break;
    }
}

static void bound(oc_case *c)
{
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = OC_U * fabs(c->want[0][i]);
}

const oc_op oc_relu = {.kind = LUN_OP_RELU, .count = count, .make = make, .bound = bound};
const oc_op oc_relu_backward = {.kind = LUN_OP_RELU_BACKWARD, .count = count, .make = make, .bound = bound};
const oc_op oc_add = {.kind = LUN_OP_ADD, .count = count, .make = make, .bound = bound};
const oc_op oc_add_channel = {.kind = LUN_OP_ADD_CHANNEL, .count = count, .make = make, .bound = bound};
const oc_op oc_concat = {.kind = LUN_OP_CONCAT, .count = count, .make = make, .bound = bound};
const oc_op oc_slice = {.kind = LUN_OP_SLICE, .count = count, .make = make, .bound = bound};
