/* The check device: two devices side by side, op by op.
 *
 * Every buffer and plan exists on both. run() runs the op on A and on B from equal operands, reads each destination
 * from both and compares; then A's result replaces B's, so that differences do not add up and a report names the op
 * that is wrong and no other. Slow by design. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "device/check_plan.h"

static void check_close(lun_device *dev)
{
    check_state *state = dev->state;
    lun_device_close(&state->a);
    lun_device_close(&state->b);
    free(state);
}

/* 0 is no limit. */
static size_t smaller_limit(uint64_t a, uint64_t b)
{
    return (size_t)(a == 0 || (b != 0 && b < a) ? b : a);
}

static lun_status check_open(lun_device *dev, int index, const lun_device_params *params)
{
    (void)index;
    char spec_a[sizeof dev->info.spec] = "cpu", spec_b[sizeof dev->info.spec] = "opencl";
    const char *colon = strchr(dev->info.spec, ':'), *comma = strchr(dev->info.spec, ',');
    if (colon && comma) {
        snprintf(spec_a, sizeof spec_a, "%.*s", (int)(comma - colon - 1), colon + 1);
        snprintf(spec_b, sizeof spec_b, "%s", comma + 1);
    }
    check_state *state = lun_calloc(1, sizeof *state, "the check device");
    if (!state)
        return LUN_ERR_MEMORY;
    dev->state = state;
    lun_status status = lun_device_open(spec_a, params, &state->a);
    if (status == LUN_OK)
        status = lun_device_open(spec_b, params, &state->b);
    if (status != LUN_OK) {
        check_close(dev);
        return status;
    }
    const lun_device_info *a = &state->a->info, *b = &state->b->info;
    lun_device_info *info = &dev->info;
    snprintf(info->name, sizeof info->name, "%.60s | %.60s", a->name, b->name);
    snprintf(info->platform, sizeof info->platform, "%.60s | %.60s", a->platform, b->platform);
    snprintf(info->driver, sizeof info->driver, "%.60s | %.60s", a->driver, b->driver);
    info->type = LUN_DEVICE_OTHER;
    info->units = a->units;
    dev->caps = state->a->caps;
    /* A buffer exists on both. */
    dev->caps.max_alloc = smaller_limit(a->max_alloc_bytes, b->max_alloc_bytes);
    info->max_alloc_bytes = dev->caps.max_alloc;
    return LUN_OK;
}

static void check_buffer_destroy(lun_buffer *base)
{
    check_buffer *buffer = (check_buffer *)base;
    lun_buffer_destroy(&buffer->a);
    lun_buffer_destroy(&buffer->b);
    free(buffer);
}

static lun_status check_buffer_create(lun_device *dev, size_t bytes, lun_buffer **out)
{
    check_state *state = dev->state;
    check_buffer *buffer = lun_calloc(1, sizeof *buffer, "a buffer");
    if (!buffer)
        return LUN_ERR_MEMORY;
    lun_status status = lun_buffer_create(state->a, bytes, &buffer->a);
    if (status == LUN_OK)
        status = lun_buffer_create(state->b, bytes, &buffer->b);
    /* Equal from the start, so that what an op leaves unwritten cannot differ. */
    if (status == LUN_OK)
        status = lun_buffer_fill((lun_place){buffer->a, 0}, 0, bytes);
    if (status == LUN_OK)
        status = lun_buffer_fill((lun_place){buffer->b, 0}, 0, bytes);
    if (status != LUN_OK) {
        check_buffer_destroy(&buffer->base);
        return status;
    }
    *out = &buffer->base;
    return LUN_OK;
}

static lun_status check_write(lun_place dst, const void *src, size_t bytes)
{
    LUN_TRY(lun_buffer_write(on_a(dst), src, bytes));
    return lun_buffer_write(on_b(dst), src, bytes);
}

static lun_status check_read(lun_place src, void *dst, size_t bytes)
{
    return lun_buffer_read(on_a(src), dst, bytes);
}

static lun_status check_fill(lun_place dst, uint32_t word, size_t bytes)
{
    LUN_TRY(lun_buffer_fill(on_a(dst), word, bytes));
    return lun_buffer_fill(on_b(dst), word, bytes);
}

static lun_status check_copy(lun_place dst, lun_place src, size_t bytes)
{
    LUN_TRY(lun_buffer_copy(on_a(dst), on_a(src), bytes));
    return lun_buffer_copy(on_b(dst), on_b(src), bytes);
}

