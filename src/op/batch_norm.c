/* batch_norm (Ioffe and Szegedy, 2015), with PyTorch's rules for the running statistics.
 *
 *   dst = (src - mean) rstd gamma + beta [+ shift], per channel, rstd = 1 / sqrt(var + eps)
 *
 * Gradient, with xhat = (src - mean) rstd and M values a channel:
 *   dbeta = sum ddst, dgamma = sum ddst xhat,
 *   training:   dsrc = gamma rstd (ddst - dbeta / M - xhat dgamma / M)
 *   evaluation: dsrc = gamma rstd ddst            (mean and rstd are constants then)
 *   dshift = sum over h, w of ddst
 */
#include <math.h>

#include "rules.h"

static lun_status check_attrs(const lun_op *op)
{
    const lun_norm_attrs *a = &op->attrs.norm;
    if (!(a->eps > 0) || !isfinite(a->eps))
        return lun_rule_fail(op, "eps %g must be above 0", (double)a->eps);
    if (a->update && !a->training)
        return lun_rule_fail(op, "the running statistics are only updated in training");
    if (a->update && !(a->momentum >= 0 && a->momentum <= 1))
        return lun_rule_fail(op, "momentum %g must be 0 to 1", (double)a->momentum);
    return LUN_OK;
}

LUN_RULE(batch_norm)
{
    static const char *const names[] = {"src", "gamma", "beta", "running_mean", "running_var"};
    LUN_TRY(check_attrs(op));
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    const lun_shape s = op->src[0].shape;
    if (op->attrs.norm.relu || op->attrs.norm.dbias || op->attrs.norm.dshift)
        return lun_rule_fail(op, "relu, dbias and dshift are of its gradient");
    if (op->attrs.norm.bare && op->attrs.norm.training)
        return lun_rule_fail(op, "without statistics in evaluation mode only");
    if (op->attrs.norm.given && !op->attrs.norm.training)
        return lun_rule_fail(op, "the batch's statistics are for training only");
    const int others = op->nsrc - op->attrs.norm.given;
    if (others < 5 || others > 6)
        return lun_rule_fail(op, "%d sources beside the statistics, but it takes 5 to 6", others);
    if (op->attrs.norm.given)
        LUN_TRY(lun_rule_shape(op, others, "stats", LUN_F32, LUN_IMAGE, lun_shape4(2, s.c, 1, 1)));
    if (lun_norm_is_shifted(op))
        LUN_TRY(lun_rule_shape(op, 5, "shift", LUN_F32, LUN_IMAGE, lun_shape4(s.n, s.c, 1, 1)));
    for (int i = 1; i < 5; i++)
        LUN_TRY(lun_rule_vector(op, i, names[i], s.c));
    /* The unbiased variance of one value does not exist. */
    if (op->attrs.norm.update && s.n * s.h * s.w < 2)
        return lun_rule_fail(op, "updating the running statistics needs more than one value a channel");
    op->ndst = op->attrs.norm.update ? 5 : op->attrs.norm.bare ? 1 : 3;
    op->dst[0] = op->src[0];
    for (int i = 1; i < op->ndst; i++)
        op->dst[i] = lun_image(1, s.c, 1, 1);
    return LUN_OK;
}

LUN_RULE(batch_norm_backward)
{
    LUN_TRY(check_attrs(op));
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    LUN_TRY(lun_rule_like_first(op, 1, "ddst"));
    const int64_t c = op->src[0].shape.c;
    LUN_TRY(lun_rule_vector(op, 2, "gamma", c));
    LUN_TRY(lun_rule_vector(op, 3, "mean", c));
    LUN_TRY(lun_rule_vector(op, 4, "rstd", c));
    if (op->attrs.norm.update || op->attrs.norm.bare || op->attrs.norm.given)
        return lun_rule_fail(op, "the gradient changes no statistics");
    op->ndst = 3;
    op->dst[0] = op->src[0];
    op->dst[1] = op->dst[2] = lun_image(1, c, 1, 1);
    if (op->attrs.norm.dbias)
        op->dst[op->ndst++] = lun_image(1, c, 1, 1);
    if (op->attrs.norm.dshift)
        op->dst[op->ndst++] = lun_image(op->src[0].shape.n, c, 1, 1);
    return LUN_OK;
}

LUN_GRADIENT(batch_norm)
{
    if (lun_norm_is_shifted(b->op) && b->wants[5])
        b->give(b, 5, b->emit(b, LUN_OP_SPATIAL_SUM, NULL, &b->ddst[0], 1));
    if (!b->wants[0] && !b->wants[1] && !b->wants[2])
        return;
    lun_attrs attrs = {.norm = b->op->attrs.norm};
    attrs.norm.update = attrs.norm.given = false;
    const lun_value src[] = {b->src[0], b->ddst[0], b->src[1], b->dst[1], b->dst[2]};
    const lun_value first = b->emit(b, LUN_OP_BATCH_NORM_BACKWARD, &attrs, src, 5);
    if (first < 0)
        return;
    for (int i = 0; i < 3; i++)
        if (b->wants[i])
            b->give(b, i, first + i);
}
