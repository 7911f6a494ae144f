/* Recording what works on the whole store at once: an optimiser's step and what surrounds it. */
#include "graph.h"

#include <float.h>
#include <math.h>

/* May this be recorded at all, and is the operand what it has to be? */
static bool check(lun_graph *graph, const char *name, lun_value value, const char *operand, lun_desc want)
{
    if (graph->error != LUN_OK)
        return false;
    if (!graph->store) {
        lun_graph_fail(graph, LUN_ERR_USAGE, "%s: the graph has no store", name);
        return false;
    }
    if (value < 0 || value >= graph->tensor_count) {
        lun_graph_fail(graph, LUN_ERR_USAGE, "%s: %s is not a value of this graph", name, operand);
        return false;
    }
    const lun_desc desc = graph->tensors[value].desc;
    if (desc.dtype != want.dtype || desc.layout != want.layout || !lun_shape_equal(desc.shape, want.shape)) {
        lun_graph_fail(graph, LUN_ERR_USAGE, "%s: %s must be %s of shape (1, %d, 1, 1)", name, operand,
                       want.dtype == LUN_I32 ? "int32" : "float32", (int)want.shape.c);
        return false;
    }
    return true;
}

static bool is_gradient(lun_graph *graph, const char *name, lun_slot slot)
{
    if (slot != LUN_SLOT_GRAD && slot != LUN_SLOT_SUM) {
        lun_graph_fail(graph, LUN_ERR_USAGE, "%s: slot %d holds no gradient", name, (int)slot);
        return false;
    }
    return true;
}

/* A node over the store; `slots` as lun_node.operand, `own` its operands that are values of the graph. */
static void record(lun_graph *graph, lun_op_kind kind, const lun_attrs *attrs, const int *slots, int operands,
                   const lun_value *own)
{
    lun_node node = {.op.kind = kind,
                     .op.attrs = *attrs,
                     .whole_store = true,
                     .untrained = kind == LUN_OP_SETTLE,
                     .operands = operands};
    for (int i = 0; i < operands; i++) {
        node.operand[i] = (signed char)slots[i];
        if (slots[i] == LUN_OWN_OPERAND) {
            node.src[node.op.nsrc] = own[node.op.nsrc];
            node.op.src[node.op.nsrc] = graph->tensors[own[node.op.nsrc]].desc;
            node.op.nsrc++;
            continue;
        }
        const lun_status status = lun_store_want(graph->store, (lun_slot)slots[i]);
        if (status != LUN_OK) {
            lun_graph_keep(graph, status);
            return;
        }
    }
    if (lun_graph_node_room(graph))
        graph->nodes[graph->node_count++] = node;
}

void lun_graph_adam(lun_graph *graph, lun_value hyper, double beta1, double beta2, double eps, double weight_decay,
                    int decoupled)
{
    lun_graph_adam_from(graph, LUN_SLOT_GRAD, -1, hyper, beta1, beta2, eps, weight_decay, decoupled);
}

void lun_graph_adam_from(lun_graph *graph, lun_slot gradient, lun_value scale, lun_value hyper, double beta1,
                         double beta2, double eps, double weight_decay, int decoupled)
{
    if (!check(graph, "adam", hyper, "hyper", lun_image(1, 4, 1, 1)) || !is_gradient(graph, "adam", gradient) ||
        (scale != -1 && !check(graph, "adam", scale, "scale", lun_image(1, 1, 1, 1))))
        return;
    /* eps > 0 also keeps 0 / 0 out of the padding between parameters. */
    if (!(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1 && eps > 0 && isfinite(eps) && weight_decay >= 0 &&
          isfinite(weight_decay))) {
        lun_graph_fail(graph, LUN_ERR_USAGE,
                       "adam: betas %g, %g (0 to below 1), eps %g (above 0), weight decay %g (0 or more)", beta1, beta2,
                       eps, weight_decay);
        return;
    }
    const int slots[] = {LUN_SLOT_VALUE, (int)gradient, LUN_SLOT_M, LUN_SLOT_V, LUN_OWN_OPERAND, LUN_OWN_OPERAND};
    const lun_attrs attrs = {.adam = {beta1, beta2, eps, weight_decay, decoupled != 0}};
    record(graph, LUN_OP_ADAM, &attrs, slots, scale == -1 ? 5 : 6, (lun_value[]){hyper, scale});
}

void lun_graph_accumulate(lun_graph *graph, lun_value first)
{
    static const int slots[] = {LUN_SLOT_SUM, LUN_SLOT_GRAD, LUN_OWN_OPERAND};
    const lun_attrs none = {0};
    if (check(graph, "accumulate", first, "first", lun_typed(lun_image(1, 1, 1, 1), LUN_I32)))
        record(graph, LUN_OP_ACCUMULATE, &none, slots, 3, &first);
}

lun_value lun_graph_squares(lun_graph *graph, lun_slot gradient)
{
    if (graph->error != LUN_OK || !is_gradient(graph, "squares", gradient))
        return -1;
    /* Those of chunks that the store does not have stay zero. */
    const lun_value parts = lun_graph_state(graph, "gradient squares", lun_image(1, LUN_STORE_PARTS, 1, 1));
    const int slots[] = {(int)gradient, LUN_OWN_OPERAND};
    const lun_attrs squares = {.squares = {0}};
    if (!check(graph, "squares", parts, "parts", lun_image(1, LUN_STORE_PARTS, 1, 1)))
        return -1;
    record(graph, LUN_OP_SUM_SQUARES, &squares, slots, 2, &parts);
    return parts;
}

