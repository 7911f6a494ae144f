/* The front door: validates everything, keeps the first error, counts memory; then calls the driver. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "device/auto.h"
#include "device/driver.h"

/* ---- errors ---- */

static lun_status alive(const lun_device *dev)
{
    return dev->lost == LUN_OK ? LUN_OK : lun_fail(dev->lost, "%s", dev->lost_detail);
}

/* A command that failed leaves the device's memory in an unknown state: nothing after it can be trusted. */
static lun_status keep(lun_device *dev, lun_status status)
{
    if (status != LUN_OK && dev->lost == LUN_OK) {
        dev->lost = status;
        snprintf(dev->lost_detail, sizeof dev->lost_detail, "%s", lun_error_detail());
    }
    return status;
}

/* Around each call of a driver that may take long, for the thread that looks on. */
static void enter(lun_device *dev, const char *what)
{
    atomic_store_explicit(&dev->doing, what, memory_order_relaxed);
    atomic_fetch_add_explicit(&dev->calls, 1, memory_order_release);
}

static lun_status leave(lun_device *dev, lun_status status)
{
    atomic_fetch_add_explicit(&dev->calls, 1, memory_order_release);
    return status;
}

#define CALL(dev, what, call) (enter(dev, what), leave(dev, call))

/* ---- specifications ---- */

static const lun_driver *driver_named(const char *name, size_t length)
{
    for (int i = 0; lun_drivers[i]; i++) {
        if (strlen(lun_drivers[i]->name) == length && memcmp(lun_drivers[i]->name, name, length) == 0)
            return lun_drivers[i];
    }
    return NULL;
}

/* "0" to "9999" */
static bool parse_index(const char *text, size_t length, int *index)
{
    if (length < 1 || length > 4)
        return false;
    int value = 0;
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        value = value * 10 + (text[i] - '0');
    }
    *index = value;
    return true;
}

static bool valid_spec(const char *spec, size_t length, bool inner, size_t *name_length, int *index)
{
    const char *colon = memchr(spec, ':', length);
    const size_t name = colon ? (size_t)(colon - spec) : length;
    const char *rest = colon ? colon + 1 : NULL;
    const size_t rest_length = colon ? length - name - 1 : 0;
    *name_length = name;
    *index = 0;
#define IS(text) (name == sizeof(text) - 1 && memcmp(spec, text, name) == 0)
    if (IS("opencl"))
        return !rest || parse_index(rest, rest_length, index);
    if (IS("cpu"))
        return !rest;
    if (inner)
        return false;
    if (IS("null") || IS("auto"))
        return !rest;
    if (IS("check")) {
        if (!rest)
            return true;
        const char *comma = memchr(rest, ',', rest_length);
        size_t ignored_length;
        int ignored;
        return comma && valid_spec(rest, (size_t)(comma - rest), true, &ignored_length, &ignored) &&
               valid_spec(comma + 1, rest_length - (size_t)(comma - rest) - 1, true, &ignored_length, &ignored);
    }
#undef IS
    return false;
}

/* Walks a list separated by commas; false at its end. */
static bool next_name(const char **list, const char **name, size_t *length)
{
    while (**list == ',' || **list == ' ')
        (*list)++;
    *name = *list;
    *length = strcspn(*list, ", ");
    *list += *length;
    return *length > 0;
}

static lun_status check_decline_list(void)
{
    const char *list = getenv("LUNETTE_DECLINE"), *name;
    size_t length;
    while (list && next_name(&list, &name, &length)) {
        bool known = false;
        for (int kind = 0; kind < LUN_OP_KIND_COUNT && !known; kind++) {
            const char *have = lun_op_info_of((lun_op_kind)kind)->name;
            known = strlen(have) == length && memcmp(have, name, length) == 0;
        }
        if (!known)
            return lun_fail(LUN_ERR_USAGE, "LUNETTE_DECLINE: there is no op \"%.*s\"", (int)length, name);
    }
    return LUN_OK;
}

static bool is_declined(const char *op)
{
    const char *list = getenv("LUNETTE_DECLINE"), *name;
    size_t length;
    while (list && next_name(&list, &name, &length)) {
        if (strlen(op) == length && memcmp(op, name, length) == 0)
            return true;
    }
    return false;
}

