/* The ops: kinds, attributes, shapes and gradients. Private.
 *
 * One table entry an op (op.c). Everything about an op is found by its name: src/op/NAME.c has the formula, the shape
 * rule and the gradient; src/lower/NAME.c says which kernels compute it; cl/NAME.cl (or cl/cpu/, cl/gpu/) are the
 * kernels; tests/opcheck/NAME.c has the float64 reference and the cases. Small ops of one family share a file.
 *
 * Operands. Shapes are (N, C, H, W); a vector over channels is (1, C, 1, 1); [x] is optional (absent: nsrc smaller).
 *
 *   conv2d             src (N,C,H,W), weight (K,C,R,S), [bias K]      -> dst (N,K,Ho,Wo), [stats (2,K,1,1)] .conv
 *   conv2d_transpose   src (N,K,Ho,Wo), weight (K,C,R,S), [bias C]    -> dst (N,C,H,W), [stats (2,C,1,1)]   .conv,
 *                                                                                                 out_h/out_w
 *   conv2d_wgrad       big (N,C,H,W), small (N,K,Ho,Wo)               -> dweight (K,C,R,S)        .conv, kernel_h/_w
 *   channel_sum        src (N,C,H,W)                                  -> dst (1,C,1,1)
 *   spatial_sum        src (N,C,H,W)                                  -> dst (N,C,1,1)
 *   batch_norm         src, gamma C, beta C, running_mean C, running_var C, [shift (N,C,1,1)], [stats (2,C,1,1)]
 *                                                                     -> dst, mean C, rstd C,
 *                      [running_mean, running_var in place]                                       .norm
 *   batch_norm_backward src, ddst, gamma C, mean C, rstd C            -> dsrc, dgamma C, dbeta C, [dbias C],
 *                      [dshift (N,C,1,1)]                                                         .norm
 *   group_norm         src, gamma C, beta C, [emb (N,2C,1,1)]         -> dst, mean (N,G,1,1), rstd (N,G,1,1)  .group
 *   group_norm_backward src, ddst, gamma C, beta C, mean, rstd, [emb], [acc] -> dsrc, dgamma C, dbeta C,
 *                      [demb], [dbias C], [dsum (N,C,1,1)]                                        .group
 *   scale_shift        src (N,C,H,W), emb (N,2C,1,1)                  -> dst = src (1 + emb[:, :C]) + emb[:, C:]
 *   scale_shift_backward src, ddst, emb                               -> dsrc, demb
 *   silu, gelu         src                                            -> dst
 *   silu_backward, gelu_backward src, ddst                            -> dsrc
 *   dropout            src (N,C,H,W), rows (N,8,1,1) u32              -> dst                      .dropout
 *   relu               src                                            -> dst
 *   relu_backward      dst (relu's result), ddst                      -> dsrc
 *   add                a, b (one shape)                               -> dst
 *   add_channel        src (N,C,H,W), bias (N,C,1,1)                  -> dst (N,C,H,W)
 *   concat             a (N,Ca,H,W), b (N,Cb,H,W)                     -> dst (N,Ca+Cb,H,W)
 *   slice              src (N,C,H,W)                                  -> dst (N,count,H,W)        .slice
 *   embed              index (N,1,1,1) i32, table (T,D,1,1)           -> dst (N,D,1,1); indices are clamped to 0..T-1
 *   noise              x0 (N,C,H,W), eps (N,C,H,W), t (N,1,1,1) i32, table (T,2,1,1) -> dst = table[t][0] x0 +
 *                                                                     table[t][1] eps
 *   loss               pred, target                                   -> dst (1,1,1,1), mean over all elements   .loss
 *   loss_backward      pred, target, dloss (1,1,1,1)                  -> dpred                    .loss
 *   adam               param, grad, m, v (one shape), hyper (1,4,1,1), [weights (1,4,1,1), average (like param)],
 *                      [scale (1,1,1,1)] -> param, m, v, [average] in place; the average as ema moves its first
 *                                                                                                 .adam
 *   accumulate         sum, grad (one shape), first (1,1,1,1) i32     -> sum in place: grad where first is not 0, else
 *                                                                     sum + grad
 *   sum_squares        src, parts (1,P,1,1)                           -> parts in place: parts[slot] = sum of src^2
 *                                                                                                 .squares
 *   clip_norm          parts (1,P,1,1)                                -> scale (1,1,1,1), norm (1,1,1,1)
 *                                                                                                 .clip
 *   ema                param, weights (1,4,1,1), average 1, [.. average 4] (all like param) -> averages in place:
 *                                                                     a_r += weights[r] (param - a_r)
 *   loss_seed          loss (1,1,1,1)                                 -> dst (1,1,1,1): weight, NaN where the loss is
 *                                                                     not finite                .seed
 *   health             parts (1,P,1,1), state (1,1,1,1), slot (1,1,1,1) i32, hyper (1,4,1,1), [weights (1,4,1,1)]
 *                                                                     -> state in place, hyper (1,4,1,1), norm
 *                                                                     (1,1,1,1), [weights (1,4,1,1)]
 *   settle             value, safe (one shape), hyper (1,4,1,1)       -> value, safe in place: value = safe where
 *                                                                     hyper[3] is 1, else safe = value
 *   randint            rows (N,8,1,1) u32                             -> dst (N,C,H,W) i32        .random
 *   randn              rows (N,8,1,1) u32                             -> dst (N,C,H,W)            .random
 *   sample_step        x, eps (N,C,H,W) or (N,2C,H,W), z, coef (1,8,1,1) -> dst                   .sample
 *   store              ring (1,R,1,1), value (1,1,1,1), slot (1,1,1,1) i32 -> ring in place: ring[slot] = value,
 *                                                                     nothing if the slot is outside
 *   embed_backward     index (N,1,1,1) i32, ddst (N,D,1,1)            -> dtable (rows,D,1,1)      .embed
 *   upsample2          src (N,C,H,W)                                  -> dst (N,C,2H,2W)          .resample
 *   pool2              src (N,C,2H,2W)                                -> dst (N,C,H,W)            .resample
 *   upsample2_filter   weight (K,C,R,S)                               -> dst (C,K,R+1,S+1)
 *   pool2_filter       src (C,K,R+1,S+1)                              -> dst (K,C,R,S)
 *   attention          qkv (N,3C,H,W)                                 -> dst (N,C,H,W), lse (N,heads,H,W) .attention
 *   attention_backward qkv, dst (N,C,H,W), ddst (N,C,H,W), lse (N,heads,H,W) -> dqkv (N,3C,H,W)   .attention
 *   loss_each          pred (N,K,H,W), target (N,C,H,W), C <= K, [weight (N,1,1,1)] -> dst (N,1,1,1) .loss
 *   loss_each_backward pred, target, deach (N,1,1,1), [weight (N,1,1,1)] -> dpred (N,K,H,W)       .loss
 *   weighted_mean      values (N,1,1,1), weights (N,1,1,1)            -> dst (1,1,1,1)
 *   weighted_mean_backward weights (N,1,1,1), dmean (1,1,1,1)         -> dvalues (N,1,1,1)
 *   variational        pred (N,2C,H,W), x0, xt (N,C,H,W), t (N,1,1,1) i32, table (T,8,1,1)
 *                                                                     -> dst (N,1,1,1)            .variational
 *   variational_backward the same five, deach (N,1,1,1)               -> dpred (N,2C,H,W)         .variational
 *   guide              src (2N,K,H,W), scale (1,1,1,1)                -> dst (2N,K,H,W)           .guide
 *
 * Pitch. An operand may be some neighbouring channels of a wider image: its pixels then lie further apart than they are
 * long, and what lies between them belongs to somebody else. Which operands of a kind may, the table says
 * (lun_op_info.pitched_src, pitched_dst), and that holds for all candidates on all devices. What an op computes does
 * not depend on it. src/graph/views.c makes such ops.
 */
