/* Neighbouring ops made into one, so that a step passes over its activations less often.
 *
 * Works on a copy of the recorded graph, when it is compiled: the recording stays what was recorded, values keep their
 * numbers. A value that only passed from one op of a pair to the other is no more; so nothing is merged over a value
 * that is an output, lies in a gradient slot, or has another reader.
 *
 *   conv2d, conv2d_transpose + relu              -> .relu            relu's gradient needs its result only
 *   conv2d, conv2d_transpose; batch_norm of it   -> .stats; .given   both stay, with a value between them that the
 *                                                                    recording does not have, numbered after its own
 *   batch_norm + add_channel                     -> shift
 *   batch_norm_backward + relu_backward          -> .relu            where src is relu's result
 *   batch_norm_backward + channel_sum of dsrc    -> .dbias
 *   batch_norm_backward + spatial_sum of ddst    -> .dshift
 *   batch_norm in evaluation, statistics unread  -> .bare            one launch instead of two
 *
 *   group_norm + scale_shift                     -> emb              where both have gradients, these too:
 *     scale_shift_backward + group_norm_backward -> emb                what lies between the two ops is read by
 *   group_norm + silu                            -> .silu              their gradients otherwise, which now compute
 *     silu_backward + group_norm_backward        -> .silu              it again
 *   group_norm_backward + channel_sum of dsrc    -> .dbias
 *   group_norm_backward + spatial_sum of dsrc    -> .dsum
 *   group_norm_backward + add                    -> .add             where paths meet, around a block
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

typedef struct fusion {
    lun_graph *graph; /* with room for one more value a recorded node */
    bool *gone;       /* by node: merged into another one */
} fusion;

static lun_node *producer(const fusion *f, lun_value value, lun_op_kind kind)
{
    const int n = f->graph->tensors[value].node;
    return n >= 0 && f->graph->nodes[n].op.kind == kind ? &f->graph->nodes[n] : NULL;
}

static int number(const fusion *f, const lun_node *node)
{
    return (int)(node - f->graph->nodes);
}

/* Nothing but one operand of one node needs the value. */
static bool passes_on(const fusion *f, lun_value value)
{
    const lun_tensor *t = &f->graph->tensors[value];
    int readers = 0;
    for (int n = 0; n < f->graph->node_count; n++)
        for (int s = 0; !f->gone[n] && s < f->graph->nodes[n].op.nsrc; s++)
            readers += f->graph->nodes[n].src[s] == value;
    return readers == 1 && t->source == LUN_SOURCE_TEMP && t->root == value && !t->output && t->grad_of < 0;
}

/* The same with a second reader, if there is one. */
static bool passes_to(const fusion *f, lun_value value, const lun_node *one, const lun_node *other)
{
    const lun_tensor *t = &f->graph->tensors[value];
    int readers = 0, expected = 0;
    for (int n = 0; n < f->graph->node_count; n++) {
        const lun_node *node = &f->graph->nodes[n];
        for (int s = 0; !f->gone[n] && s < node->op.nsrc; s++) {
            readers += node->src[s] == value;
            expected += node->src[s] == value && (node == one || node == other);
        }
    }
    return readers == expected && expected == (other ? 2 : 1) && t->source == LUN_SOURCE_TEMP && t->root == value &&
           !t->output && t->grad_of < 0;
}

/* A node of the kind that reads the value as operand `s`, or NULL. */
static lun_node *reader(const fusion *f, lun_value value, lun_op_kind kind, int s)
{
    for (int n = 0; n < f->graph->node_count; n++) {
        lun_node *node = &f->graph->nodes[n];
        if (!f->gone[n] && node->op.kind == kind && s < node->op.nsrc && node->src[s] == value)
            return node;
    }
    return NULL;
}

static lun_value root_of(const fusion *f, lun_value value)
{
    return f->graph->tensors[value].root;
}

static bool reads(const fusion *f, const lun_node *node, lun_value root)
{
    for (int s = 0; s < node->op.nsrc; s++)
        if (root_of(f, node->src[s]) == root)
            return true;
    return false;
}

static bool writes(const fusion *f, const lun_node *node, lun_value root)
{
    if (node->whole_store)
        return f->graph->tensors[root].source == LUN_SOURCE_PARAM || f->graph->tensors[root].grad_of >= 0;
    for (int d = 0; d < node->op.ndst; d++)
        if (root_of(f, node->dst[d]) == root)
            return true;
    return false;
}

