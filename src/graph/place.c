/* Which nodes run, and where every value lies.
 *
 * Values of one node's results live from that node to their last reader; one of which others are views, from the first
 * of the nodes that make a part of it to the last reader of any. Those that share storage in place form one block;
 * blocks are placed largest first, each into the smallest gap that is free for its whole life (the greedy by size of
 * Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020), in pools that a device's limit
 * on one allocation bounds. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

typedef struct block {
    size_t bytes;
    int first, last; /* nodes */
    int pool;        /* -1: not placed yet */
    size_t offset;
    int number; /* breaks ties, so that a placement never depends on qsort */
} block;

static size_t padded(lun_desc desc)
{
    return (lun_bytes(desc) + LUN_ALIGN - 1) / LUN_ALIGN * LUN_ALIGN;
}

/* Have two values an element in common? Those of one state or parameter have all. */
static bool share(const lun_graph *graph, lun_value a, lun_value b)
{
    const lun_tensor *x = &graph->tensors[a], *y = &graph->tensors[b];
    return x->root == y->root && x->first < y->first + y->desc.shape.c && y->first < x->first + x->desc.shape.c;
}

/* Bytes from the first element of a value to behind its last. */
static size_t span(const lun_graph *graph, lun_value value)
{
    const lun_tensor *t = &graph->tensors[value];
    return lun_span(t->desc, lun_is_view(graph, value) ? (int)graph->tensors[t->root].desc.shape.c : 0);
}

/* Backwards: a node runs if it changes something that stays, or if a node that runs reads a result of it. */
static void find_live(const lun_graph *graph, bool *live, bool *read)
{
    for (int n = graph->node_count - 1; n >= 0; n--) {
        const lun_node *node = &graph->nodes[n];
        const lun_op_info *info = lun_op_info_of(node->op.kind);
        bool needed = node->whole_store;
        for (int d = 0; d < node->op.ndst; d++) {
            const lun_tensor *t = &graph->tensors[node->dst[d]];
            needed = needed || info->alias[d] || t->output || t->grad_of >= 0 || read[node->dst[d]] ||
                     (lun_is_view(graph, node->dst[d]) && graph->tensors[t->root].output);
        }
        live[n] = needed;
        for (int s = 0; needed && s < node->op.nsrc; s++)
            for (int v = 0; v < graph->tensor_count; v++)
                read[v] = read[v] || share(graph, v, node->src[s]);
    }
}

/* Where the storage of a root lies; made: by a node that runs, or a part of it. */
static lun_region region_of(const lun_tensor *root, bool made)
{
    if (root->source == LUN_SOURCE_PARAM || root->grad_of >= 0)
        return LUN_REGION_STORE;
    if (root->source != LUN_SOURCE_TEMP)
        return LUN_REGION_FIXED;
    return !made ? LUN_REGION_NONE : root->output ? LUN_REGION_FIXED : LUN_REGION_ARENA;
}

/* The region of each value and its life. */
static void find_lives(const lun_graph *graph, lun_placement *p)
{
    for (int v = 0; v < graph->tensor_count; v++) {
        const lun_tensor *t = &graph->tensors[v];
        p->spot[v] = (lun_spot){.region = region_of(t, false), .pool = -1, .first = t->node, .last = t->node};
    }
    for (int n = 0; n < graph->node_count; n++) {
        const lun_node *node = &graph->nodes[n];
        for (int s = 0; p->live[n] && s < node->op.nsrc; s++)
            p->spot[node->src[s]].last = n;
        for (int d = 0; p->live[n] && !node->whole_store && d < node->op.ndst; d++) {
            const int root = graph->tensors[node->dst[d]].root;
            p->spot[root].region = region_of(&graph->tensors[root], true);
        }
    }
    for (int v = 0; v < graph->tensor_count; v++) {
        lun_spot *spot = &p->spot[v], *root = &p->spot[graph->tensors[v].root];
        spot->region = root->region;
        if (lun_is_view(graph, v)) {
            root->first = spot->first < root->first ? spot->first : root->first;
            root->last = spot->last > root->last ? spot->last : root->last;
        }
    }
}

