/* Devices: what computes.
 *
 * A device is named by a specification:
 *     "cpu"        plain C, every core, instruction set chosen at run time
 *     "opencl"     the first OpenCL device, GPUs before CPUs; "opencl:I" number I of lun_device_list
 *     "null"       plans and counts, computes nothing
 *     "check"      two devices side by side, op by op: "check:A,B", by default "check:cpu,opencl"; a difference beyond
 *                  rounding is LUN_ERR_DEVICE
 *     "auto"       a GPU through OpenCL if there is one; else the faster of OpenCL-on-CPU and plain C, as measured once
 * and remembered in the cache folder
 *
 * The cache folder is $LUNETTE_CACHE, else $XDG_CACHE_HOME/lunette, else $HOME/.cache/lunette; without any of them
 * nothing is remembered. $LUNETTE_KERNELS names a folder to read kernel texts from instead of the embedded ones, and
 * $LUNETTE_ISA (baseline, avx2, avx512) forces the plain-C device's instruction set. $LUNETTE_DECLINE is a list of
 * op names, separated by commas, that devices other than cpu decline ("conv2d,loss"): for tests and for finding a bad
 * kernel. $LUNETTE_LAUNCH_MS is how many milliseconds one launch on an OpenCL device may be predicted to take (100 on
 * GPUs, 0 for any on others), and $LUNETTE_PROBE how many seconds OpenCL drivers have to name their devices (60; 0 asks
 * them in this process).
 */
#ifndef LUNETTE_DEVICE_H
#define LUNETTE_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lun_device lun_device;

typedef enum lun_device_type { LUN_DEVICE_CPU, LUN_DEVICE_GPU, LUN_DEVICE_OTHER } lun_device_type;

/* Facts of a device; a limit of 0 means "does not apply". */
typedef struct lun_device_info {
    char spec[32]; /* opens it again: "opencl:0" */
    char name[128];
    char platform[128]; /* OpenCL platform, or the instruction set of plain C */
    char driver[128];   /* driver version */
    lun_device_type type;
    int units; /* compute units or threads */
    uint64_t memory_bytes, max_alloc_bytes;
} lun_device_info;

typedef struct lun_device_params {
    int threads; /* plain C: threads to use, 0 for one a core. OpenCL ignores it. */
} lun_device_params;

/* `params` may be NULL. On success *out is owned by the caller; close with lun_device_close. Blocks while a driver
 * starts. */
LUN_API lun_status lun_device_open(const char *spec, const lun_device_params *params, lun_device **out);
/* Waits for the device, frees it and sets *dev NULL. NULL and &{NULL} are accepted. Close graphs and models on it
 * first. */
LUN_API void lun_device_close(lun_device **dev);
/* Valid until the device is closed. */
LUN_API const lun_device_info *lun_device_get_info(const lun_device *dev);
/* Bytes of device memory held now and at most since opening. */
LUN_API void lun_device_memory(const lun_device *dev, size_t *now, size_t *peak);
/* LUN_OK, or the first error of a command: from then on everything on this device returns it, until the device is
 * closed and opened anew. A buffer or an op that the device has refused is no such error. */
LUN_API lun_status lun_device_state(const lun_device *dev);
/* Wait until all enqueued work is done; reports its failure. */
LUN_API lun_status lun_device_finish(lun_device *dev);
/* From now on, until the device is closed, a thread looks on. Where one call of the device does not return for
 * `seconds` (above 0, of time in which this process ran), it calls `hung` once with what the call is for, and ends.
 * OpenCL has no way to take such a call back: all that can be done is to end the process without touching the device
 * again, _exit(). LUN_ERR_USAGE where one looks on already. */
LUN_API lun_status lun_device_watch(lun_device *dev, double seconds, void (*hung)(void *payload, const char *what),
                                    void *payload);
/* Call `visit` for every device that could be opened, in the order of preference of "auto". */
LUN_API void lun_device_list(void (*visit)(void *payload, const lun_device_info *info), void *payload);

#ifdef __cplusplus
}
#endif
#endif