static void check_plan_destroy(lun_op_plan *base)
{
    check_plan *plan = (check_plan *)base;
    lun_op_plan_destroy(&plan->a);
    lun_op_plan_destroy(&plan->b);
    free(plan->host_a);
    free(plan->host_b);
    free(plan->host_src);
    free(plan->x);
    free(plan);
}

/* The two halves of a name (check.h). */
static void split_candidate(const char *candidate, char a[64], char b[64])
{
    const char *bar = strchr(candidate, '|');
    snprintf(a, 64, "%.*s", bar ? (int)(bar - candidate) : 63, candidate);
    snprintf(b, 64, "%s", bar ? bar + 1 : candidate);
}

static lun_status plan_side(lun_device *side, const lun_op *op, const char *name, lun_op_plan **out)
{
    const bool optional = name[0] == '?';
    name += optional;
    lun_status status = lun_op_plan_create(side, op, name[0] ? name : NULL, out);
    if (status == LUN_UNSUPPORTED && optional && name[0])
        status = lun_op_plan_create(side, op, NULL, out);
    return status;
}

/* A kernel that is not `name`, where the side has one. */
static lun_status plan_other(lun_device *side, const lun_op *op, const char *name, lun_op_plan **out)
{
    for (const lun_candidate *c = lun_candidates(op->kind); c && c->name; c++) {
        if (strcmp(c->name, name) == 0)
            continue;
        const lun_status status = lun_op_plan_create(side, op, c->name, out);
        if (status != LUN_UNSUPPORTED)
            return status;
    }
    return lun_op_plan_create(side, op, NULL, out);
}

static lun_status check_plan_create(lun_device *dev, const lun_op *op, const char *candidate, lun_op_plan **out)
{
    check_state *state = dev->state;
    char name_a[64] = "", name_b[64] = "";
    size_t src_bytes = 4, dst_bytes = 4;
    int64_t channels = 1;
    check_plan *plan = lun_calloc(1, sizeof *plan, "a plan");
    if (!plan)
        return LUN_ERR_MEMORY;
    if (candidate)
        split_candidate(candidate, name_a, name_b);
    const bool other = strcmp(name_a, "~") == 0; /* than B's, which is then planned first */
    lun_status status = other ? LUN_OK : plan_side(state->a, op, name_a, &plan->a);
    if (status == LUN_OK) {
        status = plan_side(state->b, op, name_b, &plan->b);
        /* A has it and B has not: then B is not checked, which is what this device is for. */
        if (status == LUN_UNSUPPORTED && (!candidate || other))
            status = lun_fail(LUN_ERR_DEVICE, "check: %s declines: %s", state->b->info.spec, lun_error_detail());
    }
    if (status == LUN_OK && other)
        status = plan_other(state->a, op, plan->b->candidate, &plan->a);
    for (int s = 0; s < op->nsrc; s++) {
        src_bytes = lun_src_span(op, s) > src_bytes ? lun_src_span(op, s) : src_bytes;
        channels = lun_max_i64(channels, op->src[s].shape.c);
    }
    for (int d = 0; d < op->ndst; d++)
        dst_bytes = lun_dst_span(op, d) > dst_bytes ? lun_dst_span(op, d) : dst_bytes;
    for (int d = 1; d < op->ndst; d++) /* a convolution's statistics have two numbers a channel */
        channels = lun_max_i64(channels, lun_count(op->dst[d].shape));
    if (status == LUN_OK) {
        plan->host_a = lun_malloc(dst_bytes, 1, "a comparison");
        plan->host_b = lun_malloc(dst_bytes, 1, "a comparison");
        plan->host_src = lun_malloc(src_bytes, 1, "a comparison");
        plan->x = lun_calloc((size_t)channels * 3, sizeof *plan->x, "a comparison");
        if (!plan->host_a || !plan->host_b || !plan->host_src || !plan->x) {
            status = LUN_ERR_MEMORY;
        } else {
            plan->g = plan->x + channels;
            plan->scale = plan->g + channels;
        }
    }
    if (status != LUN_OK) {
        check_plan_destroy(&plan->base);
        return status;
    }
    snprintf(plan->candidate, sizeof plan->candidate, "%s|%s", plan->a->candidate, plan->b->candidate);
    plan->base.candidate = plan->candidate;
    /* Scratch for the larger of the two, then kept memory for the larger. */
    const size_t scratch_a = plan->a->workspace - plan->a->kept, scratch_b = plan->b->workspace - plan->b->kept;
    plan->base.kept = plan->a->kept > plan->b->kept ? plan->a->kept : plan->b->kept;
    plan->base.kept_src = plan->a->kept_src | plan->b->kept_src;
    plan->base.workspace = scratch_a > scratch_b ? scratch_a : scratch_b;
    if (plan->base.kept > 0)
        plan->base.workspace = (size_t)lun_round_up((int64_t)plan->base.workspace, 256) + plan->base.kept;
    *out = &plan->base;
    return LUN_OK;
}

