#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "file.h"

#define BUFFER_BYTES 65536
/* One write() takes at most 2^31 - 4096 bytes on Linux; a round number below it is asked for. */
#define WRITE_MAX ((size_t)1 << 30)

struct lun_file {
    char *path;
    const char *name; /* in path, after the last '/' */
    char *temp;       /* relative to `dir` */
    int dir, fd;
    int error;         /* errno of the first failure */
    const char *doing; /* what failed */
    uint64_t written;  /* bytes handed to the kernel */
    size_t fill;
    unsigned char buffer[BUFFER_BYTES];
};

/* close() on Linux releases the descriptor also when it fails with EINTR: never called twice. */
static int close_fd(int *fd)
{
    const int old = *fd;
    *fd = -1;
    if (old < 0 || close(old) == 0 || errno == EINTR)
        return 0;
    return errno;
}

static int sync_fd(int fd)
{
    while (fsync(fd) != 0) {
        if (errno != EINTR)
            return errno;
    }
    return 0;
}

/* Some file systems refuse to sync a directory (EINVAL); there is nothing to wait for on them. */
static int sync_dir(int fd)
{
    const int error = sync_fd(fd);
    return error == EINVAL || error == ENOTSUP ? 0 : error;
}

static lun_status fail_errno(const char *path, const char *doing, int error)
{
    return lun_fail(LUN_ERR_STORAGE, "%s: cannot %s: %s", path, doing, strerror(error));
}

int lun_open_at(int dir, const char *name, int flags, mode_t mode)
{
    int fd;
    do
        fd = openat(dir, name, flags | O_CLOEXEC | O_NOCTTY, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

DIR *lun_open_dir(const char *path)
{
    const int fd = lun_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK, 0);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !stream) {
        const int error = errno;
        close(fd);
        errno = error;
    }
    return stream;
}

/* The directory part of `path` ("." without one) in fresh memory. */
static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return lun_strdup(".");
    const size_t length = slash == path ? 1 : (size_t)(slash - path);
    char *dir = lun_malloc(length + 1, 1, "a path");
    if (dir) {
        memcpy(dir, path, length);
        dir[length] = 0;
    }
    return dir;
}

