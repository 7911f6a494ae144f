/* Choosing among an op's candidates, the same for every driver that runs the kernel texts. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "device/driver.h"

typedef struct reasons {
    char text[768];
    size_t length;
} reasons;

/* What does not fit is cut. */
static void add(reasons *r, const char *name, const char *reason)
{
    const size_t left = sizeof r->text - r->length;
    const int wrote =
        snprintf(r->text + r->length, left, "%s%s%s%s", r->length ? "; " : "", name, reason[0] ? ": " : "", reason);
    if (wrote > 0)
        r->length += (size_t)wrote < left ? (size_t)wrote : left - 1;
}

/* What is prepared may be all that a later run finds: it must not depend on scratch, nor be scratch. */
static bool good_prepare(const lun_lowering *lowering, int i)
{
    const lun_launch *launch = &lowering->launch[i];
    if (!launch->prepare)
        return true;
    bool good = i == 0 || lowering->launch[i - 1].prepare;
    for (int b = 0; b < launch->buffers; b++)
        good = good && (launch->buffer[b].space == LUN_SPACE_SRC || launch->buffer[b].space == LUN_SPACE_KEPT);
    return good;
}

/* Drivers trust a lowering, so a wrong one must not reach them. */
static lun_status check_lowering(const lun_op *op, const char *name, const lun_lowering *lowering)
{
    bool good = lowering->count >= 1 && lowering->count <= LUN_MAX_LAUNCHES;
    for (int i = 0; good && i < lowering->count; i++) {
        const lun_launch *launch = &lowering->launch[i];
        good = launch->buffers >= 1 && launch->buffers <= LUN_LAUNCH_MAX_BUFFERS &&
               launch->args_bytes <= LUN_LAUNCH_MAX_ARGS && good_prepare(lowering, i);
        for (int b = 0; good && b < launch->buffers; b++) {
            const lun_launch_buffer *buffer = &launch->buffer[b];
            const int operands = buffer->space == LUN_SPACE_SRC   ? op->nsrc
                                 : buffer->space == LUN_SPACE_DST ? op->ndst
                                                                  : 1;
            good = buffer->index >= 0 && buffer->index < operands &&
                   (buffer->space != LUN_SPACE_WORKSPACE || buffer->offset < lowering->workspace) &&
                   (buffer->space != LUN_SPACE_KEPT || buffer->offset < lowering->kept);
        }
        if (!good)
            break;
        if (!launch->file) {
            good = launch->buffers == 3 && launch->gemm.m >= 1 && launch->gemm.n >= 1 && launch->gemm.k >= 1;
        } else {
            good = launch->kernel && launch->items >= 1 && launch->items <= INT32_MAX && launch->group >= 0 &&
                   (launch->group == 0 || launch->items % launch->group == 0);
        }
    }
    if (good)
        return LUN_OK;
    char what[160];
    lun_op_describe(op, what, sizeof what);
    return lun_fail(LUN_ERR_INTERNAL, "%s: candidate %s lowers to an impossible launch", what, name);
}

/* Scratch, and behind it what could be kept. */
static size_t whole_workspace(const lun_lowering *lowering)
{
    return lowering->kept > 0 ? (size_t)lun_round_up((int64_t)lowering->workspace, 256) + lowering->kept
                              : lowering->workspace;
}

void lun_op_plan_set_memory(lun_op_plan *plan, const lun_lowering *lowering)
{
    plan->workspace = whole_workspace(lowering);
    plan->kept = lowering->kept;
    plan->kept_src = 0;
    plan->prepares = 0;
    for (int i = 0; i < lowering->count && lowering->launch[i].prepare; i++) {
        plan->prepares++;
        for (int b = 0; b < lowering->launch[i].buffers; b++)
            if (lowering->launch[i].buffer[b].space == LUN_SPACE_SRC)
                plan->kept_src |= 1u << lowering->launch[i].buffer[b].index;
    }
}

/* One candidate: lowered, checked, made ready; LUN_UNSUPPORTED if it or the device declines. */
static lun_status try_candidate(lun_device *dev, const lun_op *op, const lun_candidate *c,
                                lun_status (*ready)(lun_device *dev, const lun_lowering *lowering, void *payload),
                                void *payload, lun_lowering *lowering)
{
    memset(lowering, 0, sizeof *lowering);
    LUN_TRY(c->lower(op, &dev->caps, lowering));
    LUN_TRY(check_lowering(op, c->name, lowering));
    if (dev->caps.max_alloc != 0 && whole_workspace(lowering) > dev->caps.max_alloc)
        return lun_fail(LUN_UNSUPPORTED, "its workspace of %zu bytes is more than one buffer of this device holds",
                        whole_workspace(lowering));
    LUN_TRY(ready(dev, lowering, payload));
    char what[160];
    lun_op_describe(op, what, sizeof what);
    lun_log(LUN_LOG_DEBUG, "%s: %s by %s (%d launches, %zu bytes of workspace)", dev->info.spec, what, c->name,
            lowering->count, whole_workspace(lowering));
    return LUN_OK;
}

/* First those that suit the op, then all others; by name, only the one. */
static bool has_turn(const lun_device *dev, const lun_op *op, const lun_candidate *c, const char *named, bool first)
{
    if (named)
        return first && strcmp(named, c->name) == 0;
    const bool suits = c->suits && c->suits(op, &dev->caps);
    return first == suits;
}

lun_status lun_choose_candidate(lun_device *dev, const lun_op *op, const char *candidate,
                                lun_status (*ready)(lun_device *dev, const lun_lowering *lowering, void *payload),
                                void *payload, lun_lowering *lowering, const char **name)
{
    reasons declined = {{0}, 0}, names = {{0}, 0};
    const lun_candidate *list = lun_candidates(op->kind);
    bool known = false;
    for (int turn = 0; turn < 2; turn++) {
        for (const lun_candidate *c = list; c && c->name; c++) {
            if (turn == 0)
                add(&names, c->name, "");
            if (!has_turn(dev, op, c, candidate, turn == 0))
                continue;
            known = true;
            const lun_status status = try_candidate(dev, op, c, ready, payload, lowering);
            if (status == LUN_OK)
                *name = c->name;
            if (status != LUN_UNSUPPORTED)
                return status;
            add(&declined, c->name, lun_error_detail());
        }
    }
    char what[160];
    lun_op_describe(op, what, sizeof what);
    if (candidate && !known)
        return lun_fail(LUN_UNSUPPORTED, "%s: no candidate %s; there are %s", what, candidate,
                        names.length ? names.text : "none");
    return lun_fail(LUN_UNSUPPORTED, "%s: %s", what, declined.length ? declined.text : "no kernel computes it");
}
