/* lunette info */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"
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
    bool folder = false;
    lun_status status = lun_diffusers_look(file, &folder);
    if (status == LUN_OK && folder)
        status = lun_diffusers_find(file, &parts);
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

/* ---- --verify
 * ------------------------------------------------------------------------------------------------------------- */

/* Says so where the checksums are right. */
static lun_status verify_file(const char *path)
{
    lun_safetensors *file = NULL;
    char text[32];
    uint64_t bytes = 0;
    lun_status status = lun_safetensors_open(path, &file);
    const bool none = status == LUN_OK && !lun_safetensors_metadata(file, "lunette.crc32") &&
                      !lun_safetensors_metadata(file, "lunette.header_crc32");
    if (none)
        status = lun_fail(LUN_ERR_CHECKPOINT, "%s: has no checksums; lunette writes them, other programs do not", path);
    else if (status == LUN_OK)
        status = lun_safetensors_verify(file, 1);
    for (size_t i = 0; status == LUN_OK && i < lun_safetensors_count(file); i++)
        bytes += lun_safetensors_info(file, i)->bytes;
    if (status == LUN_OK)
        printf("right  %s: %zu tensors, %s\n", path, lun_safetensors_count(file),
               bytes_text((double)bytes, text, sizeof text));
    lun_safetensors_close(file);
    return status;
}

static bool is_tensors(const char *name)
{
    static const char ending[] = ".safetensors";
    const size_t length = strlen(name);
    return *name != '.' && length >= sizeof ending && strcmp(name + length + 1 - sizeof ending, ending) == 0;
}

typedef struct paths {
    char **path;
    size_t count, room;
} paths;

static void paths_free(paths *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->path[i]);
    free(list->path);
}

static lun_status paths_add(paths *list, const char *folder, const char *name)
{
    if (list->count == list->room) {
        const size_t room = list->room ? 2 * list->room : 16;
        char **more = lun_realloc(list->path, room, sizeof *more, "a list of files");
        if (!more)
            return LUN_ERR_MEMORY;
        list->path = more;
        list->room = room;
    }
    char *path = lun_format("%s/%s", folder, name);
    if (!path)
        return LUN_ERR_MEMORY;
    list->path[list->count++] = path;
    return LUN_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The safetensors files in `folder`, in the order of their names; a missing folder holds none. */
static lun_status list_tensors(const char *folder, paths *list)
{
    lun_status status = LUN_OK;
    DIR *stream = lun_open_dir(folder);
    const struct dirent *entry = NULL;
    while (stream && status == LUN_OK && (errno = 0, entry = readdir(stream)) != NULL)
        if (is_tensors(entry->d_name))
            status = paths_add(list, folder, entry->d_name);
    if (status == LUN_OK && (stream ? errno != 0 : errno != ENOENT && errno != ENOTDIR))
        status = lun_fail(errno == ENOMEM ? LUN_ERR_MEMORY : LUN_ERR_STORAGE, "%s: cannot read: %s", folder,
                          strerror(errno));
    if (stream)
        closedir(stream);
    if (list->count)
        qsort(list->path, list->count, sizeof *list->path, by_name);
    return status;
}

/* Every one; the failure is that of the first bad one. */
static lun_status verify_files(const paths *list)
{
    char first[1024] = "";
    lun_status worst = LUN_OK;
    for (size_t i = 0; i < list->count; i++) {
        const lun_status status = verify_file(list->path[i]);
        if (status != LUN_OK)
            printf("WRONG  %s\n", list->path[i]);
        if (status != LUN_OK && worst == LUN_OK) {
            worst = status;
            snprintf(first, sizeof first, "%s", lun_error_detail());
        }
    }
    return worst == LUN_OK ? LUN_OK : lun_fail(worst, "%s", first);
}

/* Every file of every checkpoint of a run. */
static lun_status verify_run(const char *path)
{
    paths list = {NULL, 0, 0};
    char *folder = lun_format("%s/checkpoints", path);
    lun_status status = folder ? list_tensors(folder, &list) : LUN_ERR_MEMORY;
    if (status == LUN_OK && list.count == 0)
        status =
            lun_fail(LUN_ERR_USAGE, "%s: a folder without checkpoints; name a run folder or a .safetensors file", path);
    if (status == LUN_OK)
        status = verify_files(&list);
    paths_free(&list);
    free(folder);
    return status;
}

static lun_status verify(const char *path)
{
    lun_path_kind kind;
    bool folder = false;
    lun_diffusers_parts parts = {NULL};
    LUN_TRY(lun_path_look(path, LUN_ERR_STORAGE, &kind));
    if (kind == LUN_PATH_MISSING)
        return lun_fail(LUN_ERR_USAGE, "%s: no such model file or run folder", path);
    if (kind != LUN_PATH_FOLDER)
        return verify_file(path);
    LUN_TRY(lun_diffusers_look(path, &folder));
    if (!folder)
        return verify_run(path);
    LUN_TRY(lun_diffusers_find(path, &parts));
    const lun_status status = verify_file(parts.weights);
    lun_diffusers_parts_free(&parts);
    return status;
}

int lun_cmd_info(int argc, char **argv)
{
    bool all = false;
    const arg_option options[] = {{.name = "--verify",
                                   .type = ARG_FLAG,
                                   .value = &all,
                                   .help = "only compare the checksums; of a run, those of every file in checkpoints/"},
                                  {0}};
    const arg_command command = {
        .usage = "info FILE.safetensors|RUN|FOLDER [--verify]",
        .about = "Say what is in a model file, in the newest sound checkpoint of a run folder or in a folder of "
                 "diffusers: the\n"
                 "network, its size and training, and every tensor with its type and shape. Checksums, where the file "
                 "has them, are compared.",
        .notes =
            "Each tensor has a checksum (CRC-32) in the file's metadata, and the header has one. Of a damaged file "
            "the first tensor that\n"
            "does not match is named, exit 4. --verify also fails where there are none.\n\n"
            "example:\n  lunette info run/checkpoints/step-00003000.safetensors",
        .options = options,
        .min_positionals = 1,
        .max_positionals = 1,
    };
    const char *path = NULL;
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, &path, &positionals, &exit_code))
        return exit_code;
    const lun_status status = all ? verify(path) : show(path);
    return status == LUN_OK ? finish_output() : report(status);
}
