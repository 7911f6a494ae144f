/* What an op costs by the direct method. Only convolutions matter to a total; the rest are counted per element so that
 * a table of them makes sense. */
#include "lower/lower.h"

/* Arithmetic per element of destination 0 (of source 0 for reductions); integer work and copies count nothing. */
static double per_element(const lun_op *op)
{
    switch (op->kind) {
    case LUN_OP_CHANNEL_SUM:
    case LUN_OP_SPATIAL_SUM:
    case LUN_OP_RELU:
    case LUN_OP_RELU_BACKWARD:
    case LUN_OP_ADD:
    case LUN_OP_ADD_CHANNEL:
    case LUN_OP_ACCUMULATE: return 1;
    case LUN_OP_SUM_SQUARES: return 2;
    case LUN_OP_EMA: return 3 * op->ndst;
    case LUN_OP_BATCH_NORM: /* mean 1, variance 3; normalise 3 */
        return op->attrs.norm.training && !op->attrs.norm.given ? 7 : 3;
    case LUN_OP_BATCH_NORM_BACKWARD: return 11; /* two sums 4, gradient 7 */
    case LUN_OP_GROUP_NORM: return 7 + (op->nsrc > 3 ? 2 : 0) + (op->attrs.group.silu ? 4 : 0); /* as batch_norm */
    case LUN_OP_GROUP_NORM_BACKWARD: return 11 + (op->attrs.group.silu ? 18 : 0);
    case LUN_OP_SCALE_SHIFT: return 2;
    case LUN_OP_SCALE_SHIFT_BACKWARD: return 5;
    case LUN_OP_SILU: return 4; /* exp counts as one */
    case LUN_OP_SILU_BACKWARD: return 9;
    case LUN_OP_GELU: return 15;
    case LUN_OP_GELU_BACKWARD: return 18;
    case LUN_OP_DROPOUT: return 1;
    case LUN_OP_NOISE:
    case LUN_OP_LOSS:
    case LUN_OP_LOSS_BACKWARD:
    case LUN_OP_LOSS_EACH:
    case LUN_OP_LOSS_EACH_BACKWARD:
    case LUN_OP_GUIDE: return 3;
    case LUN_OP_WEIGHTED_MEAN: return 2;
    case LUN_OP_WEIGHTED_MEAN_BACKWARD: return 1;
    case LUN_OP_VARIATIONAL:
    case LUN_OP_VARIATIONAL_BACKWARD:
        return 15; /* of each of 2C channels: an exponential and a dozen more for each of C */
    case LUN_OP_ADAM: return 14 + (lun_adam_scale(op) >= 0 ? 1 : 0) + (op->ndst > 3 ? 3 : 0);
    case LUN_OP_RANDN: return 40;
    case LUN_OP_UPSAMPLE2: return op->attrs.resample.mean ? 1 : 0;
    case LUN_OP_POOL2: return op->attrs.resample.mean ? 4 : 3;
    case LUN_OP_UPSAMPLE2_FILTER:
    case LUN_OP_POOL2_FILTER: return 3;
    case LUN_OP_SAMPLE_STEP: return 10;
    default: return 0;
    }
}

void lun_op_cost(const lun_op *op, double *flops, double *bytes)
{
    *bytes = 0;
    for (int i = 0; i < op->nsrc; i++)
        *bytes += (double)lun_bytes(op->src[i]);
    for (int i = 0; i < op->ndst; i++)
        *bytes += (double)lun_bytes(op->dst[i]);

    /* 2 N Ho Wo K C R S for all three directions: `small` is N K Ho Wo, the filter K C R S. */
    const lun_desc *small = NULL, *filter = NULL;
    if (op->kind == LUN_OP_CONV2D)
        small = &op->dst[0], filter = &op->src[1];
    else if (op->kind == LUN_OP_CONV2D_TRANSPOSE)
        small = &op->src[0], filter = &op->src[1];
    else if (op->kind == LUN_OP_CONV2D_WGRAD)
        small = &op->src[1], filter = &op->dst[0];
    if (filter) {
        const lun_shape k = filter->shape;
        *flops = 2.0 * (double)lun_count(small->shape) * (double)k.c * (double)k.h * (double)k.w;
        return;
    }
    /* Products of pixels x pixels x C, 2 T T C each: scores and their sum over v; backward the scores again, (ddst, v)
     * and three sums. */
    if (op->kind == LUN_OP_ATTENTION || op->kind == LUN_OP_ATTENTION_BACKWARD) {
        const lun_shape s = op->src[0].shape;
        const double pixels = (double)(s.h * s.w);
        *flops = (op->kind == LUN_OP_ATTENTION ? 4.0 : 10.0) * pixels * pixels * (double)(s.n * s.c / 3);
        return;
    }
    if (op->kind == LUN_OP_EMBED_BACKWARD) {
        *flops = (double)lun_count(op->src[1].shape);
        return;
    }
    const bool reduction = op->kind == LUN_OP_CHANNEL_SUM || op->kind == LUN_OP_SPATIAL_SUM ||
                           op->kind == LUN_OP_LOSS || op->kind == LUN_OP_LOSS_EACH ||
                           op->kind == LUN_OP_WEIGHTED_MEAN || op->kind == LUN_OP_VARIATIONAL ||
                           op->kind == LUN_OP_SUM_SQUARES;
    *flops = per_element(op) * (double)lun_count(reduction ? op->src[0].shape : op->dst[0].shape);
}
