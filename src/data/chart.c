#include <lunette/picture_out.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

/* ---- the font ----
 * ASCII 32 to 126 on a grid of 5 x 9 dots: 7 rows above the base line, 2 below. A glyph is nine digits of base 32,
 * a row each from the top, the leftmost dot being 16. Text is not drawn as squares: dots that touch are joined by
 * antialiased strokes with round ends, which looks like a pen's line at any size. */
#define DOT_COLUMNS 5
#define DOT_ROWS    9
#define DOT_BASE    6 /* the row that stands on the base line */

/* clang-format off */
static const char glyphs[95][DOT_ROWS + 1] = {
    "000000000", "444440400", "AA0000000", "0AVAVA000", "4FKE5U400", "OP248J300", "CIK8LID00", "440000000", /* space to ' */
    "248884200", "842224800", "04LEL4000", "044V44000", "000000448", "000E00000", "000000400", "112448G00", /* ( to / */
    "EHHHHHE00", "4C4444E00", "EH1248V00", "EH161HE00", "26AIV2200", "VGU11HE00", "68GUHHE00", "V12244400", /* 0 to 7 */
    "EHHEHHE00", "EHHF12C00", "004000400", "004000448", "248G84200", "00V0V0000", "842124800", "EH1240400", /* 8 to ? */
    "EHNLNGE00", "EHHVHHH00", "UHHUHHU00", "EHGGGHE00", "UHHHHHU00", "VGGUGGV00", "VGGUGGG00", "EHGNHHE00", /* @ to G */
    "HHHVHHH00", "E44444E00", "7222I2C00", "HIKOKIH00", "GGGGGGV00", "HRLLHHH00", "HPPLJJH00", "EHHHHHE00", /* H to O */
    "UHHUGGG00", "EHHHLID00", "UHHUKIH00", "EHGE1HE00", "V44444400", "HHHHHHE00", "HHHHHA400", "HHHLLLA00", /* P to W */
    "HHA4AHH00", "HHA444400", "V1248GV00", "C88888C00", "GG8421100", "622222600", "4AH000000", "0000000V0", /* X to _ */
    "840000000", "00E1FHF00", "GGUHHHU00", "00EHGHE00", "11FHHHF00", "00EHVGE00", "68S888800", "00FHHHF1E", /* ` to g */
    "GGUHHHH00", "404444400", "20222222C", "GGIKOKI00", "444444400", "00QLLLL00", "00UHHHH00", "00EHHHE00", /* h to o */
    "00UHHHUGG", "00FHHHF11", "00MPGGG00", "00FGE1U00", "88S888600", "00HHHHF00", "00HHHA400", "00HHLLA00", /* p to w */
    "00HA4AH00", "00HHHHF1E", "00V248V00", "688G88600", "444444444", "C2212C000", "008L20000", /* x to ~ */
};
/* clang-format on */

typedef struct rgb {
    uint8_t r, g, b;
} rgb;

static const rgb ink = {38, 42, 48}, soft = {96, 102, 110}, axis = {140, 146, 154}, grid = {228, 231, 235};
static const rgb paper = {255, 255, 255};

/* Coverage is gathered in `mask` by maximum and painted once, so that strokes that overlap do not darken. */
typedef struct canvas {
    int width, height;
    uint8_t *pixels, *mask;
    int x0, y0, x1, y1;     /* what may be drawn on: [x0, x1) x [y0, y1) */
    int dx0, dy0, dx1, dy1; /* what of the mask has been touched */
} canvas;

static void clip(canvas *c, int x0, int y0, int x1, int y1)
{
    c->x0 = x0 < 0 ? 0 : x0;
    c->y0 = y0 < 0 ? 0 : y0;
    c->x1 = x1 > c->width ? c->width : x1;
    c->y1 = y1 > c->height ? c->height : y1;
}

static void clip_none(canvas *c)
{
    clip(c, 0, 0, c->width, c->height);
}

static void touched_none(canvas *c)
{
    c->dx0 = c->width;
    c->dy0 = c->height;
    c->dx1 = c->dy1 = 0;
}

