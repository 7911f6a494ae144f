/* Buffers and copies. */
#include "stub.h"

static cl_mem create_buffer(cl_context context, cl_mem_flags flags, size_t bytes, void *host, cl_int *error)
{
    (void)context;
    MAKE(clCreateBuffer);
    cl_mem mem = stub_make(sizeof *mem);
    mem->bytes = bytes;
    mem->theirs = flags & CL_MEM_USE_HOST_PTR;
    mem->data = mem->theirs ? host : aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!mem->data)
        abort();
    return mem;
}

static cl_int when_gone(cl_mem mem, void(CL_CALLBACK *gone)(cl_mem mem, void *user), void *user)
{
    const cl_int error = stub_fault("clSetMemObjectDestructorCallback");
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
    stub_drop(mem);
    return stub_fault("clReleaseMemObject");
}

static bool inside(const struct _cl_mem *mem, size_t offset, size_t bytes)
{
    return offset <= mem->bytes && bytes <= mem->bytes - offset;
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
        stub_hash = (stub_hash ^ mem->data[offset + i]) * UINT64_C(0x100000001b3);
    stub_give_event(event);
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
    stub_give_event(event);
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
    stub_give_event(event);
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
    stub_give_event(event);
    return CL_SUCCESS;
}

void stub_enter_memory(cl_icd_dispatch *table)
{
    table->clCreateBuffer = create_buffer;
    table->clReleaseMemObject = release_mem;
    table->clSetMemObjectDestructorCallback = when_gone;
    table->clEnqueueReadBuffer = enqueue_read;
    table->clEnqueueWriteBuffer = enqueue_write;
    table->clEnqueueCopyBuffer = enqueue_copy;
    table->clEnqueueFillBuffer = enqueue_fill;
}
