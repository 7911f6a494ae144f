/* Checkpoints of a run: written, found again, and the old ones removed. See runfolder.h. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"
#include "checkpoint_names.h"
#include "json.h"

#define AVERAGES_KEY "lunette.averages"
#define MAX_FILES    (2 + LUN_RUNFOLDER_AVERAGES) /* of a checkpoint */
#define NO_PAIR      "0000000000000000"

static lun_status begin_one(char *path, uint64_t step, lun_safetensors_writer **out)
{
    char number[24];
    lun_safetensors_writer *writer = NULL;
    if (!path)
        return LUN_ERR_MEMORY;
    lun_status status = lun_safetensors_writer_create(path, &writer);
    free(path);
    LUN_TRY(status);
    snprintf(number, sizeof number, "%" PRIu64, step);
    status = lun_safetensors_writer_metadata(writer, "lunette.step", number);
    if (status == LUN_OK)
        status = lun_safetensors_writer_metadata(writer, "lunette.pair", NO_PAIR);
    if (status != LUN_OK) {
        lun_safetensors_writer_discard(writer);
        return status;
    }
    *out = writer;
    return LUN_OK;
}

lun_status lun_runfolder_checkpoint_begin(const lun_runfolder *run, uint64_t step, lun_safetensors_writer **weights,
                                          lun_safetensors_writer **optimizer)
{
    return lun_runfolder_checkpoint_begin_with(run, step, NULL, 0, weights, optimizer, NULL);
}

/* Into the weights' metadata, so that whoever reads them knows what belongs to them. */
static lun_status list_averages(lun_safetensors_writer *weights, const double *rates, int count)
{
    char list[LUN_RUNFOLDER_AVERAGES * LUN_RATE_TEXT] = "", text[LUN_RATE_TEXT];
    for (int i = 0; i < count; i++) {
        if (!lun_rate_text(rates[i], text))
            return lun_fail(LUN_ERR_USAGE, "%.17g is no rate of a moving average", rates[i]);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? " " : "", text);
    }
    return count ? lun_safetensors_writer_metadata(weights, AVERAGES_KEY, list) : LUN_OK;
}

lun_status lun_runfolder_checkpoint_begin_with(const lun_runfolder *run, uint64_t step, const double *rates, int count,
                                               lun_safetensors_writer **weights, lun_safetensors_writer **optimizer,
                                               lun_safetensors_writer **averages)
{
    lun_safetensors_writer *writers[MAX_FILES] = {NULL};
    if (count < 0 || count > LUN_RUNFOLDER_AVERAGES)
        return lun_fail(LUN_ERR_USAGE, "a checkpoint with %d moving averages", count);
    lun_status status = begin_one(lun_checkpoint_weights(lun_runfolder_dir(run), step), step, &writers[0]);
    if (status == LUN_OK)
        status = list_averages(writers[0], rates, count);
    if (status == LUN_OK)
        status = begin_one(lun_checkpoint_optimizer(lun_runfolder_dir(run), step), step, &writers[1]);
    for (int i = 0; i < count && status == LUN_OK; i++)
        status = begin_one(lun_checkpoint_average(lun_runfolder_dir(run), step, rates[i]), step, &writers[2 + i]);
    if (status != LUN_OK) {
        for (int i = 0; i < MAX_FILES; i++)
            lun_safetensors_writer_discard(writers[i]);
        return status;
    }
    *weights = writers[0];
    *optimizer = writers[1];
    for (int i = 0; i < count; i++)
        averages[i] = writers[2 + i];
    return LUN_OK;
}

static lun_status set_pair(uint64_t step, lun_safetensors_writer *const *writers, int count)
{
    uint64_t parts[1 + MAX_FILES] = {step};
    char pair[17];
    for (int i = 0; i < count; i++)
        LUN_TRY(lun_safetensors_writer_digest(writers[i], &parts[1 + i]));
    snprintf(pair, sizeof pair, "%016" PRIx64, lun_hash(LUN_HASH_START, parts, sizeof *parts * (size_t)(1 + count)));
    for (int i = 0; i < count; i++)
        LUN_TRY(lun_safetensors_writer_metadata(writers[i], "lunette.pair", pair));
    return LUN_OK;
}

lun_status lun_checkpoint_check_pair(const lun_safetensors *weights, const lun_safetensors *optimizer)
{
    static const char *const keys[] = {"lunette.step", "lunette.pair"};
    for (size_t i = 0; i < LUN_COUNT(keys); i++) {
        const char *a = lun_safetensors_metadata(weights, keys[i]), *b = lun_safetensors_metadata(optimizer, keys[i]);
        if (!a || !b || strcmp(a, b) != 0)
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: does not belong to %s: %s is %s and %s",
                            lun_safetensors_path(optimizer), lun_safetensors_path(weights), keys[i], b ? b : "missing",
                            a ? a : "missing");
    }
    return LUN_OK;
}

