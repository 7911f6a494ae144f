/* What a model file says of itself.
 *
 * "lunette.model", one JSON object
 *     {"network": "notebook", "image_channels": 3, "channels": [64, ...], "time_dim": 32, "steps": 300,
 *      "height": 64, "width": 64, "preset": "notebook", "beta_first": 1e-4, "beta_last": 0.02}
 * where the network is a UNet "model" (config_json.h) in place of the four after "network"; with "schedule": "cosine"
 * and so on where it is not linear, "prediction": "v" and so on where it is not eps, so that files of the first version
 * are files of this one; "lunette.step", decimal; and where the weights are a moving average "lunette.ema", its rate.
 */
#include "metadata.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "build.h"
#include "checkpoint/json.h"
#include "config_json.h"
#include "interop.h"

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static const char *schedule_name(int number)
{
    return lun_schedule_kind_name((lun_schedule_kind)number);
}

static const char *prediction_name(int number)
{
    return lun_prediction_name((lun_prediction)number);
}

/* The number of the name at `key`; 0 where there is none. */
static lun_status read_kind(lun_json_from from, const json_t *root, const char *key, const char *(*name_of)(int),
                            int *out)
{
    const char *text = NULL;
    *out = 0;
    if (!lun_json_has(root, key))
        return LUN_OK;
    LUN_TRY(lun_json_get_string(from, root, key, &text));
    for (int k = 0; name_of(k); k++)
        if (strcmp(text, name_of(k)) == 0) {
            *out = k;
            return LUN_OK;
        }
    return lun_fail(from.kind, "%s: %s '%.60s' is not known to this version", from.what, key, text);
}

/* What the metadata of every network ends with. */
static lun_status read_rest(lun_json_from from, const json_t *root, lun_model_file_info *info)
{
    const char *text = NULL;
    int64_t number = 0;
    LUN_TRY(lun_json_get_int(from, root, "height", 0, INT32_MAX, &number));
    info->height = (int)number;
    LUN_TRY(lun_json_get_int(from, root, "width", 0, INT32_MAX, &number));
    info->width = (int)number;
    LUN_TRY(lun_json_get_string(from, root, "preset", &text));
    if (strlen(text) >= sizeof info->preset)
        return lun_fail(from.kind, "%s: the preset's name is too long", from.what);
    snprintf(info->preset, sizeof info->preset, "%s", text);
    LUN_TRY(lun_json_get_real(from, root, "beta_first", 0, 1, &info->beta_first));
    LUN_TRY(lun_json_get_real(from, root, "beta_last", 0, 1, &info->beta_last));
    /* Written so that NaN and 0 fail too. */
    if (!(info->beta_first > 0 && info->beta_first <= info->beta_last && info->beta_last < 1))
        return lun_fail(from.kind, "%s: betas from %g to %g", from.what, info->beta_first, info->beta_last);
    int schedule = 0, prediction = 0;
    LUN_TRY(read_kind(from, root, "schedule", schedule_name, &schedule));
    LUN_TRY(read_kind(from, root, "prediction", prediction_name, &prediction));
    info->schedule = (lun_schedule_kind)schedule;
    info->prediction = (lun_prediction)prediction;
    return LUN_OK;
}

/* The notebook network was told from its tensors. */
static lun_status read_notebook(lun_json_from from, const json_t *root, lun_model_file_info *info)
{
    static const char *const keys[] = {"network",  "image_channels", "channels", "time_dim",   "steps",
                                       "height",   "width",          "preset",   "beta_first", "beta_last",
                                       "schedule", "prediction",     NULL};
    const lun_model_config *config = &info->config;
    json_t *channels = NULL;
    int64_t number = 0;
    LUN_TRY(lun_json_check_keys(from, root, keys));
    bool same = true;
    LUN_TRY(lun_json_get_int(from, root, "image_channels", 1, INT32_MAX, &number));
    same = same && number == config->image_channels;
    LUN_TRY(lun_json_get_int(from, root, "time_dim", 1, INT32_MAX, &number));
    same = same && number == config->time_dim;
    LUN_TRY(lun_json_get_array(from, root, "channels", &channels));
    same = same && json_array_size(channels) == (size_t)config->levels;
    for (int i = 0; same && i < config->levels; i++) {
        const json_t *item = json_array_get(channels, (size_t)i);
        same = json_is_integer(item) && json_integer_value(item) == config->channels[i];
    }
    if (!same)
        return lun_fail(from.kind, "%s: the configuration is not that of the tensors", from.what);
    LUN_TRY(lun_json_get_int(from, root, "steps", 1, INT32_MAX, &number));
    info->config.steps = (int)number;
    if (lun_model_check(config) != LUN_OK)
        return lun_fail(from.kind, "%s: %s", from.what, lun_error_detail());
    return read_rest(from, root, info);
}

