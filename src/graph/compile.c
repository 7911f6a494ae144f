/* From a graph to a plan: everything that a run needs, decided and allocated. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

#define FALLBACK_PREFIX "fallback:" /* before the candidate's name where plain C stands in, also in a pin */

void lun_plan_destroy(lun_plan **plan)
{
    if (!plan || !*plan)
        return;
    lun_plan *p = *plan;
    for (int i = 0; i < p->step_count; i++) {
        lun_op_plan_destroy(&p->steps[i].plan);
        free(p->steps[i].description);
        free(p->steps[i].candidate);
    }
    free(p->steps);
    for (int i = 0; p->arena && i < p->placement->arena.count; i++)
        lun_buffer_destroy(&p->arena[i]);
    for (int i = 0; p->fixed && i < p->placement->fixed.count; i++)
        lun_buffer_destroy(&p->fixed[i]);
    free(p->arena);
    free(p->fixed);
    lun_buffer_destroy(&p->workspace);
    lun_buffer_destroy(&p->cpu_operands);
    lun_buffer_destroy(&p->cpu_workspace);
    lun_device_close(&p->cpu);
    lun_placement_destroy(&p->placement);
    free(p->readable);
    free(p->staging);
    free(p);
    *plan = NULL;
}

lun_place lun_plan_place(const lun_plan *plan, lun_value value)
{
    const lun_graph *graph = plan->graph;
    const lun_spot *spot = &plan->placement->spot[value];
    const lun_tensor *root = &graph->tensors[graph->tensors[value].root];
    switch (spot->region) {
    case LUN_REGION_ARENA: return (lun_place){plan->arena[spot->pool], spot->offset};
    case LUN_REGION_FIXED: return (lun_place){plan->fixed[spot->pool], spot->offset};
    case LUN_REGION_STORE:
        return root->grad_of >= 0 ? lun_store_place(graph->store, root->grad_of, LUN_SLOT_GRAD)
                                  : lun_store_place(graph->store, root->param, LUN_SLOT_VALUE);
    case LUN_REGION_NONE: break;
    }
    return (lun_place){NULL, 0};
}

static lun_status check_arguments(const lun_graph *graph, const lun_device *dev, lun_plan **out)
{
    if (!graph || !dev || !out)
        return lun_fail(LUN_ERR_USAGE, "lun_graph_compile: no graph, device or place for the plan");
    LUN_TRY(lun_graph_check(graph));
    bool stored = false, trained = false;
    for (int v = 0; v < graph->tensor_count; v++) {
        stored = stored || graph->tensors[v].source == LUN_SOURCE_PARAM;
        trained = trained || graph->tensors[v].grad_of >= 0;
    }
    for (int n = 0; n < graph->node_count; n++)
        trained = trained || graph->nodes[n].whole_store;
    if (!stored && !trained)
        return LUN_OK;
    if (graph->store->device != dev)
        return lun_fail(LUN_ERR_USAGE, graph->store->device ? "the graph's store lies on another device"
                                                            : "the graph's store has no memory yet");
    if (trained && !graph->store->training)
        return lun_fail(LUN_ERR_USAGE, "the graph trains, but its store was allocated without gradients");
    return LUN_OK;
}

/* ---- Steps ---- */

static lun_status make_steps(lun_plan *plan)
{
    const lun_graph *graph = plan->graph;
    size_t count = 0;
    for (int n = 0; n < graph->node_count; n++)
        count += graph->nodes[n].whole_store ? (size_t)graph->store->trained_chunks : plan->placement->live[n];
    plan->steps = lun_calloc(count, sizeof *plan->steps, "a plan's steps");
    if (!plan->steps)
        return LUN_ERR_MEMORY;
    for (int n = 0; n < graph->node_count; n++) {
        const lun_node *node = &graph->nodes[n];
        const int chunks = node->whole_store ? graph->store->trained_chunks : plan->placement->live[n] ? 1 : 0;
        for (int c = 0; c < chunks; c++) {
            lun_plan_step *step = &plan->steps[plan->step_count++];
            step->op = node->op;
            step->node = n;
            step->chunk = -1;
            if (node->whole_store) {
                step->chunk = c;
                step->op.nsrc = 5;
                for (int s = 0; s < 4; s++)
                    step->op.src[s] = lun_image(1, (int64_t)(graph->store->chunks[c].bytes / 4), 1, 1);
                step->op.src[4] = node->op.src[0];
                LUN_TRY(lun_op_infer(&step->op));
            }
        }
    }
    return LUN_OK;
}

static lun_status open_cpu(lun_plan *plan)
{
    return plan->cpu ? LUN_OK : lun_device_open("cpu", NULL, &plan->cpu);
}

static lun_status plan_fallback(lun_plan *plan, lun_plan_step *step, const char *candidate, const char *reason,
                                bool *warned)
{
    const lun_op_kind kind = step->op.kind;
    LUN_TRY(open_cpu(plan));
    LUN_TRY(lun_op_plan_create(plan->cpu, &step->op, candidate, &step->plan));
    step->fallback = true;
    if (!warned[kind])
        lun_log(LUN_LOG_WARN, "%s runs in plain C, with copies around it: %s", lun_op_info_of(kind)->name, reason);
    warned[kind] = true;
    plan->info.launches_fallback++;
    return LUN_OK;
}

