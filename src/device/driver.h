/* What a driver implements, and the device as the tiers above see it inside the library. Private.
 *
 * A device owns buffers and op plans. The front door (device.c) validates everything, then calls the driver, so a
 * driver may assume legality. Commands run in the order given; only read and finish wait. The first error of a device
 * is kept: from then on every call returns it again, until the device is closed and opened anew.
 * A device is used by one thread at a time.
 */
#ifndef LUN_DRIVER_H
#define LUN_DRIVER_H

#include <stdatomic.h>

#include <lunette/device.h>

#include "lower/lower.h"

/* More than any machine this is meant for has cores. */
#define LUN_MAX_THREADS 1024

typedef struct lun_buffer lun_buffer;   /* device memory; a driver's own struct begins with it */
typedef struct lun_op_plan lun_op_plan; /* an op made ready on a device */

struct lun_buffer { /* set by the front door */
    lun_device *device;
    size_t bytes;
};

/* Where an operand lies. Offsets are multiples of 4 bytes; the planner's are multiples of 256. */
typedef struct lun_place {
    lun_buffer *buffer;
    size_t offset;
} lun_place;

/* Common to every driver's plan, which begins with it. A driver's plan() sets `candidate` and, by
 * lun_op_plan_set_memory, the next four; the front door sets the rest.
 *
 * Some plans first turn sources into another form (a filter into panels, or into Winograd's domain), and the result
 * serves as long as those sources stay the same. Their owner may give them `kept` bytes to keep it in
 * (lun_op_plan_bind_kept), and then says when to make it (lun_op_plan_prepare); lun_op_plan_run computes the rest.
 * Otherwise it lies in the workspace, behind the scratch, and is made in every run. */
struct lun_op_plan {
    lun_device *device;
    lun_op op;
    const char *candidate;
    size_t workspace;  /* bytes, with what could be kept; a plan that keeps needs workspace - kept */
    size_t kept;       /* bytes; 0: nothing is prepared */
    unsigned kept_src; /* bit s: what is kept depends on source s */
    int prepares;      /* launches that prepare; they come first */
    double flops, bytes;
    bool bound, keeps, prepared;
};

/* What of a plan to run: all of it, what fills the kept memory, or what comes after that. */
typedef enum lun_part { LUN_PART_ALL, LUN_PART_PREPARE, LUN_PART_REST } lun_part;

typedef struct lun_driver {
    const char *name; /* "cpu" */
    /* Append what lun_device_list shows for this driver. Never fails: what is broken is logged at debug level. */
    void (*list)(void (*add)(void *payload, const lun_device_info *info), void *payload);
    /* Open device number `index`; fill dev->info, dev->caps, dev->state. */
    lun_status (*open)(lun_device *dev, int index, const lun_device_params *params);
    void (*close)(lun_device *dev);
    lun_status (*buffer_create)(lun_device *dev, size_t bytes, lun_buffer **out);
    void (*buffer_destroy)(lun_buffer *buffer);
    /* Copy from the host; `src` is free again when the call returns, which may be before the copy has happened on the
     * device. */
    lun_status (*write)(lun_place dst, const void *src, size_t bytes);
    /* Copy to the host and wait for it. */
    lun_status (*read)(lun_place src, void *dst, size_t bytes);
    /* Set 4-byte words. */
    lun_status (*fill)(lun_place dst, uint32_t word, size_t bytes);
    /* Copy within one device, in order with its other commands, without waiting; the ranges do not overlap. NULL: the
     * front door goes through the host. */
    lun_status (*copy)(lun_place dst, lun_place src, size_t bytes);
    /* Choose a candidate (the one named, or the first that accepts) and make it ready: compiled, everything known but
     * where operands lie. LUN_UNSUPPORTED with the reason if there is none. */
    lun_status (*plan)(lun_device *dev, const lun_op *op, const char *candidate, lun_op_plan **out);
    void (*plan_destroy)(lun_op_plan *plan);
    /* Fix where the operands, the workspace and the kept memory lie; may be called again. The last two are without a
     * buffer where the plan needs none. */
    lun_status (*bind)(lun_op_plan *plan, const lun_place *src, const lun_place *dst, lun_place workspace,
                       lun_place kept);
    /* Enqueue. No allocation, no wait. */
    lun_status (*run)(lun_op_plan *plan, lun_part part);
    lun_status (*finish)(lun_device *dev);
} lun_driver;

struct lun_device {
    const lun_driver *driver;
    lun_device_info info;
    lun_caps caps;
    lun_status lost; /* the first error, or LUN_OK */
    char lost_detail[512];
    size_t allocated, peak; /* bytes of buffers now and at most */
    bool dry;               /* buffers have no memory (shadow.h): what is written to them is lost */
    void *state;            /* the driver's */
    /* For the thread that looks on (watch.c): odd while a call is under way, and what for. */
    atomic_ulong calls;
    _Atomic(const char *) doing;
    struct lun_watch *watch; /* NULL: nobody looks on */
};

/* watch.c. Look on at a second device as at `other`, if anybody does; for work that is done for that one. */
lun_status lun_device_watch_as(lun_device *dev, const lun_device *other);
/* End the thread; it must not be in `hung`. */
void lun_device_unwatch(lun_device *dev);

/* drivers.c: NULL-terminated, in order of preference. */
extern const lun_driver *const lun_drivers[];

/* The front door (device.c). Same contracts as the driver's functions. */
lun_status lun_buffer_create(lun_device *dev, size_t bytes, lun_buffer **out);
void lun_buffer_destroy(lun_buffer **buffer);
lun_status lun_buffer_write(lun_place dst, const void *src, size_t bytes);
lun_status lun_buffer_read(lun_place src, void *dst, size_t bytes);
lun_status lun_buffer_fill(lun_place dst, uint32_t word, size_t bytes);
lun_status lun_buffer_copy(lun_place dst, lun_place src, size_t bytes);
lun_status lun_op_plan_create(lun_device *dev, const lun_op *op, const char *candidate, lun_op_plan **out);
void lun_op_plan_destroy(lun_op_plan **plan);
lun_status lun_op_plan_bind(lun_op_plan *plan, const lun_place *src, const lun_place *dst, lun_place workspace);
/* The same with plan->kept bytes of kept memory that nothing else writes: lun_op_plan_prepare must then come before the
 * first run and again after the sources in plan->kept_src have changed. */
lun_status lun_op_plan_bind_kept(lun_op_plan *plan, const lun_place *src, const lun_place *dst, lun_place workspace,
                                 lun_place kept);
/* Enqueue what fills the kept memory; nothing for a plan that keeps nothing. */
lun_status lun_op_plan_prepare(lun_op_plan *plan);
lun_status lun_op_plan_run(lun_op_plan *plan);

/* For drivers: the memory that a lowering asks for. */
void lun_op_plan_set_memory(lun_op_plan *plan, const lun_lowering *lowering);
/* For drivers that run the kernel texts (plan.c): walk the candidates of op->kind (or only the one named); for each
 * that lowers, call ready(dev, lowering, payload), which compiles and may decline too. LUN_OK with *name set, or
 * LUN_UNSUPPORTED whose detail lists every reason. */
lun_status lun_choose_candidate(lun_device *dev, const lun_op *op, const char *candidate,
                                lun_status (*ready)(lun_device *dev, const lun_lowering *lowering, void *payload),
                                void *payload, lun_lowering *lowering, const char **name);

#endif
