#include <lunette/picture_out.h>

#include <math.h>
#include <string.h>

#include "base/base.h"

#define GROUND   40
#define SIDE_MAX 1000000

static uint8_t byte_of(float value)
{
    if (isnan(value))
        return 0;
    const double x = value < -1 ? -1 : value > 1 ? 1 : (double)value;
    return (uint8_t)round((x + 1) * 127.5);
}

/* cells * cell + (cells + 1) * gap, or a side too long for a picture. */
static int64_t side_of(size_t cells, int64_t cell, int gap)
{
    if (cells > SIDE_MAX || cell > SIDE_MAX || gap > SIDE_MAX)
        return INT64_MAX;
    return (int64_t)cells * cell + ((int64_t)cells + 1) * gap;
}

static void place(const float *image, int channels, int height, int width, int scale, uint8_t *at, size_t row_bytes)
{
    const size_t plane = (size_t)height * (size_t)width, pixel_bytes = (size_t)channels;
    for (int y = 0; y < height; y++) {
        uint8_t *row = at + (size_t)y * (size_t)scale * row_bytes, *pixel = row;
        for (int x = 0; x < width; x++) {
            const float *value = image + (size_t)y * (size_t)width + (size_t)x;
            uint8_t bytes[4];
            for (int c = 0; c < channels; c++)
                bytes[c] = byte_of(value[(size_t)c * plane]);
            for (int k = 0; k < scale; k++, pixel += pixel_bytes)
                memcpy(pixel, bytes, pixel_bytes);
        }
        for (int k = 1; k < scale; k++)
            memcpy(row + (size_t)k * row_bytes, row, (size_t)width * (size_t)scale * pixel_bytes);
    }
}

/* The ground between the images; opaque. */
static void fill(uint8_t *pixels, size_t bytes, int channels)
{
    memset(pixels, GROUND, bytes);
    for (size_t i = 3; channels == 4 && i < bytes; i += 4)
        pixels[i] = 255;
}

lun_status lun_picture_from_floats(const float *images, size_t count, int channels, int height, int width, int columns,
                                   int gap, int scale, lun_picture *out)
{
    if (images == NULL || out == NULL || count < 1 || height < 1 || width < 1 || columns < 1 || gap < 0 || scale < 1)
        return lun_fail(LUN_ERR_USAGE,
                        "a grid needs at least one image, one column and a scale of 1, and no gap below 0");
    if (channels != 1 && channels != 3 && channels != 4)
        return lun_fail(LUN_ERR_USAGE, "a picture is made from 1, 3 or 4 channels, not %d", channels);
    const size_t across = (size_t)columns < count ? (size_t)columns : count;
    const size_t down = count / across + (count % across != 0);
    const int64_t cell_w = (int64_t)width * scale, cell_h = (int64_t)height * scale;
    const int64_t full_w = side_of(across, cell_w, gap), full_h = side_of(down, cell_h, gap);
    if (full_w > SIDE_MAX || full_h > SIDE_MAX)
        return lun_fail(LUN_ERR_USAGE, "a grid of %zu images of %d x %d at scale %d is wider or higher than %d pixels",
                        count, width, height, scale, SIDE_MAX);
    const size_t row_bytes = (size_t)full_w * (size_t)channels;
    uint8_t *pixels = lun_malloc((size_t)full_h, row_bytes, "a grid of pictures");
    if (pixels == NULL)
        return LUN_ERR_MEMORY;
    fill(pixels, (size_t)full_h * row_bytes, channels);
    const size_t image = (size_t)channels * (size_t)height * (size_t)width;
    for (size_t n = 0; n < count; n++) {
        const size_t x = (size_t)gap + n % across * ((size_t)cell_w + (size_t)gap);
        const size_t y = (size_t)gap + n / across * ((size_t)cell_h + (size_t)gap);
        place(images + n * image, channels, height, width, scale, pixels + y * row_bytes + (size_t)channels * x,
              row_bytes);
    }
    out->width = (int)full_w;
    out->height = (int)full_h;
    out->pixels = pixels;
    out->channels = channels;
    return LUN_OK;
}
