#include <check.h>
#include <dirent.h>
#include <math.h>
#include <png.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lunette/picture_out.h>

#include "base/base.h"
#include "base/philox.h"

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int entries(void)
{
    int count = 0;
    DIR *dir = opendir(folder);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return count;
}

static lun_picture pattern_of(int channels, int width, int height)
{
    const size_t count = (size_t)width * (size_t)height * (size_t)channels;
    lun_picture p = {width, height, malloc(count), channels};
    ck_assert_ptr_nonnull(p.pixels);
    for (size_t i = 0; i < count; i++)
        p.pixels[i] = (uint8_t)lun_random_u32(1, LUN_RANDOM_TEST, 0, 0, (uint32_t)i); /* cannot be compressed */
    return p;
}

static lun_picture pattern(int width, int height)
{
    return pattern_of(3, width, height);
}

/* ---- PNG ---- */

/* What any reader built on libpng sees. */
static void read_png(const char *path, lun_picture *picture, png_structp *png, png_infop *info)
{
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    *png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    *info = png_create_info_struct(*png);
    png_init_io(*png, file);
    png_read_info(*png, *info);
    const int color = png_get_color_type(*png, *info);
    ck_assert(color == PNG_COLOR_TYPE_GRAY || color == PNG_COLOR_TYPE_RGB || color == PNG_COLOR_TYPE_RGB_ALPHA);
    ck_assert_uint_eq(png_get_bit_depth(*png, *info), 8);
    picture->channels = png_get_channels(*png, *info);
    picture->width = (int)png_get_image_width(*png, *info);
    picture->height = (int)png_get_image_height(*png, *info);
    const size_t row = (size_t)picture->width * (size_t)picture->channels;
    picture->pixels = malloc((size_t)picture->height * row);
    for (int y = 0; y < picture->height; y++)
        png_read_row(*png, picture->pixels + (size_t)y * row, NULL);
    png_read_end(*png, *info);
    fclose(file);
}

START_TEST(png_round_trip)
{
    static const int sizes[][2] = {{1, 1}, {1, 33}, {31, 1}, {65, 17}, {300, 200}};
    static const int kinds[] = {3, 1, 4};
    for (size_t i = 0; i < LUN_COUNT(sizes) * LUN_COUNT(kinds); i++) {
        const int channels = kinds[i / LUN_COUNT(sizes)];
        const int *size = sizes[i % LUN_COUNT(sizes)];
        lun_picture p = pattern_of(channels, size[0], size[1]), back;
        const size_t bytes = (size_t)p.width * (size_t)p.height * (size_t)channels;
        ck_assert_int_eq(lun_png_write(in_folder("a.png"), &p, NULL, 0), LUN_OK);
        png_structp png;
        png_infop info;
        read_png(in_folder("a.png"), &back, &png, &info);
        ck_assert_int_eq(back.width, p.width);
        ck_assert_int_eq(back.height, p.height);
        ck_assert_int_eq(back.channels, channels);
        ck_assert_mem_eq(back.pixels, p.pixels, bytes);
        png_textp text;
        ck_assert_int_eq(png_get_text(png, info, &text, NULL), 0);
        png_destroy_read_struct(&png, &info, NULL);
        free(back.pixels);
        ck_assert_int_eq(entries(), 1);
        /* and our own reader agrees */
        ck_assert_int_eq(lun_picture_load_as(in_folder("a.png"), 0, 0, &back), LUN_OK);
        ck_assert_int_eq(back.width, p.width);
        ck_assert_int_eq(back.channels, channels);
        ck_assert_mem_eq(back.pixels, p.pixels, bytes);
        lun_picture_free(&back);
        lun_picture_free(&p);
    }
    unlink(in_folder("a.png"));
}
END_TEST

