/* The tutorial UNet: what it is made of, and its recording. */
#include "notebook.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "graph/graph.h"

/* A block's parameters in state_dict order; two time parameters and conv0's two come before the first block, output's
 * two after the last. */
enum {
    TIME_W,
    TIME_B,
    CONV1_W,
    CONV1_B,
    TRANSFORM_W,
    TRANSFORM_B,
    CONV2_W,
    CONV2_B,
    NORM1, /* weight, bias, running mean, running variance */
    NORM2 = NORM1 + 4,
    BLOCK_PARAMS = NORM2 + 4
};
enum { FIRST_BLOCK = 4, MAX_PARAMS = FIRST_BLOCK + 2 * (LUN_MODEL_MAX_LEVELS - 1) * BLOCK_PARAMS + 2 };

#define NORM_EPS      1e-5f
#define NORM_MOMENTUM 0.1f
#define MAX_CHANNELS  65536
#define MAX_STEPS     1000000

lun_model_config lun_model_config_notebook(void)
{
    const lun_model_config config = {
        .image_channels = 3, .levels = 5, .channels = {64, 128, 256, 512, 1024}, .time_dim = 32, .steps = 300};
    return config;
}

lun_status lun_notebook_check(const lun_model_config *config)
{
    if (config->levels < 2 || config->levels > LUN_MODEL_MAX_LEVELS)
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
    return LUN_OK;
}

lun_status lun_model_config_check(const lun_model_config *config, int height, int width)
{
    LUN_TRY(lun_notebook_check(config));
    const int factor = 1 << (config->levels - 1);
    if (height < 1 || width < 1 || height % factor || width % factor)
        return lun_fail(LUN_ERR_USAGE,
                        "pictures of %d x %d: a network of %d levels takes heights and widths divisible by %d", height,
                        width, config->levels, factor);
    return LUN_OK;
}

/* ---- The parameters ---------------------------------------------------------------------------------------------- */

typedef struct walk {
    bool (*visit)(void *payload, const lun_param_info *info);
    void *payload;
    char prefix[32];
} walk;

static bool give(const walk *w, const char *name, lun_desc desc, int rank, lun_role role, lun_init init)
{
    char full[96];
    snprintf(full, sizeof full, "%s%s", w->prefix, name);
    const lun_param_info info = {.name = full, .desc = desc, .rank = rank, .role = role, .init = init};
    return w->visit(w->payload, &info);
}

/* Weight and bias of a layer, both uniform in +-1 / sqrt(fan_in), PyTorch's start. fan_in is dimension 1 times the
 * kernel's area for a transposed convolution too, whose dimension 1 is the outputs: that is what torch.nn.init
 * computes. */
static bool give_layer(const walk *w, const char *name, lun_desc weight, int rank, int bias)
{
    char text[64];
    const lun_shape s = weight.shape;
    const lun_init init = {LUN_INIT_UNIFORM, (float)(1 / sqrt((double)(s.c * s.h * s.w)))};
    snprintf(text, sizeof text, "%s.weight", name);
    if (!give(w, text, weight, rank, LUN_ROLE_PARAM, init))
        return false;
    snprintf(text, sizeof text, "%s.bias", name);
    return give(w, text, lun_image(1, bias, 1, 1), 1, LUN_ROLE_PARAM, init);
}

static bool give_norm(const walk *w, const char *name, int channels)
{
    static const struct {
        const char *name;
        lun_role role;
        lun_init_kind init;
    } parts[] = {{"weight", LUN_ROLE_PARAM, LUN_INIT_ONE},
                 {"bias", LUN_ROLE_PARAM, LUN_INIT_ZERO},
                 {"running_mean", LUN_ROLE_BUFFER, LUN_INIT_ZERO},
                 {"running_var", LUN_ROLE_BUFFER, LUN_INIT_ONE}};
    for (size_t i = 0; i < LUN_COUNT(parts); i++) {
        char text[64];
        const lun_init init = {parts[i].init, 0};
        snprintf(text, sizeof text, "%s.%s", name, parts[i].name);
        if (!give(w, text, lun_image(1, channels, 1, 1), 1, parts[i].role, init))
            return false;
    }
    return true;
}

static bool give_block(const walk *w, int in, int out, int time_dim)
{
    return give_layer(w, "time_mlp", lun_filter(out, time_dim, 1, 1), 2, out) &&
           give_layer(w, "conv1", lun_filter(out, in, 3, 3), 4, out) &&
           give_layer(w, "transform", lun_filter(out, out, 4, 4), 4, out) &&
           give_layer(w, "conv2", lun_filter(out, out, 3, 3), 4, out) && give_norm(w, "bnorm1", out) &&
           give_norm(w, "bnorm2", out);
}

