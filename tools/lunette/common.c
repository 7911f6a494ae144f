#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"
#include "checkpoint/json.h"
#include "checkpoint/runfolder.h"
#include "model/interop.h"

const char *const clip_names[] = {"none", "x0", "xt", NULL};
const char *const norm_names[] = {"eval", "train", NULL};
const char *const loss_names[] = {"l1", "l2", "huber", NULL};
const char *const schedule_names[] = {"linear", "scaled", "cosine", "sigmoid", NULL};
const char *const prediction_names[] = {"eps", "x0", "v", NULL};
const char *const optimizer_names[] = {"adam", "adamw", NULL};
const char *const decay_names[] = {"constant", "linear", "cosine", NULL};
const char *const ema_warmup_names[] = {"none", "power", "ramp", NULL};

void set_channels(lun_model_config *c, const int *channels, int levels)
{
    memset(c->channels, 0, sizeof c->channels);
    memcpy(c->channels, channels, sizeof(int) * (size_t)levels);
    c->levels = levels;
    if (c->network == LUN_NOTEBOOK)
        return;
    c->time_dim = channels[0];
    for (int i = levels; i < LUN_MODEL_MAX_LEVELS; i++)
        c->attention[i] = 0;
}

lun_status network_config(const network_args *a, lun_train_config *out, char **file)
{
    lun_train_config c;
    char *model = NULL;
    if (a->model && (a->preset_given || a->channels_given))
        return lun_fail(LUN_ERR_USAGE, "--model says which network it is: leave out --preset and --channels");
    LUN_TRY(lun_train_preset(a->preset, &c));
    if (a->model) {
        lun_model_file_info info;
        LUN_TRY(find_model(a->model, &model));
        const lun_status status = lun_model_inspect(model, &info);
        if (status != LUN_OK || !file) {
            free(model);
            model = NULL;
        }
        LUN_TRY(status);
        c.model = info.config;
        c.data.labels = info.config.classes > 0;
        c.schedule = info.schedule;
        c.prediction = info.prediction;
        c.beta_first = info.beta_first;
        c.beta_last = info.beta_last;
        if (info.width) {
            c.width = info.width;
            c.height = info.height;
        }
    }
    if (a->channels_given)
        set_channels(&c.model, a->channels, a->levels);
    if (a->size_given)
        c.width = c.height = a->size;
    if (a->batch_given)
        c.batch = a->batch;
    const lun_status status = lun_train_config_check(&c);
    if (status != LUN_OK) {
        free(model);
        return status;
    }
    *out = c;
    if (file)
        *file = model;
    return LUN_OK;
}

lun_status open_device(const char *spec, int threads, lun_device **out)
{
    const lun_device_params params = {.threads = threads};
    return lun_device_open(spec, &params, out);
}

double hang_patience(const lun_device *dev, double asked)
{
    return asked >= 0 ? asked : lun_device_get_info(dev)->type == LUN_DEVICE_GPU ? 600 : 0;
}

static struct {
    double patience;
    const char *after;
} watched;

/* From a thread of its own, while the one that uses the device is stuck in it: nothing of that may be touched, nor what
 * a driver does at exit. */
static void on_hung(void *payload, const char *what)
{
    (void)payload;
    fprintf(stderr, "lunette: error: the device has not answered for %g seconds (%s): it or its driver hangs%s\n",
            watched.patience, what, watched.after);
    _exit(LUN_ERR_DEVICE);
}

lun_status watch_device(lun_device *dev, double patience, const char *after)
{
    watched.patience = patience;
    watched.after = after;
    return patience > 0 ? lun_device_watch(dev, patience, on_hung, NULL) : LUN_OK;
}

