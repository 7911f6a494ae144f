#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "patience.h"
#include "picture.h"

/* Above this a picture waits for its turn. */
#define BIG_PIXELS (UINT64_C(1) << 22)

void lun_picture_free(lun_picture *picture)
{
    if (!picture)
        return;
    free(picture->pixels);
    *picture = (lun_picture){0};
}

lun_status lun_picture_alloc(int width, int height, int channels, lun_picture *out)
{
    uint8_t *pixels = lun_malloc((size_t)width * (size_t)height, (size_t)channels, "a picture");
    if (!pixels)
        return LUN_ERR_MEMORY;
    *out = (lun_picture){width, height, pixels, channels};
    return LUN_OK;
}

bool lun_picture_sound(const lun_picture *picture)
{
    return picture && picture->pixels && picture->width > 0 && picture->height > 0 &&
           (picture->channels == 1 || picture->channels == 3 || picture->channels == 4);
}

lun_status lun_picture_crop(const lun_picture *src, int x, int y, int width, int height, lun_picture *out)
{
    if (!lun_picture_sound(src) || !out || x < 0 || y < 0 || width < 1 || height < 1 || width > src->width - x ||
        height > src->height - y)
        return lun_fail(LUN_ERR_USAGE, "crop of %d x %d pixels at (%d, %d) leaves the picture", width, height, x, y);
    lun_picture crop;
    LUN_TRY(lun_picture_alloc(width, height, src->channels, &crop));
    const size_t channels = (size_t)src->channels, bytes = (size_t)width * channels;
    for (int row = 0; row < height; row++)
        memcpy(crop.pixels + (size_t)row * bytes,
               src->pixels + ((size_t)(y + row) * (size_t)src->width + (size_t)x) * channels, bytes);
    *out = crop;
    return LUN_OK;
}

lun_picture_kind lun_picture_sniff(const uint8_t *bytes, size_t count)
{
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static const uint8_t jpeg[3] = {0xff, 0xd8, 0xff};
    if (count >= sizeof png && memcmp(bytes, png, sizeof png) == 0)
        return LUN_KIND_PNG;
    if (count >= sizeof jpeg && memcmp(bytes, jpeg, sizeof jpeg) == 0)
        return LUN_KIND_JPEG;
    return LUN_KIND_OTHER;
}

lun_status lun_decode_begin(lun_decode *decode, uint64_t width, uint64_t height, uint64_t least_bytes)
{
    if (width < 1 || height < 1 || width > LUN_PICTURE_MAX_SIDE || height > LUN_PICTURE_MAX_SIDE ||
        width * height > LUN_PICTURE_MAX_PIXELS)
        return lun_fail(LUN_ERR_DATA, "%llu x %llu pixels, outside 1 x 1 to %d a side and %d in all",
                        (unsigned long long)width, (unsigned long long)height, LUN_PICTURE_MAX_SIDE,
                        LUN_PICTURE_MAX_PIXELS);
    if (decode->file_bytes < least_bytes)
        return lun_fail(LUN_ERR_DATA, "%llu x %llu pixels cannot lie in %llu bytes", (unsigned long long)width,
                        (unsigned long long)height, (unsigned long long)decode->file_bytes);
    if (decode->big && !decode->big_held && width * height > BIG_PIXELS) {
        pthread_mutex_lock(decode->big);
        decode->big_held = true;
    }
    return LUN_OK;
}

void lun_decode_end(lun_decode *decode)
{
    if (decode->big_held)
        pthread_mutex_unlock(decode->big);
    decode->big_held = false;
}

