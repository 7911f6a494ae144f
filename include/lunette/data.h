/* Pictures in: PNG and JPEG files, resizing, and a folder of them as a data set.
 *
 * Pictures are 8-bit, of 1 channel (grey), 3 (RGB) or 4 (RGB and alpha, not multiplied with it). What a file holds
 * becomes that by these rules:
 *   grey        asked for as colour: the three channels are equal
 *   colour      asked for as grey: (19595 R + 38470 G + 7471 B + 32768) >> 16, ITU-R 601's weights, rounded as
 *               Pillow does
 *   1, 2, 4 bit scaled to 0..255 (PNG); a palette is looked up
 *   16 bit      round(v / 257), so 65535 becomes 255
 *   alpha       4 channels: kept, 255 where a file has none. Fewer: composited over black after the steps above,
 *               round(v * a / 255). A tRNS chunk is alpha
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

/* Rows from the top down without padding: pixels[(y * width + x) * channels + channel]; channels is 1, 3 or 4.
 * Owns `pixels` (malloc); free with lun_picture_free(). */
typedef struct lun_picture {
    int width, height;
    uint8_t *pixels;
    int channels;
} lun_picture;

/* Read a PNG or a JPEG as RGB; the first bytes decide which, never the name. With `orient` not 0 the EXIF orientation
 * of a JPEG (1 to 8; damaged EXIF data counts as 1) is applied, so that the picture is upright; else it is ignored.
 * Never blocks: only regular files are opened. LUN_ERR_DATA if the file cannot be read or used, LUN_ERR_MEMORY;
 * the detail is "PATH: reason". */
LUN_API lun_status lun_picture_load(const char *path, int orient, lun_picture *out);
/* The same with 1, 3 or 4 channels, or with 0 those that the file has: 4 if it has alpha, 1 if it is grey, else 3. */
LUN_API lun_status lun_picture_load_as(const char *path, int orient, int channels, lun_picture *out);

/* Resize with a triangle filter that widens with the reduction, Pillow's antialiased BILINEAR: columns first, then
 * rows, weights in 22-bit fixed point, 8 bits kept between the passes. The result equals Pillow's byte for byte.
 * With alpha the colours are weighted by it: multiplied with it before, round(v * a / 255), and divided after,
 * min(255, 255 v / a) rounded down. Colour that alpha hides becomes black, at an unchanged size too.
 * `out` may not be `src`. LUN_ERR_USAGE for a size outside the limits above; LUN_ERR_MEMORY. */
LUN_API lun_status lun_picture_resize(const lun_picture *src, int width, int height, lun_picture *out);

/* Copy the width x height pixels whose top left one is (x, y). LUN_ERR_USAGE unless they all lie inside `src`. */
LUN_API lun_status lun_picture_crop(const lun_picture *src, int x, int y, int width, int height, lun_picture *out);

/* Free the pixels and set all fields to 0. NULL and an empty picture are allowed. */
LUN_API void lun_picture_free(lun_picture *picture);

typedef enum lun_fit {
    LUN_FIT_STRETCH, /* resize to width x height, whatever the proportions */
    LUN_FIT_CROP, /* resize so that the picture just covers width x height (for a square: the shorter side becomes the
                   * square's; the other side is rounded down), then cut out the centre: floor of half the excess, but
                   * an excess of 4k + 3 gives 2k + 2, as torchvision's Resize and CenterCrop do */
    LUN_FIT_COVER /* the same without the cut, for windows at random places; of a picture longer than four windows the
                   * middle four. The result is as large as that makes it */
} lun_fit;

/* Resize (and crop) as `fit` says; only the pixels that stay are computed. Errors as lun_picture_resize(). */
LUN_API lun_status lun_picture_fit(const lun_picture *src, lun_fit fit, int width, int height, lun_picture *out);

/* What the pictures of a folder are, by their headers alone; those that cannot be read have no say. */
typedef struct lun_folder_survey {
    size_t grey, colour, alpha; /* pictures; those with alpha count as nothing else */
    int channels;               /* that suit them: 4 if every one has alpha, 1 if every one is grey without, else 3 */
    int side;                   /* the median of their shorter sides, pixels; 0 without pictures */
} lun_folder_survey;
/* LUN_ERR_USAGE as lun_dataset_open(); LUN_ERR_MEMORY. */
LUN_API lun_status lun_folder_look(const char *folder, lun_folder_survey *out);

/* A folder of pictures, decoded once and kept as height x width x channels bytes each: in memory, or in a file that the
 * next start finds again and that may be larger than memory. */
typedef struct lun_dataset lun_dataset;

typedef struct lun_dataset_params {
    const char *folder;
    int width, height; /* 1 to 4096 */
    lun_fit fit;  /* LUN_FIT_COVER: every picture is kept larger than that where it sticks out, and shown by windows */
    int orient;   /* as for lun_picture_load() */
    int channels; /* 1, 3 or 4; 0 is 3 */
    int labels;   /* not 0: the folder's sub-folders are classes, see lun_dataset_label() */
    int threads;  /* that decode; 0: one for each processor. The result does not depend on it. */
    /* Folder for the decoded pictures, made when it is missing; NULL: they are kept in memory. A file in it,
     * pictures-HASH, belongs to one folder of pictures, size, fit, orientation and number of channels. A picture is
     * taken from it as long as its file has the same name, size and time of change, and decoded otherwise; only its
     * owner may read it. It may be removed at any time. The data set is the same with it and without, bit for bit. */
    const char *cache;
} lun_dataset_params;