START_TEST(png_texts)
{
    static char lengthy[200001];
    memset(lengthy, 'x', sizeof lengthy - 1);
    static char longest[80];
    memset(longest, 'k', 79);
    /* text in; chunk kind, bytes out (NULL: the same) */
    static const struct {
        const char *key, *value;
        int itxt;
        const char *want;
    } cases[] = {
        {"model", "notebook", 0, NULL},
        {"seed", "", 0, NULL},
        {"Two words", "two\nlines", 0, NULL},
        {longest, lengthy, 0, NULL},
        {"latin", "caf\xc3\xa9 \xc3\xbf\xc2\xa0", 0, "caf\xe9 \xff\xa0"},
        {"greek", "\xce\xbb \xe2\x82\xac \xf0\x9f\x8c\x98 \xc3\xa9", 1, NULL},
        {"control", "a\tb\x7f", 1, NULL},
        {"broken",
         "a\xff"
         "b\xc3",
         1,
         "a\xef\xbf\xbd"
         "b\xef\xbf\xbd"},
        {"surrogate", "\xed\xa0\x80", 1, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"overlong", "\xc0\xaf\xe0\x80\xaf", 1, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"beyond", "\xf4\x90\x80\x80", 1, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"last", "\xf4\x8f\xbf\xbf", 1, NULL},
    };
    lun_png_text texts[LUN_COUNT(cases)];
    for (size_t i = 0; i < LUN_COUNT(cases); i++)
        texts[i] = (lun_png_text){cases[i].key, cases[i].value};
    lun_picture p = pattern(5, 4), back;
    ck_assert_int_eq(lun_png_write(in_folder("t.png"), &p, texts, LUN_COUNT(cases)), LUN_OK);
    png_structp png;
    png_infop info;
    read_png(in_folder("t.png"), &back, &png, &info);
    ck_assert_mem_eq(back.pixels, p.pixels, 60);
    png_textp got;
    ck_assert_int_eq(png_get_text(png, info, &got, NULL), (int)LUN_COUNT(cases));
    for (size_t i = 0; i < LUN_COUNT(cases); i++) {
        ck_assert_str_eq(got[i].key, cases[i].key);
        ck_assert_str_eq(got[i].text, cases[i].want != NULL ? cases[i].want : cases[i].value);
        ck_assert_int_eq(got[i].compression, cases[i].itxt ? PNG_ITXT_COMPRESSION_NONE : PNG_TEXT_COMPRESSION_NONE);
    }
    png_destroy_read_struct(&png, &info, NULL);
    free(back.pixels);
    lun_picture_free(&p);
    unlink(in_folder("t.png"));
}
END_TEST

START_TEST(png_refuses_bad_arguments)
{
    static char key80[81];
    memset(key80, 'k', 80);
    const char *keys[] = {NULL, "", key80, " a", "a ", "a  b", "a\nb", "a\x90"};
    lun_picture p = pattern(2, 2);
    for (size_t i = 0; i < LUN_COUNT(keys); i++) {
        const lun_png_text text = {keys[i], "v"};
        ck_assert_int_eq(lun_png_write(in_folder("bad.png"), &p, &text, 1), LUN_ERR_USAGE);
    }
    const lun_png_text no_value = {"k", NULL};
    ck_assert_int_eq(lun_png_write(in_folder("bad.png"), &p, &no_value, 1), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_png_write(in_folder("bad.png"), &p, NULL, 1), LUN_ERR_USAGE);
    const lun_picture bad[] = {{0, 2, p.pixels, 3}, {2, -1, p.pixels, 3}, {1000001, 1, p.pixels, 3},
                               {2, 2, NULL, 3},     {2, 2, p.pixels, 2},  {2, 2, p.pixels, 0}};
    for (size_t i = 0; i < LUN_COUNT(bad); i++)
        ck_assert_int_eq(lun_png_write(in_folder("bad.png"), &bad[i], NULL, 0), LUN_ERR_USAGE);
    ck_assert_int_eq(entries(), 0);
    lun_picture_free(&p);
}
END_TEST