/* A node reads the gradient slots without naming them as operands. */
static bool reads_slots(const fusion *f, const lun_node *node, lun_value root)
{
    return node->whole_store && f->graph->tensors[root].grad_of >= 0;
}

/* May node `from` run in the place of node `to`? Nothing from one place to the other may touch what it writes or change
 * what it reads. */
static bool may_move(const fusion *f, int from, int to)
{
    const lun_node *moved = &f->graph->nodes[from];
    const int first = from < to ? from + 1 : to, last = from < to ? to : from - 1;
    for (int n = first; n <= last; n++) {
        const lun_node *node = &f->graph->nodes[n];
        /* What it is merged with reads and writes the same, or one result of the other, which is the caller's. */
        if (f->gone[n] || n == to)
            continue;
        for (int s = 0; s < moved->op.nsrc; s++)
            if (writes(f, node, root_of(f, moved->src[s])))
                return false;
        for (int d = 0; d < moved->op.ndst; d++) {
            const lun_value root = root_of(f, moved->dst[d]);
            if (reads(f, node, root) || writes(f, node, root) || reads_slots(f, node, root))
                return false;
        }
    }
    return true;
}

static void remove_node(fusion *f, lun_node *node)
{
    f->gone[number(f, node)] = true;
}

/* What `node` makes, after its results or place have changed. */
static void adopt(fusion *f, lun_node *node)
{
    for (int d = 0; d < node->op.ndst; d++)
        f->graph->tensors[node->dst[d]].node = number(f, node);
}

/* The value has no producer any more, and no reader. */
static void drop(fusion *f, lun_value value)
{
    f->graph->tensors[value].node = -1;
}

static lun_status infer(lun_node *node, int ndst)
{
    LUN_TRY(lun_op_infer(&node->op));
    return node->op.ndst == ndst ? LUN_OK
                                 : lun_fail(LUN_ERR_INTERNAL, "fusion: %s has %d results, not %d",
                                            lun_op_info_of(node->op.kind)->name, node->op.ndst, ndst);
}

static lun_status relu_into_convolution(fusion *f, lun_node *relu)
{
    lun_node *conv = producer(f, relu->src[0], LUN_OP_CONV2D);
    if (!conv)
        conv = producer(f, relu->src[0], LUN_OP_CONV2D_TRANSPOSE);
    if (!conv || conv->op.attrs.conv.relu || !passes_on(f, relu->src[0]) ||
        !may_move(f, number(f, relu), number(f, conv)))
        return LUN_OK;
    drop(f, conv->dst[0]);
    conv->op.attrs.conv.relu = true;
    conv->dst[0] = relu->dst[0];
    adopt(f, conv);
    remove_node(f, relu);
    return infer(conv, 1);
}

/* In the place of add_channel, because what is added may be made after the norm. */
static lun_status shift_into_norm(fusion *f, lun_node *add)
{
    lun_node *norm = producer(f, add->src[0], LUN_OP_BATCH_NORM);
    if (!norm || lun_norm_is_shifted(&norm->op) || norm->dst[0] != add->src[0] || !passes_on(f, add->src[0]) ||
        !may_move(f, number(f, norm), number(f, add)))
        return LUN_OK;
    const int ndst = norm->op.ndst;
    lun_node merged = *norm;
    merged.op.nsrc = 6;
    merged.src[5] = add->src[1];
    merged.op.src[5] = add->op.src[1];
    merged.dst[0] = add->dst[0];
    drop(f, norm->dst[0]);
    remove_node(f, norm);
    *add = merged;
    adopt(f, add);
    return infer(add, ndst);
}

static lun_status relu_into_norm_backward(fusion *f, lun_node *relu)
{
    lun_node *norm = producer(f, relu->src[1], LUN_OP_BATCH_NORM_BACKWARD);
    if (!norm || norm->op.attrs.norm.relu || norm->op.attrs.norm.dbias || norm->dst[0] != relu->src[1] ||
        norm->src[0] != relu->src[0] || !passes_on(f, relu->src[1]) || !may_move(f, number(f, relu), number(f, norm)))
        return LUN_OK;
    drop(f, norm->dst[0]);
    norm->op.attrs.norm.relu = true;
    norm->dst[0] = relu->dst[0];
    adopt(f, norm);
    remove_node(f, relu);
    return infer(norm, norm->op.ndst);
}

