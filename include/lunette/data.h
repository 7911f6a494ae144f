/* Pictures in: PNG and JPEG files, resizing, and a folder of them as a data set.
 *
 * Pictures are 8-bit RGB. What a file holds becomes that by these rules:
 *   grey        the three channels are equal
 *   1, 2, 4 bit scaled to 0..255 (PNG); a palette is looked up
 *   16 bit      round(v / 257), so 65535 becomes 255
 *   alpha       composited over black after the step above: round(v * a / 255); a tRNS chunk is alpha
 *   CMYK, YCCK  round(c * k / 255) with c, k the inverted ink values (255 = no ink). A file with an Adobe marker
 *               holds them inverted already; one without holds plain ink and is inverted on reading.
 * Gamma, colour profiles and ancillary PNG chunks but tRNS are ignored, damaged ones too. JPEG is read through libjpeg
 * with the accurate integer transform and its default upsampling.
 *
 * What is refused, before memory is taken for it: a side above 16384, more than 2^26 pixels, and a header that promises
 * more pixels than the bytes of the file can encode. A JPEG is refused on any warning of the decoder (cut short,
 * garbage in the middle), for more than 100 scans, or when its coefficients need more than 512 MiB; a PNG that is cut
 * anywhere, or has a wrong checksum in a critical chunk or tRNS, is refused too. Bytes after the end of the picture are
 * ignored.
 *
 * A lun_dataset is read-only once open: any number of threads may read one. The other functions have no state.
 */
#ifndef LUNETTE_DATA_H
#define LUNETTE_DATA_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LUN_PICTURE_MAX_SIDE   16384
#define LUN_PICTURE_MAX_PIXELS (1 << 26)

/* RGB, 3 bytes a pixel, rows from the top down without padding: pixels[(y * width + x) * 3 + channel].
 * Owns `pixels` (malloc); free with lun_picture_free(). */
typedef struct lun_picture {
    int width, height;
    uint8_t *pixels;
} lun_picture;

/* Read a PNG or a JPEG; the first bytes decide which, never the name. With `orient` not 0 the EXIF orientation of a
 * JPEG (1 to 8; damaged EXIF data counts as 1) is applied, so that the picture is upright; else it is ignored.
 * Never blocks: only regular files are opened. LUN_ERR_DATA if the file cannot be read or used, LUN_ERR_MEMORY;
 * the detail is "PATH: reason". */
LUN_API lun_status lun_picture_load(const char *path, int orient, lun_picture *out);

/* Resize with a triangle filter that widens with the reduction, Pillow's antialiased BILINEAR: columns first, then
 * rows, weights in 22-bit fixed point, 8 bits kept between the passes. The result equals Pillow's byte for byte.
 * `out` may not be `src`. LUN_ERR_USAGE for a size outside the limits above; LUN_ERR_MEMORY. */
LUN_API lun_status lun_picture_resize(const lun_picture *src, int width, int height, lun_picture *out);

/* Copy the width x height pixels whose top left one is (x, y). LUN_ERR_USAGE unless they all lie inside `src`. */
LUN_API lun_status lun_picture_crop(const lun_picture *src, int x, int y, int width, int height, lun_picture *out);

/* Free the pixels and set all fields to 0. NULL and an empty picture are allowed. */
LUN_API void lun_picture_free(lun_picture *picture);

typedef enum lun_fit {
    LUN_FIT_STRETCH, /* resize to width x height, whatever the proportions */
    LUN_FIT_CROP /* resize so that the picture just covers width x height (for a square: the shorter side becomes the
                  * square's; the other side is rounded down), then cut out the centre: floor of half the excess, but
                  * an excess of 4k + 3 gives 2k + 2, as torchvision's Resize and CenterCrop do */
} lun_fit;

/* Resize (and crop) as `fit` says; only the pixels that stay are computed. Errors as lun_picture_resize(). */
LUN_API lun_status lun_picture_fit(const lun_picture *src, lun_fit fit, int width, int height, lun_picture *out);

/* A folder of pictures, decoded once and kept as width x height x 3 bytes each: in memory, or in a file that the next
 * start finds again and that may be larger than memory. */