START_TEST(png_failures_leave_nothing_behind)
{
    lun_picture p = pattern(300, 300);
    ck_assert_int_eq(lun_png_write(in_folder("missing/a.png"), &p, NULL, 0), LUN_ERR_STORAGE);
    ck_assert(strstr(lun_error_detail(), "missing/a.png") != NULL);
    ck_assert_int_eq(entries(), 0);

    lun_picture old = pattern(3, 3), back;
    ck_assert_int_eq(lun_png_write(in_folder("a.png"), &old, NULL, 0), LUN_OK);
    ck_assert_int_eq(lun_png_write(in_folder("a.png/b.png"), &p, NULL, 0), LUN_ERR_STORAGE);

    /* The disk is full half-way: a file size limit says so at any user's rights. */
    struct rlimit former, small;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &former), 0);
    small = former;
    small.rlim_cur = 100000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    const lun_status status = lun_png_write(in_folder("a.png"), &p, NULL, 0);
    setrlimit(RLIMIT_FSIZE, &former);
    signal(SIGXFSZ, handler);
    ck_assert_int_eq(status, LUN_ERR_STORAGE);
    ck_assert_int_eq(entries(), 1);
    ck_assert_int_eq(lun_picture_load(in_folder("a.png"), 0, &back), LUN_OK); /* the former file, whole */
    ck_assert_int_eq(back.width, 3);
    lun_picture_free(&back);

    if (geteuid() != 0) { /* root may write anywhere */
        ck_assert_int_eq(chmod(folder, 0500), 0);
        ck_assert_int_eq(lun_png_write(in_folder("b.png"), &p, NULL, 0), LUN_ERR_STORAGE);
        ck_assert_int_eq(chmod(folder, 0700), 0);
        ck_assert_int_eq(entries(), 1);
    }
    unlink(in_folder("a.png"));
    lun_picture_free(&old);
    lun_picture_free(&p);
}
END_TEST

/* ---- grids ---- */

static const uint8_t *at(const lun_picture *p, int x, int y)
{
    return p->pixels + (size_t)p->channels * ((size_t)y * (size_t)p->width + (size_t)x);
}

START_TEST(values_become_bytes)
{
    /* 0 is 127.5 and so 128; the least below it that a float can hold after + 1 is 127 */
    const float values[] = {-1, 1, 0, -2, 7, NAN, INFINITY, -INFINITY, 0.5f, -0.5f, -0.99f, 0x1p-149f, -0x1p-20f};
    const int want[] = {0, 255, 128, 0, 255, 0, 255, 0, 191, 64, 1, 128, 127};
    lun_picture p;
    ck_assert_int_eq(lun_picture_from_floats(values, 1, 1, 1, (int)LUN_COUNT(values), 1, 0, 1, &p), LUN_OK);
    ck_assert_int_eq(p.width, (int)LUN_COUNT(values));
    for (int i = 0; i < p.width; i++)
        ck_assert_int_eq(at(&p, i, 0)[0], want[i]);
    ck_assert_int_eq(p.channels, 1);
    lun_picture_free(&p);
    /* every byte survives the way to float and back */
    float bytes[256];
    for (int i = 0; i < 256; i++)
        bytes[i] = (float)i / 127.5f - 1;
    ck_assert_int_eq(lun_picture_from_floats(bytes, 1, 1, 16, 16, 1, 0, 1, &p), LUN_OK);
    for (int i = 0; i < 256; i++)
        ck_assert_int_eq(p.pixels[i], i);
    lun_picture_free(&p);
}
END_TEST

/* Every pixel of every grid, against the definition. */
START_TEST(grid_geometry_is_exact)
{
    static const struct {
        int count, channels, height, width, columns, gap, scale, want_w, want_h;
    } cases[] = {
        {1, 3, 2, 3, 1, 0, 1, 3, 2},   {5, 3, 2, 3, 2, 1, 1, 9, 10},  {5, 1, 3, 2, 5, 2, 3, 42, 13},
        {4, 4, 1, 1, 99, 0, 1, 4, 1},  {3, 4, 3, 2, 2, 2, 3, 18, 24}, {6, 3, 2, 2, 3, 4, 2, 28, 20},
        {7, 1, 1, 2, 3, 0, 4, 24, 12},
    };
    for (size_t n = 0; n < LUN_COUNT(cases); n++) {
        const int count = cases[n].count, channels = cases[n].channels, height = cases[n].height;
        const int width = cases[n].width, gap = cases[n].gap, scale = cases[n].scale;
        const int columns = cases[n].columns < count ? cases[n].columns : count;
        float values[256];
        const int total = count * channels * height * width;
        for (int i = 0; i < total; i++)
            values[i] = (float)(i * 7 % 256) / 127.5f - 1;
        lun_picture p;
        ck_assert_int_eq(
            lun_picture_from_floats(values, (size_t)count, channels, height, width, cases[n].columns, gap, scale, &p),
            LUN_OK);
        ck_assert_int_eq(p.width, cases[n].want_w);
        ck_assert_int_eq(p.height, cases[n].want_h);
        for (int y = 0; y < p.height; y++) {
            for (int x = 0; x < p.width; x++) {
                const int step_x = width * scale + gap, step_y = height * scale + gap;
                const int in_x = (x - gap + step_x) % step_x, in_y = (y - gap + step_y) % step_y;
                const int column = (x - gap + step_x) / step_x - 1, row = (y - gap + step_y) / step_y - 1;
                const int image = row * columns + column;
                const int inside =
                    column >= 0 && row >= 0 && in_x < width * scale && in_y < height * scale && image < count;
                ck_assert_int_eq(p.channels, channels);
                for (int c = 0; c < channels; c++) {
                    const int index = ((image * channels + c) * height + in_y / scale) * width + in_x / scale;
                    ck_assert_int_eq(at(&p, x, y)[c], inside ? index * 7 % 256 : c == 3 ? 255 : 40);
                }
            }
        }
        lun_picture_free(&p);
    }
}
END_TEST

