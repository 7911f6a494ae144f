/* Pictures out: PNG files, grids of samples, line charts, and the crater fields lunette draws itself.
 *
 * A lun_picture has 1, 3 or 4 bytes a pixel, rows top down (data.h); charts and craters are RGB. Every function that
 * fills an `out` writes a fresh picture there without looking at what it held; the caller frees it with
 * lun_picture_free(). On failure `out` is untouched. No function here keeps state: any thread may call any of them at
 * any time.
 */
#ifndef LUNETTE_PICTURE_OUT_H
#define LUNETTE_PICTURE_OUT_H

#include <stddef.h>
#include <stdint.h>

#include "data.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One text chunk. `key`: 1 to 79 bytes of printable Latin-1 with no space at either end and no two in a row, as
 * the PNG specification (third edition, 11.3.3.2) asks. `value`: UTF-8 of any length; bytes that are not UTF-8
 * become U+FFFD. */
typedef struct lun_png_text {
    const char *key, *value;
} lun_png_text;

/* Write an 8-bit PNG, grey, RGB or RGBA by the picture's channels, with `count` text chunks: tEXt where the value fits
 * Latin-1, iTXt otherwise. The file appears under `path` whole or not at all; an older file of that name stays until
 * then. LUN_ERR_USAGE: an empty picture, other channels than 1, 3 or 4, a side above 1,000,000, a bad key.
 * LUN_ERR_STORAGE: the file cannot be written; nothing is left behind. LUN_ERR_MEMORY. */
LUN_API lun_status lun_png_write(const char *path, const lun_picture *picture, const lun_png_text *texts, size_t count);

/* Lay out float images, (count, channels, height, width) in API order, as one picture.
 *
 * A value x becomes round((clamp(x, -1, 1) + 1) * 127.5), halves upwards; NaN becomes 0. The picture has the images'
 * channels: grey, RGB, or RGB and alpha. Images fill rows of `columns` (more than `count` means `count`, so a strip is
 * columns == count), each pixel magnified to a square of `scale` pixels, with `gap` pixels of opaque dark grey (40)
 * between them and around them all; cells of the last row that have no image are dark grey too:
 *   out width  = columns * width * scale + (columns + 1) * gap
 *   out height = rows * height * scale + (rows + 1) * gap,   rows = ceil(count / columns)
 * LUN_ERR_USAGE unless count, height, width, columns and scale are at least 1, gap at least 0, channels 1, 3 or 4, and
 * the result's sides at most 1,000,000. */
LUN_API lun_status lun_picture_from_floats(const float *images, size_t count, int channels, int height, int width,
                                           int columns, int gap, int scale, lun_picture *out);

/* `count` points. Points with a coordinate that is NaN, infinite or beyond +-1e300, and on a logarithmic axis
 * those with y <= 0, are gaps in the line; a point between two gaps is a dot. x need not be sorted.
 * `label` (NULL: none) is what the legend says. With count == 0, x and y may be NULL. */
typedef struct lun_chart_series {
    const char *label;
    const double *x, *y;
    size_t count;
    uint8_t rgb[3];
} lun_chart_series;

/* Title and axis labels may be NULL. Text is ASCII; every other character is drawn as '?'; what does not fit is
 * cut. width from 240 to 8192 and height from 160 to 8192 pixels. */
typedef struct lun_chart {
    const char *title, *x_label, *y_label;
    int log_y;
    const lun_chart_series *series;
    size_t count;
    int width, height;
} lun_chart;

/* Draw a line chart: dark on white, ticks at round numbers, a legend where a series has a label. Series are drawn
 * in order, later ones on top. No points at all gives empty axes. LUN_ERR_USAGE on sizes out of range. */
LUN_API lun_status lun_chart_draw(const lun_chart *chart, lun_picture *out);

#define LUN_CRATERS_SIZE_MIN 8
#define LUN_CRATERS_SIZE_MAX 512

/* Draw picture `index` of the crater data set of `seed`: size x size pixels of a cratered plain under a low sun.
 *
 * The scene is a height model: fractal ground, then craters from old to new, radii by the power law
 * N(>r) ~ r^-2, each with a bowl, a raised rim and ejecta that thin out as (distance/radius)^-3, flat floors and
 * central peaks in large ones. Light is a blend of Lommel-Seeliger and Lambert reflection with cast shadows; the
 * sun's direction and the tint, from the moon's grey to the ochre of Mars, are drawn anew for each picture. The same
 * (seed, index) is the same scene at every size, seen sharper or coarser.
 *
 * The bytes are a function of (seed, index, size) alone: the only arithmetic is + - * / and sqrt on IEEE
 * doubles. LUN_ERR_USAGE unless size is LUN_CRATERS_SIZE_MIN..LUN_CRATERS_SIZE_MAX. */
LUN_API lun_status lun_craters_draw(uint64_t seed, uint32_t index, int size, lun_picture *out);

#ifdef __cplusplus
}
#endif
#endif
