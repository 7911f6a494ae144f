/* conv2d, its data gradient conv2d_transpose (also the op of that name) and its weight gradient.
 *
 *   dst[n,k,ho,wo] = bias[k] + sum over c,r,s of src[n,c, ho stride_h - pad_h + r, wo stride_w - pad_w + s]
 * weight[k,c,r,s]
 *
 * with zeros outside the source, and with .relu dst = max(dst, 0). With .stats also, over the M pixels of all samples,
 *
 *   stats[0,k] = sum dst / M, stats[1,k] = sum (dst - stats[0,k])^2 / M
 *
 * which get no gradient: the batch_norm that reads them has the whole one. The three are each other's gradients, so one
 * rule about sizes serves all.
 */
#include <inttypes.h>

#include "rules.h"

/* Far above any use; with check_room() it keeps the kernels' 32-bit index arithmetic clear of overflow. */
enum { MOST = 32767 };

static lun_status check_window(const lun_op *op, int64_t r, int64_t s)
{
    const lun_conv_attrs *a = &op->attrs.conv;
    if (a->stride_h < 1 || a->stride_w < 1 || a->stride_h > MOST || a->stride_w > MOST)
        return lun_rule_fail(op, "stride %dx%d must be 1 to %d", a->stride_h, a->stride_w, MOST);
    if (a->pad_h < 0 || a->pad_w < 0 || a->pad_h > MOST || a->pad_w > MOST)
        return lun_rule_fail(op, "padding %dx%d must be 0 to %d", a->pad_h, a->pad_w, MOST);
    const int64_t below = (int64_t)a->pad_h + a->more_h, right = (int64_t)a->pad_w + a->more_w;
    if (below < 0 || right < 0 || below > MOST || right > MOST)
        return lun_rule_fail(op, "padding below and on the right, %" PRId64 "x%" PRId64 ", must be 0 to %d", below,
                             right, MOST);
    if (r < 1 || s < 1 || r > MOST || s > MOST)
        return lun_rule_fail(op, "kernel %" PRId64 "x%" PRId64 " must be 1 to %d", r, s, MOST);
    return LUN_OK;
}

/* Positions in the padded image `h` x `w` fit 32 bits, also one kernel and one stride beyond its end. */
static lun_status check_room(const lun_op *op, int64_t h, int64_t w)
{
    const int64_t most = INT32_MAX - 4 * (int64_t)MOST;
    if (h > most || w > most)
        return lun_rule_fail(op, "%" PRId64 "x%" PRId64 ": a side must be at most %" PRId64, h, w, most);
    return LUN_OK;
}

/* Ho or Wo; 0 if the kernel is larger than the padded source. */
static int64_t windows(int64_t size, int64_t kernel, int stride, int pad, int more)
{
    const int64_t room = size + 2 * (int64_t)pad + more - kernel;
    return room < 0 ? 0 : room / stride + 1;
}

/* That conv2d maps `big` (H, W) to `small` (Ho, Wo). */
static lun_status check_sizes(const lun_op *op, int64_t h, int64_t w, int64_t r, int64_t s, int64_t ho, int64_t wo)
{
    const lun_conv_attrs *a = &op->attrs.conv;
    const int64_t want_h = windows(h, r, a->stride_h, a->pad_h, a->more_h),
                  want_w = windows(w, s, a->stride_w, a->pad_w, a->more_w);
    if (want_h != ho || want_w != wo)
        return lun_rule_fail(op,
                             "%" PRId64 "x%" PRId64 " with this kernel, stride and padding goes with %" PRId64
                             "x%" PRId64 ", not %" PRId64 "x%" PRId64,
                             h, w, want_h, want_w, ho, wo);
    return LUN_OK;
}

static void add_stats(lun_op *op)
{
    op->ndst = 1;
    if (op->attrs.conv.stats)
        op->dst[op->ndst++] = lun_image(2, op->dst[0].shape.c, 1, 1);
}

LUN_RULE(conv2d)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    LUN_TRY(lun_rule_operand(op, 1, "weight", LUN_F32, LUN_FILTER));
    const lun_shape x = op->src[0].shape, k = op->src[1].shape;
    const lun_conv_attrs *a = &op->attrs.conv;
    LUN_TRY(check_window(op, k.h, k.w));
    LUN_TRY(check_room(op, x.h, x.w));
    if (k.c != x.c)
        return lun_rule_fail(op, "the weight wants %" PRId64 " channels, src has %" PRId64, k.c, x.c);
    if (op->nsrc > 2)
        LUN_TRY(lun_rule_vector(op, 2, "bias", k.n));
    const int64_t ho = windows(x.h, k.h, a->stride_h, a->pad_h, a->more_h),
                  wo = windows(x.w, k.w, a->stride_w, a->pad_w, a->more_w);
    if (ho < 1 || wo < 1)
        return lun_rule_fail(
            op, "a %" PRId64 "x%" PRId64 " kernel does not fit into %" PRId64 "x%" PRId64 " with padding %dx%d", k.h,
            k.w, x.h, x.w, a->pad_h, a->pad_w);
    op->dst[0] = lun_image(x.n, k.n, ho, wo);
    add_stats(op);
    return LUN_OK;
}

