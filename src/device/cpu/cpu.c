/* The plain-C device: the kernel texts under cl/ compiled by the C compiler, once an instruction set, and a thread
 * pool. Every call has finished its work when it returns. */
#include "cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "kernels.h"
#include "pool.h"

typedef struct cpu_state {
    const lun_cpu_text *texts;
    lun_pool *pool;
} cpu_state;

typedef struct cpu_buffer {
    lun_buffer base;
    void *data;
} cpu_buffer;

typedef struct cpu_launch {
    lun_cpu_kernel_fn *run;
    int items;
    const lun_launch *launch;
    void *pointer[LUN_LAUNCH_MAX_BUFFERS];
} cpu_launch;

typedef struct cpu_plan {
    lun_op_plan base;
    lun_lowering *lowering;
    int count;
    cpu_launch launch[];
} cpu_plan;

/* ---- Instruction sets
 * -------------------------------------------------------------------------------------------------- */

typedef struct instruction_set {
    const char *name;
    int lanes;
    const lun_cpu_text *texts;
} instruction_set;

/* Best first; the last one runs everywhere. */
static const instruction_set instruction_sets[] = {
#ifdef LUN_HAVE_AVX512
    {"avx512", 16, lun_cpu_avx512_texts},
#endif
#ifdef LUN_HAVE_AVX2
    {"avx2", 8, lun_cpu_avx2_texts},
#endif
#if defined(__SSE2__) || defined(__ARM_NEON)
    {"baseline", 4, lun_cpu_baseline_texts},
#else
    {"baseline", 1, lun_cpu_baseline_texts},
#endif
};

static bool machine_has(const char *name)
{
#if defined(__x86_64__)
    if (strcmp(name, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma");
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return strcmp(name, "baseline") == 0;
}

static lun_status pick_instruction_set(const instruction_set **out)
{
    const char *forced = getenv("LUNETTE_ISA");
    for (size_t i = 0; i < LUN_COUNT(instruction_sets); i++) {
        const instruction_set *set = &instruction_sets[i];
        if (forced && *forced && strcmp(forced, set->name) != 0)
            continue;
        if (machine_has(set->name)) {
            *out = set;
            return LUN_OK;
        }
    }
    return lun_fail(LUN_ERR_USAGE,
                    "LUNETTE_ISA=%s: not an instruction set of this build and machine (avx512, avx2, baseline)",
                    forced);
}

/* ---- Opening
 * ------------------------------------------------------------------------------------------------------------ */

static int machine_threads(void)
{
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return (int)lun_max_i64(1, lun_min_i64(online, LUN_MAX_THREADS));
}

static void processor_name(char *name, size_t size)
{
    snprintf(name, size, "processor");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file)
        return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            const char *start = colon + 1 + strspn(colon + 1, " ");
            snprintf(name, size, "%.*s", (int)strcspn(start, "\n"), start);
            break;
        }
    }
    fclose(file);
}

static void describe(lun_device_info *info, const instruction_set *set, int threads)
{
    *info = (lun_device_info){.type = LUN_DEVICE_CPU, .units = threads};
    snprintf(info->spec, sizeof info->spec, "cpu");
    processor_name(info->name, sizeof info->name);
    snprintf(info->platform, sizeof info->platform, "plain C (%s)", set->name);
    snprintf(info->driver, sizeof info->driver, "lunette %s", lun_version());
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0)
        info->memory_bytes = (uint64_t)pages * (uint64_t)page;
}

static void cpu_list(void (*add)(void *payload, const lun_device_info *info), void *payload)
{
    const instruction_set *set = NULL;
    lun_device_info info;
    if (pick_instruction_set(&set) != LUN_OK) {
        lun_log(LUN_LOG_DEBUG, "cpu: %s", lun_error_detail());
        return;
    }
    describe(&info, set, machine_threads());
    add(payload, &info);
}

static lun_status cpu_open(lun_device *dev, int index, const lun_device_params *params)
{
    (void)index;
    const instruction_set *set = NULL;
    LUN_TRY(pick_instruction_set(&set));
    const int threads = params->threads > 0 ? params->threads : machine_threads();
    cpu_state *state = lun_calloc(1, sizeof *state, "the cpu device");
    if (!state)
        return LUN_ERR_MEMORY;
    state->texts = set->texts;
    const lun_status status = lun_pool_create(threads, &state->pool);
    if (status != LUN_OK) {
        free(state);
        return status;
    }
    describe(&dev->info, set, lun_pool_threads(state->pool));
    dev->caps = (lun_caps){.lanes = set->lanes, .units = dev->info.units};
    dev->state = state;
    return LUN_OK;
}

static void cpu_close(lun_device *dev)
{
    cpu_state *state = dev->state;
    lun_pool_destroy(&state->pool);
    free(state);
}

/* ---- Buffers
 * ------------------------------------------------------------------------------------------------------------ */

static lun_status cpu_buffer_create(lun_device *dev, size_t bytes, lun_buffer **out)
{
    (void)dev;
    cpu_buffer *buffer = lun_calloc(1, sizeof *buffer, "a buffer");
    if (!buffer)
        return LUN_ERR_MEMORY;
    if (!(buffer->data = lun_alloc_pages(bytes))) {
        free(buffer);
        return lun_fail(LUN_ERR_MEMORY, "out of memory (a buffer of %zu bytes)", bytes);
    }
    *out = &buffer->base;
    return LUN_OK;
}

static void cpu_buffer_destroy(lun_buffer *base)
{
    cpu_buffer *buffer = (cpu_buffer *)base;
    free(buffer->data);
    free(buffer);
}

static void *at(lun_place place)
{
    return (char *)((cpu_buffer *)place.buffer)->data + place.offset;
}