bool lun_notebook_visit(const lun_model_config *config, bool (*visit)(void *payload, const lun_param_info *info),
                        void *payload)
{
    walk w = {.visit = visit, .payload = payload};
    const int *channels = config->channels, blocks = config->levels - 1;
    if (!give_layer(&w, "time_mlp.1", lun_filter(config->time_dim, config->time_dim, 1, 1), 2, config->time_dim) ||
        !give_layer(&w, "conv0", lun_filter(channels[0], config->image_channels, 3, 3), 4, channels[0]))
        return false;
    for (int i = 0; i < blocks; i++) {
        snprintf(w.prefix, sizeof w.prefix, "downs.%d.", i);
        if (!give_block(&w, channels[i], channels[i + 1], config->time_dim))
            return false;
    }
    for (int i = 0; i < blocks; i++) {
        snprintf(w.prefix, sizeof w.prefix, "ups.%d.", i);
        if (!give_block(&w, 2 * channels[blocks - i], channels[blocks - i - 1], config->time_dim))
            return false;
    }
    w.prefix[0] = '\0';
    return give_layer(&w, "output", lun_filter(config->image_channels, channels[0], 1, 1), 4, config->image_channels);
}

/* ---- Recording --------------------------------------------------------------------------------------------------- */

typedef struct recording {
    lun_graph *graph;
    lun_norm_mode mode;
    lun_value param[MAX_PARAMS];
    int count;
} recording;

static bool declare(void *payload, const lun_param_info *info)
{
    recording *r = payload;
    r->param[r->count++] = lun_graph_param(r->graph, info->name, info->desc, info->rank, info->role, info->init);
    return r->param[r->count - 1] >= 0;
}

static lun_value norm(const recording *r, const lun_value *p, lun_value src)
{
    return lun_batch_norm(r->graph, src, p[0], p[1], p[2], p[3], NORM_EPS, NORM_MOMENTUM, r->mode != LUN_NORM_EVAL,
                          r->mode == LUN_NORM_TRAIN);
}

static lun_value block(const recording *r, int index, bool up, lun_value src, lun_value time)
{
    lun_graph *g = r->graph;
    const lun_value *p = r->param + FIRST_BLOCK + index * BLOCK_PARAMS;
    lun_value h = norm(r, p + NORM1, lun_relu(g, lun_conv2d(g, src, p[CONV1_W], p[CONV1_B], 1, 1)));
    h = lun_add_channel(g, h, lun_relu(g, lun_linear(g, time, p[TIME_W], p[TIME_B])));
    h = norm(r, p + NORM2, lun_relu(g, lun_conv2d(g, h, p[CONV2_W], p[CONV2_B], 1, 1)));
    return up ? lun_conv2d_transpose(g, h, p[TRANSFORM_W], p[TRANSFORM_B], 2, 1, 0)
              : lun_conv2d(g, h, p[TRANSFORM_W], p[TRANSFORM_B], 2, 1);
}

lun_value lun_model_forward(lun_graph *graph, const lun_model_config *config, lun_value x, lun_value t,
                            lun_norm_mode mode)
{
    recording r = {.graph = graph, .mode = mode};
    if (lun_graph_check(graph) != LUN_OK)
        return -1;
    const lun_shape in = lun_graph_desc(graph, x).shape;
    lun_status status =
        lun_model_config_check(config, (int)lun_min_i64(in.h, INT32_MAX), (int)lun_min_i64(in.w, INT32_MAX));
    if (status == LUN_OK && (unsigned)mode > LUN_NORM_TRAIN)
        status = lun_fail(LUN_ERR_USAGE, "there is no norm mode number %d", (int)mode);
    if (status != LUN_OK)
        return lun_graph_keep(graph, status);
    if (!lun_notebook_visit(config, declare, &r))
        return -1;

    const int blocks = config->levels - 1;
    lun_value time = lun_time_embed(graph, t, config->steps, config->time_dim);
    time = lun_relu(graph, lun_linear(graph, time, r.param[0], r.param[1]));
    x = lun_conv2d(graph, x, r.param[2], r.param[3], 1, 1);
    lun_value skip[LUN_MODEL_MAX_LEVELS];
    for (int i = 0; i < blocks; i++)
        skip[i] = x = block(&r, i, false, x, time);
    /* The skip is a down block's output, so the deepest meets itself. */
    for (int i = 0; i < blocks; i++)
        x = block(&r, blocks + i, true, lun_concat(graph, x, skip[blocks - 1 - i]), time);
    return lun_conv2d(graph, x, r.param[r.count - 2], r.param[r.count - 1], 1, 0);
}
