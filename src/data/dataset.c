/* A folder of pictures, decoded once by several threads and kept as bytes. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "picture.h"

#define MAX_SIDE    4096
#define MAX_THREADS 64

struct lun_dataset {
    int width, height;
    size_t count, skipped;
    size_t bytes; /* of one picture */
    char **names;
    uint8_t *pixels;
    uint64_t hash;
};

/* What the threads share. Entry i is written by the thread that took number i and read after they have ended. */
typedef struct loading {
    const lun_dataset_params *params;
    const lun_folder *folder;
    size_t bytes;
    uint8_t *pixels;  /* of every candidate, used or not */
    char **reasons;   /* NULL: usable */
    uint64_t *hashes; /* of the kept pixels */
    atomic_size_t next;
    atomic_int failed; /* a lun_status that ends the whole: memory ran out */
    pthread_mutex_t big;
} loading;

static lun_status load_one(loading *l, size_t i, lun_decode *decode)
{
    lun_picture picture = {0}, fitted = {0};
    LUN_TRY(lun_picture_decode(l->folder->fd, l->folder->names[i], decode, &picture));
    const lun_status status = lun_picture_fit(&picture, l->params->fit, l->params->width, l->params->height, &fitted);
    lun_picture_free(&picture);
    LUN_TRY(status);
    memcpy(l->pixels + i * l->bytes, fitted.pixels, l->bytes);
    l->hashes[i] = lun_hash(LUN_HASH_START, fitted.pixels, l->bytes);
    lun_picture_free(&fitted);
    return LUN_OK;
}

static void *load_some(void *payload)
{
    loading *l = payload;
    size_t i;
    while (atomic_load(&l->failed) == LUN_OK && (i = atomic_fetch_add(&l->next, 1)) < l->folder->count) {
        lun_decode decode = {.orient = l->params->orient, .big = &l->big};
        lun_status status = load_one(l, i, &decode);
        lun_decode_end(&decode);
        if (status == LUN_ERR_DATA) {
            l->reasons[i] = lun_strdup(lun_error_detail());
            status = l->reasons[i] ? LUN_OK : LUN_ERR_MEMORY;
        }
        if (status != LUN_OK)
            atomic_store(&l->failed, (int)status);
    }
    return NULL;
}

