/* group_norm (Wu and He, 2018), with a scale and a shift of each sample's channels and SiLU where they follow.
 *
 * A group is C / groups channels side by side; mean and var (biased) are those of a group of one sample, over its
 * channels and pixels, M values:
 *   xhat = (src - mean) rstd, rstd = 1 / sqrt(var + eps);   v = xhat gamma + beta
 *   w = v (1 + scale) + shift with emb = [scale | shift], else v;   dst = silu(w) or w
 *
 * Gradient, with d = ddst silu'(w) or ddst, and sums over a sample's pixels S = sum d, T = sum d xhat for each channel:
 *   dgamma = sum over samples of (1 + scale) T,   dbeta = sum over samples of (1 + scale) S
 *   demb = [gamma T + beta S | S]
 *   dsrc = rstd (k d - A / M - xhat B / M), k = gamma (1 + scale), A and B the group's sums of k S and k T
 *   dbias, dsum = sums of that, without `acc`; dst 0 = dsrc + acc
 */
#include <inttypes.h>
#include <math.h>

#include "rules.h"

static lun_status check_attrs(const lun_op *op)
{
    const lun_group_attrs *a = &op->attrs.group;
    if (!(a->eps > 0) || !isfinite(a->eps))
        return lun_rule_fail(op, "eps %g must be above 0", (double)a->eps);
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    const int64_t c = op->src[0].shape.c;
    if (a->groups < 1 || c % a->groups != 0)
        return lun_rule_fail(op, "%d groups do not divide %" PRId64 " channels", a->groups, c);
    return LUN_OK;
}

static lun_status check_emb(const lun_op *op, int index)
{
    const lun_shape s = op->src[0].shape;
    return lun_rule_shape(op, index, "emb", LUN_F32, LUN_IMAGE, lun_shape4(s.n, 2 * s.c, 1, 1));
}

LUN_RULE(group_norm)
{
    LUN_TRY(check_attrs(op));
    const lun_shape s = op->src[0].shape;
    LUN_TRY(lun_rule_vector(op, 1, "gamma", s.c));
    LUN_TRY(lun_rule_vector(op, 2, "beta", s.c));
    if (op->nsrc > 3)
        LUN_TRY(check_emb(op, 3));
    if (op->attrs.group.add || op->attrs.group.dbias || op->attrs.group.dsum)
        return lun_rule_fail(op, "add, dbias and dsum are of its gradient");
    op->dst[0] = op->src[0];
    op->dst[1] = op->dst[2] = lun_image(s.n, op->attrs.group.groups, 1, 1);
    return LUN_OK;
}

LUN_RULE(group_norm_backward)
{
    LUN_TRY(check_attrs(op));
    const lun_group_attrs *a = &op->attrs.group;
    const lun_shape s = op->src[0].shape, groups = lun_shape4(s.n, a->groups, 1, 1);
    const bool scaled = op->nsrc - a->add > 6;
    LUN_TRY(lun_rule_like_first(op, 1, "ddst"));
    LUN_TRY(lun_rule_vector(op, 2, "gamma", s.c));
    LUN_TRY(lun_rule_vector(op, 3, "beta", s.c));
    LUN_TRY(lun_rule_shape(op, 4, "mean", LUN_F32, LUN_IMAGE, groups));
    LUN_TRY(lun_rule_shape(op, 5, "rstd", LUN_F32, LUN_IMAGE, groups));
    if (op->nsrc != 6 + scaled + a->add)
        return lun_rule_fail(op, "%d sources, but %d are needed", op->nsrc, 6 + scaled + a->add);
    if (scaled)
        LUN_TRY(check_emb(op, 6));
    if (a->add)
        LUN_TRY(lun_rule_like_first(op, op->nsrc - 1, "acc"));
    op->ndst = 3;
    op->dst[0] = op->src[0];
    op->dst[1] = op->dst[2] = lun_image(1, s.c, 1, 1);
    if (scaled)
        op->dst[op->ndst++] = op->src[6];
    if (a->dbias)
        op->dst[op->ndst++] = lun_image(1, s.c, 1, 1);
    if (a->dsum)
        op->dst[op->ndst++] = lun_image(s.n, s.c, 1, 1);
    return LUN_OK;
}

LUN_GRADIENT(group_norm)
{
    const int nsrc = b->op->nsrc;
    bool any = false;
    for (int i = 0; i < nsrc; i++)
        any = any || b->wants[i];
    if (!any)
        return;
    const lun_value src[] = {
        b->src[0], b->ddst[0], b->src[1], b->src[2], b->dst[1], b->dst[2], nsrc > 3 ? b->src[3] : -1};
    const lun_value first = b->emit(b, LUN_OP_GROUP_NORM_BACKWARD, &b->op->attrs, src, nsrc > 3 ? 7 : 6);
    if (first < 0)
        return;
    for (int i = 0; i < nsrc; i++)
        if (b->wants[i])
            b->give(b, i, first + i);
}

LUN_RULE(scale_shift)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    LUN_TRY(check_emb(op, 1));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_RULE(scale_shift_backward)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    LUN_TRY(lun_rule_like_first(op, 1, "ddst"));
    LUN_TRY(check_emb(op, 2));
    op->dst[0] = op->src[0];
    op->dst[1] = op->src[2];
    return LUN_OK;
}

/* dsrc = ddst (1 + scale), dscale = sum over h, w of ddst src, dshift = sum over h, w of ddst. */
LUN_GRADIENT(scale_shift)
{
    if (!b->wants[0] && !b->wants[1])
        return;
    const lun_value src[] = {b->src[0], b->ddst[0], b->src[1]};
    const lun_value first = b->emit(b, LUN_OP_SCALE_SHIFT_BACKWARD, NULL, src, 3);
    if (first < 0)
        return;
    for (int i = 0; i < 2; i++)
        if (b->wants[i])
            b->give(b, i, first + i);
}