/* A coordinate as a pixel number; whatever lies beyond an int stays one. */
static int within(double v, int low, int high)
{
    return !(v > low) ? low : v >= high ? high : (int)v;
}

/* A stroke with round ends in pixel coordinates (pixel i covers i to i + 1). */
static void stroke(canvas *c, double ax, double ay, double bx, double by, double thick)
{
    const double reach = thick / 2 + 1;
    const int x0 = within(fmin(ax, bx) - reach, c->x0, c->x1), x1 = within(fmax(ax, bx) + reach + 1, c->x0, c->x1);
    const int y0 = within(fmin(ay, by) - reach, c->y0, c->y1), y1 = within(fmax(ay, by) + reach + 1, c->y0, c->y1);
    if (x0 >= x1 || y0 >= y1)
        return;
    c->dx0 = x0 < c->dx0 ? x0 : c->dx0;
    c->dy0 = y0 < c->dy0 ? y0 : c->dy0;
    c->dx1 = x1 > c->dx1 ? x1 : c->dx1;
    c->dy1 = y1 > c->dy1 ? y1 : c->dy1;
    const double lx = bx - ax, ly = by - ay, square = lx * lx + ly * ly;
    for (int y = y0; y < y1; y++) {
        for (int x = x0; x < x1; x++) {
            const double px = x + 0.5 - ax, py = y + 0.5 - ay;
            double t = square > 0 ? (px * lx + py * ly) / square : 0;
            t = t < 0 ? 0 : t > 1 ? 1 : t;
            const double ex = px - t * lx, ey = py - t * ly;
            const double cover = thick / 2 + 0.5 - sqrt(ex * ex + ey * ey);
            if (!(cover > 0))
                continue;
            const uint8_t value = (uint8_t)(cover >= 1 ? 255 : cover * 255);
            uint8_t *at = &c->mask[(size_t)y * (size_t)c->width + (size_t)x];
            if (value > *at)
                *at = value;
        }
    }
}

static uint8_t mix(uint8_t under, uint8_t over, uint8_t cover)
{
    return (uint8_t)((under * (255 - cover) + over * cover + 127) / 255);
}

static void paint(canvas *c, rgb color)
{
    for (int y = c->dy0; y < c->dy1; y++) {
        for (int x = c->dx0; x < c->dx1; x++) {
            const size_t at = (size_t)y * (size_t)c->width + (size_t)x;
            if (c->mask[at] == 0)
                continue;
            uint8_t *p = &c->pixels[3 * at];
            p[0] = mix(p[0], color.r, c->mask[at]);
            p[1] = mix(p[1], color.g, c->mask[at]);
            p[2] = mix(p[2], color.b, c->mask[at]);
            c->mask[at] = 0;
        }
    }
    touched_none(c);
}

/* Whole pixels: axes and grid lines stay crisp. */
static void fill(canvas *c, int x, int y, int width, int height, rgb color)
{
    for (int j = y < c->y0 ? c->y0 : y; j < y + height && j < c->y1; j++) {
        for (int i = x < c->x0 ? c->x0 : x; i < x + width && i < c->x1; i++) {
            uint8_t *p = &c->pixels[3 * ((size_t)j * (size_t)c->width + (size_t)i)];
            p[0] = color.r;
            p[1] = color.g;
            p[2] = color.b;
        }
    }
}

static const char *glyph_of(char ch)
{
    return glyphs[ch >= 32 && ch <= 126 ? ch - 32 : '?' - 32];
}

static bool dot(const char *glyph, int column, int row)
{
    if (column < 0 || column >= DOT_COLUMNS || row < 0 || row >= DOT_ROWS)
        return false;
    const char digit = glyph[row];
    const int bits = digit <= '9' ? digit - '0' : digit - 'A' + 10;
    return bits >> (DOT_COLUMNS - 1 - column) & 1;
}

