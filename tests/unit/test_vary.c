/* What becomes of a folder: windows, mirrored pictures, channels, classes, pictures held out. */
#include <math.h>

#include <lunette/picture_out.h>

#include "base/base.h"
#include "base/philox.h"
#include "scratch.h"

#define OK(call)           ck_assert_msg((call) == LUN_OK, "%s", lun_error_detail())
#define NOT_OK(call, want) ck_assert_msg((call) == (want), "%s", lun_error_detail())

static void setup(void)
{
    scratch_make();
    mkdir(scratch("p"), 0755);
}

static void teardown(void)
{
    scratch_remove();
}

/* Every number of it known: channel c of pixel (x, y) is (7 x + 31 y + 63 c + salt) mod 251, alpha above 200. */
static void put(const char *name, int channels, int width, int height, int salt)
{
    lun_picture p = {width, height, malloc((size_t)width * (size_t)height * (size_t)channels), channels};
    for (int i = 0; i < width * height * channels; i++) {
        const int c = i % channels, x = i / channels % width, y = i / channels / width;
        const int v = (7 * x + 31 * y + 63 * c + salt) % 251;
        p.pixels[i] = (uint8_t)(c == 3 ? 201 + v % 55 : v);
    }
    OK(lun_png_write(scratch(name), &p, NULL, 0));
    lun_picture_free(&p);
}

static float number_at(int channels, int x, int y, int c, int salt)
{
    const int v = (7 * x + 31 * y + 63 * c + salt) % 251;
    return (float)(channels == 4 && c == 3 ? 201 + v % 55 : v) / 255.0f * 2.0f - 1.0f;
}

static lun_dataset *opened(lun_dataset_params params)
{
    lun_dataset *d = NULL;
    params.folder = scratch("p");
    params.threads = 2;
    OK(lun_dataset_open(&params, &d));
    return d;
}

