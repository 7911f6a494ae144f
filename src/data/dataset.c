/* An open data set: its pictures from memory or from the cache. */
#include "dataset.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pixel_cache.h"

void lun_dataset_close(lun_dataset **dataset)
{
    lun_dataset *d = dataset ? *dataset : NULL;
    if (!d)
        return;
    *dataset = NULL;
    if (atomic_fetch_sub(&d->holders, 1) > 1)
        return;
    for (size_t i = 0; d->names && i < d->count; i++)
        free(d->names[i]);
    for (size_t i = 0; d->pictures && i < d->count; i++)
        free(d->pictures[i]);
    free(d->names);
    free(d->extents);
    free(d->pictures);
    lun_dataset_free_classes(d);
    free(d->path);
    free(d->offsets);
    free(d->hashes);
    free(d->checked);
    free(d->said);
    if (d->file >= 0)
        close(d->file);
    if (d->folder >= 0)
        close(d->folder);
    free(d);
}

lun_dataset *lun_dataset_hold(const lun_dataset *dataset)
{
    lun_dataset *d = (lun_dataset *)dataset; /* no data set is made constant */
    atomic_fetch_add(&d->holders, 1);
    return d;
}

size_t lun_dataset_count(const lun_dataset *dataset)
{
    return dataset->count;
}

size_t lun_dataset_skipped(const lun_dataset *dataset)
{
    return dataset->skipped;
}

const char *lun_dataset_cache(const lun_dataset *dataset)
{
    return dataset->path;
}

uint64_t lun_dataset_hash(const lun_dataset *dataset)
{
    return dataset->hash;
}

void lun_dataset_size(const lun_dataset *dataset, int *width, int *height)
{
    *width = dataset->width;
    *height = dataset->height;
}

int lun_dataset_channels(const lun_dataset *dataset)
{
    return dataset->channels;
}

const char *lun_dataset_name(const lun_dataset *dataset, size_t i)
{
    return i < dataset->count ? dataset->names[i] : NULL;
}

lun_status lun_dataset_decode(int folder, const char *name, lun_decode *decode, lun_fit fit, int width, int height,
                              lun_picture *out)
{
    lun_picture whole = {0};
    LUN_TRY(lun_picture_decode(folder, name, decode, &whole));
    const lun_status status = lun_picture_fit(&whole, fit, width, height, out);
    lun_picture_free(&whole);
    return status;
}

/* ---- Pictures in the cache
 * ---------------------------------------------------------------------------------------------------- */

/* Once: say so, and take the file away, so that the next start makes it anew. This one keeps what it has open. */
static void give_cache_up(const lun_dataset *d, size_t i)
{
    if (atomic_flag_test_and_set(d->said))
        return;
    lun_log(LUN_LOG_WARN,
            "the cache %s is damaged at %s: what is wrong in it is decoded again, the next start makes it "
            "anew",
            d->path, d->names[i]);
    struct stat mine, named;
    if (fstat(d->file, &mine) == 0 && stat(d->path, &named) == 0 && mine.st_dev == named.st_dev &&
        mine.st_ino == named.st_ino)
        unlink(d->path);
}

static size_t kept_bytes(const lun_dataset *d, size_t i)
{
    const lun_extent extent = lun_dataset_extent(d, i);
    return (size_t)extent.width * (size_t)extent.height * (size_t)d->channels;
}

/* The picture as it is kept from its own file, if that still gives what the hash says. */
static lun_status decode_again(const lun_dataset *d, size_t i, uint8_t *pixels)
{
    const lun_extent extent = lun_dataset_extent(d, i);
    lun_picture fitted = {0};
    lun_decode decode = {.orient = d->orient, .channels = d->channels};
    lun_status status = lun_dataset_decode(d->folder, d->names[i], &decode, d->fit, d->width, d->height, &fitted);
    lun_decode_end(&decode);
    if (status == LUN_ERR_DATA)
        return lun_fail(status, "%s is damaged in the cache and cannot be read again: %s", d->names[i],
                        lun_error_detail());
    LUN_TRY(status);
    const size_t bytes = kept_bytes(d, i);
    if (fitted.width == extent.width && fitted.height == extent.height &&
        lun_hash(LUN_HASH_START, fitted.pixels, bytes) == d->hashes[i])
        memcpy(pixels, fitted.pixels, bytes);
    else
        status = lun_fail(LUN_ERR_DATA, "%s is damaged in the cache, and its file has changed since", d->names[i]);
    lun_picture_free(&fitted);
    return status;
}

/* All that is kept of a picture. */
static lun_status read_whole(const lun_dataset *d, size_t i, uint8_t *pixels)
{
    const size_t bytes = kept_bytes(d, i);
    const bool there = lun_pixels_read(d->file, d->offsets[i], pixels, bytes);
    if (there && atomic_load_explicit(&d->checked[i], memory_order_relaxed))
        return LUN_OK;
    if (there && lun_hash(LUN_HASH_START, pixels, bytes) == d->hashes[i]) {
        atomic_store_explicit(&d->checked[i], 1, memory_order_relaxed);
        return LUN_OK;
    }
    give_cache_up(d, i);
    return decode_again(d, i, pixels);
}

/* The window at (x, y) of pixels that are `stride` bytes a row wide. */
static void cut(const lun_dataset *d, const uint8_t *src, size_t stride, int x, int y, uint8_t *dst)
{
    const size_t row = (size_t)d->width * (size_t)d->channels;
    src += (size_t)y * stride + (size_t)x * (size_t)d->channels;
    for (int k = 0; k < d->height; k++)
        memcpy(dst + (size_t)k * row, src + (size_t)k * stride, row);
}

