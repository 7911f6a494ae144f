#include "graph.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

lun_value lun_graph_keep(lun_graph *graph, lun_status status)
{
    if (graph->error == LUN_OK && status != LUN_OK) {
        graph->error = status;
        snprintf(graph->detail, sizeof graph->detail, "%s", lun_error_detail());
    }
    return -1;
}

lun_value lun_graph_fail(lun_graph *graph, lun_status status, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return lun_graph_keep(graph, lun_fail(status, "%s", text));
}

lun_status lun_graph_create(lun_store *store, lun_graph **out)
{
    if (!out)
        return lun_fail(LUN_ERR_USAGE, "lun_graph_create: no place for the graph");
    lun_graph *graph = lun_calloc(1, sizeof *graph, "a graph");
    if (!graph)
        return LUN_ERR_MEMORY;
    graph->store = store;
    graph->backward_start = -1;
    *out = graph;
    return LUN_OK;
}

void lun_graph_destroy(lun_graph **graph)
{
    if (!graph || !*graph)
        return;
    for (int i = 0; i < (*graph)->tensor_count; i++) {
        free((*graph)->tensors[i].name);
        free((*graph)->tensors[i].data);
    }
    free((*graph)->tensors);
    free((*graph)->nodes);
    free((*graph)->param_value);
    free((*graph)->times);
    free(*graph);
    *graph = NULL;
}

lun_status lun_graph_check(const lun_graph *graph)
{
    if (!graph)
        return lun_fail(LUN_ERR_USAGE, "no graph");
    return graph->error == LUN_OK ? LUN_OK : lun_fail(graph->error, "%s", graph->detail);
}

lun_desc lun_graph_desc(const lun_graph *graph, lun_value value)
{
    static const lun_desc none;
    return graph && value >= 0 && value < graph->tensor_count ? graph->tensors[value].desc : none;
}

/* Room for one more of `size` bytes; false with the error kept. */
static bool grow(lun_graph *graph, void **array, int *room, int count, size_t size, const char *what)
{
    if (count < *room)
        return true;
    const int more = *room ? *room * 2 : 64;
    void *bigger = lun_realloc(*array, (size_t)more, size, what);
    if (!bigger) {
        lun_graph_keep(graph, LUN_ERR_MEMORY);
        return false;
    }
    *array = bigger;
    *room = more;
    return true;
}

static lun_value add_tensor(lun_graph *graph, lun_source source, lun_desc desc, const char *name)
{
    if (!grow(graph, (void **)&graph->tensors, &graph->tensor_room, graph->tensor_count, sizeof *graph->tensors,
              "a graph's values"))
        return -1;
    char *copy = NULL;
    if (name && !(copy = lun_strdup(name)))
        return lun_graph_keep(graph, LUN_ERR_MEMORY);
    const lun_value value = graph->tensor_count++;
    graph->tensors[value] = (lun_tensor){
        .desc = desc, .source = source, .node = -1, .root = value, .param = -1, .grad_of = -1, .name = copy};
    return value;
}

static lun_value add_named(lun_graph *graph, lun_source source, const char *name, lun_desc desc)
{
    if (graph->error != LUN_OK)
        return -1;
    if (!name)
        return lun_graph_fail(graph, LUN_ERR_USAGE, "a value without a name");
    if (lun_desc_check(desc) != LUN_OK)
        return lun_graph_fail(graph, LUN_ERR_USAGE, "%s: %s", name, lun_error_detail());
    return add_tensor(graph, source, desc, name);
}

lun_value lun_graph_input(lun_graph *graph, const char *name, lun_desc desc)
{
    return add_named(graph, LUN_SOURCE_INPUT, name, desc);
}

lun_value lun_graph_state(lun_graph *graph, const char *name, lun_desc desc)
{
    return add_named(graph, LUN_SOURCE_STATE, name, desc);
}

