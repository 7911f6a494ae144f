#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"
#include "opencl.h"

#define MAX_PLATFORMS 32
#define MAX_DEVICES   64
#define FLUSH_EVERY   32
#define GPU_GROUP     64
/* A driver may say anything. */
#define MAX_EXTENSIONS ((size_t)1 << 20)
/* At most so long may one launch take where a card draws the desktop: src/lower/parts.c. */
#define LAUNCH_SECONDS 0.1

typedef struct found {
    cl_platform_id platform;
    cl_device_id id;
    cl_device_type type;
} found;

/* ---- errors ---- */

const char *lun_opencl_error_name(cl_int error)
{
#define NAME(code)                                                                                                     \
    case code: return #code
    switch (error) {
        NAME(CL_SUCCESS);
        NAME(CL_DEVICE_NOT_FOUND);
        NAME(CL_DEVICE_NOT_AVAILABLE);
        NAME(CL_COMPILER_NOT_AVAILABLE);
        NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE);
        NAME(CL_OUT_OF_RESOURCES);
        NAME(CL_OUT_OF_HOST_MEMORY);
        NAME(CL_PROFILING_INFO_NOT_AVAILABLE);
        NAME(CL_MEM_COPY_OVERLAP);
        NAME(CL_BUILD_PROGRAM_FAILURE);
        NAME(CL_MAP_FAILURE);
        NAME(CL_MISALIGNED_SUB_BUFFER_OFFSET);
        NAME(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST);
        NAME(CL_COMPILE_PROGRAM_FAILURE);
        NAME(CL_LINKER_NOT_AVAILABLE);
        NAME(CL_LINK_PROGRAM_FAILURE);
        NAME(CL_INVALID_VALUE);
        NAME(CL_INVALID_DEVICE_TYPE);
        NAME(CL_INVALID_PLATFORM);
        NAME(CL_INVALID_DEVICE);
        NAME(CL_INVALID_CONTEXT);
        NAME(CL_INVALID_QUEUE_PROPERTIES);
        NAME(CL_INVALID_COMMAND_QUEUE);
        NAME(CL_INVALID_MEM_OBJECT);
        NAME(CL_INVALID_BINARY);
        NAME(CL_INVALID_BUILD_OPTIONS);
        NAME(CL_INVALID_PROGRAM);
        NAME(CL_INVALID_PROGRAM_EXECUTABLE);
        NAME(CL_INVALID_KERNEL_NAME);
        NAME(CL_INVALID_KERNEL_DEFINITION);
        NAME(CL_INVALID_KERNEL);
        NAME(CL_INVALID_ARG_INDEX);
        NAME(CL_INVALID_ARG_VALUE);
        NAME(CL_INVALID_ARG_SIZE);
        NAME(CL_INVALID_KERNEL_ARGS);
        NAME(CL_INVALID_WORK_DIMENSION);
        NAME(CL_INVALID_WORK_GROUP_SIZE);
        NAME(CL_INVALID_WORK_ITEM_SIZE);
        NAME(CL_INVALID_GLOBAL_OFFSET);
        NAME(CL_INVALID_EVENT_WAIT_LIST);
        NAME(CL_INVALID_EVENT);
        NAME(CL_INVALID_OPERATION);
        NAME(CL_INVALID_BUFFER_SIZE);
        NAME(CL_INVALID_GLOBAL_WORK_SIZE);
        NAME(CL_INVALID_PROPERTY);
    case -1001: /* cl_khr_icd */ return "CL_PLATFORM_NOT_FOUND_KHR";
    case -9999: /* NVIDIA: an illegal read or write in a kernel */ return "NVIDIA's illegal memory access";
    default: return "an error OpenCL has no name for";
    }
#undef NAME
}

