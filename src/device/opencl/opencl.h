/* What the files of the OpenCL driver share. Private to this folder: nothing outside it knows OpenCL.
 *
 *   probe.c    drivers that crash when they are asked for their devices
 *   open.c     platforms, devices, context, queue, errors; the driver's table
 *   program.c  kernel texts, compiling, both caches
 *   launch.c   op plans: candidates, kernels, arguments, enqueueing
 *   buffer.c   buffers, the staging ring, copies
 *   gemm.c     the external matrix product (the only file that knows CLBlast)
 *
 * Written against OpenCL 1.2. One in-order queue a device.
 */
#ifndef LUN_OPENCL_H
#define LUN_OPENCL_H

#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>

#include "device/driver.h"

/* Host writes are copied here when they are called and leave by non-blocking copies, oldest first. */
#define LUN_STAGING_BYTES   ((size_t)8 << 20)
#define LUN_STAGING_ENTRIES 128

typedef struct lun_staging_entry {
    size_t begin, end;
    cl_event copied;
} lun_staging_entry;

typedef struct lun_staging {
    unsigned char *bytes;
    size_t next;                                  /* where the next entry may begin */
    lun_staging_entry entry[LUN_STAGING_ENTRIES]; /* in flight: `count` of them from `first` on, circular */
    int first, count;
} lun_staging;

typedef struct lun_opencl_program {
    struct lun_opencl_program *next;
    char file[64], options[160];
    cl_program program;
} lun_opencl_program;

typedef struct lun_opencl {
    lun_device *dev;
    cl_platform_id platform;
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    size_t max_group;        /* largest work-group */
    char platform_name[256]; /* name and version */
    char *folder;            /* $LUNETTE_KERNELS when the device was opened, or NULL */
    bool keeps_binaries;     /* the driver has a cache of its own on disk */
    bool gemm_suited;        /* the matrix product's parameters have been set for the device (gemm.c) */
    lun_opencl_program *programs;
    lun_staging staging;
    int unflushed; /* commands since the last clFlush */
} lun_opencl;

typedef struct lun_opencl_buffer {
    lun_buffer base;
    cl_mem mem;
} lun_opencl_buffer;

static inline lun_opencl *lun_opencl_of(const lun_device *dev)
{
    return dev->state;
}
static inline cl_mem lun_opencl_mem(lun_place place)
{
    return ((lun_opencl_buffer *)place.buffer)->mem;
}

/* probe.c. May the loader be called? Before the first call of it; the first time, drivers that crash are found, named
 * in warnings and kept away from it. */
bool lun_opencl_usable(void);

/* open.c. LUN_OK for CL_SUCCESS; else LUN_ERR_DEVICE (LUN_ERR_MEMORY where memory ran out) naming the call, the error
 * and what it was for. */
lun_status lun_opencl_check(cl_int error, const char *call, const char *what);
const char *lun_opencl_error_name(cl_int error);
/* Call after each enqueued command: hands the commands to the device from time to time. */
lun_status lun_opencl_enqueued(lun_opencl *cl);

/* Local size of the item kernels: 1 where an item is a long piece of work, 64 on GPUs (or what the device allows). */
size_t lun_opencl_group(const lun_opencl *cl);

/* program.c. For item kernels in groups of `group`. The program stays the device's. A text that does not compile is
 * LUN_ERR_DEVICE with the file and the first lines of the compiler's log. */
lun_status lun_opencl_program_get(lun_opencl *cl, const char *file, const char *options, size_t group, cl_program *out);
void lun_opencl_programs_release(lun_opencl *cl);

/* launch.c */
lun_status lun_opencl_plan(lun_device *dev, const lun_op *op, const char *candidate, lun_op_plan **out);
void lun_opencl_plan_destroy(lun_op_plan *plan);
lun_status lun_opencl_bind(lun_op_plan *plan, const lun_place *src, const lun_place *dst, lun_place workspace,
                           lun_place kept);
lun_status lun_opencl_run(lun_op_plan *plan, lun_part part);

/* buffer.c */
lun_status lun_opencl_buffer_create(lun_device *dev, size_t bytes, lun_buffer **out);
void lun_opencl_buffer_destroy(lun_buffer *buffer);
lun_status lun_opencl_write(lun_place dst, const void *src, size_t bytes);
lun_status lun_opencl_read(lun_place src, void *dst, size_t bytes);
lun_status lun_opencl_fill(lun_place dst, uint32_t word, size_t bytes);
lun_status lun_opencl_copy(lun_place dst, lun_place src, size_t bytes);
void lun_opencl_staging_release(lun_opencl *cl);

/* gemm.c. Places are those of A, B, C; `what` names the op in an error. */
bool lun_opencl_has_gemm(void);
lun_status lun_opencl_gemm(lun_opencl *cl, const lun_gemm_args *args, const lun_place place[3], const char *what);
void lun_opencl_gemm_release(void);

#endif