lun_value lun_graph_constant(lun_graph *graph, const char *name, lun_desc desc, const void *data)
{
    if (graph->error != LUN_OK)
        return -1;
    if (!data)
        return lun_graph_fail(graph, LUN_ERR_USAGE, "%s: a constant without contents", name ? name : "?");
    const lun_value value = add_named(graph, LUN_SOURCE_CONSTANT, name, desc);
    if (value < 0)
        return -1;
    void *copy = lun_malloc(lun_bytes(desc), 1, "a constant");
    if (!copy)
        return lun_graph_keep(graph, LUN_ERR_MEMORY);
    lun_to_storage(desc, data, copy);
    graph->tensors[value].data = copy;
    return value;
}

lun_value lun_graph_param(lun_graph *graph, const char *name, lun_desc desc, int rank, lun_role role, lun_init init)
{
    if (graph->error != LUN_OK)
        return -1;
    if (!graph->store)
        return lun_graph_fail(graph, LUN_ERR_USAGE, "%s: a parameter in a graph without a store", name ? name : "?");
    const lun_param_info info = {.name = name, .desc = desc, .rank = rank, .role = role, .init = init};
    int index = -1;
    const lun_status status = lun_store_enter(graph->store, &info, &index);
    if (status != LUN_OK)
        return lun_graph_keep(graph, status);
    if (index >= graph->param_count) {
        const int room = graph->store->count;
        lun_value *bigger = lun_realloc(graph->param_value, (size_t)room, sizeof *bigger, "a graph's parameters");
        if (!bigger)
            return lun_graph_keep(graph, LUN_ERR_MEMORY);
        for (int i = graph->param_count; i < room; i++)
            bigger[i] = -1;
        graph->param_value = bigger;
        graph->param_count = room;
    }
    /* One value a parameter, so that the gradients of all its uses meet. */
    if (graph->param_value[index] >= 0)
        return graph->param_value[index];
    const lun_value value = add_tensor(graph, LUN_SOURCE_PARAM, desc, name);
    if (value >= 0) {
        graph->tensors[value].param = index;
        graph->param_value[index] = value;
    }
    return value;
}

static bool is_value(const lun_graph *graph, lun_value value)
{
    return value >= 0 && value < graph->tensor_count;
}

void lun_graph_output(lun_graph *graph, lun_value value)
{
    if (graph->error != LUN_OK)
        return;
    if (is_value(graph, value))
        graph->tensors[value].output = true;
    else
        lun_graph_fail(graph, LUN_ERR_USAGE, "output: %d is not a value of this graph", value);
}

bool lun_graph_node_room(lun_graph *graph)
{
    return grow(graph, (void **)&graph->nodes, &graph->node_room, graph->node_count, sizeof *graph->nodes,
                "a graph's nodes");
}

lun_value lun_graph_record(lun_graph *graph, lun_op_kind kind, const lun_attrs *attrs, const lun_value *src, int nsrc)
{
    if (graph->error != LUN_OK)
        return -1;
    const lun_op_info *info = lun_op_info_of(kind);
    if (nsrc > LUN_OP_MAX_SRC)
        return lun_graph_fail(graph, LUN_ERR_INTERNAL, "%s: %d operands", info->name, nsrc);
    lun_node node = {.op.kind = kind, .op.nsrc = nsrc};
    if (attrs)
        node.op.attrs = *attrs;
    for (int s = 0; s < nsrc; s++) {
        if (!is_value(graph, src[s]))
            return lun_graph_fail(graph, LUN_ERR_USAGE, "%s: operand %d is not a value of this graph", info->name, s);
        node.src[s] = src[s];
        node.op.src[s] = graph->tensors[src[s]].desc;
    }
    const lun_status status = lun_op_infer(&node.op);
    if (status != LUN_OK)
        return lun_graph_keep(graph, status);
    for (int d = 0; d < node.op.ndst; d++) {
        if (!info->alias[d])
            continue;
        const lun_tensor *place = &graph->tensors[graph->tensors[src[info->alias[d] - 1]].root];
        if (place->source != LUN_SOURCE_STATE && place->source != LUN_SOURCE_PARAM)
            return lun_graph_fail(graph, LUN_ERR_USAGE, "%s changes operand %d, which must be a state or a parameter",
                                  info->name, info->alias[d] - 1);
    }
    if (!lun_graph_node_room(graph))
        return -1;
    for (int d = 0; d < node.op.ndst; d++) {
        const lun_value value = add_tensor(graph, LUN_SOURCE_TEMP, node.op.dst[d], NULL);
        if (value < 0)
            return -1;
        node.dst[d] = value;
        graph->tensors[value].node = graph->node_count;
        if (info->alias[d])
            graph->tensors[value].root = graph->tensors[src[info->alias[d] - 1]].root;
    }
    graph->nodes[graph->node_count++] = node;
    return node.dst[0];
}

