/* Graphs: record ops, differentiate, compile for a device, run many times.
 *
 * A graph is recorded once with fixed shapes. Recording never computes. A recording function returns a lun_value (a
 * tensor number of that graph); if anything is wrong it returns -1, the graph keeps the first error, later recording
 * calls on it do nothing, and lun_graph_check or lun_graph_compile returns that error. So a model is written without a
 * check after every line.
 *
 * Parameters live in a store of their own, by name, so that several graphs (a training step, a sampling step) share
 * them. A compiled plan holds the memory and the prepared ops; running it allocates nothing and waits for nobody.
 *
 * None of these objects may be used by two threads at once. Destroy plans before their graph, graphs before their
 * store, the store before its device.
 */
#ifndef LUNETTE_GRAPH_H
#define LUNETTE_GRAPH_H

#include "device.h"
#include "tensor.h"
#include "tune.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lun_graph lun_graph;
typedef struct lun_store lun_store;
typedef struct lun_plan lun_plan;
typedef int lun_value;

/* ---- The store: named parameters with their gradients and optimiser state
 * -------------------------------------------- */

typedef enum lun_role {
    LUN_ROLE_PARAM, /* trained */
    LUN_ROLE_BUFFER /* kept with the model but not trained: running statistics */
} lun_role;

#define LUN_MAX_EMA 4 /* moving averages of a store */
typedef enum lun_slot {
    LUN_SLOT_VALUE,
    LUN_SLOT_GRAD,
    LUN_SLOT_M,
    LUN_SLOT_V,
    LUN_SLOT_SUM,  /* gradients of several runs: lun_graph_accumulate */
    LUN_SLOT_SAFE, /* of what is not trained: its value as the last sound step left it: lun_graph_settle */
    LUN_SLOT_EMA,  /* moving average 0: lun_graph_ema; number r is LUN_SLOT_EMA + r */
    LUN_SLOT_LAST = LUN_SLOT_EMA + LUN_MAX_EMA - 1
} lun_slot;

/* How a parameter starts. LUN_INIT_UNIFORM: uniform in +-bound; LUN_INIT_NORMAL: normal, with `bound` the standard
 * deviation. Drawn from Philox keyed by (seed, init, parameter number). */
typedef enum lun_init_kind { LUN_INIT_ZERO, LUN_INIT_ONE, LUN_INIT_UNIFORM, LUN_INIT_NORMAL } lun_init_kind;
typedef struct lun_init {
    lun_init_kind kind;
    float bound;
} lun_init;

typedef struct lun_param_info {
    const char *name; /* PyTorch's dotted name; owned by the store */
    lun_desc desc;
    int rank; /* of the tensor in a file: 1 (C), 2 (K, C), 4 (K, C, R, S) */
    lun_role role;
    lun_init init;
} lun_param_info;

LUN_API lun_status lun_store_create(lun_store **out);
LUN_API void lun_store_destroy(lun_store **store);
LUN_API size_t lun_store_count(const lun_store *store);
LUN_API const lun_param_info *lun_store_info(const lun_store *store, size_t index);
/* The parameter's number, or -1. */
LUN_API int lun_store_find(const lun_store *store, const char *name);
/* Elements of all LUN_ROLE_PARAM entries. */
LUN_API uint64_t lun_store_param_elements(const lun_store *store);

/* Give the store its memory on a device: values and, when `training`, gradients (zero) and Adam's two moments (zero),
 * and of the further slots those that a graph has been recorded with (zero). After this no parameter and no slot can be
 * added. Values start as lun_store_init leaves them: zero until then. */
LUN_API lun_status lun_store_allocate(lun_store *store, lun_device *dev, int training);
/* Set every value to its initial one. A draw depends on the seed and the parameter's number only, not on the device. */
LUN_API lun_status lun_store_init(lun_store *store, uint64_t seed);
/* Copy one tensor from or to the host, in API order (N C H W, K C R S), count(desc) floats. Waits for the device. */
LUN_API lun_status lun_store_read(lun_store *store, size_t index, lun_slot slot, float *dst);
LUN_API lun_status lun_store_write(lun_store *store, size_t index, lun_slot slot, const float *src);
/* Make slot `dst` of every trained parameter what slot `src` is, on the device. Does not wait. */
LUN_API lun_status lun_store_copy(lun_store *store, lun_slot dst, lun_slot src);
/* Set slot `slot` of every trained parameter to zero, on the device. Does not wait. */
LUN_API lun_status lun_store_clear(lun_store *store, lun_slot slot);
/* Make slot LUN_SLOT_SAFE of everything that is not trained what its value is; nothing where the store has no such
 * slot. */