lun_status lun_device_open(const char *spec, const lun_device_params *params, lun_device **out)
{
    const lun_device_params defaults = {0};
    if (!spec || !out)
        return lun_fail(LUN_ERR_USAGE, "lun_device_open: spec and out must not be NULL");
    if (!params)
        params = &defaults;
    if (params->threads < 0 || params->threads > LUN_MAX_THREADS)
        return lun_fail(LUN_ERR_USAGE, "threads must be 0 to %d, not %d", LUN_MAX_THREADS, params->threads);
    size_t name_length;
    int index;
    const size_t spec_length = strlen(spec);
    char chosen[sizeof((lun_device_info *)0)->spec];
    if (spec_length >= sizeof chosen || !valid_spec(spec, spec_length, false, &name_length, &index))
        return lun_fail(LUN_ERR_USAGE,
                        "unknown device \"%.60s\": valid are auto, cpu, opencl, opencl:I, check, check:A,B, null",
                        spec);
    LUN_TRY(check_decline_list());
    if (strcmp(spec, "auto") == 0) {
        LUN_TRY(lun_auto_choose(params, chosen));
        if (!valid_spec(chosen, strlen(chosen), false, &name_length, &index))
            return lun_fail(LUN_ERR_INTERNAL, "auto chose \"%s\"", chosen);
    } else {
        memcpy(chosen, spec, spec_length + 1);
    }
    const lun_driver *driver = driver_named(chosen, name_length);
    if (!driver)
        return lun_fail(LUN_ERR_DEVICE, "this build of lunette has no %.*s device", (int)name_length, chosen);
    lun_device *dev = lun_calloc(1, sizeof *dev, "a device");
    if (!dev)
        return LUN_ERR_MEMORY;
    dev->driver = driver;
    memcpy(dev->info.spec, chosen, strlen(chosen) + 1); /* the check driver finds its two in it */
    const lun_status status = driver->open(dev, index, params);
    if (status != LUN_OK) {
        free(dev);
        return status;
    }
    lun_log(LUN_LOG_DEBUG, "%s: %s (%s, %s), %d units, %d lanes", dev->info.spec, dev->info.name, dev->info.platform,
            dev->info.driver, dev->info.units, dev->caps.lanes);
    *out = dev;
    return LUN_OK;
}

void lun_device_close(lun_device **dev)
{
    if (!dev || !*dev)
        return;
    if ((*dev)->allocated > 0)
        lun_log(LUN_LOG_DEBUG, "%s: closed with %zu bytes of buffers still held", (*dev)->info.spec, (*dev)->allocated);
    enter(*dev, "closing it");
    (*dev)->driver->close(*dev);
    (void)leave(*dev, LUN_OK);
    lun_device_unwatch(*dev);
    free(*dev);
    *dev = NULL;
}

const lun_device_info *lun_device_get_info(const lun_device *dev)
{
    return &dev->info;
}

void lun_device_memory(const lun_device *dev, size_t *now, size_t *peak)
{
    if (now)
        *now = dev->allocated;
    if (peak)
        *peak = dev->peak;
}

lun_status lun_device_state(const lun_device *dev)
{
    return alive(dev);
}

lun_status lun_device_finish(lun_device *dev)
{
    if (!dev)
        return lun_fail(LUN_ERR_USAGE, "lun_device_finish: no device");
    LUN_TRY(alive(dev));
    return keep(dev, CALL(dev, "waiting for it", dev->driver->finish(dev)));
}

/* ---- listing ---- */

typedef struct device_list {
    lun_device_info *info;
    size_t count;
} device_list;

static void list_add(void *payload, const lun_device_info *info)
{
    device_list *list = payload;
    lun_device_info *more = lun_realloc(list->info, list->count + 1, sizeof *more, "the list of devices");
    if (!more)
        return;
    list->info = more;
    list->info[list->count++] = *info;
}

