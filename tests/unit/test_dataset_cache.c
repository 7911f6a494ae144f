/* Decoded pictures kept on disk: the same data set as without, whatever happens to the file. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <lunette/picture_out.h>

#include "base/base.h"
#include "data/pixel_cache.h"
#include "scratch.h"

enum { PICTURES = 11, SIDE = 12, WIDTH = 8, HEIGHT = 6, BYTES = WIDTH * HEIGHT * 3 };

#define OK(call) ck_assert_msg((call) == LUN_OK, "%s", lun_error_detail())

static char logged[16][400];
static int log_count;

static void keep_line(void *payload, lun_log_level level, const char *line)
{
    (void)payload;
    if (level == LUN_LOG_WARN && log_count < 16)
        snprintf(logged[log_count++], sizeof logged[0], "%s", line);
}

static bool was_logged(const char *part)
{
    for (int i = 0; i < log_count; i++) {
        if (strstr(logged[i], part))
            return true;
    }
    return false;
}

static const char *source(int i)
{
    char name[40];
    snprintf(name, sizeof name, "pictures/%03d.png", i);
    return scratch(name);
}

/* Long ago, so that the cache trusts the time. */
static void set_age(const char *path, long seconds)
{
    const struct timespec times[2] = {{1000000000 + seconds, 123456789}, {1000000000 + seconds, 123456789}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void draw(int i, uint32_t scene)
{
    lun_picture picture;
    OK(lun_craters_draw(7, scene, SIDE, &picture));
    OK(lun_png_write(source(i), &picture, NULL, 0));
    lun_picture_free(&picture);
    set_age(source(i), scene);
}

/* Garbage of the same size and time: whoever still gets the picture has not read the file. */
static void hollow_out(int i)
{
    struct stat info;
    ck_assert_int_eq(stat(source(i), &info), 0);
    char *garbage = calloc((size_t)info.st_size, 1);
    put_file(source(i), garbage, (size_t)info.st_size);
    free(garbage);
    const struct timespec times[2] = {info.st_atim, info.st_mtim};
    ck_assert_int_eq(utimensat(AT_FDCWD, source(i), times, 0), 0);
}

static lun_status open_set(const char *cache, lun_dataset **out)
{
    const lun_dataset_params params = {
        .folder = scratch("pictures"), .width = WIDTH, .height = HEIGHT, .threads = 2, .cache = cache};
    return lun_dataset_open(&params, out);
}

static lun_dataset *opened(const char *cache)
{
    lun_dataset *d = NULL;
    OK(open_set(cache, &d));
    return d;
}

/* What the network would see of every picture, and the hash that a run remembers. */
static bool same(const lun_dataset *a, const lun_dataset *b)
{
    const size_t count = lun_dataset_count(a);
    if (count != lun_dataset_count(b) || lun_dataset_skipped(a) != lun_dataset_skipped(b) ||
        lun_dataset_hash(a) != lun_dataset_hash(b))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        float left[BYTES], right[BYTES];
        uint8_t bytes[2][BYTES];
        if (strcmp(lun_dataset_name(a, i), lun_dataset_name(b, i)) != 0 ||
            lun_dataset_images(a, &i, 1, left) != LUN_OK || lun_dataset_images(b, &i, 1, right) != LUN_OK ||
            memcmp(left, right, sizeof left) != 0 || lun_dataset_pixels(a, i, bytes[0]) != LUN_OK ||
            lun_dataset_pixels(b, i, bytes[1]) != LUN_OK || memcmp(bytes[0], bytes[1], BYTES) != 0)
            return false;
    }
    return true;
}

/* The one file in the cache folder. */
static const char *cache_file(void)
{
    static char path[1400];
    DIR *dir = opendir(scratch("cache"));
    ck_assert_ptr_nonnull(dir);
    int found = 0;
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        ck_assert_msg(e->d_name[0] == '.' || strncmp(e->d_name, "pictures-", 9) == 0, "%s", e->d_name);
        ck_assert_msg(strstr(e->d_name, ".tmp.") == NULL, "left behind: %s", e->d_name);
        if (e->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", scratch("cache"), e->d_name);
            found++;
        }
    }
    closedir(dir);
    ck_assert_int_eq(found, 1);
    return path;
}

static ino_t inode_of(const char *path)
{
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    return info.st_ino;
}

