/* The tutorial UNet. */
#include <stdio.h>

#include "base/base.h"
#include "build.h"

#define MAX_CHANNELS 65536

#define NAMED(text) (&(const lun_label){.name = {text}})

lun_model_config lun_model_config_notebook(void)
{
    const lun_model_config config = {
        .image_channels = 3, .levels = 5, .channels = {64, 128, 256, 512, 1024}, .time_dim = 32, .steps = 300};
    return config;
}

lun_status lun_notebook_check(const lun_model_config *config)
{
    if (config->levels < 2)
        return lun_fail(LUN_ERR_USAGE, "a network of %d levels; it takes 2 to %d", config->levels,
                        LUN_MODEL_MAX_LEVELS);
    return LUN_OK;
}

/* Convolution, ReLU, batch norm, twice, with the time added between; then to the next level. */
static lun_value block(lun_build *b, const char *way, int index, int in, int out, lun_value x, lun_value time)
{
    lun_graph *g = b->graph;
    const bool up = way[0] == 'u';
    snprintf(b->prefix[0], sizeof b->prefix[0], "%s.%d.", way, index);
    const lun_layer mlp = lun_declare_linear(b, NAMED("time_mlp"), b->config->time_dim, out);
    const lun_layer conv1 = lun_declare_conv(b, NAMED("conv1"), in, out, 3, LUN_BEGIN_USUAL);
    const lun_layer transform = up ? lun_declare_conv_transpose(b, NAMED("transform"), out, out, 4)
                                   : lun_declare_conv(b, NAMED("transform"), out, out, 4, LUN_BEGIN_USUAL);
    const lun_layer conv2 = lun_declare_conv(b, NAMED("conv2"), out, out, 3, LUN_BEGIN_USUAL);
    const lun_batch_norm_layer norm1 = lun_declare_batch_norm(b, NAMED("bnorm1"), out);
    const lun_batch_norm_layer norm2 = lun_declare_batch_norm(b, NAMED("bnorm2"), out);
    b->prefix[0][0] = '\0';
    if (!g)
        return -1;
    lun_value h = lun_build_batch_norm(b, &norm1, lun_relu(g, lun_build_conv(b, conv1, x, 1, 1)));
    h = lun_add_channel(g, h, lun_relu(g, lun_build_linear(b, mlp, time)));
    h = lun_build_batch_norm(b, &norm2, lun_relu(g, lun_build_conv(b, conv2, h, 1, 1)));
    return up ? lun_conv2d_transpose(g, h, transform.weight, transform.bias, 2, 1, 0)
              : lun_build_conv(b, transform, h, 2, 1);
}

lun_value lun_notebook_build(lun_build *b, const lun_model_inputs *in)
{
    lun_graph *g = b->graph;
    const lun_model_config *c = b->config;
    const int last = c->levels - 1;
    const lun_layer mlp = lun_declare_linear(b, NAMED("time_mlp.1"), c->time_dim, c->time_dim);
    const lun_layer conv0 = lun_declare_conv(b, NAMED("conv0"), c->image_channels, c->channels[0], 3, LUN_BEGIN_USUAL);
    lun_value x = -1, time = -1, skip[LUN_MODEL_MAX_LEVELS];
    if (g) {
        time = lun_relu(g, lun_build_linear(b, mlp, lun_time_embed(g, in->t, c->steps, c->time_dim)));
        x = lun_build_conv(b, conv0, in->x, 1, 1);
    }
    for (int i = 0; i < last; i++)
        skip[i] = x = block(b, "downs", i, c->channels[i], c->channels[i + 1], x, time);
    /* The skip is a down block's output, so the deepest meets itself. */
    for (int i = 0; i < last; i++) {
        if (g)
            x = lun_concat(g, x, skip[last - 1 - i]);
        x = block(b, "ups", i, 2 * c->channels[last - i], c->channels[last - i - 1], x, time);
    }
    const lun_layer output =
        lun_declare_conv(b, NAMED("output"), c->channels[0], c->image_channels, 1, LUN_BEGIN_USUAL);
    return g ? lun_build_conv(b, output, x, 1, 0) : -1;
}
