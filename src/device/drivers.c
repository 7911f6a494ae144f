#include "device/driver.h"

extern const lun_driver lun_driver_opencl, lun_driver_cpu, lun_driver_null, lun_driver_check;

const lun_driver *const lun_drivers[] = {
#ifdef LUN_HAVE_OPENCL
    &lun_driver_opencl,
#endif
#ifdef LUN_HAVE_CPU
    &lun_driver_cpu,
#endif
    &lun_driver_null,   &lun_driver_check, NULL,
};