#ifndef LUN_OP_H
#define LUN_OP_H

#include <stdbool.h>

#include <lunette/tensor.h>

#define LUN_OP_KINDS(X)                                                                                                \
    X(CONV2D, conv2d)                                                                                                  \
    X(CONV2D_TRANSPOSE, conv2d_transpose)                                                                              \
    X(CONV2D_WGRAD, conv2d_wgrad)                                                                                      \
    X(CHANNEL_SUM, channel_sum)                                                                                        \
    X(SPATIAL_SUM, spatial_sum)                                                                                        \
    X(BATCH_NORM, batch_norm)                                                                                          \
    X(BATCH_NORM_BACKWARD, batch_norm_backward)                                                                        \
    X(RELU, relu)                                                                                                      \
    X(RELU_BACKWARD, relu_backward)                                                                                    \
    X(ADD, add)                                                                                                        \
    X(ADD_CHANNEL, add_channel)                                                                                        \
    X(CONCAT, concat)                                                                                                  \
    X(SLICE, slice)                                                                                                    \
    X(EMBED, embed)                                                                                                    \
    X(NOISE, noise)                                                                                                    \
    X(LOSS, loss)                                                                                                      \
    X(LOSS_BACKWARD, loss_backward)                                                                                    \
    X(ADAM, adam)                                                                                                      \
    X(RANDINT, randint)                                                                                                \
    X(RANDN, randn)                                                                                                    \
    X(SAMPLE_STEP, sample_step)                                                                                        \
    X(STORE, store)                                                                                                    \
    X(GROUP_NORM, group_norm)                                                                                          \
    X(GROUP_NORM_BACKWARD, group_norm_backward)                                                                        \
    X(SCALE_SHIFT, scale_shift)                                                                                        \
    X(SCALE_SHIFT_BACKWARD, scale_shift_backward)                                                                      \
    X(SILU, silu)                                                                                                      \
    X(SILU_BACKWARD, silu_backward)                                                                                    \
    X(GELU, gelu)                                                                                                      \
    X(GELU_BACKWARD, gelu_backward)                                                                                    \
    X(DROPOUT, dropout)                                                                                                \
    X(EMBED_BACKWARD, embed_backward)                                                                                  \
    X(UPSAMPLE2, upsample2)                                                                                            \
    X(POOL2, pool2)                                                                                                    \
    X(ATTENTION, attention)                                                                                            \
    X(ATTENTION_BACKWARD, attention_backward)                                                                          \
    X(LOSS_EACH, loss_each)                                                                                            \
    X(LOSS_EACH_BACKWARD, loss_each_backward)                                                                          \
    X(WEIGHTED_MEAN, weighted_mean)                                                                                    \
    X(WEIGHTED_MEAN_BACKWARD, weighted_mean_backward)                                                                  \
    X(VARIATIONAL, variational)                                                                                        \
    X(VARIATIONAL_BACKWARD, variational_backward)                                                                      \
    X(GUIDE, guide)                                                                                                    \
    X(ACCUMULATE, accumulate)                                                                                          \
    X(SUM_SQUARES, sum_squares)                                                                                        \
    X(CLIP_NORM, clip_norm)                                                                                            \
    X(EMA, ema)                                                                                                        \
    X(LOSS_SEED, loss_seed)                                                                                            \
    X(HEALTH, health)                                                                                                  \
    X(SETTLE, settle)                                                                                                  \
    X(UPSAMPLE2_FILTER, upsample2_filter)                                                                              \
    X(POOL2_FILTER, pool2_filter)

