/* Model files: what they hold, and whether it is what a network wants.
 *
 * Metadata: "lunette.model", one JSON object
 *     {"network": "notebook", "image_channels": 3, "channels": [64, ...], "time_dim": 32, "steps": 300,
 *      "height": 64, "width": 64, "preset": "notebook", "beta_first": 1e-4, "beta_last": 0.02}
 * and "lunette.step", decimal, and where the weights are a moving average "lunette.ema", its rate. The network itself
 * is always told from the tensors, and the metadata must agree. */
#include "model_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "checkpoint/json.h"
#include "notebook.h"

#define TRACKED     ".num_batches_tracked"
#define RUNNING_VAR ".running_var"

/* Of a file that does not say: the published experiment's. */
#define UNKNOWN_STEPS      300
#define UNKNOWN_BETA_FIRST 1e-4
#define UNKNOWN_BETA_LAST  0.02

/* ---- Finding tensors --------------------------------------------------------------------------------------------- */

/* The tensor of that name in either family of names, or -1. */
static int64_t find(const lun_safetensors *file, const char *name)
{
    static const char *const families[][2] = {{"downs.", "downstream."}, {"ups.", "upstream."}};
    int64_t index = lun_safetensors_find(file, name);
    for (size_t i = 0; i < LUN_COUNT(families) && index < 0; i++) {
        const size_t length = strlen(families[i][0]);
        char other[160];
        if (strncmp(name, families[i][0], length) != 0)
            continue;
        const int wrote = snprintf(other, sizeof other, "%s%s", families[i][1], name + length);
        if (wrote > 0 && (size_t)wrote < sizeof other)
            index = lun_safetensors_find(file, other);
    }
    return index;
}

static bool is_float(lun_safetensors_dtype dtype)
{
    return dtype == LUN_ST_F32 || dtype == LUN_ST_F16 || dtype == LUN_ST_BF16 || dtype == LUN_ST_F64;
}

static bool is_integer(lun_safetensors_dtype dtype)
{
    return !is_float(dtype) && dtype != LUN_ST_BOOL;
}

/* "NAME.running_var" -> "NAME.num_batches_tracked"; false for other names. */
static bool tracked_name(const char *name, char *out, size_t size)
{
    const size_t length = strlen(name), tail = strlen(RUNNING_VAR);
    if (length < tail || strcmp(name + length - tail, RUNNING_VAR) != 0)
        return false;
    snprintf(out, size, "%.*s" TRACKED, (int)(length - tail), name);
    return true;
}

/* ---- Does the file hold what is wanted? -------------------------------------------------------------------------- */

/* A file beside a list of parameters. Problems are collected into one line. */
typedef struct match {
    const lun_safetensors *file;
    bool *used; /* by tensor of the file */
    char text[800];
    size_t length;
    int problems;
} match;

static void problem(match *m, const char *format, ...) LUN_PRINTF(2, 3);
static void problem(match *m, const char *format, ...)
{
    if (++m->problems > 10)
        return;
    const size_t before = m->length;
    if (m->length)
        m->length += (size_t)snprintf(m->text + m->length, sizeof m->text - m->length, "; ");
    va_list args;
    va_start(args, format);
    if (m->length < sizeof m->text)
        m->length += (size_t)vsnprintf(m->text + m->length, sizeof m->text - m->length, format, args);
    va_end(args);
    /* What does not fit is counted and not shown in half. */
    if (m->length >= sizeof m->text) {
        m->length = before;
        m->text[before] = '\0';
        m->problems += 10;
    }
}

/* A parameter's shape as its file tensor has it. */
static int file_dims(const lun_param_info *info, int64_t dims[4])
{
    const lun_shape s = info->desc.shape;
    switch (info->rank) {
    case 1: dims[0] = s.c; return 1;
    case 2: dims[0] = s.n, dims[1] = s.c; return 2;
    default: dims[0] = s.n, dims[1] = s.c, dims[2] = s.h, dims[3] = s.w; return 4;
    }
}

