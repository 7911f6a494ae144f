/* How far the result of a candidate may be from the exact one: the bound of its class, on data of which every element
 * is normal, independent and of one scale. u = 2^-24 is half a unit in the last place of 1.
 *
 * Direct classes add `depth` products one after the other, in any grouping. The partial sum of i products has an RMS of
 * sqrt(i) (in units of one product), and rounding it adds an independent error of at most u times its size, on the
 * average u / sqrt(3) or less. Over the sum these add to u sqrt(sum i / 3) = u depth / sqrt(6), beside a result of RMS
 * sqrt(depth): a relative error of 0.41 u sqrt(depth). Grouping the sum makes it smaller. Two such results differ by at
 * most 0.58 u sqrt(depth). The bound is u sqrt(depth), plus a few u for very short sums.
 *
 * A minimal (Winograd) algorithm y = A' ((G g) . (B' d)) makes large intermediate values that cancel at the end. One
 * dimension: of unit normals, value p of B' d has the variance |B_p|^2 (of the row), of G g |G_p|^2, and output o adds
 * A_op times their product. Every error made at point p, of the transforms, of the sum over channels there, is relative
 * to that size, so that the error of the outputs is larger than the direct one's by at most
 *     kappa^2 = sum over p of |A_p|^2 |B_p|^2 |G_p|^2 / (outputs taps)
 * (RMS over the outputs, each of which is a sum of `taps` products and so has the variance `taps`). Exchanging the
 * roles of outputs and taps, which gives the weight gradient's algorithm, changes A and G but neither their product nor
 * kappa. In two dimensions the sizes multiply: kappa^2. With the points of cl/winograd_transform.h: F(4,3): 10.78
 * F(2,3): 1.67      F(4,2): 6.41 The sum at a point has depth / (taps taps) terms only, but two transforms before it: u
 * sqrt(depth) covers both.
 *
 * A channel's mean and variance over many results: the results' errors average out in both, so that they cost no more,
 * in terms of the size, than one result is off. What their own sums add: at most 384 squares are added one after the
 * other (lower/winograd.c), so partial sums of 1 .. 384 squares are rounded by u / sqrt(3) of their size on the
 * average, together u sqrt(384 / 9) = 6.5 u of the last; twice that where a single pixel guesses the mean (cl/norm.cl).
 * Two results: 32 u is allowed.
 *
 * tests/opcheck holds the candidates to bounds for single elements and any data; this one is for the tuner, which has
 * no exact result to compare with, only another candidate's. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "lower/accuracy.h"

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static lun_shape filter_of(const lun_op *op)
{
    return op->kind == LUN_OP_CONV2D_WGRAD ? op->dst[0].shape : op->src[1].shape;
}

double lun_amplification(const lun_op *op, const char *candidate)
{
    if (!begins(candidate, "winograd"))
        return 1;
    if (begins(candidate, "winograd_2x2"))
        return 1.67;
    return filter_of(op).h == 3 ? 10.78 : 6.41;
}

/* Products in one result. */
static double depth_of(const lun_op *op)
{
    const lun_shape f = filter_of(op);
    switch (op->kind) {
    case LUN_OP_CONV2D: return (double)(f.c * f.h * f.w);
    case LUN_OP_CONV2D_TRANSPOSE:
        /* Each result of a stride meets every stride-th tap. */
        return (double)f.n * (double)lun_ceil_div(f.h, op->attrs.conv.stride_h) *
               (double)lun_ceil_div(f.w, op->attrs.conv.stride_w);
    case LUN_OP_CONV2D_WGRAD:
        return (double)op->src[1].shape.n * (double)op->src[1].shape.h * (double)op->src[1].shape.w;
    default: return NAN;
    }
}

double lun_error_bound(const lun_op *op, const char *candidate, const char *reference)
{
    if (op->kind != LUN_OP_CONV2D && op->kind != LUN_OP_CONV2D_TRANSPOSE && op->kind != LUN_OP_CONV2D_WGRAD)
        return NAN;
    return (lun_amplification(op, candidate) + lun_amplification(op, reference)) * 0x1p-24 * sqrt(depth_of(op) + 16);
}

double lun_statistics_error_bound(const lun_op *op, const char *candidate, const char *reference)
{
    return lun_error_bound(op, candidate, reference) + 32 * 0x1p-24;
}