typedef enum lun_op_kind {
#define X(KIND, name) LUN_OP_##KIND,
    LUN_OP_KINDS(X)
#undef X
        LUN_OP_KIND_COUNT
} lun_op_kind;

typedef enum lun_loss_kind { LUN_LOSS_L1, LUN_LOSS_L2, LUN_LOSS_HUBER } lun_loss_kind;
typedef enum lun_clip { LUN_CLIP_NONE, LUN_CLIP_X0, LUN_CLIP_XT } lun_clip;

/* conv2d: Ho = (H + 2 pad_h + more_h - R) / stride_h + 1, rounded down; dst[ho] gathers src[ho stride - pad + r].
 * So pad_h, pad_w are the padding above and on the left; below it is pad_h + more_h, on the right pad_w + more_w, which
 * may be less. conv2d_transpose is its data gradient, so it scatters by the same rule; out_h, out_w are the size of its
 * result, which must be one that conv2d maps to the source's size. */
typedef struct lun_conv_attrs {
    int stride_h, stride_w, pad_h, pad_w;
    int more_h, more_w;     /* mostly 0 */
    int kernel_h, kernel_w; /* conv2d_wgrad only: R, S */
    int out_h, out_w;       /* conv2d_transpose only */
    /* conv2d, conv2d_transpose; set by src/graph/fuse.c.
     * relu: negative results become 0 (NaN stays);
     * stats: a second destination holds, of dst after relu, each channel's mean over n, h, w, and then each channel's
     * biased variance. */
    bool relu, stats;
} lun_conv_attrs;