static void dims_text(const int64_t *dims, int rank, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "(");
    for (int i = 0; i < rank && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, i ? ", %" PRId64 : "%" PRId64, dims[i]);
    if (at < size)
        snprintf(text + at, size - at, ")");
}

static bool match_one(void *payload, const lun_param_info *info)
{
    match *m = payload;
    int64_t dims[4];
    const int rank = file_dims(info, dims);
    const int64_t index = find(m->file, info->name);
    if (index < 0) {
        problem(m, "%s is missing", info->name);
        return true;
    }
    const lun_safetensors_entry *entry = lun_safetensors_info(m->file, (size_t)index);
    m->used[index] = true;
    if (entry->rank != rank || memcmp(entry->dims, dims, (size_t)rank * sizeof *dims) != 0) {
        char is[96], wanted[96];
        dims_text(entry->dims, entry->rank, is, sizeof is);
        dims_text(dims, rank, wanted, sizeof wanted);
        problem(m, "%s is %s and should be %s", info->name, is, wanted);
    } else if (!is_float(entry->dtype)) {
        problem(m, "%s is of type %s", info->name, lun_safetensors_dtype_name(entry->dtype));
    }
    char name[160];
    if (tracked_name(info->name, name, sizeof name)) {
        /* PyTorch before 0.4.1 wrote none. */
        const int64_t tracked = find(m->file, name);
        if (tracked >= 0) {
            const lun_safetensors_entry *count = lun_safetensors_info(m->file, (size_t)tracked);
            m->used[tracked] = true;
            if (count->count != 1 || !is_integer(count->dtype))
                problem(m, "%s is not one integer", name);
        }
    }
    return true;
}

static lun_status match_begin(match *m, const lun_safetensors *file)
{
    *m = (match){.file = file};
    m->used = lun_calloc(lun_safetensors_count(file), sizeof *m->used, "a list of tensors");
    return m->used ? LUN_OK : LUN_ERR_MEMORY;
}

static lun_status match_end(match *m)
{
    for (size_t i = 0; i < lun_safetensors_count(m->file); i++)
        if (!m->used[i])
            problem(m, "%.80s does not belong there", lun_safetensors_info(m->file, i)->name);
    free(m->used);
    if (!m->problems)
        return LUN_OK;
    return lun_fail(LUN_ERR_CHECKPOINT, "%s does not fit the network: %s%s", lun_safetensors_path(m->file), m->text,
                    m->problems > 10 ? "; and more" : "");
}

/* ---- What a file describes --------------------------------------------------------------------------------------- */

static lun_status tell_dim(const lun_safetensors *file, const char *name, int rank, int dim, int *out)
{
    const int64_t index = find(file, name);
    if (index < 0)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s is no network that lunette knows: it has no %s",
                        lun_safetensors_path(file), name);
    const lun_safetensors_entry *entry = lun_safetensors_info(file, (size_t)index);
    if (entry->rank != rank || entry->dims[dim] < 1 || entry->dims[dim] > INT32_MAX)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s is no network that lunette knows: %s has an unexpected shape",
                        lun_safetensors_path(file), name);
    *out = (int)entry->dims[dim];
    return LUN_OK;
}

static lun_status tell_config(const lun_safetensors *file, lun_model_config *out)
{
    lun_model_config config = {.steps = UNKNOWN_STEPS};
    LUN_TRY(tell_dim(file, "conv0.weight", 4, 0, &config.channels[0]));
    LUN_TRY(tell_dim(file, "conv0.weight", 4, 1, &config.image_channels));
    LUN_TRY(tell_dim(file, "time_mlp.1.weight", 2, 0, &config.time_dim));
    for (config.levels = 1; config.levels < LUN_MODEL_MAX_LEVELS; config.levels++) {
        char name[64];
        snprintf(name, sizeof name, "downs.%d.conv1.weight", config.levels - 1);
        if (config.levels > 1 && find(file, name) < 0)
            break;
        LUN_TRY(tell_dim(file, name, 4, 0, &config.channels[config.levels]));
    }
    if (lun_notebook_check(&config) != LUN_OK)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s is no network that lunette knows: %s", lun_safetensors_path(file),
                        lun_error_detail());
    *out = config;
    return LUN_OK;
}