/* Change byte `at` of a file; below 0: from its end. */
static void flip(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    fseek(file, at, at < 0 ? SEEK_END : SEEK_SET);
    const int byte = fgetc(file);
    fseek(file, at, at < 0 ? SEEK_END : SEEK_SET);
    fputc(byte ^ 0x10, file);
    ck_assert_int_eq(fclose(file), 0);
}

static lun_dataset *plain; /* of the pictures as setup() makes them, without a cache */

static void setup(void)
{
    scratch_make();
    mkdir(scratch("pictures"), 0755);
    for (int i = 0; i < PICTURES; i++)
        draw(i, (uint32_t)i);
    plain = opened(NULL);
    log_count = 0;
    lun_log_set(keep_line, NULL, LUN_LOG_WARN);
}

static void teardown(void)
{
    lun_log_set(NULL, NULL, LUN_LOG_WARN);
    lun_dataset_close(&plain);
    scratch_remove();
}

START_TEST(the_second_start_decodes_nothing)
{
    lun_dataset *first = opened(scratch("cache/deep")), *again;
    ck_assert(same(first, plain));
    ck_assert_ptr_null(lun_dataset_cache(plain));
    ck_assert_int_eq(
        strncmp(lun_dataset_cache(first), scratch("cache/deep/pictures-"), strlen(scratch("cache/deep/pictures-"))), 0);
    for (int i = 0; i < PICTURES; i++)
        hollow_out(i);
    again = opened(scratch("cache/deep"));
    ck_assert(same(again, plain) && same(first, plain));
    lun_dataset_close(&first);
    lun_dataset_close(&again);
    ck_assert_int_eq(log_count, 0);
    ck_assert_int_eq(open_set(NULL, &again), LUN_ERR_DATA); /* there really is nothing in the folder */
}
END_TEST

START_TEST(only_what_changed_is_decoded)
{
    lun_dataset *d = opened(scratch("cache"));
    lun_dataset_close(&d);
    struct stat info;
    ck_assert_int_eq(stat(cache_file(), &info), 0);
    ck_assert_int_eq(info.st_mode & 0777, 0600);
    draw(4, 104);                                       /* edited */
    ck_assert_int_eq(rename(source(6), source(20)), 0); /* renamed */
    draw(30, 130);                                      /* added */
    unlink(source(8));                                  /* removed */
    set_age(source(2), 77);                             /* touched */
    lun_dataset *want = opened(NULL);
    ck_assert(!same(want, plain));
    for (int i = 0; i < PICTURES; i++) {
        if (i != 4 && i != 6 && i != 8 && i != 2)
            hollow_out(i);
    }
    d = opened(scratch("cache"));
    ck_assert(same(d, want));
    lun_dataset_close(&d);
    /* And now all is remembered. */
    for (int i = 0; i < 31; i++) {
        if (access(source(i), F_OK) == 0)
            hollow_out(i);
    }
    d = opened(scratch("cache"));
    ck_assert(same(d, want));
    lun_dataset_close(&d);
    lun_dataset_close(&want);
    ck_assert_int_eq(log_count, 0);
}
END_TEST

START_TEST(what_is_only_removed_costs_no_new_file)
{
    lun_dataset *d = opened(scratch("cache"));
    lun_dataset_close(&d);
    const ino_t inode = inode_of(cache_file());
    unlink(source(0));
    unlink(source(7));
    put_file(source(40), "x", 1); /* unusable, and one of ten */
    ck_assert_int_eq(open_set(scratch("cache"), &d), LUN_ERR_DATA);
    unlink(source(40));
    lun_dataset *want = opened(NULL);
    d = opened(scratch("cache"));
    ck_assert(same(d, want));
    ck_assert(inode_of(cache_file()) == inode);
    lun_dataset_close(&d);
    lun_dataset_close(&want);
}
END_TEST

/* One unusable picture of many is tried again at every start, and makes no new file. */
START_TEST(unusable_pictures_are_named_each_time)
{
    for (int i = PICTURES; i < 25; i++)
        draw(i, (uint32_t)i);
    put_file(source(26), "x", 1);
    ino_t inode = 0;
    for (int start = 0; start < 3; start++) {
        log_count = 0;
        lun_dataset *d = opened(scratch("cache"));
        ck_assert_uint_eq(lun_dataset_count(d), 25);
        ck_assert_uint_eq(lun_dataset_skipped(d), 1);
        ck_assert(log_count == 1 && was_logged("skipped 026.png: neither"));
        ck_assert(start == 0 || inode_of(cache_file()) == inode);
        inode = inode_of(cache_file());
        lun_dataset_close(&d);
    }
    draw(26, 26);
    lun_dataset *want = opened(NULL), *d = opened(scratch("cache"));
    ck_assert(same(d, want) && lun_dataset_count(d) == 26);
    lun_dataset_close(&d);
    lun_dataset_close(&want);
}
END_TEST