/* Pictures that cover 6 x 4 exactly, from 6 x 4 to 6 x 9 and 11 x 4: no resizing, so every window is known. */
START_TEST(windows_and_mirrors)
{
    static const int sizes[][2] = {{6, 4}, {6, 9}, {11, 4}};
    enum { W = 6, H = 4, DRAWS = 300 };
    for (int channels = 1; channels <= 4; channels += channels == 1 ? 2 : 1) {
        for (int i = 0; i < 3; i++) {
            char name[20];
            snprintf(name, sizeof name, "p/%d.png", i);
            put(name, channels, sizes[i][0], sizes[i][1], i);
        }
        lun_dataset *sets[3];
        const lun_dataset_params params = {.width = W, .height = H, .fit = LUN_FIT_COVER, .channels = channels};
        lun_dataset_params cached = params;
        cached.cache = scratch("cache");
        sets[0] = opened(params);
        sets[1] = opened(cached);
        sets[2] = opened(cached); /* from what the former wrote */
        ck_assert_int_eq(lun_dataset_channels(sets[0]), channels);
        ck_assert(lun_dataset_hash(sets[0]) == lun_dataset_hash(sets[1]) &&
                  lun_dataset_hash(sets[0]) == lun_dataset_hash(sets[2]));
        const lun_augment both = {.seed = 5, .flip = 1, .window = 1};
        int mirrored = 0, places[3][6][6] = {{{0}}};
        for (uint64_t number = 0; number < DRAWS; number++) {
            float got[3][W * H * 4];
            const uint32_t index = (uint32_t)(number % 3);
            for (int k = 0; k < 3; k++)
                OK(lun_dataset_draw(sets[k], &both, number, &index, 1, got[k]));
            const size_t bytes = sizeof(float) * W * H * (size_t)channels;
            ck_assert_mem_eq(got[0], got[1], bytes);
            ck_assert_mem_eq(got[0], got[2], bytes);
            /* Which window is it? Exactly one fits. */
            int fits = 0;
            for (int y = 0; y <= sizes[index][1] - H; y++) {
                for (int x = 0; x <= sizes[index][0] - W; x++) {
                    for (int flip = 0; flip < 2; flip++) {
                        bool same = true;
                        for (int i = 0; i < W * H * channels && same; i++) {
                            const int c = i / (W * H), py = i / W % H, px = i % W;
                            same =
                                got[0][i] == number_at(channels, x + (flip ? W - 1 - px : px), y + py, c, (int)index);
                        }
                        if (same) {
                            fits++;
                            mirrored += flip;
                            places[index][y][x]++;
                        }
                    }
                }
            }
            ck_assert_int_eq(fits, 1);
        }
        /* Half mirrored, within five standard deviations; every place taken, none of six above twice its share. */
        ck_assert(fabs(mirrored - DRAWS / 2.0) < 5 * sqrt(DRAWS / 4.0));
        ck_assert_int_eq(places[0][0][0], DRAWS / 3);
        for (int i = 0; i < 6; i++) {
            ck_assert(places[1][i][0] > 2 && places[1][i][0] < DRAWS / 9);
            ck_assert(places[2][0][i] > 2 && places[2][0][i] < DRAWS / 9);
        }
        /* A batch is its samples, and neither wish is granted unasked. */
        const uint32_t all[3] = {0, 1, 2};
        float batch[3 * W * H * 4], one[W * H * 4], images[3 * W * H * 4];
        OK(lun_dataset_draw(sets[0], &both, 100, all, 3, batch));
        for (uint32_t i = 0; i < 3; i++) {
            OK(lun_dataset_draw(sets[0], &both, 100 + i, &i, 1, one));
            ck_assert_mem_eq(batch + i * W * H * (size_t)channels, one, sizeof(float) * W * H * (size_t)channels);
        }
        OK(lun_dataset_draw(sets[0], &(lun_augment){.seed = 5}, 100, all, 3, batch));
        OK(lun_dataset_images(sets[1], all, 3, images));
        ck_assert_mem_eq(batch, images, sizeof(float) * 3 * W * H * (size_t)channels);
        for (int i = 0; i < W * H * channels; i++) /* the middle: (9 - 4) / 2, rounded as a crop is */
            ck_assert(images[W * H * channels + i] == number_at(channels, i % W, i / W % H + 2, i / (W * H), 1));
        uint8_t pixels[W * H * 4];
        for (uint32_t i = 0; i < 3; i++) {
            OK(lun_dataset_pixels(sets[2], i, pixels));
            for (int p = 0; p < W * H; p++) {
                for (int c = 0; c < channels; c++)
                    ck_assert(images[(int)i * W * H * channels + c * W * H + p] ==
                              (float)pixels[p * channels + c] / 255.0f * 2.0f - 1.0f);
            }
        }
        NOT_OK(lun_dataset_draw(sets[0], &both, 0, (uint32_t[]){3}, 1, one), LUN_ERR_USAGE);
        for (int k = 0; k < 3; k++)
            lun_dataset_close(&sets[k]);
    }
}
END_TEST

/* The draws themselves, so that they stay what they are: a run that is resumed depends on them. */
START_TEST(draws_are_philox)
{
    put("p/a.png", 3, 4, 4, 0);
    put("p/b.png", 3, 4, 4, 9);
    lun_dataset *d = opened((lun_dataset_params){.width = 4, .height = 4});
    const lun_augment flip = {.seed = UINT64_C(0x123456789), .flip = 1};
    for (uint64_t number = UINT64_C(0xfffffff0); number < UINT64_C(0x100000010); number++) {
        const uint32_t index = (uint32_t)(number % 2);
        float got[48], plain[48];
        OK(lun_dataset_draw(d, &flip, number, &index, 1, got));
        OK(lun_dataset_images(d, &index, 1, plain));
        uint32_t words[4];
        lun_random_block(flip.seed, LUN_RANDOM_AUGMENT, number, 0, 0, words);
        const int mirrored = words[0] >> 31;
        for (int i = 0; i < 48; i++)
            ck_assert(got[i] == plain[mirrored ? i / 4 * 4 + 3 - i % 4 : i]);
    }
    lun_dataset_close(&d);
}
END_TEST

/* ---- Channels ---- */

