#include "checkpoint_names.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"

#define STEP_NAME      "step-%08" PRIu64 ".safetensors"
#define OPTIMIZER_NAME "step-%08" PRIu64 ".optimizer.safetensors"
#define AVERAGE_NAME   "step-%08" PRIu64 ".ema-%s.safetensors"

lun_checkpoint_file lun_checkpoint_name(const char *name, uint64_t *step, char rate[LUN_RATE_TEXT])
{
    char again[96];
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return LUN_FILE_NEITHER;
    errno = 0;
    const uint64_t number = strtoull(name + 5, NULL, 10);
    if (errno)
        return LUN_FILE_NEITHER;
    *step = number;
    snprintf(again, sizeof again, STEP_NAME, number);
    if (strcmp(name, again) == 0)
        return LUN_FILE_WEIGHTS;
    snprintf(again, sizeof again, OPTIMIZER_NAME, number);
    if (strcmp(name, again) == 0)
        return LUN_FILE_OPTIMIZER;
    const char *text = strstr(name, ".ema-"), *end = strstr(name, ".safetensors");
    char part[LUN_RATE_TEXT];
    double value = 0;
    if (!text || !end || end - text < 6 || end - text - 5 >= LUN_RATE_TEXT)
        return LUN_FILE_NEITHER;
    snprintf(part, sizeof part, "%.*s", (int)(end - text - 5), text + 5);
    snprintf(again, sizeof again, AVERAGE_NAME, number, part);
    if (strcmp(name, again) != 0 || !lun_rate_parse(part, &value))
        return LUN_FILE_NEITHER;
    if (rate)
        memcpy(rate, part, sizeof part);
    return LUN_FILE_AVERAGE;
}

int lun_checkpoint_newer(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

lun_status lun_checkpoint_list(const char *path, lun_checkpoint_file kind, uint64_t **steps, size_t *count)
{
    size_t used = 0, room = 0;
    uint64_t *list = NULL;
    lun_status status = LUN_OK;
    char *folder = lun_format("%s/checkpoints", path);
    if (!folder)
        return LUN_ERR_MEMORY;
    DIR *stream = lun_open_dir(folder);
    const struct dirent *entry = NULL;
    while (stream && status == LUN_OK && (errno = 0, entry = readdir(stream)) != NULL) {
        uint64_t step = 0;
        if (lun_checkpoint_name(entry->d_name, &step, NULL) != kind)
            continue;
        if (used == room) {
            room = room ? room * 2 : 16;
            uint64_t *more = lun_realloc(list, room, sizeof *more, "a list of checkpoints");
            if (!more) {
                status = LUN_ERR_MEMORY;
                break;
            }
            list = more;
        }
        list[used++] = step;
    }
    /* One that cannot be opened or read to its end is not one without checkpoints: what is not seen must be neither
     * passed over nor deleted. */
    if (status == LUN_OK && (stream ? errno != 0 : errno != ENOENT))
        status = lun_fail(errno == ENOMEM ? LUN_ERR_MEMORY : LUN_ERR_STORAGE, "%s: cannot read: %s", folder,
                          strerror(errno));
    if (stream)
        closedir(stream);
    free(folder);
    if (status != LUN_OK) {
        free(list);
        return status;
    }
    if (used)
        qsort(list, used, sizeof *list, lun_checkpoint_newer);
    *steps = list;
    *count = used;
    return LUN_OK;
}

char *lun_checkpoint_weights(const char *dir, uint64_t step)
{
    return lun_format("%s/checkpoints/" STEP_NAME, dir, step);
}

char *lun_checkpoint_optimizer(const char *dir, uint64_t step)
{
    return lun_format("%s/checkpoints/" OPTIMIZER_NAME, dir, step);
}

char *lun_checkpoint_average(const char *dir, uint64_t step, double rate)
{
    char text[LUN_RATE_TEXT];
    if (!lun_rate_text(rate, text)) {
        lun_fail(LUN_ERR_USAGE, "%.17g is no rate of a moving average", rate);
        return NULL;
    }
    return lun_format("%s/checkpoints/" AVERAGE_NAME, dir, step, text);
}
