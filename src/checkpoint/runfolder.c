#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"
#include "json.h"
#include "runfolder.h"

#define STEP_NAME      "step-%08" PRIu64 ".safetensors"
#define OPTIMIZER_NAME "step-%08" PRIu64 ".optimizer.safetensors"
#define AVERAGE_NAME   "step-%08" PRIu64 ".ema-%s.safetensors"
#define AVERAGES_KEY   "lunette.averages"
#define MAX_FILES      (2 + LUN_RUNFOLDER_AVERAGES) /* of a checkpoint */
#define NO_PAIR        "0000000000000000"
#define LOG_MAX        ((size_t)1 << 30)

struct lun_runfolder {
    char *dir;
    int lock;
};

enum kind { NEITHER, WEIGHTS, OPTIMIZER, AVERAGE };

/* Strict: only the names that STEP_NAME, OPTIMIZER_NAME and AVERAGE_NAME make. `rate` may be NULL. */
static enum kind parse_name(const char *name, uint64_t *step, char rate[LUN_RATE_TEXT])
{
    char again[96];
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return NEITHER;
    errno = 0;
    const uint64_t number = strtoull(name + 5, NULL, 10);
    if (errno)
        return NEITHER;
    *step = number;
    snprintf(again, sizeof again, STEP_NAME, number);
    if (strcmp(name, again) == 0)
        return WEIGHTS;
    snprintf(again, sizeof again, OPTIMIZER_NAME, number);
    if (strcmp(name, again) == 0)
        return OPTIMIZER;
    const char *text = strstr(name, ".ema-"), *end = strstr(name, ".safetensors");
    char part[LUN_RATE_TEXT];
    double value = 0;
    if (!text || !end || end - text < 6 || end - text - 5 >= LUN_RATE_TEXT)
        return NEITHER;
    snprintf(part, sizeof part, "%.*s", (int)(end - text - 5), text + 5);
    snprintf(again, sizeof again, AVERAGE_NAME, number, part);
    if (strcmp(name, again) != 0 || !lun_rate_parse(part, &value))
        return NEITHER;
    if (rate)
        memcpy(rate, part, sizeof part);
    return AVERAGE;
}

static int compare_steps(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The steps of one kind of file in RUN/checkpoints, newest first; free(*steps). A missing folder holds none. */
static lun_status list_steps(const char *path, enum kind kind, uint64_t **steps, size_t *count)
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
        if (parse_name(entry->d_name, &step, NULL) != kind)
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
        qsort(list, used, sizeof *list, compare_steps);
    *steps = list;
    *count = used;
    return LUN_OK;
}

/* Without memory of its own: a lack of it must not look like an empty folder, nor like a full one. */
bool lun_runfolder_holds_run(const char *path)
{
    char folder[PATH_MAX];
    uint64_t step = 0;
    if (lun_file_exists_in(path, "config.json") || lun_file_exists_in(path, "log.jsonl"))
        return true;
    const int length = snprintf(folder, sizeof folder, "%s/checkpoints", path);
    if (length < 0 || (size_t)length >= sizeof folder)
        return false; /* too long for anything to be there */
    DIR *stream = lun_open_dir(folder);
    if (!stream) /* one that cannot be read may hold a run: better refused than overwritten */
        return errno != ENOENT && errno != ENOTDIR;
    const struct dirent *entry = NULL;
    bool holds = false;
    while (!holds && (errno = 0, entry = readdir(stream)) != NULL)
        holds = parse_name(entry->d_name, &step, NULL) == WEIGHTS;
    holds = holds || errno != 0;
    closedir(stream);
    return holds;
}