static lun_status plan_step(lun_plan *plan, lun_plan_step *step, const lun_compile_params *params, bool *warned)
{
    char text[256];
    lun_op_describe(&step->op, text, sizeof text);
    step->description = lun_strdup(text);
    if (!step->description)
        return LUN_ERR_MEMORY;
    const char *pin = params && params->pin ? params->pin(params->payload, text) : NULL;
    const bool allowed = params && params->allow_fallback;
    const bool pinned_fallback = pin && strncmp(pin, FALLBACK_PREFIX, strlen(FALLBACK_PREFIX)) == 0;
    if (pinned_fallback && !allowed)
        return lun_fail(LUN_ERR_USAGE, "%s: pinned to plain C (%s), but fallback is not allowed", text, pin);
    lun_status status = LUN_UNSUPPORTED;
    char reason[512];
    if (pinned_fallback) {
        const char *name = pin + strlen(FALLBACK_PREFIX);
        status = plan_fallback(plan, step, name, "recorded so when the run began", warned);
    } else {
        status = lun_op_plan_create(plan->device, &step->op, pin, &step->plan);
        if (status == LUN_UNSUPPORTED && !pin) {
            snprintf(reason, sizeof reason, "%s", lun_error_detail());
            if (!allowed || strcmp(plan->device->driver->name, "cpu") == 0)
                return lun_fail(LUN_UNSUPPORTED, "%s declines %s: %s", plan->device->info.spec, text, reason);
            status = plan_fallback(plan, step, NULL, reason, warned);
        }
    }
    if (status != LUN_OK && pin && (status == LUN_UNSUPPORTED || status == LUN_ERR_USAGE))
        return lun_fail(LUN_ERR_USAGE, "%s: the pinned candidate \"%s\" cannot be used: %s", text, pin,
                        lun_error_detail());
    LUN_TRY(status);
    step->candidate =
        lun_format("%s%s", step->fallback ? FALLBACK_PREFIX : "", step->plan->candidate ? step->plan->candidate : "");
    if (!step->candidate)
        return LUN_ERR_MEMORY;
    plan->info.flops += step->plan->flops;
    plan->info.bytes += step->plan->bytes;
    return LUN_OK;
}

/* ---- Memory ---- */

static lun_status make_pools(lun_device *dev, const lun_pools *pools, lun_buffer ***out)
{
    lun_buffer **buffers = lun_calloc((size_t)pools->count, sizeof *buffers, "a plan's buffers");
    if (!buffers)
        return LUN_ERR_MEMORY;
    *out = buffers; /* lun_plan_destroy frees what there is */
    for (int i = 0; i < pools->count; i++)
        LUN_TRY(lun_buffer_create(dev, pools->bytes[i], &buffers[i]));
    return LUN_OK;
}

static size_t align_up(size_t bytes)
{
    return (bytes + LUN_ALIGN - 1) / LUN_ALIGN * LUN_ALIGN;
}

/* Operands of a fallback step on the private device, one after the other, results in place where the op says so.
 * Returns their end. */
static size_t lay_cpu_operands(lun_plan *plan, lun_plan_step *step)
{
    const lun_op_info *info = lun_op_info_of(step->op.kind);
    size_t end = 0;
    for (int s = 0; s < step->op.nsrc; s++) {
        step->cpu_src[s] = (lun_place){plan->cpu_operands, end};
        end += align_up(lun_bytes(step->op.src[s]));
    }
    for (int d = 0; d < step->op.ndst; d++) {
        if (info->alias[d]) {
            step->cpu_dst[d] = step->cpu_src[info->alias[d] - 1];
            continue;
        }
        step->cpu_dst[d] = (lun_place){plan->cpu_operands, end};
        end += align_up(lun_bytes(step->op.dst[d]));
    }
    return end;
}

static lun_status make_memory(lun_plan *plan)
{
    const lun_graph *graph = plan->graph;
    size_t workspace = 0, cpu_workspace = 0, cpu_operands = 0, staging = 4;
    for (int i = 0; i < plan->step_count; i++) {
        lun_plan_step *step = &plan->steps[i];
        size_t *most = step->fallback ? &cpu_workspace : &workspace;
        if (step->plan->workspace > *most)
            *most = step->plan->workspace;
        if (!step->fallback)
            continue;
        const size_t operands = lay_cpu_operands(plan, step);
        if (operands > cpu_operands)
            cpu_operands = operands;
        if (operands > staging) /* more than its largest operand; rare enough */
            staging = operands;
    }
    for (int v = 0; v < plan->value_count; v++)
        if ((plan->readable[v] || graph->tensors[v].source == LUN_SOURCE_INPUT) &&
            lun_bytes(graph->tensors[v].desc) > staging)
            staging = lun_bytes(graph->tensors[v].desc);
    plan->info.workspace_bytes = workspace = align_up(workspace);
    plan->staging = lun_malloc(staging, 1, "a plan's staging memory");
    if (!plan->staging)
        return LUN_ERR_MEMORY;
    LUN_TRY(make_pools(plan->device, &plan->placement->arena, &plan->arena));
    LUN_TRY(make_pools(plan->device, &plan->placement->fixed, &plan->fixed));
    if (workspace)
        LUN_TRY(lun_buffer_create(plan->device, workspace, &plan->workspace));
    if (cpu_workspace)
        LUN_TRY(lun_buffer_create(plan->cpu, align_up(cpu_workspace), &plan->cpu_workspace));
    if (cpu_operands)
        LUN_TRY(lun_buffer_create(plan->cpu, cpu_operands, &plan->cpu_operands));
    return LUN_OK;
}

