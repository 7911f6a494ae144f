/* Any bytes after the head of a tuning file. The choices that are taken from it must be candidates that exist, and the
 * table that is written back must read the same. */
#include <lunette/tune.h>

#include "device/cache.h"
#include "device/tune.h"
#include "fuzz.h"

#define MAGIC "lunette tuning 1\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lun_device *dev;
    static char head[1200], *path;
    lun_tuning *tuning = NULL;
    if (!dev) {
        setenv("LUNETTE_CACHE", fuzz_folder(), 1);
        unsetenv("LUNETTE_KERNELS");
        FUZZ_CHECK(lun_device_open("cpu", NULL, &dev) == LUN_OK);
        char *key = lun_device_key(dev);
        FUZZ_CHECK(key && (path = lun_cache_text_path("tuning", key)));
        snprintf(head, sizeof head, MAGIC "%s\n", key);
        free(key);
    }
    fuzz_file(strrchr(path, '/') + 1, size % 8 ? head : NULL, data, size);
    FUZZ_CHECK(lun_tuning_open(dev, &tuning) == LUN_OK);
    const size_t count = lun_tuning_count(tuning);
    FUZZ_CHECK(lun_tuning_set(tuning, "conv2d fuzz", "panel", 0.5) == LUN_OK);
    lun_tuning_keep(tuning);
    const size_t with = lun_tuning_count(tuning);
    FUZZ_CHECK(with == count || with == count + 1);
    lun_tuning_close(&tuning);
    FUZZ_CHECK(lun_tuning_open(dev, &tuning) == LUN_OK);
    FUZZ_CHECK(lun_tuning_count(tuning) == with);
    FUZZ_CHECK(strcmp(lun_tuning_candidate(tuning, "conv2d fuzz"), "panel") == 0);
    lun_tuning_close(&tuning);
    return 0;
}