/* The same from the cache. Only a picture that is larger than its window and has not been checked yet, once in a run,
 * takes memory. */
static lun_status read_window(const lun_dataset *d, size_t i, int x, int y, uint8_t *pixels)
{
    const lun_extent extent = lun_dataset_extent(d, i);
    if (extent.width == d->width && extent.height == d->height)
        return read_whole(d, i, pixels);
    const size_t row = (size_t)d->width * (size_t)d->channels, stride = (size_t)extent.width * (size_t)d->channels;
    if (atomic_load_explicit(&d->checked[i], memory_order_relaxed)) {
        const uint64_t start = d->offsets[i] + (uint64_t)y * stride + (uint64_t)x * (uint64_t)d->channels;
        bool there = true;
        if (row == stride)
            there = lun_pixels_read(d->file, start, pixels, d->bytes);
        for (int k = 0; row != stride && k < d->height && there; k++)
            there = lun_pixels_read(d->file, start + (uint64_t)k * stride, pixels + (size_t)k * row, row);
        if (there)
            return LUN_OK;
    }
    uint8_t *whole = lun_malloc(kept_bytes(d, i), 1, "a picture");
    if (!whole)
        return LUN_ERR_MEMORY;
    const lun_status status = read_whole(d, i, whole);
    if (status == LUN_OK)
        cut(d, whole, stride, x, y, pixels);
    free(whole);
    return status;
}

static lun_status check_index(const lun_dataset *d, size_t i)
{
    return i < d->count ? LUN_OK : lun_fail(LUN_ERR_USAGE, "picture %zu of a data set of %zu", i, d->count);
}

static void middle_of(const lun_dataset *d, size_t i, int *x, int *y)
{
    const lun_extent extent = lun_dataset_extent(d, i);
    *x = lun_picture_half(extent.width - d->width);
    *y = lun_picture_half(extent.height - d->height);
}

lun_status lun_dataset_pixels(const lun_dataset *d, size_t i, uint8_t *pixels)
{
    int x = 0, y = 0;
    LUN_TRY(check_index(d, i));
    middle_of(d, i, &x, &y);
    if (!d->pictures)
        return read_window(d, i, x, y, pixels);
    cut(d, d->pictures[i], (size_t)lun_dataset_extent(d, i).width * (size_t)d->channels, x, y, pixels);
    return LUN_OK;
}

/* ---- Batches
 * -------------------------------------------------------------------------------------------------------------- */

/* `src` may be the last quarter of dst's bytes: the planes are written from the front, and no byte is overwritten
 * before it has been read. */
static void to_planes(const uint8_t *src, size_t area, size_t channels, const float value[256], float *dst)
{
    for (size_t c = 0; c < channels; c++) {
        for (size_t p = 0; p < area; p++)
            dst[c * area + p] = value[src[channels * p + c]];
    }
}

static void mirror(uint8_t *pixels, int width, int height, size_t channels)
{
    for (int y = 0; y < height; y++, pixels += (size_t)width * channels) {
        uint8_t *left = pixels, *right = pixels + ((size_t)width - 1) * channels;
        for (; left < right; left += channels, right -= channels) {
            for (size_t c = 0; c < channels; c++) {
                const uint8_t swap = left[c];
                left[c] = right[c];
                right[c] = swap;
            }
        }
    }
}

static void fill_values(float value[256])
{
    for (int v = 0; v < 256; v++)
        value[v] = (float)v / 255.0f * 2.0f - 1.0f;
}

static lun_status write_window(const lun_dataset *d, size_t i, int x, int y, bool mirrored, const float value[256],
                               float *dst)
{
    /* Laid into the end of where the picture goes: nothing is allocated in a step. */
    uint8_t *pixels = (uint8_t *)(dst + d->bytes) - d->bytes;
    if (d->pictures)
        cut(d, d->pictures[i], (size_t)lun_dataset_extent(d, i).width * (size_t)d->channels, x, y, pixels);
    else
        LUN_TRY(read_window(d, i, x, y, pixels));
    if (mirrored)
        mirror(pixels, d->width, d->height, (size_t)d->channels);
    to_planes(pixels, (size_t)d->width * (size_t)d->height, (size_t)d->channels, value, dst);
    return LUN_OK;
}

/* All that the kernel does not hold are asked for before the first is waited for. */
static void ask_for(const lun_dataset *d, const uint32_t *index, size_t count)
{
    for (size_t n = 0; !d->pictures && n < count; n++)
        (void)posix_fadvise(d->file, (off_t)d->offsets[index[n]], (off_t)kept_bytes(d, index[n]), POSIX_FADV_WILLNEED);
}

lun_status lun_dataset_images(const lun_dataset *d, const uint32_t *index, size_t count, float *dst)
{
    return lun_dataset_draw(d, &(lun_augment){0}, 0, index, count, dst);
}

lun_status lun_dataset_draw(const lun_dataset *d, const lun_augment *augment, uint64_t first, const uint32_t *index,
                            size_t count, float *dst)
{
    for (size_t n = 0; n < count; n++)
        LUN_TRY(check_index(d, index[n]));
    float value[256];
    fill_values(value);
    ask_for(d, index, count);
    for (size_t n = 0; n < count; n++, dst += d->bytes) {
        const lun_extent extent = lun_dataset_extent(d, index[n]);
        int x = 0, y = 0;
        middle_of(d, index[n], &x, &y);
        if (augment->window)
            lun_augment_window(augment, first + n, extent.width - d->width, extent.height - d->height, &x, &y);
        LUN_TRY(write_window(d, index[n], x, y, augment->flip && lun_augment_flip(augment, first + n), value, dst));
    }
    return LUN_OK;
}