/* ---- The ops by name ---- */

static lun_attrs conv_attrs(int stride, int pad)
{
    return (lun_attrs){.conv = {.stride_h = stride, .stride_w = stride, .pad_h = pad, .pad_w = pad}};
}

lun_value lun_conv2d(lun_graph *graph, lun_value src, lun_value weight, lun_value bias, int stride, int pad)
{
    const lun_attrs attrs = conv_attrs(stride, pad);
    return lun_graph_record(graph, LUN_OP_CONV2D, &attrs, (lun_value[]){src, weight, bias}, bias == -1 ? 2 : 3);
}

lun_value lun_conv2d_padded(lun_graph *graph, lun_value src, lun_value weight, lun_value bias, int stride, int pad_top,
                            int pad_left, int pad_bottom, int pad_right)
{
    if (graph->error != LUN_OK)
        return -1;
    if (pad_top < 0 || pad_left < 0 || pad_bottom < 0 || pad_right < 0) /* differences of others do not overflow */
        return lun_graph_fail(graph, LUN_ERR_USAGE, "conv2d: padding %d, %d, %d, %d must be at least 0", pad_top,
                              pad_left, pad_bottom, pad_right);
    const lun_attrs attrs = {.conv = {.stride_h = stride,
                                      .stride_w = stride,
                                      .pad_h = pad_top,
                                      .pad_w = pad_left,
                                      .more_h = pad_bottom - pad_top,
                                      .more_w = pad_right - pad_left}};
    return lun_graph_record(graph, LUN_OP_CONV2D, &attrs, (lun_value[]){src, weight, bias}, bias == -1 ? 2 : 3);
}

lun_value lun_conv2d_transpose(lun_graph *graph, lun_value src, lun_value weight, lun_value bias, int stride, int pad,
                               int output_pad)
{
    if (graph->error != LUN_OK)
        return -1;
    if (!is_value(graph, src) || !is_value(graph, weight))
        return lun_graph_fail(graph, LUN_ERR_USAGE, "conv2d_transpose: an operand is not a value of this graph");
    /* An output padding of a whole stride would be a row that the source's size does not explain; PyTorch refuses it
     * too. */
    if (stride < 1 || pad < 0 || output_pad < 0 || output_pad >= stride)
        return lun_graph_fail(graph, LUN_ERR_USAGE,
                              "conv2d_transpose: stride %d, pad %d, output pad %d: the output pad must be "
                              "smaller than the stride",
                              stride, pad, output_pad);
    const lun_shape in = graph->tensors[src].desc.shape, k = graph->tensors[weight].desc.shape;
    const int64_t h = (in.h - 1) * stride - 2 * (int64_t)pad + k.h + output_pad;
    const int64_t w = (in.w - 1) * stride - 2 * (int64_t)pad + k.w + output_pad;
    if (h < 1 || w < 1 || h > INT32_MAX || w > INT32_MAX)
        return lun_graph_fail(graph, LUN_ERR_USAGE, "conv2d_transpose: the result would be %lld x %lld", (long long)h,
                              (long long)w);
    lun_attrs attrs = conv_attrs(stride, pad);
    attrs.conv.out_h = (int)h;
    attrs.conv.out_w = (int)w;
    return lun_graph_record(graph, LUN_OP_CONV2D_TRANSPOSE, &attrs, (lun_value[]){src, weight, bias},
                            bias == -1 ? 2 : 3);
}