LUN_API lun_status lun_store_keep_safe(lun_store *store);
/* Bytes held on the device by one slot over all parameters; 0 for one that the store does not have. */
LUN_API size_t lun_store_bytes(const lun_store *store, lun_slot slot);

/* ---- Recording
 * --------------------------------------------------------------------------------------------------------- */

/* `store` may be NULL for graphs without parameters; it is borrowed. */
LUN_API lun_status lun_graph_create(lun_store *store, lun_graph **out);
LUN_API void lun_graph_destroy(lun_graph **graph);
/* The first recording error, or LUN_OK; its detail is recorded again. */
LUN_API lun_status lun_graph_check(const lun_graph *graph);
LUN_API lun_desc lun_graph_desc(const lun_graph *graph, lun_value value);

/* Written by the host before a run (lun_plan_write). */
LUN_API lun_value lun_graph_input(lun_graph *graph, const char *name, lun_desc desc);
/* Fixed contents, in API order; copied. */
LUN_API lun_value lun_graph_constant(lun_graph *graph, const char *name, lun_desc desc, const void *data);
/* Memory that starts as zero and lives from run to run: a ring of losses. */
LUN_API lun_value lun_graph_state(lun_graph *graph, const char *name, lun_desc desc);
/* The store's parameter of that name, added if new; desc, rank and role must agree with what is there. */
LUN_API lun_value lun_graph_param(lun_graph *graph, const char *name, lun_desc desc, int rank, lun_role role,
                                  lun_init init);
/* Keep a value readable after the run (lun_plan_read). */
LUN_API void lun_graph_output(lun_graph *graph, lun_value value);

/* conv: dst[k, ho, wo] = bias[k] + sum over c, r, s of src[c, ho stride - pad + r, wo stride - pad + s] weight[k, c, r,
 * s]. bias may be -1. */
LUN_API lun_value lun_conv2d(lun_graph *graph, lun_value src, lun_value weight, lun_value bias, int stride, int pad);
/* The same with a padding of its own on each side, as (0, 1, 0, 1) for networks that halve an even size exactly. */
LUN_API lun_value lun_conv2d_padded(lun_graph *graph, lun_value src, lun_value weight, lun_value bias, int stride,
                                    int pad_top, int pad_left, int pad_bottom, int pad_right);
/* PyTorch's ConvTranspose2d: src (N, K, H, W), weight (K, C, R, S) (that is: in, out, R, S), bias C. The result is
 * (N, C, (H - 1) stride - 2 pad + R + output_pad, ...). */
LUN_API lun_value lun_conv2d_transpose(lun_graph *graph, lun_value src, lun_value weight, lun_value bias, int stride,
                                       int pad, int output_pad);
/* lun_conv2d of lun_upsample2(src) with stride 1, without making that: src (N, C, H, W), weight (K, C, R, R), bias K or
 * -1, pad below R. Pixels that the nearest neighbours would repeat are multiplied once, by sums of the filter's taps:
 * 16 products for 36 with R = 3. */
LUN_API lun_value lun_conv2d_upsampled(lun_graph *graph, lun_value src, lun_value weight, lun_value bias, int pad);
/* src (N, C, 1, 1), weight (K, C, 1, 1), bias K or -1: (N, K, 1, 1). */
LUN_API lun_value lun_linear(lun_graph *graph, lun_value src, lun_value weight, lun_value bias);
/* Batch norm over N, H, W for each channel. training: batch statistics (biased variance), and with `update` the running
 * ones become (1 - momentum) old + momentum batch (unbiased variance). Otherwise the running statistics are used. */
LUN_API lun_value lun_batch_norm(lun_graph *graph, lun_value src, lun_value gamma, lun_value beta,
                                 lun_value running_mean, lun_value running_var, float eps, float momentum, int training,
                                 int update);
