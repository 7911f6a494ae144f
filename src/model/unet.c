/* The UNet of "Denoising Diffusion Probabilistic Models" (Ho, Jain and Abbeel 2020) and what became of it in "Improved
 * Denoising Diffusion Probabilistic Models" (Nichol and Dhariwal 2021) and "Diffusion Models Beat GANs on Image
 * Synthesis" (Dhariwal and Nichol 2021): one network with options.
 *
 * Every block on the way down pushes its result, the first convolution's and the resamplers' included; every residual
 * block on the way up pops one and takes it after its own channels. */
#include <stdio.h>

#include "base/base.h"
#include "build.h"

#define MAX_BLOCKS 16
#define MAX_SKIPS  (LUN_MODEL_MAX_LEVELS * (MAX_BLOCKS + 1))

/* The time's embedding has four times the base channels. */
static int time_width(const lun_model_config *config)
{
    return 4 * config->time_dim;
}

static int heads_of(const lun_model_config *config, int channels)
{
    return config->heads ? config->heads : channels / config->head_width;
}

/* ---- Is it one? -------------------------------------------------------------------------------------------------- */

static lun_status check_attention(const lun_model_config *c, int level)
{
    const int channels = c->channels[level];
    if (!c->attention[level] && level != c->levels - 1)
        return LUN_OK;
    if (c->heads ? channels % c->heads : channels % c->head_width)
        return lun_fail(LUN_ERR_USAGE, "attention at level %d: %d channels do not divide into heads%s %d", level,
                        channels, c->heads ? ":" : " of", c->heads ? c->heads : c->head_width);
    return LUN_OK;
}

lun_status lun_unet_check(const lun_model_config *c)
{
    if (c->levels < 1)
        return lun_fail(LUN_ERR_USAGE, "a network of %d levels; it takes 1 to %d", c->levels, LUN_MODEL_MAX_LEVELS);
    if (c->blocks < 1 || c->blocks > MAX_BLOCKS)
        return lun_fail(LUN_ERR_USAGE, "%d residual blocks a level; it takes 1 to %d", c->blocks, MAX_BLOCKS);
    if (c->heads < 0 || (!c->heads && c->head_width < 1))
        return lun_fail(LUN_ERR_USAGE, "attention with %d heads of %d channels; one of the two says how many", c->heads,
                        c->head_width);
    if ((unsigned)c->qkv_order > LUN_QKV_SPLIT || (unsigned)c->start > LUN_START_TORCH)
        return lun_fail(LUN_ERR_USAGE, "there is no order of q, k and v number %d, or no start number %d",
                        (int)c->qkv_order, (int)c->start);
    if (c->groups < 1)
        return lun_fail(LUN_ERR_USAGE, "group norms of %d groups", c->groups);
    if (!(c->norm_eps > 0 && c->norm_eps < 1))
        return lun_fail(LUN_ERR_USAGE, "norm_eps %g: above 0 and below 1", (double)c->norm_eps);
    if (!(c->dropout >= 0 && c->dropout < 1))
        return lun_fail(LUN_ERR_USAGE, "dropout %g: at least 0 and below 1", (double)c->dropout);
    if (c->classes < 0 || c->classes > 1000000)
        return lun_fail(LUN_ERR_USAGE, "%d classes; it takes 0 to 1000000", c->classes);
    if (c->null_class && !c->classes)
        return lun_fail(LUN_ERR_USAGE, "a null class in a network without classes");
    if (c->time_shift < 0 || c->time_shift > 1)
        return lun_fail(LUN_ERR_USAGE, "time_shift %d: 0 or 1", c->time_shift);
    for (int i = 0; i < c->levels; i++) {
        if (c->channels[i] % c->groups)
            return lun_fail(LUN_ERR_USAGE, "%d channels at level %d do not divide into %d groups", c->channels[i], i,
                            c->groups);
        LUN_TRY(check_attention(c, i));
    }
    return LUN_OK;
}

/* ---- Names ------------------------------------------------------------------------------------------------------- */

static const lun_label label_time[] = {{.name = {"time_embed.0", "temb.dense.0", "time_embedding.linear_1"}},
                                       {.name = {"time_embed.2", "temb.dense.1", "time_embedding.linear_2"}}};