/* Are others views of it, or is it one? */
static bool is_viewed(const lun_graph *graph, lun_value value)
{
    for (int v = 0; v < graph->tensor_count; v++)
        if (v != value && (graph->tensors[v].root == value || graph->tensors[value].root == v))
            return true;
    return false;
}

/* The source whose storage a node's first result may take over, or -1: the op allows it, both are in the arena and of
 * one size, the source is read here for the last time, and not here also as an operand that must stay whole. The source
 * has no part in a view, and the result is none. */
static lun_value inplace_source(const lun_graph *graph, const lun_placement *p, int n)
{
    const lun_node *node = &graph->nodes[n];
    const unsigned allowed = lun_op_info_of(node->op.kind)->inplace;
    if (node->op.ndst < 1 || p->spot[node->dst[0]].region != LUN_REGION_ARENA || lun_is_view(graph, node->dst[0]))
        return -1;
    for (int s = 0; s < node->op.nsrc; s++) {
        const lun_value v = node->src[s];
        bool whole = false;
        for (int other = 0; other < node->op.nsrc; other++)
            whole = whole || (node->src[other] == v && !(allowed >> other & 1));
        if (!whole && p->spot[v].region == LUN_REGION_ARENA && p->spot[v].last == n &&
            lun_bytes(node->op.src[s]) == lun_bytes(node->op.dst[0]) && !is_viewed(graph, v))
            return v;
    }
    return -1;
}

/* Gather values into blocks; block_of by value, -1 for those outside the arena. Returns the number of blocks. */
static int make_blocks(const lun_graph *graph, lun_placement *p, block *blocks, int *block_of)
{
    int count = 0;
    for (int v = 0; v < graph->tensor_count; v++)
        block_of[v] = -1;
    for (int n = 0; n < graph->node_count; n++) {
        const lun_node *node = &graph->nodes[n];
        const lun_value taken = p->live[n] ? inplace_source(graph, p, n) : -1;
        for (int d = 0; d < node->op.ndst; d++) {
            const lun_value v = graph->tensors[node->dst[d]].root; /* not itself: a part, maybe not the first */
            lun_spot *spot = &p->spot[v];
            if (spot->region != LUN_REGION_ARENA || block_of[v] >= 0)
                continue;
            if (d == 0 && taken >= 0) {
                block_of[v] = block_of[taken];
                blocks[block_of[v]].last = spot->last;
                spot->inplace = true;
            } else {
                block_of[v] = count;
                blocks[count] = (block){padded(graph->tensors[v].desc), spot->first, spot->last, -1, 0, count};
                count++;
            }
        }
    }
    return count;
}