static lun_status read_metadata(lun_json_from from, const json_t *root, lun_model_file_info *info)
{
    static const char *const keys[] = {"network", "image_channels", "channels",   "time_dim",  "steps", "height",
                                       "width",   "preset",         "beta_first", "beta_last", NULL};
    const lun_model_config *config = &info->config;
    const char *text = NULL;
    json_t *channels = NULL;
    int64_t number = 0;
    double real = 0;
    LUN_TRY(lun_json_check_keys(from, root, keys));
    LUN_TRY(lun_json_get_string(from, root, "network", &text));
    if (strcmp(text, "notebook") != 0)
        return lun_fail(from.kind, "%s: lunette knows no network '%.60s'", from.what, text);
    bool same = true;
    LUN_TRY(lun_json_get_int(from, root, "image_channels", 1, INT32_MAX, &number));
    same = same && number == config->image_channels;
    LUN_TRY(lun_json_get_int(from, root, "time_dim", 1, INT32_MAX, &number));
    same = same && number == config->time_dim;
    LUN_TRY(lun_json_get_array(from, root, "channels", &channels));
    same = same && json_array_size(channels) == (size_t)config->levels;
    for (int i = 0; same && i < config->levels; i++) {
        const json_t *item = json_array_get(channels, (size_t)i);
        same = json_is_integer(item) && json_integer_value(item) == config->channels[i];
    }
    if (!same)
        return lun_fail(from.kind, "%s: the configuration is not that of the tensors", from.what);
    LUN_TRY(lun_json_get_int(from, root, "steps", 1, INT32_MAX, &number));
    info->config.steps = (int)number;
    if (lun_notebook_check(config) != LUN_OK)
        return lun_fail(from.kind, "%s: %s", from.what, lun_error_detail());
    LUN_TRY(lun_json_get_int(from, root, "height", 0, INT32_MAX, &number));
    info->height = (int)number;
    LUN_TRY(lun_json_get_int(from, root, "width", 0, INT32_MAX, &number));
    info->width = (int)number;
    LUN_TRY(lun_json_get_string(from, root, "preset", &text));
    if (strlen(text) >= sizeof info->preset)
        return lun_fail(from.kind, "%s: the preset's name is too long", from.what);
    snprintf(info->preset, sizeof info->preset, "%s", text);
    LUN_TRY(lun_json_get_real(from, root, "beta_first", 0, 1, &real));
    info->beta_first = real;
    LUN_TRY(lun_json_get_real(from, root, "beta_last", 0, 1, &real));
    info->beta_last = real;
    /* Written so that NaN and 0 fail too. */
    if (!(info->beta_first > 0 && info->beta_first <= info->beta_last && info->beta_last < 1))
        return lun_fail(from.kind, "%s: betas from %g to %g", from.what, info->beta_first, info->beta_last);
    return LUN_OK;
}

static lun_status parse_metadata(const lun_safetensors *file, lun_model_file_info *info)
{
    const char *path = lun_safetensors_path(file), *text = lun_safetensors_metadata(file, "lunette.model");
    const char *step = lun_safetensors_metadata(file, "lunette.step");
    if (step) {
        const size_t digits = strspn(step, "0123456789");
        if (!digits || digits > 19 || step[digits])
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: metadata lunette.step is no number", path);
        info->step = strtoull(step, NULL, 10);
    }
    const char *ema = lun_safetensors_metadata(file, "lunette.ema");
    if (ema) {
        if (!lun_rate_parse(ema, &info->ema))
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: metadata lunette.ema is no rate of a moving average", path);
    }
    if (!text)
        return LUN_OK;
    char *what = lun_format("%s: metadata lunette.model", path);
    if (!what)
        return LUN_ERR_MEMORY;
    const lun_json_from from = {what, LUN_ERR_CHECKPOINT};
    json_t *root = NULL;
    lun_status status = lun_json_parse(from, text, strlen(text), &lun_json_usual, &root);
    if (status == LUN_OK)
        status = read_metadata(from, root, info);
    json_decref(root);
    free(what);
    return status;
}