static lun_status sum_into_norm_backward(fusion *f, lun_node *sum)
{
    lun_node *norm = producer(f, sum->src[0], LUN_OP_BATCH_NORM_BACKWARD);
    if (!norm || norm->dst[0] != sum->src[0] || norm->op.attrs.norm.dbias ||
        !may_move(f, number(f, sum), number(f, norm)))
        return LUN_OK;
    const int ndst = norm->op.ndst + 1;
    norm->op.attrs.norm.dbias = true;
    memmove(norm->dst + 4, norm->dst + 3, (size_t)(ndst - 4) * sizeof *norm->dst); /* dshift comes after it */
    norm->dst[3] = sum->dst[0];
    LUN_TRY(infer(norm, ndst));
    adopt(f, norm);
    remove_node(f, sum);
    return LUN_OK;
}

/* Whichever comes first is the place. */
static lun_status spatial_sum_into_norm_backward(fusion *f, lun_node *sum)
{
    lun_graph *graph = f->graph;
    const int at = number(f, sum);
    for (int n = 0; n < graph->node_count; n++) {
        lun_node *norm = &graph->nodes[n];
        if (f->gone[n] || norm->op.kind != LUN_OP_BATCH_NORM_BACKWARD || norm->src[1] != sum->src[0] ||
            norm->op.attrs.norm.dshift || !(n < at ? may_move(f, at, n) : may_move(f, n, at)))
            continue;
        const int ndst = norm->op.ndst + 1;
        lun_node merged = *norm;
        merged.op.attrs.norm.dshift = true;
        merged.dst[ndst - 1] = sum->dst[0];
        lun_node *place = n < at ? norm : sum, *other = n < at ? sum : norm;
        *place = merged;
        LUN_TRY(infer(place, ndst));
        adopt(f, place);
        remove_node(f, other);
        return LUN_OK;
    }
    return LUN_OK;
}

static bool unread(const fusion *f, lun_value value)
{
    for (int n = 0; n < f->graph->node_count; n++)
        for (int s = 0; !f->gone[n] && s < f->graph->nodes[n].op.nsrc; s++)
            if (f->graph->nodes[n].src[s] == value)
                return false;
    return !f->graph->tensors[value].output;
}

static lun_status bare_norm(fusion *f, lun_node *norm)
{
    if (norm->op.attrs.norm.training || norm->op.ndst != 3 || !unread(f, norm->dst[1]) || !unread(f, norm->dst[2]))
        return LUN_OK;
    drop(f, norm->dst[1]);
    drop(f, norm->dst[2]);
    norm->op.attrs.norm.bare = true;
    return infer(norm, 1);
}

static lun_value add_value(fusion *f, lun_desc desc)
{
    const lun_value value = f->graph->tensor_count++;
    f->graph->tensors[value] =
        (lun_tensor){.desc = desc, .source = LUN_SOURCE_TEMP, .node = -1, .root = value, .param = -1, .grad_of = -1};
    return value;
}

/* The statistics of a convolution's result, from the convolution itself, which has it at hand. Neither op moves, and
 * whoever else reads the result still can: a value is written once. */
static lun_status statistics_from_convolution(fusion *f, lun_node *norm)
{
    lun_node *conv = producer(f, norm->src[0], LUN_OP_CONV2D);
    if (!conv)
        conv = producer(f, norm->src[0], LUN_OP_CONV2D_TRANSPOSE);
    if (!conv || conv->dst[0] != norm->src[0] || !norm->op.attrs.norm.training || norm->op.attrs.norm.given)
        return LUN_OK;
    if (!conv->op.attrs.conv.stats) { /* else of another batch_norm that reads the same */
        conv->op.attrs.conv.stats = true;
        LUN_TRY(infer(conv, 2));
        conv->dst[1] = add_value(f, conv->op.dst[1]);
        adopt(f, conv);
    }
    const int ndst = norm->op.ndst;
    norm->op.attrs.norm.given = true;
    norm->op.src[norm->op.nsrc] = conv->op.dst[1];
    norm->src[norm->op.nsrc++] = conv->dst[1];
    return infer(norm, ndst);
}

/* The gradient of that group norm, if `ddst` goes there and nowhere else. */
static lun_node *group_norm_gradient(const fusion *f, const lun_node *norm, lun_value ddst)
{
    lun_node *back = reader(f, ddst, LUN_OP_GROUP_NORM_BACKWARD, 1);
    const bool its_own = back && back->src[0] == norm->src[0] && back->src[2] == norm->src[1] &&
                         back->src[3] == norm->src[2] && back->src[4] == norm->dst[1] && back->src[5] == norm->dst[2] &&
                         back->op.nsrc == norm->op.nsrc + 3 && back->op.attrs.group.silu == norm->op.attrs.group.silu &&
                         !back->op.attrs.group.add && !back->op.attrs.group.dbias && !back->op.attrs.group.dsum;
    return its_own && passes_on(f, ddst) ? back : NULL;
}