lun_value lun_graph_clip_squares(lun_graph *graph, lun_value squares, double max_norm, lun_value *norm)
{
    *norm = -1;
    if (!check(graph, "clip", squares, "squares", lun_image(1, LUN_STORE_PARTS, 1, 1)))
        return -1;
    if (!(max_norm > 0 && max_norm <= FLT_MAX && (float)max_norm > 0))
        return lun_graph_fail(graph, LUN_ERR_USAGE, "clip: the norm's limit %g must be above 0", max_norm);
    const lun_attrs clip = {.clip = {(float)max_norm}};
    const lun_value scale = lun_graph_record(graph, LUN_OP_CLIP_NORM, &clip, &squares, 1);
    if (scale >= 0)
        *norm = scale + 1;
    return scale;
}

lun_value lun_graph_clip(lun_graph *graph, lun_slot gradient, double max_norm, lun_value *norm)
{
    *norm = -1;
    if (graph->error != LUN_OK || !is_gradient(graph, "clip", gradient))
        return -1;
    return lun_graph_clip_squares(graph, lun_graph_squares(graph, gradient), max_norm, norm);
}

lun_value lun_graph_health(lun_graph *graph, lun_value squares, lun_value state, lun_value slot, lun_value *hyper,
                           lun_value *weights)
{
    if (!check(graph, "health", squares, "squares", lun_image(1, LUN_STORE_PARTS, 1, 1)) ||
        !check(graph, "health", state, "state", lun_image(1, 1, 1, 1)) ||
        !check(graph, "health", slot, "slot", lun_typed(lun_image(1, 1, 1, 1), LUN_I32)) ||
        !check(graph, "health", *hyper, "hyper", lun_image(1, 4, 1, 1)) ||
        (weights && !check(graph, "health", *weights, "weights", lun_image(1, LUN_MAX_EMA, 1, 1))))
        return -1;
    const lun_value src[] = {squares, state, slot, *hyper, weights ? *weights : -1};
    const lun_value first = lun_graph_record(graph, LUN_OP_HEALTH, NULL, src, weights ? 5 : 4);
    if (first < 0)
        return -1;
    *hyper = first + 1;
    if (weights)
        *weights = first + 3;
    return first + 2;
}

void lun_graph_settle(lun_graph *graph, lun_value hyper)
{
    static const int slots[] = {LUN_SLOT_VALUE, LUN_SLOT_SAFE, LUN_OWN_OPERAND};
    const lun_attrs none = {0};
    if (check(graph, "settle", hyper, "hyper", lun_image(1, 4, 1, 1)))
        record(graph, LUN_OP_SETTLE, &none, slots, 3, &hyper);
}

/* A single average after a step of Adam is moved by it, while it has the new values at hand: a node recorded right
 * before takes over. Several are better off in a pass of their own, which reads the parameters once for all. */
static bool join_adam(lun_graph *graph, lun_value weights)
{
    lun_node *node = graph->node_count > 0 ? &graph->nodes[graph->node_count - 1] : NULL;
    if (!node || !node->whole_store || node->op.kind != LUN_OP_ADAM || node->op.nsrc > 2)
        return false;
    const bool scaled = node->op.nsrc == 2;
    const lun_status status = lun_store_want(graph->store, LUN_SLOT_EMA);
    if (status != LUN_OK) {
        lun_graph_keep(graph, status);
        return true;
    }
    /* As op.h orders them: hyper, weights, the average, the scale. */
    node->src[2] = node->src[1];
    node->op.src[2] = node->op.src[1];
    node->src[1] = weights;
    node->op.src[1] = graph->tensors[weights].desc;
    node->op.nsrc++;
    node->operand[5] = LUN_OWN_OPERAND;
    node->operand[6] = LUN_SLOT_EMA;
    node->operand[7] = LUN_OWN_OPERAND;
    node->operands = scaled ? 8 : 7;
    return true;
}

void lun_graph_ema(lun_graph *graph, lun_value weights, int count)
{
    int slots[2 + LUN_MAX_EMA] = {LUN_SLOT_VALUE, LUN_OWN_OPERAND};
    const lun_attrs none = {0};
    if (!check(graph, "ema", weights, "weights", lun_image(1, LUN_MAX_EMA, 1, 1)))
        return;
    if (count < 1 || count > LUN_MAX_EMA) {
        lun_graph_fail(graph, LUN_ERR_USAGE, "ema: %d averages; a store has 1 to %d", count, LUN_MAX_EMA);
        return;
    }
    if (count == 1 && join_adam(graph, weights))
        return;
    for (int r = 0; r < count; r++)
        slots[2 + r] = LUN_SLOT_EMA + r;
    record(graph, LUN_OP_EMA, &none, slots, 2 + count, &weights);
}

_Static_assert(LUN_MAX_EMA == LUN_OP_MAX_EMA, "an op takes as many averages as a store has");
_Static_assert(LUN_SLOTS <= 32, "slots are bits of lun_store.wanted");
