#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"
#include "device/cache.h"

#define MAGIC     "lunette cache 1\n"
#define MAX_ENTRY ((size_t)256 << 20)
#define MAX_TEXT  ((size_t)16 << 20)

/* The magic is followed by three numbers (bytes of the key, bytes of the payload, hash of both), the key and the
 * payload. All but the payload is text, so that a person can see what an entry is of. */
#define NUMBERS       "%016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n"
#define NUMBERS_BYTES 51
#define HEAD_BYTES    (sizeof MAGIC - 1 + NUMBERS_BYTES)

char *lun_cache_folder(void)
{
    const char *own = getenv("LUNETTE_CACHE");
    if (own && own[0])
        return lun_strdup(own);
    const char *xdg = getenv("XDG_CACHE_HOME");
    if (xdg && xdg[0] == '/') /* the XDG specification: a relative one is to be ignored */
        return lun_format("%s/lunette", xdg);
    const char *home = getenv("HOME");
    if (home && home[0] == '/')
        return lun_format("%s/.cache/lunette", home);
    return NULL;
}

static char *entry_path(const char *name, const char *key)
{
    char *folder = lun_cache_folder();
    char *path = folder ? lun_format("%s/%s-%016" PRIx64, folder, name, lun_hash_text(LUN_HASH_START, key)) : NULL;
    free(folder);
    return path;
}

static void make_head(char head[HEAD_BYTES + 1], const char *key, const void *payload, size_t bytes)
{
    const uint64_t hash = lun_hash(lun_hash_text(LUN_HASH_START, key), payload, bytes);
    snprintf(head, HEAD_BYTES + 1, MAGIC NUMBERS, (uint64_t)strlen(key), (uint64_t)bytes, hash);
}

bool lun_cache_load(const char *name, const char *key, char **payload, size_t *bytes)
{
    char *path = entry_path(name, key);
    char *text = NULL;
    size_t size = 0;
    bool sound = false;
    if (path && lun_file_exists(path) && lun_file_read(path, MAX_ENTRY, LUN_ERR_STORAGE, &text, &size) == LUN_OK) {
        const size_t key_bytes = strlen(key);
        if (size >= HEAD_BYTES && size - HEAD_BYTES >= key_bytes) {
            const size_t payload_bytes = size - HEAD_BYTES - key_bytes;
            char head[HEAD_BYTES + 1];
            make_head(head, key, text + HEAD_BYTES + key_bytes, payload_bytes);
            sound = memcmp(text, head, HEAD_BYTES) == 0 && memcmp(text + HEAD_BYTES, key, key_bytes) == 0;
            if (sound)
                *bytes = payload_bytes;
        }
        if (sound) {
            memmove(text, text + HEAD_BYTES + key_bytes, *bytes);
            text[*bytes] = 0;
            *payload = text;
            text = NULL;
        } else {
            lun_log(LUN_LOG_DEBUG, "cache: %s is damaged or of another key; it is made anew", path);
        }
    }
    free(text);
    free(path);
    return sound;
}

void lun_cache_store(const char *name, const char *key, const void *payload, size_t bytes)
{
    char head[HEAD_BYTES + 1];
    make_head(head, key, payload, bytes);
    char *folder = lun_cache_folder();
    char *path = entry_path(name, key);
    lun_file *file = NULL;
    bool stored = false;
    if (folder && path && lun_make_dirs(folder) == LUN_OK && lun_file_create(path, &file) == LUN_OK) {
        /* A failed write sticks and fails the commit. */
        (void)lun_file_write(file, head, HEAD_BYTES);
        (void)lun_file_write(file, key, strlen(key));
        (void)lun_file_write(file, payload, bytes);
        stored = lun_file_commit(file) == LUN_OK;
    }
    if (folder && !stored)
        lun_log(LUN_LOG_DEBUG, "cache: %s", lun_error_detail());
    free(path);
    free(folder);
}

/* ---- texts ---- */

char *lun_cache_text_path(const char *name, const char *key)
{
    char *path = entry_path(name, key);
    char *text = path ? lun_format("%s.txt", path) : NULL;
    free(path);
    return text;
}

char *lun_cache_text_load(const char *path)
{
    char *text = NULL;
    if (lun_file_exists(path) && lun_file_read(path, MAX_TEXT, LUN_ERR_STORAGE, &text, NULL) != LUN_OK)
        lun_log(LUN_LOG_DEBUG, "cache: %s", lun_error_detail());
    return text;
}

void lun_cache_text_update(const char *path, char *(*merge)(void *payload, const char *old), void *payload)
{
    char *folder = lun_format("%.*s", (int)(strrchr(path, '/') - path), path);
    int lock = -1;
    lun_file *file = NULL;
    bool stored = folder && lun_make_dirs(folder) == LUN_OK;
    if (stored) {
        /* The folder itself is the lock, so that none is left lying about. Without locks the last one wins. */
        lock = lun_open_at(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
        if (lock >= 0)
            (void)flock(lock, LOCK_EX);
        char *old = lun_cache_text_load(path);
        char *text = merge(payload, old);
        if (text) {
            stored = lun_file_create(path, &file) == LUN_OK;
            if (stored) {
                (void)lun_file_write(file, text, strlen(text));
                stored = lun_file_commit(file) == LUN_OK;
            }
        }
        free(text);
        free(old);
    }
    if (!stored)
        lun_log(LUN_LOG_DEBUG, "cache: %s", lun_error_detail());
    if (lock >= 0)
        close(lock);
    free(folder);
}
