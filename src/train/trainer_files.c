/* A trainer's files: weights, moments, averages and what else a step depends on. */
#include "trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "model/model_file.h"

/* The optimiser's file: Adam's moments under PyTorch's words. */
static const struct {
    const char *prefix;
    lun_slot slot;
} moments[] = {{"exp_avg.", LUN_SLOT_M}, {"exp_avg_sq.", LUN_SLOT_V}};

static int dims_of(const lun_param_info *info, int64_t dims[4])
{
    const lun_shape s = info->desc.shape;
    if (info->rank == 1) {
        dims[0] = s.c;
    } else {
        dims[0] = s.n;
        dims[1] = s.c;
        dims[2] = s.h;
        dims[3] = s.w;
    }
    return info->rank;
}

lun_model_file_info lun_trainer_file_info(const lun_trainer *t)
{
    lun_model_file_info info = {.config = t->config.model,
                                .height = t->config.height,
                                .width = t->config.width,
                                .step = t->step,
                                .batches_tracked = t->tracked_before + t->step * (uint64_t)t->config.accumulate,
                                .beta_first = t->config.beta_first,
                                .beta_last = t->config.beta_last,
                                .schedule = t->config.schedule,
                                .prediction = t->config.prediction};
    memcpy(info.preset, t->config.preset, sizeof info.preset);
    return info;
}

/* Call `visit` for every moment of every trained parameter, in the file's order. */
static lun_status each_moment(lun_trainer *t,
                              lun_status (*visit)(lun_trainer *t, size_t index, lun_slot slot, const char *name,
                                                  void *payload),
                              void *payload)
{
    for (size_t m = 0; m < LUN_COUNT(moments); m++) {
        for (size_t i = 0; i < lun_store_count(t->store); i++) {
            const lun_param_info *info = lun_store_info(t->store, i);
            if (info->role != LUN_ROLE_PARAM)
                continue;
            char *name = lun_format("%s%s", moments[m].prefix, info->name);
            if (!name)
                return LUN_ERR_MEMORY;
            const lun_status status = visit(t, i, moments[m].slot, name, payload);
            free(name);
            LUN_TRY(status);
        }
    }
    return LUN_OK;
}

static lun_status declare_moment(lun_trainer *t, size_t index, lun_slot slot, const char *name, void *payload)
{
    (void)slot;
    int64_t dims[4];
    const int rank = dims_of(lun_store_info(t->store, index), dims);
    return lun_safetensors_writer_declare(payload, name, LUN_ST_F32, rank, dims);
}

static lun_status write_moment(lun_trainer *t, size_t index, lun_slot slot, const char *name, void *payload)
{
    const size_t count = (size_t)lun_count(lun_store_info(t->store, index)->desc.shape);
    float *data = lun_malloc(count, sizeof *data, "a tensor");
    if (!data)
        return LUN_ERR_MEMORY;
    lun_status status = lun_store_read(t->store, index, slot, data);
    for (size_t e = 0; e < count && status == LUN_OK; e++) {
        if (!isfinite(data[e]))
            status = lun_fail(LUN_ERR_DIVERGED, "%s is no longer finite", name);
    }
    if (status == LUN_OK)
        status = lun_safetensors_writer_data(payload, data, count * sizeof *data);
    free(data);
    return status;
}

/* The losses by time step of a run that is aware of them, at the end of the optimiser's file. */
#define TIME_HISTORY "time.history" /* (steps, LUN_TIME_HISTORY) */
#define TIME_KNOWN   "time.known"   /* (steps) */

static lun_status declare_times(const lun_trainer *t, lun_safetensors_writer *writer)
{
    const int64_t dims[2] = {t->config.model.steps, LUN_TIME_HISTORY};
    if (!t->times)
        return LUN_OK;
    LUN_TRY(lun_safetensors_writer_declare(writer, TIME_HISTORY, LUN_ST_F32, 2, dims));
    return lun_safetensors_writer_declare(writer, TIME_KNOWN, LUN_ST_I32, 1, dims);
}

/* Room for a state: the history, then what is known. */
static float *times_room(const lun_trainer *t, int32_t **known)
{
    const size_t steps = (size_t)t->config.model.steps;
    float *history = lun_calloc(steps * (LUN_TIME_HISTORY + 1), sizeof *history, "the time steps' losses");
    *known = history ? lun_calloc(steps, sizeof **known, "the time steps' losses") : NULL;
    if (*known)
        return history;
    free(history);
    return NULL;
}

