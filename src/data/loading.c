#include "loading.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

#define MAX_THREADS LUN_PATIENCE_SLOTS

/* Pictures are loaded in chunks of so many at most, or of so many bytes. */
#define CHUNK_COUNT 512
#define CHUNK_BYTES ((size_t)32 << 20)

#define SHOW_EVERY 10.0 /* seconds between lines that tell how far decoding is */

/* A file changed less than this before it was read may change again without its time moving: file systems count time in
 * steps, the coarsest of two seconds. */
#define SETTLE_SECONDS 2

#define MAX_SAID 50 /* lines of what is skipped: of millions there may be many thousands */

/* ---- One picture
 * ----------------------------------------------------------------------------------------------------------- */

static size_t entry_bytes(const lun_loading *l, const lun_pixel_entry *entry)
{
    return (size_t)entry->width * (size_t)entry->height * (size_t)l->channels;
}

lun_status lun_loading_decode(lun_loading *l, size_t i, uint8_t **pixels)
{
    const lun_dataset_params *p = l->params;
    lun_decode decode = {.orient = p->orient, .channels = l->channels, .big = &l->big};
    lun_picture fitted = {0};
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    const lun_status status =
        lun_dataset_decode(l->folder.fd, l->folder.names[i], &decode, p->fit, p->width, p->height, &fitted);
    if (status == LUN_OK) {
        const int64_t age = (int64_t)now.tv_sec - (int64_t)decode.file_time.tv_sec;
        lun_pixel_entry entry = {.name = l->folder.names[i],
                                 .bytes = decode.file_bytes,
                                 .seconds = decode.file_time.tv_sec,
                                 .nanoseconds = (int32_t)decode.file_time.tv_nsec,
                                 .settled = age > SETTLE_SECONDS || age < -SETTLE_SECONDS,
                                 .width = fitted.width,
                                 .height = fitted.height};
        entry.hash = lun_hash(LUN_HASH_START, fitted.pixels, entry_bytes(l, &entry));
        l->entries[i] = entry;
        *pixels = fitted.pixels;
    }
    l->longer[i] = decode.longer;
    lun_decode_end(&decode);
    if (status != LUN_ERR_DATA)
        return status;
    l->reasons[i] = lun_strdup(lun_error_detail());
    return l->reasons[i] ? LUN_OK : LUN_ERR_MEMORY;
}

/* From the cache where it is there and right; else *pixels stays NULL. */
static lun_status copy_one(lun_loading *l, size_t i, uint8_t **pixels)
{
    if (l->match[i] == LUN_LOADING_NONE)
        return LUN_OK;
    const lun_pixel_entry *entry = &l->old.entries[l->match[i]];
    const size_t bytes = entry_bytes(l, entry);
    uint8_t *copy = lun_malloc(bytes, 1, "a picture");
    if (!copy)
        return LUN_ERR_MEMORY;
    if (lun_pixels_read(l->old.fd, entry->offset, copy, bytes) &&
        lun_hash(LUN_HASH_START, copy, bytes) == entry->hash) {
        l->entries[i] = *entry;
        *pixels = copy;
        return LUN_OK;
    }
    free(copy);
    if (!atomic_flag_test_and_set(&l->said))
        lun_log(LUN_LOG_WARN, "the cache %s is damaged at %s: what is wrong in it is decoded again", l->path,
                l->folder.names[i]);
    return LUN_OK;
}

static void *load_some(void *payload)
{
    lun_loading *l = payload;
    const int reader = atomic_fetch_add(&l->readers, 1);
    size_t i;
    while (atomic_load(&l->failed) == LUN_OK && (i = atomic_fetch_add(&l->next, 1)) < l->end) {
        uint8_t **pixels = &l->pixels[i - l->first];
        lun_patience_reads(l->patience, reader, l->folder.names[i]);
        lun_status status = l->reasons[i] ? LUN_OK : copy_one(l, i, pixels);
        if (status == LUN_OK && !l->reasons[i] && !*pixels)
            status = lun_loading_decode(l, i, pixels);
        if (status != LUN_OK)
            atomic_store(&l->failed, (int)status);
    }
    lun_patience_reads(l->patience, reader, NULL);
    return NULL;
}

