/* An OpenCL platform for tests: one CPU device that runs lunette's kernel texts as the C compiler made them, at once
 * and on the calling thread, and that fails where it is told to. What it computes is what the cpu device computes with
 * the instruction set "baseline" and one thread, so a run here has a known result; and nothing is compiled, so a run
 * takes a tenth of a second.
 *
 * It answers the calls that lunette makes, and only those. A program must be one of the embedded texts (or a "binary"
 * that is its name).
 *
 *   STUB_AT      the number of the call that fails, from 1; 0: none
 *   STUB_ON      set: every one after it fails, too, but releases
 *   STUB_ERROR   resources (CL_OUT_OF_RESOURCES), memory (CL_MEM_OBJECT_ALLOCATION_FAILURE), lost
 *                (CL_INVALID_COMMAND_QUEUE); status: of the events asked for their status the STUB_AT-th tells that its
 *                command failed, while every call succeeds
 *   STUB_FLIP    the number of the launch, from 1, of whose results one bit is wrong: in the middle one of the words
 *                that it has changed
 *   STUB_BIT     which, from 0
 *   STUB_REPORT  where to say, at exit, how many calls, events and launches there were, what failed or was flipped, how
 *                many objects are left, and a hash of all that the host has read
 *
 * Releases that fail release. One thread at a time. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <CL/cl_icd.h>

#include "device/cpu/kernels.h"
#include "device/kernel_texts.h"

#define EXPORT        __attribute__((visibility("default")))
#define MAX_ARGS      24
#define ARG_MAX_BYTES 512

static cl_icd_dispatch table;

/* The loader finds the calls through the first member of every object. */
struct _cl_platform_id {
    cl_icd_dispatch *dispatch;
};
struct _cl_device_id {
    cl_icd_dispatch *dispatch;
};
struct _cl_context {
    cl_icd_dispatch *dispatch;
};
struct _cl_command_queue {
    cl_icd_dispatch *dispatch;
};
struct _cl_event {
    cl_icd_dispatch *dispatch;
};
struct _cl_mem {
    cl_icd_dispatch *dispatch;
    size_t bytes;
    unsigned char *data, *before;
    bool theirs; /* `data` */
    void(CL_CALLBACK *gone)(cl_mem mem, void *user);
    void *user;
};
struct _cl_program {
    cl_icd_dispatch *dispatch;
    const lun_cpu_text *text;
};
struct _cl_kernel {
    cl_icd_dispatch *dispatch;
    lun_cpu_kernel_fn *run;
    size_t bytes[MAX_ARGS];
    unsigned char value[MAX_ARGS][ARG_MAX_BYTES];
    unsigned count;
};

static struct _cl_platform_id platform = {&table};
static struct _cl_device_id device = {&table};

/* ---- faults ---- */

static long calls, events, launches, fail_at, flip_at;
static unsigned flip_bit;
static bool fail_on, fail_status;
static cl_int fail_error;
static long live;
static uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
static char fired[160], flipped[160];

static cl_int fault(const char *call)
{
    const long n = ++calls;
    if (!fail_at || fail_status || (fail_on ? n < fail_at : n != fail_at))
        return CL_SUCCESS;
    if (!fired[0])
        snprintf(fired, sizeof fired, "%s", call);
    return fail_error;
}