/* First and last column that holds a dot; digits and blanks have one fixed width, so that numbers line up. */
static void extent(char ch, int *first, int *last)
{
    *first = 0;
    *last = ch == ' ' ? 1 : DOT_COLUMNS - 1;
    if (ch == ' ' || (ch >= '0' && ch <= '9'))
        return;
    const char *glyph = glyph_of(ch);
    int low = DOT_COLUMNS, high = -1;
    for (int r = 0; r < DOT_ROWS; r++) {
        for (int k = 0; k < DOT_COLUMNS; k++) {
            if (dot(glyph, k, r)) {
                low = k < low ? k : low;
                high = k > high ? k : high;
            }
        }
    }
    *first = low;
    *last = high;
}

/* Width in pixels with dots `pitch` apart. */
static double text_width(const char *text, double pitch)
{
    double dots = 0;
    for (; *text != '\0'; text++) {
        int first, last;
        extent(*text, &first, &last);
        dots += last - first + 2;
    }
    return dots > 0 ? (dots - 1) * pitch : 0;
}

/* Draw from (x, y), the left end of the base line; `upwards` turns the text to run from the bottom to the top. */
static void text(canvas *c, double x, double y, const char *string, double pitch, bool upwards, rgb color)
{
    const double thick = 0.72 * pitch + 0.25;
    double pen = 0;
    for (; *string != '\0'; string++) {
        const char *glyph = glyph_of(*string);
        int first, last;
        extent(*string, &first, &last);
        for (int r = 0; r < DOT_ROWS; r++) {
            for (int k = first; k <= last; k++) {
                if (!dot(glyph, k, r))
                    continue;
                static const int step[4][2] = {{1, 0}, {0, 1}, {1, 1}, {-1, 1}};
                bool alone = true;
                for (int d = 0; d < 5; d++) {
                    const int nk = d < 4 ? k + step[d][0] : k, nr = d < 4 ? r + step[d][1] : r;
                    /* A diagonal only where no dot lies in the corner between: that way corners stay sharp. */
                    const bool joined =
                        d < 4 && dot(glyph, nk, nr) && (d < 2 || (!dot(glyph, nk, r) && !dot(glyph, k, nr)));
                    if (d < 4 ? !joined : !alone)
                        continue;
                    alone = false;
                    const double ax = pen + (k - first) * pitch, ay = (r - DOT_BASE) * pitch;
                    const double bx = pen + (nk - first) * pitch, by = (nr - DOT_BASE) * pitch;
                    if (upwards)
                        stroke(c, x + ay, y - ax, x + by, y - bx, thick);
                    else
                        stroke(c, x + ax, y + ay, x + bx, y + by, thick);
                }
            }
        }
        pen += (last - first + 2) * pitch;
    }
    paint(c, color);
}

/* ---- scales ---- */
#define VALUE_MAX 1e300
#define TICKS_MAX 24

typedef struct scale {
    bool log;
    double low, high; /* of the axis; with log, powers of ten */
    double from, to;  /* their pixel coordinates */
    double tick[TICKS_MAX];
    char name[TICKS_MAX][24];
    int ticks;
} scale;

static bool usable(double v, bool log)
{
    return fabs(v) <= VALUE_MAX && (!log || v > 0); /* false for NaN */
}

static double position(const scale *s, double v)
{
    if (s->log)
        v = log10(v);
    return s->from + (v - s->low) / (s->high - s->low) * (s->to - s->from);
}

/* The least of 1, 2, 5 times a power of ten that is not below `v`. */
static double round_step(double v)
{
    const double power = pow(10, floor(log10(v)));
    const double part = v / power;
    return (part <= 1.0001 ? 1 : part <= 2.0001 ? 2 : part <= 5.0001 ? 5 : 10) * power;
}