static lun_status cpu_write(lun_place dst, const void *src, size_t bytes)
{
    memcpy(at(dst), src, bytes);
    return LUN_OK;
}

static lun_status cpu_read(lun_place src, void *dst, size_t bytes)
{
    memcpy(dst, at(src), bytes);
    return LUN_OK;
}

static lun_status cpu_fill(lun_place dst, uint32_t word, size_t bytes)
{
    uint32_t *p = at(dst);
    for (size_t i = 0; i < bytes / 4; i++)
        p[i] = word;
    return LUN_OK;
}

static lun_status cpu_copy(lun_place dst, lun_place src, size_t bytes)
{
    memcpy(at(dst), at(src), bytes);
    return LUN_OK;
}

/* ---- Ops
 * ---------------------------------------------------------------------------------------------------------------- */

static lun_cpu_kernel_fn *find_kernel(const cpu_state *state, const lun_launch *launch)
{
    const lun_cpu_text *text = state->texts;
    while (text->file && strcmp(text->file, launch->file) != 0)
        text++;
    for (const lun_cpu_kernel *k = text->kernels; k && k->name; k++)
        if (strcmp(k->name, launch->kernel) == 0)
            return k->run;
    return NULL;
}

static lun_status all_launches_exist(lun_device *dev, const lun_lowering *lowering, void *payload)
{
    (void)payload;
    for (int i = 0; i < lowering->count; i++) {
        const lun_launch *launch = &lowering->launch[i];
        if (!launch->file || launch->group > 0)
            return lun_fail(LUN_UNSUPPORTED, "plain C has neither work-groups nor an external matrix product");
        if (!find_kernel(dev->state, launch))
            return lun_fail(LUN_UNSUPPORTED, "no C kernel %s in %s", launch->kernel, launch->file);
    }
    return LUN_OK;
}

static lun_status cpu_plan_op(lun_device *dev, const lun_op *op, const char *candidate, lun_op_plan **out)
{
    lun_lowering *lowering = lun_malloc(1, sizeof *lowering, "an op's plan");
    if (!lowering)
        return LUN_ERR_MEMORY;
    const char *name = NULL;
    cpu_plan *plan = NULL;
    lun_status status = lun_choose_candidate(dev, op, candidate, all_launches_exist, NULL, lowering, &name);
    if (status == LUN_OK) {
        plan = lun_calloc(1, sizeof *plan + sizeof(cpu_launch) * (size_t)lowering->count, "an op's plan");
        status = plan ? LUN_OK : LUN_ERR_MEMORY;
    }
    if (status != LUN_OK) {
        free(lowering);
        return status;
    }
    /* Keep only the launches there are: the full table is large. */
    const size_t used = offsetof(lun_lowering, launch) + sizeof(lun_launch) * (size_t)lowering->count;
    plan->base.candidate = name;
    lun_op_plan_set_memory(&plan->base, lowering);
    plan->count = lowering->count;
    lun_lowering *trimmed = realloc(lowering, used);
    plan->lowering = trimmed ? trimmed : lowering;
    for (int i = 0; i < plan->count; i++) {
        const lun_launch *launch = &plan->lowering->launch[i];
        plan->launch[i] =
            (cpu_launch){.run = find_kernel(dev->state, launch), .items = (int)launch->items, .launch = launch};
    }
    *out = &plan->base;
    return LUN_OK;
}

static void cpu_plan_destroy(lun_op_plan *base)
{
    cpu_plan *plan = (cpu_plan *)base;
    free(plan->lowering);
    free(plan);
}

static lun_status cpu_bind(lun_op_plan *base, const lun_place *src, const lun_place *dst, lun_place workspace,
                           lun_place kept)
{
    cpu_plan *plan = (cpu_plan *)base;
    for (int i = 0; i < plan->count; i++) {
        const lun_launch *launch = plan->launch[i].launch;
        for (int b = 0; b < launch->buffers; b++) {
            const lun_launch_buffer *buffer = &launch->buffer[b];
            const lun_place place = buffer->space == LUN_SPACE_SRC    ? src[buffer->index]
                                    : buffer->space == LUN_SPACE_DST  ? dst[buffer->index]
                                    : buffer->space == LUN_SPACE_KEPT ? kept
                                                                      : workspace;
            plan->launch[i].pointer[b] = (char *)at(place) + buffer->offset;
        }
    }
    return LUN_OK;
}

static void run_item(void *payload, int item)
{
    const cpu_launch *launch = payload;
    launch->run(launch->pointer, launch->launch->args, item);
}

static lun_status cpu_run(lun_op_plan *base, lun_part part)
{
    cpu_plan *plan = (cpu_plan *)base;
    cpu_state *state = base->device->state;
    const int end = part == LUN_PART_PREPARE ? base->prepares : plan->count;
    for (int i = part == LUN_PART_REST ? base->prepares : 0; i < end; i++)
        lun_pool_run(state->pool, plan->launch[i].items, run_item, &plan->launch[i]);
    return LUN_OK;
}

static lun_status cpu_finish(lun_device *dev)
{
    (void)dev;
    return LUN_OK;
}

const lun_driver lun_driver_cpu = {.name = "cpu",
                                   .list = cpu_list,
                                   .open = cpu_open,
                                   .close = cpu_close,
                                   .buffer_create = cpu_buffer_create,
                                   .buffer_destroy = cpu_buffer_destroy,
                                   .write = cpu_write,
                                   .read = cpu_read,
                                   .fill = cpu_fill,
                                   .copy = cpu_copy,
                                   .plan = cpu_plan_op,
                                   .plan_destroy = cpu_plan_destroy,
                                   .bind = cpu_bind,
                                   .run = cpu_run,
                                   .finish = cpu_finish};