/* Changed twice within what a file system's clock can tell apart: the second change counts. */
START_TEST(fresh_files_are_not_trusted)
{
    lun_picture picture;
    struct stat info;
    OK(lun_craters_draw(7, 50, SIDE, &picture));
    OK(lun_png_write(source(3), &picture, NULL, 0));
    lun_dataset *d = opened(scratch("cache"));
    lun_dataset_close(&d);
    ck_assert_int_eq(stat(source(3), &info), 0);
    for (size_t i = 0; i < (size_t)SIDE * SIDE * 3; i++)
        picture.pixels[i] = (uint8_t)(255 - picture.pixels[i]);
    OK(lun_png_write(source(3), &picture, NULL, 0));
    lun_picture_free(&picture);
    /* The same size, which PNG does not promise, and the same time. */
    ck_assert_int_eq(truncate(source(3), info.st_size), 0);
    const struct timespec times[2] = {info.st_atim, info.st_mtim};
    ck_assert_int_eq(utimensat(AT_FDCWD, source(3), times, 0), 0);
    lun_dataset *want = NULL;
    const lun_status expected = open_set(NULL, &want);
    ck_assert_int_eq(open_set(scratch("cache"), &d), expected);
    if (expected == LUN_OK)
        ck_assert(same(d, want));
    lun_dataset_close(&d);
    lun_dataset_close(&want);
}
END_TEST

START_TEST(sizes_and_fits_have_files_of_their_own)
{
    const lun_dataset_params kinds[] = {{.width = 8, .height = 6},
                                        {.width = 6, .height = 8},
                                        {.width = 8, .height = 6, .fit = LUN_FIT_CROP},
                                        {.width = 8, .height = 6, .fit = LUN_FIT_COVER},
                                        {.width = 8, .height = 6, .channels = 1},
                                        {.width = 8, .height = 6, .channels = 4},
                                        {.width = 8, .height = 6, .orient = 1}};
    for (size_t round = 0; round < 2; round++) {
        for (size_t k = 0; k < LUN_COUNT(kinds); k++) {
            lun_dataset_params params = kinds[k];
            lun_dataset *d = NULL;
            params.folder = scratch("pictures");
            params.cache = scratch("cache");
            OK(lun_dataset_open(&params, &d));
            lun_dataset_close(&d);
        }
        ck_assert_int_eq(count_entries(scratch("cache")), (int)LUN_COUNT(kinds));
    }
    /* The same folder by another way, and with the usual number of channels said. */
    const lun_dataset_params params = {
        .folder = scratch("pictures/../pictures/."), .width = 8, .height = 6, .channels = 3, .cache = scratch("cache")};
    lun_dataset *d = NULL;
    OK(lun_dataset_open(&params, &d));
    lun_dataset_close(&d);
    ck_assert_int_eq(count_entries(scratch("cache")), (int)LUN_COUNT(kinds));
}
END_TEST

/* ---- Damage
 * --------------------------------------------------------------------------------------------------------------- */

START_TEST(a_damaged_file_is_made_anew)
{
    for (int kind = 0; kind < 6; kind++) {
        lun_dataset *d = opened(scratch("cache"));
        lun_dataset_close(&d);
        const char *path = cache_file();
        struct stat info;
        ck_assert_int_eq(stat(path, &info), 0);
        log_count = 0;
        if (kind == 0)
            ck_assert_int_eq(truncate(path, 0), 0);
        else if (kind == 1)
            ck_assert_int_eq(truncate(path, info.st_size - 1), 0);
        else if (kind == 2)
            ck_assert_int_eq(truncate(path, (off_t)1 << 40), 0); /* a terabyte of nothing */
        else if (kind == 3)
            put_file(path, "something else", 14);
        else
            flip(path, kind == 4 ? 20 : -5);
        d = opened(scratch("cache"));
        ck_assert(same(d, plain));
        ck_assert_msg(log_count == 1 && was_logged("is damaged") && was_logged("it is made anew"), "kind %d: %s", kind,
                      logged[0]);
        lun_dataset_close(&d);
        log_count = 0;
        d = opened(scratch("cache"));
        ck_assert(same(d, plain) && log_count == 0);
        lun_dataset_close(&d);
    }
}
END_TEST

