/* Op plans: every launch of a plan has a kernel object of its own, whose arguments are set when the plan is bound, so
 * that running is nothing but enqueueing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "opencl.h"

/* Rows of a matrix product that a part of it has a multiple of: what external kernels have their tiles in. */
#define GEMM_ROWS 256

typedef struct opencl_launch {
    lun_launch launch;
    cl_kernel kernel; /* NULL for a matrix product */
    size_t global, local;
    int64_t at_a_time; /* items, lun_launch_items() */
    lun_place gemm_place[3];
} opencl_launch;

typedef struct opencl_plan {
    lun_op_plan base;
    int count;
    opencl_launch *launch;
} opencl_plan;

static void release_launches(opencl_plan *plan)
{
    for (int i = 0; i < plan->count; i++) {
        if (plan->launch[i].kernel)
            (void)clReleaseKernel(plan->launch[i].kernel);
    }
    free(plan->launch);
    plan->launch = NULL;
    plan->count = 0;
}

/* A kernel for work-groups may ask for more than a device has: that declines a candidate. An item kernel must compile.
 */
static lun_status decline(const lun_launch *launch, lun_status status)
{
    if (status != LUN_ERR_DEVICE || launch->group == 0)
        return status;
    lun_log(LUN_LOG_WARN, "%s", lun_error_detail());
    return lun_fail(LUN_UNSUPPORTED, "%s", lun_error_detail());
}

static lun_status make_kernel(lun_opencl *cl, const lun_launch *from, opencl_launch *to)
{
    cl_program program;
    cl_int error;
    LUN_TRY(lun_opencl_program_get(cl, from->file, from->options, from->group > 0 ? lun_opencl_group(cl) : to->local,
                                   &program));
    to->kernel = clCreateKernel(program, from->kernel, &error);
    if (error != CL_SUCCESS) {
        char what[160];
        snprintf(what, sizeof what, "kernel %s of %s", from->kernel, from->file);
        to->kernel = NULL;
        return lun_opencl_check(error, "clCreateKernel", what);
    }
    return LUN_OK;
}

static lun_status most_items(lun_opencl *cl, const opencl_launch *l, size_t *most)
{
    return lun_opencl_check(
        clGetKernelWorkGroupInfo(l->kernel, cl->id, CL_KERNEL_WORK_GROUP_SIZE, sizeof *most, most, NULL),
        "clGetKernelWorkGroupInfo", l->launch.kernel);
}

static lun_status make_launch(lun_opencl *cl, const lun_launch *from, opencl_launch *to)
{
    to->launch = *from;
    if (!from->file) {
        if (!lun_opencl_has_gemm())
            return lun_fail(LUN_UNSUPPORTED, "this build has no CLBlast");
        return LUN_OK;
    }
    /* One kernel may get smaller groups than the device allows at most. Items that are independent don't care. */
    to->local = from->group > 0 ? (size_t)from->group : lun_opencl_group(cl);
    for (;;) {
        size_t most = 0;
        const lun_status status = make_kernel(cl, from, to);
        if (status != LUN_OK)
            return decline(from, status);
        LUN_TRY(most_items(cl, to, &most));
        if (most >= to->local)
            break;
        if (from->group > 0 || most == 0)
            return decline(from, lun_fail(LUN_ERR_DEVICE,
                                          "OpenCL: kernel %s of %s runs at most %zu work-items a group here, not %zu",
                                          from->kernel, from->file, most, to->local));
        (void)clReleaseKernel(to->kernel);
        to->kernel = NULL;
        to->local = most;
    }
    to->global = (size_t)lun_round_up(from->items, (int64_t)to->local);
    return LUN_OK;
}

static lun_status ready(lun_device *dev, const lun_lowering *lowering, void *payload)
{
    opencl_plan *plan = payload;
    plan->launch = lun_calloc((size_t)lowering->count, sizeof *plan->launch, "a plan's launches");
    if (!plan->launch)
        return LUN_ERR_MEMORY;
    plan->count = lowering->count;
    for (int i = 0; i < plan->count; i++) {
        opencl_launch *l = &plan->launch[i];
        const lun_status status = make_launch(lun_opencl_of(dev), &lowering->launch[i], l);
        if (status != LUN_OK) {
            release_launches(plan);
            return status;
        }
        l->at_a_time =
            lun_launch_items(&plan->base.op, lowering, i, &dev->caps, l->kernel ? (int64_t)l->local : GEMM_ROWS);
    }
    return LUN_OK;
}

lun_status lun_opencl_plan(lun_device *dev, const lun_op *op, const char *candidate, lun_op_plan **out)
{
    opencl_plan *plan = lun_calloc(1, sizeof *plan, "a plan");
    lun_lowering *lowering = lun_calloc(1, sizeof *lowering, "a lowering");
    lun_status status = LUN_ERR_MEMORY;
    if (plan && lowering) {
        plan->base.op = *op;
        status = lun_choose_candidate(dev, op, candidate, ready, plan, lowering, &plan->base.candidate);
    }
    if (status == LUN_OK) {
        lun_op_plan_set_memory(&plan->base, lowering);
        *out = &plan->base;
    } else {
        free(plan);
    }
    free(lowering);
    return status;
}