/* A fault ends the call. */
#define CALL(name)                                                                                                     \
    do {                                                                                                               \
        const cl_int error_ = fault(#name);                                                                            \
        if (error_ != CL_SUCCESS)                                                                                      \
            return error_;                                                                                             \
    } while (0)
/* The same in one that makes an object. */
#define MAKE(name)                                                                                                     \
    do {                                                                                                               \
        const cl_int error_ = fault(#name);                                                                            \
        if (error)                                                                                                     \
            *error = error_;                                                                                           \
        if (error_ != CL_SUCCESS)                                                                                      \
            return NULL;                                                                                               \
    } while (0)

static void *make(size_t bytes)
{
    void *object = calloc(1, bytes);
    if (!object)
        abort();
    *(cl_icd_dispatch **)object = &table;
    live++;
    return object;
}

static void drop(void *object)
{
    live--;
    free(object);
}

static long number_of(const char *name)
{
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *error = getenv("STUB_ERROR");
    fail_at = number_of("STUB_AT");
    fail_on = getenv("STUB_ON") != NULL;
    flip_at = number_of("STUB_FLIP");
    flip_bit = (unsigned)number_of("STUB_BIT") & 31;
    fail_status = error && strcmp(error, "status") == 0;
    fail_error = error && strcmp(error, "memory") == 0 ? CL_MEM_OBJECT_ALLOCATION_FAILURE
                 : error && strcmp(error, "lost") == 0 ? CL_INVALID_COMMAND_QUEUE
                                                       : CL_OUT_OF_RESOURCES;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("STUB_REPORT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fprintf(file, "stub calls %ld\nstub events %ld\nstub launches %ld\nstub live %ld\nstub read %016llx\n", calls,
            events, launches, live, (unsigned long long)hash);
    if (fired[0])
        fprintf(file, "stub fired %s\n", fired);
    if (flipped[0])
        fprintf(file, "stub flipped %s\n", flipped);
    fclose(file);
}

/* ---- what there is ---- */

static cl_int answer(const void *value, size_t bytes, size_t room, void *out, size_t *needed)
{
    if (needed)
        *needed = bytes;
    if (out && room < bytes)
        return CL_INVALID_VALUE;
    if (out)
        memcpy(out, value, bytes);
    return CL_SUCCESS;
}

static cl_int answer_text(const char *text, size_t room, void *out, size_t *needed)
{
    return answer(text, strlen(text) + 1, room, out, needed);
}

static cl_int get_platform_info(cl_platform_id of, cl_platform_info what, size_t room, void *out, size_t *needed)
{
    (void)of;
    /* What the loader asks for, before it shows the platform to anyone, does not count. */
    if (what != CL_PLATFORM_EXTENSIONS && what != CL_PLATFORM_ICD_SUFFIX_KHR)
        CALL(clGetPlatformInfo);
    switch (what) {
    case CL_PLATFORM_NAME: return answer_text("lunette's stub", room, out, needed);
    case CL_PLATFORM_VERSION: return answer_text("OpenCL 1.2 stub", room, out, needed);
    case CL_PLATFORM_VENDOR: return answer_text("lunette", room, out, needed);
    case CL_PLATFORM_PROFILE: return answer_text("FULL_PROFILE", room, out, needed);
    case CL_PLATFORM_EXTENSIONS: return answer_text("cl_khr_icd", room, out, needed);
    case CL_PLATFORM_ICD_SUFFIX_KHR: return answer_text("STUB", room, out, needed);
    default: return CL_INVALID_VALUE;
    }
}

static cl_int get_devices(cl_platform_id of, cl_device_type type, cl_uint room, cl_device_id *out, cl_uint *count)
{
    (void)of;
    CALL(clGetDeviceIDs);
    if (!(type & CL_DEVICE_TYPE_CPU))
        return CL_DEVICE_NOT_FOUND;
    if (out && room > 0)
        out[0] = &device;
    if (count)
        *count = 1;
    return CL_SUCCESS;
}

#define NUMBER(type, value) answer(&(const type){value}, sizeof(type), room, out, needed)

static cl_int get_device_info(cl_device_id of, cl_device_info what, size_t room, void *out, size_t *needed)
{
    static const size_t along[3] = {32, 32, 32};
    (void)of;
    CALL(clGetDeviceInfo);
    switch (what) {
    case CL_DEVICE_NAME: return answer_text("stub", room, out, needed);
    case CL_DEVICE_VENDOR: return answer_text("lunette", room, out, needed);
    case CL_DEVICE_VERSION: return answer_text("OpenCL 1.2 stub", room, out, needed);
    case CL_DRIVER_VERSION: return answer_text("1", room, out, needed);
    case CL_DEVICE_PROFILE: return answer_text("FULL_PROFILE", room, out, needed);
    case CL_DEVICE_EXTENSIONS: return answer_text("", room, out, needed);
    case CL_DEVICE_TYPE: return NUMBER(cl_device_type, CL_DEVICE_TYPE_CPU);
    case CL_DEVICE_AVAILABLE:
    case CL_DEVICE_COMPILER_AVAILABLE:
    case CL_DEVICE_ENDIAN_LITTLE: return NUMBER(cl_bool, CL_TRUE);
    case CL_DEVICE_SINGLE_FP_CONFIG: return NUMBER(cl_device_fp_config, CL_FP_ROUND_TO_NEAREST | CL_FP_INF_NAN);
    case CL_DEVICE_MAX_COMPUTE_UNITS: return NUMBER(cl_uint, 1);
    case CL_DEVICE_GLOBAL_MEM_SIZE: return NUMBER(cl_ulong, (cl_ulong)1 << 32);
    case CL_DEVICE_MAX_MEM_ALLOC_SIZE: return NUMBER(cl_ulong, (cl_ulong)1 << 30);
    case CL_DEVICE_LOCAL_MEM_SIZE: return NUMBER(cl_ulong, 4096); /* too little for kernels with groups */
    case CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT: return NUMBER(cl_uint, 4);
    case CL_DEVICE_MAX_WORK_GROUP_SIZE: return NUMBER(size_t, 32);
    case CL_DEVICE_MAX_WORK_ITEM_SIZES: return answer(along, sizeof along, room, out, needed);
    default: return CL_INVALID_VALUE;
    }
}

static cl_context create_context(const cl_context_properties *properties, cl_uint count, const cl_device_id *devices,
                                 void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *user,
                                 cl_int *error)
{
    (void)properties, (void)count, (void)devices, (void)notify, (void)user;
    MAKE(clCreateContext);
    return make(sizeof(struct _cl_context));
}

static cl_command_queue create_queue(cl_context context, cl_device_id of, cl_command_queue_properties properties,
                                     cl_int *error)
{
    (void)context, (void)of, (void)properties;
    MAKE(clCreateCommandQueue);
    return make(sizeof(struct _cl_command_queue));
}

static cl_int release_context(cl_context context)
{
    drop(context);
    return fault("clReleaseContext");
}

static cl_int release_queue(cl_command_queue queue)
{
    drop(queue);
    return fault("clReleaseCommandQueue");
}

static cl_int release_event(cl_event event)
{
    drop(event);
    return fault("clReleaseEvent");
}

/* ---- buffers ---- */

static cl_mem create_buffer(cl_context context, cl_mem_flags flags, size_t bytes, void *host, cl_int *error)
{
    (void)context;
    MAKE(clCreateBuffer);
    cl_mem mem = make(sizeof *mem);
    mem->bytes = bytes;
    mem->theirs = flags & CL_MEM_USE_HOST_PTR;
    mem->data = mem->theirs ? host : aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!mem->data)
        abort();
    return mem;
}

static cl_int when_gone(cl_mem mem, void(CL_CALLBACK *gone)(cl_mem mem, void *user), void *user)
{
    const cl_int error = fault("clSetMemObjectDestructorCallback");
    if (error == CL_SUCCESS) {
        mem->gone = gone;
        mem->user = user;
    }
    return error;
}

static cl_int release_mem(cl_mem mem)
{
    if (!mem->theirs)
        free(mem->data);
    if (mem->gone)
        mem->gone(mem, mem->user);
    drop(mem);
    return fault("clReleaseMemObject");
}

static bool inside(const struct _cl_mem *mem, size_t offset, size_t bytes)
{
    return offset <= mem->bytes && bytes <= mem->bytes - offset;
}

static void give_event(cl_event *event)
{
    if (event)
        *event = make(sizeof(struct _cl_event));
}

static cl_int enqueue_read(cl_command_queue queue, cl_mem mem, cl_bool blocking, size_t offset, size_t bytes, void *out,
                           cl_uint waits, const cl_event *list, cl_event *event)
{
    (void)queue, (void)blocking, (void)waits, (void)list;
    CALL(clEnqueueReadBuffer);
    if (!inside(mem, offset, bytes))
        return CL_INVALID_VALUE;
    memcpy(out, mem->data + offset, bytes);
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ mem->data[offset + i]) * UINT64_C(0x100000001b3);
    give_event(event);
    return CL_SUCCESS;
}