static lun_status inspect(const lun_safetensors *file, lun_model_file_info *info)
{
    LUN_TRY(tell_config(file, &info->config));
    /* The whole list, so that what a caller allocates for this configuration is no more than what the file holds. */
    match m;
    LUN_TRY(match_begin(&m, file));
    lun_notebook_visit(&info->config, match_one, &m);
    LUN_TRY(match_end(&m));
    LUN_TRY(parse_metadata(file, info));
    const int64_t tracked = find(file, "downs.0.bnorm1" TRACKED);
    if (tracked >= 0) {
        int64_t count = 0;
        LUN_TRY(lun_safetensors_read_i64(file, (size_t)tracked, &count, 1));
        info->batches_tracked = count > 0 ? (uint64_t)count : 0;
    }
    return LUN_OK;
}

lun_status lun_model_inspect(const char *path, lun_model_file_info *out)
{
    lun_safetensors *file = NULL;
    lun_model_file_info info = {.beta_first = UNKNOWN_BETA_FIRST, .beta_last = UNKNOWN_BETA_LAST};
    LUN_TRY(lun_safetensors_open(path, &file));
    const lun_status status = inspect(file, &info);
    lun_safetensors_close(file);
    if (status == LUN_OK)
        *out = info;
    return status;
}

/* ---- Loading ----------------------------------------------------------------------------------------------------- */

static size_t largest(const lun_store *store)
{
    size_t count = 1;
    for (size_t i = 0; i < lun_store_count(store); i++)
        count = (size_t)lun_max_i64((int64_t)count, lun_count(lun_store_info(store, i)->desc.shape));
    return count;
}

static lun_status load(lun_store *store, lun_slot slot, const lun_safetensors *file)
{
    match m;
    LUN_TRY(match_begin(&m, file));
    for (size_t i = 0; i < lun_store_count(store); i++)
        match_one(&m, lun_store_info(store, i));
    LUN_TRY(match_end(&m));
    LUN_TRY(lun_safetensors_verify(file, 0));
    float *values = lun_malloc(largest(store), sizeof *values, "a tensor");
    if (!values)
        return LUN_ERR_MEMORY;
    lun_status status = LUN_OK;
    for (size_t i = 0; i < lun_store_count(store) && status == LUN_OK; i++) {
        const lun_param_info *info = lun_store_info(store, i);
        if (info->role != LUN_ROLE_PARAM && slot != LUN_SLOT_VALUE)
            continue;
        status =
            lun_safetensors_read_f32(file, (size_t)find(file, info->name), values, (size_t)lun_count(info->desc.shape));
        if (status == LUN_OK)
            status = lun_store_write(store, i, slot, values);
    }
    free(values);
    return status;
}

lun_status lun_model_load_slot(lun_store *store, lun_slot slot, const char *path)
{
    lun_safetensors *file = NULL;
    LUN_TRY(lun_safetensors_open(path, &file));
    const lun_status status = load(store, slot, file);
    lun_safetensors_close(file);
    return status;
}

lun_status lun_model_load(lun_store *store, const char *path)
{
    return lun_model_load_slot(store, LUN_SLOT_VALUE, path);
}

/* ---- Saving ------------------------------------------------------------------------------------------------------ */

