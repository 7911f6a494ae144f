/* The run folder, its lock and its log: see runfolder.h. Its checkpoints are in checkpoints.c. */
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
#include "checkpoint_names.h"
#include "json.h"

#define LOG_MAX ((size_t)1 << 30)

struct lun_runfolder {
    char *dir;
    int lock;
};

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
        holds = lun_checkpoint_name(entry->d_name, &step, NULL) == LUN_FILE_WEIGHTS;
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
