/* The null device: plans and counts, computes nothing. Buffers hold no memory, and reading gives zeros.
 * It is the template for a new driver: every function of lun_driver in its simplest form. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "device/driver.h"
#include "device/null.h"

typedef struct null_plan {
    lun_op_plan base;
    int launches;
} null_plan;

static lun_status null_open(lun_device *dev, int index, const lun_device_params *params)
{
    (void)index;
    (void)params;
    lun_null_counts *counts = lun_calloc(1, sizeof *counts, "the null device");
    if (!counts)
        return LUN_ERR_MEMORY;
    strcpy(dev->info.name, "null");
    strcpy(dev->info.platform, "none");
    strcpy(dev->info.driver, lun_version());
    dev->info.type = LUN_DEVICE_OTHER;
    dev->info.units = 1;
    dev->caps = (lun_caps){.lanes = 8, .units = 1, .max_alloc = SIZE_MAX / 2};
    dev->state = counts;
    return LUN_OK;
}

static void null_close(lun_device *dev)
{
    free(dev->state);
}

static lun_status null_buffer_create(lun_device *dev, size_t bytes, lun_buffer **out)
{
    (void)dev;
    (void)bytes;
    *out = lun_calloc(1, sizeof **out, "a buffer");
    return *out ? LUN_OK : LUN_ERR_MEMORY;
}

static void null_buffer_destroy(lun_buffer *buffer)
{
    free(buffer);
}

static lun_status null_write(lun_place dst, const void *src, size_t bytes)
{
    (void)src;
    ((lun_null_counts *)dst.buffer->device->state)->written_bytes += (double)bytes;
    return LUN_OK;
}

static lun_status null_read(lun_place src, void *dst, size_t bytes)
{
    ((lun_null_counts *)src.buffer->device->state)->read_bytes += (double)bytes;
    memset(dst, 0, bytes);
    return LUN_OK;
}

static lun_status null_fill(lun_place dst, uint32_t word, size_t bytes)
{
    (void)dst;
    (void)word;
    (void)bytes;
    return LUN_OK;
}

static lun_status null_copy(lun_place dst, lun_place src, size_t bytes)
{
    (void)dst;
    (void)src;
    (void)bytes;
    return LUN_OK;
}

static lun_status null_ready(lun_device *dev, const lun_lowering *lowering, void *payload)
{
    (void)dev;
    (void)lowering;
    (void)payload;
    return LUN_OK;
}

static lun_status null_plan_create(lun_device *dev, const lun_op *op, const char *candidate, lun_op_plan **out)
{
    null_plan *plan = lun_calloc(1, sizeof *plan, "a plan");
    lun_lowering *lowering = lun_calloc(1, sizeof *lowering, "a lowering");
    lun_status status = LUN_ERR_MEMORY;
    if (!plan || !lowering)
        goto end;
    status = lun_choose_candidate(dev, op, candidate, null_ready, NULL, lowering, &plan->base.candidate);
    if (status != LUN_OK)
        goto end;
    lun_op_plan_set_memory(&plan->base, lowering);
    plan->launches = lowering->count;
    *out = &plan->base;
    plan = NULL;
end:
    free(lowering);
    free(plan);
    return status;
}

static void null_plan_destroy(lun_op_plan *plan)
{
    free(plan);
}

static lun_status null_bind(lun_op_plan *plan, const lun_place *src, const lun_place *dst, lun_place workspace,
                            lun_place kept)
{
    (void)plan;
    (void)src;
    (void)dst;
    (void)workspace;
    (void)kept;
    return LUN_OK;
}

static lun_status null_run(lun_op_plan *plan, lun_part part)
{
    lun_null_counts *counts = plan->device->state;
    const int all = ((null_plan *)plan)->launches;
    counts->launches += (uint64_t)(part == LUN_PART_ALL       ? all
                                   : part == LUN_PART_PREPARE ? plan->prepares
                                                              : all - plan->prepares);
    if (part == LUN_PART_PREPARE)
        return LUN_OK;
    counts->ops++;
    counts->flops += plan->flops;
    counts->bytes += plan->bytes;
    return LUN_OK;
}

static lun_status null_finish(lun_device *dev)
{
    (void)dev;
    return LUN_OK;
}

lun_null_counts lun_null_get_counts(const lun_device *dev)
{
    return *(const lun_null_counts *)dev->state;
}

extern const lun_driver lun_driver_null;
const lun_driver lun_driver_null = {
    .name = "null",
    .open = null_open,
    .close = null_close,
    .buffer_create = null_buffer_create,
    .buffer_destroy = null_buffer_destroy,
    .write = null_write,
    .read = null_read,
    .fill = null_fill,
    .copy = null_copy,
    .plan = null_plan_create,
    .plan_destroy = null_plan_destroy,
    .bind = null_bind,
    .run = null_run,
    .finish = null_finish,
};
