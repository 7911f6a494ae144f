/* An OpenCL platform for tests: one device that runs lunette's kernel texts as the C compiler made them, at once and on
 * the calling thread, and that fails where it is told to. What it computes is what the cpu device computes with the
 * instruction set "baseline" and one thread, so a run here has a known result; and nothing is compiled, so a run takes
 * a tenth of a second.
 *
 *   stub_faults.c   what goes wrong when; counts; the report
 *   stub_says.c     what the platform and its device say of themselves
 *   stub_memory.c   buffers and copies
 *   stub_program.c  programs, kernels, launches
 *   icd.c           queues and events; the table of calls, and the loader's door
 *
 * It answers the calls that lunette makes, and only those. A program must be one of the embedded texts (or a "binary"
 * that is its name). Texts of cl/gpu build, but do not run. It holds a launch to the rules for sizes of groups.
 *
 *   STUB_AT      the number of the call that fails, from 1; 0: none
 *   STUB_ON      set: every one after it fails, too, but releases
 *   STUB_ERROR   resources (CL_OUT_OF_RESOURCES), memory (CL_MEM_OBJECT_ALLOCATION_FAILURE), lost
 *                (CL_INVALID_COMMAND_QUEUE); status: of the events asked for their status the STUB_AT-th tells that its
 *                command failed, while every call succeeds
 *   STUB_HANG    the name of a call that never returns; with STUB_HANG_AT=N the N-th and all later ones of it
 *   STUB_FLIP    the number of the launch, from 1, of whose results one bit is wrong: in the middle one of the words
 *                that it has changed
 *   STUB_BIT     which, from 0
 *   STUB_SAYS    of the device, in one word: unavailable, no-compiler, silent (it answers no question), old (OpenCL
 *                1.1), big-endian, no-nearest (rounds towards zero), no-infinities, embedded (without 64-bit integers)
 *   STUB_GPU     set: it says that it is a GPU
 *   STUB_GROUP, STUB_ALONG, STUB_KERNEL_GROUP, STUB_LOCAL
 *                the items of a group at most, of a device (32), along its first dimension (32) and with a kernel
 *                (32), and bytes of local memory (4096: too little for kernels of cl/gpu)
 *   STUB_BUILD   fails, or warns: what becomes of each program
 *   STUB_LOG     how many bytes its log then has; -1: it says SIZE_MAX
 *   STUB_REPORT  where to say, at exit, how many calls, events and launches there were, how many items the largest
 *                launch had, what failed or was flipped, how many objects are left, and a hash of all that the host has
 *                read
 *
 * Releases that fail release. One thread at a time. */
#ifndef STUB_H
#define STUB_H

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

#define EXPORT        __attribute__((visibility("default")))
#define MAX_ARGS      24
#define ARG_MAX_BYTES 512

extern cl_icd_dispatch stub_table;
extern struct _cl_platform_id stub_platform;
extern struct _cl_device_id stub_device;

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
    const char *file;         /* NULL: not one of the texts */
    const lun_cpu_text *text; /* NULL: C has none of it */
};
struct _cl_kernel {
    cl_icd_dispatch *dispatch;
    lun_cpu_kernel_fn *run; /* NULL: cannot run */
    size_t bytes[MAX_ARGS];
    unsigned char value[MAX_ARGS][ARG_MAX_BYTES];
    unsigned count;
};

/* ---- stub_faults.c ---- */

extern long stub_calls, stub_events, stub_launches, stub_longest, stub_flip_at;
extern unsigned stub_flip_bit;
extern uint64_t stub_hash; /* FNV-1a of all that the host has read */
extern char stub_flipped[160];

/* To be called once in each call: counts it, hangs if it is to, and says how it is to end. */
cl_int stub_fault(const char *call);
/* Is the next event to tell of a failure? */
bool stub_event_fails(void);
/* An object with its first member set; counted until it is dropped. */
void *stub_make(size_t bytes);
void stub_drop(void *object);
/* Of the environment; `otherwise` where there is none. */
long stub_number(const char *name, long otherwise);
bool stub_says(const char *word);

/* A fault ends the call. */
#define CALL(name)                                                                                                     \
    do {                                                                                                               \
        const cl_int error_ = stub_fault(#name);                                                                       \
        if (error_ != CL_SUCCESS)                                                                                      \
            return error_;                                                                                             \
    } while (0)
/* The same in one that makes an object. */
#define MAKE(name)                                                                                                     \
    do {                                                                                                               \
        const cl_int error_ = stub_fault(#name);                                                                       \
        if (error)                                                                                                     \
            *error = error_;                                                                                           \
        if (error_ != CL_SUCCESS)                                                                                      \
            return NULL;                                                                                               \
    } while (0)

/* ---- stub_says.c ---- */

cl_int stub_answer(const void *value, size_t bytes, size_t room, void *out, size_t *needed);
cl_int stub_answer_text(const char *text, size_t room, void *out, size_t *needed);
#define NUMBER(type, value) stub_answer(&(const type){value}, sizeof(type), room, out, needed)
/* Items of a group at most: of the device, along its first dimension, with any kernel. */
size_t stub_group(void);
size_t stub_along(void);
size_t stub_kernel_group(void);

/* ---- each enters its calls into the table ---- */

void stub_enter_says(cl_icd_dispatch *table);
void stub_enter_memory(cl_icd_dispatch *table);
void stub_enter_program(cl_icd_dispatch *table);
/* icd.c. An event, if one is asked for. */
void stub_give_event(cl_event *event);

#endif