typedef struct lun_dataset lun_dataset;

typedef struct lun_dataset_params {
    const char *folder;
    int width, height; /* 1 to 4096 */
    lun_fit fit;
    int orient;  /* as for lun_picture_load() */
    int threads; /* that decode; 0: one for each processor. The result does not depend on it. */
    /* Folder for the decoded pictures, made when it is missing; NULL: they are kept in memory. A file in it,
     * pictures-HASH, belongs to one folder of pictures, size, fit and orientation. A picture is taken from it as long
     * as its file has the same name, size and time of change, and decoded otherwise; only its owner may read it. It may
     * be removed at any time. The data set is the same with it and without, bit for bit. */
    const char *cache;
} lun_dataset_params;

/* Search `folder` and all folders below it, and decode every picture.
 *
 * Candidates are the files named *.png, *.jpg, *.jpeg, *.jpe or *.jfif (in either case), and regular files that start
 * with the signature of a PNG or JPEG. Links are followed, and each folder is entered once, so that loops end. Names
 * that begin with a dot are left out, and so is every other file, silently. The order is that of the relative paths as
 * byte strings. A candidate that cannot be used (not a regular file, a dangling link, no permission, empty, not a
 * picture, damaged, refused for its size) is logged with its reason at LUN_LOG_WARN, skipped and counted; so is a
 * folder that cannot be read.
 *
 * LUN_ERR_USAGE for parameters out of range or a folder that does not exist or cannot be read; LUN_ERR_DATA when no
 * picture is usable, or when more than 5 % of the candidates are not (the detail names the first ones and why);
 * LUN_ERR_MEMORY. At most one picture above 4 Mpixel is held decoded at a time, whatever the number of threads.
 *
 * With a cache: a damaged one is made anew, and one that cannot be written is done without, each with a line at
 * LUN_LOG_WARN. LUN_ERR_STORAGE when it cannot be written and the pictures do not fit into memory either. With a sound
 * cache no picture is read here, only the files' sizes and times; what lies in it is checked when it is first used. */
LUN_API lun_status lun_dataset_open(const lun_dataset_params *params, lun_dataset **out);

/* Free and set *dataset to NULL; *dataset may be NULL. */
LUN_API void lun_dataset_close(lun_dataset **dataset);

/* Number of usable pictures, at least 1. */
LUN_API size_t lun_dataset_count(const lun_dataset *dataset);

/* Candidates that were skipped. */
LUN_API size_t lun_dataset_skipped(const lun_dataset *dataset);

/* The file that the decoded pictures lie in; NULL: they are in memory. Owned by the data set. */
LUN_API const char *lun_dataset_cache(const lun_dataset *dataset);

/* The size that every picture was brought to. */
LUN_API void lun_dataset_size(const lun_dataset *dataset, int *width, int *height);

/* Path of picture `i` relative to the folder. Owned by the data set; NULL when `i` is not below the count. */
LUN_API const char *lun_dataset_name(const lun_dataset *dataset, size_t i);

/* The pixels (height, width, 3) of picture `i`. LUN_ERR_USAGE when `i` is not below the count; LUN_ERR_DATA when they
 * are damaged in the cache (said once, and the cache removed) and cannot be had from the picture's file any more. */
LUN_API lun_status lun_dataset_pixels(const lun_dataset *dataset, size_t i, uint8_t *pixels);

/* A 64-bit FNV-1a hash of the size, and of every name and the hash of its kept pixels in order: changes when a picture
 * that training can see is added, removed, renamed or edited. Not against malice. */
LUN_API uint64_t lun_dataset_hash(const lun_dataset *dataset);

/* Write pictures index[0..count) to dst (count, 3, height, width) as v / 255 * 2 - 1, each operation in float32.
 * Reads the disk where they lie in a cache. Errors as lun_dataset_pixels(); dst may then be partly written. */
LUN_API lun_status lun_dataset_images(const lun_dataset *dataset, const uint32_t *index, size_t count, float *dst);

#ifdef __cplusplus
}
#endif
#endif