static lun_status write_times(lun_trainer *t, lun_safetensors_writer *writer)
{
    const size_t steps = (size_t)t->config.model.steps;
    int32_t *known = NULL;
    if (!t->times)
        return LUN_OK;
    LUN_TRY(lun_trainer_settle_times(t));
    float *history = times_room(t, &known);
    if (!history)
        return LUN_ERR_MEMORY;
    lun_time_sampler_save(t->times, history, known);
    lun_status status = lun_safetensors_writer_data(writer, history, steps * LUN_TIME_HISTORY * sizeof *history);
    if (status == LUN_OK)
        status = lun_safetensors_writer_data(writer, known, steps * sizeof *known);
    free(history);
    free(known);
    return status;
}

/* Where a tensor of the state lies in the file. */
static lun_status find_times(const lun_safetensors *file, const char *name, lun_safetensors_dtype dtype, int64_t count,
                             size_t *index)
{
    const int64_t at = lun_safetensors_find(file, name);
    const lun_safetensors_entry *entry = at < 0 ? NULL : lun_safetensors_info(file, (size_t)at);
    if (!entry || entry->dtype != dtype || entry->count != count)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: %s is missing, or of another run", lun_safetensors_path(file), name);
    *index = (size_t)at;
    return LUN_OK;
}

static lun_status load_times(lun_trainer *t, const lun_safetensors *file)
{
    const int64_t steps = t->config.model.steps;
    size_t at[2] = {0, 0};
    int32_t *known = NULL;
    if (!t->times)
        return LUN_OK;
    LUN_TRY(find_times(file, TIME_HISTORY, LUN_ST_F32, steps * LUN_TIME_HISTORY, &at[0]));
    LUN_TRY(find_times(file, TIME_KNOWN, LUN_ST_I32, steps, &at[1]));
    float *history = times_room(t, &known);
    int64_t *wide = history ? lun_calloc((size_t)steps, sizeof *wide, "the time steps' losses") : NULL;
    lun_status status = wide ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK)
        status = lun_safetensors_read_f32(file, at[0], history, (size_t)steps * LUN_TIME_HISTORY);
    if (status == LUN_OK)
        status = lun_safetensors_read_i64(file, at[1], wide, (size_t)steps);
    for (int64_t i = 0; i < steps && status == LUN_OK; i++)
        known[i] = (int32_t)wide[i];
    if (status == LUN_OK)
        status = lun_time_sampler_load(t->times, history, known);
    free(history);
    free(known);
    free(wide);
    t->waiting = -1;
    t->drawn = false;
    return status;
}

/* Metadata of the optimiser's file: batches skipped, where there are some. */
#define SKIPPED "lunette.skipped"

static lun_status write_skipped(const lun_trainer *t, lun_safetensors_writer *optimizer)
{
    char text[24];
    if (t->skipped == 0)
        return LUN_OK;
    snprintf(text, sizeof text, "%" PRIu64, t->skipped);
    return lun_safetensors_writer_metadata(optimizer, SKIPPED, text);
}

/* Far from where sample numbers would overflow. */
static lun_status read_skipped(const lun_trainer *t, const lun_safetensors *file, uint64_t *skipped)
{
    const char *text = lun_safetensors_metadata(file, SKIPPED);
    *skipped = 0;
    for (const char *c = text; c && *c; c++) {
        if (*c < '0' || *c > '9' || *skipped > UINT64_MAX / 64 / (uint64_t)t->config.batch)
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: %s \"%.40s\" is no number of batches", lun_safetensors_path(file),
                            SKIPPED, text);
        *skipped = *skipped * 10 + (uint64_t)(*c - '0');
    }
    return LUN_OK;
}

lun_status lun_trainer_write(lun_trainer *t, lun_safetensors_writer *weights, lun_safetensors_writer *optimizer)
{
    const lun_model_file_info info = lun_trainer_file_info(t);
    LUN_TRY(write_skipped(t, optimizer));
    LUN_TRY(lun_model_write(t->store, LUN_SLOT_VALUE, &info, weights));
    LUN_TRY(each_moment(t, declare_moment, optimizer));
    LUN_TRY(declare_times(t, optimizer));
    LUN_TRY(each_moment(t, write_moment, optimizer));
    return write_times(t, optimizer);
}

lun_status lun_trainer_write_average(lun_trainer *t, int index, lun_safetensors_writer *writer)
{
    lun_model_file_info info = lun_trainer_file_info(t);
    info.ema = t->config.ema_rate[index];
    return lun_model_write(t->store, (lun_slot)(LUN_SLOT_EMA + index), &info, writer);
}