/* The head as pixel_cache.c lays it out: 16 letters, seven numbers, two hashes. */
enum { HEAD_NUMBERS = 16, HEAD_HASH = 16 + 8 * 8, HEAD = HEAD_HASH + 8 };

START_TEST(no_lie_is_believed)
{
    lun_dataset *d = opened(scratch("cache"));
    lun_dataset_close(&d);
    size_t size = 0;
    char *whole = get_file(cache_file(), &size), key[1000] = {0};
    uint64_t number[7];
    memcpy(number, whole + HEAD_NUMBERS, sizeof number);
    ck_assert_uint_eq(number[1], size);
    ck_assert_uint_eq(number[3], PICTURES);
    ck_assert_uint_lt(number[4], sizeof key);
    memcpy(key, whole + HEAD, (size_t)number[4]);
    lun_pixel_cache c;
    OK(lun_pixel_cache_open(cache_file(), key, 3, &c));
    ck_assert_uint_eq(c.count, PICTURES);
    lun_pixel_cache_close(&c);
    /* Another key is no damage, but another file. */
    OK(lun_pixel_cache_open(cache_file(), "other", 3, &c));
    ck_assert(c.fd < 0 && c.count == 0 && log_count == 0);
    OK(lun_pixel_cache_open(cache_file(), key, 4, &c));
    ck_assert(c.fd < 0 && c.count == 0 && log_count == 0);

    const char *bad = scratch("bad");
    char *copy = malloc(size);
    /* Every byte of head, key and table. */
    const size_t table = size - (size_t)number[5];
    for (size_t at = 0; at < size; at++) {
        if (at >= HEAD + number[4] && at < table)
            continue;
        memcpy(copy, whole, size);
        copy[at] = (char)(copy[at] ^ (1 << at % 8));
        put_file(bad, copy, size);
        OK(lun_pixel_cache_open(bad, key, 3, &c));
        ck_assert_msg(c.fd < 0 && c.count == 0 && !c.entries, "byte %zu", at);
    }
    /* Every length. */
    for (size_t length = 0; length < size; length += length < 300 || length > table ? 1 : 97) {
        put_file(bad, whole, length);
        OK(lun_pixel_cache_open(bad, key, 3, &c));
        ck_assert_msg(c.fd < 0 && c.count == 0 && !c.entries, "length %zu", length);
    }
    /* Lies with a right checksum of the head. */
    static const uint64_t lies[] = {
        0,         1, 7, PICTURES - 1, PICTURES + 1, 1 << 20, UINT64_C(1) << 32, UINT64_C(1) << 61, UINT64_C(1) << 63,
        UINT64_MAX};
    for (size_t field = 1; field < 7; field++) {
        for (size_t k = 0; k < LUN_COUNT(lies); k++) {
            memcpy(copy, whole, size);
            memcpy(copy + HEAD_NUMBERS + 8 * field, &lies[k], 8);
            const uint64_t hash = lun_hash(LUN_HASH_START, copy, HEAD_HASH);
            memcpy(copy + HEAD_HASH, &hash, 8);
            put_file(bad, copy, size);
            OK(lun_pixel_cache_open(bad, key, 3, &c));
            ck_assert_msg(c.fd < 0 && c.count == 0 && !c.entries, "field %zu says %llx", field,
                          (unsigned long long)lies[k]);
        }
    }
    /* A name's length, with all checksums right. */
    for (size_t k = 0; k < LUN_COUNT(lies); k++) {
        memcpy(copy, whole, size);
        memcpy(copy + table + 32, &lies[k], 8);
        uint64_t hash = lun_hash(lun_hash(LUN_HASH_START, copy + HEAD, (size_t)number[4]), copy + table, size - table);
        memcpy(copy + HEAD_HASH - 8, &hash, 8);
        hash = lun_hash(LUN_HASH_START, copy, HEAD_HASH);
        memcpy(copy + HEAD_HASH, &hash, 8);
        put_file(bad, copy, size);
        OK(lun_pixel_cache_open(bad, key, 3, &c));
        ck_assert_msg(c.fd < 0 && c.count == 0 && !c.entries, "a name of %llx", (unsigned long long)lies[k]);
    }
    /* A picture's size, with all checksums right: the pixels then do not fill what lies before the table. */
    static const int32_t sides[] = {0, 1, -1, WIDTH - 1, WIDTH + 1, 65536, 65537, INT32_MAX, INT32_MIN};
    for (size_t k = 0; k < 2 * LUN_COUNT(sides); k++) {
        memcpy(copy, whole, size);
        memcpy(copy + table + 40 + 4 * (k % 2), &sides[k / 2], 4);
        uint64_t hash = lun_hash(lun_hash(LUN_HASH_START, copy + HEAD, (size_t)number[4]), copy + table, size - table);
        memcpy(copy + HEAD_HASH - 8, &hash, 8);
        hash = lun_hash(LUN_HASH_START, copy, HEAD_HASH);
        memcpy(copy + HEAD_HASH, &hash, 8);
        put_file(bad, copy, size);
        OK(lun_pixel_cache_open(bad, key, 3, &c));
        ck_assert_msg(c.fd < 0 && c.count == 0 && !c.entries, "a side of %d", (int)sides[k / 2]);
    }
    /* No regular file; a pipe is not waited for. */
    unlink(bad);
    ck_assert_int_eq(mkfifo(bad, 0600), 0);
    OK(lun_pixel_cache_open(bad, key, 3, &c));
    ck_assert(c.fd < 0);
    OK(lun_pixel_cache_open(scratch("pictures"), key, 3, &c));
    ck_assert(c.fd < 0);
    free(copy);
    free(whole);
}
END_TEST