START_TEST(a_folder_says_its_channels_and_sizes)
{
    lun_folder_survey s;
    NOT_OK(lun_folder_look(scratch("nowhere"), &s), LUN_ERR_USAGE);
    OK(lun_folder_look(scratch("p"), &s));
    ck_assert(s.channels == 3 && s.side == 0);
    put_file(scratch("p/junk.png"), "junk", 4);
    put("p/1.png", 1, 4, 6, 0);
    OK(lun_folder_look(scratch("p"), &s));
    ck_assert(s.channels == 1 && s.grey == 1 && s.colour == 0 && s.alpha == 0 && s.side == 4);
    mkdir(scratch("p/deep"), 0755);
    put("p/deep/2.png", 3, 9, 7, 0);
    put("p/deep/3.png", 3, 30, 20, 0);
    OK(lun_folder_look(scratch("p"), &s));
    ck_assert(s.channels == 3 && s.grey == 1 && s.colour == 2 && s.side == 7);
    put("p/1.png", 4, 4, 4, 0);
    OK(lun_folder_look(scratch("p"), &s));
    ck_assert_int_eq(s.channels, 3);
    put("p/deep/2.png", 4, 4, 4, 0);
    put("p/deep/3.png", 4, 4, 4, 0);
    OK(lun_folder_look(scratch("p"), &s));
    ck_assert(s.channels == 4 && s.alpha == 3 && s.side == 4);
    lun_dataset *d = NULL;
    NOT_OK(lun_dataset_open(&(lun_dataset_params){.folder = scratch("p"), .width = 4, .height = 4, .channels = 2}, &d),
           LUN_ERR_USAGE);
    NOT_OK(
        lun_dataset_open(&(lun_dataset_params){.folder = scratch("p"), .width = 4, .height = 4, .fit = (lun_fit)3}, &d),
        LUN_ERR_USAGE);
}
END_TEST

/* ---- Classes ---- */

START_TEST(folders_are_classes)
{
    /* "a.b/..." sorts before "a/...", but "a" before "a.b". */
    static const char *const folders[] = {"p/a", "p/a.b", "p/B", "p/z z", "p/z z/deeper", "p/empty"};
    for (size_t i = 0; i < LUN_COUNT(folders); i++)
        mkdir(scratch(folders[i]), 0755);
    put("p/a/1.png", 3, 4, 4, 0);
    put("p/a/2.png", 3, 4, 4, 1);
    put("p/a.b/1.png", 3, 4, 4, 2);
    put("p/B/1.png", 3, 4, 4, 3);
    put("p/z z/deeper/1.png", 3, 4, 4, 4);
    put("p/z z/0.png", 3, 4, 4, 5);
    put_file(scratch("p/note.txt"), "no picture", 10);
    const lun_dataset_params params = {.width = 4, .height = 4, .labels = 1};
    lun_dataset *d = opened(params);
    static const char *const names[] = {"B", "a", "a.b", "z z"};
    ck_assert_int_eq(lun_dataset_classes(d), 4);
    for (int k = 0; k < 4; k++)
        ck_assert_str_eq(lun_dataset_class_name(d, k), names[k]);
    ck_assert_ptr_null(lun_dataset_class_name(d, 4));
    ck_assert_ptr_null(lun_dataset_class_name(d, -1));
    for (size_t i = 0; i < lun_dataset_count(d); i++) {
        const char *name = lun_dataset_name(d, i), *class = lun_dataset_class_name(d, lun_dataset_label(d, i));
        ck_assert_msg(strncmp(name, class, strlen(class)) == 0 && name[strlen(class)] == '/', "%s is no %s", name,
                      class);
    }
    ck_assert_int_eq(lun_dataset_label(d, lun_dataset_count(d)), -1);
    lun_dataset_close(&d);
    lun_dataset_params without = params;
    without.labels = 0;
    d = opened(without);
    ck_assert(lun_dataset_classes(d) == 0 && lun_dataset_label(d, 0) == -1 && !lun_dataset_class_name(d, 0));
    lun_dataset_close(&d);
    /* A picture of no class; one class alone. */
    put("p/loose.png", 3, 4, 4, 0);
    lun_dataset_params bad = params;
    bad.folder = scratch("p");
    NOT_OK(lun_dataset_open(&bad, &d), LUN_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "loose.png"));
    ck_assert_ptr_null(d);
    bad.folder = scratch("p/z z");
    unlink(scratch("p/z z/0.png"));
    NOT_OK(lun_dataset_open(&bad, &d), LUN_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "deeper"));
}
END_TEST

