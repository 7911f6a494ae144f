/* lunette convert */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "common.h"
#include "live.h"

/* In the order of lun_naming. */
static const char *const layouts[] = {"lunette", "guided", "ddpm", "diffusers", NULL};
static const char *const orders[] = {"heads", "split", NULL};

typedef struct convert_args {
    const char *paths[2], *weights;
    int layout, order, heads, head_width, groups;
    bool layout_given, order_given;
} convert_args;

/* No tensor shows how attention is divided into heads: say what it was taken for. */
static void say_assumed(const lun_model_file_info *info)
{
    const lun_model_config *c = &info->config;
    char heads[48];
    if (c->heads)
        snprintf(heads, sizeof heads, "%d %s", c->heads, c->heads == 1 ? "head" : "heads");
    else
        snprintf(heads, sizeof heads, "heads of %d channels", c->head_width);
    say("the file does not say what its tensors do not show; taken for: %s, q, k and v in the order '%s', norms of %d "
        "groups, eps %g, %d steps (--heads, --head-width, --qkv-order, --groups)",
        heads, orders[c->qkv_order], c->groups, (double)c->norm_eps, c->steps);
}

static lun_status run(const convert_args *a)
{
    char *file = NULL;
    lun_model_file_info info;
    LUN_TRY(find_weights(a->paths[0], a->weights, &file));
    const lun_convert_params params = {.from = file,
                                       .to = a->paths[1],
                                       .layout = (lun_naming)a->layout,
                                       .hints = {.heads = a->heads,
                                                 .head_width = a->head_width,
                                                 .order = a->order_given ? 1 + a->order : 0,
                                                 .groups = a->groups}};
    const lun_status status = lun_model_convert(&params, &info);
    free(file);
    LUN_TRY(status);
    if (info.assumed)
        say_assumed(&info);
    if (info.naming == LUN_NAMING_DIFFUSERS && !info.width)
        say("the size of the pictures is not known: DDPMPipeline wants \"sample_size\" in unet/config.json");
    if (info.naming == LUN_NAMING_DIFFUSERS && info.config.classes)
        say("a network with classes: DDPMPipeline loads it, and only UNet2DModel with class_labels runs it");
    say("%s: %s, %" PRIu64 " parameters, as %s has them", a->paths[1], lun_network_name(info.config.network),
        lun_model_parameters(&info.config, NULL), layouts[a->layout]);
    return LUN_OK;
}

int lun_cmd_convert(int argc, char **argv)
{
    convert_args a = {.layout = 0};
    const arg_option options[] = {
        {.name = "--to",
         .type = ARG_CHOICE,
         .value = &a.layout,
         .choices = layouts,
         .given = &a.layout_given,
         .meta = "LAYOUT",
         .help = "lunette, guided (guided-diffusion), ddpm (Ho's network in PyTorch), diffusers (a folder)"},
        {.name = "--weights",
         .type = ARG_TEXT,
         .value = &a.weights,
         .meta = "WHICH",
         .help = "of a run: ema, its first moving average (the default where it has one); a rate as 0.999; raw"},
        {.name = "--heads",
         .type = ARG_INT,
         .value = &a.heads,
         .min = 1,
         .max = 65536,
         .meta = "N",
         .help = "attention has N heads, if IN does not say"},
        {.name = "--head-width",
         .type = ARG_INT,
         .value = &a.head_width,
         .min = 1,
         .max = 65536,
         .meta = "N",
         .help = "or heads of N channels"},
        {.name = "--qkv-order",
         .type = ARG_CHOICE,
         .value = &a.order,
         .choices = orders,
         .given = &a.order_given,
         .meta = "ORDER",
         .help = "of guided-diffusion's qkv, if IN does not say: heads (q, k, v of each head) or split (new order)"},
        {.name = "--groups",
         .type = ARG_INT,
         .value = &a.groups,
         .min = 1,
         .max = 65536,
         .meta = "N",
         .help = "group norms of N groups, if IN does not say"},
        {0},
    };
    const arg_command command = {
        .usage = "convert IN OUT --to LAYOUT [options]",
        .about = "Write a model in another program's layout. IN is a safetensors file in any layout, a folder that "
                 "diffusers saved,\n"
                 "or a run folder; OUT is a new file, or with --to diffusers a new folder for "
                 "DDPMPipeline.from_pretrained.",
        .notes = "The network is recognised by the names and shapes of its tensors. What they do not show, IN's "
                 "metadata or config.json\n"
                 "says; else it is what was published with those names, and told. Tensors are moved, not computed "
                 "with, and a file of\n"
                 "lunette's comes back from any layout byte for byte. A layout takes the networks that its program "
                 "can be: the notebook\n"
                 "network has only lunette's.\n\n"
                 "example:\n  lunette convert run pipeline --to diffusers",
        .options = options,
        .min_positionals = 2,
        .max_positionals = 2,
    };
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, a.paths, &positionals, &exit_code))
        return exit_code;
    if (!a.layout_given)
        return report(lun_fail(LUN_ERR_USAGE, "--to is missing; usage: lunette %s", command.usage));
    if (a.heads && a.head_width)
        return report(lun_fail(LUN_ERR_USAGE, "--heads and --head-width exclude each other: give one"));
    const lun_status status = run(&a);
    return status == LUN_OK ? 0 : report(status);
}
