/* Telling a network from the names and shapes of a file's tensors. */
#include "tell.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "build.h"

/* Of a file that does not say: the published experiments'. */
#define NOTEBOOK_STEPS 300
#define UNET_STEPS     1000
#define IMPROVED_STEPS 4000

int64_t lun_model_find(const lun_safetensors *file, const char *name)
{
    static const char *const families[][2] = {{"downs.", "downstream."}, {"ups.", "upstream."}};
    int64_t index = lun_safetensors_find(file, name);
    for (size_t i = 0; i < LUN_COUNT(families) && index < 0; i++) {
        const size_t length = strlen(families[i][0]);
        char other[160];
        if (strncmp(name, families[i][0], length) != 0)
            continue;
        const int wrote = snprintf(other, sizeof other, "%s%s", families[i][1], name + length);
        if (wrote > 0 && (size_t)wrote < sizeof other)
            index = lun_safetensors_find(file, other);
    }
    /* diffusers renames these itself when it loads them. */
    static const char *const former[][2] = {
        {".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}};
    for (size_t i = 0; i < LUN_COUNT(former) && index < 0; i++) {
        const char *at = strstr(name, former[i][0]);
        char other[160];
        if (!at)
            continue;
        const int wrote =
            snprintf(other, sizeof other, "%.*s%s%s", (int)(at - name), name, former[i][1], at + strlen(former[i][0]));
        if (wrote > 0 && (size_t)wrote < sizeof other)
            index = lun_safetensors_find(file, other);
    }
    return index;
}

/* The tensor of that name, or NULL. */
static const lun_safetensors_entry *find(const lun_safetensors *file, const char *format, ...) LUN_PRINTF(2, 3);
static const lun_safetensors_entry *find(const lun_safetensors *file, const char *format, ...)
{
    char name[LUN_NAME_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const int64_t index = lun_model_find(file, name);
    return index < 0 ? NULL : lun_safetensors_info(file, (size_t)index);
}

static lun_status no_network(const lun_safetensors *file, const char *why)
{
    return lun_fail(LUN_ERR_CHECKPOINT, "%s is no network that lunette knows: %s", lun_safetensors_path(file), why);
}

/* Dimension `dim` of a tensor of this rank. */
static lun_status tell_dim(const lun_safetensors *file, int rank, int dim, int *out, const char *format, ...)
    LUN_PRINTF(5, 6);
static lun_status tell_dim(const lun_safetensors *file, int rank, int dim, int *out, const char *format, ...)
{
    char name[LUN_NAME_BYTES], why[LUN_NAME_BYTES + 40];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const lun_safetensors_entry *entry = find(file, "%s", name);
    if (!entry) {
        snprintf(why, sizeof why, "it has no %s", name);
        return no_network(file, why);
    }
    if (entry->rank != rank || entry->dims[dim] < 1 || entry->dims[dim] > INT32_MAX) {
        snprintf(why, sizeof why, "%s has an unexpected shape", name);
        return no_network(file, why);
    }
    *out = (int)entry->dims[dim];
    return LUN_OK;
}

static lun_status tell_notebook(const lun_safetensors *file, lun_model_config *c)
{
    c->steps = NOTEBOOK_STEPS;
    LUN_TRY(tell_dim(file, 4, 0, &c->channels[0], "conv0.weight"));
    LUN_TRY(tell_dim(file, 4, 1, &c->image_channels, "conv0.weight"));
    LUN_TRY(tell_dim(file, 2, 0, &c->time_dim, "time_mlp.1.weight"));
    for (c->levels = 1; c->levels < LUN_MODEL_MAX_LEVELS; c->levels++) {
        if (c->levels > 1 && !find(file, "downs.%d.conv1.weight", c->levels - 1))
            break;
        LUN_TRY(tell_dim(file, 4, 0, &c->channels[c->levels], "downs.%d.conv1.weight", c->levels - 1));
    }
    return LUN_OK;
}

/* ---- UNets ------------------------------------------------------------------------------------------------------- */

/* Twice or once `single`? */
static lun_status tell_double(const lun_safetensors *file, int value, int single, int *out, const char *what)
{
    if (value != single && value != 2 * (int64_t)single)
        return no_network(file, what);
    *out = value != single;
    return LUN_OK;
}

/* input_blocks and output_blocks are counted through, so levels and blocks follow from how many there are: a level has
 * one entry more than `blocks` on the way up, and all but one end with a resampler. */
static lun_status tell_guided(const lun_safetensors *file, lun_model_config *c)
{
    int entries = 0, resamplers = 0, time = 0, out = 0;
    while (entries < 1024 && find(file, "output_blocks.%d.0.in_layers.2.weight", entries)) {
        for (int place = 1; place <= 2; place++) {
            const bool block = find(file, "output_blocks.%d.%d.in_layers.2.weight", entries, place) != NULL;
            if (block || find(file, "output_blocks.%d.%d.conv.weight", entries, place)) {
                resamplers++;
                c->resample_blocks = block;
            }
        }
        entries++;
    }
    c->levels = resamplers + 1;
    c->blocks = entries / c->levels - 1;
    if (c->levels > LUN_MODEL_MAX_LEVELS || c->blocks < 1 || entries % c->levels)
        return no_network(file, "its output_blocks are not those of a UNet");
    LUN_TRY(tell_dim(file, 4, 1, &c->image_channels, "input_blocks.0.0.weight"));
    LUN_TRY(tell_dim(file, 2, 1, &c->time_dim, "time_embed.0.weight"));
    for (int i = 0; i < c->levels; i++) {
        const int entry = 1 + i * (c->blocks + 1);
        LUN_TRY(tell_dim(file, 4, 0, &c->channels[i], "input_blocks.%d.0.in_layers.2.weight", entry));
        c->attention[i] = find(file, "input_blocks.%d.1.qkv.weight", entry) != NULL;
    }
    LUN_TRY(tell_dim(file, 2, 0, &time, "input_blocks.1.0.emb_layers.1.weight"));
    LUN_TRY(tell_double(file, time, c->channels[0], &c->scale_shift, "input_blocks.1.0.emb_layers.1 is too wide"));
    LUN_TRY(tell_dim(file, 4, 0, &out, "out.2.weight"));
    LUN_TRY(tell_double(file, out, c->image_channels, &c->learned_sigma, "out.2 is too wide"));
    if (find(file, "label_emb.weight"))
        LUN_TRY(tell_dim(file, 2, 0, &c->classes, "label_emb.weight"));
    return LUN_OK;
}

/* Ho's port and diffusers count by level and block. `port`: of the two pairs of names the first. */
static lun_status tell_by_level(const lun_safetensors *file, bool port, lun_model_config *c)
{
    int time = 0, out = 0;
#define NAME(ddpm, diffusers) (port ? (ddpm) : (diffusers))
#define CONV1                 NAME("down.%d.block.%d.conv1.weight", "down_blocks.%d.resnets.%d.conv1.weight")
    while (c->levels < LUN_MODEL_MAX_LEVELS && find(file, CONV1, c->levels, 0))
        c->levels++;
    while (c->blocks < 1024 && find(file, CONV1, 0, c->blocks))
        c->blocks++;
    LUN_TRY(tell_dim(file, 4, 1, &c->image_channels, "conv_in.weight"));
    LUN_TRY(tell_dim(file, 2, 1, &c->time_dim, NAME("temb.dense.0.weight", "time_embedding.linear_1.weight")));
    LUN_TRY(tell_dim(file, 4, 0, &c->channels[0], CONV1, 0, 0));
    for (int i = 0; i < c->levels; i++) {
        LUN_TRY(tell_dim(file, 4, 0, &c->channels[i], CONV1, i, 0));
        c->attention[i] =
            find(file, NAME("down.%d.attn.0.norm.weight", "down_blocks.%d.attentions.0.group_norm.weight"), i) != NULL;
    }
    c->resample_blocks =
        find(file, NAME("down.0.downsample.conv1.weight", "down_blocks.0.downsamplers.0.conv1.weight")) != NULL;
    LUN_TRY(tell_dim(file, 2, 0, &time,
                     NAME("down.0.block.0.temb_proj.weight", "down_blocks.0.resnets.0.time_emb_proj.weight")));
    LUN_TRY(tell_double(file, time, c->channels[0], &c->scale_shift, "its first block's time is too wide"));
    LUN_TRY(tell_dim(file, 4, 0, &out, "conv_out.weight"));
    LUN_TRY(tell_double(file, out, c->image_channels, &c->learned_sigma, "conv_out is too wide"));
    if (find(file, NAME("label_emb.weight", "class_embedding.weight")))
        LUN_TRY(tell_dim(file, 2, 0, &c->classes, NAME("label_emb.weight", "class_embedding.weight")));
#undef CONV1
#undef NAME
    return LUN_OK;
}

/* What no shape says, of Ho's networks. */
static void assume_ddpm(lun_model_config *c)
{
    c->network = LUN_DDPM;
    c->steps = UNET_STEPS;
    c->heads = 1;
    c->groups = 32;
    c->norm_eps = 1e-6f;
    c->asymmetric_pad = 1;
    c->time_shift = 1;
    c->start = LUN_START_FAN_AVG;
}

/* Of OpenAI's. The 64x64 network and those of improved-diffusion were trained with the cosine schedule. */
static void assume_adm(lun_model_config *c, lun_schedule_kind *schedule)
{
    lun_model_config adm_64, adm_128;
    if (lun_model_config_named("adm-64", &adm_64) != LUN_OK || lun_model_config_named("adm-128", &adm_128) != LUN_OK)
        return; /* both are there */
    const bool like_64 = memcmp(c->channels, adm_64.channels, sizeof c->channels) == 0;
    const bool like_128 = memcmp(c->channels, adm_128.channels, sizeof c->channels) == 0;
    c->network = LUN_ADM;
    c->steps = c->resample_blocks ? UNET_STEPS : IMPROVED_STEPS;
    c->time_rescale = !c->resample_blocks;
    if (!c->resample_blocks || like_128)
        c->heads = 4;
    else
        c->head_width = 64;
    c->qkv_order = c->resample_blocks && like_64 ? LUN_QKV_SPLIT : LUN_QKV_HEADS;
    *schedule = !c->resample_blocks || like_64 ? LUN_SCHEDULE_COSINE : LUN_SCHEDULE_LINEAR;
    c->groups = 32;
    c->norm_eps = 1e-5f;
    c->time_cos_first = 1;
    c->start = LUN_START_ZERO_LAST;
}

/* ---- Any --------------------------------------------------------------------------------------------------------- */

lun_naming lun_model_tell_naming(const lun_safetensors *file)
{
    if (find(file, "time_embed.0.weight"))
        return LUN_NAMING_GUIDED;
    if (find(file, "temb.dense.0.weight"))
        return LUN_NAMING_DDPM;
    if (find(file, "time_embedding.linear_1.weight"))
        return LUN_NAMING_DIFFUSERS;
    return LUN_NAMING_OWN;
}

static void take_hints(const lun_model_hints *hints, lun_model_config *c)
{
    if (hints->heads || hints->head_width) {
        c->heads = hints->heads;
        c->head_width = hints->head_width;
    }
    if (hints->groups)
        c->groups = hints->groups;
    if (hints->order)
        c->qkv_order = (lun_qkv_order)(hints->order - 1);
}

lun_status lun_model_tell(const lun_safetensors *file, lun_naming naming, const lun_model_hints *hints,
                          lun_model_file_info *out)
{
    lun_model_config config;
    lun_schedule_kind schedule = LUN_SCHEDULE_LINEAR;
    memset(&config, 0, sizeof config);
    switch (naming) {
    case LUN_NAMING_OWN: LUN_TRY(tell_notebook(file, &config)); break;
    case LUN_NAMING_GUIDED:
        LUN_TRY(tell_guided(file, &config));
        assume_adm(&config, &schedule);
        break;
    default:
        LUN_TRY(tell_by_level(file, naming == LUN_NAMING_DDPM, &config));
        /* What is only in OpenAI's networks came from there. */
        if (config.scale_shift || config.resample_blocks)
            assume_adm(&config, &schedule);
        else
            assume_ddpm(&config);
        break;
    }
    if (hints && naming != LUN_NAMING_OWN)
        take_hints(hints, &config);
    if (lun_model_check(&config) != LUN_OK)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s is no network that lunette knows: %s%s", lun_safetensors_path(file),
                        lun_error_detail(),
                        naming == LUN_NAMING_OWN ? "" : " (heads and groups no tensor shows: convert can be told)");
    out->config = config;
    out->schedule = schedule;
    return LUN_OK;
}