static lun_status check_step(const lun_safetensors *file, uint64_t step)
{
    char number[24];
    const char *value = lun_safetensors_metadata(file, "lunette.step");
    snprintf(number, sizeof number, "%" PRIu64, step);
    if (!value || strcmp(value, number) != 0)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: lunette.step in its metadata is %s", lun_safetensors_path(file),
                        value ? value : "missing");
    return LUN_OK;
}

/* A file beside the weights: every byte, the step and the pair. */
static lun_status check_beside(const lun_safetensors *weights, const char *path)
{
    lun_safetensors *file = NULL;
    LUN_TRY(lun_safetensors_open(path, &file));
    lun_status status = lun_checkpoint_check_pair(weights, file);
    if (status == LUN_OK)
        status = lun_safetensors_verify(file, 1);
    lun_safetensors_close(file);
    return status;
}

/* Which averages the weights file says there are; their paths into `c`. */
static lun_status find_averages(const lun_safetensors *weights, const char *dir, lun_checkpoint *c)
{
    const char *at = lun_safetensors_metadata(weights, AVERAGES_KEY);
    while (at && *at) {
        char text[LUN_RATE_TEXT];
        const size_t length = strcspn(at, " ");
        snprintf(text, sizeof text, "%.*s", length < sizeof text ? (int)length : 0, at);
        if (c->averages == LUN_RUNFOLDER_AVERAGES || !lun_rate_parse(text, &c->rate[c->averages]))
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: " AVERAGES_KEY " in its metadata is no list of rates",
                            lun_safetensors_path(weights));
        c->average[c->averages] = lun_checkpoint_average(dir, c->step, c->rate[c->averages]);
        if (!c->average[c->averages])
            return LUN_ERR_MEMORY;
        c->averages++;
        at += length + (at[length] == ' ');
    }
    return LUN_OK;
}

/* Every file of a checkpoint, the optimiser's unless that is NULL; finds the averages. */
static lun_status check_files(const char *dir, lun_checkpoint *c)
{
    lun_safetensors *weights = NULL;
    lun_status status = LUN_OK;
    LUN_TRY_GOTO(status, done, lun_safetensors_open(c->weights, &weights));
    LUN_TRY_GOTO(status, done, check_step(weights, c->step));
    if (c->optimizer)
        LUN_TRY_GOTO(status, done, check_beside(weights, c->optimizer));
    LUN_TRY_GOTO(status, done, lun_safetensors_verify(weights, 1));
    LUN_TRY_GOTO(status, done, find_averages(weights, dir, c));
    for (int i = 0; i < c->averages; i++)
        LUN_TRY_GOTO(status, done, check_beside(weights, c->average[i]));
done:
    lun_safetensors_close(weights);
    return status;
}

static void remove_file(char *path)
{
    if (path && unlink(path) != 0 && errno != ENOENT)
        lun_log(LUN_LOG_WARN, "%s: cannot delete: %s", path, strerror(errno));
    free(path);
}

/* The averages of a step, whatever their rates are. */
static void remove_averages(const char *dir, uint64_t step)
{
    char *folder = lun_format("%s/checkpoints", dir), rate[LUN_RATE_TEXT];
    DIR *stream = folder ? lun_open_dir(folder) : NULL;
    for (struct dirent *entry; stream && (entry = readdir(stream)) != NULL;) {
        uint64_t at = 0;
        if (lun_checkpoint_name(entry->d_name, &at, rate) == LUN_FILE_AVERAGE && at == step)
            remove_file(lun_format("%s/%s", folder, entry->d_name));
    }
    if (stream)
        closedir(stream);
    free(folder);
}

static void remove_step(const char *dir, uint64_t step, bool weights)
{
    /* The weights first: what a crash leaves in between are lone files, which nobody reads. */
    if (weights)
        remove_file(lun_checkpoint_weights(dir, step));
    remove_averages(dir, step);
    remove_file(lun_checkpoint_optimizer(dir, step)); /* last, so that prune() finds the step again */
}

/* Keep the newest `keep` up to `step`; those beyond it (a damaged future that a resumed run overwrites) are not
 * counted. Failing to delete is worth a warning and no more. */