lun_status lun_opencl_check(cl_int error, const char *call, const char *what)
{
    if (error == CL_SUCCESS)
        return LUN_OK;
    const bool memory = error == CL_MEM_OBJECT_ALLOCATION_FAILURE || error == CL_OUT_OF_HOST_MEMORY;
    return lun_fail(memory ? LUN_ERR_MEMORY : LUN_ERR_DEVICE, "OpenCL: %s: %s: %s (%d)", what, call,
                    lun_opencl_error_name(error), (int)error);
}

lun_status lun_opencl_enqueued(lun_opencl *cl)
{
    if (++cl->unflushed < FLUSH_EVERY)
        return LUN_OK;
    cl->unflushed = 0;
    return lun_opencl_check(clFlush(cl->queue), "clFlush", "queue");
}

/* ---- what there is ---- */

/* Each keeps the first error in *error, unless that is NULL. */
static void note_error(cl_int *error, cl_int now)
{
    if (error && *error == CL_SUCCESS)
        *error = now;
}

static void trim_into(const char *full, char *text, size_t size)
{
    const char *start = full;
    while (*start == ' ')
        start++;
    snprintf(text, size, "%s", start);
    for (size_t n = strlen(text); n > 0 && text[n - 1] == ' '; n--)
        text[n - 1] = 0;
}

static void device_text(cl_device_id id, cl_device_info what, char *text, size_t size, cl_int *error)
{
    char full[1024] = "";
    const cl_int got = clGetDeviceInfo(id, what, sizeof full, full, NULL);
    note_error(error, got);
    full[sizeof full - 1] = 0;
    trim_into(got == CL_SUCCESS ? full : "?", text, size);
}

static void platform_text(cl_platform_id platform, cl_platform_info what, char *text, size_t size, cl_int *error)
{
    char full[1024] = "";
    const cl_int got = clGetPlatformInfo(platform, what, sizeof full, full, NULL);
    note_error(error, got);
    full[sizeof full - 1] = 0;
    snprintf(text, size, "%s", got == CL_SUCCESS ? full : "?");
}

/* 0 when the device does not answer. */
static uint64_t device_number(cl_device_id id, cl_device_info what, size_t bytes, cl_int *error)
{
    uint64_t wide = 0;
    uint32_t narrow = 0;
    const bool is_wide = bytes == sizeof wide;
    const cl_int got = clGetDeviceInfo(id, what, bytes, is_wide ? (void *)&wide : (void *)&narrow, NULL);
    note_error(error, got);
    return got != CL_SUCCESS ? 0 : is_wide ? wide : narrow;
}

#define DEVICE_NUMBER(id, what, type, error) device_number(id, what, sizeof(type), error)

static bool has_extension(cl_device_id id, const char *name)
{
    size_t bytes = 0;
    if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &bytes) != CL_SUCCESS || bytes > MAX_EXTENSIONS)
        return false;
    char *list = calloc(bytes + 1, 1);
    const bool has =
        list && clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, bytes, list, NULL) == CL_SUCCESS && strstr(list, name);
    free(list);
    return has;
}

/* NULL, or why a device cannot be used. *error: the first answer that it has not given. */
static const char *refusal(cl_platform_id platform, cl_device_id id, cl_int *error)
{
    char text[256];
    int major = 0, minor = 0;
    const bool available = DEVICE_NUMBER(id, CL_DEVICE_AVAILABLE, cl_bool, error);
    const bool compiler = DEVICE_NUMBER(id, CL_DEVICE_COMPILER_AVAILABLE, cl_bool, error);
    const bool little = DEVICE_NUMBER(id, CL_DEVICE_ENDIAN_LITTLE, cl_bool, error);
    const uint64_t floats = DEVICE_NUMBER(id, CL_DEVICE_SINGLE_FP_CONFIG, cl_device_fp_config, error);
    device_text(id, CL_DEVICE_VERSION, text, sizeof text, error);
    if (*error != CL_SUCCESS)
        return "it does not answer";
    if (!available)
        return "it is not available";
    if (!compiler)
        return "it has no compiler";
    if (sscanf(text, "OpenCL %d.%d", &major, &minor) != 2 || major * 10 + minor < 12)
        return "it is older than OpenCL 1.2";
    if (!little)
        return "it is big-endian";
    const uint64_t needed = CL_FP_ROUND_TO_NEAREST | CL_FP_INF_NAN;
    if ((floats & needed) != needed)
        return "its float arithmetic lacks rounding to nearest, infinities or NaN";
    device_text(id, CL_DEVICE_PROFILE, text, sizeof text, NULL);
    if (strcmp(text, "EMBEDDED_PROFILE") == 0 && !has_extension(id, "cles_khr_int64"))
        return "it has no 64-bit integers";
    platform_text(platform, CL_PLATFORM_NAME, text, sizeof text, NULL);
    if (strcmp(text, "Clover") == 0)
        return "Mesa's Clover is unmaintained and miscompiles";
    return NULL;
}

