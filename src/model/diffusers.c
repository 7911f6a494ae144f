/* UNet2DModel's config.json and DDPMScheduler's scheduler_config.json as version 0.42.1 of diffusers writes them, and
 * held against what a file of tensors says. Reading them is in diffusers_read.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "build.h"
#include "checkpoint/json.h"
#include "config_json.h"
#include "interop.h"

#define VERSION "0.42.1"

/* ---- Heads ------------------------------------------------------------------------------------------------------- */

int lun_diffusers_head_dim(const lun_model_config *c)
{
    int dim = -2;
    if (c->heads == 1)
        return 0;
    for (int i = 0; i < c->levels; i++) {
        /* The middle has the last level's channels, and always attention. */
        if (!c->attention[i] && i != c->levels - 1)
            continue;
        const int here = c->heads ? c->channels[i] / c->heads : c->head_width;
        if (dim != -2 && dim != here)
            return -1;
        dim = here;
    }
    return dim;
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

static json_t *channels_json(const lun_model_config *c)
{
    json_t *array = json_array();
    for (int i = 0; array && i < c->levels; i++)
        json_array_append_new(array, json_integer(c->channels[i]));
    return array;
}

static json_t *size_json(const lun_model_file_info *info)
{
    if (info->height < 1 || info->width < 1)
        return json_null();
    return info->height == info->width ? json_integer(info->width) : json_pack("[i, i]", info->height, info->width);
}

static json_t *integer_or_null(int value)
{
    return value ? json_integer(value) : json_null();
}

/* What has no meaning in a network is told in one way, so that two of them compare. */
static bool resamples(const lun_model_config *c)
{
    return c->resample_blocks && c->levels > 1;
}

static bool pads_one_side(const lun_model_config *c)
{
    return c->asymmetric_pad && !c->resample_blocks && c->levels > 1;
}

/* diffusers counts both ways from where they begin: up_block_types from the lowest resolution. */
static json_t *blocks_json(const lun_model_config *c, bool up)
{
    json_t *array = json_array();
    for (int i = 0; array && i < c->levels; i++) {
        const int level = up ? c->levels - 1 - i : i;
        const char *name = up ? "UpBlock2D" : "DownBlock2D";
        if (c->attention[level])
            name = up ? "AttnUpBlock2D" : "AttnDownBlock2D";
        else if (resamples(c))
            name = up ? "ResnetUpsampleBlock2D" : "ResnetDownsampleBlock2D";
        json_array_append_new(array, json_string(name));
    }
    return array;
}

/* Keys in alphabetical order, as diffusers writes them. */
json_t *lun_diffusers_unet_json(const lun_model_file_info *info)
{
    const lun_model_config *c = &info->config;
    const char *const between = resamples(c) ? "resnet" : "conv";
    return json_pack(
        "{s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:b, s:n, s:o, s:i, s:s, s:o, s:b, s:i, s:i, s:i, s:i, s:s, s:o, s:i, s:o,"
        " s:n, s:i, s:s, s:o, s:n, s:s, s:o, s:s}",
        "_class_name", "UNet2DModel", "_diffusers_version", VERSION, "act_fn", "silu", "add_attention", 1,
        "attention_head_dim", integer_or_null(lun_diffusers_head_dim(c)), "attn_norm_num_groups",
        integer_or_null(c->scale_shift ? c->groups : 0), "block_out_channels", channels_json(c), "center_input_sample",
        0, "class_embed_type", "down_block_types", blocks_json(c, false), "downsample_padding",
        pads_one_side(c) ? 0 : 1, "downsample_type", between, "dropout", lun_json_float(c->dropout), "flip_sin_to_cos",
        c->time_cos_first != 0, "freq_shift", c->time_shift, "in_channels", c->image_channels, "layers_per_block",
        c->blocks, "mid_block_scale_factor", 1, "mid_block_type", "UNetMidBlock2D", "norm_eps",
        lun_json_float(c->norm_eps), "norm_num_groups", c->groups, "num_class_embeds",
        integer_or_null(c->classes ? c->classes + (c->null_class != 0) : 0), "num_train_timesteps", "out_channels",
        lun_model_output_channels(c), "resnet_time_scale_shift", c->scale_shift ? "scale_shift" : "default",
        "sample_size", size_json(info), "time_embedding_dim", "time_embedding_type", "positional", "up_block_types",
        blocks_json(c, true), "upsample_type", between);
}

const char *const lun_diffusers_schedules[LUN_SCHEDULE_KINDS] = {"linear", "linear", "squaredcos_cap_v2", NULL};
const char *const lun_diffusers_predictions[LUN_PREDICTIONS] = {"epsilon", "sample", "v_prediction"};

lun_status lun_diffusers_check(const lun_model_file_info *info)
{
    if (lun_diffusers_schedules[info->schedule])
        return LUN_OK;
    return lun_fail(LUN_ERR_USAGE,
                    "this network was trained with the schedule '%s', which no scheduler of diffusers has",
                    lun_schedule_kind_name(info->schedule));
}

/* The ancestral sampler that lunette's --clip x0 is. */
json_t *lun_diffusers_scheduler_json(const lun_model_file_info *info)
{
    const double factor = info->schedule == LUN_SCHEDULE_SCALED ? 1000.0 / info->config.steps : 1;
    return json_pack("{s:s, s:s, s:f, s:s, s:f, s:b, s:f, s:f, s:i, s:s, s:b, s:f, s:i, s:b, s:s, s:n, s:s}",
                     "_class_name", "DDPMScheduler", "_diffusers_version", VERSION, "beta_end",
                     factor * info->beta_last, "beta_schedule", lun_diffusers_schedules[info->schedule], "beta_start",
                     factor * info->beta_first, "clip_sample", 1, "clip_sample_range", 1.0,
                     "dynamic_thresholding_ratio", 0.995, "num_train_timesteps", info->config.steps, "prediction_type",
                     lun_diffusers_predictions[info->prediction], "rescale_betas_zero_snr", 0, "sample_max_value", 1.0,
                     "steps_offset", 0, "thresholding", 0, "timestep_spacing", "leading", "trained_betas",
                     "variance_type", info->config.learned_sigma ? "learned_range" : "fixed_small");
}

json_t *lun_diffusers_index_json(const json_t *scheduler)
{
    return json_pack("{s:s, s:s, s:[s, s], s:[s, s]}", "_class_name", "DDPMPipeline", "_diffusers_version", VERSION,
                     "scheduler", "diffusers", json_string_value(json_object_get(scheduler, "_class_name")), "unet",
                     "diffusers", "UNet2DModel");
}

/* ---- Metadata and JSON beside each other --------------------------------------------------------------------------
 */

/* Both objects are lunette's own rendering, so they have the same keys. */
static lun_status agree(const char *path, json_t *said, json_t *read)
{
    const char *key = NULL;
    json_t *value = NULL;
    lun_status status = said && read ? LUN_OK : lun_fail(LUN_ERR_MEMORY, "out of memory (JSON)");
    if (status == LUN_OK)
        json_object_foreach(said, key, value) if (strcmp(key, "sample_size") != 0 &&
                                                  !json_equal(value, json_object_get(read, key)))
        {
            status = lun_fail(LUN_ERR_CHECKPOINT,
                              "%s and the metadata of its tensors disagree on '%s'; drop one of the two", path, key);
            break;
        }
    json_decref(said);
    json_decref(read);
    return status;
}

lun_status lun_diffusers_agree(const lun_diffusers_parts *parts, const lun_model_file_info *said,
                               const lun_model_file_info *read)
{
    LUN_TRY(agree(parts->config, lun_diffusers_unet_json(said), lun_diffusers_unet_json(read)));
    if (!parts->scheduler)
        return LUN_OK;
    if (lun_diffusers_check(said) != LUN_OK)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s and the metadata of its tensors disagree: %s", parts->scheduler,
                        lun_error_detail());
    return agree(parts->scheduler, lun_diffusers_scheduler_json(said), lun_diffusers_scheduler_json(read));
}