/* Group norm: statistics (biased variance) of each sample's groups, each of C / groups channels side by side; gamma and
 * beta C. */
LUN_API lun_value lun_group_norm(lun_graph *graph, lun_value src, lun_value gamma, lun_value beta, int groups,
                                 float eps);
/* src sigmoid(src); src Phi(src), Phi the normal distribution function (the form with erf). */
LUN_API lun_value lun_silu(lun_graph *graph, lun_value src);
LUN_API lun_value lun_gelu(lun_graph *graph, lun_value src);
/* src (N, C, H, W), emb (N, 2C, 1, 1): src (1 + emb[:, :C]) + emb[:, C:]. */
LUN_API lun_value lun_scale_shift(lun_graph *graph, lun_value src, lun_value emb);
/* rows (N, 8, 1, 1) u32 as lun_random_row makes them, 0 <= p < 1: elements become 0 with probability p and are divided
 * by 1 - p otherwise; the same ones on every device. The dropouts of one graph may share rows: each draws anew. For
 * training: a network that samples leaves it out. */
LUN_API lun_value lun_dropout(lun_graph *graph, lun_value src, lun_value rows, float p);
LUN_API lun_value lun_relu(lun_graph *graph, lun_value src);
LUN_API lun_value lun_add(lun_graph *graph, lun_value a, lun_value b);
/* src (N, C, H, W) + bias (N, C, 1, 1) */
LUN_API lun_value lun_add_channel(lun_graph *graph, lun_value src, lun_value bias);
LUN_API lun_value lun_concat(lun_graph *graph, lun_value a, lun_value b);
/* Channels first .. first + count - 1. */
LUN_API lun_value lun_slice(lun_graph *graph, lun_value src, int first, int count);
/* Nearest neighbours: (N, C, H, W) to (N, C, 2 H, 2 W). */
LUN_API lun_value lun_upsample2(lun_graph *graph, lun_value src);
/* Means of 2 x 2 pixels: (N, C, H, W) to (N, C, H / 2, W / 2); both sides must be even. */
LUN_API lun_value lun_avg_pool2(lun_graph *graph, lun_value src);
/* How q, k and v lie in the channels of what lun_attention takes: all three of the first head, then of the next (what
 * guided-diffusion calls the legacy order); or q of all heads, k of all, v of all. */
typedef enum lun_qkv_order { LUN_QKV_HEADS, LUN_QKV_SPLIT } lun_qkv_order;
/* Softmax attention over the pixels of each image, in each of `heads` heads for itself: qkv (N, 3 C, H, W) to
 * (N, C, H, W), heads one after the other; heads divides C, and scores are divided by sqrt(C / heads). The memory that
 * it takes is linear in the number of pixels. */
LUN_API lun_value lun_attention(lun_graph *graph, lun_value qkv, int heads, lun_qkv_order order);
/* Rows of a table: index (N, 1, 1, 1) i32, table (T, D, 1, 1): (N, D, 1, 1). Indices outside 0..T-1 are clamped. The
 * table may be a parameter: an embedding of labels is one of rank 2. */
LUN_API lun_value lun_embed(lun_graph *graph, lun_value index, lun_value table);
/* The sinusoidal embedding of integer steps 0..steps-1: [sin(t f_k) | cos(t f_k)], f_k = exp(-k ln(10000) / (dim/2 -
 * 1)). Computed on the host in double into a constant table, so it is the same on every device. t (N, 1, 1, 1) i32; dim
 * even, at least 4. */
LUN_API lun_value lun_time_embed(lun_graph *graph, lun_value t, int steps, int dim);
/* What networks do differently there. All zero but scale 1: [sin | cos] of t exp(-k ln(10000) / (dim / 2)). */
typedef struct lun_time_style {
    int cos_first; /* [cos | sin] */
    int shift;     /* f_k = exp(-k ln(10000) / (dim / 2 - shift)): 0, or 1, with which the last one is 1 / 10000 */
    float scale;   /* of t, before all else; above 0 */
} lun_time_style;
/* lun_time_embed is this with { 0, 1, 1 }. dim even, and above 2 shift. */
LUN_API lun_value lun_time_embed_as(lun_graph *graph, lun_value t, int steps, int dim, lun_time_style style);
/* From here on lun_time_embed's table has a row for each of these times, whole or not, in place of 0..steps-1, and t is
 * a number of that list: a sampler that stops between the steps of the training. Copied; count 0: as before. */