void lun_device_list(void (*visit)(void *payload, const lun_device_info *info), void *payload)
{
    device_list list = {NULL, 0};
    for (int i = 0; lun_drivers[i]; i++) {
        if (lun_drivers[i]->list)
            lun_drivers[i]->list(list_add, &list);
    }
    /* Drivers come in order of preference, GPUs first within one; only plain C may have been measured to be faster than
     * the first that is none (auto.c). */
    const lun_device_info *opencl = NULL, *cpu = NULL;
    for (size_t i = 0; i < list.count; i++) {
        if (strcmp(list.info[i].spec, "cpu") == 0)
            cpu = &list.info[i];
        else if (list.info[i].type != LUN_DEVICE_GPU && !opencl)
            opencl = &list.info[i];
    }
    char faster[32];
    const bool cpu_early = opencl && cpu && lun_auto_remembered(opencl, cpu, faster) && strcmp(faster, "cpu") == 0;
    for (size_t i = 0; i < list.count; i++) {
        if (cpu_early && &list.info[i] == opencl)
            visit(payload, cpu);
        if (!cpu_early || &list.info[i] != cpu)
            visit(payload, &list.info[i]);
    }
    free(list.info);
}

/* ---- buffers ---- */

lun_status lun_buffer_create(lun_device *dev, size_t bytes, lun_buffer **out)
{
    if (!dev || !out)
        return lun_fail(LUN_ERR_INTERNAL, "lun_buffer_create: no device or no result");
    LUN_TRY(alive(dev));
    if (bytes == 0 || bytes % 4 != 0)
        return lun_fail(LUN_ERR_INTERNAL,
                        "lun_buffer_create: %zu bytes: buffers are made of 4-byte words, at least one", bytes);
    if (dev->caps.max_alloc != 0 && bytes > dev->caps.max_alloc)
        return lun_fail(LUN_ERR_MEMORY, "%s: a buffer of %zu bytes: this device gives at most %zu at a time",
                        dev->info.spec, bytes, dev->caps.max_alloc);
    size_t total;
    if (!lun_add_size(dev->allocated, bytes, &total))
        return lun_fail(LUN_ERR_MEMORY, "%s: a buffer of %zu bytes: %zu are held already", dev->info.spec, bytes,
                        dev->allocated);
    lun_buffer *buffer = NULL;
    LUN_TRY(CALL(dev, "making a buffer", dev->driver->buffer_create(dev, bytes, &buffer)));
    buffer->device = dev;
    buffer->bytes = bytes;
    dev->allocated = total;
    if (total > dev->peak)
        dev->peak = total;
    *out = buffer;
    return LUN_OK;
}

void lun_buffer_destroy(lun_buffer **buffer)
{
    if (!buffer || !*buffer)
        return;
    lun_device *dev = (*buffer)->device;
    dev->allocated -= (*buffer)->bytes;
    dev->driver->buffer_destroy(*buffer);
    *buffer = NULL;
}

static lun_status check_place(const lun_device *dev, const char *what, lun_place place, size_t bytes)
{
    if (!place.buffer)
        return lun_fail(LUN_ERR_INTERNAL, "%s: no buffer", what);
    if (dev && place.buffer->device != dev)
        return lun_fail(LUN_ERR_INTERNAL, "%s: the buffer belongs to another device", what);
    size_t end;
    if (place.offset % 4 != 0 || bytes % 4 != 0 || !lun_add_size(place.offset, bytes, &end) ||
        end > place.buffer->bytes)
        return lun_fail(LUN_ERR_INTERNAL, "%s: %zu bytes at offset %zu of a buffer of %zu", what, bytes, place.offset,
                        place.buffer->bytes);
    return LUN_OK;
}

lun_status lun_buffer_write(lun_place dst, const void *src, size_t bytes)
{
    LUN_TRY(check_place(NULL, "write", dst, bytes));
    lun_device *dev = dst.buffer->device;
    LUN_TRY(alive(dev));
    if (bytes == 0)
        return LUN_OK;
    if (!src)
        return lun_fail(LUN_ERR_INTERNAL, "write: nothing to copy from");
    return keep(dev, CALL(dev, "a write", dev->driver->write(dst, src, bytes)));
}