static cl_int enqueue_write(cl_command_queue queue, cl_mem mem, cl_bool blocking, size_t offset, size_t bytes,
                            const void *from, cl_uint waits, const cl_event *list, cl_event *event)
{
    (void)queue, (void)blocking, (void)waits, (void)list;
    CALL(clEnqueueWriteBuffer);
    if (!inside(mem, offset, bytes))
        return CL_INVALID_VALUE;
    memcpy(mem->data + offset, from, bytes);
    give_event(event);
    return CL_SUCCESS;
}

static cl_int enqueue_copy(cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, size_t to_offset,
                           size_t bytes, cl_uint waits, const cl_event *list, cl_event *event)
{
    (void)queue, (void)waits, (void)list;
    CALL(clEnqueueCopyBuffer);
    if (!inside(from, from_offset, bytes) || !inside(to, to_offset, bytes))
        return CL_INVALID_VALUE;
    memmove(to->data + to_offset, from->data + from_offset, bytes);
    give_event(event);
    return CL_SUCCESS;
}

static cl_int enqueue_fill(cl_command_queue queue, cl_mem mem, const void *pattern, size_t size, size_t offset,
                           size_t bytes, cl_uint waits, const cl_event *list, cl_event *event)
{
    (void)queue, (void)waits, (void)list;
    CALL(clEnqueueFillBuffer);
    if (!inside(mem, offset, bytes) || bytes % size || offset % size)
        return CL_INVALID_VALUE;
    for (size_t i = 0; i < bytes; i += size)
        memcpy(mem->data + offset + i, pattern, size);
    give_event(event);
    return CL_SUCCESS;
}