static void set_source(lun_node *node, int s, const lun_node *from, int of)
{
    node->src[s] = from->src[of];
    node->op.src[s] = from->op.src[of];
}

/* The forward ops in the place of scale_shift, because emb may be made after the norm; the gradients in the place of
 * the first, because demb may be wanted before the norm's. */
static lun_status scale_shift_into_norm(fusion *f, lun_node *shift)
{
    lun_node *norm = producer(f, shift->src[0], LUN_OP_GROUP_NORM), *norm_back = NULL;
    lun_node *back = reader(f, shift->src[0], LUN_OP_SCALE_SHIFT_BACKWARD, 0);
    if (!norm || norm->op.nsrc > 3 || norm->op.attrs.group.silu || norm->dst[0] != shift->src[0] ||
        !passes_to(f, shift->src[0], shift, back) || !may_move(f, number(f, norm), number(f, shift)))
        return LUN_OK;
    if (back) {
        norm_back = group_norm_gradient(f, norm, back->dst[0]);
        if (!norm_back || back->src[2] != shift->src[1] || !may_move(f, number(f, norm_back), number(f, back)))
            return LUN_OK;
    }
    lun_node merged = *norm;
    merged.op.nsrc = 4;
    set_source(&merged, 3, shift, 1);
    merged.dst[0] = shift->dst[0];
    drop(f, norm->dst[0]);
    remove_node(f, norm);
    *shift = merged;
    adopt(f, shift);
    LUN_TRY(infer(shift, 3));
    if (!back)
        return LUN_OK;
    merged = *norm_back;
    merged.op.nsrc = 7;
    set_source(&merged, 1, back, 1);
    set_source(&merged, 6, back, 2);
    merged.dst[3] = back->dst[1];
    drop(f, back->dst[0]);
    remove_node(f, norm_back);
    *back = merged;
    LUN_TRY(infer(back, 4));
    adopt(f, back);
    return LUN_OK;
}

static lun_status silu_into_norm(fusion *f, lun_node *silu)
{
    lun_node *norm = producer(f, silu->src[0], LUN_OP_GROUP_NORM), *norm_back = NULL;
    lun_node *back = reader(f, silu->src[0], LUN_OP_SILU_BACKWARD, 0);
    if (!norm || norm->op.attrs.group.silu || norm->dst[0] != silu->src[0] || !passes_to(f, silu->src[0], silu, back) ||
        !may_move(f, number(f, silu), number(f, norm)))
        return LUN_OK;
    if (back) {
        norm_back = group_norm_gradient(f, norm, back->dst[0]);
        if (!norm_back || !may_move(f, number(f, back), number(f, norm_back)))
            return LUN_OK;
    }
    drop(f, norm->dst[0]);
    norm->op.attrs.group.silu = true;
    norm->dst[0] = silu->dst[0];
    adopt(f, norm);
    remove_node(f, silu);
    if (back) {
        norm_back->op.attrs.group.silu = true;
        set_source(norm_back, 1, back, 1);
        drop(f, back->dst[0]);
        remove_node(f, back);
        LUN_TRY(infer(norm_back, norm_back->op.ndst));
    }
    return infer(norm, 3);
}

/* channel_sum or spatial_sum of what a group norm's gradient makes. */
static lun_status sum_into_group_norm_backward(fusion *f, lun_node *sum)
{
    lun_node *norm = producer(f, sum->src[0], LUN_OP_GROUP_NORM_BACKWARD);
    const bool whole = sum->op.kind == LUN_OP_CHANNEL_SUM;
    if (!norm || norm->dst[0] != sum->src[0] || norm->op.attrs.group.add ||
        (whole ? norm->op.attrs.group.dbias : norm->op.attrs.group.dsum) ||
        !may_move(f, number(f, sum), number(f, norm)))
        return LUN_OK;
    const int ndst = norm->op.ndst + 1, at = whole && norm->op.attrs.group.dsum ? ndst - 2 : ndst - 1;
    if (whole)
        norm->op.attrs.group.dbias = true;
    else
        norm->op.attrs.group.dsum = true;
    memmove(norm->dst + at + 1, norm->dst + at, (size_t)(ndst - 1 - at) * sizeof *norm->dst); /* dsum is the last */
    norm->dst[at] = sum->dst[0];
    LUN_TRY(infer(norm, ndst));
    adopt(f, norm);
    remove_node(f, sum);
    return LUN_OK;
}

