/* The stub platform of stub.h: contexts, queues and events; the table of calls; the loader's door. */
#include "stub.h"

cl_icd_dispatch stub_table;
struct _cl_platform_id stub_platform = {&stub_table};
struct _cl_device_id stub_device = {&stub_table};

/* ---- contexts ---- */

static cl_context create_context(const cl_context_properties *properties, cl_uint count, const cl_device_id *devices,
                                 void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *user,
                                 cl_int *error)
{
    (void)properties, (void)count, (void)devices, (void)notify, (void)user;
    MAKE(clCreateContext);
    return stub_make(sizeof(struct _cl_context));
}

static cl_command_queue create_queue(cl_context context, cl_device_id of, cl_command_queue_properties properties,
                                     cl_int *error)
{
    (void)context, (void)of, (void)properties;
    MAKE(clCreateCommandQueue);
    return stub_make(sizeof(struct _cl_command_queue));
}

static cl_int release_context(cl_context context)
{
    stub_drop(context);
    return stub_fault("clReleaseContext");
}

static cl_int release_queue(cl_command_queue queue)
{
    stub_drop(queue);
    return stub_fault("clReleaseCommandQueue");
}

static cl_int release_event(cl_event event)
{
    stub_drop(event);
    return stub_fault("clReleaseEvent");
}

/* ---- queues and events ---- */

void stub_give_event(cl_event *event)
{
    if (event)
        *event = stub_make(sizeof(struct _cl_event));
}

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
    stub_give_event(event);
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
    if (stub_event_fails())
        state = CL_OUT_OF_RESOURCES;
    return stub_answer(&state, sizeof state, room, out, needed);
}

/* ---- the loader's door ---- */

__attribute__((constructor)) static void fill_table(void)
{
    stub_table.clCreateContext = create_context;
    stub_table.clReleaseContext = release_context;
    stub_table.clCreateCommandQueue = create_queue;
    stub_table.clReleaseCommandQueue = release_queue;
    stub_table.clWaitForEvents = wait_events;
    stub_table.clGetEventInfo = get_event_info;
    stub_table.clReleaseEvent = release_event;
    stub_table.clFlush = flush;
    stub_table.clFinish = finish;
    stub_table.clEnqueueMarkerWithWaitList = enqueue_marker;
    stub_enter_says(&stub_table);
    stub_enter_memory(&stub_table);
    stub_enter_program(&stub_table);
}

EXPORT cl_int CL_API_CALL clIcdGetPlatformIDsKHR(cl_uint room, cl_platform_id *out, cl_uint *count);
EXPORT cl_int CL_API_CALL clIcdGetPlatformIDsKHR(cl_uint room, cl_platform_id *out, cl_uint *count)
{
    if (out && room > 0)
        out[0] = &stub_platform;
    if (count)
        *count = 1;
    return CL_SUCCESS;
}

EXPORT cl_int CL_API_CALL clGetPlatformInfo(cl_platform_id of, cl_platform_info what, size_t room, void *out,
                                            size_t *needed)
{
    return stub_table.clGetPlatformInfo(of, what, room, out, needed);
}

EXPORT void *CL_API_CALL clGetExtensionFunctionAddress(const char *name)
{
    void *address = NULL;
    if (strcmp(name, "clIcdGetPlatformIDsKHR") == 0)
        *(cl_int(CL_API_CALL **)(cl_uint, cl_platform_id *, cl_uint *)) & address = clIcdGetPlatformIDsKHR;
    return address;
}