static lun_status load_all(loading *l)
{
    long threads = l->params->threads ? l->params->threads : sysconf(_SC_NPROCESSORS_ONLN);
    threads = lun_max_i64(1, lun_min_i64(threads, MAX_THREADS));
    threads = lun_min_i64(threads, (int64_t)l->folder->count);
    pthread_t others[MAX_THREADS];
    int started = 0;
    pthread_mutex_init(&l->big, NULL);
    /* This thread works too, so it goes on, if slower, where no other can be had. */
    while (started < threads - 1 && pthread_create(&others[started], NULL, load_some, l) == 0)
        started++;
    load_some(l);
    for (int i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    pthread_mutex_destroy(&l->big);
    const lun_status status = (lun_status)atomic_load(&l->failed);
    if (status == LUN_ERR_MEMORY)
        return lun_fail(status, "out of memory while reading the pictures of %s", l->params->folder);
    if (status != LUN_OK)
        return lun_fail(status, "reading the pictures of %s failed", l->params->folder);
    return LUN_OK;
}

/* Log what is skipped, in the order of names; LUN_ERR_DATA if too much is. */
static lun_status judge(const loading *l, size_t *usable)
{
    char first[3][256] = {{0}};
    size_t bad = 0;
    const size_t count = l->folder->count;
    for (size_t i = 0; i < count; i++) {
        if (!l->reasons[i])
            continue;
        lun_log(LUN_LOG_WARN, "skipped %s: %s", l->folder->names[i], l->reasons[i]);
        if (bad < LUN_COUNT(first))
            snprintf(first[bad], sizeof first[bad], "%s%s: %s", bad ? "; " : ": ", l->folder->names[i], l->reasons[i]);
        bad++;
    }
    *usable = count - bad;
    if (count == 0)
        return lun_fail(LUN_ERR_DATA, "no PNG or JPEG pictures in %.300s (%zu other files)", l->params->folder,
                        l->folder->others);
    if (bad == count || bad * 20 > count)
        return lun_fail(LUN_ERR_DATA, "%zu of %zu pictures in %.200s cannot be used%s%s%s%s%s", bad, count,
                        l->params->folder, bad == count ? "" : ", more than 5 %", first[0], first[1], first[2],
                        bad > LUN_COUNT(first) ? "; ..." : "");
    return LUN_OK;
}

/* Move the usable ones together; takes names and pixels over from the folder and the loading. */
static void keep_usable(lun_dataset *dataset, loading *l, lun_folder *folder)
{
    uint64_t hash = lun_hash(LUN_HASH_START, &dataset->width, sizeof dataset->width);
    hash = lun_hash(hash, &dataset->height, sizeof dataset->height);
    size_t kept = 0;
    for (size_t i = 0; i < folder->count; i++) {
        if (l->reasons[i]) {
            free(folder->names[i]);
            continue;
        }
        if (kept != i)
            memcpy(l->pixels + kept * l->bytes, l->pixels + i * l->bytes, l->bytes);
        folder->names[kept] = folder->names[i];
        hash = lun_hash_text(hash, folder->names[i]);
        hash = lun_hash(hash, &l->hashes[i], sizeof l->hashes[i]);
        kept++;
    }
    dataset->count = kept;
    dataset->skipped = folder->count - kept;
    dataset->bytes = l->bytes;
    dataset->hash = hash;
    dataset->names = folder->names;
    dataset->pixels = l->pixels;
    uint8_t *shrunk = dataset->skipped ? realloc(l->pixels, kept * l->bytes) : NULL;
    if (shrunk)
        dataset->pixels = shrunk;
    folder->names = NULL;
    folder->count = 0;
    l->pixels = NULL;
}

lun_status lun_dataset_open(const lun_dataset_params *params, lun_dataset **out)
{
    if (!params || !params->folder || !out)
        return lun_fail(LUN_ERR_USAGE, "lun_dataset_open: NULL argument");
    if (params->width < 1 || params->width > MAX_SIDE || params->height < 1 || params->height > MAX_SIDE)
        return lun_fail(LUN_ERR_USAGE, "pictures of %d x %d pixels: 1 to %d a side are possible", params->width,
                        params->height, MAX_SIDE);
    if ((params->fit != LUN_FIT_STRETCH && params->fit != LUN_FIT_CROP) || params->threads < 0)
        return lun_fail(LUN_ERR_USAGE, "fit %d or %d threads are out of range", (int)params->fit, params->threads);
    lun_folder folder = {.fd = -1};
    LUN_TRY(lun_folder_scan(params->folder, &folder));
    lun_status status = LUN_ERR_MEMORY;
    size_t usable = 0;
    const size_t count = folder.count;
    loading l = {.params = params, .folder = &folder};
    l.bytes = (size_t)params->width * (size_t)params->height * 3;
    lun_dataset *dataset = lun_calloc(1, sizeof *dataset, "a data set");
    l.pixels = lun_malloc(count, l.bytes, "the pictures of a data set");
    l.reasons = lun_calloc(count, sizeof *l.reasons, "a data set");
    l.hashes = lun_calloc(count, sizeof *l.hashes, "a data set");
    if (!dataset || !l.pixels || !l.reasons || !l.hashes)
        goto end;
    if (count)
        LUN_TRY_GOTO(status, end, load_all(&l));
    LUN_TRY_GOTO(status, end, judge(&l, &usable));
    dataset->width = params->width;
    dataset->height = params->height;
    keep_usable(dataset, &l, &folder);
    lun_log(LUN_LOG_DEBUG, "%zu pictures in %s, %zu skipped", dataset->count, params->folder, dataset->skipped);
    *out = dataset;
    dataset = NULL;
end:
    for (size_t i = 0; l.reasons && i < count; i++)
        free(l.reasons[i]);
    free(l.reasons);
    free(l.hashes);
    free(l.pixels);
    free(dataset);
    lun_folder_free(&folder);
    return status;
}

void lun_dataset_close(lun_dataset **dataset)
{
    if (!dataset || !*dataset)
        return;
    for (size_t i = 0; i < (*dataset)->count; i++)
        free((*dataset)->names[i]);
    free((*dataset)->names);
    free((*dataset)->pixels);
    free(*dataset);
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

const uint8_t *lun_dataset_pixels(const lun_dataset *dataset, size_t i)
{
    return i < dataset->count ? dataset->pixels + i * dataset->bytes : NULL;
}

lun_status lun_dataset_images(const lun_dataset *dataset, const uint32_t *index, size_t count, float *dst)
{
    for (size_t n = 0; n < count; n++) {
        if (index[n] >= dataset->count)
            return lun_fail(LUN_ERR_USAGE, "picture %lu of a data set of %zu", (unsigned long)index[n], dataset->count);
    }
    float value[256];
    for (int v = 0; v < 256; v++)
        value[v] = (float)v / 255.0f * 2.0f - 1.0f;
    const size_t area = dataset->bytes / 3;
    for (size_t n = 0; n < count; n++) {
        const uint8_t *src = dataset->pixels + index[n] * dataset->bytes;
        for (size_t p = 0; p < area; p++) {
            for (size_t c = 0; c < 3; c++)
                dst[c * area + p] = value[src[3 * p + c]];
        }
        dst += 3 * area;
    }
    return LUN_OK;
}
