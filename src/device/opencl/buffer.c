#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "opencl.h"

/* Begin an entry on a boundary that suits any copy engine. */
#define STAGING_ALIGN 256

static void CL_CALLBACK free_pages(cl_mem mem, void *pages)
{
    (void)mem;
    free(pages);
}

/* On a CPU in memory of our own (lun_alloc_pages says why), which goes when OpenCL has no more use for it. */
static cl_mem create(const lun_opencl *cl, size_t bytes, cl_int *error)
{
    void *pages = cl->dev->info.type == LUN_DEVICE_CPU ? lun_alloc_pages(bytes) : NULL;
    if (pages) {
        cl_mem mem = clCreateBuffer(cl->context, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, bytes, pages, error);
        if (*error == CL_SUCCESS) {
            *error = clSetMemObjectDestructorCallback(mem, free_pages, pages);
            if (*error == CL_SUCCESS)
                return mem;
            (void)clReleaseMemObject(mem);
        }
        free(pages);
    }
    return clCreateBuffer(cl->context, CL_MEM_READ_WRITE, bytes, NULL, error);
}

lun_status lun_opencl_buffer_create(lun_device *dev, size_t bytes, lun_buffer **out)
{
    lun_opencl *cl = lun_opencl_of(dev);
    lun_opencl_buffer *buffer = lun_calloc(1, sizeof *buffer, "a buffer");
    if (!buffer)
        return LUN_ERR_MEMORY;
    cl_int error;
    buffer->mem = create(cl, bytes, &error);
    const char *call = "clCreateBuffer";
    if (error == CL_SUCCESS) {
        /* Drivers allocate lazily: touch it, so that too little memory shows here and not in the first step. */
        const cl_uint zero = 0;
        call = "clEnqueueFillBuffer";
        error = clEnqueueFillBuffer(cl->queue, buffer->mem, &zero, sizeof zero, 0, bytes, 0, NULL, NULL);
    }
    if (error != CL_SUCCESS) {
        if (buffer->mem)
            (void)clReleaseMemObject(buffer->mem);
        free(buffer);
        const bool memory = error == CL_MEM_OBJECT_ALLOCATION_FAILURE || error == CL_OUT_OF_HOST_MEMORY ||
                            error == CL_OUT_OF_RESOURCES || error == CL_INVALID_BUFFER_SIZE;
        return lun_fail(memory ? LUN_ERR_MEMORY : LUN_ERR_DEVICE,
                        "OpenCL: a buffer of %zu bytes (%zu are held): %s: %s (%d)", bytes, dev->allocated, call,
                        lun_opencl_error_name(error), (int)error);
    }
    const lun_status status = lun_opencl_enqueued(cl);
    if (status != LUN_OK)
        lun_opencl_buffer_destroy(&buffer->base);
    else
        *out = &buffer->base;
    return status;
}

void lun_opencl_buffer_destroy(lun_buffer *buffer)
{
    /* OpenCL keeps the memory until enqueued commands have used it. */
    (void)clReleaseMemObject(((lun_opencl_buffer *)buffer)->mem);
    free(buffer);
}

/* ---- the staging ring ---- */

static void drop_oldest(lun_staging *ring)
{
    (void)clReleaseEvent(ring->entry[ring->first].copied);
    ring->first = (ring->first + 1) % LUN_STAGING_ENTRIES;
    ring->count--;
}

static cl_int retire_oldest(lun_staging *ring)
{
    const cl_int error = clWaitForEvents(1, &ring->entry[ring->first].copied);
    drop_oldest(ring);
    return error;
}

/* Has the oldest copy been made? Asking does not wait. */
static bool oldest_is_done(const lun_staging *ring)
{
    cl_int state = CL_QUEUED;
    return clGetEventInfo(ring->entry[ring->first].copied, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state,
                          NULL) == CL_SUCCESS &&
           state == CL_COMPLETE;
}

static bool in_use(const lun_staging *ring, size_t begin, size_t end)
{
    for (int i = 0; i < ring->count; i++) {
        const lun_staging_entry *e = &ring->entry[(ring->first + i) % LUN_STAGING_ENTRIES];
        if (begin < e->end && e->begin < end)
            return true;
    }
    return false;
}