/* Write `v`, a multiple of `step`, with as many digits as the step needs: 0.25, 1500, 2.5e+07 as 2.5e7. */
static void name_number(char *name, size_t bytes, double v, double step, double most)
{
    if (fabs(v) < step * 1e-6)
        v = 0; /* no -0 and no 1e-17 */
    if ((most < 1e6 && most >= 1e-3) || v == 0) {
        const int decimals = step >= 1 || v == 0 ? 0 : (int)ceil(-log10(step) - 1e-9);
        snprintf(name, bytes, "%.*f", decimals > 9 ? 9 : decimals, v);
        return;
    }
    int digits = (int)floor(log10(fabs(v)) + 1e-9) - (int)floor(log10(step) + 1e-9);
    digits = digits < 0 ? 0 : digits > 9 ? 9 : digits;
    snprintf(name, bytes, "%.*e", digits, v);
    char *e = strchr(name, 'e'); /* 5e+06 is said as 5e6 */
    if (e != NULL)
        snprintf(e + 1, bytes - (size_t)(e + 1 - name), "%d", atoi(e + 1));
}

static void add_tick(scale *s, double at, double step, double most)
{
    if (s->ticks == TICKS_MAX)
        return;
    name_number(s->name[s->ticks], sizeof s->name[0], at, step, most);
    s->tick[s->ticks++] = at;
}

/* Choose the ends and about `wanted` ticks for values from `low` to `high` (low > high: there are none). With `snug`
 * the axis ends where the values do, else at round numbers. */
static void choose_linear(scale *s, double low, double high, int wanted, bool snug)
{
    if (low > high) {
        low = 0;
        high = 1;
    }
    const double size = fmax(fabs(low), fabs(high));
    const bool tiny = size < 1e-290;           /* steps of such an axis would underflow */
    if (!(high - low > 1e-9 * size) || tiny) { /* one value: a line in the middle of the chart */
        const double around = tiny ? 1 : size * 0.1;
        low -= around;
        high += around;
        snug = false;
    }
    const double step = round_step((high - low) / wanted);
    s->low = snug ? low : step * floor(low / step + 1e-9);
    s->high = snug ? high : step * ceil(high / step - 1e-9);
    const double first = ceil(s->low / step - 1e-9), last = floor(s->high / step + 1e-9);
    const double most = fmax(fabs(s->low), fabs(s->high));
    for (double k = first; k <= last && s->ticks < TICKS_MAX; k += 1)
        add_tick(s, k * step, step, most);
}

static void choose_log(scale *s, double low, double high, int wanted)
{
    if (low > high) {
        low = 0.1;
        high = 10;
    }
    low = log10(low);
    high = log10(high);
    if (high - low < 0.1) { /* less than a quarter up or down: show some more, or there is no tick */
        const double middle = (low + high) / 2;
        low = middle - 0.2;
        high = middle + 0.2;
    }
    const double pad = 0.04 * (high - low);
    s->low = low - pad;
    s->high = high + pad;
    const double decades = s->high - s->low;
    const int stride = (int)fmax(1, ceil(decades / wanted));
    for (int k = (int)floor(s->low / stride) * stride; k <= s->high; k += stride) {
        static const double part[10] = {1, 2, 5, 3, 1.5, 4, 7, 6, 8, 9};
        const int parts = stride > 1 || decades > 3 ? 1 : decades > 1 ? 3 : decades > 0.6 ? 6 : 10;
        for (int p = 0; p < parts; p++) {
            const double v = part[p] * pow(10, k), at = log10(part[p]) + k;
            if (v <= 0 || at < s->low || at > s->high) /* 10^-324 is 0 */
                continue;
            const double step = pow(10, k) * (part[p] - floor(part[p]) > 0 ? 0.1 : 1);
            add_tick(s, v, step, pow(10, s->high) < 1e6 && s->low >= -4 ? 1 : 1e300);
        }
    }
}

static void range_of(const lun_chart *chart, bool log_y, double x[2], double y[2])
{
    x[0] = y[0] = INFINITY;
    x[1] = y[1] = -INFINITY;
    for (size_t n = 0; n < chart->count; n++) {
        const lun_chart_series *series = &chart->series[n];
        for (size_t k = 0; k < series->count; k++) {
            if (!usable(series->x[k], false) || !usable(series->y[k], log_y))
                continue;
            x[0] = fmin(x[0], series->x[k]);
            x[1] = fmax(x[1], series->x[k]);
            y[0] = fmin(y[0], series->y[k]);
            y[1] = fmax(y[1], series->y[k]);
        }
    }
}

