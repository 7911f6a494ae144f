/* Doctor: are a device's results right?
 *
 * A step of training and one of sampling run on the device and in plain C side by side, op by op, from the same
 * operands, at the network's real sizes. Every result is held against the other's; what may differ is what rounding
 * explains (src/device/check.c). Plain C computes each op by a kernel of another kind than the device where it has one,
 * so that a text both compile does not vouch for itself. On the plain-C device the few ops that have a single kernel
 * are compared with themselves; the project's own tests hold those against float64.
 */
#ifndef LUNETTE_DOCTOR_H
#define LUNETTE_DOCTOR_H

#include "train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One kernel on one op. */
typedef struct lun_doctor_finding {
    const char *kind, *description, *candidate;
    int count; /* how often it was compared */
    /* The largest difference over what rounding may do: 0 for equal bits, up to 1 right, above 1 wrong; infinite where
     * nothing may differ, or where one side has no number. */
    double share;
    const char *detail; /* of a wrong one, where: one line; else NULL */
} lun_doctor_finding;

typedef struct lun_doctor_params {
    const lun_train_config *config; /* network, batch and size; its seed decides weights and pictures */
    const char *model;              /* a model file for that network, whose weights are used; NULL: the seed's */
    int train, sample;              /* which steps to run */
    int all;                        /* every kernel that the device has for an op; 0: the one it would take */
    const char *candidate;          /* with all: only this kernel, wherever the device has it; NULL: each */
    int threads;                    /* lun_device_params */
    /* The kernel that would be taken for an op of this description; NULL, or no such function: the device's choice. */
    const char *(*choice)(void *payload, const char *op);
    /* Called once with the device on which all is done, before that begins, to lun_device_watch() it; an error ends it.
     * May be NULL. */
    lun_status (*opened)(void *payload, lun_device *dev);
    /* Called between steps: what is tried, and how far that is; non-zero stops. May be NULL. */
    int (*progress)(void *payload, const char *candidate, int round, int rounds);
    /* After all, in order of op and kernel; what it is given is gone when it returns. May be NULL. */
    void (*result)(void *payload, const lun_doctor_finding *finding);
    void *payload;
} lun_doctor_params;

typedef struct lun_doctor_verdict {
    int kernels, wrong; /* pairs of op and kernel */
    double worst;       /* the largest share of a right one */
} lun_doctor_verdict;

/* `device` is one that computes ("cpu", "opencl:1"). Holds the memory of the run twice: on the device and in plain C.
 * LUN_OK also with wrong kernels: the verdict counts them. Blocks. */
LUN_API lun_status lun_doctor(const char *device, const lun_doctor_params *params, lun_doctor_verdict *out);

#ifdef __cplusplus
}
#endif
#endif
