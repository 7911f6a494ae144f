/* The tuner's private side: measuring ops (tune.c), and the table of choices with its file (tuning.c). */
#ifndef LUN_DEVICE_TUNE_H
#define LUN_DEVICE_TUNE_H

#include <lunette/tune.h>

#include "device/driver.h"

/* An op as a graph has it. */
typedef struct lun_tune_op {
    lun_op op;
    bool kept; /* what it prepares is kept from run to run (driver.h), so that its time does not count */
} lun_tune_op;

#define LUN_TUNE_TEXT 280
/* Its name in the table of choices: the description, and " kept" where that is so. */
void lun_tune_describe(const lun_tune_op *op, char text[LUN_TUNE_TEXT]);

/* Choose for every op of `ops` (repeats count as one) that has more than one candidate here and a bound of error, and
 * that `tuning` does not know yet, or for all with params->force; then keep the choices in the file. `params` is not
 * NULL. All memory is given back before the return. Blocks. LUN_OK also where `progress` asked to stop or the time was
 * used up. */
lun_status lun_tune_ops(lun_device *dev, const lun_tune_op *ops, size_t count, const lun_tune_params *params,
                        lun_tuning *tuning);
/* The same with a clock for tests, in seconds. */
lun_status lun_tune_ops_by(lun_device *dev, const lun_tune_op *ops, size_t count, const lun_tune_params *params,
                           lun_tuning *tuning, double (*clock)(void));

/* Is there anything to tune on this device? */
bool lun_tunable(const lun_device *dev);

/* What a choice or a verdict on a kernel is for, in one line of fresh memory: device, driver, settings, build. */
char *lun_device_key(const lun_device *dev);
/* $LUNETTE_KERNELS gives other texts than those the build knows: nothing may be remembered of them. */
bool lun_foreign_kernels(void);

/* A choice in memory, and when it was measured (best seconds of a run). */
lun_status lun_tuning_set(lun_tuning *tuning, const char *op, const char *candidate, double seconds);
/* Seconds of the choice for `op`; NaN when there is none. */
double lun_tuning_seconds(const lun_tuning *tuning, const char *op);
/* Merge what was set since the opening into the file. Best effort. */
void lun_tuning_keep(lun_tuning *tuning);

/* Hash of the kernel texts and the lowerings, made at build time. */
extern const char lun_kernel_hash[];

#endif
