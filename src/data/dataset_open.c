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
#include "loading.h"

#define MAX_SIDE 4096

static size_t count_matches(const lun_loading *l)
{
    size_t known = 0;
    for (size_t i = 0; i < l->folder.count; i++)
        known += l->match[i] != LUN_LOADING_NONE;
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
static void keep_usable(lun_dataset *d, lun_loading *l)
{
    lun_folder *folder = &l->folder;
    uint64_t hash = lun_hash(LUN_HASH_START, &d->width, sizeof d->width);
    hash = hash_shape(d, lun_hash(hash, &d->height, sizeof d->height));
    size_t kept = 0, first = 0;
    d->alike = true;
    for (size_t i = 0; i < folder->count; i++) {
        const lun_pixel_entry *entry = &l->entries[i];
        if (l->reasons[i]) {
            free(folder->names[i]);
            continue;
        }
        first = kept == 0 ? i : first;
        d->alike = d->alike && entry->hash == l->entries[first].hash && entry->width == l->entries[first].width;
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

static lun_status load_to_memory(lun_loading *l, lun_dataset *d)
{
    size_t usable = 0;
    const size_t count = l->folder.count;
    LUN_TRY(lun_loading_check_memory(l, (double)count * (double)l->bytes));
    LUN_TRY(make_extents(d, count));
    d->count = count; /* of the places in `pictures`, until the names are there */
    d->pictures = lun_calloc(count, sizeof *d->pictures, "the pictures of a data set");
    if (!d->pictures)
        return LUN_ERR_MEMORY;
    LUN_TRY(lun_loading_run(l, d->pictures, NULL));
    LUN_TRY(lun_loading_judge(l, &usable));
    keep_usable(d, l);
    return LUN_OK;
}

/* ---- With a cache
 * ---------------------------------------------------------------------------------------------------------- */

static lun_status name_cache(lun_loading *l)
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
static void match_candidates(lun_loading *l)
{
    const lun_dataset_params *p = l->params;
    size_t k = 0;
    for (size_t i = 0; i < l->folder.count; i++) {
        const char *name = l->folder.names[i];
        int order = 1;
        while (k < l->old.count && (order = strcmp(l->old.entries[k].name, name)) < 0)
            k++;
        struct stat info;
        lun_patience_reads(l->patience, 0, name);
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
    lun_patience_reads(l->patience, 0, NULL);
}

/* *whole: nothing usable is missing in the old cache. What is not usable is never in it and has to be tried each time;
 * the first that is usable ends the search. */
static lun_status look_for_more(lun_loading *l, bool *whole)
{
    *whole = l->old.count > 0;
    if (!*whole)
        return LUN_OK;
    lun_status status = LUN_OK;
    for (size_t i = 0; i < l->folder.count && *whole && status == LUN_OK; i++) {
        if (l->match[i] != LUN_LOADING_NONE)
            continue;
        uint8_t *pixels = NULL;
        lun_patience_reads(l->patience, 0, l->folder.names[i]);
        status = lun_loading_decode(l, i, &pixels);
        lun_patience_reads(l->patience, 0, NULL);
        free(pixels);
        *whole = l->reasons[i] != NULL;
    }
    return status;
}

/* Give the data set what it needs to read from a cache. The descriptor `file` becomes its own. */
static lun_status read_from(lun_loading *l, lun_dataset *d, int file)
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
static lun_status check_room(const lun_loading *l)
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
static lun_status load_to_cache(lun_loading *l, lun_dataset *d)
{
    lun_pixel_writer *writer = NULL;
    size_t usable = 0;
    int file = -1;
    LUN_TRY(lun_make_dirs(l->params->cache));
    LUN_TRY(check_room(l));
    LUN_TRY(lun_pixel_writer_begin(l->path, l->key, (size_t)l->channels, &writer));
    lun_status status = lun_loading_run(l, NULL, writer);
    if (status == LUN_OK)
        status = lun_loading_judge(l, &usable);
    if (status != LUN_OK) {
        lun_pixel_writer_discard(writer);
        return status;
    }
    LUN_TRY(lun_pixel_writer_end(writer, &file));
    return read_from(l, d, file);
}

static lun_status load_with_cache(lun_loading *l, lun_dataset *d)
{
    bool whole = false;
    LUN_TRY(name_cache(l));
    LUN_TRY(lun_pixel_cache_open(l->path, l->key, (size_t)l->channels, &l->old));
    match_candidates(l);
    LUN_TRY(look_for_more(l, &whole));
    if (whole) {
        size_t usable = 0;
        LUN_TRY(lun_loading_judge(l, &usable));
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

static lun_status load(lun_loading *l, lun_dataset *d)
{
    const size_t count = l->folder.count;
    size_t usable = 0;
    l->match = lun_malloc(count, sizeof *l->match, "a data set");
    l->entries = lun_calloc(count, sizeof *l->entries, "a data set");
    l->reasons = lun_calloc(count, sizeof *l->reasons, "a data set");
    l->longer = lun_calloc(count, sizeof *l->longer, "a data set");
    if (!l->match || !l->entries || !l->reasons || !l->longer)
        return LUN_ERR_MEMORY;
    if (count == 0)
        return lun_loading_judge(l, &usable);
    for (size_t i = 0; i < count; i++)
        l->match[i] = LUN_LOADING_NONE;
    return l->params->cache ? load_with_cache(l, d) : load_to_memory(l, d);
}

/* Pictures that are all the same are rarely meant: a wrong folder, or what a converter made of files that it could not
 * read. */
static void warn_alike(const lun_dataset *d, const char *folder)
{
    if (!d->alike || d->count < 2)
        return;
    uint8_t *pixels = lun_malloc(d->bytes, 1, "a picture");
    bool plain = pixels && lun_dataset_pixels(d, 0, pixels) == LUN_OK;
    for (size_t i = (size_t)d->channels; plain && i < d->bytes; i++)
        plain = pixels[i] == pixels[i % (size_t)d->channels];
    lun_log(LUN_LOG_WARN, "all %zu pictures in %s are alike%s: there is nothing else to learn from them", d->count,
            folder, plain ? ", and of a single colour" : "");
    free(pixels);
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
    lun_loading l = {.params = params, .old.fd = -1, .said = ATOMIC_FLAG_INIT};
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
        atomic_init(&d->holders, 1);
        pthread_mutex_init(&l.big, NULL);
        l.patience = lun_patience_start(params->folder, LUN_PATIENCE);
        status = load(&l, d);
        if (status == LUN_OK)
            warn_alike(d, params->folder);
        lun_patience_stop(&l.patience);
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
    free(l.longer);
    free(l.match);
    free(l.entries);
    free(l.path);
    free(l.key);
    lun_pixel_cache_close(&l.old);
    lun_folder_free(&l.folder);
    return status;
}