static const lun_label label_classes = {.name = {"label_emb", "label_emb", "class_embedding"}};
static const lun_label label_in = {.name = {"input_blocks.0.0", "conv_in", "conv_in"}};
static const lun_label label_out_norm = {.name = {"out.0", "norm_out", "conv_norm_out"}};
static const lun_label label_out = {.name = {"out.2", "conv_out", "conv_out"}};

static const lun_label label_norm1 = {.name = {"in_layers.0", "norm1", "norm1"}};
static const lun_label label_conv1 = {.name = {"in_layers.2", "conv1", "conv1"}};
static const lun_label label_block_time = {.name = {"emb_layers.1", "temb_proj", "time_emb_proj"}};
static const lun_label label_norm2 = {.name = {"out_layers.0", "norm2", "norm2"}};
static const lun_label label_conv2 = {.name = {"out_layers.3", "conv2", "conv2"}};
static const lun_label label_shortcut = {.name = {"skip_connection", "nin_shortcut", "conv_shortcut"}};

static const lun_label label_attention_norm = {.name = {"norm", "norm", "group_norm"}};
static const lun_label label_qkv = {.name = {"qkv", "qkv", "qkv"},
                                    .apart = {{NULL}, {"q", "k", "v"}, {"to_q", "to_k", "to_v"}}};
static const lun_label label_projection = {.name = {"proj_out", "proj_out", "to_out.0"}};

static const lun_label label_down = {.name = {"op", "conv", "conv"}};
static const lun_label label_up = {.name = {"conv", "conv", "conv"}};

typedef enum way { DOWN, MIDDLE, UP } way;
typedef enum part { RESIDUAL, ATTENTION, RESAMPLER } part;

/* Where in the network the next layers are. */
typedef struct unet {
    lun_build *b;
    way way;
    int level, index; /* index: of the residual block in its level */
    int entry;        /* guided-diffusion's number in input_blocks or output_blocks */
    lun_value time;
    lun_value skip[MAX_SKIPS];
    int skip_channels[MAX_SKIPS], skips;
} unet;

static void push(unet *u, int channels, lun_value x)
{
    u->skip_channels[u->skips] = channels;
    u->skip[u->skips++] = x;
}

static void name_part(const unet *u, part which)
{
    lun_build *b = u->b;
    const lun_model_config *c = b->config;
    const char *const word = u->way == DOWN ? "down" : "up";
    const size_t size = sizeof b->prefix[0];
    char ddpm[24] = "", diffusers[24] = "";
    int place = 0;
    if (u->way == MIDDLE) {
        const bool attention = which == ATTENTION;
        snprintf(b->prefix[0], size, "middle_block.%d.", attention ? 1 : 2 * u->index);
        snprintf(b->prefix[1], size, "mid.%s_%d.", attention ? "attn" : "block", u->index + 1);
        snprintf(b->prefix[2], size, "mid_block.%s.%d.", attention ? "attentions" : "resnets", u->index);
        return;
    }
    switch (which) {
    case RESIDUAL:
        snprintf(ddpm, sizeof ddpm, "block.%d", u->index);
        snprintf(diffusers, sizeof diffusers, "resnets.%d", u->index);
        break;
    case ATTENTION:
        place = 1;
        snprintf(ddpm, sizeof ddpm, "attn.%d", u->index);
        snprintf(diffusers, sizeof diffusers, "attentions.%d", u->index);
        break;
    case RESAMPLER:
        /* An entry of its own on the way down, at the end of the level's last on the way up. */
        place = u->way == UP ? 1 + (c->attention[u->level] != 0) : 0;
        snprintf(ddpm, sizeof ddpm, "%ssample", word);
        snprintf(diffusers, sizeof diffusers, "%ssamplers.0", word);
        break;
    }
    snprintf(b->prefix[0], size, "%s_blocks.%d.%d.", u->way == DOWN ? "input" : "output", u->entry, place);
    snprintf(b->prefix[1], size, "%s.%d.%s.", word, u->level, ddpm);
    /* diffusers counts up_blocks from the lowest resolution. */
    snprintf(b->prefix[2], size, "%s_blocks.%d.%s.", word, u->way == DOWN ? u->level : c->levels - 1 - u->level,
             diffusers);
}

