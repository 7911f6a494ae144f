/* A folder of pictures becomes a data set: found, decoded by several threads where the cache does not have them, and
 * kept in memory or in the cache. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "dataset.h"
#include "pixel_cache.h"

#define MAX_SIDE    4096
#define MAX_THREADS 64

/* Pictures are loaded in chunks of so many at most, or of so many bytes. */
#define CHUNK_COUNT 512
#define CHUNK_BYTES ((size_t)32 << 20)

#define SHOW_EVERY 10.0 /* seconds between lines that tell how far decoding is */

/* A file changed less than this before it was read may change again without its time moving: file systems count time in
 * steps, the coarsest of two seconds. */
#define SETTLE_SECONDS 2

#define NONE SIZE_MAX

/* What the threads share. Entry i is written by the thread that took number i and read after they have ended. */
typedef struct loading {
    const lun_dataset_params *params;
    lun_folder folder;
    int channels;
    size_t bytes;             /* of a picture of the asked size: the least that one takes */
    size_t total;             /* bytes of the pixels loaded so far */
    char *path, *key;         /* of the cache; NULL: none is wanted */
    lun_pixel_cache old;      /* as it was found */
    size_t *match;            /* the candidate's place in it, or NONE */
    lun_pixel_entry *entries; /* of the candidates that are usable */
    char **reasons;           /* NULL: usable, as far as is known */
    bool judged;              /* what is skipped has been said */

    /* The chunk at hand: candidates [next, end) are to be loaded; the pixels of candidate i go to pixels[i - first]. */
    size_t first, end;
    uint8_t **pixels; /* of each; NULL where it is not usable */
    atomic_size_t next;
    atomic_int failed; /* a lun_status that ends the whole: memory ran out */
    atomic_flag said;  /* that pixels in the cache are damaged */
    pthread_mutex_t big;
} loading;

/* ---- One picture
 * ----------------------------------------------------------------------------------------------------------- */

static size_t entry_bytes(const loading *l, const lun_pixel_entry *entry)
{
    return (size_t)entry->width * (size_t)entry->height * (size_t)l->channels;
}

/* *pixels: fresh, NULL where the candidate is not usable. */
static lun_status decode_one(loading *l, size_t i, uint8_t **pixels)
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
    lun_decode_end(&decode);
    if (status != LUN_ERR_DATA)
        return status;
    l->reasons[i] = lun_strdup(lun_error_detail());
    return l->reasons[i] ? LUN_OK : LUN_ERR_MEMORY;
}

/* From the cache where it is there and right; else *pixels stays NULL. */
static lun_status copy_one(loading *l, size_t i, uint8_t **pixels)
{
    if (l->match[i] == NONE)
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
    loading *l = payload;
    size_t i;
    while (atomic_load(&l->failed) == LUN_OK && (i = atomic_fetch_add(&l->next, 1)) < l->end) {
        uint8_t **pixels = &l->pixels[i - l->first];
        lun_status status = l->reasons[i] ? LUN_OK : copy_one(l, i, pixels);
        if (status == LUN_OK && !l->reasons[i] && !*pixels)
            status = decode_one(l, i, pixels);
        if (status != LUN_OK)
            atomic_store(&l->failed, (int)status);
    }
    return NULL;
}

