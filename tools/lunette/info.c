/* lunette info */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "common.h"
#include "live.h"
#include "model/interop.h"

static void print_unet(const lun_model_file_info *info, const char *channels)
{
    static const char *const namings[] = {"lunette", "guided-diffusion", "the DDPM port", "diffusers"};
    const lun_model_config *c = &info->config;
    printf("network     %s UNet, channels %s, %d blocks a level, attention at", lun_network_name(c->network), channels,
           c->blocks);
    for (int i = 0; i < c->levels; i++)
        if (c->attention[i])
            printf(" 1/%d,", 1 << i);
    printf(" the middle, ");
    if (c->heads)
        printf("%d %s\n", c->heads, c->heads == 1 ? "head" : "heads");
    else
        printf("heads of %d\n", c->head_width);
    if (c->classes)
        printf("classes     %d%s\n", c->classes, c->null_class ? ", and none" : "");
    printf("names       of %s%s\n", namings[info->naming],
           info->assumed ? "; what they do not show, heads among it, is assumed" : "");
}

static void print_network(const char *file, const lun_safetensors *tensors)
{
    lun_model_file_info info;
    char channels[128], text[40];
    if (lun_model_inspect(file, &info) != LUN_OK) {
        printf("network     none that lunette knows: %s\n", lun_error_detail());
        return;
    }
    /* Running statistics are kept with the model but are not trained. */
    uint64_t parameters = 0;
    for (size_t i = 0; i < lun_safetensors_count(tensors); i++) {
        const lun_safetensors_entry *e = lun_safetensors_info(tensors, i);
        const char *last = strrchr(e->name, '.');
        if (!last || (strcmp(last, ".running_mean") != 0 && strcmp(last, ".running_var") != 0 &&
                      strcmp(last, ".num_batches_tracked") != 0))
            parameters += (uint64_t)e->count;
    }
    channels_text(&info.config, channels, sizeof channels);
    if (info.config.network == LUN_NOTEBOOK)
        printf("network     notebook UNet, channels %s, time embedding of %d\n", channels, info.config.time_dim);
    else
        print_unet(&info, channels);
    printf("parameters  %" PRIu64 "\n", parameters);
    if (info.preset[0])
        printf("preset      %s\n", info.preset);
    if (info.width)
        printf("pictures    %dx%d, %d channels\n", info.width, info.height, info.config.image_channels);
    if (lun_safetensors_metadata(tensors, "lunette.classes"))
        printf("class names %s\n", lun_safetensors_metadata(tensors, "lunette.classes"));
    printf("schedule    %d steps, %s", info.config.steps, lun_schedule_kind_name(info.schedule));
    if (info.beta_last > 0 && info.schedule <= LUN_SCHEDULE_SCALED)
        printf(" from %g to %g", info.beta_first, info.beta_last);
    printf("\nprediction  %s%s\n", lun_prediction_name(info.prediction),
           info.config.learned_sigma ? ", and the variance" : "");
    if (info.step)
        printf("trained     %" PRIu64 " steps\n", info.step);
    if (info.ema > 0)
        printf("weights     moving average of rate %s\n", short_number(info.ema, text, sizeof text));
}

static void print_tensors(const lun_safetensors *tensors)
{
    int widest = 0;
    const size_t count = lun_safetensors_count(tensors);
    for (size_t i = 0; i < count; i++) {
        const int length = (int)strlen(lun_safetensors_info(tensors, i)->name);
        widest = length > widest && length <= 60 ? length : widest;
    }
    printf("\n");
    for (size_t i = 0; i < count; i++) {
        const lun_safetensors_entry *e = lun_safetensors_info(tensors, i);
        printf("%-*s  %-4s  (", widest, e->name, lun_safetensors_dtype_name(e->dtype));
        for (int d = 0; d < e->rank; d++)
            printf("%s%" PRId64, d ? ", " : "", e->dims[d]);
        printf(")\n");
    }
}

static lun_status show(const char *path)
{
    char *file = NULL, text[32];
    lun_safetensors *tensors = NULL;
    LUN_TRY(find_model(path, &file));
    lun_diffusers_parts parts = {NULL};
    lun_status status = lun_is_diffusers_folder(file) ? lun_diffusers_find(file, &parts) : LUN_OK;
    if (status == LUN_OK)
        status = lun_safetensors_open(parts.weights ? parts.weights : file, &tensors);
    if (status == LUN_OK)
        status = lun_safetensors_verify(tensors, 0);
    if (status == LUN_OK) {
        uint64_t bytes = 0;
        const size_t count = lun_safetensors_count(tensors);
        for (size_t i = 0; i < count; i++)
            bytes += lun_safetensors_info(tensors, i)->bytes;
        printf("file        %s\n", file);
        printf("tensors     %zu, %s, checksums %s\n", count, bytes_text((double)bytes, text, sizeof text),
               lun_safetensors_metadata(tensors, "lunette.crc32") ? "right" : "none");
        print_network(file, tensors);
        print_tensors(tensors);
    }
    lun_safetensors_close(tensors);
    lun_diffusers_parts_free(&parts);
    free(file);
    return status;
}

int lun_cmd_info(int argc, char **argv)
{
    const arg_option options[] = {{0}};
    const arg_command command = {
        .usage = "info FILE.safetensors|RUN|FOLDER",
        .about = "Say what is in a model file, in the newest sound checkpoint of a run folder or in a folder of "
                 "diffusers: the\n"
                 "network, its size and training, and every tensor with its type and shape. Checksums, where the file "
                 "has them, are compared.",
        .notes = "example:\n  lunette info run/checkpoints/step-00003000.safetensors",
        .options = options,
        .min_positionals = 1,
        .max_positionals = 1,
    };
    const char *path = NULL;
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, &path, &positionals, &exit_code))
        return exit_code;
    const lun_status status = show(path);
    return status == LUN_OK ? finish_output() : report(status);
}
