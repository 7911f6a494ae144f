/* lun_plan_trace: which value of a run is the first that is not finite? */
#include "graph.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Of `count` pixels with `channels` floats, `pitch` floats apart. */
static bool all_finite(const float *data, int64_t count, int64_t channels, int64_t pitch)
{
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < channels; c++)
            if (!isfinite(data[i * pitch + c]))
                return false;
    return true;
}

static lun_status look(lun_place place, lun_desc desc, int pitch, float *room, bool *finite)
{
    const lun_shape s = desc.shape;
    *finite = true;
    if (desc.dtype != LUN_F32)
        return LUN_OK;
    LUN_TRY(lun_buffer_read(place, room, lun_span(desc, pitch)));
    *finite = pitch ? all_finite(room, s.n * s.h * s.w, s.c, pitch) : all_finite(room, 1, lun_count(s), 0);
    return LUN_OK;
}

static const char *name_of(const lun_graph *graph, const lun_tensor *t)
{
    return t->param >= 0 ? graph->store->entries[t->param].name : t->name ? t->name : "";
}

/* What is there before anything runs. */
static lun_status look_at_given(const lun_plan *plan, float *room, char *text, size_t size)
{
    const lun_graph *graph = plan->graph;
    for (int v = 0; v < graph->tensor_count && !text[0]; v++) {
        const lun_tensor *t = &graph->tensors[v];
        const bool param = t->source == LUN_SOURCE_PARAM;
        bool finite = true;
        if (t->root != v || (!param && t->source != LUN_SOURCE_INPUT))
            continue;
        LUN_TRY(look(lun_plan_place(plan, v), t->desc, 0, room, &finite));
        if (!finite)
            snprintf(text, size, "the %s %.120s", param ? "parameter" : "input", name_of(graph, t));
    }
    return LUN_OK;
}

/* "the result of conv2d 4x3x16x16 .. with down.0.conv.weight", "the gradient of down.0.conv.weight, by .." */
static void tell(const lun_plan *plan, const lun_plan_step *step, int d, char *text, size_t size)
{
    const lun_graph *graph = plan->graph;
    const lun_node *node = &graph->nodes[step->node];
    const lun_tensor *root = &graph->tensors[graph->tensors[node->dst[d]].root];
    if (root->grad_of >= 0) {
        snprintf(text, size, "the gradient of %.120s, by %s", graph->store->entries[root->grad_of].name,
                 step->description);
        return;
    }
    for (int s = 0; s < node->op.nsrc; s++) {
        const lun_tensor *t = &graph->tensors[node->src[s]];
        if (t->source == LUN_SOURCE_PARAM) {
            snprintf(text, size, "the result of %s with %.120s", step->description, name_of(graph, t));
            return;
        }
    }
    snprintf(text, size, "the result of %s", step->description);
}

static lun_status look_at_results(const lun_plan *plan, const lun_plan_step *step, float *room, char *text, size_t size)
{
    for (int d = 0; d < step->op.ndst && step->chunk < 0 && !text[0]; d++) {
        bool finite = true;
        LUN_TRY(look(step->dst[d], step->op.dst[d], step->op.dst_pitch[d], room, &finite));
        if (!finite)
            tell(plan, step, d, text, size);
    }
    return LUN_OK;
}

static size_t most_room(const lun_plan *plan)
{
    const lun_graph *graph = plan->graph;
    size_t most = sizeof(float);
    for (int v = 0; v < graph->tensor_count; v++)
        if (lun_bytes(graph->tensors[v].desc) > most)
            most = lun_bytes(graph->tensors[v].desc);
    for (int i = 0; i < plan->step_count; i++)
        for (int d = 0; d < plan->steps[i].op.ndst && plan->steps[i].chunk < 0; d++)
            if (lun_dst_span(&plan->steps[i].op, d) > most)
                most = lun_dst_span(&plan->steps[i].op, d);
    return most;
}

lun_status lun_plan_trace(lun_plan *plan, char *text, size_t size)
{
    if (!plan || !text || size == 0)
        return lun_fail(LUN_ERR_USAGE, "trace: no plan, or no room for the answer");
    text[0] = 0;
    float *room = lun_malloc(most_room(plan), 1, "looking at values");
    if (!room)
        return LUN_ERR_MEMORY;
    lun_status status = look_at_given(plan, room, text, size);
    if (status == LUN_OK)
        status = lun_plan_begin(plan);
    for (int i = 0; i < plan->step_count && status == LUN_OK; i++) {
        status = lun_plan_run_step(plan, &plan->steps[i]);
        if (status == LUN_OK && !text[0])
            status = look_at_results(plan, &plan->steps[i], room, text, size);
    }
    free(room);
    return status;
}
