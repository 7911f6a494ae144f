/* What the null device has counted since it was opened. Private. */
#ifndef LUN_NULL_H
#define LUN_NULL_H

#include "device/driver.h"

typedef struct lun_null_counts {
    uint64_t ops, launches;
    double flops, bytes;              /* of the ops run */
    double written_bytes, read_bytes; /* between host and device */
} lun_null_counts;

/* `dev` must be a null device. */
lun_null_counts lun_null_get_counts(const lun_device *dev);

#endif
