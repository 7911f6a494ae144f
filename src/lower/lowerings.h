/* What the files of src/lower/ share among themselves. Private to the folder.
 *
 * Every lowering has the contract of lun_candidate.lower. Items are cut by the shape and by caps->gpu alone.
 */
#ifndef LUN_LOWERINGS_H
#define LUN_LOWERINGS_H

#include "lower/lower.h"

/* Ops with one way to do them. */
/* clang-format off: a name a line */
#define LUN_PLAIN_OPS(X)                                                                                               \
    X(channel_sum)                                                                                                     \
    X(spatial_sum)                                                                                                     \
    X(batch_norm)                                                                                                      \
    X(batch_norm_backward)                                                                                             \
    X(group_norm)                                                                                                      \
    X(group_norm_backward)                                                                                             \
    X(scale_shift)                                                                                                     \
    X(scale_shift_backward)                                                                                            \
    X(silu)                                                                                                            \
    X(silu_backward)                                                                                                   \
    X(gelu)                                                                                                            \
    X(gelu_backward)                                                                                                   \
    X(dropout)                                                                                                         \
    X(relu)                                                                                                            \
    X(relu_backward)                                                                                                   \
    X(add)                                                                                                             \
    X(add_channel)                                                                                                     \
    X(concat)                                                                                                          \
    X(slice)                                                                                                           \
    X(embed)                                                                                                           \
    X(noise)                                                                                                           \
    X(loss)                                                                                                            \
    X(loss_backward)                                                                                                   \
    X(adam)                                                                                                            \
    X(randint)                                                                                                         \
    X(randn)                                                                                                           \
    X(sample_step)                                                                                                     \
    X(store)                                                                                                           \
    X(embed_backward)                                                                                                  \
    X(upsample2)                                                                                                       \
    X(pool2)                                                                                                           \
    X(loss_each)                                                                                                       \
    X(loss_each_backward)                                                                                              \
    X(weighted_mean)                                                                                                   \
    X(weighted_mean_backward)                                                                                          \
    X(variational)                                                                                                     \
    X(variational_backward)                                                                                            \
    X(guide)                                                                                                           \
    X(accumulate)                                                                                                      \
    X(sum_squares)                                                                                                     \
    X(clip_norm)                                                                                                       \
    X(ema)                                                                                                             \
    X(loss_seed)                                                                                                       \
    X(health)                                                                                                          \
    X(settle)                                                                                                          \
    X(upsample2_filter)                                                                                                \
    X(pool2_filter)
/* clang-format on */

#define X(name) lun_status lun_lower_##name(const lun_op *op, const lun_caps *caps, lun_lowering *out);
LUN_PLAIN_OPS(X)
#undef X

/* conv2d.c */
extern const lun_candidate lun_conv2d_candidates[], lun_conv2d_transpose_candidates[], lun_conv2d_wgrad_candidates[];

/* conv2d_few.c. Suits: few pixels, and a filter that the caches do not hold. */
lun_status lun_few_forward(const lun_op *op, const lun_caps *caps, lun_lowering *out);
lun_status lun_few_data(const lun_op *op, const lun_caps *caps, lun_lowering *out);
lun_status lun_few_weight(const lun_op *op, const lun_caps *caps, lun_lowering *out);
bool lun_few_suits(const lun_op *op, const lun_caps *caps);

/* attention.c */
extern const lun_candidate lun_attention_candidates[], lun_attention_backward_candidates[];

/* How rows x columns elements are cut: an item does `rows` x `width`; `blocks` items lie side by side, `pieces` are
 * all. A GPU gets one element an item, a CPU whole rows until they fill a grain. */
/* What is larger is written past a CPU's caches (lane_stream in cl/lane.h). */
#define LUN_STREAMED_BYTES (3LL << 20)

typedef struct lun_cut {
    int64_t rows, width, blocks, pieces;
} lun_cut;
lun_cut lun_cut_rows(const lun_caps *caps, int64_t rows, int64_t columns);

/* Columns of an item of reduce.cl and update.cl; at most the default that those texts have for plain C. */
static inline int lun_columns(const lun_caps *caps)
{
    return caps->gpu ? 1 : 256;
}
/* Those of norm.cl and group_norm.cl, whose operands are larger: whole rows of most layers. Where rows are cut, a core
 * that fetches ahead stops at the end of each piece (half as long again for the gradient of 384 or 512 channels). */
static inline int lun_norm_columns(const lun_caps *caps)
{
    return caps->gpu ? 1 : 512;
}
/* Rows a chunk of their first pass, and how many partial results later passes join. */
static inline int64_t lun_chunk(const lun_caps *caps)
{
    return caps->gpu ? 64 : 256;
}

/* A launch of a text that has NORM_COLUMNS (norm.c). */
lun_launch *lun_emit_norm(lun_lowering *out, const lun_caps *caps, const char *file, const char *kernel, int64_t items);
/* Rows of one item that passes over rows x columns elements: a grain of them. */
int64_t lun_norm_height(const lun_caps *caps, int64_t rows, int64_t columns);

/* Moments (cl/norm.h) of groups x rows x columns floats, of which the rows lie `pitch` floats apart: merged until few
 * are left of each group, *partials of them, at the offset returned of the workspace. `file` includes norm_stats.h. At
 * most six launches. */
size_t lun_emit_column_moments(lun_lowering *out, const lun_caps *caps, const char *file, lun_launch_buffer src,
                               int64_t groups, int64_t rows, int64_t columns, int pitch, int64_t *partials);

/* One pass of that sum: each lun_chunk(caps) rows become one, groups x chunks x columns at `to`. */
void lun_emit_sum_pass(lun_lowering *out, const lun_caps *caps, lun_launch_buffer from, int64_t groups, int64_t rows,
                       int64_t columns, float scale, lun_launch_buffer to);
/* Sum groups x rows x columns floats over the rows, with scale, into destination `dst` (groups x columns), in as many
 * passes as it takes. `from` is filled in as the source buffer of the first pass. */
void lun_emit_sum(lun_lowering *out, const lun_caps *caps, lun_launch_buffer from, int64_t groups, int64_t rows,
                  int64_t columns, float scale, int dst);

/* A convolution's .stats, in one of two ways. By its own kernels: `moments` (cl/norm.h) of pieces of the result are
 * booked, `stride` floats apart, bound to the kernels (or some buffer, where no statistics are asked for) ... */
size_t lun_book_moments(lun_lowering *out, int64_t partials, int64_t stride);
void lun_emit_moments(lun_launch *launch, bool stats, size_t moments);
/* ... and merged into destination 1. `image`: the result's shape. At most six launches. */
void lun_emit_merge(lun_lowering *out, const lun_caps *caps, size_t moments, int64_t partials, lun_shape image,
                    int64_t stride);
/* Or, where they are asked for, by a pass over the result. At most seven launches. */
void lun_emit_result_statistics(const lun_op *op, const lun_caps *caps, lun_lowering *out);

#endif