/* In the place of the addition, before which the other term may be made. */
static lun_status add_into_group_norm_backward(fusion *f, lun_node *add)
{
    for (int s = 0; s < 2; s++) {
        lun_node *norm = producer(f, add->src[s], LUN_OP_GROUP_NORM_BACKWARD);
        if (!norm || norm->dst[0] != add->src[s] || norm->op.attrs.group.add || !passes_on(f, add->src[s]) ||
            !may_move(f, number(f, norm), number(f, add)))
            continue;
        const int ndst = norm->op.ndst;
        lun_node merged = *norm;
        set_source(&merged, merged.op.nsrc++, add, 1 - s);
        merged.op.attrs.group.add = true;
        merged.dst[0] = add->dst[0];
        drop(f, norm->dst[0]);
        remove_node(f, norm);
        *add = merged;
        adopt(f, add);
        return infer(add, ndst);
    }
    return LUN_OK;
}

/* Each kind over the whole graph, in an order that leaves the later ones what they look for. */
static lun_status fuse(fusion *f)
{
    static const struct {
        lun_op_kind kind;
        lun_status (*merge)(fusion *f, lun_node *node);
    } passes[] = {
        {LUN_OP_RELU, relu_into_convolution},
        {LUN_OP_ADD_CHANNEL, shift_into_norm},
        {LUN_OP_RELU_BACKWARD, relu_into_norm_backward},
        {LUN_OP_CHANNEL_SUM, sum_into_norm_backward},
        {LUN_OP_SPATIAL_SUM, spatial_sum_into_norm_backward},
        {LUN_OP_BATCH_NORM, bare_norm},
        {LUN_OP_BATCH_NORM, statistics_from_convolution},
        {LUN_OP_SCALE_SHIFT, scale_shift_into_norm},
        {LUN_OP_SILU, silu_into_norm},
        {LUN_OP_CHANNEL_SUM, sum_into_group_norm_backward},
        {LUN_OP_SPATIAL_SUM, sum_into_group_norm_backward},
        {LUN_OP_ADD, add_into_group_norm_backward},
    };
    for (size_t p = 0; p < LUN_COUNT(passes); p++)
        for (int n = 0; n < f->graph->node_count; n++)
            if (!f->gone[n] && f->graph->nodes[n].op.kind == passes[p].kind)
                LUN_TRY(passes[p].merge(f, &f->graph->nodes[n]));
    return LUN_OK;
}

void lun_graph_compact(lun_graph *graph, const bool *gone)
{
    int count = 0, start = graph->backward_start;
    for (int n = 0; n < graph->node_count; n++) {
        if (n == graph->backward_start)
            start = count;
        if (gone[n])
            continue;
        graph->nodes[count] = graph->nodes[n];
        for (int d = 0; !graph->nodes[count].whole_store && d < graph->nodes[count].op.ndst; d++)
            graph->tensors[graph->nodes[count].dst[d]].node = count;
        count++;
    }
    graph->backward_start = start;
    graph->node_count = count;
}

lun_status lun_graph_fuse(const lun_graph *recorded, lun_graph **out)
{
    fusion f = {.graph = lun_calloc(1, sizeof *f.graph, "a graph"),
                .gone = lun_calloc((size_t)recorded->node_count, sizeof *f.gone, "a graph")};
    lun_status status = LUN_ERR_MEMORY;
    if (!f.graph || !f.gone)
        goto end;
    *f.graph = *recorded;
    f.graph->param_value = NULL;
    f.graph->param_count = 0;
    f.graph->tensors =
        lun_malloc((size_t)(recorded->tensor_count + recorded->node_count), sizeof *f.graph->tensors, "a graph");
    f.graph->nodes = lun_malloc((size_t)recorded->node_count, sizeof *f.graph->nodes, "a graph");
    if (!f.graph->tensors || !f.graph->nodes)
        goto end;
    memcpy(f.graph->tensors, recorded->tensors, (size_t)recorded->tensor_count * sizeof *recorded->tensors);
    memcpy(f.graph->nodes, recorded->nodes, (size_t)recorded->node_count * sizeof *recorded->nodes);
    status = fuse(&f);
    lun_graph_compact(f.graph, f.gone);
end:
    free(f.gone);
    if (status == LUN_OK)
        *out = f.graph;
    else
        lun_graph_free_fused(&f.graph);
    return status;
}

void lun_graph_free_fused(lun_graph **graph)
{
    if (!*graph)
        return;
    free((*graph)->tensors);
    free((*graph)->nodes);
    free(*graph);
    *graph = NULL;
}