LUN_API void lun_graph_times(lun_graph *graph, const double *times, int count);
/* x_t = table[t][0] x0 + table[t][1] eps; table (T, 2, 1, 1). */
LUN_API lun_value lun_noise(lun_graph *graph, lun_value x0, lun_value eps, lun_value t, lun_value table);
typedef enum lun_loss_type { LUN_L1, LUN_L2, LUN_HUBER } lun_loss_type;
/* Mean over all elements of |d|, d^2 or Huber(d; delta), d = pred - target. (1, 1, 1, 1). Gradient to pred only. */
LUN_API lun_value lun_loss(lun_graph *graph, lun_value pred, lun_value target, lun_loss_type type, float delta);
/* rows (N, 8, 1, 1) u32 as lun_random_row makes them. Integers below `bound`; standard normals. */
LUN_API lun_value lun_randint(lun_graph *graph, lun_value rows, int c, int h, int w, uint32_t bound);
LUN_API lun_value lun_randn(lun_graph *graph, lun_value rows, int c, int h, int w);
typedef enum lun_clip_mode { LUN_CLIP_MODE_NONE, LUN_CLIP_MODE_X0, LUN_CLIP_MODE_XT } lun_clip_mode;
/* One step of a sampler; coef (1, 8, 1, 1) = {A, B, C, D, E, S, L, M}: x0 = A x + B eps [clamped]; result C x0 + D x +
 * E eps + S z [clamped]. eps is shaped like x, or has twice the channels, of which the first half is meant. */
LUN_API lun_value lun_sample_step(lun_graph *graph, lun_value x, lun_value eps, lun_value z, lun_value coef,
                                  lun_clip_mode clip);
/* The same with a variance that the network has learned: z is multiplied by S exp(L + M v), v the second half of eps'
 * channels. */
LUN_API lun_value lun_sample_step_learned(lun_graph *graph, lun_value x, lun_value eps, lun_value z, lun_value coef,
                                          lun_clip_mode clip);
/* dst (N, 1, 1, 1): for each sample the mean of the loss of pred (N, K, H, W) against target (N, C, H, W), C <= K, over
 * the target's channels and H, W; times weight (N, 1, 1, 1) unless that is -1. Gradient to pred only. */
LUN_API lun_value lun_loss_each(lun_graph *graph, lun_value pred, lun_value target, lun_value weight,
                                lun_loss_type type, float delta);
/* Sum of weights values / N of (N, 1, 1, 1) each: (1, 1, 1, 1). Gradient to values only. */
LUN_API lun_value lun_weighted_mean(lun_graph *graph, lun_value values, lun_value weights);
/* What a network that learns the range of its variance is paid for: dst (N, 1, 1, 1), scale times the step's part of
 * the variational bound in bits a dimension (src/op/objective.c). pred (N, 2C, H, W): prediction, then v; x0 and xt (N,
 * C, H, W); t (N, 1, 1, 1) i32; table (T, 8, 1, 1) of lun_schedule_bound_table. Gradient to v only. */
LUN_API lun_value lun_variational(lun_graph *graph, lun_value pred, lun_value x0, lun_value xt, lun_value t,
                                  lun_value table, float scale);
/* Classifier-free guidance: src (2N, K, H, W), the conditional predictions before the unconditional ones; u + scale (c
 * - u) in the first `channels` channels, c in the others, in both halves of the result. scale (1, 1, 1, 1). */
LUN_API lun_value lun_guide(lun_graph *graph, lun_value src, lun_value scale, int channels);
/* ring[slot] = value, in place on a state; ring (1, R, 1, 1), slot (1, 1, 1, 1) i32. */
LUN_API void lun_store_at(lun_graph *graph, lun_value ring, lun_value value, lun_value slot);

/* Append the gradient of the scalar `loss` with respect to every parameter that it reaches; each ends in the store's
 * LUN_SLOT_GRAD (overwritten by a run). Once a graph. A path from a parameter through an op that has no gradient
 * (slice, noise) is an error. */
