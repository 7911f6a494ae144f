/* UNet2DModel's config.json and DDPMScheduler's scheduler_config.json, read. What a file leaves out is what version
 * 0.42.1 of diffusers assumes. */
#include <string.h>

#include "base/base.h"
#include "build.h"
#include "checkpoint/json.h"
#include "config_json.h"
#include "interop.h"

/* A member that may be absent: what it is then. With `null` JSON's null is that number too. */
static lun_status get_int(lun_json_from from, const json_t *object, const char *key, int64_t min, int64_t max,
                          int absent, const int *null, int *out)
{
    int64_t value = absent;
    if (null && json_is_null(json_object_get(object, key)))
        value = *null;
    else if (lun_json_has(object, key))
        LUN_TRY(lun_json_get_int(from, object, key, min, max, &value));
    *out = (int)value;
    return LUN_OK;
}

static lun_status get_flag(lun_json_from from, const json_t *object, const char *key, bool absent, int *out)
{
    bool value = absent;
    if (lun_json_has(object, key))
        LUN_TRY(lun_json_get_bool(from, object, key, &value));
    *out = value;
    return LUN_OK;
}

static lun_status get_real(lun_json_from from, const json_t *object, const char *key, double absent, double *out)
{
    *out = absent;
    return lun_json_has(object, key) ? lun_json_get_real(from, object, key, 0, 1, out) : LUN_OK;
}

/* One of two words. */
static lun_status get_choice(lun_json_from from, const json_t *object, const char *key, const char *first,
                             const char *second, int *out)
{
    const char *text = first;
    if (lun_json_has(object, key))
        LUN_TRY(lun_json_get_string(from, object, key, &text));
    if (strcmp(text, first) != 0 && strcmp(text, second) != 0)
        return lun_fail(from.kind, "%s: '%s' is '%.60s'; lunette's networks know '%s' and '%s'", from.what, key, text,
                        first, second);
    *out = strcmp(text, second) == 0;
    return LUN_OK;
}

/* A key that lunette knows one value of. */
typedef struct fixed {
    const char *key, *text; /* text: a string; with NULL: null, false, or the number */
    int number;
} fixed;

static bool is_fixed(const fixed *f, const json_t *value)
{
    if (f->text)
        return json_is_string(value) && strcmp(json_string_value(value), f->text) == 0;
    if (json_is_number(value))
        return json_number_value(value) >= f->number && json_number_value(value) <= f->number;
    if (json_is_true(value))
        return f->number == 1;
    return (json_is_null(value) || json_is_false(value)) && f->number == 0;
}

static lun_status check_fixed(lun_json_from from, const json_t *root, const fixed *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(root, list[i].key);
        if (!value || is_fixed(&list[i], value))
            continue;
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        const lun_status status = lun_fail(from.kind, "%s: '%s' is %.60s, which lunette does not have", from.what,
                                           list[i].key, text ? text : "?");
        free(text);
        return status;
    }
    return LUN_OK;
}

static bool listed(const char *key, const char *const *keys)
{
    while (*keys && strcmp(*keys, key) != 0)
        keys++;
    return *keys != NULL;
}

/* A key that this version does not know may change the network, unless it says nothing. */
static lun_status check_keys(lun_json_from from, json_t *root, const char *const *keys, const fixed *list, size_t count)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(root, key, value)
    {
        bool known = key[0] == '_' || listed(key, keys) || json_is_null(value) || json_is_false(value);
        for (size_t i = 0; i < count && !known; i++)
            known = strcmp(list[i].key, key) == 0;
        if (!known)
            return lun_fail(from.kind, "%s: '%.60s' is not known to this version, and may change the result", from.what,
                            key);
    }
    return LUN_OK;
}

static lun_status read_channels(lun_json_from from, const json_t *root, lun_model_config *c)
{
    static const int usual[] = {224, 448, 672, 896};
    json_t *array = NULL;
    if (!lun_json_has(root, "block_out_channels")) {
        c->levels = (int)LUN_COUNT(usual);
        memcpy(c->channels, usual, sizeof usual);
        return LUN_OK;
    }
    LUN_TRY(lun_json_get_array(from, root, "block_out_channels", &array));
    const size_t levels = json_array_size(array);
    if (levels < 1 || levels > LUN_MODEL_MAX_LEVELS)
        return lun_fail(from.kind, "%s: 'block_out_channels' has %zu entries, 1 to %d are possible", from.what, levels,
                        LUN_MODEL_MAX_LEVELS);
    for (size_t i = 0; i < levels; i++) {
        const json_t *entry = json_array_get(array, i);
        if (!json_is_integer(entry) || json_integer_value(entry) < 1 || json_integer_value(entry) > 65536)
            return lun_fail(from.kind, "%s: 'block_out_channels': every entry is a whole number from 1 to 65536",
                            from.what);
        c->channels[i] = (int)json_integer_value(entry);
    }
    c->levels = (int)levels;
    return LUN_OK;
}