/* ---- the queue ---- */

static cl_int flush(cl_command_queue queue)
{
    (void)queue;
    CALL(clFlush);
    return CL_SUCCESS;
}

static cl_int finish(cl_command_queue queue)
{
    (void)queue;
    CALL(clFinish);
    return CL_SUCCESS;
}

static cl_int enqueue_marker(cl_command_queue queue, cl_uint waits, const cl_event *list, cl_event *event)
{
    (void)queue, (void)waits, (void)list;
    CALL(clEnqueueMarkerWithWaitList);
    give_event(event);
    return CL_SUCCESS;
}

static cl_int wait_events(cl_uint count, const cl_event *list)
{
    (void)count, (void)list;
    CALL(clWaitForEvents);
    return CL_SUCCESS;
}

static cl_int get_event_info(cl_event event, cl_event_info what, size_t room, void *out, size_t *needed)
{
    (void)event;
    CALL(clGetEventInfo);
    cl_int state = CL_COMPLETE;
    if (what != CL_EVENT_COMMAND_EXECUTION_STATUS)
        return CL_INVALID_VALUE;
    if (++events == fail_at && fail_status) {
        state = CL_OUT_OF_RESOURCES;
        snprintf(fired, sizeof fired, "%s", "the status of an event");
    }
    return answer(&state, sizeof state, room, out, needed);
}

/* ---- programs and kernels ---- */

static const lun_cpu_text *text_named(const char *file)
{
    for (const lun_cpu_text *t = lun_cpu_baseline_texts; t->file; t++)
        if (strcmp(t->file, file) == 0)
            return t;
    return NULL;
}

static cl_program create_from_source(cl_context context, cl_uint count, const char **texts, const size_t *lengths,
                                     cl_int *error)
{
    (void)context, (void)count, (void)lengths;
    MAKE(clCreateProgramWithSource);
    cl_program program = make(sizeof *program);
    for (const lun_kernel_text *t = lun_kernel_texts; t->file; t++)
        if (strcmp(t->text, texts[0]) == 0)
            program->text = text_named(t->file);
    return program;
}

static cl_program create_from_binary(cl_context context, cl_uint count, const cl_device_id *devices,
                                     const size_t *lengths, const unsigned char **binaries, cl_int *sound,
                                     cl_int *error)
{
    char name[64];
    (void)context, (void)count, (void)devices;
    MAKE(clCreateProgramWithBinary);
    cl_program program = make(sizeof *program);
    snprintf(name, sizeof name, "%.*s", (int)lengths[0], (const char *)binaries[0]);
    program->text = text_named(name);
    if (sound)
        *sound = program->text ? CL_SUCCESS : CL_INVALID_BINARY;
    return program;
}