LUN_RULE(conv2d_transpose)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    LUN_TRY(lun_rule_operand(op, 1, "weight", LUN_F32, LUN_FILTER));
    const lun_shape x = op->src[0].shape, k = op->src[1].shape;
    const lun_conv_attrs *a = &op->attrs.conv;
    LUN_TRY(check_window(op, k.h, k.w));
    if (k.n != x.c)
        return lun_rule_fail(op, "the weight wants %" PRId64 " channels, src has %" PRId64, k.n, x.c);
    if (op->nsrc > 2)
        LUN_TRY(lun_rule_vector(op, 2, "bias", k.c));
    if (a->out_h < 1 || a->out_w < 1)
        return lun_rule_fail(op, "out size %dx%d must be at least 1", a->out_h, a->out_w);
    LUN_TRY(check_room(op, a->out_h, a->out_w));
    LUN_TRY(check_sizes(op, a->out_h, a->out_w, k.h, k.w, x.h, x.w));
    op->dst[0] = lun_image(x.n, k.c, a->out_h, a->out_w);
    add_stats(op);
    return LUN_OK;
}

LUN_RULE(conv2d_wgrad)
{
    LUN_TRY(lun_rule_operand(op, 0, "big", LUN_F32, LUN_IMAGE));
    LUN_TRY(lun_rule_operand(op, 1, "small", LUN_F32, LUN_IMAGE));
    const lun_shape big = op->src[0].shape, small = op->src[1].shape;
    const lun_conv_attrs *a = &op->attrs.conv;
    if (a->relu || a->stats)
        return lun_rule_fail(op, "a gradient is not clamped and has no statistics");
    LUN_TRY(check_window(op, a->kernel_h, a->kernel_w));
    LUN_TRY(check_room(op, big.h, big.w));
    if (big.n != small.n)
        return lun_rule_fail(op, "batches of %" PRId64 " and %" PRId64, big.n, small.n);
    LUN_TRY(check_sizes(op, big.h, big.w, a->kernel_h, a->kernel_w, small.h, small.w));
    op->dst[0] = lun_filter(small.c, big.c, a->kernel_h, a->kernel_w);
    return LUN_OK;
}

/* The gradient that reaches what relu, if there is one, has clamped. */
static lun_value before_relu(lun_backward *b)
{
    const lun_value src[] = {b->dst[0], b->ddst[0]};
    return b->op->attrs.conv.relu ? b->emit(b, LUN_OP_RELU_BACKWARD, NULL, src, 2) : b->ddst[0];
}

static void give_wgrad(lun_backward *b, lun_value big, lun_value small)
{
    const lun_op *op = b->op;
    lun_attrs attrs = {.conv = op->attrs.conv};
    attrs.conv.kernel_h = (int)op->src[1].shape.h;
    attrs.conv.kernel_w = (int)op->src[1].shape.w;
    attrs.conv.out_h = attrs.conv.out_w = 0;
    attrs.conv.relu = attrs.conv.stats = false;
    b->give(b, 1, b->emit(b, LUN_OP_CONV2D_WGRAD, &attrs, (lun_value[]){big, small}, 2));
}

static void give_bias(lun_backward *b, lun_value ddst)
{
    if (b->op->nsrc > 2 && b->wants[2])
        b->give(b, 2, b->emit(b, LUN_OP_CHANNEL_SUM, NULL, &ddst, 1));
}

/* dsrc = conv2d_transpose(ddst, weight), dweight = conv2d_wgrad(src, ddst), dbias = channel_sum(ddst). */
LUN_GRADIENT(conv2d)
{
    const lun_op *op = b->op;
    const lun_value ddst = before_relu(b);
    if (b->wants[0]) {
        lun_attrs attrs = {.conv = op->attrs.conv};
        attrs.conv.out_h = (int)op->src[0].shape.h;
        attrs.conv.out_w = (int)op->src[0].shape.w;
        attrs.conv.relu = attrs.conv.stats = false;
        const lun_value src[] = {ddst, b->src[1]};
        b->give(b, 0, b->emit(b, LUN_OP_CONV2D_TRANSPOSE, &attrs, src, 2));
    }
    if (b->wants[1])
        give_wgrad(b, b->src[0], ddst);
    give_bias(b, ddst);
}

/* dsrc = conv2d(ddst, weight), dweight = conv2d_wgrad(ddst, src), dbias = channel_sum(ddst). */
LUN_GRADIENT(conv2d_transpose)
{
    const lun_value ddst = before_relu(b);
    if (b->wants[0]) {
        lun_attrs attrs = {.conv = b->op->attrs.conv};
        attrs.conv.out_h = attrs.conv.out_w = 0;
        attrs.conv.relu = attrs.conv.stats = false;
        const lun_value src[] = {ddst, b->src[1]};
        b->give(b, 0, b->emit(b, LUN_OP_CONV2D, &attrs, src, 2));
    }
    if (b->wants[1])
        give_wgrad(b, ddst, b->src[0]);
    give_bias(b, ddst);
}
