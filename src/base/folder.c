#include "folder.h"

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

#define MAX_DEPTH 8 /* of what is removed; more is not made here */

struct lun_folder {
    char *path;   /* without slashes at the end */
    char *parent; /* directory of it */
    char *place;
    int fd; /* of the place, which it locks */
};

static lun_status fail_errno(const char *path, const char *doing)
{
    return lun_fail(LUN_ERR_STORAGE, "%s: cannot %s: %s", path, doing, strerror(errno));
}

/* Everything below and the directory itself; links are removed and not followed. */
static void remove_tree(int parent, const char *name, int depth)
{
    const int fd = lun_open_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, entry->d_name, 0) != 0 && depth < MAX_DEPTH)
            remove_tree(fd, entry->d_name, depth + 1);
    }
    closedir(stream);
    (void)unlinkat(parent, name, AT_REMOVEDIR);
}

/* Unless a writer holds its lock. */
static void remove_unlocked(int parent, const char *name)
{
    const int fd = lun_open_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        remove_tree(parent, name, 0);
    if (fd >= 0)
        close(fd);
}

/* `.NAME.tmp.PID` of processes that no longer live, unless one elsewhere holds the lock. */
static void sweep(const lun_folder *folder, const char *prefix)
{
    const size_t length = strlen(prefix);
    DIR *stream = lun_open_dir(folder->parent);
    for (struct dirent *entry; stream && (entry = readdir(stream)) != NULL;) {
        char *end = NULL;
        if (strncmp(entry->d_name, prefix, length) != 0)
            continue;
        errno = 0;
        const long pid = strtol(entry->d_name + length, &end, 10);
        if (errno || entry->d_name[length] < '0' || entry->d_name[length] > '9' || *end || pid <= 0 || pid > INT_MAX ||
            (kill((pid_t)pid, 0) == 0 || errno != ESRCH))
            continue;
        remove_unlocked(dirfd(stream), entry->d_name);
    }
    if (stream)
        closedir(stream);
}

static void release(lun_folder *folder)
{
    if (!folder)
        return;
    if (folder->fd >= 0)
        close(folder->fd);
    free(folder->path);
    free(folder->parent);
    free(folder->place);
    free(folder);
}

static lun_status make(lun_folder *folder, const char *path)
{
    LUN_TRY((folder->path = lun_strdup(path)) != NULL ? LUN_OK : LUN_ERR_MEMORY);
    size_t length = strlen(folder->path);
    while (length > 1 && folder->path[length - 1] == '/')
        folder->path[--length] = '\0';
    char *slash = strrchr(folder->path, '/');
    const char *name = slash ? slash + 1 : folder->path;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return lun_fail(LUN_ERR_STORAGE, "'%s' is not a name for a new folder", path);
    folder->parent = slash == folder->path ? lun_strdup("/")
                     : slash               ? lun_format("%.*s", (int)(slash - folder->path), folder->path)
                                           : lun_strdup(".");
    char *prefix = lun_format(".%s.tmp.", name);
    if (folder->parent && prefix)
        folder->place = lun_format("%s/%s%ld", folder->parent, prefix, (long)getpid());
    if (!folder->place) {
        free(prefix);
        return LUN_ERR_MEMORY;
    }
    sweep(folder, prefix);
    free(prefix);
    /* 0755 less the umask, as lun_make_dirs does. */
    int made = mkdir(folder->place, 0755);
    if (made != 0 && errno == EEXIST) { /* ours, of a folder that could not be discarded */
        remove_unlocked(AT_FDCWD, folder->place);
        made = mkdir(folder->place, 0755);
    }
    if (made != 0)
        return fail_errno(folder->path, "create a temporary folder beside it");
    folder->fd = lun_open_at(AT_FDCWD, folder->place, O_RDONLY | O_DIRECTORY, 0);
    if (folder->fd < 0) {
        const lun_status status = fail_errno(folder->path, "open the temporary folder beside it");
        (void)rmdir(folder->place);
        return status;
    }
    (void)flock(folder->fd, LOCK_EX | LOCK_NB);
    return LUN_OK;
}

lun_status lun_folder_create(const char *path, lun_folder **out)
{
    lun_folder *folder = lun_calloc(1, sizeof *folder, "a folder");
    if (!folder)
        return LUN_ERR_MEMORY;
    folder->fd = -1;
    const lun_status status = make(folder, path);
    if (status != LUN_OK) {
        release(folder);
        return status;
    }
    *out = folder;
    return LUN_OK;
}

const char *lun_folder_place(const lun_folder *folder)
{
    return folder->place;
}

lun_status lun_folder_add(lun_folder *folder, const char *name)
{
    return mkdirat(folder->fd, name, 0755) == 0 ? LUN_OK : fail_errno(folder->path, "create a folder in it");
}

/* Some file systems refuse to sync a directory (EINVAL); there is nothing to wait for on them. */
static bool synced(int fd)
{
    while (fsync(fd) != 0)
        if (errno != EINTR)
            return errno == EINVAL || errno == ENOTSUP;
    return true;
}

lun_status lun_folder_commit(lun_folder *folder)
{
    lun_status status = LUN_OK;
    if (!synced(folder->fd))
        status = fail_errno(folder->path, "sync it");
    else if (rename(folder->place, folder->path) != 0)
        status = fail_errno(folder->path, "rename the temporary folder to it");
    if (status != LUN_OK) {
        lun_folder_discard(folder);
        return status;
    }
    const int parent = lun_open_at(AT_FDCWD, folder->parent, O_RDONLY | O_DIRECTORY, 0);
    if (parent < 0 || !synced(parent))
        status = fail_errno(folder->path, "sync its directory");
    if (parent >= 0)
        close(parent);
    release(folder);
    return status;
}

void lun_folder_discard(lun_folder *folder)
{
    if (folder)
        remove_tree(AT_FDCWD, folder->place, 0);
    release(folder);
}