static void prune(const lun_runfolder *run, uint64_t step, int keep)
{
    uint64_t *weights = NULL, *optimizers = NULL;
    size_t count = 0, lone = 0;
    int seen = 0;
    if (lun_checkpoint_list(lun_runfolder_dir(run), LUN_FILE_WEIGHTS, &weights, &count) != LUN_OK ||
        lun_checkpoint_list(lun_runfolder_dir(run), LUN_FILE_OPTIMIZER, &optimizers, &lone) != LUN_OK) {
        lun_log(LUN_LOG_WARN, "old checkpoints are kept: %s", lun_error_detail());
        free(weights);
        return;
    }
    for (size_t i = 0; i < lone; i++) {
        if (optimizers[i] < step && !bsearch(&optimizers[i], weights, count, sizeof *weights, lun_checkpoint_newer))
            remove_step(lun_runfolder_dir(run), optimizers[i], false);
    }
    for (size_t i = 0; i < count; i++) {
        if (weights[i] <= step && ++seen > lun_max_i64(keep, 1))
            remove_step(lun_runfolder_dir(run), weights[i], true);
    }
    free(weights);
    free(optimizers);
}

lun_status lun_runfolder_checkpoint_commit(const lun_runfolder *run, uint64_t step, lun_safetensors_writer *weights,
                                           lun_safetensors_writer *optimizer, int keep)
{
    return lun_runfolder_checkpoint_commit_with(run, step, weights, optimizer, NULL, 0, keep);
}

lun_status lun_runfolder_checkpoint_commit_with(const lun_runfolder *run, uint64_t step,
                                                lun_safetensors_writer *weights, lun_safetensors_writer *optimizer,
                                                lun_safetensors_writer *const *averages, int count, int keep)
{
    lun_safetensors_writer *writers[MAX_FILES] = {weights, optimizer};
    const int all = 2 + count;
    lun_checkpoint written = {.step = step,
                              .weights = lun_checkpoint_weights(lun_runfolder_dir(run), step),
                              .optimizer = lun_checkpoint_optimizer(lun_runfolder_dir(run), step)};
    for (int i = 0; i < count; i++)
        writers[2 + i] = averages[i];
    lun_status status = written.weights && written.optimizer ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK)
        status = set_pair(step, writers, all);
    for (int i = 1; i <= all; i++) { /* the weights last */
        lun_safetensors_writer *writer = writers[i % all];
        if (status == LUN_OK)
            status = lun_safetensors_writer_commit(writer);
        else
            lun_safetensors_writer_discard(writer);
    }
    const lun_status again = status == LUN_OK ? check_files(lun_runfolder_dir(run), &written) : LUN_OK;
    if (again != LUN_OK)
        status = lun_fail(again == LUN_ERR_MEMORY ? again : LUN_ERR_STORAGE,
                          "a checkpoint just written does not read back: %s", lun_error_detail());
    if (status == LUN_OK)
        prune(run, step, keep);
    lun_checkpoint_free(&written);
    return status;
}

void lun_checkpoint_free(lun_checkpoint *checkpoint)
{
    if (checkpoint) {
        free(checkpoint->weights);
        free(checkpoint->optimizer);
        for (int i = 0; i < checkpoint->averages; i++)
            free(checkpoint->average[i]);
        *checkpoint = (lun_checkpoint){.step = 0};
    }
}

lun_status lun_runfolder_newest(const char *path, bool with_optimizer, lun_checkpoint *out)
{
    uint64_t *steps = NULL;
    size_t count = 0;
    lun_checkpoint found = {.step = 0};
    LUN_TRY(lun_checkpoint_list(path, LUN_FILE_WEIGHTS, &steps, &count));
    lun_status status = LUN_OK;
    size_t i = 0;
    for (; i < count; i++) {
        found = (lun_checkpoint){.step = steps[i],
                                 .weights = lun_checkpoint_weights(path, steps[i]),
                                 .optimizer = with_optimizer ? lun_checkpoint_optimizer(path, steps[i]) : NULL};
        if (!found.weights || (with_optimizer && !found.optimizer))
            status = LUN_ERR_MEMORY;
        else
            status = check_files(path, &found);
        if (status == LUN_OK)
            break;
        lun_checkpoint_free(&found);
        if (status == LUN_ERR_MEMORY)
            break;
        lun_log(LUN_LOG_WARN, "a checkpoint is passed over: %s", lun_error_detail());
    }
    free(steps);
    if (status == LUN_ERR_MEMORY)
        return status;
    if (count && i == count)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: none of its %zu checkpoints can be used (the oldest: %s)", path, count,
                        lun_error_detail());
    *out = found;
    return LUN_OK;
}