static lun_status metadata(const lun_model_file_info *info, lun_safetensors_writer *writer)
{
    const lun_model_config *c = &info->config;
    json_t *channels = json_array(), *root = NULL;
    for (int i = 0; i < c->levels && channels; i++)
        json_array_append_new(channels, json_integer(c->channels[i]));
    if (channels)
        root = json_pack("{s:s, s:i, s:o, s:i, s:i, s:i, s:i, s:s, s:f, s:f}", "network", "notebook", "image_channels",
                         c->image_channels, "channels", channels, "time_dim", c->time_dim, "steps", c->steps, "height",
                         info->height, "width", info->width, "preset", info->preset, "beta_first", info->beta_first,
                         "beta_last", info->beta_last);
    char *text = root ? lun_json_text(root, 0) : NULL, step[24], ema[LUN_RATE_TEXT];
    snprintf(step, sizeof step, "%" PRIu64, info->step);
    lun_status status = text ? LUN_OK : lun_fail(LUN_ERR_MEMORY, "out of memory for a model's metadata");
    if (status == LUN_OK)
        status = lun_safetensors_writer_metadata(writer, "lunette.model", text);
    if (status == LUN_OK)
        status = lun_safetensors_writer_metadata(writer, "lunette.step", step);
    if (status == LUN_OK && info->ema > 0)
        status = lun_rate_text(info->ema, ema)
                     ? lun_safetensors_writer_metadata(writer, "lunette.ema", ema)
                     : lun_fail(LUN_ERR_USAGE, "%.17g is no rate of a moving average", info->ema);
    /* Some loaders want to be told whose shapes these are. */
    if (status == LUN_OK)
        status = lun_safetensors_writer_metadata(writer, "format", "pt");
    free(text);
    json_decref(root);
    return status;
}

static lun_status write_values(lun_store *store, lun_slot slot, uint64_t batches, lun_safetensors_writer *writer,
                               float *values)
{
    const size_t count = lun_store_count(store);
    const int64_t tracked = (int64_t)batches;
    char name[160];
    /* The 8-byte integers first: every tensor has to lie at a multiple of its element size. */
    for (size_t i = 0; i < count; i++)
        if (tracked_name(lun_store_info(store, i)->name, name, sizeof name))
            LUN_TRY(lun_safetensors_writer_declare(writer, name, LUN_ST_I64, 0, NULL));
    for (size_t i = 0; i < count; i++) {
        int64_t dims[4];
        const lun_param_info *info = lun_store_info(store, i);
        const int rank = file_dims(info, dims);
        LUN_TRY(lun_safetensors_writer_declare(writer, info->name, LUN_ST_F32, rank, dims));
    }
    for (size_t i = 0; i < count; i++)
        if (tracked_name(lun_store_info(store, i)->name, name, sizeof name))
            LUN_TRY(lun_safetensors_writer_data(writer, &tracked, sizeof tracked));
    for (size_t i = 0; i < count; i++) {
        const bool trained = lun_store_info(store, i)->role == LUN_ROLE_PARAM;
        LUN_TRY(lun_store_read(store, i, trained ? slot : LUN_SLOT_VALUE, values));
        for (int64_t e = 0; e < lun_count(lun_store_info(store, i)->desc.shape); e++)
            if (!isfinite(values[e]))
                return lun_fail(LUN_ERR_DIVERGED, "%s is no longer finite", lun_store_info(store, i)->name);
        LUN_TRY(lun_safetensors_writer_data(writer, values, lun_bytes(lun_store_info(store, i)->desc)));
    }
    return LUN_OK;
}

lun_status lun_model_write(lun_store *store, lun_slot slot, const lun_model_file_info *info,
                           lun_safetensors_writer *writer)
{
    LUN_TRY(lun_notebook_check(&info->config));
    float *values = lun_malloc(largest(store), sizeof *values, "a tensor");
    if (!values)
        return LUN_ERR_MEMORY;
    lun_status status = metadata(info, writer);
    if (status == LUN_OK)
        status = write_values(store, slot, info->batches_tracked, writer, values);
    free(values);
    return status;
}

lun_status lun_model_save(lun_store *store, const lun_model_file_info *info, const char *id, const char *path)
{
    lun_safetensors_writer *writer = NULL;
    LUN_TRY(lun_safetensors_writer_create(path, &writer));
    lun_status status = LUN_OK;
    if (id)
        status = lun_safetensors_writer_metadata(writer, "lunette.id", id);
    if (status == LUN_OK)
        status = lun_model_write(store, LUN_SLOT_VALUE, info, writer);
    if (status != LUN_OK) {
        lun_safetensors_writer_discard(writer);
        return status;
    }
    return lun_safetensors_writer_commit(writer);
}
