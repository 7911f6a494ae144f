/* Differentiation: a walk over the recorded nodes in reverse, each appending the nodes of its own gradient.
 *
 * Several contributions to one value are added as they arrive, so in the order of the walk, which the recording fixes;
 * their lifetimes stay short that way. */
#include "graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct graph_backward {
    lun_backward base;
    lun_graph *graph;
    lun_op op;           /* a copy: recording moves the graph's nodes */
    lun_value *gradient; /* by value: what has reached it so far, or -1 */
} graph_backward;

static lun_value emit(lun_backward *base, lun_op_kind kind, const lun_attrs *attrs, const lun_value *src, int nsrc)
{
    return lun_graph_record(((graph_backward *)base)->graph, kind, attrs, src, nsrc);
}

static void give(lun_backward *base, int src_index, lun_value gradient)
{
    graph_backward *b = (graph_backward *)base;
    lun_graph *graph = b->graph;
    if (graph->error != LUN_OK || !base->wants[src_index])
        return;
    const char *name = lun_op_info_of(b->op.kind)->name;
    if (gradient < 0 || gradient >= graph->tensor_count) {
        lun_graph_fail(graph, LUN_ERR_INTERNAL, "backward of %s: no gradient for operand %d", name, src_index);
        return;
    }
    const lun_desc want = b->op.src[src_index], got = graph->tensors[gradient].desc;
    if (want.dtype != got.dtype || want.layout != got.layout || !lun_shape_equal(want.shape, got.shape)) {
        lun_graph_fail(graph, LUN_ERR_INTERNAL, "backward of %s: the gradient of operand %d has another shape", name,
                       src_index);
        return;
    }
    lun_value *sum = &b->gradient[base->src[src_index]];
    *sum = *sum < 0 ? gradient : lun_graph_record(graph, LUN_OP_ADD, NULL, (lun_value[]){*sum, gradient}, 2);
}

/* Which values lie on a path from a trained parameter. What is changed in place (statistics, a ring of losses) ends
 * it. */
static void mark(const lun_graph *graph, bool *wants)
{
    for (int v = 0; v < graph->tensor_count; v++) {
        const lun_tensor *t = &graph->tensors[v];
        wants[v] = t->source == LUN_SOURCE_PARAM && graph->store->entries[t->param].info.role == LUN_ROLE_PARAM;
    }
    for (int n = 0; n < graph->node_count; n++) {
        const lun_node *node = &graph->nodes[n];
        const lun_op_info *info = lun_op_info_of(node->op.kind);
        bool any = false;
        for (int s = 0; s < node->op.nsrc; s++)
            any = any || wants[node->src[s]];
        for (int d = 0; d < node->op.ndst; d++)
            wants[node->dst[d]] = any && !info->alias[d];
    }
}

/* Let the node that makes `gradient` write straight into the parameter's gradient slot. Not possible if the value is no
 * node's own result (a constant) or lies in another parameter's slot already (p + q hands one gradient to both): then
 * through 0 + x. */
static void bind_gradient(lun_graph *graph, int param, lun_value gradient)
{
    const lun_tensor *t = &graph->tensors[gradient];
    if (t->source != LUN_SOURCE_TEMP || t->root != gradient || t->grad_of >= 0) {
        const lun_desc desc = t->desc;
        void *zeros = lun_calloc(lun_bytes(desc), 1, "a constant");
        if (!zeros) {
            lun_graph_keep(graph, LUN_ERR_MEMORY);
            return;
        }
        const lun_value zero = lun_graph_constant(graph, "zero", desc, zeros);
        free(zeros);
        gradient = lun_graph_record(graph, LUN_OP_ADD, NULL, (lun_value[]){gradient, zero}, 2);
        if (gradient < 0)
            return;
    }
    graph->tensors[gradient].grad_of = param;
}