/* src/op/resample.c says why this is the same. */
lun_value lun_conv2d_upsampled(lun_graph *graph, lun_value src, lun_value weight, lun_value bias, int pad)
{
    if (graph->error != LUN_OK)
        return -1;
    if (!is_value(graph, weight))
        return lun_graph_fail(graph, LUN_ERR_USAGE, "conv2d_upsampled: an operand is not a value of this graph");
    const lun_shape k = graph->tensors[weight].desc.shape;
    if (k.h != k.w || pad < 0 || pad >= k.h)
        return lun_graph_fail(graph, LUN_ERR_USAGE,
                              "conv2d_upsampled: a filter of %lld x %lld with pad %d: it must be square and larger "
                              "than the pad",
                              (long long)k.h, (long long)k.w, pad);
    const lun_value sums = lun_graph_record(graph, LUN_OP_UPSAMPLE2_FILTER, NULL, &weight, 1);
    return lun_conv2d_transpose(graph, src, sums, bias, 2, (int)k.h - 1 - pad, 0);
}

lun_value lun_linear(lun_graph *graph, lun_value src, lun_value weight, lun_value bias)
{
    return lun_conv2d(graph, src, weight, bias, 1, 0);
}

lun_value lun_batch_norm(lun_graph *graph, lun_value src, lun_value gamma, lun_value beta, lun_value running_mean,
                         lun_value running_var, float eps, float momentum, int training, int update)
{
    const lun_attrs attrs = {
        .norm = {.eps = eps, .momentum = momentum, .training = training != 0, .update = update != 0}};
    return lun_graph_record(graph, LUN_OP_BATCH_NORM, &attrs,
                            (lun_value[]){src, gamma, beta, running_mean, running_var}, 5);
}

lun_value lun_relu(lun_graph *graph, lun_value src)
{
    return lun_graph_record(graph, LUN_OP_RELU, NULL, &src, 1);
}

lun_value lun_add(lun_graph *graph, lun_value a, lun_value b)
{
    return lun_graph_record(graph, LUN_OP_ADD, NULL, (lun_value[]){a, b}, 2);
}

lun_value lun_add_channel(lun_graph *graph, lun_value src, lun_value bias)
{
    return lun_graph_record(graph, LUN_OP_ADD_CHANNEL, NULL, (lun_value[]){src, bias}, 2);
}

lun_value lun_concat(lun_graph *graph, lun_value a, lun_value b)
{
    return lun_graph_record(graph, LUN_OP_CONCAT, NULL, (lun_value[]){a, b}, 2);
}

lun_value lun_slice(lun_graph *graph, lun_value src, int first, int count)
{
    const lun_attrs attrs = {.slice = {.first = first, .count = count}};
    return lun_graph_record(graph, LUN_OP_SLICE, &attrs, &src, 1);
}

lun_value lun_embed(lun_graph *graph, lun_value index, lun_value table)
{
    return lun_graph_record(graph, LUN_OP_EMBED, NULL, (lun_value[]){index, table}, 2);
}

void lun_graph_times(lun_graph *graph, const double *times, int count)
{
    if (graph->error != LUN_OK)
        return;
    free(graph->times);
    graph->times = NULL;
    graph->time_count = count;
    if (count < 1)
        return;
    graph->times = lun_malloc((size_t)count, sizeof *graph->times, "a list of times");
    if (graph->times)
        memcpy(graph->times, times, (size_t)count * sizeof *times);
    else
        lun_graph_keep(graph, LUN_ERR_MEMORY);
}

lun_value lun_time_embed(lun_graph *graph, lun_value t, int steps, int dim)
{
    return lun_time_embed_as(graph, t, steps, dim, (lun_time_style){.shift = 1, .scale = 1});
}

