/* From a graph to a plan: everything that a run needs, decided and allocated. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

#include "device/tune.h"

#define FALLBACK_PREFIX "fallback:" /* before the candidate's name where plain C stands in, also in a pin */

void lun_plan_destroy(lun_plan **plan)
{
    if (!plan || !*plan)
        return;
    lun_plan *p = *plan;
    for (int i = 0; i < p->step_count; i++) {
        lun_op_plan_destroy(&p->steps[i].plan);
        lun_buffer_destroy(&p->steps[i].kept);
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
    lun_graph_free_fused(&p->graph);
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
        if (root->grad_of >= 0)
            return lun_store_place(graph->store, root->grad_of, LUN_SLOT_GRAD);
        /* What is not trained has no average: its value serves. */
        return lun_store_place(graph->store, root->param,
                               graph->store->entries[root->param].info.role == LUN_ROLE_PARAM ? plan->values
                                                                                              : LUN_SLOT_VALUE);
    case LUN_REGION_NONE: break;
    }
    return (lun_place){NULL, 0};
}

static lun_status check_arguments(const lun_graph *graph, const lun_device *dev, lun_slot values, lun_plan **out)
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
    if (values == LUN_SLOT_VALUE)
        return LUN_OK;
    if (trained || (int)values < LUN_SLOT_EMA || values > LUN_SLOT_LAST)
        return lun_fail(LUN_ERR_USAGE, "a graph that %s with slot %d for its parameters' values",
                        trained ? "trains" : "runs", (int)values);
    if (graph->store->trained_chunks > 0 && !graph->store->chunks[0].buffer[values])
        return lun_fail(LUN_ERR_USAGE, "the store has no moving average %d", (int)values - LUN_SLOT_EMA);
    return LUN_OK;
}

/* ---- Steps ---- */

/* What a node over the store asks of one chunk. */
static lun_status chunk_op(const lun_graph *graph, const lun_node *node, int chunk, lun_op *op)
{
    const lun_desc piece = lun_image(1, (int64_t)(graph->store->chunks[chunk].bytes / 4), 1, 1);
    *op = (lun_op){.kind = node->op.kind, .attrs = node->op.attrs, .nsrc = node->operands};
    for (int s = 0, own = 0; s < node->operands; s++)
        op->src[s] = node->operand[s] == LUN_OWN_OPERAND ? node->op.src[own++] : piece;
    if (op->kind == LUN_OP_SUM_SQUARES) {
        if (chunk >= LUN_STORE_PARTS)
            return lun_fail(LUN_ERR_MEMORY, "the parameters lie in more than %d buffers of this device",
                            LUN_STORE_PARTS);
        op->attrs.squares.slot = chunk;
    }
    return lun_op_infer(op);
}

/* The chunks that a node over the store goes through, *first to before *end. */
static void node_chunks(const lun_graph *graph, const lun_node *node, int *first, int *end)
{
    const int trained = graph->store->trained_chunks;
    *first = node->untrained ? trained : 0;
    *end = node->untrained ? graph->store->chunk_count : trained;
}