static lun_status load_chunk(loading *l)
{
    long threads = l->params->threads ? l->params->threads : sysconf(_SC_NPROCESSORS_ONLN);
    threads = lun_max_i64(1, lun_min_i64(threads, MAX_THREADS));
    threads = lun_min_i64(threads, (int64_t)(l->end - l->first));
    pthread_t others[MAX_THREADS];
    int started = 0;
    atomic_store(&l->next, l->first);
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

/* Log what is skipped, in the order of names; LUN_ERR_DATA if too much is. */
static lun_status judge(loading *l, size_t *usable)
{
    char first[3][256] = {{0}};
    size_t bad = 0;
    const size_t count = l->folder.count;
    for (size_t i = 0; i < count; i++) {
        if (!l->reasons[i])
            continue;
        if (!l->judged)
            lun_log(LUN_LOG_WARN, "skipped %s: %s", l->folder.names[i], l->reasons[i]);
        if (bad < LUN_COUNT(first))
            snprintf(first[bad], sizeof first[bad], "%s%s: %s", bad ? "; " : ": ", l->folder.names[i], l->reasons[i]);
        bad++;
    }
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

/* More than that is swapped or gets the process killed, whatever malloc() promises. */
static lun_status check_memory(const loading *l, double needed)
{
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (memory > 0 && needed > 0.75 * memory)
        return lun_fail(LUN_ERR_MEMORY, "%zu pictures of %d x %d pixels take %.1f GiB, and the memory is %.1f GiB",
                        l->folder.count, l->params->width, l->params->height, needed * 0x1p-30, memory * 0x1p-30);
    return LUN_OK;
}

/* Hand the chunk's pictures on: to `all`, at the place of the kept-th usable one on, or with NULL to `writer`. */
static lun_status keep_chunk(loading *l, uint8_t **all, lun_pixel_writer *writer, size_t *kept)
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
    return all ? check_memory(l, (double)l->total) : LUN_OK;
}

/* Load every candidate chunk by chunk, without gaps where one is unusable: into `all`, which has room for every
 * candidate, or with NULL into `writer`. */
static lun_status load_all(loading *l, uint8_t **all, lun_pixel_writer *writer)
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

static size_t count_matches(const loading *l)
{
    size_t known = 0;
    for (size_t i = 0; i < l->folder.count; i++)
        known += l->match[i] != NONE;
    return known;
}

/* What else than the size shapes the pixels; nothing for RGB that fills the size, so that runs begun before there was
 * anything else still know their pictures. */
static uint64_t hash_shape(const lun_dataset *d, uint64_t hash)
{
    if (d->channels != 3)
        hash = lun_hash(hash, &d->channels, sizeof d->channels);
    if (d->fit == LUN_FIT_COVER)
        hash = lun_hash_text(hash, "cover");
    return hash;
}

/* Take the names over from the folder, without those of what is skipped. */
static void keep_usable(lun_dataset *d, loading *l)
{
    lun_folder *folder = &l->folder;
    uint64_t hash = lun_hash(LUN_HASH_START, &d->width, sizeof d->width);
    hash = hash_shape(d, lun_hash(hash, &d->height, sizeof d->height));
    size_t kept = 0;
    for (size_t i = 0; i < folder->count; i++) {
        const lun_pixel_entry *entry = &l->entries[i];
        if (l->reasons[i]) {
            free(folder->names[i]);
            continue;
        }
        folder->names[kept] = folder->names[i];
        if (d->hashes)
            d->hashes[kept] = entry->hash;
        if (d->offsets)
            d->offsets[kept] = entry->offset;
        if (d->extents)
            d->extents[kept] = (lun_extent){entry->width, entry->height};
        hash = lun_hash_text(hash, folder->names[i]);
        hash = lun_hash(hash, &entry->hash, sizeof entry->hash);
        kept++;
    }
    d->count = kept;
    d->skipped = folder->count - kept;
    d->hash = hash;
    d->names = folder->names;
    folder->names = NULL;
    folder->count = 0;
}

static lun_status make_extents(lun_dataset *d, size_t count)
{
    if (d->fit != LUN_FIT_COVER)
        return LUN_OK;
    d->extents = lun_malloc(count, sizeof *d->extents, "a data set");
    return d->extents ? LUN_OK : LUN_ERR_MEMORY;
}

/* ---- In memory
 * ------------------------------------------------------------------------------------------------------------- */

static lun_status load_to_memory(loading *l, lun_dataset *d)
{
    size_t usable = 0;
    const size_t count = l->folder.count;
    LUN_TRY(check_memory(l, (double)count * (double)l->bytes));
    LUN_TRY(make_extents(d, count));
    d->count = count; /* of the places in `pictures`, until the names are there */
    d->pictures = lun_calloc(count, sizeof *d->pictures, "the pictures of a data set");
    if (!d->pictures)
        return LUN_ERR_MEMORY;
    LUN_TRY(load_all(l, d->pictures, NULL));
    LUN_TRY(judge(l, &usable));
    keep_usable(d, l);
    return LUN_OK;
}

/* ---- With a cache
 * ---------------------------------------------------------------------------------------------------------- */

static lun_status name_cache(loading *l)
{
    const lun_dataset_params *p = l->params;
    char *folder = realpath(p->folder, NULL);
    l->key = lun_format("lunette %s, libjpeg %d: %dx%d, fit %d, orient %d, channels %d, %s", lun_version(),
                        lun_jpeg_version(), p->width, p->height, (int)p->fit, p->orient != 0, l->channels,
                        folder ? folder : p->folder);
    free(folder);
    l->path = l->key ? lun_format("%s/pictures-%016" PRIx64, p->cache, lun_hash_text(LUN_HASH_START, l->key)) : NULL;
    return l->path ? LUN_OK : LUN_ERR_MEMORY;
}

/* Find the candidates in the old cache: both are in the order of names. One that may no longer be read is not found
 * either, so that it is skipped with the same reason as without a cache. */
static void match_candidates(loading *l)
{
    const lun_dataset_params *p = l->params;
    size_t k = 0;
    for (size_t i = 0; i < l->folder.count; i++) {
        const char *name = l->folder.names[i];
        int order = 1;
        while (k < l->old.count && (order = strcmp(l->old.entries[k].name, name)) < 0)
            k++;
        struct stat info;
        if (k == l->old.count || order != 0 || fstatat(l->folder.fd, name, &info, 0) != 0 || !S_ISREG(info.st_mode))
            continue;
        const lun_pixel_entry *e = &l->old.entries[k];
        const bool fits = p->fit == LUN_FIT_COVER ? e->width >= p->width && e->height >= p->height
                                                  : e->width == p->width && e->height == p->height;
        if (fits && e->settled && e->bytes == (uint64_t)info.st_size && e->seconds == info.st_mtim.tv_sec &&
            e->nanoseconds == info.st_mtim.tv_nsec && faccessat(l->folder.fd, name, R_OK, AT_EACCESS) == 0) {
            l->match[i] = k;
            l->entries[i] = *e;
        }
    }
}

/* *whole: nothing usable is missing in the old cache. What is not usable is never in it and has to be tried each time;
 * the first that is usable ends the search. */
static lun_status look_for_more(loading *l, bool *whole)
{
    *whole = l->old.count > 0;
    if (!*whole)
        return LUN_OK;
    lun_status status = LUN_OK;
    for (size_t i = 0; i < l->folder.count && *whole && status == LUN_OK; i++) {
        if (l->match[i] != NONE)
            continue;
        uint8_t *pixels = NULL;
        status = decode_one(l, i, &pixels);
        free(pixels);
        *whole = l->reasons[i] != NULL;
    }
    return status;
}

/* Give the data set what it needs to read from a cache. The descriptor `file` becomes its own. */
static lun_status read_from(loading *l, lun_dataset *d, int file)
{
    const size_t count = l->folder.count;
    d->file = file;
    d->folder = fcntl(l->folder.fd, F_DUPFD_CLOEXEC, 0);
    d->path = l->path;
    l->path = NULL;
    d->hashes = lun_malloc(count, sizeof *d->hashes, "a data set");
    d->checked = lun_calloc(count, sizeof *d->checked, "a data set");
    d->said = lun_malloc(1, sizeof *d->said, "a data set");
    d->offsets = lun_malloc(count, sizeof *d->offsets, "a data set");
    if (!d->hashes || !d->checked || !d->said || !d->offsets)
        return LUN_ERR_MEMORY;
    LUN_TRY(make_extents(d, count));
    if (d->folder < 0)
        return lun_fail(LUN_ERR_DATA, "folder %s: %s", l->params->folder, strerror(errno));
    atomic_flag_clear(d->said);
    /* Pictures are read in a random order: what the kernel would read ahead is not what comes next. */
    (void)posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
    keep_usable(d, l);
    return LUN_OK;
}

/* So that a disk that is too small is noticed before hours of decoding. */
static lun_status check_room(const loading *l)
{
    struct statvfs disk;
    const double needed = (double)l->folder.count * (double)l->bytes;
    if (statvfs(l->params->cache, &disk) != 0 || disk.f_blocks == 0)
        return LUN_OK; /* not every file system says */
    const double free_bytes = (double)disk.f_bavail * (double)disk.f_frsize;
    if (needed > free_bytes)
        return lun_fail(LUN_ERR_STORAGE, "%s: %.1f GiB are needed and %.1f GiB are free", l->path, needed * 0x1p-30,
                        free_bytes * 0x1p-30);
    return LUN_OK;
}

/* Write the cache anew from the old one and what is decoded. LUN_ERR_STORAGE leaves the data set as it was. */
static lun_status load_to_cache(loading *l, lun_dataset *d)
{
    lun_pixel_writer *writer = NULL;
    size_t usable = 0;
    int file = -1;
    LUN_TRY(lun_make_dirs(l->params->cache));
    LUN_TRY(check_room(l));
    LUN_TRY(lun_pixel_writer_begin(l->path, l->key, (size_t)l->channels, &writer));
    lun_status status = load_all(l, NULL, writer);
    if (status == LUN_OK)
        status = judge(l, &usable);
    if (status != LUN_OK) {
        lun_pixel_writer_discard(writer);
        return status;
    }
    LUN_TRY(lun_pixel_writer_end(writer, &file));
    return read_from(l, d, file);
}

static lun_status load_with_cache(loading *l, lun_dataset *d)
{
    bool whole = false;
    LUN_TRY(name_cache(l));
    LUN_TRY(lun_pixel_cache_open(l->path, l->key, (size_t)l->channels, &l->old));
    match_candidates(l);
    LUN_TRY(look_for_more(l, &whole));
    if (whole) {
        size_t usable = 0;
        LUN_TRY(judge(l, &usable));
        lun_log(LUN_LOG_DEBUG, "all %zu pictures are in the cache %s", usable, l->path);
        const int file = l->old.fd;
        l->old.fd = -1;
        return read_from(l, d, file);
    }
    lun_log(LUN_LOG_DEBUG, "%zu of %zu pictures are in the cache %s", count_matches(l), l->folder.count, l->path);
    lun_status status = load_to_cache(l, d);
    if (status != LUN_ERR_STORAGE)
        return status;
    lun_log(LUN_LOG_WARN, "no cache of the decoded pictures: %s; they are kept in memory", lun_error_detail());
    char *reason = lun_strdup(lun_error_detail());
    status = reason ? load_to_memory(l, d) : LUN_ERR_MEMORY;
    if (status == LUN_ERR_MEMORY && reason)
        status = lun_fail(LUN_ERR_STORAGE, "%s; without a cache: %s", reason, lun_error_detail());
    free(reason);
    return status;
}

static lun_status load(loading *l, lun_dataset *d)
{
    const size_t count = l->folder.count;
    size_t usable = 0;
    l->match = lun_malloc(count, sizeof *l->match, "a data set");
    l->entries = lun_calloc(count, sizeof *l->entries, "a data set");
    l->reasons = lun_calloc(count, sizeof *l->reasons, "a data set");
    if (!l->match || !l->entries || !l->reasons)
        return LUN_ERR_MEMORY;
    if (count == 0)
        return judge(l, &usable);
    for (size_t i = 0; i < count; i++)
        l->match[i] = NONE;
    return l->params->cache ? load_with_cache(l, d) : load_to_memory(l, d);
}

lun_status lun_dataset_open(const lun_dataset_params *params, lun_dataset **out)
{
    if (!params || !params->folder || !out)
        return lun_fail(LUN_ERR_USAGE, "lun_dataset_open: NULL argument");
    if (params->width < 1 || params->width > MAX_SIDE || params->height < 1 || params->height > MAX_SIDE)
        return lun_fail(LUN_ERR_USAGE, "pictures of %d x %d pixels: 1 to %d a side are possible", params->width,
                        params->height, MAX_SIDE);
    if ((unsigned)params->fit > LUN_FIT_COVER || params->threads < 0)
        return lun_fail(LUN_ERR_USAGE, "fit %d or %d threads are out of range", (int)params->fit, params->threads);
    if (params->channels != 0 && params->channels != 1 && params->channels != 3 && params->channels != 4)
        return lun_fail(LUN_ERR_USAGE, "pictures of %d channels: 1, 3 or 4 are possible", params->channels);
    loading l = {.params = params, .old.fd = -1, .said = ATOMIC_FLAG_INIT};
    l.channels = params->channels ? params->channels : 3;
    l.bytes = (size_t)params->width * (size_t)params->height * (size_t)l.channels;
    LUN_TRY(lun_folder_scan(params->folder, &l.folder));
    const size_t count = l.folder.count;
    lun_status status = LUN_ERR_MEMORY;
    lun_dataset *d = lun_calloc(1, sizeof *d, "a data set");
    if (d) {
        d->file = d->folder = -1;
        d->width = params->width;
        d->height = params->height;
        d->channels = l.channels;
        d->fit = params->fit;
        d->orient = params->orient;
        d->bytes = l.bytes;
        pthread_mutex_init(&l.big, NULL);
        status = load(&l, d);
        if (status == LUN_OK && params->labels)
            status = lun_dataset_find_classes(d);
        pthread_mutex_destroy(&l.big);
    }
    if (status == LUN_OK) {
        lun_log(LUN_LOG_DEBUG, "%zu pictures in %s, %zu skipped", d->count, params->folder, d->skipped);
        *out = d;
        d = NULL;
    }
    lun_dataset_close(&d);
    for (size_t i = 0; l.reasons && i < count; i++)
        free(l.reasons[i]);
    free(l.reasons);
    free(l.match);
    free(l.entries);
    free(l.path);
    free(l.key);
    lun_pixel_cache_close(&l.old);
    lun_folder_free(&l.folder);
    return status;
}