static void name_nothing(lun_build *b)
{
    for (int i = 0; i < LUN_NAMINGS; i++)
        b->prefix[i][0] = '\0';
}

/* ---- Blocks ------------------------------------------------------------------------------------------------------ */

typedef enum resample { STAY, POOL, REPEAT } resample;

/* norm, SiLU, [resample,] convolution; the time comes in; norm, SiLU, dropout, convolution; plus the source, through a
 * 1x1 convolution where the channels differ. */
static lun_value residual(unet *u, int in, int out, resample to, lun_value x)
{
    lun_build *b = u->b;
    lun_graph *g = b->graph;
    const lun_model_config *c = b->config;
    name_part(u, to == STAY ? RESIDUAL : RESAMPLER);
    const lun_layer norm1 = lun_declare_norm(b, &label_norm1, in);
    const lun_layer conv1 = lun_declare_conv(b, &label_conv1, in, out, 3, LUN_BEGIN_USUAL);
    const lun_layer time = lun_declare_linear(b, &label_block_time, time_width(c), c->scale_shift ? 2 * out : out);
    const lun_layer norm2 = lun_declare_norm(b, &label_norm2, out);
    const lun_layer conv2 = lun_declare_conv(b, &label_conv2, out, out, 3, LUN_BEGIN_LAST);
    lun_layer shortcut = {-1, -1};
    if (in != out)
        shortcut = lun_declare_conv(b, &label_shortcut, in, out, 1, LUN_BEGIN_USUAL);
    if (!g)
        return -1;

    lun_value h = lun_silu(g, lun_build_group_norm(b, norm1, x));
    if (to == POOL) {
        h = lun_avg_pool2(g, h);
        x = lun_avg_pool2(g, x);
    } else if (to == REPEAT) {
        x = lun_upsample2(g, x);
    }
    h = to == REPEAT ? lun_build_conv_upsampled(b, conv1, h, 1) : lun_build_conv(b, conv1, h, 1, 1);
    const lun_value t = lun_build_linear(b, time, u->time);
    h = c->scale_shift ? lun_scale_shift(g, lun_build_group_norm(b, norm2, h), t)
                       : lun_build_group_norm(b, norm2, lun_add_channel(g, h, t));
    h = lun_build_conv(b, conv2, lun_build_dropout(b, lun_silu(g, h)), 1, 1);
    return lun_add(g, in != out ? lun_build_conv(b, shortcut, x, 1, 0) : x, h);
}

static lun_value attention(unet *u, int channels, lun_value x)
{
    lun_build *b = u->b;
    lun_graph *g = b->graph;
    const int heads = heads_of(b->config, channels);
    name_part(u, ATTENTION);
    const lun_layer norm = lun_declare_norm(b, &label_attention_norm, channels);
    const lun_layer qkv = lun_declare_pointwise(b, &label_qkv, channels, channels, 3,
                                                b->config->qkv_order == LUN_QKV_HEADS ? heads : 1, LUN_BEGIN_USUAL);
    const lun_layer projection = lun_declare_pointwise(b, &label_projection, channels, channels, 1, 1, LUN_BEGIN_LAST);
    if (!g)
        return -1;
    lun_value h = lun_build_conv(b, qkv, lun_build_group_norm(b, norm, x), 1, 0);
    h = lun_attention(g, h, heads, b->config->qkv_order);
    return lun_add(g, x, lun_build_conv(b, projection, h, 1, 0));
}

/* To half the size. */
static lun_value go_down(unet *u, int channels, lun_value x)
{
    lun_build *b = u->b;
    if (b->config->resample_blocks)
        return residual(u, channels, channels, POOL, x);
    name_part(u, RESAMPLER);
    const lun_layer conv = lun_declare_conv(b, &label_down, channels, channels, 3, LUN_BEGIN_USUAL);
    if (!b->graph)
        return -1;
    if (b->config->asymmetric_pad)
        return lun_conv2d_padded(b->graph, x, conv.weight, conv.bias, 2, 0, 0, 1, 1);
    return lun_build_conv(b, conv, x, 2, 1);
}

