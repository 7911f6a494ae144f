/* What holds for every network: its configuration, and recording it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "build.h"
#include "graph/graph.h"

#define MAX_CHANNELS 65536
#define MAX_STEPS    1000000

/* ---- Published networks ------------------------------------------------------------------------------------------ */

static lun_model_config ddpm(int levels, const int *channels, int attention)
{
    lun_model_config c = {.image_channels = 3,
                          .levels = levels,
                          .time_dim = 128,
                          .steps = 1000,
                          .network = LUN_DDPM,
                          .blocks = 2,
                          .heads = 1,
                          .groups = 32,
                          .norm_eps = 1e-6f,
                          .asymmetric_pad = 1,
                          .time_shift = 1,
                          .start = LUN_START_FAN_AVG};
    memcpy(c.channels, channels, (size_t)levels * sizeof *channels);
    c.attention[attention] = 1;
    return c;
}

/* `attention`: the levels of it, one bit each. */
static lun_model_config adm(int base, int levels, const int *channels, int blocks, unsigned attention)
{
    lun_model_config c = {.image_channels = 3,
                          .levels = levels,
                          .time_dim = base,
                          .steps = 1000,
                          .network = LUN_ADM,
                          .blocks = blocks,
                          .head_width = 64,
                          .qkv_order = LUN_QKV_HEADS,
                          .groups = 32,
                          .norm_eps = 1e-5f,
                          .scale_shift = 1,
                          .resample_blocks = 1,
                          .learned_sigma = 1,
                          .time_cos_first = 1,
                          .start = LUN_START_ZERO_LAST};
    memcpy(c.channels, channels, (size_t)levels * sizeof *channels);
    for (int i = 0; i < levels; i++)
        c.attention[i] = (int)(attention >> i & 1);
    return c;
}

#define LEVELS(...)                                                                                                    \
    (int)LUN_COUNT(((const int[]){__VA_ARGS__})), (const int[])                                                        \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

static lun_model_config ddpm_cifar10(void)
{
    lun_model_config c = ddpm(LEVELS(128, 256, 256, 256), 1);
    c.dropout = 0.1f;
    return c;
}

static lun_model_config ddpm_256(void)
{
    return ddpm(LEVELS(128, 128, 256, 256, 512, 512), 4);
}

/* improved-diffusion: convolutions between levels, four heads, 4000 steps told as 0 to 1000. */
static lun_model_config iddpm(int levels, const int *channels, unsigned attention, float dropout)
{
    lun_model_config c = adm(128, levels, channels, 3, attention);
    c.steps = 4000;
    c.heads = 4;
    c.head_width = 0;
    c.resample_blocks = 0;
    c.time_rescale = 1;
    c.dropout = dropout;
    return c;
}

static lun_model_config iddpm_cifar10(void)
{
    return iddpm(LEVELS(128, 256, 256, 256), 1U << 1 | 1U << 2, 0.3f);
}

static lun_model_config iddpm_64(void)
{
    return iddpm(LEVELS(128, 256, 384, 512), 1U << 2 | 1U << 3, 0);
}

static lun_model_config adm_64(void)
{
    lun_model_config c = adm(192, LEVELS(192, 384, 576, 768), 3, 1U << 1 | 1U << 2 | 1U << 3);
    c.qkv_order = LUN_QKV_SPLIT;
    c.classes = 1000;
    c.dropout = 0.1f;
    return c;
}

static lun_model_config adm_128(void)
{
    lun_model_config c = adm(256, LEVELS(256, 256, 512, 768, 1024), 2, 1U << 2 | 1U << 3 | 1U << 4);
    c.heads = 4;
    c.head_width = 0;
    c.classes = 1000;
    return c;
}

static lun_model_config adm_256_uncond(void)
{
    return adm(256, LEVELS(256, 256, 512, 512, 1024, 1024), 2, 1U << 3 | 1U << 4 | 1U << 5);
}

static lun_model_config adm_256(void)
{
    lun_model_config c = adm_256_uncond();
    c.classes = 1000;
    return c;
}

static lun_model_config adm_512(void)
{
    lun_model_config c = adm(256, LEVELS(128, 256, 256, 512, 512, 1024, 1024), 2, 1U << 4 | 1U << 5 | 1U << 6);
    c.classes = 1000;
    return c;
}

/* What the programs unet.cu and diffusion.cu train: 64x64, attention at 16 and 8 pixels. */
static lun_model_config small(void)
{
    lun_model_config c = adm(64, LEVELS(64, 128, 192, 256), 2, 1U << 2 | 1U << 3);
    c.head_width = 32;
    c.scale_shift = 0;
    c.resample_blocks = 0;
    c.learned_sigma = 0;
    return c;
}

static const struct {
    const char *name;
    lun_model_config (*make)(void);
} named[] = {{"notebook", lun_model_config_notebook},
             {"ddpm-cifar10", ddpm_cifar10},
             {"ddpm-256", ddpm_256},
             {"iddpm-cifar10", iddpm_cifar10},
             {"iddpm-64", iddpm_64},
             {"adm-64", adm_64},
             {"adm-128", adm_128},
             {"adm-256", adm_256},
             {"adm-256-uncond", adm_256_uncond},
             {"adm-512", adm_512},
             {"small", small}};