/* training: statistics of the batch, with the biased variance for normalising; otherwise the running ones.
 * update: also running = (1 - momentum) running + momentum batch, with the unbiased variance (PyTorch's rule);
 * needs training, and more than one value a channel. Without update there are three destinations.
 * rstd = 1 / sqrt(var + eps), mean and var being those used for normalising. shift is added to dst.
 *
 * What src/graph/fuse.c makes of ops around it:
 * bare (batch_norm, evaluation mode): dst is the only destination;
 * given (batch_norm, training): the statistics of src, as a convolution's .stats leaves them, are the last source;
 * relu (batch_norm_backward): src is relu's result, and dsrc is 0 where src <= 0: relu's gradient;
 * dbias (batch_norm_backward): the sum of dsrc over n, h, w is a destination;
 * dshift (batch_norm_backward): the sum of ddst over h, w is a destination. */
typedef struct lun_norm_attrs {
    float eps, momentum;
    bool training, update, bare, given, relu, dbias, dshift;
} lun_norm_attrs;

/* group_norm and its gradient. `groups` divides C.
 *
 * What src/graph/fuse.c makes of ops around it: emb, a scale and a shift of the result;
 * silu: the result, after that, goes through SiLU;
 * add (group_norm_backward): acc is added to dsrc;
 * dbias, dsum (group_norm_backward): the sums of dsrc, without acc, over n, h, w and over h, w are destinations. */
typedef struct lun_group_attrs {
    float eps;
    int groups;
    bool silu, add, dbias, dsum;
} lun_group_attrs;

/* An element is dropped with probability p, 0 <= p < 1, by its draw (lun_random_attrs says which); the others are
 * divided by 1 - p. stream, below 2^24, is added to the row's sub, so that several ops can share rows. */
typedef struct lun_dropout_attrs {
    float p;
    uint32_t stream;
} lun_dropout_attrs;

typedef struct lun_slice_attrs {
    int first, count; /* channels */
} lun_slice_attrs;

/* d = pred - target; L1 |d|, L2 d^2, Huber d^2/2 if |d| <= delta else delta (|d| - delta/2). The gradient of |d| at 0
 * is 0. */
typedef struct lun_loss_attrs {
    lun_loss_kind kind;
    float delta;
} lun_loss_attrs;

/* PyTorch's Adam and AdamW. hyper = { lr, 1 - beta1^step, sqrt(1 - beta2^step), skip }, computed on the host in double.
 * Where skip is 1 nothing changes.
 * decoupled: p -= lr wd p first (AdamW); otherwise g += wd p. m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
 * p -= (lr / hyper[1]) m / (sqrt(v) / hyper[2] + eps). With a scale, g is scale * grad to begin with. */
typedef struct lun_adam_attrs {
    double beta1, beta2, eps, weight_decay; /* double: 1 - beta2 of a float is off by 1e-5 */
    bool decoupled;
} lun_adam_attrs;

/* sum_squares: which of the parts is written; the others stay. */
typedef struct lun_squares_attrs {
    int slot;
} lun_squares_attrs;

/* clip_norm: norm = sqrt(sum of parts); scale = min(1, limit / (norm + 1e-6)), PyTorch's clip_grad_norm_. */
typedef struct lun_clip_attrs {
    float limit;
} lun_clip_attrs;

