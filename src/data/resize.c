/* The antialiased triangle filter of Pillow (its Resample.c is what "equal" is measured against).
 *
 * For output position o of `full` from `in` inputs, with scale = in / full and reach = max(scale, 1):
 *   centre = (o + 1/2) * scale,   weight(i) = max(0, 1 - |i + 1/2 - centre| / reach), normalised to sum 1,
 * over the inputs from floor(centre - reach + 1/2) to floor(centre + reach + 1/2) - 1 that exist.
 * Weights are rounded to 22 fractional bits; each pass rounds its sums to 8 bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

#define WEIGHT_BITS   22
#define COVER_WINDOWS 4

/* Outputs [first, first + count) of one axis: output k sums weights[k * stride ...] over inputs [start, start +
 * length). */
typedef struct taps {
    int *start, *length;
    int32_t *weights;
    size_t stride;
} taps;

static void taps_free(taps *t)
{
    free(t->start);
    free(t->length);
    free(t->weights);
    *t = (taps){0};
}

static lun_status taps_make(int in, int full, int first, int count, taps *out)
{
    const double scale = (double)in / full;
    const double reach = scale < 1 ? 1 : scale;
    taps t = {.stride = (size_t)ceil(reach) * 2 + 1};
    t.start = lun_malloc((size_t)count, sizeof *t.start, "resizing");
    t.length = lun_malloc((size_t)count, sizeof *t.length, "resizing");
    t.weights = lun_calloc((size_t)count * t.stride, sizeof *t.weights, "resizing");
    double *weight = lun_malloc(t.stride, sizeof *weight, "resizing");
    if (!t.start || !t.length || !t.weights || !weight) {
        taps_free(&t);
        free(weight);
        return LUN_ERR_MEMORY;
    }
    for (int k = 0; k < count; k++) {
        const double centre = (first + k + 0.5) * scale;
        const double inverse = 1.0 / reach; /* multiplied, not divided by: the last bit decides some roundings */
        const int low = (int)lun_max_i64((int64_t)(centre - reach + 0.5), 0);
        const int high = (int)lun_min_i64((int64_t)(centre + reach + 0.5), in);
        double sum = 0;
        for (int i = 0; i < high - low; i++) {
            const double distance = fabs((i + low - centre + 0.5) * inverse);
            weight[i] = distance < 1 ? 1 - distance : 0;
            sum += weight[i];
        }
        for (int i = 0; i < high - low; i++)
            t.weights[(size_t)k * t.stride + (size_t)i] =
                (int32_t)(0.5 + (sum != 0 ? weight[i] / sum : 0) * (1 << WEIGHT_BITS));
        t.start[k] = low;
        t.length[k] = high - low;
    }
    free(weight);
    *out = t;
    return LUN_OK;
}

/* The weights of one output may sum to a little more than 1. */
static uint8_t to_byte(int32_t sum)
{
    const int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v > 255 ? 255 : v);
}

static void pass_columns(const taps *t, int count, int channels, const uint8_t *src, uint8_t *dst)
{
    if (channels == 3) {
        for (int k = 0; k < count; k++) {
            const uint8_t *p = src + (size_t)t->start[k] * 3;
            const int32_t *w = t->weights + (size_t)k * t->stride;
            int32_t r = 1 << (WEIGHT_BITS - 1), g = r, b = r;
            for (int i = 0; i < t->length[k]; i++, p += 3) {
                r += p[0] * w[i];
                g += p[1] * w[i];
                b += p[2] * w[i];
            }
            dst[3 * k] = to_byte(r);
            dst[3 * k + 1] = to_byte(g);
            dst[3 * k + 2] = to_byte(b);
        }
        return;
    }
    for (int k = 0; k < count; k++) {
        const int32_t *w = t->weights + (size_t)k * t->stride;
        for (int c = 0; c < channels; c++) {
            const uint8_t *p = src + (size_t)t->start[k] * (size_t)channels + c;
            int32_t sum = 1 << (WEIGHT_BITS - 1);
            for (int i = 0; i < t->length[k]; i++, p += channels)
                sum += *p * w[i];
            dst[channels * k + c] = to_byte(sum);
        }
    }
}

/* `sums` has one number for each of `bytes`. */
static void pass_rows(const taps *t, int k, const uint8_t *src, size_t bytes, int32_t *sums, uint8_t *dst)
{
    for (size_t x = 0; x < bytes; x++)
        sums[x] = 1 << (WEIGHT_BITS - 1);
    for (int i = 0; i < t->length[k]; i++) {
        const int32_t w = t->weights[(size_t)k * t->stride + (size_t)i];
        const uint8_t *p = src + (size_t)(t->start[k] + i) * bytes;
        for (size_t x = 0; x < bytes; x++)
            sums[x] += p[x] * w;
    }
    for (size_t x = 0; x < bytes; x++)
        dst[x] = to_byte(sums[x]);
}

/* Colours times alpha, so that what cannot be seen has no say in the sums; dst is another row. */
static void multiply(const uint8_t *src, size_t pixels, uint8_t *dst)
{
    for (size_t i = 0; i < pixels; i++, src += 4, dst += 4) {
        for (int c = 0; c < 3; c++)
            dst[c] = lun_mul_255(src[c], src[3]);
        dst[3] = src[3];
    }
}

static void divide(uint8_t *pixel, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++, pixel += 4) {
        const unsigned alpha = pixel[3];
        for (int c = 0; c < 3 && alpha > 0 && alpha < 255; c++) {
            const unsigned v = 255u * pixel[c] / alpha;
            pixel[c] = (uint8_t)(v > 255 ? 255 : v);
        }
    }
}