/* Most of a UNet's configuration no tensor shows. What one does, the comparison with all tensors will hold it to. */
static lun_status read_unet(lun_json_from from, const json_t *root, lun_model_file_info *info)
{
    static const char *const keys[] = {"network",    "model",     "height",   "width",      "preset",
                                       "beta_first", "beta_last", "schedule", "prediction", NULL};
    json_t *model = NULL;
    LUN_TRY(lun_json_check_keys(from, root, keys));
    LUN_TRY(lun_json_get_object(from, root, "model", &model));
    LUN_TRY(lun_model_config_from_json(from, model, &info->config));
    return read_rest(from, root, info);
}

static lun_status read_metadata(lun_json_from from, const json_t *root, lun_model_file_info *info)
{
    const char *network = NULL;
    LUN_TRY(lun_json_get_string(from, root, "network", &network));
    const bool notebook = strcmp(network, "notebook") == 0;
    if (!notebook && strcmp(network, "ddpm") != 0 && strcmp(network, "adm") != 0)
        return lun_fail(from.kind, "%s: lunette knows no network '%.60s'", from.what, network);
    if (notebook != (info->naming == LUN_NAMING_OWN))
        return lun_fail(from.kind, "%s: the tensors are not those of network '%s'", from.what, network);
    if (notebook)
        return read_notebook(from, root, info);
    LUN_TRY(read_unet(from, root, info));
    if (strcmp(network, lun_network_name(info->config.network)) != 0)
        return lun_fail(from.kind, "%s: two networks, '%s' and '%s'", from.what, network,
                        lun_network_name(info->config.network));
    return LUN_OK;
}

lun_status lun_model_metadata_read(const lun_safetensors *file, lun_model_file_info *info)
{
    const char *path = lun_safetensors_path(file), *text = lun_safetensors_metadata(file, "lunette.model");
    const char *step = lun_safetensors_metadata(file, "lunette.step");
    if (step) {
        const size_t digits = strspn(step, "0123456789");
        if (!digits || digits > 19 || step[digits])
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: metadata lunette.step is no number", path);
        info->step = strtoull(step, NULL, 10);
    }
    const char *ema = lun_safetensors_metadata(file, "lunette.ema");
    if (ema) {
        if (!lun_rate_parse(ema, &info->ema))
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: metadata lunette.ema is no rate of a moving average", path);
    }
    if (!text)
        return LUN_OK;
    char *what = lun_format("%s: metadata lunette.model", path);
    if (!what)
        return LUN_ERR_MEMORY;
    const lun_json_from from = {what, LUN_ERR_CHECKPOINT};
    json_t *root = NULL;
    lun_status status = lun_json_parse(from, text, strlen(text), &lun_json_usual, &root);
    if (status == LUN_OK)
        status = read_metadata(from, root, info);
    json_decref(root);
    free(what);
    return status;
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

static json_t *metadata_json(const lun_model_file_info *info)
{
    json_t *model = lun_model_config_to_json(&info->config), *root = json_object();
    const bool has_model = model != NULL;
    json_object_set_new(root, "network", json_string(lun_network_name(info->config.network)));
    if (info->config.network != LUN_NOTEBOOK) {
        json_object_set_new(root, "model", model);
    } else {
        /* Its members lie in the object itself, as the first version had them. */
        json_object_del(model, "kind");
        json_object_update(root, model);
        json_decref(model);
    }
    json_t *rest = json_pack("{s:i, s:i, s:s, s:f, s:f}", "height", info->height, "width", info->width, "preset",
                             info->preset, "beta_first", info->beta_first, "beta_last", info->beta_last);
    if (rest && info->schedule != LUN_SCHEDULE_LINEAR)
        json_object_set_new(rest, "schedule", json_string(lun_schedule_kind_name(info->schedule)));
    if (rest && info->prediction != LUN_PREDICTION_EPS)
        json_object_set_new(rest, "prediction", json_string(lun_prediction_name(info->prediction)));
    const bool whole = has_model && rest && json_object_update(root, rest) == 0;
    json_decref(rest);
    if (whole)
        return root;
    json_decref(root);
    return NULL;
}

char *lun_model_metadata_text(const lun_model_file_info *info)
{
    json_t *root = metadata_json(info);
    char *text = lun_json_text(root, 0);
    json_decref(root);
    if (!text)
        lun_fail(LUN_ERR_MEMORY, "out of memory for a model's metadata");
    return text;
}

lun_status lun_model_metadata_write(const lun_model_file_info *info, lun_safetensors_writer *writer)
{
    char *text = lun_model_metadata_text(info), step[24], ema[LUN_RATE_TEXT];
    snprintf(step, sizeof step, "%" PRIu64, info->step);
    lun_status status = text ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK)
        status = lun_safetensors_writer_metadata(writer, "lunette.model", text);
    if (status == LUN_OK)
        status = lun_safetensors_writer_metadata(writer, "lunette.step", step);
    if (status == LUN_OK && info->ema > 0)
        status = lun_rate_text(info->ema, ema)
                     ? lun_safetensors_writer_metadata(writer, "lunette.ema", ema)
                     : lun_fail(LUN_ERR_USAGE, "%.17g is no rate of a moving average", info->ema);
    /* Some loaders want to be told whose shapes these are. */
    if (status == LUN_OK)
        status = lun_safetensors_writer_metadata(writer, "format", "pt");
    free(text);
    return status;
}
