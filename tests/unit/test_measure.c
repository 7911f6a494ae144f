/* The sliced Wasserstein distance against its definition, written a second time in the plainest way and in double; and
 * the nearest picture against a plain search. */
#include <math.h>

#include <lunette/measure.h>

#include "base/base.h"
#include "base/philox.h"
#include "scratch.h"

#define OK(call)           ck_assert_msg((call) == LUN_OK, "%s", lun_error_detail())
#define NOT_OK(call, want) ck_assert_msg((call) == (want), "%s", lun_error_detail())

/* Smooth blobs with some noise, so that no level of a pyramid is empty. */
static lun_picture_set make_set(uint32_t salt, size_t count, int width, int height, int channels)
{
    const size_t elements = (size_t)width * (size_t)height * (size_t)channels;
    uint8_t *pixels = malloc(count * elements);
    ck_assert_ptr_nonnull(pixels);
    for (size_t i = 0; i < count * elements; i++) {
        const size_t picture = i / elements, c = i % (size_t)channels, p = i % elements / (size_t)channels;
        const double x = (double)(p % (size_t)width) / width, y = (double)(p / (size_t)width) / height;
        const double a = lun_random_uniform(9, LUN_RANDOM_TEST, salt, 1, (uint32_t)(4 * picture));
        const double b = lun_random_uniform(9, LUN_RANDOM_TEST, salt, 1, (uint32_t)(4 * picture + 1));
        const double noise = lun_random_uniform(9, LUN_RANDOM_TEST, salt, 2, (uint32_t)i);
        const double v = 120 + 80 * sin(6 * (a + x) + (double)c) * cos(5 * (b - y)) + 40 * (noise - 0.5);
        pixels[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    return (lun_picture_set){pixels, count, width, height, channels};
}

static void drop(lun_picture_set *s)
{
    free((void *)(uintptr_t)s->pixels);
    s->pixels = NULL;
}

/* ---- The definition again ---- */

enum { PATCH = 7, AREA = PATCH * PATCH, PLACES = 128 };

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double distance_of(const double *a, const double *b, size_t count, size_t dims, uint32_t sub, int directions,
                          uint64_t seed)
{
    double total = 0, *u = malloc(dims * sizeof *u), *p[2] = {malloc(count * sizeof **p), malloc(count * sizeof **p)};
    for (int k = 0; k < directions; k++) {
        double square = 0;
        for (size_t d = 0; d < dims; d++) {
            const uint32_t pair = (uint32_t)(d / 2 * 2);
            const double w0 = (lun_random_u32(seed, LUN_RANDOM_MEASURE, (uint64_t)k, sub, pair) + 0.5) / 4294967296.0;
            const double w1 =
                (lun_random_u32(seed, LUN_RANDOM_MEASURE, (uint64_t)k, sub, pair + 1) + 0.5) / 4294967296.0;
            u[d] = sqrt(-2 * log(w0)) * (d % 2 ? sin(2 * M_PI * w1) : cos(2 * M_PI * w1));
            square += u[d] * u[d];
        }
        for (int s = 0; s < 2; s++) {
            for (size_t i = 0; i < count; i++) {
                p[s][i] = 0;
                for (size_t d = 0; d < dims; d++)
                    p[s][i] += (s ? b : a)[i * dims + d] * u[d] / sqrt(square);
            }
            qsort(p[s], count, sizeof **p, compare_doubles);
        }
        for (size_t i = 0; i < count; i++)
            total += fabs(p[0][i] - p[1][i]) / (double)count;
    }
    free(u);
    free(p[0]);
    free(p[1]);
    return total / directions;
}

static int bounce(int i, int n)
{
    while (i < 0 || i >= n)
        i = i < 0 ? -i : 2 * (n - 1) - i;
    return i;
}

static const double binomial[5] = {1 / 16.0, 4 / 16.0, 6 / 16.0, 4 / 16.0, 1 / 16.0};

static double filtered(const double *plane, int w, int h, int x, int y)
{
    double sum = 0;
    for (int j = -2; j <= 2; j++) {
        for (int i = -2; i <= 2; i++)
            sum += binomial[i + 2] * binomial[j + 2] * plane[bounce(y + j, h) * w + bounce(x + i, w)];
    }
    return sum;
}

/* The patches of a set's level: the first `level` halvings, then minus what the next one keeps unless it is the last.
 */
static double *patches_of(const lun_picture_set *s, int level, bool last, uint64_t seed, int *width, int *height)
{
    const size_t channels = (size_t)s->channels, dims = channels * AREA;
    double *out = malloc(s->count * PLACES * dims * sizeof *out);
    for (size_t i = 0; i < s->count; i++) {
        for (size_t c = 0; c < channels; c++) {
            int w = s->width, h = s->height;
            double *plane = malloc((size_t)(w * h) * sizeof *plane);
            for (int p = 0; p < w * h; p++)
                plane[p] = s->pixels[(i * (size_t)(w * h) + (size_t)p) * channels + c] / 255.0;
            for (int l = 0; l <= level; l++) {
                const int hw = (w + 1) / 2, hh = (h + 1) / 2;
                double *half = malloc((size_t)(hw * hh) * sizeof *half);
                for (int p = 0; p < hw * hh; p++)
                    half[p] = filtered(plane, w, h, p % hw * 2, p / hw * 2);
                if (l < level) {
                    free(plane);
                    plane = half;
                    w = hw;
                    h = hh;
                    continue;
                }
                double *spread = calloc((size_t)(w * h), sizeof *spread);
                for (int p = 0; p < hw * hh; p++)
                    spread[p / hw * 2 * w + p % hw * 2] = half[p];
                double *rest = malloc((size_t)(w * h) * sizeof *rest);
                for (int p = 0; p < w * h; p++)
                    rest[p] = plane[p] - (last ? 0 : 4 * filtered(spread, w, h, p % w, p / w));
                memcpy(plane, rest, (size_t)(w * h) * sizeof *plane);
                free(rest);
                free(spread);
                free(half);
            }
            for (uint32_t k = 0; k < PLACES; k++) {
                const uint32_t x =
                    lun_random_below(seed, LUN_RANDOM_MEASURE, i, (uint32_t)level, 2 * k, (uint32_t)(w - PATCH + 1));
                const uint32_t y = lun_random_below(seed, LUN_RANDOM_MEASURE, i, (uint32_t)level, 2 * k + 1,
                                                    (uint32_t)(h - PATCH + 1));
                for (uint32_t e = 0; e < AREA; e++)
                    out[(i * PLACES + k) * dims + c * AREA + e] = plane[(y + e / PATCH) * (uint32_t)w + x + e % PATCH];
            }
            *width = w;
            *height = h;
            free(plane);
        }
    }
    for (size_t c = 0; c < channels; c++) {
        double mean = 0, variance = 0;
        const size_t items = s->count * PLACES;
        for (size_t i = 0; i < items * AREA; i++)
            mean += out[i / AREA * dims + c * AREA + i % AREA] / (double)(items * AREA);
        for (size_t i = 0; i < items * AREA; i++)
            variance += pow(out[i / AREA * dims + c * AREA + i % AREA] - mean, 2) / (double)(items * AREA);
        for (size_t i = 0; i < items * AREA; i++) {
            double *v = &out[i / AREA * dims + c * AREA + i % AREA];
            *v = (*v - mean) / sqrt(variance);
        }
    }
    return out;
}

static double pixels_distance(const lun_picture_set *a, const lun_picture_set *b, int directions, uint64_t seed)
{
    const size_t channels = (size_t)a->channels, area = (size_t)(a->width * a->height), dims = area * channels;
    double *x[2];
    for (int s = 0; s < 2; s++) {
        x[s] = malloc(a->count * dims * sizeof **x);
        for (size_t i = 0; i < a->count * dims; i++) /* channel by channel, as a network sees them */
            x[s][i] = (s ? b : a)->pixels[i / dims * dims + i % dims % area * channels + i % dims / area] / 255.0;
    }
    const double d = distance_of(x[0], x[1], a->count, dims, 1000, directions, seed);
    free(x[0]);
    free(x[1]);
    return d;
}

/* Float32 sums of at most 147 or 2700 terms of order 1 in the code: 1e-4 of the value is far more than they lose. */
static void close_to(double got, double want)
{
    ck_assert_msg(fabs(got - want) <= 1e-4 * want, "%.9g is not %.9g", got, want);
}

START_TEST(distances_are_as_defined)
{
    static const int sizes[][4] = {{32, 32, 3, 2}, {33, 35, 1, 2}, {16, 45, 4, 1},
                                   {20, 9, 3, 1},  {6, 30, 3, 0},  {1, 1, 1, 0}};
    for (size_t n = 0; n < LUN_COUNT(sizes); n++) {
        lun_picture_set a = make_set(1, 5, sizes[n][0], sizes[n][1], sizes[n][2]),
                        b = make_set(2, 5, sizes[n][0], sizes[n][1], sizes[n][2]);
        const lun_sliced_params params = {.directions = 21, .seed = UINT64_C(0x1234567890), .threads = 2};
        lun_sliced got, alone;
        OK(lun_sliced_wasserstein(&a, &b, &params, &got));
        close_to(got.pixels, pixels_distance(&a, &b, 21, params.seed));
        ck_assert_int_eq(got.levels, sizes[n][3]);
        double sum = 0;
        for (int l = 0; l < got.levels; l++) {
            int w = 0, h = 0;
            double *x = patches_of(&a, l, l == got.levels - 1, params.seed, &w, &h);
            double *y = patches_of(&b, l, l == got.levels - 1, params.seed, &w, &h);
            ck_assert(got.level[l].width == w && got.level[l].height == h);
            close_to(got.level[l].distance, 1000 * distance_of(x, y, 5 * PLACES, (size_t)a.channels * AREA,
                                                               1001 + (uint32_t)l, 21, params.seed));
            sum += got.level[l].distance;
            free(x);
            free(y);
        }
        ck_assert(got.levels ? fabs(got.patches - sum / got.levels) < 1e-9 : isnan(got.patches));
        /* Threads change nothing. */
        OK(lun_sliced_wasserstein(&a, &b, &(lun_sliced_params){.directions = 21, .seed = params.seed, .threads = 1},
                                  &alone));
        ck_assert(alone.pixels == got.pixels && (got.levels == 0 || alone.patches == got.patches));
        drop(&a);
        drop(&b);
    }
}
END_TEST

START_TEST(distances_behave)
{
    lun_picture_set a = make_set(1, 12, 16, 16, 3), b = make_set(2, 12, 16, 16, 3), near = make_set(1, 12, 16, 16, 3);
    const lun_sliced_params params = {.directions = 64, .seed = 3};
    lun_sliced self, other, back, close;
    OK(lun_sliced_wasserstein(&a, &a, &params, &self));
    ck_assert(self.pixels == 0 && self.patches == 0);
    OK(lun_sliced_wasserstein(&a, &b, &params, &other));
    OK(lun_sliced_wasserstein(&b, &a, &params, &back));
    ck_assert(other.pixels > 0 && other.pixels == back.pixels && other.patches == back.patches);
    /* Small changes are a small distance; and a set has no order. */
    uint8_t *pixels = (uint8_t *)(uintptr_t)near.pixels, swap[16 * 16 * 3];
    for (size_t i = 0; i < 12 * sizeof swap; i += 5)
        pixels[i] = (uint8_t)(pixels[i] + 1);
    OK(lun_sliced_wasserstein(&a, &near, &params, &close));
    ck_assert(close.pixels > 0 && close.pixels < other.pixels / 10);
    memcpy(swap, pixels, sizeof swap);
    memmove(pixels, pixels + sizeof swap, 11 * sizeof swap);
    memcpy(pixels + 11 * sizeof swap, swap, sizeof swap);
    const double before = close.pixels;
    OK(lun_sliced_wasserstein(&a, &near, &params, &close));
    ck_assert(fabs(close.pixels - before) < 1e-12);
    /* Of one number each, by hand: sorted 0 1 3 and 2 4 4 in 255ths. */
    const uint8_t x[] = {3, 0, 1}, y[] = {4, 2, 4};
    OK(lun_sliced_wasserstein(&(lun_picture_set){x, 3, 1, 1, 1}, &(lun_picture_set){y, 3, 1, 1, 1}, &params, &close));
    close_to(close.pixels, (2 + 3 + 1) / 3.0 / 255);
    /* Pictures without any variation are told apart by brightness and not by their patches. */
    uint8_t dark[16 * 16], bright[16 * 16];
    memset(dark, 10, sizeof dark);
    memset(bright, 200, sizeof bright);
    OK(lun_sliced_wasserstein(&(lun_picture_set){dark, 1, 16, 16, 1}, &(lun_picture_set){bright, 1, 16, 16, 1}, &params,
                              &close));
    ck_assert(close.pixels > 0 && close.patches == 0);

    lun_picture_set wrong = b;
    wrong.count = 11;
    NOT_OK(lun_sliced_wasserstein(&a, &wrong, &params, &close), LUN_ERR_USAGE);
    wrong = b;
    wrong.width = 8;
    NOT_OK(lun_sliced_wasserstein(&a, &wrong, &params, &close), LUN_ERR_USAGE);
    NOT_OK(lun_sliced_wasserstein(&a, &b, &(lun_sliced_params){.directions = 0}, &close), LUN_ERR_USAGE);
    NOT_OK(lun_sliced_wasserstein(&a, &b, &(lun_sliced_params){.directions = 65537}, &close), LUN_ERR_USAGE);
    drop(&a);
    drop(&b);
    drop(&near);
}
END_TEST

START_TEST(the_nearest_is_found)
{
    for (int channels = 1; channels <= 4; channels += channels == 1 ? 2 : 1) {
        enum { W = 9, H = 70, A = 7, B = 10 };
        const size_t elements = (size_t)(W * H * channels);
        lun_picture_set a = make_set(1, A, W, H, channels), b = make_set(2, B, W, H, channels);
        uint8_t *copies = (uint8_t *)(uintptr_t)a.pixels;
        memcpy(copies + 2 * elements, b.pixels + 7 * elements, elements); /* one by heart */
        for (int p = 0; p < W * H; p++) /* and one mirrored, with one number off by 8 */
            memcpy(copies + 4 * elements + (size_t)(p * channels),
                   b.pixels + 3 * elements + (size_t)((p / W * W + W - 1 - p % W) * channels), (size_t)channels);
        copies[4 * elements + 11] = (uint8_t)(copies[4 * elements + 11] ^ 8);
        lun_nearest found[A], same[A];
        OK(lun_nearest_find(&a, 0, 1, A, &b, 0, 3, found));
        OK(lun_nearest_find(&a, 0, 1, A, &b, 0, 1, same));
        for (size_t i = 0; i < A; i++) {
            double best = INFINITY;
            size_t index = 0;
            int mirrored = 0;
            for (size_t k = 0; k < B; k++) {
                for (int flip = 0; flip < 2; flip++) {
                    double sum = 0;
                    for (int e = 0; e < W * H * channels; e++) {
                        const int p = e / channels, q = flip ? p / W * W + W - 1 - p % W : p;
                        sum += pow((double)a.pixels[i * elements + (size_t)e] -
                                       b.pixels[k * elements + (size_t)(q * channels + e % channels)],
                                   2);
                    }
                    if (sum < best) {
                        best = sum;
                        index = k;
                        mirrored = flip;
                    }
                }
            }
            ck_assert(found[i].index == index && found[i].mirrored == mirrored);
            ck_assert(fabs(found[i].distance - sqrt(best / (double)elements)) < 1e-9);
            ck_assert(same[i].index == index && same[i].distance == found[i].distance);
        }
        ck_assert(found[2].index == 7 && !found[2].mirrored && found[2].distance == 0);
        ck_assert(found[4].index == 3 && found[4].mirrored);
        ck_assert(fabs(found[4].distance - 8 / sqrt((double)elements)) < 1e-9);
        /* Some of a set among themselves. */
        memcpy((uint8_t *)(uintptr_t)b.pixels + 5 * elements, b.pixels + 8 * elements, elements);
        OK(lun_nearest_find(&b, 2, 3, 3, &b, 1, 2, found));
        ck_assert(found[1].index == 8 && found[1].distance == 0 && found[2].index == 5 && found[2].distance == 0);
        ck_assert(found[0].index != 2 && found[0].distance > 0);
        NOT_OK(lun_nearest_find(&b, 2, 3, 4, &b, 1, 2, found), LUN_ERR_USAGE);
        lun_picture_set one = b;
        one.count = 1;
        NOT_OK(lun_nearest_find(&one, 0, 1, 1, &one, 1, 2, found), LUN_ERR_USAGE);
        one.count = 0;
        NOT_OK(lun_nearest_find(&b, 0, 1, 1, &one, 0, 2, found), LUN_ERR_USAGE);
        one = b;
        one.height = 35;
        NOT_OK(lun_nearest_find(&b, 0, 1, 1, &one, 0, 2, found), LUN_ERR_USAGE);
        drop(&a);
        drop(&b);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("measure");
    TCase *tests = tcase_create("measure");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, distances_are_as_defined);
    tcase_add_test(tests, distances_behave);
    tcase_add_test(tests, the_nearest_is_found);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