/* Find `bytes` of the ring, waiting for old copies only when there is no room. */
static lun_status reserve(lun_staging *ring, size_t bytes, size_t *begin)
{
    if (!ring->bytes) {
        ring->bytes = lun_malloc(LUN_STAGING_BYTES, 1, "the staging ring");
        if (!ring->bytes)
            return LUN_ERR_MEMORY;
    }
    if (ring->next + bytes > LUN_STAGING_BYTES)
        ring->next = 0;
    while (ring->count > 0 && oldest_is_done(ring))
        drop_oldest(ring);
    while (ring->count == LUN_STAGING_ENTRIES || in_use(ring, ring->next, ring->next + bytes))
        LUN_TRY(lun_opencl_check(retire_oldest(ring), "clWaitForEvents", "an earlier write"));
    *begin = ring->next;
    return LUN_OK;
}

lun_status lun_opencl_write(lun_place dst, const void *src, size_t bytes)
{
    lun_opencl *cl = lun_opencl_of(dst.buffer->device);
    lun_staging *ring = &cl->staging;
    const unsigned char *from = src;
    while (bytes > 0) {
        /* A quarter at a time: while one piece travels the next is filled. */
        const size_t piece = bytes < LUN_STAGING_BYTES / 4 ? bytes : LUN_STAGING_BYTES / 4;
        size_t begin;
        LUN_TRY(reserve(ring, piece, &begin));
        memcpy(ring->bytes + begin, from, piece);
        lun_staging_entry *entry = &ring->entry[(ring->first + ring->count) % LUN_STAGING_ENTRIES];
        *entry = (lun_staging_entry){begin, begin + piece, NULL};
        LUN_TRY(lun_opencl_check(clEnqueueWriteBuffer(cl->queue, lun_opencl_mem(dst), CL_FALSE, dst.offset, piece,
                                                      ring->bytes + begin, 0, NULL, &entry->copied),
                                 "clEnqueueWriteBuffer", "write"));
        ring->count++;
        ring->next = (size_t)lun_round_up((int64_t)(begin + piece), STAGING_ALIGN);
        LUN_TRY(lun_opencl_enqueued(cl));
        from += piece;
        dst.offset += piece;
        bytes -= piece;
    }
    return LUN_OK;
}

void lun_opencl_staging_release(lun_opencl *cl)
{
    /* The queue is empty, or the device is lost: either way nothing reads the ring any more once the events are waited
     * for. Without lun_opencl_check: closing a lost device must leave the detail of why it was lost. */
    while (cl->staging.count > 0)
        (void)retire_oldest(&cl->staging);
    free(cl->staging.bytes);
    cl->staging.bytes = NULL;
}

/* ---- reads, fills and copies ---- */

lun_status lun_opencl_read(lun_place src, void *dst, size_t bytes)
{
    lun_opencl *cl = lun_opencl_of(src.buffer->device);
    cl->unflushed = 0; /* a blocking command flushes */
    return lun_opencl_check(
        clEnqueueReadBuffer(cl->queue, lun_opencl_mem(src), CL_TRUE, src.offset, bytes, dst, 0, NULL, NULL),
        "clEnqueueReadBuffer", "read");
}

lun_status lun_opencl_fill(lun_place dst, uint32_t word, size_t bytes)
{
    lun_opencl *cl = lun_opencl_of(dst.buffer->device);
    const cl_uint pattern = word;
    LUN_TRY(lun_opencl_check(
        clEnqueueFillBuffer(cl->queue, lun_opencl_mem(dst), &pattern, sizeof pattern, dst.offset, bytes, 0, NULL, NULL),
        "clEnqueueFillBuffer", "fill"));
    return lun_opencl_enqueued(cl);
}

lun_status lun_opencl_copy(lun_place dst, lun_place src, size_t bytes)
{
    lun_opencl *cl = lun_opencl_of(dst.buffer->device);
    LUN_TRY(lun_opencl_check(clEnqueueCopyBuffer(cl->queue, lun_opencl_mem(src), lun_opencl_mem(dst), src.offset,
                                                 dst.offset, bytes, 0, NULL, NULL),
                             "clEnqueueCopyBuffer", "copy"));
    return lun_opencl_enqueued(cl);
}