static cl_int build(cl_program program, cl_uint count, const cl_device_id *devices, const char *options,
                    void(CL_CALLBACK *notify)(cl_program, void *), void *user)
{
    (void)count, (void)devices, (void)options, (void)notify, (void)user;
    CALL(clBuildProgram);
    return program->text ? CL_SUCCESS : CL_BUILD_PROGRAM_FAILURE;
}

static cl_int get_build_info(cl_program program, cl_device_id of, cl_program_build_info what, size_t room, void *out,
                             size_t *needed)
{
    (void)of;
    CALL(clGetProgramBuildInfo);
    if (what != CL_PROGRAM_BUILD_LOG)
        return CL_INVALID_VALUE;
    return answer_text(program->text ? "" : "not one of the texts that the stub knows", room, out, needed);
}

static cl_int get_program_info(cl_program program, cl_program_info what, size_t room, void *out, size_t *needed)
{
    CALL(clGetProgramInfo);
    const char *name = program->text ? program->text->file : "";
    if (what == CL_PROGRAM_BINARY_SIZES)
        return NUMBER(size_t, strlen(name));
    if (what != CL_PROGRAM_BINARIES || room < sizeof(unsigned char *))
        return CL_INVALID_VALUE;
    memcpy(*(unsigned char **)out, name, strlen(name));
    return CL_SUCCESS;
}

static cl_int release_program(cl_program program)
{
    drop(program);
    return fault("clReleaseProgram");
}

static cl_kernel create_kernel(cl_program program, const char *name, cl_int *error)
{
    MAKE(clCreateKernel);
    lun_cpu_kernel_fn *run = NULL;
    for (const lun_cpu_kernel *k = program->text ? program->text->kernels : NULL; k && k->name; k++)
        if (strcmp(k->name, name) == 0)
            run = k->run;
    if (!run) {
        if (error)
            *error = CL_INVALID_KERNEL_NAME;
        return NULL;
    }
    cl_kernel kernel = make(sizeof *kernel);
    kernel->run = run;
    return kernel;
}

static cl_int release_kernel(cl_kernel kernel)
{
    drop(kernel);
    return fault("clReleaseKernel");
}

static cl_int get_group_info(cl_kernel kernel, cl_device_id of, cl_kernel_work_group_info what, size_t room, void *out,
                             size_t *needed)
{
    (void)kernel, (void)of;
    CALL(clGetKernelWorkGroupInfo);
    return what == CL_KERNEL_WORK_GROUP_SIZE ? NUMBER(size_t, 32) : CL_INVALID_VALUE;
}

static cl_int set_arg(cl_kernel kernel, cl_uint index, size_t bytes, const void *value)
{
    CALL(clSetKernelArg);
    if (index >= MAX_ARGS || bytes > ARG_MAX_BYTES)
        return CL_INVALID_ARG_INDEX;
    memcpy(kernel->value[index], value, bytes);
    kernel->bytes[index] = bytes;
    if (index >= kernel->count)
        kernel->count = index + 1;
    return CL_SUCCESS;
}

/* Of all words that the launch has changed in these buffers to something else than zero (one bit of which may mean next
 * to nothing), make the middle one wrong. */
static void flip(cl_mem *mems, unsigned count)
{
    size_t changed = 0, seen = 0;
    for (int turn = 0; turn < 2; turn++) {
        for (unsigned b = 0; b < count; b++) {
            for (size_t i = 0; mems[b]->before && i + 4 <= mems[b]->bytes; i += 4) {
                uint32_t word;
                memcpy(&word, mems[b]->data + i, 4);
                if (word == 0 || memcmp(&word, mems[b]->before + i, 4) == 0)
                    continue;
                changed += turn == 0;
                if (turn == 1 && seen++ == changed / 2) {
                    snprintf(flipped, sizeof flipped, "launch %ld: one of %zu words, %08x", launches, changed, word);
                    word ^= UINT32_C(1) << flip_bit;
                    memcpy(mems[b]->data + i, &word, 4);
                    return;
                }
            }
        }
    }
}

/* Arguments as cl/kernel.h has them: a buffer and an offset for each operand, the struct if there is one, the number of
 * items. */
