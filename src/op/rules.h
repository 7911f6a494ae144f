/* What the shape rules share, and the rules themselves for the table in op.c. Private to src/op.
 *
 * Every check that fails records "NAME: reason" and returns LUN_ERR_USAGE. `name` is what the table in op.h calls the
 * operand. lun_op_infer() has already checked the number of sources and each descriptor on its own.
 */
#ifndef LUN_OP_RULES_H
#define LUN_OP_RULES_H

#include <string.h>

#include "base/base.h"
#include "op/op.h"

lun_status lun_rule_fail(const lun_op *op, const char *format, ...) LUN_PRINTF(2, 3);
/* Source `index` has this element type and layout. */
lun_status lun_rule_operand(const lun_op *op, int index, const char *name, lun_dtype dtype, lun_layout layout);
/* The same, and exactly this shape. */
lun_status lun_rule_shape(const lun_op *op, int index, const char *name, lun_dtype dtype, lun_layout layout,
                          lun_shape shape);
/* A float vector over channels: (1, c, 1, 1). */
lun_status lun_rule_vector(const lun_op *op, int index, const char *name, int64_t c);
/* Source `index` is float and has the layout and shape of source 0. */
lun_status lun_rule_like_first(const lun_op *op, int index, const char *name);

#define LUN_RULE(name)     lun_status lun_shape_##name(lun_op *op)
#define LUN_GRADIENT(name) void lun_gradient_##name(lun_backward *b)

LUN_RULE(conv2d);
LUN_RULE(conv2d_transpose);
LUN_RULE(conv2d_wgrad);
LUN_RULE(channel_sum);
LUN_RULE(spatial_sum);
LUN_RULE(batch_norm);
LUN_RULE(batch_norm_backward);
LUN_RULE(group_norm);
LUN_RULE(group_norm_backward);
LUN_RULE(scale_shift);
LUN_RULE(scale_shift_backward);
LUN_RULE(silu);
LUN_RULE(silu_backward);
LUN_RULE(gelu);
LUN_RULE(gelu_backward);
LUN_RULE(dropout);
LUN_RULE(relu);
LUN_RULE(relu_backward);
LUN_RULE(add);
LUN_RULE(add_channel);
LUN_RULE(concat);
LUN_RULE(slice);
LUN_RULE(embed);
LUN_RULE(noise);
LUN_RULE(loss);
LUN_RULE(loss_backward);
LUN_RULE(adam);
LUN_RULE(randint);
LUN_RULE(randn);
LUN_RULE(sample_step);
LUN_RULE(store);
LUN_RULE(embed_backward);
LUN_RULE(upsample2);
LUN_RULE(pool2);
LUN_RULE(upsample2_filter);
LUN_RULE(pool2_filter);
LUN_RULE(attention);
LUN_RULE(attention_backward);
LUN_RULE(loss_each);
LUN_RULE(loss_each_backward);
LUN_RULE(weighted_mean);
LUN_RULE(weighted_mean_backward);
LUN_RULE(variational);
LUN_RULE(variational_backward);
LUN_RULE(guide);
LUN_RULE(accumulate);
LUN_RULE(sum_squares);
LUN_RULE(clip_norm);
LUN_RULE(loss_seed);
LUN_RULE(health);
LUN_RULE(settle);
LUN_RULE(ema);

LUN_GRADIENT(conv2d);
LUN_GRADIENT(conv2d_transpose);
LUN_GRADIENT(batch_norm);
LUN_GRADIENT(group_norm);
LUN_GRADIENT(scale_shift);
LUN_GRADIENT(silu);
LUN_GRADIENT(gelu);
LUN_GRADIENT(dropout);
LUN_GRADIENT(relu);
LUN_GRADIENT(add);
LUN_GRADIENT(add_channel);
LUN_GRADIENT(concat);
LUN_GRADIENT(loss);
LUN_GRADIENT(embed);
LUN_GRADIENT(upsample2);
LUN_GRADIENT(pool2);
LUN_GRADIENT(upsample2_filter);
LUN_GRADIENT(pool2_filter);
LUN_GRADIENT(attention);
LUN_GRADIENT(loss_each);
LUN_GRADIENT(weighted_mean);
LUN_GRADIENT(variational);

#endif
