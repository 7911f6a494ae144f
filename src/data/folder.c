/* Find the candidates below a folder, in a stable order. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "patience.h"
#include "picture.h"

typedef struct list {
    char **names;
    size_t count, room;
} list;

/* Takes `name` over, also when it fails; a NULL name is a failed allocation. */
static lun_status list_add(list *l, char *name)
{
    if (name && l->count == l->room) {
        const size_t room = l->room ? 2 * l->room : 64;
        char **names = lun_realloc(l->names, room, sizeof *names, "a list of files");
        if (!names) {
            free(name);
            name = NULL;
        } else {
            l->names = names;
            l->room = room;
        }
    }
    if (!name)
        return LUN_ERR_MEMORY;
    l->names[l->count++] = name;
    return LUN_OK;
}

static void list_free(list *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->names[i]);
    free(l->names);
    *l = (list){0};
}

/* strcmp compares unsigned bytes, so neither locale nor the sign of char has a say. */
static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_sort(list *l)
{
    if (l->count)
        qsort(l->names, l->count, sizeof *l->names, by_bytes);
}

/* The folders entered so far: an open-addressed table of (device, inode), a power of two of slots at most half full. */
typedef struct visits {
    struct visit {
        dev_t device;
        ino_t inode;
        bool used;
    } * slots;
    size_t count, room;
} visits;

static struct visit *visits_find(struct visit *slots, size_t room, dev_t device, ino_t inode)
{
    uint64_t hash = lun_hash(LUN_HASH_START, &device, sizeof device);
    hash = lun_hash(hash, &inode, sizeof inode);
    size_t i = (size_t)hash & (room - 1);
    while (slots[i].used && (slots[i].device != device || slots[i].inode != inode))
        i = (i + 1) & (room - 1);
    return &slots[i];
}

/* *fresh: whether this is the first visit. */
static lun_status visits_add(visits *v, dev_t device, ino_t inode, bool *fresh)
{
    if (2 * v->count >= v->room) {
        const size_t room = v->room ? 2 * v->room : 64;
        struct visit *slots = lun_calloc(room, sizeof *slots, "a list of folders");
        if (!slots)
            return LUN_ERR_MEMORY;
        for (size_t i = 0; i < v->room; i++) {
            if (v->slots[i].used)
                *visits_find(slots, room, v->slots[i].device, v->slots[i].inode) = v->slots[i];
        }
        free(v->slots);
        v->slots = slots;
        v->room = room;
    }
    struct visit *slot = visits_find(v->slots, v->room, device, inode);
    *fresh = !slot->used;
    if (*fresh) {
        *slot = (struct visit){device, inode, true};
        v->count++;
    }
    return LUN_OK;
}

static bool named_like_picture(const char *name)
{
    static const char *const suffixes[] = {".png", ".jpg", ".jpeg", ".jpe", ".jfif"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < LUN_COUNT(suffixes); i++) {
        if (strcasecmp(dot, suffixes[i]) == 0)
            return true;
    }
    return false;
}

static bool starts_like_picture(int at, const char *name)
{
    const int fd = lun_open_at(at, name, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return false;
    uint8_t start[8];
    struct stat info;
    ssize_t count = -1;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode))
        count = read(fd, start, sizeof start);
    close(fd);
    return count > 0 && lun_picture_sniff(start, (size_t)count) != LUN_KIND_OTHER;
}

/* The names in an open folder, sorted, without those that begin with a dot. *complete: none is missing. Closes fd. */
static lun_status read_names(int fd, list *names, bool *complete)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return lun_fail(LUN_ERR_MEMORY, "out of memory (reading a folder)");
    }
    lun_status status = LUN_OK;
    const struct dirent *entry;
    while (status == LUN_OK && (errno = 0, entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.')
            status = list_add(names, lun_strdup(entry->d_name));
    }
    *complete = errno == 0;
    closedir(dir);
    list_sort(names);
    return status;
}

typedef struct scan {
    int root;
    list pending;    /* folders to enter, in the order found */
    list candidates; /* and folders that could not be read */
    visits seen;
    size_t others;
    lun_patience *patience;
} scan;

static lun_status scan_entry(scan *s, char *path)
{
    struct stat info;
    const char *slash = strrchr(path, '/');
    const bool named = named_like_picture(slash ? slash + 1 : path);
    lun_patience_reads(s->patience, 0, path);
    const bool there = fstatat(s->root, path, &info, 0) == 0;
    if (there && S_ISDIR(info.st_mode))
        return list_add(&s->pending, path);
    if (named || (there && S_ISREG(info.st_mode) && starts_like_picture(s->root, path)))
        return list_add(&s->candidates, path);
    s->others++;
    free(path);
    return LUN_OK;
}

/* `folder` is relative to the root, "" for the root itself. */
static lun_status scan_folder(scan *s, const char *folder)
{
    struct stat info;
    bool fresh = true, complete = true;
    lun_patience_reads(s->patience, 0, folder[0] ? folder : ".");
    const int fd = lun_open_at(s->root, folder[0] ? folder : ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK, 0);
    if (fd < 0 || fstat(fd, &info) != 0) {
        if (fd >= 0)
            close(fd);
        return list_add(&s->candidates, lun_strdup(folder[0] ? folder : "."));
    }
    lun_status status = visits_add(&s->seen, info.st_dev, info.st_ino, &fresh);
    if (status != LUN_OK || !fresh) {
        close(fd);
        return status;
    }
    list names = {0};
    status = read_names(fd, &names, &complete);
    for (size_t i = 0; i < names.count && status == LUN_OK; i++) {
        /* The name is given up as its path is made: of millions each is there once. */
        char *path = folder[0] ? lun_format("%s/%s", folder, names.names[i]) : names.names[i];
        if (path != names.names[i])
            free(names.names[i]);
        names.names[i] = NULL;
        status = path ? scan_entry(s, path) : LUN_ERR_MEMORY;
    }
    if (status == LUN_OK && !complete)
        status = list_add(&s->candidates, lun_strdup(folder[0] ? folder : "."));
    list_free(&names);
    return status;
}

lun_status lun_folder_scan(const char *path, lun_folder *out)
{
    scan s = {.patience = lun_patience_start(path, LUN_PATIENCE)};
    lun_patience_reads(s.patience, 0, ".");
    s.root = lun_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
    if (s.root < 0) {
        const int error = errno;
        lun_patience_stop(&s.patience);
        return lun_fail(LUN_ERR_USAGE, "folder %s: %s", path, strerror(error));
    }
    /* Level by level, so that a folder reached both directly and through a link deeper down keeps its short path. */
    lun_status status = scan_folder(&s, "");
    for (size_t i = 0; i < s.pending.count && status == LUN_OK; i++)
        status = scan_folder(&s, s.pending.names[i]);
    lun_patience_stop(&s.patience);
    list_free(&s.pending);
    free(s.seen.slots);
    if (status != LUN_OK) {
        list_free(&s.candidates);
        close(s.root);
        return status;
    }
    list_sort(&s.candidates);
    *out = (lun_folder){s.root, s.candidates.names, s.candidates.count, s.others};
    return LUN_OK;
}

void lun_folder_free(lun_folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        free(folder->names[i]);
    free(folder->names);
    close(folder->fd);
    *folder = (lun_folder){.fd = -1};
}