/* loss_seed: where the backward pass starts. A loss that is not finite makes the whole gradient so, and health sees it
 * there. */
typedef struct lun_seed_attrs {
    float weight;
} lun_seed_attrs;

/* health: may this step change anything? norm = sqrt(sum of parts). Where that is not finite and state is 0, state
 * becomes slot + 1. While state is not 0 hyper's result has 1 as its last and the weights' is 0; otherwise both are
 * what the sources are. The state stays up until the host writes it, so no later step changes anything either. */

/* Element e = (c H + h) W + w of sample n draws from counter block e / 4 of row n (base/philox.h), so the numbers do
 * not depend on storage order. randint: high word of draw e times bound. randn: see cl/random.cl. */
typedef struct lun_random_attrs {
    uint32_t bound; /* randint only, at least 1 */
    int c, h, w;    /* of dst; N is that of the rows */
} lun_random_attrs;

/* coef = {A, B, C, D, E, S, L, M}: x0 = A x + B eps, clamped to [-1, 1] with LUN_CLIP_X0;
 * dst = C x0 + D x + E eps + S z, clamped to [-1, 1] with LUN_CLIP_XT. Where eps has 2C channels its first C are meant.
 * learned: eps has 2C channels, and z is multiplied by exp(L + M v), v being the second C, too; otherwise L and M are
 * not read. */
typedef struct lun_sample_attrs {
    lun_clip clip;
    bool learned;
} lun_sample_attrs;

typedef struct lun_embed_attrs {
    int rows; /* of the table; embed_backward only */
} lun_embed_attrs;

/* upsample2 repeats each pixel in 2 x 2, pool2 adds each 2 x 2 to one; mean: times 1/4. So each is the other's gradient
 * with the same attributes. */
typedef struct lun_resample_attrs {
    bool mean;
} lun_resample_attrs;

/* Softmax attention over the pixels of each image, in each head for itself: dst_i = sum over j of p_ij v_j,
 * p_ij = exp(s_ij - lse_i), s_ij = (q_i, k_j) / sqrt(C / heads), lse_i = ln sum over j of exp(s_ij).
 * Channels of qkv: head by head, each q, k, v; with split q of all heads, then k of all, then v of all. */
typedef struct lun_attention_attrs {
    int heads; /* divides C */
    bool split;
} lun_attention_attrs;

/* src/op/objective.c has the formula. scale: factor of the result. */
typedef struct lun_variational_attrs {
    float scale;
} lun_variational_attrs;

/* dst[n] and dst[n + N] = u + scale (c - u) with c = src[n], u = src[n + N] in the first `channels` channels, and c in
 * the others. */
typedef struct lun_guide_attrs {
    int channels;
} lun_guide_attrs;

typedef union lun_attrs {
    lun_conv_attrs conv;
    lun_norm_attrs norm;
    lun_group_attrs group;
    lun_dropout_attrs dropout;
    lun_slice_attrs slice;
    lun_loss_attrs loss;
    lun_adam_attrs adam;
    lun_random_attrs random;
    lun_sample_attrs sample;
    lun_embed_attrs embed;
    lun_resample_attrs resample;
    lun_attention_attrs attention;
    lun_variational_attrs variational;
    lun_guide_attrs guide;
    lun_squares_attrs squares;
    lun_clip_attrs clip;
    lun_seed_attrs seed;
} lun_attrs;

#define LUN_OP_MAX_EMA 4 /* averages of one ema */

#define LUN_OP_MAX_SRC 8
#define LUN_OP_MAX_DST 6

/* An op with all its shapes: what a device plans. Plain data, freely copied. */
typedef struct lun_op {
    lun_op_kind kind;
    lun_attrs attrs;
    int nsrc, ndst;
    lun_desc src[LUN_OP_MAX_SRC], dst[LUN_OP_MAX_DST];
    /* Floats from one pixel of the operand to the next, at least its channels; 0: as many as it has channels. */
    int src_pitch[LUN_OP_MAX_SRC], dst_pitch[LUN_OP_MAX_DST];
} lun_op;

