/* The two devices inside a check device. Private. */
#ifndef LUN_CHECK_H
#define LUN_CHECK_H

#include "device/driver.h"

/* A (0) or B (1). Owned by the check device. For tests: they change caps, so that one machine tries what others do. */
lun_device *lun_check_side(const lun_device *dev, int which);

#endif
