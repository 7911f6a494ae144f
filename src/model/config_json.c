#include "config_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "build.h"

static const char *const qkv_orders[] = {[LUN_QKV_HEADS] = "heads", [LUN_QKV_SPLIT] = "split", NULL};
static const char *const starts[] = {
    [LUN_START_ZERO_LAST] = "zero-last", [LUN_START_FAN_AVG] = "fan-avg", [LUN_START_TORCH] = "torch", NULL};

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

json_t *lun_json_float(float value)
{
    char text[32];
    double read = (double)value;
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        read = strtod(text, NULL);
        if ((float)read == value)
            break;
    }
    return json_real(read);
}

/* Both NULL when memory is out, which json_pack() then passes on. */
static json_t *channels_json(const lun_model_config *c)
{
    json_t *array = json_array();
    bool whole = array != NULL;
    for (int i = 0; i < c->levels && whole; i++)
        whole = json_array_append_new(array, json_integer(c->channels[i])) == 0;
    if (whole)
        return array;
    json_decref(array);
    return NULL;
}

static json_t *attention_json(const lun_model_config *c)
{
    json_t *array = json_array();
    bool whole = array != NULL;
    for (int i = 0; i < c->levels && whole; i++)
        if (c->attention[i])
            whole = json_array_append_new(array, json_integer(i)) == 0;
    if (whole)
        return array;
    json_decref(array);
    return NULL;
}

json_t *lun_model_config_to_json(const lun_model_config *c)
{
    json_t *object =
        json_pack("{s:s, s:i, s:o, s:i, s:i}", "kind", lun_network_name(c->network), "image_channels",
                  c->image_channels, "channels", channels_json(c), "time_dim", c->time_dim, "steps", c->steps);
    if (!object || c->network == LUN_NOTEBOOK)
        return object;
    json_t *rest =
        json_pack("{s:i, s:o, s:i, s:i, s:s, s:i, s:o, s:b, s:b, s:b, s:b, s:i, s:b, s:o, s:b, s:i, s:b, s:s}",
                  "blocks", c->blocks, "attention", attention_json(c), "heads", c->heads, "head_width", c->head_width,
                  "qkv_order", qkv_orders[c->qkv_order], "groups", c->groups, "norm_eps", lun_json_float(c->norm_eps),
                  "scale_shift", c->scale_shift, "resample_blocks", c->resample_blocks, "asymmetric_pad",
                  c->asymmetric_pad, "learned_sigma", c->learned_sigma, "classes", c->classes, "null_class",
                  c->null_class, "dropout", lun_json_float(c->dropout), "time_cos_first", c->time_cos_first,
                  "time_shift", c->time_shift, "time_rescale", c->time_rescale, "start", starts[c->start]);
    const bool whole = rest && json_object_update(object, rest) == 0;
    json_decref(rest);
    if (whole)
        return object;
    json_decref(object);
    return NULL;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static lun_status get_int(lun_json_from from, const json_t *object, const char *key, int64_t min, int64_t max, int *out)
{
    int64_t value = 0;
    LUN_TRY(lun_json_get_int(from, object, key, min, max, &value));
    *out = (int)value;
    return LUN_OK;
}

static lun_status get_flag(lun_json_from from, const json_t *object, const char *key, int *out)
{
    bool value = false;
    LUN_TRY(lun_json_get_bool(from, object, key, &value));
    *out = value;
    return LUN_OK;
}

static lun_status get_float(lun_json_from from, const json_t *object, const char *key, float *out)
{
    double value = 0;
    LUN_TRY(lun_json_get_real(from, object, key, 0, 1, &value));
    *out = (float)value;
    return LUN_OK;
}

static lun_status get_choice(lun_json_from from, const json_t *object, const char *key, const char *const *names,
                             int *out)
{
    const char *text = NULL;
    LUN_TRY(lun_json_get_string(from, object, key, &text));
    for (int i = 0; names[i]; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return LUN_OK;
        }
    return lun_fail(from.kind, "%s: %s '%.60s' is not known to this version", from.what, key, text);
}

static lun_status read_channels(lun_json_from from, const json_t *object, lun_model_config *c)
{
    json_t *array = NULL;
    LUN_TRY(lun_json_get_array(from, object, "channels", &array));
    const size_t levels = json_array_size(array);
    if (levels < 1 || levels > LUN_MODEL_MAX_LEVELS)
        return lun_fail(from.kind, "%s: channels: 1 to %d entries", from.what, LUN_MODEL_MAX_LEVELS);
    for (size_t i = 0; i < levels; i++) {
        const json_t *entry = json_array_get(array, i);
        if (!json_is_integer(entry) || json_integer_value(entry) < 1 || json_integer_value(entry) > 65536)
            return lun_fail(from.kind, "%s: channels: every entry is a whole number from 1 to 65536", from.what);
        c->channels[i] = (int)json_integer_value(entry);
    }
    c->levels = (int)levels;
    return LUN_OK;
}

static lun_status read_attention(lun_json_from from, const json_t *object, lun_model_config *c)
{
    json_t *array = NULL;
    LUN_TRY(lun_json_get_array(from, object, "attention", &array));
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *entry = json_array_get(array, i);
        if (!json_is_integer(entry) || json_integer_value(entry) < 0 || json_integer_value(entry) >= c->levels)
            return lun_fail(from.kind, "%s: attention: every entry is the number of a level", from.what);
        c->attention[json_integer_value(entry)] = 1;
    }
    return LUN_OK;
}