static lun_status load_chunk(lun_loading *l)
{
    long threads = l->params->threads ? l->params->threads : sysconf(_SC_NPROCESSORS_ONLN);
    threads = lun_max_i64(1, lun_min_i64(threads, MAX_THREADS));
    threads = lun_min_i64(threads, (int64_t)(l->end - l->first));
    pthread_t others[MAX_THREADS];
    int started = 0;
    atomic_store(&l->next, l->first);
    atomic_store(&l->readers, 0);
    /* This thread works too, so it goes on, if slower, where no other can be had. */
    while (started < threads - 1 && pthread_create(&others[started], NULL, load_some, l) == 0)
        started++;
    load_some(l);
    for (int i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    const lun_status status = (lun_status)atomic_load(&l->failed);
    if (status == LUN_ERR_MEMORY)
        return lun_fail(status, "out of memory while reading the pictures of %s", l->params->folder);
    if (status != LUN_OK)
        return lun_fail(status, "reading the pictures of %s failed", l->params->folder);
    return LUN_OK;
}

/* ---- All pictures
 * ---------------------------------------------------------------------------------------------------------- */

static void say_longer(const lun_loading *l)
{
    size_t count = 0, first = 0;
    for (size_t i = l->folder.count; i-- > 0;) {
        count += l->longer[i];
        first = l->longer[i] ? i : first;
    }
    if (count > 0)
        lun_log(LUN_LOG_WARN, "%zu files hold more than their picture, which is not read; the first is %s", count,
                l->folder.names[first]);
}

lun_status lun_loading_judge(lun_loading *l, size_t *usable)
{
    char first[3][256] = {{0}};
    size_t bad = 0;
    const size_t count = l->folder.count;
    for (size_t i = 0; i < count; i++) {
        if (!l->reasons[i])
            continue;
        if (!l->judged && bad < MAX_SAID)
            lun_log(LUN_LOG_WARN, "skipped %s: %s", l->folder.names[i], l->reasons[i]);
        if (bad < LUN_COUNT(first))
            snprintf(first[bad], sizeof first[bad], "%s%s: %s", bad ? "; " : ": ", l->folder.names[i], l->reasons[i]);
        bad++;
    }
    if (!l->judged && bad > MAX_SAID)
        lun_log(LUN_LOG_WARN, "skipped %zu more", bad - MAX_SAID);
    if (!l->judged)
        say_longer(l);
    l->judged = true;
    *usable = count - bad;
    if (count == 0)
        return lun_fail(LUN_ERR_DATA, "no PNG or JPEG pictures in %.300s (%zu other files)", l->params->folder,
                        l->folder.others);
    if (bad == count || bad * 20 > count)
        return lun_fail(LUN_ERR_DATA, "%zu of %zu pictures in %.200s cannot be used%s%s%s%s%s", bad, count,
                        l->params->folder, bad == count ? "" : ", more than 5 %", first[0], first[1], first[2],
                        bad > LUN_COUNT(first) ? "; ..." : "");
    return LUN_OK;
}

lun_status lun_loading_check_memory(const lun_loading *l, double needed)
{
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (memory > 0 && needed > 0.75 * memory)
        return lun_fail(LUN_ERR_MEMORY, "%zu pictures of %d x %d pixels take %.1f GiB, and the memory is %.1f GiB",
                        l->folder.count, l->params->width, l->params->height, needed * 0x1p-30, memory * 0x1p-30);
    return LUN_OK;
}

/* Hand the chunk's pictures on: to `all`, at the place of the kept-th usable one on, or with NULL to `writer`. */
static lun_status keep_chunk(lun_loading *l, uint8_t **all, lun_pixel_writer *writer, size_t *kept)
{
    for (size_t i = l->first; i < l->end; i++) {
        uint8_t **pixels = &l->pixels[i - l->first];
        if (l->reasons[i])
            continue;
        l->total += entry_bytes(l, &l->entries[i]);
        if (all) {
            all[(*kept)++] = *pixels;
            *pixels = NULL;
        } else {
            LUN_TRY(lun_pixel_writer_add(writer, &l->entries[i], *pixels));
        }
    }
    return all ? lun_loading_check_memory(l, (double)l->total) : LUN_OK;
}

lun_status lun_loading_run(lun_loading *l, uint8_t **all, lun_pixel_writer *writer)
{
    const size_t count = l->folder.count, room = lun_max_i64(MAX_THREADS, (int64_t)(CHUNK_BYTES / l->bytes));
    const size_t chunk = (size_t)lun_min_i64(lun_min_i64((int64_t)room, CHUNK_COUNT), (int64_t)count);
    l->pixels = lun_calloc(chunk, sizeof *l->pixels, "pictures on their way");
    lun_status status = l->pixels ? LUN_OK : LUN_ERR_MEMORY;
    double shown = lun_clock();
    size_t kept = 0;
    l->total = 0;
    for (size_t first = 0; first < count && status == LUN_OK; first += chunk) {
        l->first = first;
        l->end = (size_t)lun_min_i64((int64_t)(first + chunk), (int64_t)count);
        status = load_chunk(l);
        if (status == LUN_OK)
            status = keep_chunk(l, all, writer, &kept);
        for (size_t i = 0; i < chunk; i++) {
            free(l->pixels[i]);
            l->pixels[i] = NULL;
        }
        if (lun_clock() - shown >= SHOW_EVERY) {
            shown = lun_clock();
            lun_log(LUN_LOG_INFO, "%zu of %zu pictures read", l->end, count);
        }
    }
    free(l->pixels);
    l->pixels = NULL;
    return status;
}