static lun_status check_moment(lun_trainer *t, size_t index, lun_slot slot, const char *name, void *payload)
{
    (void)slot;
    const lun_safetensors *file = payload;
    const int64_t at = lun_safetensors_find(file, name);
    if (at < 0)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: %s is missing", lun_safetensors_path(file), name);
    int64_t dims[4];
    const int rank = dims_of(lun_store_info(t->store, index), dims);
    const lun_safetensors_entry *entry = lun_safetensors_info(file, (size_t)at);
    if (entry->dtype != LUN_ST_F32 || entry->rank != rank ||
        memcmp(entry->dims, dims, sizeof *dims * (size_t)rank) != 0)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: %s has another shape or type than this network's",
                        lun_safetensors_path(file), name);
    return LUN_OK;
}

static lun_status load_moment(lun_trainer *t, size_t index, lun_slot slot, const char *name, void *payload)
{
    const lun_safetensors *file = payload;
    const size_t count = (size_t)lun_count(lun_store_info(t->store, index)->desc.shape);
    float *data = lun_malloc(count, sizeof *data, "a tensor");
    if (!data)
        return LUN_ERR_MEMORY;
    lun_status status = lun_safetensors_read_f32(file, (size_t)lun_safetensors_find(file, name), data, count);
    for (size_t e = 0; e < count && status == LUN_OK; e++) {
        if (!isfinite(data[e]) || (slot == LUN_SLOT_V && data[e] < 0))
            status = lun_fail(LUN_ERR_CHECKPOINT, "%s: %s holds a value that Adam cannot have",
                              lun_safetensors_path(file), name);
    }
    if (status == LUN_OK)
        status = lun_store_write(t->store, index, slot, data);
    free(data);
    return status;
}

lun_status lun_trainer_load(lun_trainer *t, const char *model_path, const char *optimizer_path)
{
    lun_model_file_info info;
    LUN_TRY(lun_model_inspect(model_path, &info));
    uint64_t skipped = 0;
    if (info.step > UINT64_MAX / 4 / (uint64_t)t->config.batch)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: step %" PRIu64 " is out of range", model_path, info.step);
    lun_safetensors *file = NULL;
    LUN_TRY(lun_safetensors_open(optimizer_path, &file));
    lun_status status = each_moment(t, check_moment, file);
    if (status == LUN_OK)
        status = read_skipped(t, file, &skipped);
    if (status == LUN_OK)
        status = lun_model_load(t->store, model_path);
    if (status == LUN_OK)
        status = each_moment(t, load_moment, file);
    if (status == LUN_OK)
        status = load_times(t, file);
    lun_safetensors_close(file);
    if (status == LUN_OK)
        status = lun_store_keep_safe(t->store);
    if (status == LUN_OK) {
        t->skipped = skipped;
        const uint64_t batches = info.step * (uint64_t)t->config.accumulate;
        t->step = t->drained = info.step;
        t->tracked_before = info.batches_tracked > batches ? info.batches_tracked - batches : 0;
    }
    return status;
}

lun_status lun_trainer_load_average(lun_trainer *t, int index, const char *path)
{
    lun_model_file_info info;
    if (index < 0 || index >= t->config.ema_count)
        return lun_fail(LUN_ERR_USAGE, "there is no moving average %d", index);
    LUN_TRY(lun_model_inspect(path, &info));
    if (info.step != t->step || info.ema != t->config.ema_rate[index])
        return lun_fail(LUN_ERR_CHECKPOINT,
                        "%s is of step %" PRIu64 " and rate %g; wanted are step %" PRIu64 " and rate %g", path,
                        info.step, info.ema, t->step, t->config.ema_rate[index]);
    return lun_model_load_slot(t->store, (lun_slot)(LUN_SLOT_EMA + index), path);
}

lun_status lun_trainer_init(lun_trainer *t, const char *model_path)
{
    lun_model_file_info info;
    LUN_TRY(lun_model_inspect(model_path, &info));
    LUN_TRY(lun_model_load(t->store, model_path));
    /* Far from the end of the file's 64 bits, whatever it says. */
    t->tracked_before = info.batches_tracked < UINT64_MAX / 4 ? info.batches_tracked : 0;
    LUN_TRY(lun_store_keep_safe(t->store));
    return lun_trainer_start_averages(t);
}
