#include "device/shadow.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "device/null.h"

extern const lun_driver lun_driver_null;

/* Begins as the null device's state does, whose functions it is for. The driver is a copy under the original's name:
 * what depends on which driver it is (LUNETTE_DECLINE, fallback) is then decided as for the original. */
typedef struct shadow_state {
    lun_null_counts counts;
    lun_driver driver;
} shadow_state;

static void shadow_close(lun_device *dev)
{
    free(dev->state);
}

lun_status lun_device_shadow(const lun_device *original, bool unlimited, lun_device **out)
{
    if (!original || !out)
        return lun_fail(LUN_ERR_INTERNAL, "lun_device_shadow: no device or no result");
    if (strcmp(original->driver->name, "check") == 0)
        return lun_fail(LUN_ERR_USAGE, "the device check holds everything twice: plan for one of the two");
    lun_device *dev = lun_calloc(1, sizeof *dev, "a device");
    shadow_state *state = lun_calloc(1, sizeof *state, "a device");
    if (!dev || !state) {
        free(dev);
        free(state);
        return LUN_ERR_MEMORY;
    }
    state->driver = lun_driver_null;
    state->driver.name = original->driver->name;
    state->driver.list = NULL;
    state->driver.open = NULL;
    state->driver.close = shadow_close;
    dev->driver = &state->driver;
    dev->info = original->info;
    dev->caps = original->caps;
    if (unlimited)
        dev->info.max_alloc_bytes = dev->caps.max_alloc = 0;
    dev->dry = true;
    dev->state = state;
    *out = dev;
    return LUN_OK;
}
