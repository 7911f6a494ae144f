/* Which device "auto" is. Private. */
#ifndef LUN_AUTO_H
#define LUN_AUTO_H

#include <stdbool.h>

#include <lunette/device.h>

/* Write the specification to open into spec[32]: the first OpenCL GPU; else the faster of OpenCL-on-CPU and plain C,
 * from the cache folder or measured now (some seconds, once). `params` is not NULL. LUN_ERR_DEVICE when no device at
 * all could be opened. */
lun_status lun_auto_choose(const lun_device_params *params, char spec[32]);

/* What a former measurement said of these two; false if there was none. Measures nothing. */
bool lun_auto_remembered(const lun_device_info *opencl, const lun_device_info *cpu, char spec[32]);

#endif
