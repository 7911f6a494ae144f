#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/base.h"
#include "checkpoint/runfolder.h"
#include "model/interop.h"

const char *const clip_names[] = {"none", "x0", "xt", NULL};
const char *const norm_names[] = {"eval", "train", NULL};
const char *const loss_names[] = {"l1", "l2", "huber", NULL};

lun_status open_device(const char *spec, int threads, lun_device **out)
{
    const lun_device_params params = {.threads = threads};
    return lun_device_open(spec, &params, out);
}

lun_status check_computes(const char *spec)
{
    return strcmp(spec, "null") != 0 ? LUN_OK
                                     : lun_fail(LUN_ERR_USAGE, "--device null: computes nothing; it is for bench");
}

void device_text(const lun_device *dev, const char *asked, char *text, size_t size)
{
    const lun_device_info *info = lun_device_get_info(dev);
    snprintf(text, size, "%s: %s (%s, %d %s)%s", info->spec, info->name, info->platform, info->units,
             strcmp(info->spec, "cpu") == 0 ? "threads" : "compute units",
             strcmp(asked, "auto") == 0 ? ", chosen automatically" : "");
}

lun_status find_model(const char *path, char **file)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return lun_fail(LUN_ERR_USAGE, "%s: no such model file or run folder", path);
    if (!S_ISDIR(st.st_mode) || lun_is_diffusers_folder(path)) {
        *file = lun_strdup(path);
        return *file ? LUN_OK : LUN_ERR_MEMORY;
    }
    lun_checkpoint newest;
    LUN_TRY(lun_runfolder_newest(path, false, &newest));
    if (!newest.weights)
        return lun_fail(LUN_ERR_USAGE, "%s: a folder without checkpoints; name a run folder or a .safetensors file",
                        path);
    *file = newest.weights;
    newest.weights = NULL;
    lun_checkpoint_free(&newest);
    return LUN_OK;
}

lun_status load_model(const char *file, lun_device *dev, loaded_model *out)
{
    loaded_model m = {.store = NULL};
    LUN_TRY(lun_model_inspect(file, &m.info));
    lun_status status = lun_store_create(&m.store);
    if (status == LUN_OK)
        status = lun_model_declare(m.store, &m.info.config);
    if (status == LUN_OK)
        status = lun_store_allocate(m.store, dev, 0);
    if (status == LUN_OK)
        status = lun_model_load(m.store, file);
    if (status != LUN_OK) {
        free_model(&m);
        return status;
    }
    *out = m;
    return LUN_OK;
}

void free_model(loaded_model *model)
{
    lun_store_destroy(&model->store);
}

const char *channels_text(const lun_model_config *config, char *text, size_t size)
{
    size_t used = 0;
    *text = 0;
    for (int i = 0; i < config->levels && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%d", i ? "," : "", config->channels[i]);
    return text;
}

uint64_t peak_bytes(const lun_device *dev)
{
    struct rusage usage;
    size_t now = 0, peak = 0;
    lun_device_memory(dev, &now, &peak);
    if (lun_device_get_info(dev)->type != LUN_DEVICE_CPU || getrusage(RUSAGE_SELF, &usage) != 0)
        return peak;
#ifdef __APPLE__
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

int finish_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    return report(lun_fail(LUN_ERR_STORAGE, "standard output: cannot write"));
}

int print_json(json_t *json, int indent)
{
    if (!json)
        return report(lun_fail(LUN_ERR_MEMORY, "out of memory (JSON)"));
    char *text = json_dumps(json, (indent ? JSON_INDENT(indent) : 0) | JSON_REAL_PRECISION(6));
    json_decref(json);
    if (!text)
        return report(lun_fail(LUN_ERR_MEMORY, "out of memory (JSON)"));
    puts(text);
    free(text);
    return finish_output();
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *values, size_t count)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}