lun_status lun_model_config_named(const char *name, lun_model_config *out)
{
    char known[256];
    size_t used = 0;
    for (size_t i = 0; i < LUN_COUNT(named); i++) {
        if (name && strcmp(name, named[i].name) == 0) {
            *out = named[i].make();
            return LUN_OK;
        }
        if (used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", named[i].name);
    }
    return lun_fail(LUN_ERR_USAGE, "unknown network '%.60s' (known: %s)", name ? name : "", known);
}

const char *lun_network_name(lun_network network)
{
    switch (network) {
    case LUN_DDPM: return "ddpm";
    case LUN_ADM: return "adm";
    default: return "notebook";
    }
}

const char *lun_schedule_kind_name(lun_schedule_kind kind)
{
    static const char *const names[LUN_SCHEDULE_KINDS] = {"linear", "scaled", "cosine", "sigmoid"};
    return (unsigned)kind < LUN_SCHEDULE_KINDS ? names[kind] : NULL;
}

const char *lun_prediction_name(lun_prediction prediction)
{
    static const char *const names[LUN_PREDICTIONS] = {"eps", "x0", "v"};
    return (unsigned)prediction < LUN_PREDICTIONS ? names[prediction] : NULL;
}

/* ---- Configurations ---------------------------------------------------------------------------------------------- */

int lun_model_output_channels(const lun_model_config *config)
{
    return config->learned_sigma ? 2 * config->image_channels : config->image_channels;
}

lun_status lun_model_check(const lun_model_config *config)
{
    if ((unsigned)config->network > LUN_ADM)
        return lun_fail(LUN_ERR_USAGE, "there is no network number %d", (int)config->network);
    if (config->levels < 1 || config->levels > LUN_MODEL_MAX_LEVELS)
        return lun_fail(LUN_ERR_USAGE, "a network of %d levels; it takes 2 to %d", config->levels,
                        LUN_MODEL_MAX_LEVELS);
    for (int i = 0; i < config->levels; i++)
        if (config->channels[i] < 1 || config->channels[i] > MAX_CHANNELS)
            return lun_fail(LUN_ERR_USAGE, "%d channels at level %d; it takes 1 to %d", config->channels[i], i,
                            MAX_CHANNELS);
    if (config->image_channels < 1 || config->image_channels > MAX_CHANNELS)
        return lun_fail(LUN_ERR_USAGE, "pictures of %d channels; it takes 1 to %d", config->image_channels,
                        MAX_CHANNELS);
    if (config->time_dim < 4 || config->time_dim % 2 || config->time_dim > MAX_CHANNELS)
        return lun_fail(LUN_ERR_USAGE, "a time embedding of %d channels; it takes an even number from 4 to %d",
                        config->time_dim, MAX_CHANNELS);
    if (config->steps < 1 || config->steps > MAX_STEPS)
        return lun_fail(LUN_ERR_USAGE, "%d time steps; it takes 1 to %d", config->steps, MAX_STEPS);
    return config->network == LUN_NOTEBOOK ? lun_notebook_check(config) : lun_unet_check(config);
}

lun_status lun_model_config_check(const lun_model_config *config, int height, int width)
{
    LUN_TRY(lun_model_check(config));
    const int factor = 1 << (config->levels - 1);
    if (height < 1 || width < 1 || height % factor || width % factor)
        return lun_fail(LUN_ERR_USAGE,
                        "pictures of %d x %d: a network of %d levels takes heights and widths divisible by %d", height,
                        width, config->levels, factor);
    return LUN_OK;
}

/* ---- Recording --------------------------------------------------------------------------------------------------- */

static lun_status check_inputs(const lun_graph *graph, const lun_model_config *config, const lun_model_inputs *in)
{
    const lun_shape x = lun_graph_desc(graph, in->x).shape;
    LUN_TRY(lun_model_config_check(config, (int)lun_min_i64(x.h, INT32_MAX), (int)lun_min_i64(x.w, INT32_MAX)));
    if ((unsigned)in->norm > LUN_NORM_TRAIN)
        return lun_fail(LUN_ERR_USAGE, "there is no norm mode number %d", (int)in->norm);
    if (in->labels != -1 && !config->classes)
        return lun_fail(LUN_ERR_USAGE, "labels for a network without classes");
    if (in->labels == -1 && config->classes && !config->null_class)
        return lun_fail(LUN_ERR_USAGE, "this network has %d classes: every picture needs a label", config->classes);
    return LUN_OK;
}

/* A label for each picture that says: none. */
static lun_value null_labels(lun_graph *graph, int64_t count, int null)
{
    int32_t *labels = lun_malloc((size_t)count, sizeof *labels, "labels");
    if (!labels)
        return lun_graph_keep(graph, LUN_ERR_MEMORY);
    for (int64_t i = 0; i < count; i++)
        labels[i] = null;
    const lun_value value =
        lun_graph_constant(graph, "null class", lun_typed(lun_image(count, 1, 1, 1), LUN_I32), labels);
    free(labels);
    return value;
}

lun_value lun_model_apply(lun_graph *graph, const lun_model_config *config, const lun_model_inputs *inputs)
{
    if (lun_graph_check(graph) != LUN_OK)
        return -1;
    const lun_status status = check_inputs(graph, config, inputs);
    if (status != LUN_OK)
        return lun_graph_keep(graph, status);
    lun_model_inputs in = *inputs;
    if (config->classes && in.labels == -1)
        in.labels = null_labels(graph, lun_graph_desc(graph, in.x).shape.n, config->classes);
    lun_build b = {.config = config, .graph = graph, .norm = in.norm, .dropout = in.dropout};
    return lun_model_build(&b, &in);
}

lun_value lun_model_forward(lun_graph *graph, const lun_model_config *config, lun_value x, lun_value t,
                            lun_norm_mode mode)
{
    return lun_model_apply(graph, config,
                           &(lun_model_inputs){.x = x, .t = t, .labels = -1, .dropout = -1, .norm = mode});
}
