#include "pixel_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"

#define MAGIC     "lunette pictures"
#define MARK      UINT64_C(0x0102030405060709) /* with another version number in the low byte for another format */
#define PAGE      4096
#define MAX_NAME  65536
#define MAX_TABLE ((uint64_t)1 << 32)
#define MAX_PIXEL 16
#define MAX_SIDE  65536

typedef struct head {
    char magic[16];
    uint64_t mark, file_bytes, pixel_bytes, count, key_bytes, table_bytes, pixels_at;
    uint64_t text_hash; /* of key and table */
    uint64_t head_hash; /* of all before */
} head;

/* One entry of the table; the name follows, with a zero, filled up to 8 bytes. */
typedef struct row {
    uint64_t bytes;
    int64_t seconds;
    int32_t nanoseconds, settled;
    uint64_t hash, name_bytes;
    int32_t width, height;
} row;

static uint64_t hash_head(const head *h)
{
    return lun_hash(LUN_HASH_START, h, offsetof(head, head_hash));
}

static uint64_t pixels_start(size_t key_bytes)
{
    return (uint64_t)lun_round_up((int64_t)(sizeof(head) + key_bytes), PAGE);
}

/* ---- Reading
 * -------------------------------------------------------------------------------------------------------------- */

bool lun_pixels_read(int fd, uint64_t offset, uint8_t *pixels, size_t bytes)
{
    while (bytes) {
        const ssize_t got = pread(fd, pixels, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        pixels += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return true;
}

/* NULL: the lengths agree with each other and with the size of the file; else what does not. */
static const char *judge_head(const head *h, uint64_t file_bytes)
{
    if (memcmp(h->magic, MAGIC, sizeof h->magic) != 0 || h->mark != MARK)
        return "not one that this program and machine can read";
    if (h->head_hash != hash_head(h))
        return "a wrong checksum of its head";
    if (h->file_bytes != file_bytes)
        return "cut short or grown";
    if (h->key_bytes > MAX_NAME || h->table_bytes > MAX_TABLE || h->pixels_at != pixels_start((size_t)h->key_bytes) ||
        h->pixels_at > file_bytes || h->table_bytes > file_bytes - h->pixels_at || h->pixel_bytes == 0 ||
        h->pixel_bytes > MAX_PIXEL || h->table_bytes / sizeof(row) < h->count)
        return "impossible lengths";
    return NULL;
}

/* The rows' pointers into `table`, whose `bytes` are not trusted; false if they do not fill it exactly, or if the
 * pictures that they tell of do not fill what lies between pixels_at and the table. */
static bool parse_table(const head *h, char *table, lun_pixel_entry *entries)
{
    const size_t bytes = (size_t)h->table_bytes, count = (size_t)h->count;
    uint64_t offset = h->pixels_at;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        row r;
        if (bytes - at < sizeof r)
            return false;
        memcpy(&r, table + at, sizeof r);
        at += sizeof r;
        if (r.name_bytes == 0 || r.name_bytes % 8 != 0 || r.name_bytes > bytes - at ||
            table[at + r.name_bytes - 1] != 0)
            return false;
        if (r.width < 1 || r.height < 1 || r.width > MAX_SIDE || r.height > MAX_SIDE)
            return false;
        entries[i] = (lun_pixel_entry){table + at, r.bytes, r.seconds, r.nanoseconds, r.settled,
                                       r.hash,     r.width, r.height,  offset};
        offset += (uint64_t)r.width * (uint64_t)r.height * h->pixel_bytes; /* at most 2^36 more */
        if (offset > h->file_bytes - h->table_bytes)
            return false;
        at += (size_t)r.name_bytes;
    }
    return at == bytes && offset == h->file_bytes - h->table_bytes;
}

/* *why: what is wrong with the file, NULL where nothing is; with LUN_OK. *other: sound, but of another key. */
static lun_status read_cache(int fd, const char *key, size_t pixel_bytes, lun_pixel_cache *out, const char **why,
                             bool *other)
{
    struct stat info;
    head h;
    *why = "not a file that can be read";
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size < 0)
        return LUN_OK;
    *why = "cut short";
    if (!lun_pixels_read(fd, 0, (uint8_t *)&h, sizeof h))
        return LUN_OK;
    *why = judge_head(&h, (uint64_t)info.st_size);
    if (*why)
        return LUN_OK;
    const size_t key_bytes = (size_t)h.key_bytes, table_bytes = (size_t)h.table_bytes, count = (size_t)h.count;
    char *text = lun_malloc(key_bytes + 1, 1, "a cache's key");
    char *table = lun_malloc(table_bytes, 1, "a cache's table");
    lun_pixel_entry *entries = lun_malloc(count, sizeof *entries, "a cache's table");
    lun_status status = text && table && entries ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK) {
        *why = "cut short";
        if (lun_pixels_read(fd, sizeof h, (uint8_t *)text, key_bytes) &&
            lun_pixels_read(fd, h.file_bytes - table_bytes, (uint8_t *)table, table_bytes)) {
            uint64_t hash = lun_hash(LUN_HASH_START, text, key_bytes);
            hash = lun_hash(hash, table, table_bytes);
            *why = hash != h.text_hash                ? "a wrong checksum of its table"
                   : !parse_table(&h, table, entries) ? "a table that cannot be"
                                                      : NULL;
        }
        *other =
            !*why && (key_bytes != strlen(key) || memcmp(text, key, key_bytes) != 0 || h.pixel_bytes != pixel_bytes);
    }
    free(text);
    if (status != LUN_OK || *why || *other) {
        free(table);
        free(entries);
        return status;
    }
    *out = (lun_pixel_cache){fd, count, entries, table};
    return LUN_OK;
}

