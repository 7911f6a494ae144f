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
    ref_batch_norm_backward, ref_relu, ref_relu_backward, ref_add, ref_add_channel, ref_concat, ref_slice, ref_embed,
    ref_noise, ref_loss, ref_loss_backward, ref_adam, ref_randint, ref_randn, ref_sample_step, ref_store,
    ref_accumulate, ref_sum_squares, ref_clip_norm, ref_ema;

/* Any op; op->dst is filled (lun_op_infer). */
void ref_op(const lun_op *op, const double *const *src, double *const *dst, double *const *mag);

#endif
