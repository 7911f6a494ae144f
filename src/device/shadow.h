/* Planning without memory. Private. */
#ifndef LUN_SHADOW_H
#define LUN_SHADOW_H

#include "device/driver.h"

/* A device that decides as `original` does and holds nothing: its buffers are counted but have no memory, ops get the
 * same candidates with the same workspaces, running them computes nothing and reading gives zeros. So what is built on
 * it, a trainer or a sampler, takes by lun_device_memory() what it would take there. Where a driver declines a kernel
 * that its capabilities allow (it does not compile), the two may differ.
 * unlimited: as if one buffer could be of any size.
 * Its facts are the original's; that may be closed first. LUN_ERR_USAGE for the check device, which holds everything
 * twice. Close with lun_device_close. */
lun_status lun_device_shadow(const lun_device *original, bool unlimited, lun_device **out);

#endif
