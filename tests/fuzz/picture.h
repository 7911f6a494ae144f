/* The body of the picture targets, which differ in their corpus. */
#include <lunette/data.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file("input", NULL, data, size);
    lun_picture picture = {0}, small = {0};
    const lun_status status = lun_picture_load(path, size & 1, &picture);
    FUZZ_CHECK(status == LUN_OK || status == LUN_ERR_DATA || status == LUN_ERR_MEMORY);
    if (status != LUN_OK)
        return 0;
    FUZZ_CHECK(picture.width > 0 && picture.height > 0 && picture.pixels);
    FUZZ_CHECK(lun_picture_fit(&picture, size & 2 ? LUN_FIT_CROP : LUN_FIT_STRETCH, 16, 16, &small) == LUN_OK);
    lun_picture_free(&small);
    lun_picture_free(&picture);
    return 0;
}
