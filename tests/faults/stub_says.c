/* What the platform and its device say of themselves. */
#include "stub.h"

cl_int stub_answer(const void *value, size_t bytes, size_t room, void *out, size_t *needed)
{
    if (needed)
        *needed = bytes;
    if (out && room < bytes)
        return CL_INVALID_VALUE;
    if (out)
        memcpy(out, value, bytes);
    return CL_SUCCESS;
}

cl_int stub_answer_text(const char *text, size_t room, void *out, size_t *needed)
{
    return stub_answer(text, strlen(text) + 1, room, out, needed);
}

static cl_int get_platform_info(cl_platform_id of, cl_platform_info what, size_t room, void *out, size_t *needed)
{
    (void)of;
    /* What the loader asks for, before it shows the platform to anyone, does not count. */
    if (what != CL_PLATFORM_EXTENSIONS && what != CL_PLATFORM_ICD_SUFFIX_KHR)
        CALL(clGetPlatformInfo);
    switch (what) {
    case CL_PLATFORM_NAME: return stub_answer_text("lunette's stub", room, out, needed);
    case CL_PLATFORM_VERSION: return stub_answer_text("OpenCL 1.2 stub", room, out, needed);
    case CL_PLATFORM_VENDOR: return stub_answer_text("lunette", room, out, needed);
    case CL_PLATFORM_PROFILE: return stub_answer_text("FULL_PROFILE", room, out, needed);
    case CL_PLATFORM_EXTENSIONS: return stub_answer_text("cl_khr_icd", room, out, needed);
    case CL_PLATFORM_ICD_SUFFIX_KHR: return stub_answer_text("STUB", room, out, needed);
    default: return CL_INVALID_VALUE;
    }
}

static cl_device_type kind(void)
{
    return getenv("STUB_GPU") ? CL_DEVICE_TYPE_GPU : CL_DEVICE_TYPE_CPU;
}

size_t stub_group(void)
{
    return (size_t)stub_number("STUB_GROUP", 32);
}

size_t stub_along(void)
{
    return (size_t)stub_number("STUB_ALONG", 32);
}

size_t stub_kernel_group(void)
{
    return (size_t)stub_number("STUB_KERNEL_GROUP", 32);
}

static cl_device_fp_config floats(void)
{
    return (stub_says("no-nearest") ? CL_FP_ROUND_TO_ZERO : CL_FP_ROUND_TO_NEAREST) |
           (stub_says("no-infinities") ? 0 : CL_FP_INF_NAN);
}

static cl_int get_devices(cl_platform_id of, cl_device_type type, cl_uint room, cl_device_id *out, cl_uint *count)
{
    (void)of;
    CALL(clGetDeviceIDs);
    if (!(type & kind()))
        return CL_DEVICE_NOT_FOUND;
    if (out && room > 0)
        out[0] = &stub_device;
    if (count)
        *count = 1;
    return CL_SUCCESS;
}

static cl_int get_device_info(cl_device_id of, cl_device_info what, size_t room, void *out, size_t *needed)
{
    const size_t along[3] = {stub_along(), stub_along(), stub_along()};
    (void)of;
    CALL(clGetDeviceInfo);
    if (stub_says("silent"))
        return CL_DEVICE_NOT_AVAILABLE;
    switch (what) {
    case CL_DEVICE_NAME: return stub_answer_text("stub", room, out, needed);
    case CL_DEVICE_VENDOR: return stub_answer_text("lunette", room, out, needed);
    case CL_DEVICE_VERSION:
        return stub_answer_text(stub_says("old") ? "OpenCL 1.1 stub" : "OpenCL 1.2 stub", room, out, needed);
    case CL_DRIVER_VERSION: return stub_answer_text("1", room, out, needed);
    case CL_DEVICE_PROFILE:
        return stub_answer_text(stub_says("embedded") ? "EMBEDDED_PROFILE" : "FULL_PROFILE", room, out, needed);
    case CL_DEVICE_EXTENSIONS: return stub_answer_text("", room, out, needed);
    case CL_DEVICE_TYPE: return NUMBER(cl_device_type, kind());
    case CL_DEVICE_AVAILABLE: return NUMBER(cl_bool, !stub_says("unavailable"));
    case CL_DEVICE_COMPILER_AVAILABLE: return NUMBER(cl_bool, !stub_says("no-compiler"));
    case CL_DEVICE_ENDIAN_LITTLE: return NUMBER(cl_bool, !stub_says("big-endian"));
    case CL_DEVICE_SINGLE_FP_CONFIG: return NUMBER(cl_device_fp_config, floats());
    case CL_DEVICE_MAX_COMPUTE_UNITS: return NUMBER(cl_uint, 1);
    case CL_DEVICE_GLOBAL_MEM_SIZE: return NUMBER(cl_ulong, (cl_ulong)1 << 32);
    case CL_DEVICE_MAX_MEM_ALLOC_SIZE: return NUMBER(cl_ulong, (cl_ulong)1 << 30);
    case CL_DEVICE_LOCAL_MEM_SIZE: return NUMBER(cl_ulong, (cl_ulong)stub_number("STUB_LOCAL", 4096));
    case CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT: return NUMBER(cl_uint, 4);
    case CL_DEVICE_MAX_WORK_GROUP_SIZE: return NUMBER(size_t, stub_group());
    case CL_DEVICE_MAX_WORK_ITEM_SIZES: return stub_answer(along, sizeof along, room, out, needed);
    default: return CL_INVALID_VALUE;
    }
}

void stub_enter_says(cl_icd_dispatch *table)
{
    table->clGetPlatformInfo = get_platform_info;
    table->clGetDeviceIDs = get_devices;
    table->clGetDeviceInfo = get_device_info;
}