/* What a block's name says. `resample`: -1 where that is downsample_type's or upsample_type's to say. */
static lun_status block_of(lun_json_from from, const char *key, const json_t *entry, bool up, int *attention,
                           int *resample)
{
    static const struct {
        const char *name[2];
        int attention, resample;
    } kinds[] = {{{"DownBlock2D", "UpBlock2D"}, 0, 0},
                 {{"AttnDownBlock2D", "AttnUpBlock2D"}, 1, -1},
                 {{"ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"}, 0, 1}};
    const char *const name = json_is_string(entry) ? json_string_value(entry) : "";
    for (size_t i = 0; i < LUN_COUNT(kinds); i++)
        if (strcmp(name, kinds[i].name[up]) == 0) {
            *attention = kinds[i].attention;
            *resample = kinds[i].resample;
            return LUN_OK;
        }
    return lun_fail(from.kind, "%s: '%s' has '%.60s'; lunette knows %s, %s and %s", from.what, key, name,
                    kinds[0].name[up], kinds[1].name[up], kinds[2].name[up]);
}

/* One way, into attention[] by level and into *between, which starts as -1: how its levels are joined. */
static lun_status read_way(lun_json_from from, const json_t *root, bool up, int levels, int *attention, int *between)
{
    static const char *const usual[2][4] = {{"DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"},
                                            {"AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"}};
    const char *const key = up ? "up_block_types" : "down_block_types";
    json_t *array = NULL, *made = NULL;
    int type = 0;
    LUN_TRY(get_choice(from, root, up ? "upsample_type" : "downsample_type", "conv", "resnet", &type));
    if (lun_json_has(root, key)) {
        LUN_TRY(lun_json_get_array(from, root, key, &array));
    } else {
        array = made = json_pack("[s, s, s, s]", usual[up][0], usual[up][1], usual[up][2], usual[up][3]);
        if (!made)
            return lun_fail(LUN_ERR_MEMORY, "%s: out of memory for its JSON", from.what);
    }
    lun_status status = LUN_OK;
    if (json_array_size(array) != (size_t)levels)
        status = lun_fail(from.kind, "%s: '%s' has %zu entries and 'block_out_channels' %d", from.what, key,
                          json_array_size(array), levels);
    for (int i = 0; i < levels && status == LUN_OK; i++) {
        const int level = up ? levels - 1 - i : i;
        int resample = 0;
        status = block_of(from, key, json_array_get(array, (size_t)i), up, &attention[level], &resample);
        /* The last level has nothing below it, and the first nothing above. */
        if (status != LUN_OK || i == levels - 1)
            continue;
        resample = resample < 0 ? type : resample;
        if (*between >= 0 && *between != resample)
            status =
                lun_fail(from.kind, "%s: levels joined in two ways, by convolutions and by residual blocks", from.what);
        *between = resample;
    }
    json_decref(made);
    return status;
}

static lun_status read_blocks(lun_json_from from, const json_t *root, lun_model_config *c)
{
    int up[LUN_MODEL_MAX_LEVELS] = {0}, between = -1;
    LUN_TRY(read_way(from, root, false, c->levels, c->attention, &between));
    LUN_TRY(read_way(from, root, true, c->levels, up, &between));
    if (memcmp(up, c->attention, sizeof up) != 0)
        return lun_fail(from.kind, "%s: attention at other levels on the way up than on the way down", from.what);
    c->resample_blocks = between == 1;
    return LUN_OK;
}