static void *read_all(void *payload)
{
    static char good;
    return same(payload, plain) ? &good : NULL;
}

/* Pixels are checked when they are read; several threads meet the damage. */
START_TEST(damaged_pixels_are_decoded_again)
{
    lun_dataset *d = opened(scratch("cache"));
    lun_dataset_close(&d);
    flip(cache_file(), 4096 + 5 * BYTES + 17);
    d = opened(scratch("cache"));
    ck_assert_int_eq(log_count, 0);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_all, d), 0);
    for (int i = 0; i < 4; i++) {
        void *good = NULL;
        pthread_join(threads[i], &good);
        ck_assert_ptr_nonnull(good);
    }
    ck_assert_msg(log_count == 1 && was_logged("is damaged at 005.png"), "%d: %s", log_count, logged[0]);
    ck_assert_int_eq(count_entries(scratch("cache")), 0); /* so that the next start makes it anew */
    /* What cannot be had from the picture either. */
    float images[BYTES];
    const uint32_t five = 5;
    draw(5, 105);
    ck_assert_int_eq(lun_dataset_images(d, &five, 1, images), LUN_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "005.png"));
    unlink(source(5));
    ck_assert_int_eq(lun_dataset_images(d, &five, 1, images), LUN_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "No such file"));
    lun_dataset_close(&d);
}
END_TEST

/* The same damage met while the cache is made anew for another reason. */
START_TEST(damaged_pixels_are_not_copied)
{
    lun_dataset *d = opened(scratch("cache"));
    lun_dataset_close(&d);
    flip(cache_file(), 4096 + 5 * BYTES + 17);
    draw(9, 109);
    lun_dataset *want = opened(NULL);
    for (int start = 0; start < 2; start++) {
        d = opened(scratch("cache"));
        ck_assert(same(d, want));
        lun_dataset_close(&d);
    }
    ck_assert_msg(log_count == 1 && was_logged("is damaged at 005.png"), "%d: %s", log_count, logged[0]);
    lun_dataset_close(&want);
}
END_TEST

START_TEST(a_file_cut_while_it_is_open)
{
    lun_dataset *d = opened(scratch("cache"));
    ck_assert(same(d, plain));
    ck_assert_int_eq(truncate(cache_file(), 5000), 0);
    ck_assert(same(d, plain));
    ck_assert_int_eq(log_count, 1);
    lun_dataset_close(&d);
}
END_TEST

/* ---- Disks
 * ---------------------------------------------------------------------------------------------------------------- */