#define LAST_RANK 2

static int rank(cl_device_type type)
{
    return type & CL_DEVICE_TYPE_GPU ? 0 : type & CL_DEVICE_TYPE_CPU ? 2 : 1;
}

/* Why devices are left out, "NAME: REASON" each; what does not fit is cut. */
typedef struct refusals {
    char text[600];
    size_t length;
    bool warn; /* in warnings, too */
} refusals;

static void refuse(refusals *r, const char *name, const char *reason, cl_int error)
{
    char line[256];
    if (error == CL_SUCCESS)
        snprintf(line, sizeof line, "%s: %s", name, reason);
    else
        snprintf(line, sizeof line, "%s: %s (%s, %d)", name, reason, lun_opencl_error_name(error), (int)error);
    lun_log(r->warn ? LUN_LOG_WARN : LUN_LOG_DEBUG, "an OpenCL device is left out: %s", line);
    const size_t left = sizeof r->text - r->length;
    const int wrote = snprintf(r->text + r->length, left, "%s%s", r->length > 0 ? "; " : "", line);
    if (wrote > 0)
        r->length += (size_t)wrote < left ? (size_t)wrote : left - 1;
}

/* The devices of one platform, of rank `wanted`. Those that do not say what they are count as of the last rank. */
static void enumerate_platform(cl_platform_id platform, int wanted, found list[MAX_DEVICES], int *count,
                               refusals *refused)
{
    cl_device_id ids[MAX_DEVICES];
    cl_uint id_count = 0;
    char name[128];
    const cl_int got = clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, MAX_DEVICES, ids, &id_count);
    if (got != CL_SUCCESS) {
        platform_text(platform, CL_PLATFORM_NAME, name, sizeof name, NULL);
        if (got != CL_DEVICE_NOT_FOUND && wanted == LAST_RANK)
            refuse(refused, name, "the platform does not tell its devices", got);
        return;
    }
    if (id_count > MAX_DEVICES)
        id_count = MAX_DEVICES;
    for (cl_uint i = 0; i < id_count && *count < MAX_DEVICES; i++) {
        cl_int error = CL_SUCCESS;
        const cl_device_type type = (cl_device_type)DEVICE_NUMBER(ids[i], CL_DEVICE_TYPE, cl_device_type, &error);
        if ((error == CL_SUCCESS ? rank(type) : LAST_RANK) != wanted)
            continue;
        const char *reason = refusal(platform, ids[i], &error);
        if (reason) {
            cl_int nameless = CL_SUCCESS;
            device_text(ids[i], CL_DEVICE_NAME, name, sizeof name, &nameless);
            if (nameless != CL_SUCCESS)
                platform_text(platform, CL_PLATFORM_NAME, name, sizeof name, NULL);
            refuse(refused, name, reason, error);
            continue;
        }
        list[(*count)++] = (found){platform, ids[i], type};
    }
}