void lun_opencl_plan_destroy(lun_op_plan *plan)
{
    release_launches((opencl_plan *)plan);
    free(plan);
}

static lun_status set_arg(opencl_launch *l, cl_uint index, size_t bytes, const void *value)
{
    const cl_int error = clSetKernelArg(l->kernel, index, bytes, value);
    if (error == CL_SUCCESS)
        return LUN_OK;
    char what[160];
    snprintf(what, sizeof what, "argument %u (%zu bytes) of kernel %s of %s", (unsigned)index, bytes, l->launch.kernel,
             l->launch.file);
    return lun_opencl_check(error, "clSetKernelArg", what);
}

/* The order of the KERNEL macros (cl/kernel.h): p0, o0, p1, o1, ..., the struct, the number of items. */
lun_status lun_opencl_bind(lun_op_plan *base, const lun_place *src, const lun_place *dst, lun_place workspace,
                           lun_place kept)
{
    opencl_plan *plan = (opencl_plan *)base;
    for (int i = 0; i < plan->count; i++) {
        opencl_launch *l = &plan->launch[i];
        cl_uint arg = 0;
        for (int b = 0; b < l->launch.buffers; b++) {
            const lun_launch_buffer *from = &l->launch.buffer[b];
            lun_place place = from->space == LUN_SPACE_SRC    ? src[from->index]
                              : from->space == LUN_SPACE_DST  ? dst[from->index]
                              : from->space == LUN_SPACE_KEPT ? kept
                                                              : workspace;
            place.offset += from->offset;
            if (!l->kernel) {
                l->gemm_place[b] = place;
                continue;
            }
            const cl_mem mem = lun_opencl_mem(place);
            const cl_ulong offset = place.offset;
            LUN_TRY(set_arg(l, arg++, sizeof mem, &mem));
            LUN_TRY(set_arg(l, arg++, sizeof offset, &offset));
        }
        if (!l->kernel)
            continue;
        const cl_uint items = (cl_uint)l->launch.items;
        if (l->launch.args_bytes > 0)
            LUN_TRY(set_arg(l, arg++, l->launch.args_bytes, l->launch.args));
        LUN_TRY(set_arg(l, arg++, sizeof items, &items));
    }
    return LUN_OK;
}

static lun_status run_kernel(const opencl_plan *plan, const opencl_launch *l)
{
    lun_opencl *cl = lun_opencl_of(plan->base.device);
    for (size_t first = 0; first < l->global; first += (size_t)l->at_a_time) {
        const size_t left = l->global - first, count = left < (size_t)l->at_a_time ? left : (size_t)l->at_a_time;
        const cl_int error = clEnqueueNDRangeKernel(cl->queue, l->kernel, 1, first > 0 ? &first : NULL, &count,
                                                    &l->local, 0, NULL, NULL);
        if (error != CL_SUCCESS) {
            char op[160], what[240];
            lun_op_describe(&plan->base.op, op, sizeof op);
            snprintf(what, sizeof what, "%s (kernel %s)", op, l->launch.kernel);
            return lun_opencl_check(error, "clEnqueueNDRangeKernel", what);
        }
        LUN_TRY(lun_opencl_enqueued(cl));
    }
    return LUN_OK;
}

static lun_status run_gemm(const opencl_plan *plan, const opencl_launch *l)
{
    lun_opencl *cl = lun_opencl_of(plan->base.device);
    const lun_gemm_args *whole = &l->launch.gemm;
    char what[160];
    lun_op_describe(&plan->base.op, what, sizeof what);
    for (int64_t first = 0; first < whole->m; first += l->at_a_time) {
        lun_gemm_args part = *whole;
        lun_place place[3] = {l->gemm_place[0], l->gemm_place[1], l->gemm_place[2]};
        part.m = lun_min_i64(whole->m - first, l->at_a_time);
        place[0].offset += (size_t)(first * (whole->trans_a ? 1 : whole->lda)) * sizeof(float);
        place[2].offset += (size_t)(first * whole->ldc) * sizeof(float);
        LUN_TRY(lun_opencl_gemm(cl, &part, place, what));
        LUN_TRY(lun_opencl_enqueued(cl));
    }
    return LUN_OK;
}

lun_status lun_opencl_run(lun_op_plan *base, lun_part part)
{
    opencl_plan *plan = (opencl_plan *)base;
    const int end = part == LUN_PART_PREPARE ? base->prepares : plan->count;
    for (int i = part == LUN_PART_REST ? base->prepares : 0; i < end; i++)
        LUN_TRY(plan->launch[i].kernel ? run_kernel(plan, &plan->launch[i]) : run_gemm(plan, &plan->launch[i]));
    return LUN_OK;
}