/* ---- the chart ---- */
#define SMALL 1.35 /* dot pitches of the text */
#define TITLE 1.75
#define LINE  1.8

static void draw_series(canvas *c, const lun_chart_series *series, const scale *x, const scale *y)
{
    bool before = false, joined = false;
    double px = 0, py = 0;
    for (size_t k = 0; k <= series->count; k++) {
        const bool here = k < series->count && usable(series->x[k], false) && usable(series->y[k], y->log);
        if (!here) {
            if (before && !joined)
                stroke(c, px, py, px, py, 2.4 * LINE);
            before = joined = false;
            continue;
        }
        const double qx = position(x, series->x[k]), qy = position(y, series->y[k]);
        if (before) {
            stroke(c, px, py, qx, qy, LINE);
            joined = true;
        }
        before = true;
        px = qx;
        py = qy;
    }
    const rgb color = {series->rgb[0], series->rgb[1], series->rgb[2]};
    paint(c, color);
}

static bool said(const char *string)
{
    return string != NULL && string[0] != '\0';
}

static void draw_legend(canvas *c, const lun_chart *chart, int right, int top, int bottom)
{
    double widest = 0;
    int rows = 0;
    for (size_t n = 0; n < chart->count; n++) {
        if (said(chart->series[n].label)) {
            widest = fmax(widest, text_width(chart->series[n].label, SMALL));
            rows++;
        }
    }
    const int row = 18, most = (bottom - top - 20) / row;
    rows = rows > most ? most : rows;
    if (rows <= 0)
        return;
    const int width = (int)ceil(fmin(widest, c->width)) + 50, height = rows * row + 8;
    const int x = right - width - 10 < 10 ? 10 : right - width - 10, y = top + 10;
    fill(c, x, y, width, height, grid);
    fill(c, x + 1, y + 1, width - 2, height - 2, paper);
    clip(c, x + 2, y + 1, x + width - 2, y + height - 1);
    int at = 0;
    for (size_t n = 0; n < chart->count && at < rows; n++) {
        const lun_chart_series *series = &chart->series[n];
        if (!said(series->label))
            continue;
        const double middle = y + 4 + row * at + row / 2.0;
        const rgb color = {series->rgb[0], series->rgb[1], series->rgb[2]};
        stroke(c, x + 12, middle, x + 30, middle, LINE + 0.6);
        paint(c, color);
        text(c, x + 38.5, middle + 3 * SMALL, series->label, SMALL, false, ink);
        at++;
    }
    clip_none(c);
}

static lun_status check(const lun_chart *chart, const lun_picture *out)
{
    if (chart == NULL || out == NULL || (chart->count > 0 && chart->series == NULL))
        return lun_fail(LUN_ERR_USAGE, "a chart needs its series and a place for the picture");
    if (chart->width < 240 || chart->height < 160 || chart->width > 8192 || chart->height > 8192)
        return lun_fail(LUN_ERR_USAGE, "a chart is 240 x 160 to 8192 x 8192 pixels, not %d x %d", chart->width,
                        chart->height);
    for (size_t n = 0; n < chart->count; n++)
        if (chart->series[n].count > 0 && (chart->series[n].x == NULL || chart->series[n].y == NULL))
            return lun_fail(LUN_ERR_USAGE, "series %zu of a chart has no numbers", n);
    return LUN_OK;
}

/* Is the tick a power of ten? */
static bool is_power(double v)
{
    return fabs(log10(v) - round(log10(v))) < 1e-9;
}

/* On a log axis names come close at the top of a decade: a power of ten is always named, another tick only where it is
 * clear of those and of the ticks before it. */
static bool has_room(const scale *y, int k)
{
    if (!y->log || is_power(y->tick[k]))
        return true;
    for (int m = 0; m < y->ticks; m++)
        if (m != k && (m < k || is_power(y->tick[m])) && fabs(position(y, y->tick[m]) - position(y, y->tick[k])) < 15)
            return false;
    return true;
}