static void blacken_hidden(lun_picture *picture)
{
    const size_t pixels = (size_t)picture->width * (size_t)picture->height;
    for (size_t i = 0; i < pixels; i++) {
        if (picture->pixels[4 * i + 3] == 0)
            memset(picture->pixels + 4 * i, 0, 3);
    }
}

/* Pixels [x, x + width) x [y, y + height) of `src` resized to full_width x full_height. An axis that keeps its size is
 * copied: its weights would be 1 and 0. */
static lun_status resize_window(const lun_picture *src, int full_width, int full_height, int x, int y, int width,
                                int height, lun_picture *out)
{
    if (full_width == src->width && full_height == src->height) {
        LUN_TRY(lun_picture_crop(src, x, y, width, height, out));
        if (out->channels == 4)
            blacken_hidden(out);
        return LUN_OK;
    }
    taps across = {0}, down = {0};
    lun_picture result = {0};
    uint8_t *middle = NULL, *seen = NULL;
    int32_t *sums = NULL;
    lun_status status = LUN_OK;
    const int channels = src->channels;
    const size_t bytes = (size_t)width * (size_t)channels, src_bytes = (size_t)src->width * (size_t)channels;
    LUN_TRY_GOTO(status, end, taps_make(src->width, full_width, x, width, &across));
    LUN_TRY_GOTO(status, end, taps_make(src->height, full_height, y, height, &down));
    /* The rows that the second pass reads; the ranges move down monotonically. */
    const int top = down.start[0], bottom = down.start[height - 1] + down.length[height - 1];
    middle = lun_malloc((size_t)(bottom - top), bytes, "resizing");
    sums = lun_malloc(bytes, sizeof *sums, "resizing");
    seen = lun_malloc(channels == 4 ? src_bytes : 0, 1, "resizing");
    if (!middle || !sums || !seen) {
        status = LUN_ERR_MEMORY;
        goto end;
    }
    LUN_TRY_GOTO(status, end, lun_picture_alloc(width, height, channels, &result));
    for (int row = top; row < bottom; row++) {
        const uint8_t *from = src->pixels + (size_t)row * src_bytes;
        if (channels == 4) {
            multiply(from, (size_t)src->width, seen);
            from = seen;
        }
        pass_columns(&across, width, channels, from, middle + (size_t)(row - top) * bytes);
    }
    for (int k = 0; k < height; k++)
        down.start[k] -= top;
    for (int k = 0; k < height; k++)
        pass_rows(&down, k, middle, bytes, sums, result.pixels + (size_t)k * bytes);
    if (channels == 4)
        divide(result.pixels, (size_t)width * (size_t)height);
    *out = result;
end:
    taps_free(&across);
    taps_free(&down);
    free(middle);
    free(seen);
    free(sums);
    return status;
}

static lun_status check(const lun_picture *src, int width, int height, const lun_picture *out)
{
    if (!lun_picture_sound(src) || !out || out == src)
        return lun_fail(LUN_ERR_USAGE, "resizing needs a picture and another one to write to");
    if (src->width > LUN_PICTURE_MAX_SIDE || src->height > LUN_PICTURE_MAX_SIDE || width < 1 || height < 1 ||
        width > LUN_PICTURE_MAX_SIDE || height > LUN_PICTURE_MAX_SIDE ||
        (int64_t)width * height > LUN_PICTURE_MAX_PIXELS)
        return lun_fail(LUN_ERR_USAGE, "resizing from %d x %d to %d x %d pixels is out of range", src->width,
                        src->height, width, height);
    return LUN_OK;
}

lun_status lun_picture_resize(const lun_picture *src, int width, int height, lun_picture *out)
{
    LUN_TRY(check(src, width, height, out));
    return resize_window(src, width, height, 0, 0, width, height, out);
}

/* Half of the excess; 1.5 rounds to 2 and 2.5 to 2, as where the reference numbers come from. */
int lun_picture_half(int excess)
{
    return (excess + (excess >> 1 & 1)) >> 1;
}

lun_status lun_picture_fit(const lun_picture *src, lun_fit fit, int width, int height, lun_picture *out)
{
    LUN_TRY(check(src, width, height, out));
    if (fit == LUN_FIT_STRETCH)
        return resize_window(src, width, height, 0, 0, width, height, out);
    if (fit != LUN_FIT_CROP && fit != LUN_FIT_COVER)
        return lun_fail(LUN_ERR_USAGE, "unknown fit %d", (int)fit);
    /* A 1 x 16384 picture covers 4096 x 4096 as 4096 x 67108864: fits an int, and only the window is computed. */
    int64_t full_width = width, full_height = height;
    if ((int64_t)src->width * height > (int64_t)src->height * width)
        full_width = (int64_t)src->width * height / src->height;
    else
        full_height = (int64_t)src->height * width / src->width;
    int window_width = width, window_height = height;
    if (fit == LUN_FIT_COVER) {
        window_width = (int)lun_min_i64(full_width, COVER_WINDOWS * (int64_t)width);
        window_height = (int)lun_min_i64(full_height, COVER_WINDOWS * (int64_t)height);
    }
    return resize_window(src, (int)full_width, (int)full_height, lun_picture_half((int)full_width - window_width),
                         lun_picture_half((int)full_height - window_height), window_width, window_height, out);
}