/* The kept memory of A and B is as this device's own: apart from the workspace, or behind its scratch. */
static lun_status bind_side(lun_op_plan *side, const lun_place *src, const lun_place *dst, lun_place workspace,
                            lun_place kept)
{
    if (side->kept > 0)
        return lun_op_plan_bind_kept(side, src, dst, workspace, kept);
    return lun_op_plan_bind(side, src, dst, workspace);
}

static lun_status check_bind(lun_op_plan *base, const lun_place *src, const lun_place *dst, lun_place workspace,
                             lun_place kept)
{
    check_plan *plan = (check_plan *)base;
    lun_place s[LUN_OP_MAX_SRC] = {{0}}, d[LUN_OP_MAX_DST] = {{0}};
    for (int i = 0; i < base->op.nsrc; i++) {
        plan->src[i] = src[i];
        s[i] = on_a(src[i]);
    }
    for (int i = 0; i < base->op.ndst; i++) {
        plan->dst[i] = dst[i];
        d[i] = on_a(dst[i]);
    }
    const lun_place none = {0};
    LUN_TRY(bind_side(plan->a, s, d, workspace.buffer ? on_a(workspace) : none, kept.buffer ? on_a(kept) : none));
    for (int i = 0; i < base->op.nsrc; i++)
        s[i] = on_b(src[i]);
    for (int i = 0; i < base->op.ndst; i++)
        d[i] = on_b(dst[i]);
    return bind_side(plan->b, s, d, workspace.buffer ? on_b(workspace) : none, kept.buffer ? on_b(kept) : none);
}

static lun_status check_run(lun_op_plan *base, lun_part part)
{
    check_plan *plan = (check_plan *)base;
    if (part != LUN_PART_REST) {
        LUN_TRY(lun_op_plan_prepare(plan->a));
        LUN_TRY(lun_op_plan_prepare(plan->b));
    }
    if (part == LUN_PART_PREPARE)
        return LUN_OK;
    const lun_op *op = &base->op;
    double plain = 0;
    LUN_TRY(lun_check_sources(plan, &plain)); /* before the op runs: a destination may take the place of a source */
    LUN_TRY(lun_op_plan_run(plan->a));
    LUN_TRY(lun_op_plan_run(plan->b));
    for (int d = 0; d < op->ndst; d++) {
        const size_t bytes = lun_dst_span(op, d);
        LUN_TRY(lun_buffer_read(on_a(plan->dst[d]), plan->host_a, bytes));
        LUN_TRY(lun_buffer_read(on_b(plan->dst[d]), plan->host_b, bytes));
        const bool equal = memcmp(plan->host_a, plan->host_b, bytes) == 0;
        if (!equal)
            LUN_TRY(lun_buffer_write(on_b(plan->dst[d]), plan->host_a, bytes));
        LUN_TRY(lun_check_compare(plan, d, plain, equal));
    }
    return LUN_OK;
}

static lun_status check_finish(lun_device *dev)
{
    check_state *state = dev->state;
    LUN_TRY(lun_device_finish(state->a));
    return lun_device_finish(state->b);
}

lun_device *lun_check_side(const lun_device *dev, int which)
{
    const check_state *state = dev->state;
    return which == 0 ? state->a : state->b;
}

void lun_check_observe(lun_device *dev, void (*observe)(void *payload, const lun_check_finding *finding), void *payload)
{
    check_state *state = dev->state;
    state->observe = observe;
    state->payload = payload;
}

extern const lun_driver lun_driver_check;
const lun_driver lun_driver_check = {
    .name = "check",
    .open = check_open,
    .close = check_close,
    .buffer_create = check_buffer_create,
    .buffer_destroy = check_buffer_destroy,
    .write = check_write,
    .read = check_read,
    .fill = check_fill,
    .copy = check_copy,
    .plan = check_plan_create,
    .plan_destroy = check_plan_destroy,
    .bind = check_bind,
    .run = check_run,
    .finish = check_finish,
};