START_TEST(grids_out_of_range_are_refused)
{
    const float v[12] = {0};
    lun_picture p = {1, 2, NULL, 3};
    ck_assert_int_eq(lun_picture_from_floats(NULL, 1, 1, 1, 1, 1, 0, 1, &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_from_floats(v, 0, 1, 1, 1, 1, 0, 1, &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_from_floats(v, 1, 2, 1, 1, 1, 0, 1, &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_from_floats(v, 1, 1, 0, 1, 1, 0, 1, &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_from_floats(v, 1, 1, 1, -1, 1, 0, 1, &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_from_floats(v, 1, 1, 1, 1, 0, 0, 1, &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_from_floats(v, 1, 1, 1, 1, 1, -1, 1, &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_from_floats(v, 1, 1, 1, 1, 1, 0, 0, &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_from_floats(v, 1, 1, 1, 1, 1, 0, 1, NULL), LUN_ERR_USAGE);
    /* far too large, without a look at the numbers */
    ck_assert_int_eq(lun_picture_from_floats(v, 1, 1, INT32_MAX, INT32_MAX, 1, 0, INT32_MAX, &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_from_floats(v, SIZE_MAX, 1, 1, 1, INT32_MAX, INT32_MAX, 1, &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_from_floats(v, SIZE_MAX, 1, 1, 1, 1, 0, 1, &p), LUN_ERR_USAGE);
    ck_assert(p.width == 1 && p.height == 2 && p.pixels == NULL);
}
END_TEST

/* ---- charts ---- */

static lun_picture draw(const char *title, int log_y, const lun_chart_series *series, size_t count)
{
    const lun_chart chart = {title, "step", "loss", log_y, series, count, 400, 300};
    lun_picture p = {0};
    ck_assert_int_eq(lun_chart_draw(&chart, &p), LUN_OK);
    ck_assert_int_eq(p.width, 400);
    ck_assert_int_eq(p.height, 300);
    return p;
}

/* The series of these tests is pure red and nothing else is. */
static int is_red(const lun_picture *p, int x, int y)
{
    const uint8_t *rgb = at(p, x, y);
    return rgb[0] > 200 && rgb[1] < 100 && rgb[2] < 100;
}

/* Mean height of the line in column x, NAN where there is none. */
static double line_at(const lun_picture *p, int x)
{
    double sum = 0, rows = 0;
    for (int y = 0; y < p->height; y++) {
        if (is_red(p, x, y)) {
            sum += y;
            rows += 1;
        }
    }
    return rows > 0 ? sum / rows : NAN;
}

static void red_columns(const lun_picture *p, int *count, int *first, int *last)
{
    *count = 0;
    *first = *last = -1;
    for (int x = 0; x < p->width; x++) {
        if (isnan(line_at(p, x)))
            continue;
        if (*first < 0)
            *first = x;
        *last = x;
        ++*count;
    }
}

START_TEST(chart_without_points)
{
    int count, first, last;
    lun_picture p = draw("nothing", 0, NULL, 0), q;
    red_columns(&p, &count, &first, &last);
    ck_assert_int_eq(count, 0);
    const double nans[] = {NAN, INFINITY, -INFINITY, 1e301};
    const lun_chart_series empty[] = {{NULL, NULL, NULL, 0, {255, 0, 0}}, {NULL, nans, nans, 4, {255, 0, 0}}};
    q = draw("nothing", 0, empty, 2);
    ck_assert_mem_eq(p.pixels, q.pixels, 400 * 300 * 3);
    lun_picture_free(&q);
    q = draw("nothing", 1, empty, 2); /* empty log axes have other numbers */
    ck_assert(memcmp(p.pixels, q.pixels, 400 * 300 * 3) != 0);
    lun_picture_free(&q);
    lun_picture_free(&p);
}
END_TEST

START_TEST(chart_of_one_point_and_a_constant)
{
    int count, first, last;
    const double x[] = {3, 4, 5}, y[] = {0.25, 0.25, 0.25};
    for (int log_y = 0; log_y < 2; log_y++) {
        const lun_chart_series dot = {NULL, x, y, 1, {255, 0, 0}};
        lun_picture p = draw(NULL, log_y, &dot, 1);
        red_columns(&p, &count, &first, &last);
        ck_assert_int_ge(count, 2);
        ck_assert_int_le(count, 6);
        lun_picture_free(&p);
        const lun_chart_series line = {NULL, x, y, 3, {255, 0, 0}};
        p = draw(NULL, log_y, &line, 1);
        red_columns(&p, &count, &first, &last);
        ck_assert_int_ge(count, 280);
        ck_assert_int_eq(last - first + 1, count);
        const double level = line_at(&p, first + 10);
        ck_assert(level > 90 && level < 200);
        for (int k = first + 3; k < last - 3; k++)
            ck_assert(fabs(line_at(&p, k) - level) < 0.01);
        lun_picture_free(&p);
    }
}
END_TEST

START_TEST(chart_gaps)
{
    static double x[1000], y[1000];
    for (int i = 0; i < 1000; i++) {
        x[i] = i;
        y[i] = i >= 400 && i < 600 ? NAN : 1.0 + i * 1e-3;
    }
    x[700] = INFINITY; /* one missing point among a thousand is no visible gap */
    const lun_chart_series series = {"with a gap", x, y, 1000, {255, 0, 0}};
    const lun_chart_series unnamed = {NULL, x, y, 1000, {255, 0, 0}};
    lun_picture p = draw("gaps", 0, &unnamed, 1), named = draw("gaps", 0, &series, 1);
    ck_assert(memcmp(p.pixels, named.pixels, 400 * 300 * 3) != 0); /* the legend */
    int count, first, last;
    red_columns(&p, &count, &first, &last);
    const double missing = (double)(last - first + 1 - count) / (last - first);
    ck_assert(fabs(missing - 0.2) < 0.02);
    for (int k = first; k <= last; k++) {
        const double part = (double)(k - first) / (last - first);
        if (part > 0.407 && part < 0.593)
            ck_assert(isnan(line_at(&p, k)));
        else if (part < 0.393 || part > 0.607)
            ck_assert(!isnan(line_at(&p, k)));
    }
    lun_picture_free(&p);
    lun_picture_free(&named);
}
END_TEST

/* An exponential is a straight line on a log axis; what is not positive is a gap. */
START_TEST(chart_log_axis)
{
    static double x[200], y[200];
    for (int i = 0; i < 200; i++) {
        x[i] = i;
        y[i] = i < 20 ? -(double)i : pow(10, -i * 0.02);
    }
    const lun_chart_series series = {NULL, x, y, 200, {255, 0, 0}};
    lun_picture p = draw("log", 1, &series, 1);
    int count, first, last;
    red_columns(&p, &count, &first, &last);
    ck_assert_int_ge(count, 250);
    const double a = line_at(&p, first + 5), b = line_at(&p, last - 5);
    ck_assert(b - a > 150);
    for (int k = first + 5; k <= last - 5; k++) {
        const double want = a + (b - a) * (k - first - 5) / (last - first - 10);
        ck_assert(fabs(line_at(&p, k) - want) < 1.1);
    }
    lun_picture_free(&p);
    /* any range there is, without a fault */
    const double ends[][2] = {{5e-324, 1e300}, {1e-310, 2e-310}, {1, 1 + 1e-15},
                              {1e299, 1e300},  {0.99, 1.01},     {-1e300, 1e300}};
    for (size_t i = 0; i < LUN_COUNT(ends); i++) {
        for (int log_y = 0; log_y < 2; log_y++) {
            const lun_chart_series wild = {"wild", ends[i], ends[i], 2, {255, 0, 0}};
            p = draw("wild", log_y, &wild, 1);
            red_columns(&p, &count, &first, &last);
            ck_assert_int_ge(count, 1);
            lun_picture_free(&p);
        }
    }
}
END_TEST

/* No two printable characters look alike but 0 and O, and what is not printable looks like '?'. */
START_TEST(chart_font)
{
    uint64_t seen[95], wanted = 0;
    for (int c = 32; c < 127; c++) {
        const char title[] = {'n', (char)c, 'n', 0};
        lun_picture p = draw(title, 0, NULL, 0);
        seen[c - 32] = lun_hash(LUN_HASH_START, p.pixels, 400 * 300 * 3);
        for (int d = 0; d < c - 32; d++)
            ck_assert((seen[d] == seen[c - 32]) == (c == 'O' && d == '0' - 32));
        if (c == '?')
            wanted = seen[c - 32];
        lun_picture_free(&p);
    }
    lun_picture p = draw("n\x9fn", 0, NULL, 0);
    ck_assert_uint_eq(lun_hash(LUN_HASH_START, p.pixels, 400 * 300 * 3), wanted);
    lun_picture_free(&p);
}
END_TEST

START_TEST(charts_out_of_range_are_refused)
{
    static char lengthy[5000];
    memset(lengthy, 'W', sizeof lengthy - 1);
    const double v[] = {1, 2};
    const lun_chart_series none = {"x", NULL, v, 2, {0, 0, 0}}, wordy = {lengthy, v, v, 2, {255, 0, 0}};
    lun_picture p = {1, 2, NULL, 3};
    const lun_chart bad[] = {
        {NULL, NULL, NULL, 0, NULL, 0, 239, 300},  {NULL, NULL, NULL, 0, NULL, 0, 300, 159},
        {NULL, NULL, NULL, 0, NULL, 0, 8193, 300}, {NULL, NULL, NULL, 0, NULL, 0, 300, 8193},
        {NULL, NULL, NULL, 0, NULL, 1, 300, 300},  {NULL, NULL, NULL, 0, &none, 1, 300, 300},
    };
    for (size_t i = 0; i < LUN_COUNT(bad); i++)
        ck_assert_int_eq(lun_chart_draw(&bad[i], &p), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_chart_draw(NULL, &p), LUN_ERR_USAGE);
    ck_assert(p.width == 1 && p.height == 2 && p.pixels == NULL);
    /* text without end is cut, not drawn over other memory */
    lun_chart_series many[40];
    for (int i = 0; i < 40; i++)
        many[i] = wordy;
    const lun_chart small = {lengthy, lengthy, lengthy, 0, many, 40, 240, 160};
    ck_assert_int_eq(lun_chart_draw(&small, &p), LUN_OK);
    lun_picture_free(&p);
}
END_TEST

int main(void)
{
    const char *temp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/lunette-XXXXXX", temp != NULL && strlen(temp) < 40 ? temp : "/tmp");
    if (mkdtemp(folder) == NULL)
        return EXIT_FAILURE;
    Suite *suite = suite_create("picture_out");
    TCase *tests = tcase_create("picture_out");
    tcase_add_test(tests, png_round_trip);
    tcase_add_test(tests, png_texts);
    tcase_add_test(tests, png_refuses_bad_arguments);
    tcase_add_test(tests, png_failures_leave_nothing_behind);
    tcase_add_test(tests, values_become_bytes);
    tcase_add_test(tests, grid_geometry_is_exact);
    tcase_add_test(tests, grids_out_of_range_are_refused);
    tcase_add_test(tests, chart_without_points);
    tcase_add_test(tests, chart_of_one_point_and_a_constant);
    tcase_add_test(tests, chart_gaps);
    tcase_add_test(tests, chart_log_axis);
    tcase_add_test(tests, chart_font);
    tcase_add_test(tests, charts_out_of_range_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    rmdir(folder);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