static void walk(lun_graph *graph, lun_value loss, float weight, bool guarded, const bool *wants, lun_value *gradient)
{
    const int last = graph->tensors[loss].node;
    const lun_attrs seed = {.seed = {weight}};
    graph->backward_start = graph->node_count;
    gradient[loss] = guarded ? lun_graph_record(graph, LUN_OP_LOSS_SEED, &seed, &loss, 1)
                             : lun_graph_constant(graph, "gradient of the loss", graph->tensors[loss].desc, &weight);
    for (int n = last; n >= 0 && graph->error == LUN_OK; n--) {
        const lun_node *node = &graph->nodes[n];
        const lun_op_info *info = lun_op_info_of(node->op.kind);
        bool any = false;
        for (int d = 0; d < node->op.ndst; d++)
            any = any || (gradient[node->dst[d]] >= 0 && wants[node->dst[d]]);
        if (!any)
            continue;
        /* Leaving it out would train with a wrong gradient and nobody would know. */
        if (!info->backward) {
            lun_graph_fail(graph, LUN_ERR_USAGE,
                           "%s has no gradient, but the loss reaches a trained parameter through it", info->name);
            return;
        }
        if (gradient[node->dst[0]] < 0) {
            lun_graph_fail(graph, LUN_ERR_USAGE, "%s: its first result has no part in the loss but another one has",
                           info->name);
            return;
        }
        graph_backward b = {.base = {.emit = emit, .give = give}, .graph = graph, .op = node->op, .gradient = gradient};
        b.base.op = &b.op;
        for (int s = 0; s < b.op.nsrc; s++) {
            b.base.src[s] = node->src[s];
            b.base.wants[s] = wants[node->src[s]];
        }
        for (int d = 0; d < b.op.ndst; d++) {
            b.base.dst[d] = node->dst[d];
            b.base.ddst[d] = gradient[node->dst[d]];
        }
        info->backward(&b.base);
    }
}

static void backward(lun_graph *graph, lun_value loss, double weight, bool guarded)
{
    if (graph->error != LUN_OK)
        return;
    if (!isfinite((float)weight) || (float)weight == 0) {
        lun_graph_fail(graph, LUN_ERR_USAGE, "backward: a loss of weight %g", weight);
        return;
    }
    if (loss < 0 || loss >= graph->tensor_count) {
        lun_graph_fail(graph, LUN_ERR_USAGE, "backward: %d is not a value of this graph", loss);
        return;
    }
    if (lun_count(graph->tensors[loss].desc.shape) != 1 || graph->tensors[loss].desc.dtype != LUN_F32) {
        lun_graph_fail(graph, LUN_ERR_USAGE, "backward: the loss is not one float32 number");
        return;
    }
    if (!graph->store || graph->backward_start >= 0) {
        lun_graph_fail(graph, LUN_ERR_USAGE,
                       graph->store ? "backward: the graph has its gradients already"
                                    : "backward: the graph has no store");
        return;
    }
    const int values = graph->tensor_count, params = graph->param_count;
    bool *wants = lun_calloc((size_t)values, sizeof *wants, "the backward pass");
    lun_value *gradient = lun_malloc((size_t)values, sizeof *gradient, "the backward pass");
    if (!wants || !gradient) {
        lun_graph_keep(graph, LUN_ERR_MEMORY);
    } else {
        mark(graph, wants);
        for (int v = 0; v < values; v++)
            gradient[v] = -1;
        if (!wants[loss])
            lun_graph_fail(graph, LUN_ERR_USAGE, "backward: the loss depends on no trained parameter");
        else
            walk(graph, loss, (float)weight, guarded, wants, gradient);
        for (int p = 0; p < params && graph->error == LUN_OK; p++) {
            const lun_value v = graph->param_value[p];
            if (v >= 0 && wants[v] && gradient[v] >= 0)
                bind_gradient(graph, p, gradient[v]);
        }
    }
    free(wants);
    free(gradient);
}

void lun_graph_backward(lun_graph *graph, lun_value loss)
{
    backward(graph, loss, 1, false);
}

void lun_graph_backward_weighted(lun_graph *graph, lun_value loss, double weight)
{
    backward(graph, loss, weight, false);
}

void lun_graph_backward_guarded(lun_graph *graph, lun_value loss, double weight)
{
    backward(graph, loss, weight, true);
}