static cl_int enqueue_kernel(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *offset,
                             const size_t *global, const size_t *local, cl_uint waits, const cl_event *list,
                             cl_event *event)
{
    void *p[MAX_ARGS];
    cl_mem mems[MAX_ARGS];
    unsigned arg = 0, count = 0;
    cl_uint items = 0;
    (void)queue, (void)dimensions, (void)offset, (void)global, (void)local, (void)waits, (void)list;
    CALL(clEnqueueNDRangeKernel);
    if (kernel->count < 1 || kernel->bytes[kernel->count - 1] != sizeof items)
        return CL_INVALID_KERNEL_ARGS;
    memcpy(&items, kernel->value[kernel->count - 1], sizeof items);
    const unsigned operands = (kernel->count - 1) / 2;
    for (; count < operands; arg += 2, count++) {
        cl_ulong start;
        memcpy(&mems[count], kernel->value[arg], sizeof mems[count]);
        memcpy(&start, kernel->value[arg + 1], sizeof start);
        if (start > mems[count]->bytes)
            return CL_INVALID_KERNEL_ARGS;
        p[count] = mems[count]->data + start;
    }
    const bool flips = ++launches == flip_at;
    for (unsigned b = 0; b < count && flips; b++) {
        if (!mems[b]->before && (mems[b]->before = malloc(mems[b]->bytes)))
            memcpy(mems[b]->before, mems[b]->data, mems[b]->bytes);
    }
    for (cl_uint item = 0; item < items; item++)
        kernel->run(p, kernel->value[arg], (int)item);
    if (flips)
        flip(mems, count);
    for (unsigned b = 0; b < count && flips; b++) {
        free(mems[b]->before);
        mems[b]->before = NULL;
    }
    give_event(event);
    return CL_SUCCESS;
}

/* ---- the loader's door ---- */

static cl_icd_dispatch table = {
    .clGetPlatformInfo = get_platform_info,
    .clGetDeviceIDs = get_devices,
    .clGetDeviceInfo = get_device_info,
    .clCreateContext = create_context,
    .clReleaseContext = release_context,
    .clCreateCommandQueue = create_queue,
    .clReleaseCommandQueue = release_queue,
    .clCreateBuffer = create_buffer,
    .clReleaseMemObject = release_mem,
    .clSetMemObjectDestructorCallback = when_gone,
    .clCreateProgramWithSource = create_from_source,
    .clCreateProgramWithBinary = create_from_binary,
    .clReleaseProgram = release_program,
    .clBuildProgram = build,
    .clGetProgramInfo = get_program_info,
    .clGetProgramBuildInfo = get_build_info,
    .clCreateKernel = create_kernel,
    .clReleaseKernel = release_kernel,
    .clSetKernelArg = set_arg,
    .clGetKernelWorkGroupInfo = get_group_info,
    .clWaitForEvents = wait_events,
    .clGetEventInfo = get_event_info,
    .clReleaseEvent = release_event,
    .clFlush = flush,
    .clFinish = finish,
    .clEnqueueReadBuffer = enqueue_read,
    .clEnqueueWriteBuffer = enqueue_write,
    .clEnqueueCopyBuffer = enqueue_copy,
    .clEnqueueFillBuffer = enqueue_fill,
    .clEnqueueNDRangeKernel = enqueue_kernel,
    .clEnqueueMarkerWithWaitList = enqueue_marker,
};

EXPORT cl_int CL_API_CALL clIcdGetPlatformIDsKHR(cl_uint room, cl_platform_id *out, cl_uint *count);
EXPORT cl_int CL_API_CALL clIcdGetPlatformIDsKHR(cl_uint room, cl_platform_id *out, cl_uint *count)
{
    if (out && room > 0)
        out[0] = &platform;
    if (count)
        *count = 1;
    return CL_SUCCESS;
}

EXPORT cl_int CL_API_CALL clGetPlatformInfo(cl_platform_id of, cl_platform_info what, size_t room, void *out,
                                            size_t *needed)
{
    return get_platform_info(of, what, room, out, needed);
}

EXPORT void *CL_API_CALL clGetExtensionFunctionAddress(const char *name)
{
    void *address = NULL;
    if (strcmp(name, "clIcdGetPlatformIDsKHR") == 0)
        *(cl_int(CL_API_CALL **)(cl_uint, cl_platform_id *, cl_uint *)) & address = clIcdGetPlatformIDsKHR;
    return address;
}