/* Take RUN/run.lock, or say who has it. */
static lun_status take_lock(lun_runfolder *run)
{
    struct stat st;
    char text[32] = "";
    lun_status status = LUN_OK;
    char *path = lun_format("%s/run.lock", run->dir);
    if (!path)
        return LUN_ERR_MEMORY;
    run->lock = lun_open_at(AT_FDCWD, path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOFOLLOW, 0644);
    if (run->lock < 0 || fstat(run->lock, &st) != 0) {
        status = lun_fail(LUN_ERR_STORAGE, "%s: cannot open: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        status = lun_fail(LUN_ERR_STORAGE, "%s: not a regular file", path);
    } else if (flock(run->lock, LOCK_EX | LOCK_NB) != 0) {
        const int error = errno;
        const ssize_t got = pread(run->lock, text, sizeof text - 1, 0);
        const long pid = got > 0 ? strtol(text, NULL, 10) : 0;
        if (error != EWOULDBLOCK)
            status = lun_fail(LUN_ERR_STORAGE, "%s: cannot lock: %s", path, strerror(error));
        else if (pid > 0)
            status = lun_fail(LUN_ERR_USAGE, "%s: process %ld is working in this run folder", run->dir, pid);
        else
            status = lun_fail(LUN_ERR_USAGE, "%s: another process is working in this run folder", run->dir);
    } else {
        /* The number is for people; the lock itself does not depend on it. */
        const int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
        const int error = ftruncate(run->lock, 0) != 0 ? errno : lun_write_at(run->lock, text, (size_t)length, 0);
        if (error)
            status = lun_fail(LUN_ERR_STORAGE, "%s: cannot write: %s", path, strerror(error));
    }
    free(path);
    return status;
}

static lun_status make_inside(const lun_runfolder *run, const char *name)
{
    char *path = lun_format("%s/%s", run->dir, name);
    if (!path)
        return LUN_ERR_MEMORY;
    const lun_status status = lun_make_dirs(path);
    if (status == LUN_OK)
        lun_file_sweep(path);
    free(path);
    return status;
}

lun_status lun_runfolder_open(const char *path, bool resume, lun_runfolder **out)
{
    lun_status status = LUN_OK;
    if (!*path)
        return lun_fail(LUN_ERR_USAGE, "an empty name is no run folder");
    if (resume && !lun_runfolder_holds_run(path))
        return lun_fail(LUN_ERR_USAGE, "%s: holds no run to go on with", path);
    lun_runfolder *run = lun_calloc(1, sizeof *run, "a run folder");
    if (!run)
        return LUN_ERR_MEMORY;
    run->lock = -1;
    if (!(run->dir = lun_strdup(path))) {
        status = LUN_ERR_MEMORY;
        goto fail;
    }
    for (size_t length = strlen(run->dir); length > 1 && run->dir[length - 1] == '/';)
        run->dir[--length] = 0;
    LUN_TRY_GOTO(status, fail, lun_make_dirs(run->dir));
    LUN_TRY_GOTO(status, fail, take_lock(run));
    /* Looked at under the lock: two starts at the same moment cannot both find it empty. */
    if (!resume && lun_runfolder_holds_run(run->dir)) {
        status =
            lun_fail(LUN_ERR_USAGE, "%s: already holds a run; go on with --resume or choose another folder", run->dir);
        goto fail;
    }
    LUN_TRY_GOTO(status, fail, make_inside(run, "."));
    LUN_TRY_GOTO(status, fail, make_inside(run, "samples"));
    LUN_TRY_GOTO(status, fail, make_inside(run, "checkpoints"));
    *out = run;
    return LUN_OK;
fail:
    lun_runfolder_close(run);
    return status;
}

void lun_runfolder_close(lun_runfolder *run)
{
    if (!run)
        return;
    if (run->lock >= 0)
        close(run->lock);
    free(run->dir);
    free(run);
}

const char *lun_runfolder_dir(const lun_runfolder *run)
{
    return run->dir;
}

lun_status lun_runfolder_write_text(const lun_runfolder *run, const char *name, const char *text)
{
    lun_file *file = NULL;
    char *path = lun_format("%s/%s", run->dir, name);
    if (!path)
        return LUN_ERR_MEMORY;
    lun_status status = lun_file_create(path, &file);
    free(path);
    LUN_TRY(status);
    /* A write that fails makes the commit fail. */
    lun_file_write(file, text, strlen(text));
    return lun_file_commit(file);
}

/* ---- log.jsonl ---------------------------------------------------------------------------------------- */

lun_status lun_runfolder_append_log(const lun_runfolder *run, const char *line)
{
    char *path = lun_format("%s/log.jsonl", run->dir);
    if (!path)
        return LUN_ERR_MEMORY;
    const lun_status status = lun_append_line(path, line);
    free(path);
    return status;
}

/* Does the line of `bytes` bytes (without its newline) stay? */
static lun_status keep_line(lun_json_from from, const char *line, size_t bytes, uint64_t step, bool *keep)
{
    json_t *json = NULL;
    int64_t at = 0;
    lun_status status = lun_json_parse(from, line, bytes, &lun_json_usual, &json);
    if (status == LUN_OK)
        status = lun_json_get_int(from, json, "step", 0, INT64_MAX, &at);
    json_decref(json);
    if (status == LUN_ERR_MEMORY)
        return status;
    if (status != LUN_OK)
        lun_log(LUN_LOG_WARN, "a line of the log is dropped: %s", lun_error_detail());
    *keep = status == LUN_OK && (uint64_t)at <= step;
    return LUN_OK;
}

static lun_status write_kept(const char *path, const char *text, size_t bytes)
{
    lun_file *file = NULL;
    LUN_TRY(lun_file_create(path, &file));
    lun_file_write(file, text, bytes);
    return lun_file_commit(file);
}

lun_status lun_runfolder_truncate_log(const lun_runfolder *run, uint64_t step)
{
    lun_status status = LUN_OK;
    char *text = NULL;
    size_t bytes = 0, kept = 0;
    char *path = lun_format("%s/log.jsonl", run->dir);
    if (!path)
        return LUN_ERR_MEMORY;
    if (!lun_file_exists(path))
        goto done;
    LUN_TRY_GOTO(status, done, lun_file_read(path, LOG_MAX, LUN_ERR_STORAGE, &text, &bytes));
    const lun_json_from from = {path, LUN_ERR_DATA};
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        if (!end)
            break; /* the process died while it wrote this line */
        const size_t length = (size_t)(end - text) + 1 - at;
        bool keep = false;
        LUN_TRY_GOTO(status, done, keep_line(from, text + at, length - 1, step, &keep));
        if (keep) {
            memmove(text + kept, text + at, length);
            kept += length;
        }
        at += length;
    }
    if (kept != bytes)
        status = write_kept(path, text, kept);
done:
    free(text);
    free(path);
    return status;
}