static int by_size(const void *a, const void *b)
{
    const block *x = *(block *const *)a, *y = *(block *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->number - y->number;
}

static int by_offset(const void *a, const void *b)
{
    const block *x = *(block *const *)a, *y = *(block *const *)b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->number - y->number;
}

/* Best-fit offset for `b` in `pool` among the `placed` blocks; false if it would end beyond `limit`. */
static bool fit(block *const *placed, int count, block **rivals, const block *b, int pool, size_t limit, size_t *offset)
{
    int n = 0;
    for (int i = 0; i < count; i++)
        if (placed[i]->pool == pool && placed[i]->first <= b->last && b->first <= placed[i]->last)
            rivals[n++] = placed[i];
    qsort(rivals, (size_t)n, sizeof *rivals, by_offset);
    size_t end = 0, best_gap = SIZE_MAX;
    bool found = false;
    for (int i = 0; i < n; i++) {
        if (rivals[i]->offset > end) {
            const size_t gap = rivals[i]->offset - end;
            if (gap >= b->bytes && gap < best_gap) {
                best_gap = gap;
                *offset = end;
                found = true;
            }
        }
        if (rivals[i]->offset + rivals[i]->bytes > end)
            end = rivals[i]->offset + rivals[i]->bytes;
    }
    if (!found && b->bytes <= limit && end <= limit - b->bytes) {
        *offset = end;
        found = true;
    }
    return found;
}

/* Make pool number `pool` at least `bytes` large. */
static lun_status extend(lun_pools *pools, int pool, size_t bytes)
{
    if (pool == pools->count) {
        size_t *more = lun_realloc(pools->bytes, (size_t)pool + 1, sizeof *more, "the placement");
        if (!more)
            return LUN_ERR_MEMORY;
        pools->bytes = more;
        pools->bytes[pools->count++] = 0;
    }
    if (bytes > pools->bytes[pool]) {
        pools->total += bytes - pools->bytes[pool];
        pools->bytes[pool] = bytes;
    }
    return LUN_OK;
}

static lun_status too_large(size_t bytes, size_t limit)
{
    return lun_fail(LUN_ERR_MEMORY, "a tensor of %zu bytes; one buffer of this device holds %zu", bytes, limit);
}

static lun_status place_blocks(block **order, int count, block **rivals, size_t limit, lun_pools *arena)
{
    qsort(order, (size_t)count, sizeof(block *), by_size);
    for (int i = 0; i < count; i++) {
        block *b = order[i];
        if (b->bytes > limit)
            return too_large(b->bytes, limit);
        int pool = 0;
        while (!fit(order, i, rivals, b, pool, limit, &b->offset))
            pool++; /* ends: a pool after the last is empty */
        b->pool = pool;
        LUN_TRY(extend(arena, pool, b->offset + b->bytes));
    }
    return LUN_OK;
}

/* One after the other: nothing here ever dies. */
static lun_status place_fixed(const lun_graph *graph, lun_placement *p, size_t limit)
{
    int pool = 0;
    size_t end = 0;
    for (int v = 0; v < graph->tensor_count; v++) {
        if (p->spot[v].region != LUN_REGION_FIXED || graph->tensors[v].root != v)
            continue;
        const size_t bytes = padded(graph->tensors[v].desc);
        if (bytes > limit)
            return too_large(bytes, limit);
        if (end > limit - bytes) {
            pool++;
            end = 0;
        }
        p->spot[v].pool = pool;
        p->spot[v].offset = end;
        end += bytes;
        LUN_TRY(extend(&p->fixed, pool, end));
    }
    return LUN_OK;
}

static lun_status place(const lun_graph *graph, lun_placement *p, size_t limit)
{
    const size_t values = (size_t)graph->tensor_count;
    bool *read = lun_calloc(values, sizeof *read, "the placement");
    block *blocks = lun_calloc(values, sizeof *blocks, "the placement");
    int *block_of = lun_malloc(values, sizeof *block_of, "the placement");
    block **order = lun_malloc(values * 2, sizeof *order, "the placement");
    lun_status status = LUN_ERR_MEMORY;
    if (!read || !blocks || !block_of || !order)
        goto end;
    find_live(graph, p->live, read);
    find_lives(graph, p);
    const int count = make_blocks(graph, p, blocks, block_of);
    for (int i = 0; i < count; i++)
        order[i] = &blocks[i];
    LUN_TRY_GOTO(status, end, place_blocks(order, count, order + values, limit, &p->arena));
    LUN_TRY_GOTO(status, end, place_fixed(graph, p, limit));
    for (int v = 0; v < graph->tensor_count; v++) {
        const int root = graph->tensors[v].root;
        if (block_of[root] >= 0) {
            p->spot[root].pool = blocks[block_of[root]].pool;
            p->spot[root].offset = blocks[block_of[root]].offset;
        }
        if (root != v) {
            p->spot[v].pool = p->spot[root].pool;
            p->spot[v].offset = p->spot[root].offset + (size_t)graph->tensors[v].first * 4;
        }
    }
    for (int i = 0; i < count; i++) {
        const int start = graph->backward_start;
        const bool saved = start >= 0 && blocks[i].first < start && blocks[i].last >= start;
        *(saved ? &p->saved_bytes : &p->temporary_bytes) += blocks[i].bytes;
    }
end:
    free(order);
    free(block_of);
    free(blocks);
    free(read);
    return status;
}

lun_status lun_placement_create(const lun_graph *graph, size_t max_alloc, lun_placement **out)
{
    /* Half of the address space stands for "no limit", so that sums cannot overflow. */
    const size_t limit = max_alloc && max_alloc < SIZE_MAX / 2 ? max_alloc / LUN_ALIGN * LUN_ALIGN : SIZE_MAX / 2;
    lun_placement *p = lun_calloc(1, sizeof *p, "the placement");
    if (!p)
        return LUN_ERR_MEMORY;
    p->spot = lun_calloc((size_t)graph->tensor_count, sizeof *p->spot, "the placement");
    p->live = lun_calloc((size_t)graph->node_count, sizeof *p->live, "the placement");
    lun_status status = p->spot && p->live ? place(graph, p, limit) : LUN_ERR_MEMORY;
    if (status == LUN_OK)
        status = lun_placement_check(graph, p, max_alloc);
    if (status == LUN_OK)
        *out = p;
    else
        lun_placement_destroy(&p);
    return status;
}

void lun_placement_destroy(lun_placement **placement)
{
    if (!placement || !*placement)
        return;
    free((*placement)->spot);
    free((*placement)->live);
    free((*placement)->arena.bytes);
    free((*placement)->fixed.bytes);
    free(*placement);
    *placement = NULL;
}

/* ---- The checker ---- */

typedef struct checker {
    const lun_graph *graph;
    const lun_placement *p;
    bool *whole; /* by value: written, and nothing else written over it since */
} checker;

static bool in_pools(lun_region region)
{
    return region == LUN_REGION_ARENA || region == LUN_REGION_FIXED;
}

/* The channels of one wide value may lie between each other. */
static bool overlap(const checker *c, lun_value a, lun_value b)
{
    const lun_spot *x = &c->p->spot[a], *y = &c->p->spot[b];
    if (!in_pools(x->region) || x->region != y->region || x->pool != y->pool)
        return false;
    if (c->graph->tensors[a].root == c->graph->tensors[b].root)
        return share(c->graph, a, b);
    return x->offset < y->offset + span(c->graph, b) && y->offset < x->offset + span(c->graph, a);
}

/* Does `a` lie in `b`, of the same root? */
static bool inside(const checker *c, lun_value a, lun_value b)
{
    const lun_tensor *x = &c->graph->tensors[a], *y = &c->graph->tensors[b];
    return x->first >= y->first && x->first + x->desc.shape.c <= y->first + y->desc.shape.c;
}

/* Do whole parts make up all of a value? */
static bool covered(const checker *c, lun_value v)
{
    const lun_tensor *t = &c->graph->tensors[v];
    int64_t at = t->first;
    for (int part = 0; part < c->graph->tensor_count && at < t->first + t->desc.shape.c; part++) {
        const lun_tensor *p = &c->graph->tensors[part];
        if (part == v || !c->whole[part] || p->root != t->root || p->first > at || p->first + p->desc.shape.c <= at)
            continue;
        at = p->first + p->desc.shape.c;
        part = -1; /* the next may have any number */
    }
    return at >= t->first + t->desc.shape.c;
}

/* Writing `v` destroys everything that lies there, but for the other names of the same state or parameter. Of a wide
 * value it makes whole what is a view of `v`, and what `v` lies in if that is the last part of it. */
static void write_value(checker *c, lun_value v)
{
    const lun_graph *graph = c->graph;
    const int root = graph->tensors[v].root;
    c->whole[v] = true;
    for (int other = 0; other < graph->tensor_count; other++) {
        if (other == v || !overlap(c, v, other))
            continue;
        if (graph->tensors[other].root != root)
            c->whole[other] = false;
        else if (graph->tensors[root].source == LUN_SOURCE_TEMP)
            c->whole[other] = (inside(c, other, v) && graph->tensors[other].node == graph->tensors[v].node) ||
                              (inside(c, v, other) && covered(c, other));
    }
}

/* A view lies where it belongs in its root. */
static bool in_root(const checker *c, lun_value v)
{
    const lun_tensor *t = &c->graph->tensors[v];
    const lun_spot *spot = &c->p->spot[v], *root = &c->p->spot[t->root];
    return !lun_is_view(c->graph, v) || (spot->region == root->region && spot->pool == root->pool &&
                                         spot->offset == root->offset + (size_t)t->first * 4 &&
                                         t->first + t->desc.shape.c <= c->graph->tensors[t->root].desc.shape.c);
}

static lun_status check_bounds(const checker *c, size_t max_alloc)
{
    const lun_pools *pools[2] = {&c->p->arena, &c->p->fixed};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < pools[k]->count; i++)
            if (max_alloc && pools[k]->bytes[i] > max_alloc)
                return lun_fail(LUN_ERR_INTERNAL, "placement: pool %d has %zu bytes, above the limit of %zu", i,
                                pools[k]->bytes[i], max_alloc);
    for (int v = 0; v < c->graph->tensor_count; v++) {
        const lun_spot *spot = &c->p->spot[v];
        if (!in_pools(spot->region))
            continue;
        const lun_pools *in = pools[spot->region == LUN_REGION_FIXED];
        if (spot->pool < 0 || spot->pool >= in->count || spot->offset % LUN_ALIGN ||
            span(c->graph, v) > in->bytes[spot->pool] || spot->offset > in->bytes[spot->pool] - span(c->graph, v) ||
            !in_root(c, v))
            return lun_fail(LUN_ERR_INTERNAL, "placement: value %d does not lie in a pool", v);
    }
    return LUN_OK;
}