lun_status lun_buffer_read(lun_place src, void *dst, size_t bytes)
{
    LUN_TRY(check_place(NULL, "read", src, bytes));
    lun_device *dev = src.buffer->device;
    LUN_TRY(alive(dev));
    if (bytes == 0)
        return LUN_OK;
    if (!dst)
        return lun_fail(LUN_ERR_INTERNAL, "read: nowhere to copy to");
    return keep(dev, CALL(dev, "a read", dev->driver->read(src, dst, bytes)));
}

lun_status lun_buffer_fill(lun_place dst, uint32_t word, size_t bytes)
{
    LUN_TRY(check_place(NULL, "fill", dst, bytes));
    lun_device *dev = dst.buffer->device;
    LUN_TRY(alive(dev));
    return bytes == 0 ? LUN_OK : keep(dev, CALL(dev, "a fill", dev->driver->fill(dst, word, bytes)));
}

lun_status lun_buffer_copy(lun_place dst, lun_place src, size_t bytes)
{
    LUN_TRY(check_place(NULL, "copy", src, bytes));
    lun_device *dev = src.buffer->device;
    LUN_TRY(check_place(dev, "copy", dst, bytes));
    LUN_TRY(alive(dev));
    if (bytes == 0 || (dst.buffer == src.buffer && dst.offset == src.offset))
        return LUN_OK;
    if (dst.buffer == src.buffer && dst.offset < src.offset + bytes && src.offset < dst.offset + bytes)
        return lun_fail(LUN_ERR_INTERNAL, "copy: the two ranges overlap");
    if (dev->driver->copy)
        return keep(dev, CALL(dev, "a copy", dev->driver->copy(dst, src, bytes)));
    void *host = lun_malloc(bytes, 1, "a copy through the host");
    if (!host)
        return LUN_ERR_MEMORY;
    lun_status status = keep(dev, CALL(dev, "a read", dev->driver->read(src, host, bytes)));
    if (status == LUN_OK)
        status = keep(dev, CALL(dev, "a write", dev->driver->write(dst, host, bytes)));
    free(host);
    return status;
}

/* ---- op plans ---- */

static bool same_desc(lun_desc a, lun_desc b)
{
    return a.dtype == b.dtype && a.layout == b.layout && lun_shape_equal(a.shape, b.shape);
}

/* The op must be what its own shape rule makes of its sources. */
static lun_status check_op(const lun_op *op)
{
    if ((int)op->kind < 0 || op->kind >= LUN_OP_KIND_COUNT)
        return lun_fail(LUN_ERR_INTERNAL, "plan: there is no op number %d", (int)op->kind);
    const lun_op_info *info = lun_op_info_of(op->kind);
    if (op->nsrc < 0 || op->nsrc > LUN_OP_MAX_SRC || op->ndst < 1 || op->ndst > LUN_OP_MAX_DST)
        return lun_fail(LUN_ERR_INTERNAL, "plan: %s with %d sources and %d destinations", info->name, op->nsrc,
                        op->ndst);
    lun_op again = *op;
    LUN_TRY(lun_op_infer(&again));
    bool same = again.ndst == op->ndst;
    for (int d = 0; same && d < op->ndst; d++)
        same = same_desc(again.dst[d], op->dst[d]);
    return same ? LUN_OK
                : lun_fail(LUN_ERR_INTERNAL, "plan: %s: the destinations are not those of its shape rule", info->name);
}

lun_status lun_op_plan_create(lun_device *dev, const lun_op *op, const char *candidate, lun_op_plan **out)
{
    if (!dev || !op || !out)
        return lun_fail(LUN_ERR_INTERNAL, "lun_op_plan_create: no device, op or result");
    LUN_TRY(alive(dev));
    LUN_TRY(check_op(op));
    if (strcmp(dev->driver->name, "cpu") != 0 && is_declined(lun_op_info_of(op->kind)->name))
        return lun_fail(LUN_UNSUPPORTED, "%s: declined by LUNETTE_DECLINE", lun_op_info_of(op->kind)->name);
    lun_op_plan *plan = NULL;
    LUN_TRY(CALL(dev, "making kernels ready", dev->driver->plan(dev, op, candidate, &plan)));
    plan->device = dev;
    plan->op = *op;
    plan->bound = false;
    lun_op_cost(op, &plan->flops, &plan->bytes);
    *out = plan;
    return LUN_OK;
}

