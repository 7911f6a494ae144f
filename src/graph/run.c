/* What a plan does after it is compiled. Nothing here allocates, but for the profile. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

static lun_status check_value(const lun_plan *plan, lun_value value, const char *what)
{
    if (!plan)
        return lun_fail(LUN_ERR_USAGE, "%s: no plan", what);
    if (value < 0 || value >= plan->value_count)
        return lun_fail(LUN_ERR_USAGE, "%s: %d is not a value of this plan", what, value);
    return LUN_OK;
}

static lun_status check_writable(const lun_plan *plan, lun_value value, const char *what)
{
    LUN_TRY(check_value(plan, value, what));
    const lun_source source = plan->graph->tensors[value].source;
    if (source != LUN_SOURCE_INPUT && source != LUN_SOURCE_STATE)
        return lun_fail(LUN_ERR_USAGE, "%s: value %d is neither an input nor a state", what, value);
    return LUN_OK;
}

static lun_status check_readable(const lun_plan *plan, lun_value value, const char *what)
{
    LUN_TRY(check_value(plan, value, what));
    if (!plan->readable[value])
        return lun_fail(LUN_ERR_USAGE, "%s: value %d was not an output when the graph was compiled", what, value);
    return LUN_OK;
}

lun_status lun_plan_write(lun_plan *plan, lun_value value, const void *data)
{
    LUN_TRY(check_writable(plan, value, "write"));
    if (!data)
        return lun_fail(LUN_ERR_USAGE, "write: no data");
    const lun_desc desc = plan->graph->tensors[value].desc;
    lun_to_storage(desc, data, plan->staging);
    return lun_buffer_write(lun_plan_place(plan, value), plan->staging, lun_bytes(desc));
}

lun_status lun_plan_read(lun_plan *plan, lun_value value, void *data)
{
    LUN_TRY(check_readable(plan, value, "read"));
    if (!data)
        return lun_fail(LUN_ERR_USAGE, "read: nowhere to put the data");
    const lun_desc desc = plan->graph->tensors[value].desc;
    LUN_TRY(lun_buffer_read(lun_plan_place(plan, value), plan->staging, lun_bytes(desc)));
    lun_from_storage(desc, plan->staging, data);
    return LUN_OK;
}

lun_status lun_plan_copy(lun_plan *plan, lun_value dst, lun_value src)
{
    LUN_TRY(check_writable(plan, dst, "copy"));
    LUN_TRY(check_readable(plan, src, "copy"));
    const lun_desc a = plan->graph->tensors[dst].desc, b = plan->graph->tensors[src].desc;
    if (a.dtype != b.dtype || a.layout != b.layout || !lun_shape_equal(a.shape, b.shape))
        return lun_fail(LUN_ERR_USAGE, "copy: values %d and %d are not of one shape and type", dst, src);
    return lun_buffer_copy(lun_plan_place(plan, dst), lun_plan_place(plan, src), lun_bytes(a));
}

static lun_status carry(lun_plan *plan, lun_place from, lun_place to, size_t bytes)
{
    LUN_TRY(lun_buffer_read(from, plan->staging, bytes));
    return lun_buffer_write(to, plan->staging, bytes);
}

/* Operands down, the op in plain C, results up. A result between others' channels goes both ways, so that these come
 * back as they were. */
static lun_status run_fallback(lun_plan *plan, lun_plan_step *step)
{
    const lun_op *op = &step->op;
    for (int s = 0; s < op->nsrc; s++)
        LUN_TRY(carry(plan, step->src[s], step->cpu_src[s], lun_src_span(op, s)));
    for (int d = 0; d < op->ndst; d++)
        if (op->dst_pitch[d])
            LUN_TRY(carry(plan, step->dst[d], step->cpu_dst[d], lun_dst_span(op, d)));
    LUN_TRY(lun_op_plan_run(step->plan));
    for (int d = 0; d < op->ndst; d++)
        LUN_TRY(carry(plan, step->cpu_dst[d], step->dst[d], lun_dst_span(op, d)));
    return LUN_OK;
}

lun_status lun_plan_run_step(lun_plan *plan, lun_plan_step *step)
{
    return step->fallback ? run_fallback(plan, step) : lun_op_plan_run(step->plan);
}

/* The operands of what is prepared lie where plain C finds them only after they have been copied there. */
static lun_status prepare_step(lun_plan *plan, lun_plan_step *step)
{
    for (int s = 0; s < step->op.nsrc && step->fallback; s++)
        if (step->plan->kept_src >> s & 1u)
            LUN_TRY(carry(plan, step->src[s], step->cpu_src[s], lun_src_span(&step->op, s)));
    return lun_op_plan_prepare(step->plan);
}

lun_status lun_plan_begin(lun_plan *plan)
{
    lun_store *store = plan->graph->store;
    if (plan->info.kept_bytes > 0 && plan->prepared != (store ? store->version : 1)) {
        for (int i = 0; i < plan->step_count; i++)
            if (plan->steps[i].kept)
                LUN_TRY(prepare_step(plan, &plan->steps[i]));
        plan->prepared = store ? store->version : 1;
    }
    if (plan->changes_store)
        store->version++;
    return LUN_OK;
}

lun_status lun_plan_run(lun_plan *plan)
{
    if (!plan)
        return lun_fail(LUN_ERR_USAGE, "run: no plan");
    LUN_TRY(lun_plan_begin(plan));
    for (int i = 0; i < plan->step_count; i++)
        LUN_TRY(lun_plan_run_step(plan, &plan->steps[i]));
    return LUN_OK;
}

lun_plan_info lun_plan_get_info(const lun_plan *plan)
{
    return plan->info;
}

static lun_plan_op describe(const lun_plan_step *step)
{
    return (lun_plan_op){.kind = lun_op_info_of(step->op.kind)->name,
                         .description = step->description,
                         .candidate = step->candidate,
                         .fallback = step->fallback,
                         .flops = step->plan->flops,
                         .bytes = step->plan->bytes};
}

void lun_plan_visit(const lun_plan *plan, void (*visit)(void *payload, const lun_plan_op *op), void *payload)
{
    for (int i = 0; i < plan->step_count; i++) {
        const lun_plan_op op = describe(&plan->steps[i]);
        visit(payload, &op);
    }
}

static int compare_seconds(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_seconds);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

lun_status lun_plan_profile(lun_plan *plan, int repeats, void (*visit)(void *payload, const lun_plan_op *op),
                            void *payload)
{
    if (!plan || repeats < 1)
        return lun_fail(LUN_ERR_USAGE, "profile: no plan, or %d repeats", repeats);
    double *seconds = lun_malloc((size_t)plan->step_count * (size_t)repeats, sizeof *seconds, "a profile");
    if (!seconds)
        return LUN_ERR_MEMORY;
    lun_status status = lun_plan_begin(plan);
    if (status == LUN_OK)
        status = lun_device_finish(plan->device);
    for (int r = 0; r < repeats; r++) {
        for (int i = 0; i < plan->step_count && status == LUN_OK; i++) {
            const double start = lun_clock();
            status = lun_plan_run_step(plan, &plan->steps[i]);
            if (status == LUN_OK)
                status = lun_device_finish(plan->device);
            seconds[(size_t)i * (size_t)repeats + (size_t)r] = lun_clock() - start;
        }
    }
    for (int i = 0; i < plan->step_count && status == LUN_OK; i++) {
        lun_plan_op op = describe(&plan->steps[i]);
        op.seconds = median(seconds + (size_t)i * (size_t)repeats, repeats);
        visit(payload, &op);
    }
    free(seconds);
    return status;
}
