/* What the picture readers share. Private to src/data.
 *
 * A reader is given an open regular file at its start, and fails with the reason alone as the detail: who calls it
 * knows the name of the file. */
#ifndef LUN_DATA_PICTURE_H
#define LUN_DATA_PICTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <lunette/data.h>

#include "base/base.h"

/* One decoding: what is wanted, and the lock that keeps big pictures from being in memory several at a time. */
typedef struct lun_decode {
    int orient;
    int channels;        /* wanted: 1, 3 or 4; 0: those of the file */
    bool header_only;    /* read no pixels and give no picture, only the two that follow */
    int found;           /* channels that the file has: 4 with alpha, 1 when grey, else 3 */
    int shorter_side;    /* pixels, as the header says */
    uint64_t file_bytes; /* this and the next: of the file when it was opened */
    struct timespec file_time;
    bool longer;          /* found: bytes behind the picture; of a PNG only */
    pthread_mutex_t *big; /* may be NULL */
    bool big_held;        /* set by lun_decode_begin(), cleared by lun_decode_end() */
} lun_decode;

/* Check the size that a header promises (0 is refused too) and wait for the turn of a big picture. Nothing may be
 * allocated for the pixels before this. `least_bytes`: what a file with such a picture has at least. */
lun_status lun_decode_begin(lun_decode *decode, uint64_t width, uint64_t height, uint64_t least_bytes);

/* Let the next big picture in; after the last use of the decoded one. May be called without a begin. */
void lun_decode_end(lun_decode *decode);

/* Read `name` (relative to the folder `at`, or AT_FDCWD), whatever its format. Never blocks. Call lun_decode_end() when
 * done with the picture, on failure too. The detail is the reason, without the name. */
lun_status lun_picture_decode(int at, const char *name, lun_decode *decode, lun_picture *out);

lun_status lun_png_decode(FILE *file, lun_decode *decode, lun_picture *out);
lun_status lun_jpeg_decode(FILE *file, lun_decode *decode, lun_picture *out);

/* The JPEG library that this was built with, as it numbers itself; 0 without one. Another one may decode otherwise. */
int lun_jpeg_version(void);

typedef enum lun_picture_kind { LUN_KIND_OTHER, LUN_KIND_PNG, LUN_KIND_JPEG } lun_picture_kind;

/* By the first bytes of a file. */
lun_picture_kind lun_picture_sniff(const uint8_t *bytes, size_t count);

/* Allocate the pixels; LUN_ERR_MEMORY. */
lun_status lun_picture_alloc(int width, int height, int channels, lun_picture *out);

/* Has pixels, and 1, 3 or 4 channels. */
bool lun_picture_sound(const lun_picture *picture);

/* Pixels of 3 or 4 channels as ones of 1, 3 or 4, by the rules of data.h. dst may be src. */
void lun_pixels_convert(const uint8_t *src, int have, uint8_t *dst, int want, size_t pixels);

/* Half of what sticks out, as LUN_FIT_CROP cuts it off. */
int lun_picture_half(int excess);

/* round(a * b / 255) for a, b in 0..255 */
static inline uint8_t lun_mul_255(unsigned a, unsigned b)
{
    const unsigned t = a * b + 128;
    return (uint8_t)((t + (t >> 8)) >> 8);
}

/* The EXIF orientation, 1 to 8, of the content of an APP1 segment; 0 if it is not there or not sound. */
int lun_exif_orientation(const uint8_t *data, size_t bytes);

/* A folder's candidates in byte order of their paths relative to it. A folder below that could not be read is listed
 * as well, so that it is named and counted like a file. */
typedef struct lun_folder {
    int fd; /* stays open for openat() */
    char **names;
    size_t count;
    size_t others; /* files left out */
} lun_folder;

/* LUN_ERR_USAGE when the folder itself cannot be opened; LUN_ERR_MEMORY. */
lun_status lun_folder_scan(const char *path, lun_folder *out);
void lun_folder_free(lun_folder *folder);

#endif
