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
    for (size_t i = 0; d->names && i < d->count; i++)
        free(d->names[i]);
    free(d->names);
    free(d->pixels);
    free(d->path);
    free(d->slots);
    free(d->hashes);
    free(d->checked);
    free(d->said);
    if (d->file >= 0)
        close(d->file);
    if (d->folder >= 0)
        close(d->folder);
    free(d);
    *dataset = NULL;
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

static uint64_t offset_of(const lun_dataset *d, size_t i)
{
    return d->pixels_at + (uint64_t)(d->slots ? d->slots[i] : i) * d->bytes;
}

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

/* The picture from its own file, if that still gives what the hash says. */
static lun_status decode_again(const lun_dataset *d, size_t i, uint8_t *pixels)
{
    lun_picture fitted = {0};
    lun_decode decode = {.orient = d->orient};
    lun_status status = lun_dataset_decode(d->folder, d->names[i], &decode, d->fit, d->width, d->height, &fitted);
    lun_decode_end(&decode);
    if (status == LUN_ERR_DATA)
        return lun_fail(status, "%s is damaged in the cache and cannot be read again: %s", d->names[i],
                        lun_error_detail());
    LUN_TRY(status);
    if (lun_hash(LUN_HASH_START, fitted.pixels, d->bytes) == d->hashes[i])
        memcpy(pixels, fitted.pixels, d->bytes);
    else
        status = lun_fail(LUN_ERR_DATA, "%s is damaged in the cache, and its file has changed since", d->names[i]);
    lun_picture_free(&fitted);
    return status;
}

static lun_status read_cached(const lun_dataset *d, size_t i, uint8_t *pixels)
{
    const bool there = lun_pixels_read(d->file, offset_of(d, i), pixels, d->bytes);
    if (there && atomic_load_explicit(&d->checked[i], memory_order_relaxed))
        return LUN_OK;
    if (there && lun_hash(LUN_HASH_START, pixels, d->bytes) == d->hashes[i]) {
        atomic_store_explicit(&d->checked[i], 1, memory_order_relaxed);
        return LUN_OK;
    }
    give_cache_up(d, i);
    return decode_again(d, i, pixels);
}

static lun_status check_index(const lun_dataset *d, size_t i)
{
    return i < d->count ? LUN_OK : lun_fail(LUN_ERR_USAGE, "picture %zu of a data set of %zu", i, d->count);
}

lun_status lun_dataset_pixels(const lun_dataset *d, size_t i, uint8_t *pixels)
{
    LUN_TRY(check_index(d, i));
    if (!d->pixels)
        return read_cached(d, i, pixels);
    memcpy(pixels, d->pixels + i * d->bytes, d->bytes);
    return LUN_OK;
}

/* ---- Batches
 * -------------------------------------------------------------------------------------------------------------- */

/* `src` may be the last 3 * area bytes of dst: the planes are written from the front, and no byte is overwritten before
 * it has been read. */
static void to_planes(const uint8_t *src, size_t area, const float value[256], float *dst)
{
    for (size_t c = 0; c < 3; c++) {
        for (size_t p = 0; p < area; p++)
            dst[c * area + p] = value[src[3 * p + c]];
    }
}

lun_status lun_dataset_images(const lun_dataset *d, const uint32_t *index, size_t count, float *dst)
{
    for (size_t n = 0; n < count; n++)
        LUN_TRY(check_index(d, index[n]));
    float value[256];
    for (int v = 0; v < 256; v++)
        value[v] = (float)v / 255.0f * 2.0f - 1.0f;
    const size_t area = d->bytes / 3;
    /* All that the kernel does not hold are asked for before the first is waited for. */
    for (size_t n = 0; !d->pixels && n < count; n++)
        (void)posix_fadvise(d->file, (off_t)offset_of(d, index[n]), (off_t)d->bytes, POSIX_FADV_WILLNEED);
    for (size_t n = 0; n < count; n++, dst += 3 * area) {
        if (d->pixels) {
            to_planes(d->pixels + index[n] * d->bytes, area, value, dst);
            continue;
        }
        /* Read into the end of where the picture goes: nothing is allocated in a step. */
        uint8_t *pixels = (uint8_t *)(dst + 3 * area) - d->bytes;
        LUN_TRY(read_cached(d, index[n], pixels));
        to_planes(pixels, area, value, dst);
    }
    return LUN_OK;
}