/* Every usable device, GPUs first and CPUs last, else in the loader's order; at most MAX_DEVICES. */
static int enumerate(found list[MAX_DEVICES], refusals *refused)
{
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint platform_count = 0;
    refused->text[0] = 0;
    refused->length = 0;
    if (!lun_opencl_usable())
        return 0;
    const cl_int error = clGetPlatformIDs(MAX_PLATFORMS, platforms, &platform_count);
    if (error != CL_SUCCESS) {
        lun_log(LUN_LOG_DEBUG, "OpenCL: clGetPlatformIDs: %s (%d)", lun_opencl_error_name(error), (int)error);
        return 0;
    }
    if (platform_count > MAX_PLATFORMS)
        platform_count = MAX_PLATFORMS;
    int count = 0;
    for (int wanted = 0; wanted <= LAST_RANK; wanted++)
        for (cl_uint p = 0; p < platform_count; p++)
            enumerate_platform(platforms[p], wanted, list, &count, refused);
    return count;
}

/* `error` as above. */
static void describe(const found *f, int index, lun_device_info *info, cl_int *error)
{
    memset(info, 0, sizeof *info);
    snprintf(info->spec, sizeof info->spec, "opencl:%d", index);
    device_text(f->id, CL_DEVICE_NAME, info->name, sizeof info->name, error);
    platform_text(f->platform, CL_PLATFORM_NAME, info->platform, sizeof info->platform, error);
    device_text(f->id, CL_DRIVER_VERSION, info->driver, sizeof info->driver, error);
    info->type = rank(f->type) == 0 ? LUN_DEVICE_GPU : rank(f->type) == 2 ? LUN_DEVICE_CPU : LUN_DEVICE_OTHER;
    info->units = (int)DEVICE_NUMBER(f->id, CL_DEVICE_MAX_COMPUTE_UNITS, cl_uint, error);
    info->memory_bytes = DEVICE_NUMBER(f->id, CL_DEVICE_GLOBAL_MEM_SIZE, cl_ulong, error);
    info->max_alloc_bytes = DEVICE_NUMBER(f->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, cl_ulong, error);
}

static void opencl_list(void (*add)(void *payload, const lun_device_info *info), void *payload)
{
    static atomic_bool told; /* once a process is enough */
    found list[MAX_DEVICES];
    refusals refused = {.warn = !atomic_exchange(&told, true)};
    const int count = enumerate(list, &refused);
    for (int i = 0; i < count; i++) {
        lun_device_info info;
        describe(&list[i], i, &info, NULL);
        add(payload, &info);
    }
}

/* ---- open and close ---- */

/* Drivers call this from threads of their own, with more detail than a status has. */
static void CL_CALLBACK context_message(const char *message, const void *data, size_t bytes, void *user)
{
    (void)data;
    (void)bytes;
    (void)user;
    lun_log(LUN_LOG_DEBUG, "OpenCL driver: %s", message ? message : "?");
}

size_t lun_opencl_group(const lun_opencl *cl)
{
    return !cl->dev->caps.gpu ? 1 : cl->max_group < GPU_GROUP ? cl->max_group : GPU_GROUP;
}

/* Of one dimension: a device may allow fewer items along it than a group may have in all. 0 when it does not answer. */
static size_t largest_group(cl_device_id id, cl_int *error)
{
    size_t most = 0, along[16] = {0};
    cl_int got = clGetDeviceInfo(id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof most, &most, NULL);
    note_error(error, got);
    if (got != CL_SUCCESS)
        return 0;
    got = clGetDeviceInfo(id, CL_DEVICE_MAX_WORK_ITEM_SIZES, sizeof along, along, NULL);
    note_error(error, got);
    if (got == CL_SUCCESS && along[0] > 0 && along[0] < most)
        most = along[0];
    return most;
}

/* NVIDIA's driver says whether it ends kernels that take long, which it does where a screen is attached. Of others'
 * GPUs any may draw. $LUNETTE_LAUNCH_MS overrules, on any device; -1 where that is no time. */
