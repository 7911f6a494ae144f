/* The decoded pictures of one folder at one size, in one file. Private to src/data.
 *
 * The file: a head of fixed size, a key that says what it is of, the pixels (one picture after the other, from a page's
 * start on, each of as many bytes as its entry says), and a table of the source files. Numbers are in the machine's
 * order; the head holds a mark that reads otherwise on another. The head, and key and table together, have a hash each,
 * checked on opening; the pixels have one a picture, which is in the table and left to whoever reads them, so that
 * opening costs no more than the table. Nothing is believed beyond the size of the file.
 *
 * The file is written aside and renamed, so any number of processes may read and write one at the same time: each sees
 * a whole one, and keeps the one that it has opened.
 */
#ifndef LUN_DATA_PIXEL_CACHE_H
#define LUN_DATA_PIXEL_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lunette/status.h>

/* A source file as it was when its picture was decoded. */
typedef struct lun_pixel_entry {
    const char *name; /* relative to the folder */
    uint64_t bytes;
    int64_t seconds; /* of its last change */
    int32_t nanoseconds;
    int32_t settled;       /* 0: changed so shortly before it was read that a later change may not show in its time */
    uint64_t hash;         /* lun_hash of the pixels */
    int32_t width, height; /* as kept */
    uint64_t offset;       /* of the pixels in the file; set by reading and writing */
} lun_pixel_entry;

typedef struct lun_pixel_cache {
    int fd; /* -1: none */
    size_t count;
    lun_pixel_entry *entries; /* in the order of the file; the names lie in `table` */
    char *table;
} lun_pixel_cache;

/* Open `path` if it is a sound one of that key and of pixels of so many bytes, whose entries have sizes above 0 and
 * offsets and lengths inside the file. Else *out has no file and no entries: silently where
 * there is none, with a line at LUN_LOG_WARN where it is damaged. LUN_ERR_MEMORY. */
lun_status lun_pixel_cache_open(const char *path, const char *key, size_t pixel_bytes, lun_pixel_cache *out);
void lun_pixel_cache_close(lun_pixel_cache *cache);

/* Read `bytes` from `offset`; false when they are not there. */
bool lun_pixels_read(int fd, uint64_t offset, uint8_t *pixels, size_t bytes);

/* Write one. Every failure to write is LUN_ERR_STORAGE with the path and the reason; `add` sets entry->offset and keeps
 * no pointers. */
typedef struct lun_pixel_writer lun_pixel_writer;
lun_status lun_pixel_writer_begin(const char *path, const char *key, size_t pixel_bytes, lun_pixel_writer **out);
lun_status lun_pixel_writer_add(lun_pixel_writer *writer, lun_pixel_entry *entry, const uint8_t *pixels);
/* Commit and free; *fd: the file just written, open for reading. */
lun_status lun_pixel_writer_end(lun_pixel_writer *writer, int *fd);
void lun_pixel_writer_discard(lun_pixel_writer *writer); /* NULL is allowed; keeps the error detail */

#endif