lun_value lun_time_embed_as(lun_graph *graph, lun_value t, int steps, int dim, lun_time_style style)
{
    if (graph->error != LUN_OK)
        return -1;
    if (style.shift < 0 || style.shift > 1 || !(style.scale > 0 && isfinite(style.scale)))
        return lun_graph_fail(graph, LUN_ERR_USAGE,
                              "time embedding: shift %d (0 or 1) and scale %g (above 0, finite) are not possible",
                              style.shift, (double)style.scale);
    if (graph->times)
        steps = graph->time_count;
    const lun_desc desc = lun_image(steps, dim, 1, 1);
    const int half = dim / 2, least = 2 + 2 * style.shift;
    if (dim < least || dim % 2)
        return lun_graph_fail(graph, LUN_ERR_USAGE, "time embedding: %d channels; it takes an even number, at least %d",
                              dim, least);
    if (lun_desc_check(desc) != LUN_OK)
        return lun_graph_fail(graph, LUN_ERR_USAGE, "time embedding: %s", lun_error_detail());
    float *table = lun_malloc((size_t)steps * (size_t)dim, sizeof *table, "the time embedding");
    if (!table)
        return lun_graph_keep(graph, LUN_ERR_MEMORY);
    const size_t sines = style.cos_first ? (size_t)half : 0, cosines = (size_t)half - sines;
    for (int k = 0; k < half; k++) {
        const double f = (double)style.scale * exp(-k * log(10000.0) / (half - style.shift));
        for (int i = 0; i < steps; i++) {
            const double time = graph->times ? graph->times[i] : i;
            float *row = table + (size_t)i * (size_t)dim + (size_t)k;
            row[sines] = (float)sin(time * f);
            row[cosines] = (float)cos(time * f);
        }
    }
    const lun_value constant = lun_graph_constant(graph, "time embedding", desc, table);
    free(table);
    return lun_embed(graph, t, constant);
}

lun_value lun_upsample2(lun_graph *graph, lun_value src)
{
    return lun_graph_record(graph, LUN_OP_UPSAMPLE2, NULL, &src, 1);
}

lun_value lun_avg_pool2(lun_graph *graph, lun_value src)
{
    const lun_attrs attrs = {.resample = {.mean = true}};
    return lun_graph_record(graph, LUN_OP_POOL2, &attrs, &src, 1);
}

lun_value lun_attention(lun_graph *graph, lun_value qkv, int heads, lun_qkv_order order)
{
    if (graph->error != LUN_OK)
        return -1;
    if (order != LUN_QKV_HEADS && order != LUN_QKV_SPLIT)
        return lun_graph_fail(graph, LUN_ERR_USAGE, "attention: %d is no order of q, k and v", (int)order);
    const lun_attrs attrs = {.attention = {.heads = heads, .split = order == LUN_QKV_SPLIT}};
    return lun_graph_record(graph, LUN_OP_ATTENTION, &attrs, &qkv, 1);
}

lun_value lun_noise(lun_graph *graph, lun_value x0, lun_value eps, lun_value t, lun_value table)
{
    return lun_graph_record(graph, LUN_OP_NOISE, NULL, (lun_value[]){x0, eps, t, table}, 4);
}

static bool loss_attrs(lun_graph *graph, lun_loss_type type, float delta, lun_attrs *attrs)
{
    if (graph->error != LUN_OK)
        return false;
    *attrs = (lun_attrs){.loss = {.delta = delta}};
    switch (type) {
    case LUN_L1: attrs->loss.kind = LUN_LOSS_L1; return true;
    case LUN_L2: attrs->loss.kind = LUN_LOSS_L2; return true;
    case LUN_HUBER: attrs->loss.kind = LUN_LOSS_HUBER; return true;
    }
    lun_graph_fail(graph, LUN_ERR_USAGE, "loss: %d is no type of loss", (int)type);
    return false;
}