void lun_op_plan_destroy(lun_op_plan **plan)
{
    if (!plan || !*plan)
        return;
    (*plan)->device->driver->plan_destroy(*plan);
    *plan = NULL;
}

static bool overlap(lun_place a, size_t a_bytes, lun_place b, size_t b_bytes)
{
    return a_bytes > 0 && b_bytes > 0 && a.buffer == b.buffer && a.offset < b.offset + b_bytes &&
           b.offset < a.offset + a_bytes;
}

/* An operand where it is bound. */
typedef struct bound_operand {
    lun_place place;
    size_t span, pixel; /* bytes: of all, of one pixel's channels */
    int pitch;          /* floats; 0: dense */
} bound_operand;

static bound_operand bound_src(const lun_op *op, int s, const lun_place *src)
{
    return (bound_operand){src[s], lun_src_span(op, s), (size_t)op->src[s].shape.c * 4, op->src_pitch[s]};
}

static bound_operand bound_dst(const lun_op *op, int d, const lun_place *dst)
{
    return (bound_operand){dst[d], lun_dst_span(op, d), (size_t)op->dst[d].shape.c * 4, op->dst_pitch[d]};
}

/* Two operands meet if their spans do; but channels of one wide image may lie between each other. */
static bool meet(bound_operand a, bound_operand b)
{
    if (!overlap(a.place, a.span, b.place, b.span))
        return false;
    if (a.pitch == 0 || a.pitch != b.pitch)
        return true;
    const size_t pitch = (size_t)a.pitch * 4;
    const size_t apart = (b.place.offset % pitch + pitch - a.place.offset % pitch) % pitch;
    return apart < a.pixel || apart + b.pixel > pitch;
}

static bool coincide(bound_operand a, bound_operand b)
{
    return a.place.buffer == b.place.buffer && a.place.offset == b.place.offset && a.pitch == b.pitch;
}

static lun_status check_overlaps(const lun_op_plan *plan, const lun_place *src, const lun_place *dst,
                                 lun_place workspace, lun_place kept)
{
    const lun_op *op = &plan->op;
    const lun_op_info *info = lun_op_info_of(op->kind);
    const size_t scratch = plan->workspace - plan->kept;
    for (int d = 0; d < op->ndst; d++) {
        const bound_operand to = bound_dst(op, d, dst);
        const int alias = info->alias[d] - 1;
        if (alias >= 0 && alias < op->nsrc && !coincide(to, bound_src(op, alias, src)))
            return lun_fail(LUN_ERR_INTERNAL, "bind: %s updates source %d in place, so destination %d must be there",
                            info->name, alias, d);
        for (int s = 0; s < op->nsrc; s++) {
            const bound_operand from = bound_src(op, s, src);
            const bool allowed = coincide(to, from) && (s == alias || (d == 0 && (info->inplace >> s & 1u) != 0));
            if (!allowed && meet(to, from))
                return lun_fail(LUN_ERR_INTERNAL, "bind: %s: destination %d overlaps source %d", info->name, d, s);
        }
        for (int e = 0; e < d; e++) {
            if (meet(to, bound_dst(op, e, dst)))
                return lun_fail(LUN_ERR_INTERNAL, "bind: %s: destinations %d and %d overlap", info->name, e, d);
        }
        if (overlap(dst[d], to.span, workspace, scratch) || overlap(dst[d], to.span, kept, plan->kept))
            return lun_fail(LUN_ERR_INTERNAL, "bind: %s: destination %d overlaps the workspace", info->name, d);
    }
    for (int s = 0; s < op->nsrc; s++) {
        const size_t bytes = lun_src_span(op, s);
        if (overlap(src[s], bytes, workspace, scratch) || overlap(src[s], bytes, kept, plan->kept))
            return lun_fail(LUN_ERR_INTERNAL, "bind: %s: source %d overlaps the workspace", info->name, s);
    }
    if (overlap(workspace, scratch, kept, plan->kept))
        return lun_fail(LUN_ERR_INTERNAL, "bind: %s: the kept memory overlaps the workspace", info->name);
    return LUN_OK;
}