START_TEST(without_a_place_the_pictures_stay_in_memory)
{
    lun_dataset *d;
    put_file(scratch("file"), "x", 1);
    d = opened(scratch("file/cache"));
    ck_assert(same(d, plain));
    ck_assert(log_count == 1 && was_logged("no cache of the decoded pictures") && was_logged("kept in memory"));
    lun_dataset_close(&d);

    /* A disk that fills up. */
    struct rlimit before, limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (rlim_t bytes = 0; bytes < 7000; bytes += 500) {
        limit = (struct rlimit){bytes, before.rlim_max};
        log_count = 0;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const lun_status status = open_set(scratch("cache"), &d);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
        ck_assert_int_eq(status, LUN_OK);
        ck_assert(same(d, plain));
        lun_dataset_close(&d);
        if (count_entries(scratch("cache")) != 0) /* all of it fitted */
            break;
        ck_assert_msg(log_count == 1 && was_logged("File too large"), "%s", logged[0]);
    }
    signal(SIGXFSZ, SIG_DFL);
    ck_assert_ptr_nonnull(cache_file());

    /* With a cache that cannot be replaced, what it has is still used. */
    for (int i = 0; i < PICTURES; i++) {
        if (i != 3)
            hollow_out(i);
    }
    set_age(source(3), 99);
    limit = (struct rlimit){4096, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    const lun_status status = open_set(scratch("cache"), &d);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    ck_assert_int_eq(status, LUN_OK);
    ck_assert(same(d, plain));
    lun_dataset_close(&d);
}
END_TEST

/* Neither disk nor memory: a disk's fault. The pictures are links to one file, refused before any is decoded. */
START_TEST(too_much_for_disk_and_memory)
{
    mkdir(scratch("many"), 0755);
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    const int links = (int)(memory / (3.0 * 4096 * 4096)) + 10;
    if (links > 20000)
        return; /* a machine with a terabyte */
    for (int i = 0; i < links; i++) {
        char name[40];
        snprintf(name, sizeof name, "many/%d.png", i);
        ck_assert_int_eq(symlink("../pictures/000.png", scratch(name)), 0);
    }
    put_file(scratch("file"), "x", 1);
    lun_dataset *d = NULL;
    lun_dataset_params params = {.folder = scratch("many"), .width = 4096, .height = 4096};
    ck_assert_int_eq(lun_dataset_open(&params, &d), LUN_ERR_MEMORY);
    params.cache = scratch("file/cache");
    ck_assert_int_eq(lun_dataset_open(&params, &d), LUN_ERR_STORAGE);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "not a directory"));
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "GiB"));
}
END_TEST

/* Processes that read, write and remove the same cache at once all get the right pictures. */
START_TEST(many_processes_at_once)
{
    pid_t children[5];
    for (int c = 0; c < 5; c++) {
        children[c] = fork();
        ck_assert_int_ge(children[c], 0);
        if (children[c] == 0) {
            int good = 1;
            for (int round = 0; round < 12 && good; round++) {
                lun_dataset *d = NULL;
                if (c == 0) {
                    char command[700];
                    snprintf(command, sizeof command, "rm -f '%s'/pictures-*", scratch("cache"));
                    good = system(command) == 0;
                }
                good = good && open_set(scratch("cache"), &d) == LUN_OK && same(d, plain);
                lun_dataset_close(&d);
            }
            _exit(good ? 0 : 1);
        }
    }
    for (int c = 0; c < 5; c++) {
        int status = -1;
        ck_assert_int_eq(waitpid(children[c], &status, 0), children[c]);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_ptr_nonnull(cache_file());
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dataset_cache");
    TCase *tests = tcase_create("dataset_cache");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_second_start_decodes_nothing);
    tcase_add_test(tests, only_what_changed_is_decoded);
    tcase_add_test(tests, what_is_only_removed_costs_no_new_file);
    tcase_add_test(tests, unusable_pictures_are_named_each_time);
    tcase_add_test(tests, fresh_files_are_not_trusted);
    tcase_add_test(tests, sizes_and_fits_have_files_of_their_own);
    tcase_add_test(tests, a_damaged_file_is_made_anew);
    tcase_add_test(tests, no_lie_is_believed);
    tcase_add_test(tests, damaged_pixels_are_decoded_again);
    tcase_add_test(tests, damaged_pixels_are_not_copied);
    tcase_add_test(tests, a_file_cut_while_it_is_open);
    tcase_add_test(tests, without_a_place_the_pictures_stay_in_memory);
    tcase_add_test(tests, too_much_for_disk_and_memory);
    tcase_add_test(tests, many_processes_at_once);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