/* Whether a batch_norm adds something to each sample's channels: source 5. */
static inline bool lun_norm_is_shifted(const lun_op *op)
{
    return op->nsrc - op->attrs.norm.given > 5;
}

/* Which source of an adam is its scale; -1: it has none. */
static inline int lun_adam_scale(const lun_op *op)
{
    return op->nsrc % 2 == 0 ? op->nsrc - 1 : -1;
}

/* The pitch of an image, never 0. */
static inline int lun_src_pitch(const lun_op *op, int s)
{
    return op->src_pitch[s] ? op->src_pitch[s] : (int)op->src[s].shape.c;
}
static inline int lun_dst_pitch(const lun_op *op, int d)
{
    return op->dst_pitch[d] ? op->dst_pitch[d] : (int)op->dst[d].shape.c;
}
/* Bytes from an operand's first element to behind its last, with what lies between its pixels. */
static inline size_t lun_span(lun_desc desc, int pitch)
{
    const lun_shape s = desc.shape;
    return pitch ? (size_t)((s.n * s.h * s.w - 1) * pitch + s.c) * 4 : lun_bytes(desc);
}
static inline size_t lun_src_span(const lun_op *op, int s)
{
    return lun_span(op->src[s], op->src_pitch[s]);
}
static inline size_t lun_dst_span(const lun_op *op, int d)
{
    return lun_span(op->dst[d], op->dst_pitch[d]);
}

/* As in lunette/graph.h; -1 is none. */
typedef int lun_value;

/* The gradient of one recorded node: whoever differentiates (src/graph/backward.c) embeds this, fills it in, and calls
 * the rule of src/op/. Values are the graph's tensor numbers. A rule gives a gradient to each source that wants one, by
 * emitting ordinary nodes. */
typedef struct lun_backward lun_backward;
struct lun_backward {
    const lun_op *op;
    lun_value src[LUN_OP_MAX_SRC], dst[LUN_OP_MAX_DST];
    lun_value ddst[LUN_OP_MAX_DST]; /* the gradient that has reached each destination; -1 if none did, but never for the
                                       first */
    bool wants[LUN_OP_MAX_SRC];
    /* Record a node; returns its destination 0 (further ones follow as +1, +2, ...), or -1 with the status kept by the
     * caller. */
    lun_value (*emit)(lun_backward *b, lun_op_kind kind, const lun_attrs *attrs, const lun_value *src, int nsrc);
    /* Add `gradient` to what source `src_index` has received so far. */
    void (*give)(lun_backward *b, int src_index, lun_value gradient);
};

typedef struct lun_op_info {
    const char *name;
    int min_src, max_src, ndst;
    /* Check sources and attributes, set op->ndst and op->dst. LUN_ERR_USAGE with a reason otherwise. */
    lun_status (*shape)(lun_op *op);
    /* Record the gradient; NULL: the op has none (its sources get no gradient). */
    void (*backward)(lun_backward *b);
    /* alias[d] = s + 1: destination d is source s, updated in place (always). 0: a tensor of its own. */
    unsigned char alias[LUN_OP_MAX_DST];
    /* bit s: destination 0 may share storage with source s if nothing reads that source later; the kernels then may not
     * declare the two restrict against each other. */
    unsigned inplace;
    /* bit s (d): source s (destination d) may have a pitch. Two operands in one place have the same. */
    unsigned pitched_src, pitched_dst;
} lun_op_info;

/* Never NULL for a valid kind. */
const lun_op_info *lun_op_info_of(lun_op_kind kind);
/* Arity, descriptors, pitches and shape rule: fills op->dst, leaves the pitches. */
lun_status lun_op_infer(lun_op *op);
/* One line, for messages: "conv2d 16x64x64x64 (128,64,3,3) s1x1 p1x1". It tells ops apart that a device may compute
 * differently: where a source has a pitch, "16x64x64x64/128"; a destination, "into /256" at the end. */
void lun_op_describe(const lun_op *op, char *text, size_t size);

#endif
