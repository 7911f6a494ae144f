#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "device/auto.h"
#include "device/cache.h"
#include "device/driver.h"

#define SPEC_BYTES 32
/* Enough for the best of a few runs of an op that takes some milliseconds on any CPU. */
#define MEASURE_RUNS    5
#define MEASURE_SECONDS 1.0

typedef struct candidates {
    lun_device_info gpu, opencl, cpu; /* spec "" where there is none */
} candidates;

static void sort_in(void *payload, const lun_device_info *info)
{
    candidates *c = payload;
    lun_device_info *place = strcmp(info->spec, "cpu") == 0 ? &c->cpu
                             : info->type == LUN_DEVICE_GPU ? &c->gpu
                                                            : &c->opencl;
    if (place->spec[0] == 0)
        *place = *info;
}

static char *cache_key(const lun_device_info *opencl, const lun_device_info *cpu)
{
    return lun_format("%s\n%s\n%s\n%s\n%d\n%s\n%s\n%d", lun_version(), opencl->name, opencl->platform, opencl->driver,
                      opencl->units, cpu->name, cpu->platform, cpu->units);
}

bool lun_auto_remembered(const lun_device_info *opencl, const lun_device_info *cpu, char spec[SPEC_BYTES])
{
    char *key = cache_key(opencl, cpu), *text = NULL;
    size_t bytes;
    bool known = false;
    if (key && lun_cache_load("auto", key, &text, &bytes)) {
        const char *winner = strcmp(text, "cpu\n") == 0 ? "cpu" : strcmp(text, "opencl\n") == 0 ? opencl->spec : NULL;
        known = winner != NULL;
        if (known)
            snprintf(spec, SPEC_BYTES, "%s", winner);
    }
    free(text);
    free(key);
    return known;
}

/* Seconds of a convolution as the training of small pictures has them. */
static lun_status measure(const char *spec, const lun_device_params *params, double *seconds)
{
    lun_op op = {.kind = LUN_OP_CONV2D, .nsrc = 2};
    op.attrs.conv = (lun_conv_attrs){.stride_h = 1, .stride_w = 1, .pad_h = 1, .pad_w = 1};
    op.src[0] = lun_image(4, 64, 32, 32);
    op.src[1] = lun_filter(64, 64, 3, 3);
    lun_device *dev = NULL;
    lun_op_plan *plan = NULL;
    lun_buffer *buffer[4] = {NULL};
    lun_place place[4] = {{0}};
    double best = -1, total = 0;

    lun_status status = lun_op_infer(&op);
    if (status == LUN_OK)
        status = lun_device_open(spec, params, &dev);
    if (status == LUN_OK)
        status = lun_op_plan_create(dev, &op, NULL, &plan);
    const size_t bytes[4] = {lun_bytes(op.src[0]), lun_bytes(op.src[1]), status == LUN_OK ? lun_bytes(op.dst[0]) : 0,
                             status == LUN_OK ? plan->workspace : 0};
    for (int i = 0; i < 4 && status == LUN_OK; i++) {
        if (bytes[i] == 0)
            continue;
        status = lun_buffer_create(dev, (bytes[i] + 3) / 4 * 4, &buffer[i]);
        place[i].buffer = buffer[i];
        if (status == LUN_OK)
            status = lun_buffer_fill(place[i], 0x3c23d70au /* 0.01f */, (bytes[i] + 3) / 4 * 4);
    }
    if (status == LUN_OK)
        status = lun_op_plan_bind(plan, place, place + 2, place[3]);
    for (int run = 0; run <= MEASURE_RUNS && status == LUN_OK && total < MEASURE_SECONDS; run++) {
        status = lun_device_finish(dev);
        const double start = lun_clock();
        if (status == LUN_OK)
            status = lun_op_plan_run(plan);
        if (status == LUN_OK)
            status = lun_device_finish(dev);
        const double took = lun_clock() - start;
        if (run == 0)
            continue; /* a driver may compile in its first run */
        total += took;
        best = best < 0 || took < best ? took : best;
    }
    lun_op_plan_destroy(&plan);
    for (int i = 0; i < 4; i++)
        lun_buffer_destroy(&buffer[i]);
    lun_device_close(&dev);
    if (status == LUN_OK)
        *seconds = best;
    return status;
}

lun_status lun_auto_choose(const lun_device_params *params, char spec[SPEC_BYTES])
{
    candidates c;
    memset(&c, 0, sizeof c);
    for (int i = 0; lun_drivers[i]; i++) {
        if (lun_drivers[i]->list)
            lun_drivers[i]->list(sort_in, &c);
    }
    if (c.gpu.spec[0] || !c.opencl.spec[0] || !c.cpu.spec[0]) {
        const lun_device_info *only = c.gpu.spec[0] ? &c.gpu : c.cpu.spec[0] ? &c.cpu : &c.opencl;
        if (!only->spec[0])
            return lun_fail(LUN_ERR_DEVICE, "auto: no device was found");
        snprintf(spec, SPEC_BYTES, "%s", only->spec);
        return LUN_OK;
    }
    if (params->threads > 0)
        c.cpu.units = params->threads; /* so that a measurement with few threads is not remembered for all */
    if (lun_auto_remembered(&c.opencl, &c.cpu, spec))
        return LUN_OK;

    double opencl_seconds = 0, cpu_seconds = 0;
    lun_log(LUN_LOG_INFO, "auto: measuring %s and %s, once", c.opencl.spec, c.cpu.spec);
    LUN_TRY(measure("cpu", params, &cpu_seconds));
    const lun_status status = measure(c.opencl.spec, params, &opencl_seconds);
    if (status != LUN_OK) {
        /* Nothing is remembered: the driver may be repaired. */
        lun_log(LUN_LOG_WARN, "auto: %s fails, so it is cpu: %s", c.opencl.spec, lun_error_detail());
        snprintf(spec, SPEC_BYTES, "cpu");
        return LUN_OK;
    }
    const bool cpu_wins = cpu_seconds <= opencl_seconds;
    lun_log(LUN_LOG_INFO, "auto: a convolution takes %.2f ms on %s and %.2f ms on cpu", 1e3 * opencl_seconds,
            c.opencl.spec, 1e3 * cpu_seconds);
    char *key = cache_key(&c.opencl, &c.cpu);
    if (key)
        lun_cache_store("auto", key, cpu_wins ? "cpu\n" : "opencl\n", cpu_wins ? 4 : 7);
    free(key);
    snprintf(spec, SPEC_BYTES, "%s", cpu_wins ? "cpu" : c.opencl.spec);
    return LUN_OK;
}
