#include "graph.h"

#include <inttypes.h>

static const char *region_name(lun_region region)
{
    switch (region) {
    case LUN_REGION_NONE: return "nowhere";
    case LUN_REGION_ARENA: return "arena";
    case LUN_REGION_FIXED: return "fixed";
    case LUN_REGION_STORE: return "store";
    }
    return "?";
}

static void dump_value(const lun_graph *graph, const lun_placement *p, lun_value v, FILE *file)
{
    static const char *const sources[] = {"temp", "input", "constant", "state", "param"};
    const lun_tensor *t = &graph->tensors[v];
    const lun_spot *spot = &p->spot[v];
    const lun_shape s = t->desc.shape;
    fprintf(file, "  %%%d %s %s%s (%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ")", v, sources[t->source],
            t->name ? t->name : "", t->output ? " output" : "", s.n, s.c, s.h, s.w);
    if (lun_is_view(graph, v))
        fprintf(file, " channels %d.. of %%%d", t->first, t->root);
    else if (t->root != v)
        fprintf(file, " in place of %%%d", t->root);
    if (t->grad_of >= 0)
        fprintf(file, " gradient of %s", lun_store_info(graph->store, (size_t)t->grad_of)->name);
    fprintf(file, " %s", region_name(spot->region));
    if (spot->region == LUN_REGION_ARENA || spot->region == LUN_REGION_FIXED)
        fprintf(file, " %d:%zu+%zu", spot->pool, spot->offset, lun_bytes(t->desc));
    if (spot->region == LUN_REGION_ARENA)
        fprintf(file, " nodes %d..%d%s", spot->first, spot->last, spot->inplace ? " reuses its source" : "");
    fputc('\n', file);
}

static void dump_node(const lun_graph *graph, const lun_placement *p, const lun_plan *plan, int n, FILE *file)
{
    const lun_node *node = &graph->nodes[n];
    char text[256];
    lun_op_describe(&node->op, text, sizeof text);
    if (n == graph->backward_start)
        fputs("-- backward\n", file);
    fprintf(file, "#%d %s <-", n, text);
    for (int s = 0; s < node->op.nsrc; s++)
        fprintf(file, " %%%d", node->src[s]);
    if (!p->live[n])
        fputs(" (not run)", file);
    for (int i = 0; plan && i < plan->step_count; i++)
        if (plan->steps[i].node == n)
            fprintf(file, " [%s]", plan->steps[i].candidate);
    fputc('\n', file);
    for (int d = 0; d < node->op.ndst; d++)
        dump_value(graph, p, node->dst[d], file);
}

lun_status lun_graph_dump(const lun_graph *graph, const lun_plan *plan, FILE *file)
{
    LUN_TRY(lun_graph_check(graph));
    if (plan && (plan->recorded != graph || plan->value_count != graph->tensor_count))
        return lun_fail(LUN_ERR_USAGE, "dump: the plan is not of this graph as it is now");
    lun_placement *own = NULL;
    if (plan)
        graph = plan->graph;
    else
        LUN_TRY(lun_placement_create(graph, 0, &own));
    const lun_placement *p = plan ? plan->placement : own;
    fprintf(file, "%d nodes, arena %zu bytes in %d pools (saved %zu, temporary %zu), fixed %zu", graph->node_count,
            p->arena.total, p->arena.count, p->saved_bytes, p->temporary_bytes, p->fixed.total);
    if (plan)
        fprintf(file, ", workspace %zu, kept %zu", plan->info.workspace_bytes, plan->info.kept_bytes);
    fputc('\n', file);
    for (int v = 0; v < graph->tensor_count; v++)
        if (graph->tensors[v].source != LUN_SOURCE_TEMP)
            dump_value(graph, p, v, file);
    for (int n = 0; n < graph->node_count; n++)
        dump_node(graph, p, plan, n, file);
    lun_placement_destroy(&own);
    return ferror(file) ? lun_fail(LUN_ERR_STORAGE, "the listing could not be written") : LUN_OK;
}