/* ---- Held out ---- */

START_TEST(pictures_held_out)
{
    enum { MANY = 120 };
    char name[40];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "p/%03d.png", i);
        put(name, 1, 1, 1, i);
    }
    lun_dataset *d = opened((lun_dataset_params){.width = 1, .height = 1});
    uint32_t order[MANY];
    size_t held = 7;
    OK(lun_holdout_split(d, 0, order, &held));
    ck_assert_uint_eq(held, 0);
    for (uint32_t i = 0; i < MANY; i++)
        ck_assert_uint_eq(order[i], i);
    OK(lun_holdout_split(d, 5, order, &held));
    ck_assert_uint_eq(held, MANY / 5);
    for (uint32_t i = 0; i < MANY; i++)
        ck_assert_uint_eq(order[i], i < MANY / 5 ? 5 * i + 4 : (i - MANY / 5) / 4 * 5 + (i - MANY / 5) % 4);

    /* By name: about the share, a permutation, and nested, since each name has a place of its own. */
    bool out[3][MANY] = {{0}};
    static const double shares[] = {0.1, 0.3, 0.7};
    for (int k = 0; k < 3; k++) {
        bool seen[MANY] = {0};
        OK(lun_holdout_split(d, shares[k], order, &held));
        ck_assert(fabs((double)held - shares[k] * MANY) < 4 * sqrt(MANY * shares[k] * (1 - shares[k])));
        for (size_t i = 0; i < MANY; i++) {
            ck_assert(!seen[order[i]]);
            seen[order[i]] = true;
            out[k][order[i]] = i < held;
            ck_assert(i == 0 || i == held || order[i] > order[i - 1]);
        }
        for (int i = 0; i < MANY && k > 0; i++)
            ck_assert(!out[k - 1][i] || out[k][i]);
    }
    lun_dataset_close(&d);

    /* A picture stays on its side when others come and go. */
    for (int i = 0; i < MANY; i += 2) {
        snprintf(name, sizeof name, "p/%03d.png", i);
        unlink(scratch(name));
    }
    put("p/000a.png", 1, 1, 1, 3);
    d = opened((lun_dataset_params){.width = 1, .height = 1});
    OK(lun_holdout_split(d, 0.3, order, &held));
    int stayed = 0;
    for (size_t i = 0; i < lun_dataset_count(d); i++) {
        int number = -1, length = 0;
        if (sscanf(lun_dataset_name(d, order[i]), "%d.png%n", &number, &length) == 1 && length == 7) {
            ck_assert(out[1][number] == (i < held));
            stayed++;
        }
    }
    ck_assert_int_eq(stayed, MANY / 2);
    /* What cannot be. */
    static const double wrong[] = {-0.1, 1, 1.5, 2.5, 1e7, NAN, INFINITY, -5};
    for (size_t i = 0; i < LUN_COUNT(wrong); i++) {
        held = 99;
        NOT_OK(lun_holdout_split(d, wrong[i], order, &held), LUN_ERR_USAGE);
        ck_assert_uint_eq(held, 99);
    }
    NOT_OK(lun_holdout_split(d, 1000, order, &held), LUN_ERR_DATA);
    NOT_OK(lun_holdout_split(d, 1e-9, order, &held), LUN_ERR_DATA);
    NOT_OK(lun_holdout_split(d, 1 - 1e-9, order, &held), LUN_ERR_DATA);
    lun_dataset_close(&d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vary");
    TCase *tests = tcase_create("vary");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, windows_and_mirrors);
    tcase_add_test(tests, draws_are_philox);
    tcase_add_test(tests, a_folder_says_its_channels_and_sizes);
    tcase_add_test(tests, folders_are_classes);
    tcase_add_test(tests, pictures_held_out);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