static lun_status check_node(checker *c, int n)
{
    const lun_node *node = &c->graph->nodes[n];
    const lun_op_info *info = lun_op_info_of(node->op.kind);
    for (int s = 0; s < node->op.nsrc; s++)
        if (!c->whole[node->src[s]])
            return lun_fail(LUN_ERR_INTERNAL,
                            "placement: node %d (%s) reads value %d after something was written over it", n, info->name,
                            node->src[s]);
    for (int d = 0; d < node->op.ndst; d++) {
        const lun_value v = node->dst[d];
        if (c->p->spot[v].region == LUN_REGION_NONE)
            return lun_fail(LUN_ERR_INTERNAL, "placement: result %d of node %d has no place", v, n);
        for (int s = 0; s < node->op.nsrc; s++) {
            const bool alias = info->alias[d] == s + 1;
            const bool same = c->p->spot[v].offset == c->p->spot[node->src[s]].offset &&
                              node->op.dst_pitch[d] == node->op.src_pitch[s];
            const bool allowed = same && (alias || (d == 0 && (info->inplace >> s & 1)));
            if (overlap(c, v, node->src[s]) && !allowed)
                return lun_fail(LUN_ERR_INTERNAL, "placement: result %d of node %d (%s) lies on operand %d", v, n,
                                info->name, s);
        }
        for (int e = 0; e < d; e++)
            if (overlap(c, v, node->dst[e]))
                return lun_fail(LUN_ERR_INTERNAL, "placement: two results of node %d (%s) overlap", n, info->name);
    }
    for (int d = 0; d < node->op.ndst; d++)
        write_value(c, node->dst[d]);
    return LUN_OK;
}

lun_status lun_placement_check(const lun_graph *graph, const lun_placement *placement, size_t max_alloc)
{
    checker c = {graph, placement, lun_calloc((size_t)graph->tensor_count, sizeof(bool), "checking the placement")};
    if (!c.whole)
        return LUN_ERR_MEMORY;
    lun_status status = check_bounds(&c, max_alloc);
    for (int v = 0; v < graph->tensor_count; v++)
        if (graph->tensors[v].source != LUN_SOURCE_TEMP)
            write_value(&c, v);
    for (int n = 0; n < graph->node_count && status == LUN_OK; n++)
        if (placement->live[n])
            status = check_node(&c, n);
    /* What is read after the run, and what the next run starts from, must have survived. */
    for (int v = 0; v < graph->tensor_count && status == LUN_OK; v++) {
        const lun_tensor *t = &graph->tensors[v];
        if ((t->source != LUN_SOURCE_TEMP || t->output) && !c.whole[v])
            status = lun_fail(LUN_ERR_INTERNAL, "placement: value %d does not survive the run", v);
    }
    free(c.whole);
    return status;
}