/* Remove the temporary file `name` unless a living writer holds its lock; true if it is gone. */
static bool remove_if_stale(int dir, const char *name)
{
    const int fd = lun_open_at(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return errno == ENOENT;
    struct stat st;
    const bool gone =
        fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(dir, name, 0) == 0;
    close(fd);
    return gone;
}

/* Sweep `.NAME.tmp.PID` of processes that no longer live: of one NAME, given the prefix up to PID, or, with NULL, of
 * all. Best effort: leftovers are ignored by every reader. */
static void sweep(int dir, const char *prefix)
{
    const int copy = lun_open_at(dir, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *stream = copy < 0 ? NULL : fdopendir(copy);
    if (!stream) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        const char *name = entry->d_name, *digits = strrchr(name, '.');
        char *end = NULL;
        if (*name != '.' || !digits || digits - name < 6 || strncmp(digits - 4, ".tmp", 4) != 0)
            continue;
        digits++;
        if (prefix &&
            (strlen(prefix) != (size_t)(digits - name) || strncmp(name, prefix, (size_t)(digits - name)) != 0))
            continue;
        errno = 0;
        const long pid = strtol(digits, &end, 10);
        if (errno || *digits < '0' || *digits > '9' || *end || pid <= 0 || pid > INT_MAX)
            continue;
        /* Both tests: the lock protects a writer on another machine, the process one that has not locked yet. */
        if (kill((pid_t)pid, 0) != 0 && errno == ESRCH)
            remove_if_stale(dir, name);
    }
    closedir(stream);
}

void lun_file_sweep(const char *directory)
{
    int dir = lun_open_at(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0);
    if (dir >= 0) {
        sweep(dir, NULL);
        close_fd(&dir);
    }
}

static void release(lun_file *file)
{
    if (file) {
        close_fd(&file->fd);
        close_fd(&file->dir);
        free(file->temp);
        free(file->path);
        free(file);
    }
}

lun_status lun_file_create(const char *path, lun_file **out)
{
    lun_status status = LUN_ERR_MEMORY;
    struct stat st;
    char *dir = NULL, *prefix = NULL;
    lun_file *file = lun_calloc(1, sizeof *file, "a file buffer");
    if (!file)
        return LUN_ERR_MEMORY;
    file->dir = file->fd = -1;
    if (!(file->path = lun_strdup(path)) || !(dir = directory_of(path)))
        goto fail;
    const char *slash = strrchr(file->path, '/');
    file->name = slash ? slash + 1 : file->path;
    if (!*file->name || strcmp(file->name, ".") == 0 || strcmp(file->name, "..") == 0) {
        status = lun_fail(LUN_ERR_STORAGE, "'%s' is not a file name", path);
        goto fail;
    }
    file->dir = lun_open_at(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
    if (file->dir < 0) {
        status = fail_errno(path, "open its directory", errno);
        goto fail;
    }
    if (fstatat(file->dir, file->name, &st, 0) == 0 && !S_ISREG(st.st_mode)) {
        status = lun_fail(LUN_ERR_STORAGE, "%s: exists and is not a regular file; not replaced", path);
        goto fail;
    }
    if (!(prefix = lun_format(".%s.tmp.", file->name)) || !(file->temp = lun_format("%s%ld", prefix, (long)getpid())))
        goto fail;
    sweep(file->dir, prefix);
    for (int attempt = 0; file->fd < 0; attempt++) {
        file->fd = lun_open_at(file->dir, file->temp, O_WRONLY | O_CREAT | O_EXCL, 0644);
        /* Our own process number on it: a dead process had it before us, or another thread is writing this path. */
        if (file->fd < 0 && (errno != EEXIST || attempt > 0 || !remove_if_stale(file->dir, file->temp))) {
            status = fail_errno(path, "create a temporary file beside it", errno);
            goto fail;
        }
    }
    /* A file system without locks still gets its file; only the stale test is weaker there. */
    (void)flock(file->fd, LOCK_EX | LOCK_NB);
    free(dir);
    free(prefix);
    *out = file;
    return LUN_OK;
fail:
    free(dir);
    free(prefix);
    release(file);
    return status;
}

static lun_status failed(lun_file *file, const char *doing, int error)
{
    if (!file->error) {
        file->error = error;
        file->doing = doing;
    }
    return fail_errno(file->path, file->doing, file->error);
}

int lun_write_at(int fd, const void *from, size_t bytes, uint64_t offset)
{
    const unsigned char *data = from;
    while (bytes) {
        const ssize_t done = pwrite(fd, data, bytes < WRITE_MAX ? bytes : WRITE_MAX, (off_t)offset);
        if (done < 0) {
            if (errno == EINTR)
                continue;
            return errno;
        }
        if (done == 0)
            return ENOSPC;
        data += done;
        bytes -= (size_t)done;
        offset += (uint64_t)done;
    }
    return 0;
}

lun_status lun_file_make_private(lun_file *file)
{
    return fchmod(file->fd, 0600) == 0 ? LUN_OK : failed(file, "change the mode", errno);
}

static lun_status put(lun_file *file, const unsigned char *data, size_t bytes)
{
    const int error = lun_write_at(file->fd, data, bytes, file->written);
    if (error)
        return failed(file, "write", error);
    file->written += bytes;
    return LUN_OK;
}

static lun_status flush(lun_file *file)
{
    const size_t fill = file->fill;
    file->fill = 0;
    return fill ? put(file, file->buffer, fill) : LUN_OK;
}

lun_status lun_file_write(lun_file *file, const void *data, size_t bytes)
{
    if (file->error)
        return failed(file, NULL, 0);
    if (bytes > BUFFER_BYTES - file->fill) {
        LUN_TRY(flush(file));
        if (bytes >= BUFFER_BYTES)
            return put(file, data, bytes);
    }
    if (bytes)
        memcpy(file->buffer + file->fill, data, bytes);
    file->fill += bytes;
    return LUN_OK;
}

lun_status lun_file_patch(lun_file *file, uint64_t offset, const void *data, size_t bytes)
{
    if (file->error)
        return failed(file, NULL, 0);
    LUN_TRY(flush(file));
    if (offset > file->written || bytes > file->written - offset)
        return lun_fail(LUN_ERR_INTERNAL, "%s: a patch beyond what was written", file->path);
    const int error = lun_write_at(file->fd, data, bytes, offset);
    return error ? failed(file, "write", error) : LUN_OK;
}

uint64_t lun_file_size(const lun_file *file)
{
    return file->written + file->fill;
}

const char *lun_file_path(const lun_file *file)
{
    return file->path;
}

lun_status lun_file_commit(lun_file *file)
{
    lun_status status = file->error ? failed(file, NULL, 0) : flush(file);
    int error = 0;
    if (status == LUN_OK && (error = sync_fd(file->fd)) != 0)
        status = failed(file, "sync", error);
    if (status == LUN_OK && (error = close_fd(&file->fd)) != 0)
        status = failed(file, "close", error);
    if (status == LUN_OK && renameat(file->dir, file->temp, file->dir, file->name) != 0)
        status = failed(file, "rename the temporary file to it", errno);
    if (status != LUN_OK) {
        lun_file_discard(file);
        return status;
    }
    if ((error = sync_dir(file->dir)) != 0)
        status = failed(file, "sync its directory", error);
    release(file);
    return status;
}

lun_status lun_file_commit_open(lun_file *file, int *fd)
{
    int copy = lun_open_at(file->dir, file->temp, O_RDONLY, 0);
    if (copy < 0)
        failed(file, "open the temporary file", errno); /* sticks */
    const lun_status status = lun_file_commit(file);
    if (status == LUN_OK)
        *fd = copy;
    else
        close_fd(&copy);
    return status;
}

void lun_file_discard(lun_file *file)
{
    if (file)
        unlinkat(file->dir, file->temp, 0);
    release(file);
}

lun_status lun_file_read(const char *path, size_t max_bytes, lun_status error_kind, char **text, size_t *bytes)
{
    lun_status status = LUN_OK;
    struct stat st;
    char *data = NULL;
    size_t size = 0, got = 0;
    /* O_NONBLOCK: opening a pipe must not wait for a writer. It changes nothing for a regular file. */
    const int fd = lun_open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return lun_fail(error_kind, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) {
        status = lun_fail(error_kind, "%s: cannot inspect: %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(st.st_mode)) {
        status = lun_fail(error_kind, "%s: not a regular file", path);
        goto done;
    }
    if (st.st_size < 0 || (uintmax_t)st.st_size > max_bytes || (uintmax_t)st.st_size >= SIZE_MAX) {
        status = lun_fail(error_kind, "%s: %jd bytes, at most %zu are expected", path, (intmax_t)st.st_size, max_bytes);
        goto done;
    }
    size = (size_t)st.st_size;
    if (!(data = lun_malloc(size + 1, 1, "a file"))) {
        status = LUN_ERR_MEMORY;
        goto done;
    }
    while (got < size) {
        const ssize_t count = read(fd, data + got, size - got < WRITE_MAX ? size - got : WRITE_MAX);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            status = lun_fail(error_kind, "%s: cannot read: %s", path, strerror(errno));
            goto done;
        }
        if (count == 0) {
            status = lun_fail(error_kind, "%s: became shorter while being read", path);
            goto done;
        }
        got += (size_t)count;
    }
    data[size] = 0;
    *text = data;
    if (bytes)
        *bytes = size;
    data = NULL;
done:
    free(data);
    close(fd);
    return status;
}

/* Of a stat() that failed: nothing is there, and nothing can be. */
static bool is_missing(int error)
{
    return error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG;
}

lun_status lun_path_look(const char *path, lun_status error_kind, lun_path_kind *kind)
{
    struct stat st;
    if (stat(path, &st) == 0)
        *kind = S_ISDIR(st.st_mode) ? LUN_PATH_FOLDER : S_ISREG(st.st_mode) ? LUN_PATH_FILE : LUN_PATH_OTHER;
    else if (is_missing(errno))
        *kind = LUN_PATH_MISSING;
    else
        return lun_fail(error_kind, "%s: cannot tell what it is: %s", path, strerror(errno));
    return LUN_OK;
}

/* 0: there is an entry; else an errno. */
static int look_for(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 ? 0 : errno;
}

static int look_in(const char *folder, const char *name)
{
    char path[PATH_MAX];
    const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length > 0 && (size_t)length < sizeof path ? look_for(path) : ENAMETOOLONG;
}

bool lun_file_exists(const char *path)
{
    return !is_missing(look_for(path));
}

bool lun_file_exists_in(const char *folder, const char *name)
{
    return !is_missing(look_in(folder, name));
}

static lun_status told(int error, const char *folder, const char *slash, const char *name, bool *there)
{
    *there = error == 0;
    if (error == 0 || is_missing(error))
        return LUN_OK;
    return lun_fail(LUN_ERR_STORAGE, "%s%s%s: cannot tell whether it is there: %s", folder, slash, name,
                    strerror(error));
}

lun_status lun_file_look(const char *path, bool *there)
{
    return told(look_for(path), path, "", "", there);
}

lun_status lun_file_look_in(const char *folder, const char *name, bool *there)
{
    return told(look_in(folder, name), folder, "/", name, there);
}

/* One level; its entry in the parent is synced, for a file inside is lost with it. */
static lun_status make_dir(const char *path)
{
    struct stat st;
    if (mkdir(path, 0755) == 0) {
        char *parent = directory_of(path);
        if (!parent)
            return LUN_ERR_MEMORY;
        const int fd = lun_open_at(AT_FDCWD, parent, O_RDONLY | O_DIRECTORY, 0);
        free(parent);
        const int error = fd < 0 ? 0 : sync_dir(fd);
        if (fd >= 0)
            close(fd);
        return error ? fail_errno(path, "sync the directory above it", error) : LUN_OK;
    }
    const int error = errno;
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return LUN_OK;
        return lun_fail(LUN_ERR_STORAGE, "%s: exists and is not a directory", path);
    }
    return fail_errno(path, "make the directory", error);
}

lun_status lun_make_dirs(const char *path)
{
    if (!*path)
        return lun_fail(LUN_ERR_STORAGE, "an empty name is no directory");
    char *copy = lun_strdup(path);
    if (!copy)
        return LUN_ERR_MEMORY;
    lun_status status = LUN_OK;
    size_t length = strlen(copy);
    while (length > 1 && copy[length - 1] == '/')
        copy[--length] = 0;
    for (char *p = copy + 1; *p && status == LUN_OK; p++) {
        if (*p == '/' && p[-1] != '/') {
            *p = 0;
            status = make_dir(copy);
            *p = '/';
        }
    }
    if (status == LUN_OK)
        status = make_dir(copy);
    free(copy);
    return status;
}

lun_status lun_append_line(const char *path, const char *line)
{
    struct stat st;
    lun_status status = LUN_OK;
    if (strchr(line, '\n'))
        return lun_fail(LUN_ERR_INTERNAL, "%s: a log line with a newline inside", path);
    const size_t length = strlen(line) + 1;
    char *text = lun_malloc(length, 1, "a log line");
    if (!text)
        return LUN_ERR_MEMORY;
    memcpy(text, line, length - 1);
    text[length - 1] = '\n';
    const int fd = lun_open_at(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0644);
    if (fd < 0 || fstat(fd, &st) != 0) {
        status = fail_errno(path, "open", errno);
    } else if (!S_ISREG(st.st_mode)) {
        status = lun_fail(LUN_ERR_STORAGE, "%s: not a regular file", path);
    } else {
        size_t done = 0;
        while (done < length && status == LUN_OK) {
            const ssize_t wrote = write(fd, text + done, length - done);
            if (wrote > 0)
                done += (size_t)wrote;
            else if (wrote == 0 || errno != EINTR)
                status = fail_errno(path, "append a line", wrote == 0 ? ENOSPC : errno);
        }
        if (done > 0 && done < length && ftruncate(fd, st.st_size) != 0)
            status = fail_errno(path, "take half a line back", errno);
    }
    if (fd >= 0 && close(fd) != 0 && errno != EINTR && status == LUN_OK)
        status = fail_errno(path, "close", errno);
    free(text);
    return status;
}