static lun_status read_size(lun_json_from from, const json_t *root, lun_model_file_info *info)
{
    const json_t *size = json_object_get(root, "sample_size");
    json_int_t height = 0, width = 0;
    if (!size || json_is_null(size))
        return LUN_OK;
    if (json_is_integer(size)) {
        height = width = json_integer_value(size);
    } else if (json_is_array(size) && json_array_size(size) == 2) {
        height = json_integer_value(json_array_get(size, 0)); /* 0 for what is no integer */
        width = json_integer_value(json_array_get(size, 1));
    }
    if (height < 1 || height > 65536 || width < 1 || width > 65536)
        return lun_fail(from.kind, "%s: 'sample_size' must be null, a size or [height, width]", from.what);
    info->height = (int)height;
    info->width = (int)width;
    return LUN_OK;
}

static lun_status read_rest(lun_json_from from, const json_t *root, lun_model_config *c)
{
    static const int none = 0, one_head = 0;
    int norm = 0, out = 0, dim = 0, act = 0, pad = 0;
    double eps = 0, dropout = 0;
    LUN_TRY(get_int(from, root, "in_channels", 1, 65536, 3, NULL, &c->image_channels));
    LUN_TRY(get_int(from, root, "out_channels", 1, 131072, 3, NULL, &out));
    if (out != c->image_channels && out != 2 * c->image_channels)
        return lun_fail(from.kind, "%s: 'out_channels' is %d with 'in_channels' %d: once or twice as many are known",
                        from.what, out, c->image_channels);
    c->learned_sigma = out != c->image_channels;
    LUN_TRY(get_int(from, root, "layers_per_block", 1, 1000, 2, NULL, &c->blocks));
    LUN_TRY(get_int(from, root, "attention_head_dim", 1, 65536, 8, &one_head, &dim));
    c->heads = dim == 0;
    c->head_width = dim;
    LUN_TRY(get_int(from, root, "norm_num_groups", 1, 65536, 32, NULL, &c->groups));
    LUN_TRY(get_real(from, root, "norm_eps", 1e-5, &eps));
    c->norm_eps = (float)eps;
    LUN_TRY(get_real(from, root, "dropout", 0, &dropout));
    c->dropout = (float)dropout;
    LUN_TRY(get_choice(from, root, "act_fn", "silu", "swish", &act)); /* two names of one function */
    LUN_TRY(get_choice(from, root, "resnet_time_scale_shift", "default", "scale_shift", &c->scale_shift));
    LUN_TRY(get_int(from, root, "attn_norm_num_groups", 1, 65536, 0, &none, &norm));
    if (norm ? norm != c->groups : c->scale_shift)
        return lun_fail(from.kind, "%s: 'attn_norm_num_groups' is %d: the middle's attention would have %s", from.what,
                        norm, norm ? "other groups than the rest" : "no norm");
    LUN_TRY(get_int(from, root, "downsample_padding", 0, 1, 1, NULL, &pad));
    c->asymmetric_pad = !c->resample_blocks && pad == 0;
    LUN_TRY(get_flag(from, root, "flip_sin_to_cos", true, &c->time_cos_first));
    LUN_TRY(get_int(from, root, "freq_shift", 0, 1, 0, NULL, &c->time_shift));
    LUN_TRY(get_int(from, root, "num_class_embeds", 1, 1000000, 0, &none, &c->classes));
    LUN_TRY(get_int(from, root, "time_embedding_dim", 1, 4 * 65536, 0, &none, &dim));
    if (dim && dim != 4 * c->channels[0])
        return lun_fail(from.kind, "%s: 'time_embedding_dim' is %d; lunette's is four times %d", from.what, dim,
                        c->channels[0]);
    return LUN_OK;
}