lun_value lun_loss(lun_graph *graph, lun_value pred, lun_value target, lun_loss_type type, float delta)
{
    lun_attrs attrs;
    return loss_attrs(graph, type, delta, &attrs)
               ? lun_graph_record(graph, LUN_OP_LOSS, &attrs, (lun_value[]){pred, target}, 2)
               : -1;
}

lun_value lun_loss_each(lun_graph *graph, lun_value pred, lun_value target, lun_value weight, lun_loss_type type,
                        float delta)
{
    lun_attrs attrs;
    return loss_attrs(graph, type, delta, &attrs)
               ? lun_graph_record(graph, LUN_OP_LOSS_EACH, &attrs, (lun_value[]){pred, target, weight},
                                  weight == -1 ? 2 : 3)
               : -1;
}

lun_value lun_weighted_mean(lun_graph *graph, lun_value values, lun_value weights)
{
    return lun_graph_record(graph, LUN_OP_WEIGHTED_MEAN, NULL, (lun_value[]){values, weights}, 2);
}

lun_value lun_variational(lun_graph *graph, lun_value pred, lun_value x0, lun_value xt, lun_value t, lun_value table,
                          float scale)
{
    const lun_attrs attrs = {.variational = {.scale = scale}};
    return lun_graph_record(graph, LUN_OP_VARIATIONAL, &attrs, (lun_value[]){pred, x0, xt, t, table}, 5);
}

lun_value lun_guide(lun_graph *graph, lun_value src, lun_value scale, int channels)
{
    const lun_attrs attrs = {.guide = {.channels = channels}};
    return lun_graph_record(graph, LUN_OP_GUIDE, &attrs, (lun_value[]){src, scale}, 2);
}

lun_value lun_randint(lun_graph *graph, lun_value rows, int c, int h, int w, uint32_t bound)
{
    const lun_attrs attrs = {.random = {.bound = bound, .c = c, .h = h, .w = w}};
    return lun_graph_record(graph, LUN_OP_RANDINT, &attrs, &rows, 1);
}

lun_value lun_randn(lun_graph *graph, lun_value rows, int c, int h, int w)
{
    const lun_attrs attrs = {.random = {.bound = 1, .c = c, .h = h, .w = w}};
    return lun_graph_record(graph, LUN_OP_RANDN, &attrs, &rows, 1);
}

static lun_value sample_step(lun_graph *graph, lun_value x, lun_value eps, lun_value z, lun_value coef,
                             lun_clip_mode clip, bool learned)
{
    if (graph->error != LUN_OK)
        return -1;
    lun_attrs attrs = {0};
    attrs.sample.learned = learned;
    switch (clip) {
    case LUN_CLIP_MODE_NONE: attrs.sample.clip = LUN_CLIP_NONE; break;
    case LUN_CLIP_MODE_X0: attrs.sample.clip = LUN_CLIP_X0; break;
    case LUN_CLIP_MODE_XT: attrs.sample.clip = LUN_CLIP_XT; break;
    default: return lun_graph_fail(graph, LUN_ERR_USAGE, "sample_step: %d is no way of clipping", (int)clip);
    }
    return lun_graph_record(graph, LUN_OP_SAMPLE_STEP, &attrs, (lun_value[]){x, eps, z, coef}, 4);
}

lun_value lun_sample_step(lun_graph *graph, lun_value x, lun_value eps, lun_value z, lun_value coef, lun_clip_mode clip)
{
    return sample_step(graph, x, eps, z, coef, clip, false);
}

lun_value lun_sample_step_learned(lun_graph *graph, lun_value x, lun_value eps, lun_value z, lun_value coef,
                                  lun_clip_mode clip)
{
    return sample_step(graph, x, eps, z, coef, clip, true);
}

void lun_store_at(lun_graph *graph, lun_value ring, lun_value value, lun_value slot)
{
    lun_graph_record(graph, LUN_OP_STORE, NULL, (lun_value[]){ring, value, slot}, 3);
}