/* Search `folder` and all folders below it, and decode every picture.
 *
 * Candidates are the files named *.png, *.jpg, *.jpeg, *.jpe or *.jfif (in either case), and regular files that start
 * with the signature of a PNG or JPEG. Links are followed, and each folder is entered once, so that loops end. Names
 * that begin with a dot are left out, and so is every other file, silently. The order is that of the relative paths as
 * byte strings. A candidate that cannot be used (not a regular file, a dangling link, no permission, empty, not a
 * picture, damaged, refused for its size) is logged with its reason at LUN_LOG_WARN (the first 50), skipped and counted;
 * so is a folder that cannot be read. Also logged there: PNG files that go on behind their picture, pictures that are
 * all the same, and a file that has been read for a minute, with its name.
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

/* One more owner: the data set is freed when each has closed it. From any thread that is sure that it is there. */
LUN_API lun_dataset *lun_dataset_hold(const lun_dataset *dataset);

/* Number of usable pictures, at least 1. */
LUN_API size_t lun_dataset_count(const lun_dataset *dataset);

/* Candidates that were skipped. */
LUN_API size_t lun_dataset_skipped(const lun_dataset *dataset);

/* The file that the decoded pictures lie in; NULL: they are in memory. Owned by the data set. */
LUN_API const char *lun_dataset_cache(const lun_dataset *dataset);

/* The size that every picture is shown at, and its channels. */
LUN_API void lun_dataset_size(const lun_dataset *dataset, int *width, int *height);
LUN_API int lun_dataset_channels(const lun_dataset *dataset);

/* Path of picture `i` relative to the folder. Owned by the data set; NULL when `i` is not below the count. */
LUN_API const char *lun_dataset_name(const lun_dataset *dataset, size_t i);

/* Classes, of a data set opened with `labels`: the folder's own sub-folders that hold a usable picture, at any depth,
 * in the order of their names as byte strings, at most LUN_DATASET_MAX_CLASSES. Their number (0 without labels); the
 * name of class `k` (NULL outside); the class of picture `i` (-1 outside and without labels). Opening fails with
 * LUN_ERR_DATA where a picture lies in the folder itself, or where there are fewer than two classes or too many. */
#define LUN_DATASET_MAX_CLASSES 10000
LUN_API int lun_dataset_classes(const lun_dataset *dataset);
LUN_API const char *lun_dataset_class_name(const lun_dataset *dataset, int k);
LUN_API int lun_dataset_label(const lun_dataset *dataset, size_t i);

/* The pixels (height, width, channels) of picture `i`; with LUN_FIT_COVER the window in its middle. LUN_ERR_USAGE when
 * `i` is not below the count; LUN_ERR_DATA when they are damaged in the cache (said once, and the cache removed) and
 * cannot be had from the picture's file any more. */
LUN_API lun_status lun_dataset_pixels(const lun_dataset *dataset, size_t i, uint8_t *pixels);

/* A 64-bit FNV-1a hash of the size, of what else shapes the pixels if it is not RGB to fill a fixed size, and of every
 * name and the hash of its kept pixels in order: changes when a picture that training can see is added, removed,
 * renamed or edited. Not against malice. */
LUN_API uint64_t lun_dataset_hash(const lun_dataset *dataset);

/* Write pictures index[0..count) to dst (count, channels, height, width) as v / 255 * 2 - 1, each operation in float32,
 * alpha too; with LUN_FIT_COVER the windows in their middles. Reads the disk where they lie in a cache. Errors as
 * lun_dataset_pixels(); dst may then be partly written. */
LUN_API lun_status lun_dataset_images(const lun_dataset *dataset, const uint32_t *index, size_t count, float *dst);

/* How the pictures of training are varied. Every draw depends on (seed, number of the sample) alone. */
typedef struct lun_augment {
    uint64_t seed;
    int flip;   /* every other picture, by chance, is mirrored left to right */
    int window; /* LUN_FIT_COVER: the window lies at a random place, every place as likely; 0: in the middle */
} lun_augment;

/* lun_dataset_images(), varied: picture index[n] as sample number first + n. */
LUN_API lun_status lun_dataset_draw(const lun_dataset *dataset, const lun_augment *augment, uint64_t first,
                                    const uint32_t *index, size_t count, float *dst);

/* Divide a data set into pictures to train on and pictures never trained on. `holdout`:
 *   0            none is held out
 *   0 < h < 1    that share, chosen by each picture's name alone: whatever else is in the folder, and whatever the
 *                seed, a picture stays on its side. h is met up to chance
 *   h >= 2       every h-th picture in the order of names: numbers h - 1, 2 h - 1, ...; a whole number
 * The held-out pictures' indices come first in `order` (room for the data set's count), the others behind, each in
 * order; *held: how many. LUN_ERR_USAGE for another `holdout`. LUN_ERR_DATA when one of the two sides is empty. */
LUN_API lun_status lun_holdout_check(double holdout);
/* Is picture number `i` of the order, so named, held out? `holdout` as checked. */
LUN_API int lun_holdout_takes(double holdout, const char *name, size_t i);
/* LUN_ERR_DATA where `held` of `count` pictures leave one of the two sides empty, as lun_holdout_split() has it. */
LUN_API lun_status lun_holdout_check_counts(double holdout, size_t count, size_t held);
LUN_API lun_status lun_holdout_split(const lun_dataset *dataset, double holdout, uint32_t *order, size_t *held);

#ifdef __cplusplus
}
#endif
#endif