static lun_status bind(lun_op_plan *plan, const lun_place *src, const lun_place *dst, lun_place workspace,
                       lun_place kept, bool keeps)
{
    lun_device *dev = plan->device;
    const char *name = lun_op_info_of(plan->op.kind)->name;
    char what[64];
    LUN_TRY(alive(dev));
    for (int s = 0; s < plan->op.nsrc; s++) {
        snprintf(what, sizeof what, "bind: %s: source %d", name, s);
        LUN_TRY(check_place(dev, what, src[s], lun_src_span(&plan->op, s)));
    }
    for (int d = 0; d < plan->op.ndst; d++) {
        snprintf(what, sizeof what, "bind: %s: destination %d", name, d);
        LUN_TRY(check_place(dev, what, dst[d], lun_dst_span(&plan->op, d)));
    }
    const size_t scratch = plan->workspace - plan->kept, needed = keeps ? scratch : plan->workspace;
    if (needed > 0) {
        snprintf(what, sizeof what, "bind: %s: workspace", name);
        LUN_TRY(check_place(dev, what, workspace, (size_t)lun_round_up((int64_t)needed, 4)));
    }
    if (keeps) {
        snprintf(what, sizeof what, "bind: %s: kept memory", name);
        LUN_TRY(check_place(dev, what, kept, (size_t)lun_round_up((int64_t)plan->kept, 4)));
    } else if (plan->kept > 0) {
        kept = (lun_place){workspace.buffer, workspace.offset + scratch};
    }
    LUN_TRY(check_overlaps(plan, src, dst, workspace, kept));
    plan->bound = plan->prepared = false; /* half-changed if the driver fails */
    LUN_TRY(dev->driver->bind(plan, src, dst, workspace, kept));
    plan->bound = true;
    plan->keeps = keeps;
    return LUN_OK;
}

lun_status lun_op_plan_bind(lun_op_plan *plan, const lun_place *src, const lun_place *dst, lun_place workspace)
{
    if (!plan || !src || !dst)
        return lun_fail(LUN_ERR_INTERNAL, "lun_op_plan_bind: no plan or no operands");
    return bind(plan, src, dst, workspace, (lun_place){NULL, 0}, false);
}

lun_status lun_op_plan_bind_kept(lun_op_plan *plan, const lun_place *src, const lun_place *dst, lun_place workspace,
                                 lun_place kept)
{
    if (!plan || !src || !dst)
        return lun_fail(LUN_ERR_INTERNAL, "lun_op_plan_bind_kept: no plan or no operands");
    return bind(plan, src, dst, workspace, kept, plan->kept > 0);
}

lun_status lun_op_plan_prepare(lun_op_plan *plan)
{
    lun_device *dev = plan->device;
    LUN_TRY(alive(dev));
    if (!plan->bound)
        return lun_fail(LUN_ERR_INTERNAL, "prepare: %s is not bound", lun_op_info_of(plan->op.kind)->name);
    if (!plan->keeps)
        return LUN_OK;
    plan->prepared = true;
    return keep(dev, CALL(dev, lun_op_info_of(plan->op.kind)->name, dev->driver->run(plan, LUN_PART_PREPARE)));
}

lun_status lun_op_plan_run(lun_op_plan *plan)
{
    lun_device *dev = plan->device;
    LUN_TRY(alive(dev));
    if (!plan->bound)
        return lun_fail(LUN_ERR_INTERNAL, "run: %s is not bound", lun_op_info_of(plan->op.kind)->name);
    if (plan->keeps && !plan->prepared)
        return lun_fail(LUN_ERR_INTERNAL, "run: %s is not prepared", lun_op_info_of(plan->op.kind)->name);
    return keep(dev, CALL(dev, lun_op_info_of(plan->op.kind)->name,
                          dev->driver->run(plan, plan->keeps ? LUN_PART_REST : LUN_PART_ALL)));
}