static void draw_y_ticks(canvas *c, const scale *y, int left, int right)
{
    for (int k = 0; k < y->ticks; k++) {
        const double at = floor(position(y, y->tick[k])), width = text_width(y->name[k], SMALL);
        fill(c, left, (int)at, right - left, 1, grid);
        if (has_room(y, k))
            text(c, left - 9 - width, at + 0.5 + 3 * SMALL, y->name[k], SMALL, false, soft);
    }
}

static void draw_x_ticks(canvas *c, const scale *x, int top, int bottom)
{
    for (int k = 0; k < x->ticks; k++) {
        const double at = floor(position(x, x->tick[k])), width = text_width(x->name[k], SMALL);
        fill(c, (int)at, top, 1, bottom - top, grid);
        fill(c, (int)at, bottom, 1, 5, axis);
        text(c, fmin(at + 0.5 - width / 2, c->width - 4 - width), bottom + 11 + 6 * SMALL, x->name[k], SMALL, false,
             soft);
    }
}

static void draw_chart(canvas *c, const lun_chart *chart)
{
    fill(c, 0, 0, c->width, c->height, paper);
    const bool titled = said(chart->title), named_x = said(chart->x_label), named_y = said(chart->y_label);
    const int top = titled ? 44 : 20, bottom = c->height - (named_x ? 56 : 34);
    double range_x[2], range_y[2];
    scale x = {.log = false}, y = {.log = chart->log_y != 0};
    range_of(chart, y.log, range_x, range_y);
    const int ticks_y = (int)lun_max_i64(2, lun_min_i64(8, (bottom - top) / 50));
    if (y.log)
        choose_log(&y, range_y[0], range_y[1], ticks_y);
    else
        choose_linear(&y, range_y[0], range_y[1], ticks_y, false);
    /* The numbers' widest sets the left edge. */
    double widest = 0;
    for (int k = 0; k < y.ticks; k++)
        widest = fmax(widest, text_width(y.name[k], SMALL));
    const int left = (int)ceil(widest) + (named_y ? 46 : 24), right = c->width - 26;
    const int ticks_x = (int)lun_max_i64(2, lun_min_i64(12, (right - left) / 80));
    choose_linear(&x, range_x[0], range_x[1], ticks_x, true);
    x.from = left + 0.5;
    x.to = right - 0.5;
    y.from = bottom - 0.5;
    y.to = top + 0.5;

    draw_y_ticks(c, &y, left, right);
    draw_x_ticks(c, &x, top, bottom);
    fill(c, left, bottom, right - left, 1, axis);
    fill(c, left, top, 1, bottom - top + 1, axis);

    clip(c, left + 1, top - 2, right + 3, bottom);
    for (size_t n = 0; n < chart->count; n++)
        draw_series(c, &chart->series[n], &x, &y);
    clip_none(c);
    draw_legend(c, chart, right, top, bottom);

    if (titled)
        text(c, left, 24.5, chart->title, TITLE, false, ink);
    if (named_x)
        text(c, fmax(4, (left + right - text_width(chart->x_label, SMALL)) / 2), c->height - 12.5, chart->x_label,
             SMALL, false, ink);
    if (named_y)
        text(c, 20.5, fmin(c->height - 4, (top + bottom + text_width(chart->y_label, SMALL)) / 2), chart->y_label,
             SMALL, true, ink);
}

lun_status lun_chart_draw(const lun_chart *chart, lun_picture *out)
{
    LUN_TRY(check(chart, out));
    const size_t area = (size_t)chart->width * (size_t)chart->height;
    canvas c = {.width = chart->width, .height = chart->height};
    c.pixels = lun_malloc(area, 3, "a chart");
    c.mask = lun_calloc(area, 1, "a chart");
    if (c.pixels == NULL || c.mask == NULL) {
        free(c.pixels);
        free(c.mask);
        return LUN_ERR_MEMORY;
    }
    clip_none(&c);
    touched_none(&c);
    draw_chart(&c, chart);
    free(c.mask);
    out->width = c.width;
    out->height = c.height;
    out->pixels = c.pixels;
    out->channels = 3;
    return LUN_OK;
}