static lun_status bind_step(lun_plan *plan, lun_plan_step *step)
{
    const lun_node *node = &plan->graph->nodes[step->node];
    if (step->chunk >= 0) {
        lun_buffer *const *buffer = plan->graph->store->chunks[step->chunk].buffer;
        static const lun_slot operand[4] = {LUN_SLOT_VALUE, LUN_SLOT_GRAD, LUN_SLOT_M, LUN_SLOT_V};
        for (int s = 0; s < 4; s++)
            step->src[s] = (lun_place){buffer[operand[s]], 0};
        step->src[4] = lun_plan_place(plan, node->src[0]);
        const lun_op_info *info = lun_op_info_of(step->op.kind);
        for (int d = 0; d < step->op.ndst; d++)
            step->dst[d] = step->src[info->alias[d] - 1];
    } else {
        for (int s = 0; s < step->op.nsrc; s++)
            step->src[s] = lun_plan_place(plan, node->src[s]);
        for (int d = 0; d < step->op.ndst; d++)
            step->dst[d] = lun_plan_place(plan, node->dst + d);
    }
    if (!step->fallback)
        return lun_op_plan_bind(step->plan, step->src, step->dst, (lun_place){plan->workspace, 0});
    lay_cpu_operands(plan, step);
    return lun_op_plan_bind(step->plan, step->cpu_src, step->cpu_dst, (lun_place){plan->cpu_workspace, 0});
}

static lun_status set_contents(lun_plan *plan)
{
    for (int v = 0; v < plan->value_count; v++) {
        const lun_tensor *t = &plan->graph->tensors[v];
        if (t->source == LUN_SOURCE_CONSTANT)
            LUN_TRY(lun_buffer_write(lun_plan_place(plan, v), t->data, lun_bytes(t->desc)));
        /* Inputs too: a run before the first write is then defined. */
        if (t->source == LUN_SOURCE_STATE || t->source == LUN_SOURCE_INPUT)
            LUN_TRY(lun_buffer_fill(lun_plan_place(plan, v), 0, lun_bytes(t->desc)));
    }
    return LUN_OK;
}

static lun_status compile(lun_plan *plan, const lun_compile_params *params)
{
    const lun_graph *graph = plan->graph;
    bool warned[LUN_OP_KIND_COUNT] = {false};
    plan->readable = lun_calloc((size_t)plan->value_count, sizeof *plan->readable, "a plan");
    if (!plan->readable)
        return LUN_ERR_MEMORY;
    for (int v = 0; v < plan->value_count; v++) {
        const lun_tensor *t = &graph->tensors[v];
        plan->readable[v] = t->output || t->source == LUN_SOURCE_INPUT || t->source == LUN_SOURCE_STATE;
    }
    LUN_TRY(lun_placement_create(graph, plan->device->caps.max_alloc, &plan->placement));
    LUN_TRY(make_steps(plan));
    for (int i = 0; i < plan->step_count; i++)
        LUN_TRY(plan_step(plan, &plan->steps[i], params, warned));
    LUN_TRY(make_memory(plan));
    for (int i = 0; i < plan->step_count; i++)
        LUN_TRY(bind_step(plan, &plan->steps[i]));
    LUN_TRY(set_contents(plan));
    plan->info.nodes = (size_t)plan->step_count;
    plan->info.saved_bytes = plan->placement->saved_bytes;
    plan->info.temporary_bytes = plan->placement->temporary_bytes;
    plan->info.activation_bytes = plan->placement->arena.total;
    plan->info.fixed_bytes = plan->placement->fixed.total;
    return LUN_OK;
}

lun_status lun_graph_compile(lun_graph *graph, lun_device *dev, const lun_compile_params *params, lun_plan **out)
{
    LUN_TRY(check_arguments(graph, dev, out));
    lun_plan *plan = lun_calloc(1, sizeof *plan, "a plan");
    if (!plan)
        return LUN_ERR_MEMORY;
    plan->graph = graph;
    plan->device = dev;
    plan->value_count = graph->tensor_count;
    const lun_status status = compile(plan, params);
    if (status == LUN_OK)
        *out = plan;
    else
        lun_plan_destroy(&plan);
    return status;
}