lun_status open_watched(const char *spec, int threads, double asked, lun_device **out)
{
    lun_device *dev = NULL;
    LUN_TRY(open_device(spec, threads, &dev));
    const lun_status status = watch_device(dev, hang_patience(dev, asked), "");
    if (status != LUN_OK)
        lun_device_close(&dev);
    *out = dev;
    return status;
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

typedef enum model_kind { A_FILE, A_PIPELINE, A_RUN } model_kind;

/* A folder that is no pipeline is taken for a run. */
static lun_status look_at_model(const char *path, model_kind *kind)
{
    lun_path_kind found;
    bool pipeline = false;
    LUN_TRY(lun_path_look(path, LUN_ERR_STORAGE, &found));
    if (found == LUN_PATH_MISSING)
        return lun_fail(LUN_ERR_USAGE, "%s: no such model file or run folder", path);
    LUN_TRY(lun_diffusers_look(path, &pipeline));
    *kind = found != LUN_PATH_FOLDER ? A_FILE : pipeline ? A_PIPELINE : A_RUN;
    return LUN_OK;
}

lun_status find_model(const char *path, char **file)
{
    model_kind kind = A_FILE;
    LUN_TRY(look_at_model(path, &kind));
    if (kind == A_RUN)
        return find_weights(path, "raw", file);
    *file = lun_strdup(path);
    return *file ? LUN_OK : LUN_ERR_MEMORY;
}

/* The file of a checkpoint that is meant, or NULL. */
static char **choose(lun_checkpoint *c, const char *which)
{
    double rate = 0;
    if (which && strcmp(which, "raw") == 0)
        return &c->weights;
    if (!which || strcmp(which, "ema") == 0)
        return c->averages > 0 ? &c->average[0] : which ? NULL : &c->weights;
    for (int i = 0; lun_rate_parse(which, &rate) && i < c->averages; i++)
        if (c->rate[i] == rate)
            return &c->average[i];
    return NULL;
}

lun_status find_weights(const char *path, const char *which, char **file)
{
    model_kind kind = A_FILE;
    LUN_TRY(look_at_model(path, &kind));
    if (kind != A_RUN && which)
        return lun_fail(LUN_ERR_USAGE, "--weights %s: chooses among those of a run folder; %s is %s", which, path,
                        kind == A_PIPELINE ? "a folder of diffusers" : "a file");
    if (kind != A_RUN)
        return find_model(path, file);
    lun_checkpoint newest;
    LUN_TRY(lun_runfolder_newest(path, false, &newest));
    if (!newest.weights)
        return lun_fail(LUN_ERR_USAGE, "%s: a folder without checkpoints; name a run folder or a .safetensors file",
                        path);
    char **chosen = choose(&newest, which), rates[160];
    lun_status status = LUN_OK;
    if (chosen) {
        *file = *chosen;
        *chosen = NULL;
    } else {
        status =
            lun_fail(LUN_ERR_USAGE, "--weights %s: the newest checkpoint of %s has %s%s", which, path,
                     newest.averages ? "raw weights, and moving averages of " : "raw weights and no moving average",
                     rates_text(newest.rate, newest.averages, rates, sizeof rates));
    }
    lun_checkpoint_free(&newest);
    return status;
}

const char *short_number(double value, char *text, size_t size)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return text;
}

const char *rates_text(const double *rates, int count, char *text, size_t size)
{
    char number[40];
    size_t used = 0;
    *text = 0;
    for (int i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? "," : "",
                                 short_number(rates[i], number, sizeof number));
    return text;
}

lun_status run_differs(const char *out, const char *option, const char *given, const char *recorded)
{
    return lun_fail(LUN_ERR_USAGE, "%s %s: the run in %s was started with %s; leave the option out to go on with it",
                    option, given, out, recorded);
}

lun_status run_check_number(const char *out, const char *option, bool given, double value, double recorded)
{
    char left[40], right[40];
    if (!given || value == recorded)
        return LUN_OK;
    return run_differs(out, option, short_number(value, left, sizeof left),
                       short_number(recorded, right, sizeof right));
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
    if (lun_json_refused() || !text) {
        free(text);
        return report(lun_fail(LUN_ERR_MEMORY, "out of memory (JSON)"));
    }
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
