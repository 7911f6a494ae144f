#include <check.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/picture_out.h>

#include "base/base.h"

static uint64_t hash_of(uint64_t seed, uint32_t index, int size)
{
    lun_picture picture = {0};
    ck_assert_int_eq(lun_craters_draw(seed, index, size, &picture), LUN_OK);
    ck_assert_int_eq(picture.width, size);
    ck_assert_int_eq(picture.height, size);
    const uint64_t hash = lun_hash(LUN_HASH_START, picture.pixels, (size_t)size * (size_t)size * 3);
    lun_picture_free(&picture);
    return hash;
}

/* The bytes themselves are the contract: a data set drawn on one machine is the one drawn on another. A deliberate
 * change of the scenes changes these numbers and deserves a line in NEWS.md. */
START_TEST(bytes_are_the_same_everywhere)
{
    ck_assert_uint_eq(hash_of(0, 0, 32), UINT64_C(0x6b2afa46924ec277));
    ck_assert_uint_eq(hash_of(1, 97, 64), UINT64_C(0x7e2b04263a3e37b7));
    ck_assert_uint_eq(hash_of(UINT64_MAX, UINT32_MAX, 24), UINT64_C(0x5cea48b3200bcbb1));
}
END_TEST

START_TEST(seed_and_index_make_the_scene)
{
    const uint64_t first = hash_of(5, 0, 16);
    ck_assert_uint_eq(hash_of(5, 0, 16), first);
    ck_assert_uint_ne(hash_of(5, 1, 16), first);
    ck_assert_uint_ne(hash_of(6, 0, 16), first);
    ck_assert_uint_ne(hash_of(5 + (UINT64_C(1) << 32), 0, 16), first);
}
END_TEST

static double grey(const lun_picture *p, int x, int y)
{
    const uint8_t *at = p->pixels + 3 * ((size_t)y * (size_t)p->width + (size_t)x);
    return (at[0] + at[1] + at[2]) / 3.0;
}

START_TEST(pictures_are_bright_and_contrasty_enough)
{
    double least_mean = 255, most_mean = 0;
    for (uint32_t index = 0; index < 40; index++) {
        lun_picture p;
        ck_assert_int_eq(lun_craters_draw(7, index, 32, &p), LUN_OK);
        double sum = 0, square = 0;
        int dark = 0, cut = 0;
        for (int y = 0; y < 32; y++) {
            for (int x = 0; x < 32; x++) {
                const double v = grey(&p, x, y);
                sum += v;
                square += v * v;
                dark += v < 70;
                cut += v > 252;
            }
        }
        const double mean = sum / 1024, variance = square / 1024 - mean * mean;
        ck_assert(mean > 95 && mean < 165);
        ck_assert(variance > 12 * 12 && variance < 70 * 70);
        ck_assert(dark > 0); /* every picture has a shadow */
        ck_assert(cut < 32); /* and almost no burnt-out light */
        least_mean = mean < least_mean ? mean : least_mean;
        most_mean = mean > most_mean ? mean : most_mean;
        lun_picture_free(&p);
    }
    ck_assert(most_mean - least_mean > 8);
}
END_TEST

/* A larger picture is the same scene sharper: averaged down, it comes close to the small one. */
START_TEST(size_does_not_change_the_scene)
{
    for (uint32_t index = 0; index < 3; index++) {
        lun_picture small, large, other;
        ck_assert_int_eq(lun_craters_draw(3, index, 32, &small), LUN_OK);
        ck_assert_int_eq(lun_craters_draw(3, index, 128, &large), LUN_OK);
        ck_assert_int_eq(lun_craters_draw(3, index + 1, 32, &other), LUN_OK);
        double same = 0, differ = 0;
        for (int y = 0; y < 32; y++) {
            for (int x = 0; x < 32; x++) {
                double mean = 0;
                for (int k = 0; k < 16; k++)
                    mean += grey(&large, 4 * x + k % 4, 4 * y + k / 4) / 16;
                same += (mean - grey(&small, x, y)) * (mean - grey(&small, x, y));
                differ += (mean - grey(&other, x, y)) * (mean - grey(&other, x, y));
            }
        }
        ck_assert(same / 1024 < 10 * 10);
        ck_assert(same * 4 < differ);
        lun_picture_free(&small);
        lun_picture_free(&large);
        lun_picture_free(&other);
    }
}
END_TEST

/* The tint runs from grey to warm, never to blue. */
START_TEST(tints_vary)
{
    int warm = 0, neutral = 0;
    for (uint32_t index = 0; index < 40; index++) {
        lun_picture p;
        ck_assert_int_eq(lun_craters_draw(11, index, 8, &p), LUN_OK);
        double red = 0, blue = 0;
        for (size_t k = 0; k < 64; k++) {
            red += p.pixels[3 * k];
            blue += p.pixels[3 * k + 2];
        }
        ck_assert(red >= blue);
        warm += red > 1.15 * blue;
        neutral += red < 1.03 * blue;
        lun_picture_free(&p);
    }
    ck_assert_int_ge(warm, 4);
    ck_assert_int_ge(neutral, 10);
}
END_TEST

START_TEST(sizes_out_of_range_are_refused)
{
    static const int bad[] = {-1, 0, 1, 7, 513, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < LUN_COUNT(bad); i++) {
        lun_picture picture = {17, 19, NULL, 3};
        ck_assert_int_eq(lun_craters_draw(1, 0, bad[i], &picture), LUN_ERR_USAGE);
        ck_assert(picture.width == 17 && picture.height == 19 && picture.pixels == NULL);
    }
    ck_assert_int_eq(lun_craters_draw(1, 0, 64, NULL), LUN_ERR_USAGE);
    hash_of(1, 0, 8);
    hash_of(1, 0, 9);
    hash_of(1, 0, 131);
    hash_of(1, 0, 512);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("craters");
    TCase *tests = tcase_create("craters");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, bytes_are_the_same_everywhere);
    tcase_add_test(tests, seed_and_index_make_the_scene);
    tcase_add_test(tests, pictures_are_bright_and_contrasty_enough);
    tcase_add_test(tests, size_does_not_change_the_scene);
    tcase_add_test(tests, tints_vary);
    tcase_add_test(tests, sizes_out_of_range_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