static double longest_launch(cl_device_id id, bool gpu)
{
    enum { KERNEL_EXEC_TIMEOUT_NV = 0x4005 };
    const char *given = getenv("LUNETTE_LAUNCH_MS");
    if (given && given[0]) {
        char *end;
        const double ms = strtod(given, &end);
        return *end == 0 && ms >= 0 && ms <= 1e9 ? ms / 1000 : -1;
    }
    cl_bool ends = CL_TRUE;
    if (gpu && has_extension(id, "cl_nv_device_attribute_query") &&
        clGetDeviceInfo(id, KERNEL_EXEC_TIMEOUT_NV, sizeof ends, &ends, NULL) != CL_SUCCESS)
        ends = CL_TRUE;
    return gpu && ends ? LAUNCH_SECONDS : 0;
}

static void fill_caps(lun_opencl *cl, lun_device *dev, cl_int *error)
{
    const uint64_t width = DEVICE_NUMBER(cl->id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, cl_uint, error);
    const size_t max_group = largest_group(cl->id, error);
    const size_t local = (size_t)DEVICE_NUMBER(cl->id, CL_DEVICE_LOCAL_MEM_SIZE, cl_ulong, error);
    lun_caps *caps = &dev->caps;
    cl->max_group = max_group > 0 ? max_group : 1;
    memset(caps, 0, sizeof *caps);
    caps->gpu = dev->info.type == LUN_DEVICE_GPU;
    caps->groups = max_group >= 64 && local >= ((size_t)16 << 10);
    /* Its kernels want groups and local memory, too; on a CPU we see to it that they don't. */
    caps->gemm = lun_opencl_has_gemm() && (caps->groups || dev->info.type == LUN_DEVICE_CPU);
    caps->lanes = width >= 16 ? 16 : width >= 8 ? 8 : width >= 4 ? 4 : 1;
    caps->units = dev->info.units > 0 ? dev->info.units : 1;
    caps->max_group = caps->groups ? max_group : 0;
    caps->local_bytes = caps->groups ? local : 0;
    caps->max_alloc = (size_t)dev->info.max_alloc_bytes;
    caps->launch_s = longest_launch(cl->id, caps->gpu);
}

static void opencl_close(lun_device *dev)
{
    lun_opencl *cl = dev->state;
    /* Children first, each after the work that uses it. An error here has no one to go to. */
    if (cl->queue)
        (void)clFinish(cl->queue);
    lun_opencl_staging_release(cl);
    if (cl->context)
        lun_opencl_gemm_release();
    lun_opencl_programs_release(cl);
    if (cl->queue)
        (void)clReleaseCommandQueue(cl->queue);
    if (cl->context)
        (void)clReleaseContext(cl->context);
    free(cl->folder);
    free(cl);
    dev->state = NULL;
}

/* PoCL keeps what it has compiled for itself. To be asked for a program's binary makes it compile every kernel of the
 * program once more, in a general form that is not the one it runs: a cold start would take three times as long. */
static bool driver_keeps_binaries(const lun_opencl *cl)
{
    const char *cache = getenv("POCL_KERNEL_CACHE");
    return strstr(cl->platform_name, "Portable Computing Language") && !(cache && strcmp(cache, "0") == 0);
}

