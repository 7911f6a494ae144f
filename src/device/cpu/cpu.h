/* The plain-C device. Private. */
#ifndef LUN_CPU_H
#define LUN_CPU_H

#include "device/driver.h"

extern const lun_driver lun_driver_cpu;

#endif