LUN_API void lun_graph_backward(lun_graph *graph, lun_value loss);
/* The same for `weight` times the loss: 1/K where the gradients of K runs shall sum to that of the mean of their
 * losses. Finite and not 0. */
LUN_API void lun_graph_backward_weighted(lun_graph *graph, lun_value loss, double weight);
/* The same, but where the loss is not finite every gradient becomes NaN, so that lun_graph_health() sees it. */
LUN_API void lun_graph_backward_guarded(lun_graph *graph, lun_value loss, double weight);
/* Append one Adam (decoupled = 0) or AdamW step over all parameters at once, reading LUN_SLOT_GRAD. hyper (1, 4, 1, 1)
 * is an input: { lr, 1 - beta1^step, sqrt(1 - beta2^step), skip }; where skip is 1 nothing changes. */
LUN_API void lun_graph_adam(lun_graph *graph, lun_value hyper, double beta1, double beta2, double eps,
                            double weight_decay, int decoupled);

/* What may surround that step, each over all parameters at once; recorded after the backward pass, or in a graph of its
 * own over the same store.
 *
 * LUN_SLOT_SUM = LUN_SLOT_GRAD where `first` (1, 1, 1, 1) i32 is not 0, LUN_SLOT_SUM + LUN_SLOT_GRAD else: the
 * gradients of several runs are added in the order of the runs. */
LUN_API void lun_graph_accumulate(lun_graph *graph, lun_value first);
/* The L2 norm over all parameters of `gradient` (LUN_SLOT_GRAD or LUN_SLOT_SUM) in *norm, and the factor
 * min(1, max_norm / (norm + 1e-6)) as the result, both (1, 1, 1, 1). Summed in an order that the shapes and the kind of
 * device decide. The gradient itself stays as it is. */
LUN_API lun_value lun_graph_clip(lun_graph *graph, lun_slot gradient, double max_norm, lun_value *norm);
/* lun_graph_adam with `gradient` (LUN_SLOT_GRAD or LUN_SLOT_SUM), times `scale` (1, 1, 1, 1) unless that is -1. */
LUN_API void lun_graph_adam_from(lun_graph *graph, lun_slot gradient, lun_value scale, lun_value hyper, double beta1,
                                 double beta2, double eps, double weight_decay, int decoupled);
/* Moving averages 0 .. count - 1 (1 to LUN_MAX_EMA) of the parameters: average r += weights[r] (value - average r).
 * weights (1, LUN_MAX_EMA, 1, 1), 1 minus the rates of decay; 1 makes the average the value within rounding. They start
 * as zero: see lun_store_copy. What is not trained has no average. A single one, recorded right after a step of Adam,
 * is moved in its pass. */
LUN_API void lun_graph_ema(lun_graph *graph, lun_value weights, int count);

/* The sums of squares over the store's pieces of `gradient` (LUN_SLOT_GRAD or LUN_SLOT_SUM), for the next two. */
LUN_API lun_value lun_graph_squares(lun_graph *graph, lun_slot gradient);
/* lun_graph_clip of the gradient that these are of. */
LUN_API lun_value lun_graph_clip_squares(lun_graph *graph, lun_value squares, double max_norm, lun_value *norm);
/* Steps that are not sound change nothing. `state` is a state (1, 1, 1, 1), 0 at first. Where it is 0 and the norm of
 * the gradient is not finite, it becomes slot + 1, slot (1, 1, 1, 1) i32, and stays so until the host writes it. While
 * it is not 0, *hyper (as lun_graph_adam takes it) becomes one with skip 1, and *weights (as lun_graph_ema takes it,
 * unless weights is NULL) zeros; both are then values that come from here. Returns the norm (1, 1, 1, 1). */
LUN_API lun_value lun_graph_health(lun_graph *graph, lun_value squares, lun_value state, lun_value slot,
                                   lun_value *hyper, lun_value *weights);
/* For what is not trained but changes in a run, running statistics: where `hyper` says skip it becomes again what the
 * last step without left (LUN_SLOT_SAFE; see lun_store_keep_safe for the beginning). */
LUN_API void lun_graph_settle(lun_graph *graph, lun_value hyper);