static lun_status make_steps(lun_plan *plan)
{
    const lun_graph *graph = plan->graph;
    size_t count = 0;
    for (int n = 0; n < graph->node_count; n++) {
        int first = 0, end = plan->placement->live[n] ? 1 : 0;
        if (graph->nodes[n].whole_store)
            node_chunks(graph, &graph->nodes[n], &first, &end);
        count += (size_t)(end - first);
    }
    plan->steps = lun_calloc(count, sizeof *plan->steps, "a plan's steps");
    if (!plan->steps)
        return LUN_ERR_MEMORY;
    for (int n = 0; n < graph->node_count; n++) {
        const lun_node *node = &graph->nodes[n];
        int first = 0, end = plan->placement->live[n] ? 1 : 0;
        if (node->whole_store)
            node_chunks(graph, node, &first, &end);
        for (int c = first; c < end; c++) {
            lun_plan_step *step = &plan->steps[plan->step_count++];
            step->op = node->op;
            step->node = n;
            step->chunk = -1;
            if (node->whole_store) {
                step->chunk = c;
                LUN_TRY(chunk_op(graph, node, c, &step->op));
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

/* A step as the tuner knows it. Whether it keeps what it prepares is known for sure only once it has a plan; until then
 * it is taken from its filter. */
static lun_tune_op tune_op(const lun_plan *plan, const lun_plan_step *step, const lun_compile_params *params)
{
    const lun_graph *graph = plan->graph;
    lun_tune_op op = {.op = step->op};
    if (params->keep && step->chunk < 0 && step->op.nsrc > 1 && !(graph->store && graph->store->training)) {
        const lun_source filter = graph->tensors[graph->nodes[step->node].src[1]].source;
        op.kept = filter == LUN_SOURCE_PARAM || filter == LUN_SOURCE_CONSTANT;
    }
    return op;
}

/* Measure what no pin decides, before the plan has its own memory. */
static lun_status tune_steps(const lun_plan *plan, const lun_compile_params *params)
{
    if (!params || !params->tune || !params->tuning)
        return LUN_OK;
    lun_tune_op *ops = lun_calloc((size_t)plan->step_count, sizeof *ops, "tuning");
    size_t count = 0;
    if (!ops)
        return LUN_ERR_MEMORY;
    for (int i = 0; i < plan->step_count; i++) {
        char text[256];
        lun_op_describe(&plan->steps[i].op, text, sizeof text);
        if (!params->pin || !params->pin(params->payload, text))
            ops[count++] = tune_op(plan, &plan->steps[i], params);
    }
    const lun_status status = lun_tune_ops(plan->device, ops, count, params->tune, params->tuning);
    free(ops);
    return status;
}

/* The remembered choice for a step, or NULL. */
static const char *tuned_candidate(const lun_plan *plan, const lun_plan_step *step, const lun_compile_params *params)
{
    char text[LUN_TUNE_TEXT];
    if (!params || lun_tuning_count(params->tuning) == 0)
        return NULL;
    const lun_tune_op op = tune_op(plan, step, params);
    lun_tune_describe(&op, text);
    return lun_tuning_candidate(params->tuning, text);
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
        const char *tuned = pin ? NULL : tuned_candidate(plan, step, params);
        if (tuned)
            status = lun_op_plan_create(plan->device, &step->op, tuned, &step->plan);
        if (status == LUN_UNSUPPORTED) /* a choice for another build or setting than it says: never a reason to fail */
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
        end += align_up(lun_src_span(&step->op, s));
    }
    for (int d = 0; d < step->op.ndst; d++) {
        if (info->alias[d]) {
            step->cpu_dst[d] = step->cpu_src[info->alias[d] - 1];
            continue;
        }
        step->cpu_dst[d] = (lun_place){plan->cpu_operands, end};
        end += align_up(lun_dst_span(&step->op, d));
    }
    return end;
}

/* ---- What is kept from run to run ----
 * Memory for speed: where the parameters stay as they are, filters are repacked once and not in every run. A store that
 * trains does without; its parameters change in every step. */

/* The most that a plan keeps, of the device's memory. */
#define KEPT_SHARE 4

static void find_keepable(lun_plan *plan)
{
    const lun_graph *graph = plan->graph;
    for (int i = 0; i < plan->step_count; i++) {
        lun_plan_step *step = &plan->steps[i];
        const lun_op_info *info = lun_op_info_of(step->op.kind);
        if (step->chunk >= 0) {
            plan->changes_store = true;
            continue;
        }
        const lun_node *node = &graph->nodes[step->node];
        for (int d = 0; d < step->op.ndst; d++) {
            const lun_tensor *root = &graph->tensors[graph->tensors[node->dst[d]].root];
            plan->changes_store = plan->changes_store || (info->alias[d] && root->source == LUN_SOURCE_PARAM);
        }
        step->keepable = step->plan->kept > 0;
        for (int s = 0; s < step->op.nsrc; s++) {
            const lun_source source = graph->tensors[node->src[s]].source;
            if ((step->plan->kept_src >> s & 1u) && source != LUN_SOURCE_PARAM && source != LUN_SOURCE_CONSTANT)
                step->keepable = false;
        }
    }
}

static void drop_kept(lun_plan *plan)
{
    for (int i = 0; i < plan->step_count; i++)
        lun_buffer_destroy(&plan->steps[i].kept);
    plan->info.kept_bytes = 0;
}

/* Too little memory is no error here: then nothing is kept. */
static lun_status make_kept(lun_plan *plan)
{
    const uint64_t memory = plan->device->info.memory_bytes, most = memory ? memory / KEPT_SHARE : UINT64_MAX;
    for (int i = 0; i < plan->step_count; i++) {
        lun_plan_step *step = &plan->steps[i];
        const size_t bytes = align_up(step->plan->kept);
        if (!step->keepable || bytes > most - plan->info.kept_bytes)
            continue;
        const lun_status status = lun_buffer_create(step->plan->device, bytes, &step->kept);
        if (status != LUN_OK) {
            drop_kept(plan);
            return status == LUN_ERR_MEMORY ? LUN_OK : status;
        }
        plan->info.kept_bytes += bytes;
    }
    return LUN_OK;
}

static lun_status make_memory(lun_plan *plan)
{
    const lun_graph *graph = plan->graph;
    size_t workspace = 0, cpu_workspace = 0, cpu_operands = 0, staging = 4;
    for (int i = 0; i < plan->step_count; i++) {
        lun_plan_step *step = &plan->steps[i];
        size_t *most = step->fallback ? &cpu_workspace : &workspace;
        const size_t needed = step->plan->workspace - (step->kept ? step->plan->kept : 0);
        if (needed > *most)
            *most = needed;
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
        for (int s = 0, own = 0; s < step->op.nsrc; s++) {
            if (node->operand[s] == LUN_OWN_OPERAND)
                step->src[s] = lun_plan_place(plan, node->src[own++]);
            else
                step->src[s] = (lun_place){buffer[node->operand[s]], 0};
        }
        const lun_op_info *info = lun_op_info_of(step->op.kind);
        for (int d = 0; d < step->op.ndst; d++)
            step->dst[d] = step->src[info->alias[d] - 1];
    } else {
        for (int s = 0; s < step->op.nsrc; s++)
            step->src[s] = lun_plan_place(plan, node->src[s]);
        for (int d = 0; d < step->op.ndst; d++)
            step->dst[d] = lun_plan_place(plan, node->dst[d]);
    }
    const lun_place *src = step->src, *dst = step->dst;
    if (step->fallback) {
        lay_cpu_operands(plan, step);
        src = step->cpu_src;
        dst = step->cpu_dst;
    }
    const lun_place workspace = {step->fallback ? plan->cpu_workspace : plan->workspace, 0};
    if (step->kept)
        return lun_op_plan_bind_kept(step->plan, src, dst, workspace, (lun_place){step->kept, 0});
    return lun_op_plan_bind(step->plan, src, dst, workspace);
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
    LUN_TRY(tune_steps(plan, params));
    for (int i = 0; i < plan->step_count; i++)
        LUN_TRY(plan_step(plan, &plan->steps[i], params, warned));
    find_keepable(plan);
    if (params && params->keep && !plan->changes_store && (!graph->store || !graph->store->training))
        LUN_TRY(make_kept(plan));
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
    const lun_slot values = params ? params->values : LUN_SLOT_VALUE;
    LUN_TRY(check_arguments(graph, dev, values, out));
    lun_plan *plan = lun_calloc(1, sizeof *plan, "a plan");
    if (!plan)
        return LUN_ERR_MEMORY;
    plan->recorded = graph;
    plan->device = dev;
    plan->values = values;
    plan->value_count = graph->tensor_count;
    lun_status status = lun_graph_fuse(graph, &plan->graph);
    if (status == LUN_OK)
        status = lun_graph_make_views(plan->graph);
    if (status == LUN_OK)
        status = compile(plan, params);
    if (status == LUN_OK)
        *out = plan;
    else
        lun_plan_destroy(&plan);
    return status;
}