/* ---- checkpoints -------------------------------------------------------------------------------------- */

static char *weights_path(const char *dir, uint64_t step)
{
    return lun_format("%s/checkpoints/" STEP_NAME, dir, step);
}

static char *optimizer_path(const char *dir, uint64_t step)
{
    return lun_format("%s/checkpoints/" OPTIMIZER_NAME, dir, step);
}

static char *average_path(const char *dir, uint64_t step, double rate)
{
    char text[LUN_RATE_TEXT];
    if (!lun_rate_text(rate, text)) {
        lun_fail(LUN_ERR_USAGE, "%.17g is no rate of a moving average", rate);
        return NULL;
    }
    return lun_format("%s/checkpoints/" AVERAGE_NAME, dir, step, text);
}

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
    lun_status status = begin_one(weights_path(run->dir, step), step, &writers[0]);
    if (status == LUN_OK)
        status = list_averages(writers[0], rates, count);
    if (status == LUN_OK)
        status = begin_one(optimizer_path(run->dir, step), step, &writers[1]);
    for (int i = 0; i < count && status == LUN_OK; i++)
        status = begin_one(average_path(run->dir, step, rates[i]), step, &writers[2 + i]);
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
        c->average[c->averages] = average_path(dir, c->step, c->rate[c->averages]);
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
        if (parse_name(entry->d_name, &at, rate) == AVERAGE && at == step)
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
        remove_file(weights_path(dir, step));
    remove_averages(dir, step);
    remove_file(optimizer_path(dir, step)); /* last, so that prune() finds the step again */
}

/* Keep the newest `keep` up to `step`; those beyond it (a damaged future that a resumed run overwrites) are not
 * counted. Failing to delete is worth a warning and no more. */
static void prune(const lun_runfolder *run, uint64_t step, int keep)
{
    uint64_t *weights = NULL, *optimizers = NULL;
    size_t count = 0, lone = 0;
    int seen = 0;
    if (list_steps(run->dir, WEIGHTS, &weights, &count) != LUN_OK ||
        list_steps(run->dir, OPTIMIZER, &optimizers, &lone) != LUN_OK) {
        lun_log(LUN_LOG_WARN, "old checkpoints are kept: %s", lun_error_detail());
        free(weights);
        return;
    }
    for (size_t i = 0; i < lone; i++) {
        if (optimizers[i] < step && !bsearch(&optimizers[i], weights, count, sizeof *weights, compare_steps))
            remove_step(run->dir, optimizers[i], false);
    }
    for (size_t i = 0; i < count; i++) {
        if (weights[i] <= step && ++seen > lun_max_i64(keep, 1))
            remove_step(run->dir, weights[i], true);
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
    lun_checkpoint written = {
        .step = step, .weights = weights_path(run->dir, step), .optimizer = optimizer_path(run->dir, step)};
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
    const lun_status again = status == LUN_OK ? check_files(run->dir, &written) : LUN_OK;
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
    LUN_TRY(list_steps(path, WEIGHTS, &steps, &count));
    lun_status status = LUN_OK;
    size_t i = 0;
    for (; i < count; i++) {
        found = (lun_checkpoint){.step = steps[i],
                                 .weights = weights_path(path, steps[i]),
                                 .optimizer = with_optimizer ? optimizer_path(path, steps[i]) : NULL};
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
