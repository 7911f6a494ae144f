/* Recording group norm and what stands around it in a block. */
#include "graph.h"

lun_value lun_group_norm(lun_graph *graph, lun_value src, lun_value gamma, lun_value beta, int groups, float eps)
{
    const lun_attrs attrs = {.group = {.eps = eps, .groups = groups}};
    return lun_graph_record(graph, LUN_OP_GROUP_NORM, &attrs, (lun_value[]){src, gamma, beta}, 3);
}

lun_value lun_silu(lun_graph *graph, lun_value src)
{
    return lun_graph_record(graph, LUN_OP_SILU, NULL, &src, 1);
}

lun_value lun_gelu(lun_graph *graph, lun_value src)
{
    return lun_graph_record(graph, LUN_OP_GELU, NULL, &src, 1);
}

lun_value lun_scale_shift(lun_graph *graph, lun_value src, lun_value emb)
{
    return lun_graph_record(graph, LUN_OP_SCALE_SHIFT, NULL, (lun_value[]){src, emb}, 2);
}

/* The stream is the number of dropouts before this one, so that masks of ops that share rows have nothing in common. */
lun_value lun_dropout(lun_graph *graph, lun_value src, lun_value rows, float p)
{
    lun_attrs attrs = {.dropout = {.p = p}};
    for (int n = 0; n < graph->node_count; n++)
        attrs.dropout.stream += graph->nodes[n].op.kind == LUN_OP_DROPOUT;
    return lun_graph_record(graph, LUN_OP_DROPOUT, &attrs, (lun_value[]){src, rows}, 2);
}
