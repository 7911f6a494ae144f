/* Concatenation without copies.
 *
 * Storage is pixels x channels, so some neighbouring channels of an image are an image too, whose pixels lie further
 * apart than they are long: a view. The sources of a concat can be made as views of its result and then it has nothing
 * left to do; what slice takes from a gradient can be read where it lies. Whoever writes or reads a view does so with a
 * pitch (op/op.h), and only where the table of ops says for its kind that it can. Otherwise the copy stays.
 *
 *   concat    both sources become views of the result, if each is wanted there once, is made by a node of this graph
 *             that can, is read by nodes that can, and is neither an output nor in a gradient slot
 *   slice     the result becomes a view of the source, likewise
 *
 * A view's root is the wide value, which is itself no view. The wide value lives as long as any part of it, and nothing
 * is placed in place of either (place.c). Works on the copy that fuse.c has made, and after it.
 */
#include "graph.h"

#include <stdlib.h>

typedef struct viewing {
    lun_graph *graph;
    bool *gone; /* by node: what it would copy lies there already */
} viewing;

/* In every pixel a view begins on a boundary on which a dense tensor could begin: vectors and cache lines lie as well
 * as in a dense one, and so do all places that a device is given. */
static bool aligned(int64_t channels)
{
    return channels * 4 % LUN_ALIGN == 0;
}

/* A node's result that has storage of its own, which no other place of the step knows. */
static bool has_own_storage(const viewing *w, lun_value value)
{
    const lun_tensor *t = &w->graph->tensors[value];
    return t->source == LUN_SOURCE_TEMP && t->root == value && t->grad_of < 0 && t->node >= 0 && !w->gone[t->node];
}

static bool producer_allows(const viewing *w, lun_value value)
{
    const lun_node *node = &w->graph->nodes[w->graph->tensors[value].node];
    for (int d = 0; d < node->op.ndst; d++)
        if (node->dst[d] == value)
            return lun_op_info_of(node->op.kind)->pitched_dst >> d & 1u;
    return false;
}

/* All but node `except`. */
static bool readers_allow(const viewing *w, lun_value value, int except)
{
    for (int n = 0; n < w->graph->node_count; n++) {
        const lun_node *node = &w->graph->nodes[n];
        for (int s = 0; s < node->op.nsrc && n != except; s++)
            if (node->src[s] == value && !(lun_op_info_of(node->op.kind)->pitched_src >> s & 1u))
                return false;
    }
    return true;
}

static void make_view(viewing *w, lun_value value, lun_value wide, int64_t first)
{
    w->graph->tensors[value].root = wide;
    w->graph->tensors[value].first = (int)first;
}

/* Until finish() neither a value of parts nor what a slice took has a node that makes it. */
static void remove_node(viewing *w, int n)
{
    w->graph->tensors[w->graph->nodes[n].dst[0]].node = -1;
    w->gone[n] = true;
}

static void join(viewing *w, int n)
{
    const lun_node *concat = &w->graph->nodes[n];
    const lun_value to = concat->dst[0];
    int64_t first = 0;
    if (!has_own_storage(w, to) || concat->src[0] == concat->src[1] || !aligned(concat->op.dst[0].shape.c))
        return;
    for (int s = 0; s < concat->op.nsrc; s++) {
        const lun_value from = concat->src[s];
        if (!has_own_storage(w, from) || w->graph->tensors[from].output || !aligned(first) ||
            !producer_allows(w, from) || !readers_allow(w, from, n))
            return;
        first += concat->op.src[s].shape.c;
    }
    first = 0;
    for (int s = 0; s < concat->op.nsrc; s++) {
        make_view(w, concat->src[s], to, first);
        first += concat->op.src[s].shape.c;
    }
    remove_node(w, n);
}

static void look(viewing *w, int n)
{
    const lun_node *slice = &w->graph->nodes[n];
    const lun_value from = slice->src[0], to = slice->dst[0];
    const int first = slice->op.attrs.slice.first;
    if (!has_own_storage(w, from) || !has_own_storage(w, to) || w->graph->tensors[to].output || !aligned(first) ||
        !aligned(slice->op.src[0].shape.c) || !readers_allow(w, to, n))
        return;
    make_view(w, to, from, first);
    remove_node(w, n);
}

/* The pitch of a value as an operand; 0: it lies dense. */
static int pitch_of(const lun_graph *graph, lun_value value)
{
    const lun_shape own = graph->tensors[value].desc.shape, all = graph->tensors[graph->tensors[value].root].desc.shape;
    return lun_is_view(graph, value) && own.c < all.c ? (int)all.c : 0;
}

static lun_status set_pitches(lun_graph *graph)
{
    for (int n = 0; n < graph->node_count; n++) {
        lun_node *node = &graph->nodes[n];
        for (int s = 0; s < node->op.nsrc; s++)
            node->op.src_pitch[s] = pitch_of(graph, node->src[s]);
        for (int d = 0; d < node->op.ndst && !node->whole_store; d++)
            node->op.dst_pitch[d] = pitch_of(graph, node->dst[d]);
        if (!node->whole_store)
            LUN_TRY(lun_op_infer(&node->op));
    }
    return LUN_OK;
}

/* A value of parts is made when the last of them is; what is a part of another value, when that is. */
static void finish(viewing *w)
{
    lun_graph *graph = w->graph;
    lun_graph_compact(graph, w->gone);
    for (int v = 0; v < graph->tensor_count; v++) {
        const lun_tensor *t = &graph->tensors[v];
        lun_tensor *root = &graph->tensors[t->root];
        if (lun_is_view(graph, v) && t->node > root->node)
            root->node = t->node;
    }
    for (int v = 0; v < graph->tensor_count; v++)
        if (lun_is_view(graph, v) && graph->tensors[v].node < 0)
            graph->tensors[v].node = graph->tensors[graph->tensors[v].root].node;
}

lun_status lun_graph_make_views(lun_graph *graph)
{
    viewing w = {.graph = graph, .gone = lun_calloc((size_t)graph->node_count, sizeof *w.gone, "a graph")};
    if (!w.gone)
        return LUN_ERR_MEMORY;
    /* In order, and sources of concats first: what is a view or made of parts by then is no wide value any more. */
    for (int n = 0; n < graph->node_count; n++)
        if (graph->nodes[n].op.kind == LUN_OP_CONCAT)
            join(&w, n);
    for (int n = 0; n < graph->node_count; n++)
        if (graph->nodes[n].op.kind == LUN_OP_SLICE)
            look(&w, n);
    finish(&w);
    free(w.gone);
    return set_pitches(graph);
}
