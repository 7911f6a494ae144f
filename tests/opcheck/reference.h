/* The ops in float64: loops straight from the formulas in src/op/op.h, nothing clever, nothing shared with the kernels.
 *
 * Arrays are in the API's order, N C H W (K C R S for filters), every number a double, integers too. mag[d], where not
 * NULL, receives for each element the sum of the absolute values of the terms behind it, |W||X|.
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "op/op.h"

typedef void ref_fn(const lun_op *op, const double *const *src, double *const *dst, double *const *mag);

ref_fn ref_conv2d, ref_conv2d_transpose, ref_conv2d_wgrad, ref_channel_sum, ref_spatial_sum, ref_batch_norm,
    ref_batch_norm_backward, ref_group_norm, ref_group_norm_backward, ref_scale_shift, ref_scale_shift_backward,
    ref_silu, ref_silu_backward, ref_gelu, ref_gelu_backward, ref_dropout, ref_relu, ref_relu_backward, ref_add,
    ref_add_channel, ref_concat, ref_slice, ref_embed, ref_noise, ref_loss, ref_loss_backward, ref_adam, ref_randint,
    ref_randn, ref_sample_step, ref_store, ref_embed_backward, ref_upsample2, ref_pool2, ref_attention,
    ref_attention_backward, ref_loss_each, ref_loss_each_backward, ref_weighted_mean, ref_weighted_mean_backward,
    ref_variational, ref_variational_backward, ref_guide, ref_accumulate, ref_sum_squares, ref_clip_norm, ref_ema,
    ref_loss_seed, ref_health, ref_settle, ref_upsample2_filter, ref_pool2_filter;

/* Loss of one difference, and its derivative (loss). */
double ref_loss_of(lun_loss_attrs a, double d);
double ref_slope_of(lun_loss_attrs a, double d);

/* One element of variational: L from the difference of the means, the mean, the least log variance and what it is above
 * that; *slope receives dL/dlv. */
double ref_variational_of(double delta, double mean, double low, double y, double x0, bool first, double *slope);

/* Any op; op->dst is filled (lun_op_infer). */
void ref_op(const lun_op *op, const double *const *src, double *const *dst, double *const *mag);

/* The row that an index means: one outside 0..rows-1 is clamped. */
static inline int64_t ref_row(double index, int64_t rows)
{
    return index < 0 ? 0 : index > (double)(rows - 1) ? rows - 1 : (int64_t)index;
}

#endif