/* One pixel of `have` channels (3 or 4) as one of `want`. */
static inline void convert_one(const uint8_t *src, int have, uint8_t *dst, int want)
{
    uint8_t rgb[3] = {src[0], src[1], src[2]};
    const unsigned alpha = have == 4 ? src[3] : 255;
    if (want == 4) {
        memcpy(dst, rgb, 3);
        dst[3] = (uint8_t)alpha;
        return;
    }
    if (alpha < 255) {
        for (int c = 0; c < 3; c++)
            rgb[c] = lun_mul_255(rgb[c], alpha);
    }
    if (want == 3)
        memcpy(dst, rgb, 3);
    else
        dst[0] = (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
}

void lun_pixels_convert(const uint8_t *src, int have, uint8_t *dst, int want, size_t pixels)
{
    if (have == want && src != dst)
        memcpy(dst, src, pixels * (size_t)have);
    if (have == want)
        return;
    /* Backwards where a pixel grows, so that dst may be src. */
    for (size_t k = 0; k < pixels; k++) {
        const size_t i = want > have ? pixels - 1 - k : k;
        convert_one(src + i * (size_t)have, have, dst + i * (size_t)want, want);
    }
}

static lun_status decode_file(FILE *file, lun_decode *decode, lun_picture *out)
{
    uint8_t start[8];
    const size_t count = fread(start, 1, sizeof start, file);
    if (ferror(file) || fseek(file, 0, SEEK_SET) != 0)
        return lun_fail(LUN_ERR_DATA, "%s", strerror(errno));
    switch (lun_picture_sniff(start, count)) {
    case LUN_KIND_PNG: return lun_png_decode(file, decode, out);
    case LUN_KIND_JPEG: return lun_jpeg_decode(file, decode, out);
    case LUN_KIND_OTHER: break;
    }
    return lun_fail(LUN_ERR_DATA, count ? "neither a PNG nor a JPEG picture" : "empty file");
}

lun_status lun_picture_decode(int at, const char *name, lun_decode *decode, lun_picture *out)
{
    struct stat info;
    /* Looked at before it is opened, since opening a device may already do something, and after, since it may have been
     * replaced; O_NONBLOCK, since a pipe without a writer would be waited for. */
    if (fstatat(at, name, &info, 0) != 0)
        return lun_fail(LUN_ERR_DATA, "%s", strerror(errno));
    if (S_ISDIR(info.st_mode))
        return lun_fail(LUN_ERR_DATA, "a folder that cannot be read as a file or searched");
    if (!S_ISREG(info.st_mode))
        return lun_fail(LUN_ERR_DATA, "not a regular file");
    const int fd = lun_open_at(at, name, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return lun_fail(LUN_ERR_DATA, "%s", strerror(errno));
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return lun_fail(LUN_ERR_DATA, "not a regular file");
    }
    FILE *file = fdopen(fd, "rb");
    if (!file) {
        close(fd);
        return lun_fail(LUN_ERR_MEMORY, "out of memory (a file stream)");
    }
    decode->file_bytes = (uint64_t)info.st_size;
    decode->file_time = info.st_mtim;
    const lun_status status = decode_file(file, decode, out);
    fclose(file);
    return status;
}

lun_status lun_picture_load_as(const char *path, int orient, int channels, lun_picture *out)
{
    if (!path || !out)
        return lun_fail(LUN_ERR_USAGE, "lun_picture_load: NULL argument");
    if (channels != 0 && channels != 1 && channels != 3 && channels != 4)
        return lun_fail(LUN_ERR_USAGE, "a picture of %d channels: 1, 3 or 4 are possible", channels);
    lun_decode decode = {.orient = orient, .channels = channels};
    const lun_status status = lun_picture_decode(AT_FDCWD, path, &decode, out);
    lun_decode_end(&decode);
    return status == LUN_ERR_DATA ? lun_fail(status, "%s: %s", path, lun_error_detail()) : status;
}

lun_status lun_picture_load(const char *path, int orient, lun_picture *out)
{
    return lun_picture_load_as(path, orient, 3, out);
}

/* ---- What a folder holds
 * ------------------------------------------------------------------------------------------------ */

static int by_number(const void *a, const void *b)
{
    const int left = *(const int *)a, right = *(const int *)b;
    return (left > right) - (left < right);
}

lun_status lun_folder_look(const char *folder, lun_folder_survey *out)
{
    if (!folder || !out)
        return lun_fail(LUN_ERR_USAGE, "lun_folder_look: NULL argument");
    lun_folder_survey s = {0};
    lun_folder files;
    size_t read = 0;
    LUN_TRY(lun_folder_scan(folder, &files));
    lun_status status = LUN_OK;
    int *sides = lun_malloc(files.count, sizeof *sides, "the sizes of pictures");
    if (!sides)
        status = LUN_ERR_MEMORY;
    lun_patience *patience = lun_patience_start(folder, LUN_PATIENCE);
    for (size_t i = 0; i < files.count && status == LUN_OK; i++) {
        lun_decode decode = {.header_only = true};
        lun_patience_reads(patience, 0, files.names[i]);
        lun_picture none = {0};
        status = lun_picture_decode(files.fd, files.names[i], &decode, &none);
        if (status == LUN_OK) {
            (*(decode.found == 1 ? &s.grey : decode.found == 3 ? &s.colour : &s.alpha))++;
            sides[read++] = decode.shorter_side;
        } else if (status == LUN_ERR_DATA) {
            status = LUN_OK; /* opening the data set names it */
        }
    }
    lun_patience_stop(&patience);
    if (read > 0) {
        qsort(sides, read, sizeof *sides, by_number);
        s.side = sides[read / 2];
    }
    s.channels = read > 0 && s.alpha == read ? 4 : read > 0 && s.grey == read ? 1 : 3;
    free(sides);
    lun_folder_free(&files);
    if (status == LUN_OK)
        *out = s;
    return status;
}