static lun_status read_unet(lun_json_from from, const json_t *object, lun_model_config *c)
{
    int order = 0, start = 0;
    LUN_TRY(get_int(from, object, "blocks", 1, INT32_MAX, &c->blocks));
    LUN_TRY(read_attention(from, object, c));
    LUN_TRY(get_int(from, object, "heads", 0, INT32_MAX, &c->heads));
    LUN_TRY(get_int(from, object, "head_width", 0, INT32_MAX, &c->head_width));
    LUN_TRY(get_choice(from, object, "qkv_order", qkv_orders, &order));
    LUN_TRY(get_int(from, object, "groups", 1, INT32_MAX, &c->groups));
    LUN_TRY(get_float(from, object, "norm_eps", &c->norm_eps));
    LUN_TRY(get_flag(from, object, "scale_shift", &c->scale_shift));
    LUN_TRY(get_flag(from, object, "resample_blocks", &c->resample_blocks));
    LUN_TRY(get_flag(from, object, "asymmetric_pad", &c->asymmetric_pad));
    LUN_TRY(get_flag(from, object, "learned_sigma", &c->learned_sigma));
    LUN_TRY(get_int(from, object, "classes", 0, INT32_MAX, &c->classes));
    LUN_TRY(get_flag(from, object, "null_class", &c->null_class));
    LUN_TRY(get_float(from, object, "dropout", &c->dropout));
    LUN_TRY(get_flag(from, object, "time_cos_first", &c->time_cos_first));
    LUN_TRY(get_int(from, object, "time_shift", 0, 1, &c->time_shift));
    LUN_TRY(get_flag(from, object, "time_rescale", &c->time_rescale));
    LUN_TRY(get_choice(from, object, "start", starts, &start));
    c->qkv_order = (lun_qkv_order)order;
    c->start = (lun_start)start;
    return LUN_OK;
}

lun_status lun_model_config_from_json(lun_json_from from, const json_t *object, lun_model_config *out)
{
    static const char *const keys[] = {"kind", "image_channels", "channels", "time_dim", "steps", NULL};
    static const char *const unet_keys[] = {
        "kind",        "image_channels",  "channels",       "time_dim",      "steps",   "blocks",
        "attention",   "heads",           "head_width",     "qkv_order",     "groups",  "norm_eps",
        "scale_shift", "resample_blocks", "asymmetric_pad", "learned_sigma", "classes", "null_class",
        "dropout",     "time_cos_first",  "time_shift",     "time_rescale",  "start",   NULL};
    static const char *const networks[] = {[LUN_NOTEBOOK] = "notebook", [LUN_DDPM] = "ddpm", [LUN_ADM] = "adm", NULL};
    lun_model_config c;
    int network = 0;
    memset(&c, 0, sizeof c);
    LUN_TRY(get_choice(from, object, "kind", networks, &network));
    c.network = (lun_network)network;
    LUN_TRY(lun_json_check_keys(from, object, c.network == LUN_NOTEBOOK ? keys : unet_keys));
    LUN_TRY(get_int(from, object, "image_channels", 1, 65536, &c.image_channels));
    LUN_TRY(get_int(from, object, "time_dim", 1, 65536, &c.time_dim));
    LUN_TRY(get_int(from, object, "steps", 1, 1000000, &c.steps));
    LUN_TRY(read_channels(from, object, &c));
    if (c.network != LUN_NOTEBOOK)
        LUN_TRY(read_unet(from, object, &c));
    if (lun_model_check(&c) != LUN_OK)
        return lun_fail(from.kind, "%s: %s", from.what, lun_error_detail());
    *out = c;
    return LUN_OK;
}