/* To twice the size. */
static lun_value go_up(unet *u, int channels, lun_value x)
{
    lun_build *b = u->b;
    if (b->config->resample_blocks)
        return residual(u, channels, channels, REPEAT, x);
    name_part(u, RESAMPLER);
    const lun_layer conv = lun_declare_conv(b, &label_up, channels, channels, 3, LUN_BEGIN_USUAL);
    return b->graph ? lun_build_conv_upsampled(b, conv, x, 1) : -1;
}

/* ---- The network ------------------------------------------------------------------------------------------------- */

/* SiLU(embedding of time and class): every residual block begins with that SiLU, so it is done once. */
static lun_value embedding(lun_build *b, const lun_model_inputs *in)
{
    lun_graph *g = b->graph;
    const lun_model_config *c = b->config;
    const int width = time_width(c);
    const lun_layer first = lun_declare_linear(b, &label_time[0], c->time_dim, width);
    const lun_layer second = lun_declare_linear(b, &label_time[1], width, width);
    lun_value classes = -1;
    if (c->classes)
        classes = lun_declare_table(b, &label_classes, c->classes + (c->null_class != 0), width);
    if (!g)
        return -1;
    const lun_time_style style = {.cos_first = c->time_cos_first != 0,
                                  .shift = c->time_shift,
                                  .scale = c->time_rescale ? (float)(1000.0 / c->steps) : 1.0f};
    lun_value time = lun_time_embed_as(g, in->t, c->steps, c->time_dim, style);
    time = lun_build_linear(b, second, lun_silu(g, lun_build_linear(b, first, time)));
    if (c->classes)
        time = lun_add(g, time, lun_embed(g, in->labels, classes));
    return lun_silu(g, time);
}

lun_value lun_unet_build(lun_build *b, const lun_model_inputs *in)
{
    lun_graph *g = b->graph;
    const lun_model_config *c = b->config;
    int channels = c->channels[0];
    unet u = {.b = b, .way = DOWN};
    u.time = embedding(b, in);
    const lun_layer first = lun_declare_conv(b, &label_in, c->image_channels, channels, 3, LUN_BEGIN_USUAL);
    lun_value x = g ? lun_build_conv(b, first, in->x, 1, 1) : -1;
    push(&u, channels, x);
    u.entry = 1; /* the first convolution is number 0 */
    for (u.level = 0; u.level < c->levels; u.level++) {
        for (u.index = 0; u.index < c->blocks; u.index++, u.entry++) {
            x = residual(&u, channels, c->channels[u.level], STAY, x);
            channels = c->channels[u.level];
            if (c->attention[u.level])
                x = attention(&u, channels, x);
            push(&u, channels, x);
        }
        if (u.level < c->levels - 1) {
            x = go_down(&u, channels, x);
            u.entry++;
            push(&u, channels, x);
        }
    }

    u.way = MIDDLE;
    u.index = 0;
    x = residual(&u, channels, channels, STAY, x);
    x = attention(&u, channels, x);
    u.index = 1;
    x = residual(&u, channels, channels, STAY, x);

    u.way = UP;
    u.entry = 0;
    for (u.level = c->levels - 1; u.level >= 0; u.level--)
        for (u.index = 0; u.index <= c->blocks; u.index++, u.entry++) {
            const int joined = channels + u.skip_channels[--u.skips];
            if (g)
                x = lun_concat(g, x, u.skip[u.skips]);
            x = residual(&u, joined, c->channels[u.level], STAY, x);
            channels = c->channels[u.level];
            if (c->attention[u.level])
                x = attention(&u, channels, x);
            if (u.level && u.index == c->blocks)
                x = go_up(&u, channels, x);
        }

    name_nothing(b);
    const lun_layer norm = lun_declare_norm(b, &label_out_norm, channels);
    const lun_layer last = lun_declare_conv(b, &label_out, channels, lun_model_output_channels(c), 3, LUN_BEGIN_LAST);
    return g ? lun_build_conv(b, last, lun_silu(g, lun_build_group_norm(b, norm, x)), 1, 1) : -1;
}
