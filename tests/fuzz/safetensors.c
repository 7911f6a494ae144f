/* Any bytes as a safetensors file: opened, described, read whole as every type, verified, taken for a model. */
#include <lunette/checkpoint.h>
#include <lunette/model.h>

#include "fuzz.h"

static void read_all(const lun_safetensors *file, size_t limit)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < lun_safetensors_count(file); i++) {
        const lun_safetensors_entry *e = lun_safetensors_info(file, i);
        FUZZ_CHECK(lun_safetensors_find(file, e->name) == (int64_t)i);
        FUZZ_CHECK(e->offset + e->bytes <= limit && e->count >= 0);
        FUZZ_CHECK((uint64_t)e->count * lun_safetensors_dtype_size(e->dtype) == e->bytes);
        bytes += e->bytes;
        void *data = malloc(8 * (size_t)e->count + 8);
        FUZZ_CHECK(data);
        FUZZ_CHECK(lun_safetensors_read(file, i, data, (size_t)e->bytes) == LUN_OK);
        lun_safetensors_read_f32(file, i, data, (size_t)e->count);
        lun_safetensors_read_i64(file, i, data, (size_t)e->count);
        free(data);
    }
    FUZZ_CHECK(bytes <= limit);
    for (size_t i = 0; i < lun_safetensors_metadata_count(file); i++) {
        const char *value = NULL, *key = lun_safetensors_metadata_at(file, i, &value);
        FUZZ_CHECK(key && value && strcmp(lun_safetensors_metadata(file, key), value) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file("input.safetensors", NULL, data, size);
    lun_safetensors *file = NULL;
    const lun_status status = lun_safetensors_open(path, &file);
    FUZZ_CHECK(status == LUN_OK || status == LUN_ERR_CHECKPOINT);
    if (status == LUN_OK) {
        read_all(file, size);
        lun_safetensors_verify(file, 0);
        lun_safetensors_verify(file, 1);
        lun_safetensors_close(file);
    }
    lun_model_file_info info;
    lun_model_inspect(path, &info);
    return 0;
}