lun_status lun_pixel_cache_open(const char *path, const char *key, size_t pixel_bytes, lun_pixel_cache *out)
{
    *out = (lun_pixel_cache){.fd = -1};
    const int fd = lun_open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            lun_log(LUN_LOG_WARN, "the cache %s cannot be opened (%s): it is made anew", path, strerror(errno));
        return LUN_OK;
    }
    const char *why = NULL;
    bool other = false;
    const lun_status status = read_cache(fd, key, pixel_bytes, out, &why, &other);
    if (status == LUN_OK && why)
        lun_log(LUN_LOG_WARN, "the cache %s is damaged (%s): it is made anew", path, why);
    else if (other)
        lun_log(LUN_LOG_DEBUG, "the cache %s is of something else: it is made anew", path);
    if (out->fd < 0)
        close(fd);
    return status;
}

void lun_pixel_cache_close(lun_pixel_cache *cache)
{
    free(cache->entries);
    free(cache->table);
    if (cache->fd >= 0)
        close(cache->fd);
    *cache = (lun_pixel_cache){.fd = -1};
}

/* ---- Writing
 * -------------------------------------------------------------------------------------------------------------- */

struct lun_pixel_writer {
    lun_file *file;
    head head;
    char *table;
    size_t used, room;
};

lun_status lun_pixel_writer_begin(const char *path, const char *key, size_t pixel_bytes, lun_pixel_writer **out)
{
    static const uint8_t zeros[PAGE];
    lun_pixel_writer *w = lun_calloc(1, sizeof *w, "a cache");
    if (!w)
        return LUN_ERR_MEMORY;
    w->head = (head){.mark = MARK, .pixel_bytes = pixel_bytes, .key_bytes = strlen(key)};
    memcpy(w->head.magic, MAGIC, sizeof w->head.magic);
    w->head.pixels_at = pixels_start(strlen(key));
    w->head.text_hash = lun_hash(LUN_HASH_START, key, strlen(key));
    lun_status status = lun_file_create(path, &w->file);
    if (status == LUN_OK)
        status = lun_file_make_private(w->file); /* somebody's pictures */
    /* Room for the head, whose place stays zeros until all is there. */
    if (status == LUN_OK)
        status = lun_file_write(w->file, zeros, sizeof(head));
    if (status == LUN_OK)
        status = lun_file_write(w->file, key, strlen(key));
    if (status == LUN_OK)
        status = lun_file_write(w->file, zeros, (size_t)(w->head.pixels_at - lun_file_size(w->file)));
    if (status != LUN_OK) {
        lun_pixel_writer_discard(w);
        return status;
    }
    *out = w;
    return LUN_OK;
}

lun_status lun_pixel_writer_add(lun_pixel_writer *w, lun_pixel_entry *entry, const uint8_t *pixels)
{
    const size_t length = strlen(entry->name), name_bytes = (size_t)lun_round_up((int64_t)length + 1, 8);
    row r = {entry->bytes, entry->seconds, entry->nanoseconds, entry->settled,
             entry->hash,  name_bytes,     entry->width,       entry->height};
    const size_t needed = w->used + sizeof r + name_bytes;
    if (needed > w->room) {
        const size_t room = needed + w->room + 4096;
        char *table = lun_realloc(w->table, room, 1, "a cache's table");
        if (!table)
            return LUN_ERR_MEMORY;
        w->table = table;
        w->room = room;
    }
    memcpy(w->table + w->used, &r, sizeof r);
    memset(w->table + w->used + sizeof r, 0, name_bytes);
    memcpy(w->table + w->used + sizeof r, entry->name, length);
    w->used = needed;
    w->head.count++;
    entry->offset = lun_file_size(w->file);
    return lun_file_write(w->file, pixels, (size_t)entry->width * (size_t)entry->height * (size_t)w->head.pixel_bytes);
}

lun_status lun_pixel_writer_end(lun_pixel_writer *w, int *fd)
{
    lun_status status = lun_file_write(w->file, w->table, w->used);
    w->head.table_bytes = w->used;
    w->head.file_bytes = lun_file_size(w->file);
    w->head.text_hash = lun_hash(w->head.text_hash, w->table, w->used);
    w->head.head_hash = hash_head(&w->head);
    if (status == LUN_OK)
        status = lun_file_patch(w->file, 0, &w->head, sizeof w->head);
    if (status == LUN_OK) {
        status = lun_file_commit_open(w->file, fd);
        w->file = NULL;
    }
    lun_pixel_writer_discard(w);
    return status;
}

void lun_pixel_writer_discard(lun_pixel_writer *w)
{
    if (!w)
        return;
    lun_file_discard(w->file);
    free(w->table);
    free(w);
}