/* ---- A scheduler on its way through lunette -----------------------------------------------------------------------
 */

/* Numbers are compared as such: 1 is 1.0. */
static bool same_value(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return !(json_number_value(a) < json_number_value(b)) && !(json_number_value(a) > json_number_value(b));
    return json_equal(a, b);
}

/* Does it say more than ours? What it leaves out it does not say. */
static bool says_more(json_t *theirs, const json_t *ours)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(theirs, key, value)
    {
        const json_t *known = json_object_get(ours, key);
        if (key[0] == '_' && strcmp(key, "_class_name") != 0)
            continue;
        if (known ? !same_value(value, known) : !json_is_null(value) && !json_is_false(value))
            return true;
    }
    return false;
}

lun_status lun_diffusers_keep(const lun_diffusers_parts *parts, const lun_model_file_info *info, char **text)
{
    json_t *theirs = NULL, *ours = NULL;
    *text = NULL;
    if (!parts->scheduler || lun_diffusers_check(info) != LUN_OK)
        return LUN_OK;
    LUN_TRY(lun_json_read(parts->scheduler, LUN_ERR_CHECKPOINT, &theirs));
    lun_status status = LUN_OK;
    ours = lun_diffusers_scheduler_json(info);
    if (!ours)
        status = lun_fail(LUN_ERR_MEMORY, "out of memory (JSON)");
    else if (says_more(theirs, ours) && !(*text = lun_json_text(theirs, 0)))
        status = LUN_ERR_MEMORY;
    json_decref(theirs);
    json_decref(ours);
    return status;
}

/* The class's name goes into model_index.json, where diffusers looks it up among its own. */
static bool is_class(const json_t *name)
{
    const char *text = json_string_value(name);
    return text && strlen(text) < 64 &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == strlen(text);
}

json_t *lun_diffusers_kept(const char *text, const lun_model_file_info *info)
{
    static const char *const trained[] = {"num_train_timesteps", "beta_start", "beta_end", "beta_schedule",
                                          "prediction_type"};
    const lun_json_from from = {LUN_DIFFUSERS_KEPT, LUN_ERR_CHECKPOINT};
    json_t *theirs = NULL, *ours = lun_diffusers_scheduler_json(info);
    lun_model_file_info read = *info;
    if (!ours || !text)
        return ours;
    const lun_status parsed = lun_json_parse(from, text, strlen(text), &lun_json_usual, &theirs);
    if (parsed == LUN_ERR_MEMORY) {
        json_decref(ours);
        return NULL;
    }
    if (parsed != LUN_OK)
        return ours;
    bool fits =
        is_class(json_object_get(theirs, "_class_name")) && lun_diffusers_read_scheduler(from, theirs, &read) == LUN_OK;
    json_t *as_read = fits ? lun_diffusers_scheduler_json(&read) : NULL;
    for (size_t i = 0; i < LUN_COUNT(trained) && fits; i++)
        fits = same_value(json_object_get(as_read, trained[i]), json_object_get(ours, trained[i]));
    json_decref(as_read);
    json_decref(fits ? ours : theirs);
    return fits ? theirs : ours;
}