/* ---- Compiling and running
 * -------------------------------------------------------------------------------------------- */

typedef struct lun_compile_params {
    /* May an op that the device declines run in plain C, with copies around it? It is announced once as a warning. */
    int allow_fallback;
    /* Name the candidate to use for an op, by its description; NULL for the device's choice. May itself be NULL. What
     * lun_plan_op.candidate said can be given back here: an op that fell back is "fallback:NAME". */
    const char *(*pin)(void *payload, const char *op);
    void *payload;
    /* The graph will run many times without its parameters changing: keep what is made of them alone (repacked filters)
     * from run to run, in memory of its own. The results are the same; after a change of the store it is made anew.
     * Without effect in a graph that changes its store, or on a store that trains. */
    int keep;
    /* What stands for the trained parameters' values: LUN_SLOT_VALUE (0), or an average that the store has
     * (LUN_SLOT_EMA + r), for graphs that do not train. */
    lun_slot values;
    /* Choices by measurement, for ops that no pin names; NULL: the device's own. Borrowed as long as what is compiled
     * with it, samplers included. */
    lun_tuning *tuning;
    /* Measure first what `tuning` does not know yet (include/lunette/tune.h), before the plan takes its memory; NULL:
     * never. Not kept. */
    const lun_tune_params *tune;
} lun_compile_params;

/* Plan everything for `dev` (the store's device): memory, kernels, fallback. `params` may be NULL. Blocks while kernels
 * are compiled. Nodes that nothing kept depends on (outputs, states, gradients) do not run; neighbouring ones are
 * merged where nobody reads what lies between (a convolution and the relu after it). LUN_UNSUPPORTED: the device
 * declines an op and fallback is not allowed; LUN_ERR_USAGE: among others, a pinned candidate that cannot be used. */
LUN_API lun_status lun_graph_compile(lun_graph *graph, lun_device *dev, const lun_compile_params *params,
                                     lun_plan **out);
LUN_API void lun_plan_destroy(lun_plan **plan);

/* Set an input or a state, in API order; the data is copied before the call returns. Never waits for earlier runs. */
LUN_API lun_status lun_plan_write(lun_plan *plan, lun_value value, const void *data);
/* Enqueue the whole graph once. */
LUN_API lun_status lun_plan_run(lun_plan *plan);
/* The same op by op, looking at each result: `text` says which value is the first that is not finite, an input, a
 * parameter or the result of an op, "" if none is. Waits after each op. */
LUN_API lun_status lun_plan_trace(lun_plan *plan, char *text, size_t size);
/* Read an output, input, or state, in API order; waits. */
LUN_API lun_status lun_plan_read(lun_plan *plan, lun_value value, void *data);
/* dst = src on the device, without the host in between where the device can; both of one desc, from this plan; dst an
 * input or state. */
LUN_API lun_status lun_plan_copy(lun_plan *plan, lun_value dst, lun_value src);

typedef struct lun_plan_info {
    size_t nodes, launches_fallback;
    size_t saved_bytes,
        temporary_bytes;     /* activations kept for the backward pass; the others; as placed they overlap in time */
    size_t activation_bytes; /* the arena that holds both */
    size_t fixed_bytes;      /* inputs, constants, states, outputs */
    size_t workspace_bytes;
    size_t kept_bytes;   /* made of parameters alone and kept from run to run (lun_compile_params.keep) */
    double flops, bytes; /* of one run, direct method */
} lun_plan_info;
LUN_API lun_plan_info lun_plan_get_info(const lun_plan *plan);

typedef struct lun_plan_op {
    const char *kind, *description, *candidate;
    int fallback;
    double flops, bytes, seconds; /* seconds: only from lun_plan_profile */
} lun_plan_op;
/* Every op in order of execution, with the candidate chosen: what --resume records and pins. */
LUN_API void lun_plan_visit(const lun_plan *plan, void (*visit)(void *payload, const lun_plan_op *op), void *payload);
/* Run the graph `repeats` times op by op, waiting after each, and report each op's median time. */
LUN_API lun_status lun_plan_profile(lun_plan *plan, int repeats, void (*visit)(void *payload, const lun_plan_op *op),
                                    void *payload);

#ifdef __cplusplus
}
#endif
#endif