static lun_status read_unet(lun_json_from from, json_t *root, lun_model_file_info *info)
{
    static const fixed only[] = {{"_class_name", "UNet2DModel", 0},
                                 {"center_input_sample", NULL, 0},
                                 {"time_embedding_type", "positional", 0},
                                 {"mid_block_type", "UNetMidBlock2D", 0},
                                 {"mid_block_scale_factor", NULL, 1},
                                 {"add_attention", NULL, 1},
                                 {"class_embed_type", NULL, 0}};
    /* The last seven are of the averages of training, which diffusers keeps in a model's configuration. */
    static const char *const keys[] = {"sample_size",
                                       "in_channels",
                                       "out_channels",
                                       "time_embedding_dim",
                                       "freq_shift",
                                       "flip_sin_to_cos",
                                       "down_block_types",
                                       "up_block_types",
                                       "block_out_channels",
                                       "layers_per_block",
                                       "downsample_padding",
                                       "downsample_type",
                                       "upsample_type",
                                       "dropout",
                                       "act_fn",
                                       "attention_head_dim",
                                       "norm_num_groups",
                                       "attn_norm_num_groups",
                                       "norm_eps",
                                       "resnet_time_scale_shift",
                                       "num_class_embeds",
                                       "num_train_timesteps",
                                       "decay",
                                       "inv_gamma",
                                       "min_decay",
                                       "optimization_step",
                                       "power",
                                       "update_after_step",
                                       "use_ema_warmup",
                                       NULL};
    lun_model_config c;
    memset(&c, 0, sizeof c);
    LUN_TRY(check_fixed(from, root, only, LUN_COUNT(only)));
    LUN_TRY(check_keys(from, root, keys, only, LUN_COUNT(only)));
    LUN_TRY(read_channels(from, root, &c));
    LUN_TRY(read_blocks(from, root, &c));
    LUN_TRY(read_rest(from, root, &c));
    LUN_TRY(read_size(from, root, info));
    c.time_dim = c.channels[0];
    c.steps = 1000;
    /* Whose names lunette gives it. */
    c.network = c.scale_shift || c.resample_blocks || c.time_cos_first ? LUN_ADM : LUN_DDPM;
    c.qkv_order = LUN_QKV_SPLIT; /* q, k and v are apart: the order is free */
    c.start = LUN_START_TORCH;
    if (lun_model_check(&c) != LUN_OK)
        return lun_fail(from.kind, "%s: %s", from.what, lun_error_detail());
    info->config = c;
    return LUN_OK;
}

/* Which of the words; absent: the first. */
static lun_status get_word(lun_json_from from, const json_t *object, const char *key, const char *const *words,
                           int count, int *out)
{
    const char *text = words[0];
    if (lun_json_has(object, key))
        LUN_TRY(lun_json_get_string(from, object, key, &text));
    for (int i = 0; i < count; i++)
        if (words[i] && strcmp(text, words[i]) == 0) {
            *out = i;
            return LUN_OK;
        }
    return lun_fail(from.kind, "%s: '%s' is '%.60s', which lunette does not have", from.what, key, text);
}

/* Only what training depends on; how a sampler goes about it is the caller's to say. */
lun_status lun_diffusers_read_scheduler(lun_json_from from, json_t *root, lun_model_file_info *info)
{
    static const fixed only[] = {{"trained_betas", NULL, 0}, {"rescale_betas_zero_snr", NULL, 0}};
    int schedule = 0, prediction = 0;
    LUN_TRY(check_fixed(from, root, only, LUN_COUNT(only)));
    LUN_TRY(get_word(from, root, "beta_schedule", lun_diffusers_schedules, LUN_SCHEDULE_KINDS, &schedule));
    LUN_TRY(get_word(from, root, "prediction_type", lun_diffusers_predictions, LUN_PREDICTIONS, &prediction));
    info->schedule = (lun_schedule_kind)schedule;
    info->prediction = (lun_prediction)prediction;
    LUN_TRY(get_int(from, root, "num_train_timesteps", 1, 1000000, 1000, NULL, &info->config.steps));
    LUN_TRY(get_real(from, root, "beta_start", 1e-4, &info->beta_first));
    LUN_TRY(get_real(from, root, "beta_end", 0.02, &info->beta_last));
    /* Written so that NaN and 0 fail too. */
    if (!(info->beta_first > 0 && info->beta_first <= info->beta_last && info->beta_last < 1))
        return lun_fail(from.kind, "%s: betas from %g to %g", from.what, info->beta_first, info->beta_last);
    return LUN_OK;
}

lun_status lun_diffusers_read(const lun_diffusers_parts *parts, lun_model_file_info *info)
{
    lun_model_file_info read = *info;
    json_t *root = NULL;
    LUN_TRY(lun_json_read(parts->config, LUN_ERR_CHECKPOINT, &root));
    lun_status status = read_unet((lun_json_from){parts->config, LUN_ERR_CHECKPOINT}, root, &read);
    json_decref(root);
    LUN_TRY(status);
    if (parts->scheduler) {
        LUN_TRY(lun_json_read(parts->scheduler, LUN_ERR_CHECKPOINT, &root));
        status = lun_diffusers_read_scheduler((lun_json_from){parts->scheduler, LUN_ERR_CHECKPOINT}, root, &read);
        json_decref(root);
        LUN_TRY(status);
    }
    *info = read;
    return LUN_OK;
}
