/* Objectives that tell one sample from another, and classifier-free guidance.
 *
 * loss_each: dst[n] = weight[n] times the mean over c, h, w of the loss (op.h) of pred - target; of pred the first C
 * channels count, where a network predicts a variance behind them. Its gradient goes to pred only, and is 0 in the
 * other channels.
 *
 * weighted_mean: dst = sum of weights[n] values[n] / N. Weights are data.
 *
 * variational: what one step adds to the variational bound, in bits a dimension, for a network that learns the range of
 * the variance (Nichol and Dhariwal 2021, equations 4, 5 and 15). Row t[n] of the table is {A, B, c1, low, range, -, -,
 * -}; for each element, m being its prediction and v the channel C further on,
 *     x0' = A xt + B m                       the predicted end
 *     lv  = low + range (v + 1) / 2          log variance; log beta~ <= lv <= log beta for -1 <= v <= 1
 *     t > 0   L = (y + e^-y - 1 + (c1 (x0 - x0'))^2 e^-lv) / 2, y = lv - low: the divergence of the two normals, whose
 *             means differ by c1 (x0 - x0')
 *     t = 0   L = -ln of the mass that the normal (c1 x0', e^lv) gives to the level of x0, 1/255 to both sides; beyond
 *             +-0.999 to the end of the line. Its distribution function is (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) /
 *             2, and masses are at least 1e-12: all as in the code of both papers.
 * dst[n] = scale / ln 2 times the mean of L. The gradient goes to v only: the mean is learned by the other half of the
 * objective. Where a mass is below its least value the gradient is 0.
 *
 * guide: op.h (Ho and Salimans 2022). */
#include <math.h>

#include "rules.h"

static lun_status check_loss(const lun_op *op)
{
    const lun_loss_attrs *a = &op->attrs.loss;
    if ((unsigned)a->kind > LUN_LOSS_HUBER)
        return lun_rule_fail(op, "there is no loss number %d", (int)a->kind);
    if (a->kind == LUN_LOSS_HUBER && !(a->delta > 0 && isfinite(a->delta)))
        return lun_rule_fail(op, "Huber's delta %g must be above 0", (double)a->delta);
    LUN_TRY(lun_rule_operand(op, 0, "pred", LUN_F32, LUN_IMAGE));
    const lun_shape pred = op->src[0].shape, target = op->src[1].shape;
    if (target.c > pred.c)
        return lun_rule_fail(op, "target has more channels than pred");
    return lun_rule_shape(op, 1, "target", LUN_F32, LUN_IMAGE, lun_shape4(pred.n, target.c, pred.h, pred.w));
}

static lun_status check_per_sample(const lun_op *op, int index, const char *name, int64_t n)
{
    return index < op->nsrc ? lun_rule_shape(op, index, name, LUN_F32, LUN_IMAGE, lun_shape4(n, 1, 1, 1)) : LUN_OK;
}

LUN_RULE(loss_each)
{
    LUN_TRY(check_loss(op));
    const int64_t n = op->src[0].shape.n;
    LUN_TRY(check_per_sample(op, 2, "weight", n));
    op->dst[0] = lun_image(n, 1, 1, 1);
    return LUN_OK;
}

LUN_RULE(loss_each_backward)
{
    LUN_TRY(check_loss(op));
    LUN_TRY(check_per_sample(op, 2, "deach", op->src[0].shape.n));
    LUN_TRY(check_per_sample(op, 3, "weight", op->src[0].shape.n));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_GRADIENT(loss_each)
{
    const bool weighted = b->op->nsrc > 2;
    const lun_value src[] = {b->src[0], b->src[1], b->ddst[0], weighted ? b->src[2] : -1};
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_LOSS_EACH_BACKWARD, &b->op->attrs, src, weighted ? 4 : 3));
}

LUN_RULE(weighted_mean)
{
    const int64_t n = op->src[0].shape.n;
    LUN_TRY(check_per_sample(op, 0, "values", n));
    LUN_TRY(check_per_sample(op, 1, "weights", n));
    op->dst[0] = lun_image(1, 1, 1, 1);
    return LUN_OK;
}

LUN_RULE(weighted_mean_backward)
{
    LUN_TRY(check_per_sample(op, 0, "weights", op->src[0].shape.n));
    LUN_TRY(lun_rule_vector(op, 1, "dmean", 1));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_GRADIENT(weighted_mean)
{
    const lun_value src[] = {b->src[1], b->ddst[0]};
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_WEIGHTED_MEAN_BACKWARD, NULL, src, 2));
}

static lun_status check_variational(const lun_op *op)
{
    LUN_TRY(lun_rule_operand(op, 0, "pred", LUN_F32, LUN_IMAGE));
    const lun_shape pred = op->src[0].shape, half = lun_shape4(pred.n, pred.c / 2, pred.h, pred.w);
    if (pred.c % 2)
        return lun_rule_fail(op, "pred has %d channels, which are no two halves", (int)pred.c);
    if (!isfinite(op->attrs.variational.scale))
        return lun_rule_fail(op, "scale %g is not finite", (double)op->attrs.variational.scale);
    LUN_TRY(lun_rule_shape(op, 1, "x0", LUN_F32, LUN_IMAGE, half));
    LUN_TRY(lun_rule_shape(op, 2, "xt", LUN_F32, LUN_IMAGE, half));
    LUN_TRY(lun_rule_shape(op, 3, "t", LUN_I32, LUN_IMAGE, lun_shape4(pred.n, 1, 1, 1)));
    return lun_rule_shape(op, 4, "table", LUN_F32, LUN_IMAGE, lun_shape4(op->src[4].shape.n, 8, 1, 1));
}

LUN_RULE(variational)
{
    LUN_TRY(check_variational(op));
    op->dst[0] = lun_image(op->src[0].shape.n, 1, 1, 1);
    return LUN_OK;
}

LUN_RULE(variational_backward)
{
    LUN_TRY(check_variational(op));
    LUN_TRY(check_per_sample(op, 5, "deach", op->src[0].shape.n));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_GRADIENT(variational)
{
    const lun_value src[] = {b->src[0], b->src[1], b->src[2], b->src[3], b->src[4], b->ddst[0]};
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_VARIATIONAL_BACKWARD, &b->op->attrs, src, 6));
}

LUN_RULE(guide)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    const lun_shape s = op->src[0].shape;
    if (s.n % 2)
        return lun_rule_fail(op, "a batch of %d is no two halves", (int)s.n);
    if (op->attrs.guide.channels < 1 || op->attrs.guide.channels > s.c)
        return lun_rule_fail(op, "%d channels do not lie in %d", op->attrs.guide.channels, (int)s.c);
    LUN_TRY(lun_rule_vector(op, 1, "scale", 1));
    op->dst[0] = op->src[0];
    return LUN_OK;
}
