/* Where the parts of a diffusers' folder lie. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"
#include "checkpoint/json.h"
#include "interop.h"

/* What takes the place of the weights, the best first. */
static const char *const weights[] = {LUN_DIFFUSERS_WEIGHTS, "diffusion_pytorch_model.fp16.safetensors",
                                      LUN_DIFFUSERS_WEIGHTS ".index.json", "diffusion_pytorch_model.bin"};

lun_status lun_diffusers_look(const char *path, bool *is_one)
{
    lun_path_kind kind;
    bool model = false, run = false;
    *is_one = false;
    LUN_TRY(lun_path_look(path, LUN_ERR_STORAGE, &kind));
    if (kind != LUN_PATH_FOLDER)
        return LUN_OK;
    LUN_TRY(lun_file_look_in(path, "model_index.json", is_one));
    for (size_t i = 0; i < LUN_COUNT(weights) && !*is_one && !model; i++)
        LUN_TRY(lun_file_look_in(path, weights[i], &model));
    if (model)
        LUN_TRY(lun_file_look_in(path, "checkpoints", &run)); /* a run has a config.json too */
    *is_one = *is_one || (model && !run);
    return LUN_OK;
}

/* Has the pipeline a UNet2DModel under "unet"? */
static lun_status check_index(lun_json_from from, const json_t *root)
{
    const json_t *unet = json_object_get(root, "unet");
    const char *kind = json_string_value(json_array_get(unet, 1)); /* NULL throughout for what is no such array */
    if (!kind)
        return lun_fail(from.kind, "%s: a pipeline without a 'unet'; lunette takes those of a UNet2DModel", from.what);
    if (strcmp(kind, "UNet2DModel") != 0)
        return lun_fail(from.kind, "%s: its 'unet' is a %.60s; lunette takes a UNet2DModel", from.what, kind);
    return LUN_OK;
}

static lun_status read_index(const char *path)
{
    char *index = lun_format("%s/model_index.json", path);
    json_t *root = NULL;
    if (!index)
        return LUN_ERR_MEMORY;
    lun_status status = lun_json_read(index, LUN_ERR_CHECKPOINT, &root);
    if (status == LUN_OK)
        status = check_index((lun_json_from){index, LUN_ERR_CHECKPOINT}, root);
    json_decref(root);
    free(index);
    return status;
}

static lun_status find_parts(const char *path, bool pipeline, lun_diffusers_parts *parts)
{
    char *model = pipeline ? lun_format("%s/unet", path) : lun_strdup(path);
    size_t i = 0;
    if (!model)
        return LUN_ERR_MEMORY;
    while (i < LUN_COUNT(weights) && !lun_file_exists_in(model, weights[i]))
        i++;
    lun_status status = LUN_OK;
    if (i == LUN_COUNT(weights))
        status = lun_fail(LUN_ERR_CHECKPOINT, "%s: holds no " LUN_DIFFUSERS_WEIGHTS, model);
    else if (!lun_file_exists_in(model, "config.json"))
        status = lun_fail(LUN_ERR_CHECKPOINT, "%s: holds no config.json", model);
    else if (strstr(weights[i], ".index.json"))
        status = lun_fail(
            LUN_ERR_CHECKPOINT,
            "%s: its tensors are spread over several files; save them with a max_shard_size above them all", model);
    if (status == LUN_OK) {
        parts->weights = lun_format("%s/%s", model, weights[i]);
        parts->config = lun_format("%s/config.json", model);
        if (pipeline && lun_file_exists_in(path, "scheduler/scheduler_config.json"))
            parts->scheduler = lun_format("%s/scheduler/scheduler_config.json", path);
        if (!parts->weights || !parts->config)
            status = LUN_ERR_MEMORY;
    }
    free(model);
    return status;
}

lun_status lun_diffusers_find(const char *path, lun_diffusers_parts *out)
{
    const bool pipeline = lun_file_exists_in(path, "model_index.json");
    lun_diffusers_parts parts = {NULL};
    if (pipeline)
        LUN_TRY(read_index(path));
    const lun_status status = find_parts(path, pipeline, &parts);
    if (status != LUN_OK) {
        lun_diffusers_parts_free(&parts);
        return status;
    }
    *out = parts;
    return LUN_OK;
}

void lun_diffusers_parts_free(lun_diffusers_parts *parts)
{
    free(parts->weights);
    free(parts->config);
    free(parts->scheduler);
    *parts = (lun_diffusers_parts){NULL};
}