static lun_status opencl_open(lun_device *dev, int index, const lun_device_params *params)
{
    (void)params;
    found list[MAX_DEVICES];
    refusals refused = {.warn = false};
    const int count = enumerate(list, &refused);
    if (count == 0 && refused.length > 0)
        return lun_fail(LUN_ERR_DEVICE, "no OpenCL device can be used: %s", refused.text);
    if (count == 0)
        return lun_fail(LUN_ERR_DEVICE, "no OpenCL device was found (is a driver, an \"ICD\", installed?)");
    if (index >= count)
        return lun_fail(LUN_ERR_DEVICE, "there is no opencl:%d: the last of %d OpenCL devices is opencl:%d%s%s", index,
                        count, count - 1, refused.length > 0 ? "; left out: " : "", refused.text);
    lun_opencl *cl = lun_calloc(1, sizeof *cl, "an OpenCL device");
    if (!cl)
        return LUN_ERR_MEMORY;
    dev->state = cl;
    cl->dev = dev;
    cl->platform = list[index].platform;
    cl->id = list[index].id;
    /* What a device can decides how it rounds, and its name what is remembered of it: no guess stands in for either. */
    cl_int silent = CL_SUCCESS;
    describe(&list[index], index, &dev->info, &silent);
    fill_caps(cl, dev, &silent);
    char version[128];
    platform_text(cl->platform, CL_PLATFORM_VERSION, version, sizeof version, &silent);
    snprintf(cl->platform_name, sizeof cl->platform_name, "%s %s", dev->info.platform, version);
    cl->keeps_binaries = driver_keeps_binaries(cl);

    lun_status status = lun_opencl_check(silent, "clGetDeviceInfo", dev->info.spec);
    if (status == LUN_OK && dev->caps.launch_s < 0)
        status = lun_fail(LUN_ERR_USAGE, "LUNETTE_LAUNCH_MS must be a number of milliseconds, 0 to 1e9");
    const char *folder = getenv("LUNETTE_KERNELS");
    if (status == LUN_OK && folder && folder[0]) {
        /* What every text includes: without it the folder is not one of kernel texts. Better said now than at the first
         * op. */
        char *header = lun_format("%s/kernel.h", folder);
        cl->folder = lun_strdup(folder);
        if (!cl->folder || !header)
            status = LUN_ERR_MEMORY;
        else if (!lun_file_exists(header))
            status = lun_fail(LUN_ERR_USAGE, "LUNETTE_KERNELS: %s is not a folder of kernel texts (it has no kernel.h)",
                              folder);
        free(header);
    }
    cl_int error = CL_SUCCESS;
    if (status == LUN_OK) {
        const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)cl->platform, 0};
        cl->context = clCreateContext(properties, 1, &cl->id, context_message, NULL, &error);
        status = lun_opencl_check(error, "clCreateContext", dev->info.spec);
    }
    if (status == LUN_OK) {
        cl->queue = clCreateCommandQueue(cl->context, cl->id, 0, &error);
        status = lun_opencl_check(error, "clCreateCommandQueue", dev->info.spec);
    }
    if (status != LUN_OK)
        opencl_close(dev);
    return status;
}

/* clFinish() may succeed although a command failed; the status of a marker behind it tells. */
static lun_status opencl_finish(lun_device *dev)
{
    lun_opencl *cl = dev->state;
    cl_event marker = NULL;
    cl_int state = CL_COMPLETE;
    LUN_TRY(lun_opencl_check(clEnqueueMarkerWithWaitList(cl->queue, 0, NULL, &marker), "clEnqueueMarkerWithWaitList",
                             "finish"));
    lun_status status = lun_opencl_check(clFinish(cl->queue), "clFinish", "finish");
    if (status == LUN_OK)
        status = lun_opencl_check(clGetEventInfo(marker, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL),
                                  "clGetEventInfo", "finish");
    if (status == LUN_OK && state < 0)
        status = lun_opencl_check(state, "a command", "finish");
    (void)clReleaseEvent(marker);
    cl->unflushed = 0;
    return status;
}

extern const lun_driver lun_driver_opencl;
const lun_driver lun_driver_opencl = {
    .name = "opencl",
    .list = opencl_list,
    .open = opencl_open,
    .close = opencl_close,
    .buffer_create = lun_opencl_buffer_create,
    .buffer_destroy = lun_opencl_buffer_destroy,
    .write = lun_opencl_write,
    .read = lun_opencl_read,
    .fill = lun_opencl_fill,
    .copy = lun_opencl_copy,
    .plan = lun_opencl_plan,
    .plan_destroy = lun_opencl_plan_destroy,
    .bind = lun_opencl_bind,
    .run = lun_opencl_run,
    .finish = opencl_finish,
};
