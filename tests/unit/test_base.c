#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/tensor.h>

#include "base/base.h"
#include "base/philox.h"

/* Known answers of Random123's kat_vectors for philox4x32-10. */
START_TEST(philox_known_answers)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < LUN_COUNT(cases); i++) {
        uint32_t out[4];
        lun_philox(cases[i].counter, cases[i].key, out);
        ck_assert_mem_eq(out, cases[i].want, sizeof out);
    }
}
END_TEST

START_TEST(random_access_equals_sequence)
{
    uint32_t block[4];
    for (uint32_t i = 0; i < 64; i++) {
        lun_random_block(0x123456789abcdefu, LUN_RANDOM_TEST, 7, 3, i / 4, block);
        ck_assert_uint_eq(lun_random_u32(0x123456789abcdefu, LUN_RANDOM_TEST, 7, 3, i), block[i % 4]);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        const float u = lun_random_uniform(1, LUN_RANDOM_TEST, 0, 0, i);
        ck_assert(u > 0 && u < 1);
        ck_assert_uint_lt(lun_random_below(1, LUN_RANDOM_TEST, 0, 0, i, 7), 7);
    }
}
END_TEST

START_TEST(permutation_is_one)
{
    uint32_t order[98], other[98];
    int seen[98] = {0};
    lun_random_permutation(1, 0, 98, order);
    lun_random_permutation(1, 1, 98, other);
    for (int i = 0; i < 98; i++)
        seen[order[i]]++;
    for (int i = 0; i < 98; i++)
        ck_assert_int_eq(seen[i], 1);
    ck_assert(memcmp(order, other, sizeof order) != 0);

    /* Every picture is as likely at every place: of 10 places on average one keeps its own, 400 times 1 +- 0.05, and a
     * given picture is at a given place in a tenth of the orders, 40 +- 6. */
    int kept = 0, at[10][10] = {{0}};
    for (uint64_t epoch = 0; epoch < 400; epoch++) {
        lun_random_permutation(3, epoch, 10, order);
        for (int i = 0; i < 10; i++) {
            kept += order[i] == (uint32_t)i;
            at[i][order[i]]++;
        }
    }
    ck_assert_msg(kept > 300 && kept < 500, "%d kept their places", kept);
    for (int i = 0; i < 10; i++)
        for (int k = 0; k < 10; k++)
            ck_assert_msg(at[i][k] > 10 && at[i][k] < 75, "picture %d at place %d: %d times", k, i, at[i][k]);
}
END_TEST

/* The whole of the seed and of the number counts, and the row is laid out as the kernels read it. */
START_TEST(rows_hold_everything)
{
    uint32_t row[LUN_RANDOM_ROW];
    lun_random_row(UINT64_C(0x1122334455667788), LUN_RANDOM_TEST, UINT64_C(0x99aabbccddeeff01), 0xabcdef, row);
    const uint32_t want[LUN_RANDOM_ROW] = {0x55667788, 0x11223344, 0xddeeff01, 0x99aabbcc,
                                           (uint32_t)LUN_RANDOM_TEST << 24 | 0xabcdef};
    ck_assert_mem_eq(row, want, sizeof row);
}
END_TEST

START_TEST(layouts_round_trip)
{
    const lun_desc descs[] = {lun_image(2, 3, 4, 5), lun_filter(2, 3, 4, 5)};
    float api[120], stored[120], back[120];
    for (int i = 0; i < 120; i++)
        api[i] = (float)i;
    for (size_t d = 0; d < 2; d++) {
        lun_to_storage(descs[d], api, stored);
        lun_from_storage(descs[d], stored, back);
        ck_assert_mem_eq(api, back, sizeof api);
        /* element (1, 2, 3, 4) */
        const int at = d == 0 ? ((1 * 4 + 3) * 5 + 4) * 3 + 2 : ((3 * 5 + 4) * 3 + 2) * 2 + 1;
        ck_assert_float_eq(stored[at], api[((1 * 3 + 2) * 4 + 3) * 5 + 4]);
    }
}
END_TEST

START_TEST(shapes_out_of_range_are_refused)
{
    ck_assert_int_eq(lun_desc_check(lun_image(1, 1, 1, 1)), LUN_OK);
    ck_assert_int_eq(lun_desc_check(lun_image(0, 1, 1, 1)), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_desc_check(lun_image(1, -1, 1, 1)), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_desc_check(lun_image(INT32_MAX, 1, 1, 1)), LUN_OK);
    ck_assert_int_eq(lun_desc_check(lun_image(INT32_MAX, 2, 1, 1)), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_desc_check(lun_image(INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX)), LUN_ERR_USAGE);
}
END_TEST

START_TEST(details_are_one_tame_line)
{
    ck_assert_int_eq(lun_fail(LUN_ERR_DATA, "a%sb", "\n\033"), LUN_ERR_DATA);
    ck_assert_str_eq(lun_error_detail(), "a??b");
    lun_fail(LUN_ERR_DATA, "again: %s", lun_error_detail());
    ck_assert_str_eq(lun_error_detail(), "again: a??b");
    size_t size = 5;
    ck_assert(!lun_mul_size(SIZE_MAX, 2, &size) && size == 5);
    ck_assert(!lun_add_size(SIZE_MAX, 1, &size) && size == 5);
    ck_assert_ptr_null(lun_malloc(SIZE_MAX, SIZE_MAX, "a test"));
}
END_TEST

START_TEST(rates_in_decimal)
{
    static const struct {
        double rate;
        const char *text;
    } good[] = {{0.9999, "0.9999"},
                {0.5, "0.5"},
                {0.1 + 0.2, NULL},
                {0.999999999999999, "0.999999999999999"},
                {1e-15, "0.000000000000001"},
                {1e-16, NULL},
                {0.07, "0.07"},
                {0, NULL},
                {1, NULL},
                {-0.5, NULL},
                {NAN, NULL},
                {1.0 / 3, NULL}};
    static const char *const wrong[] = {
        "",  "0.",  "1.0", "0.50", "0.0", "0.5 ", " 0.5", ".5", "0,5", "0.5x", "5e-1", "+0.5", "0.9999999999999999",
        "1", "0.-5"};
    for (size_t i = 0; i < LUN_COUNT(good); i++) {
        char text[LUN_RATE_TEXT];
        double back = 7;
        ck_assert_int_eq(lun_rate_text(good[i].rate, text), good[i].text != NULL);
        if (!good[i].text)
            continue;
        ck_assert_str_eq(text, good[i].text);
        ck_assert(lun_rate_parse(text, &back) && back == good[i].rate);
    }
    for (size_t i = 0; i < LUN_COUNT(wrong); i++) {
        double untouched = 7;
        ck_assert_msg(!lun_rate_parse(wrong[i], &untouched) && untouched == 7, "'%s'", wrong[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *tests = tcase_create("base");
    tcase_add_test(tests, philox_known_answers);
    tcase_add_test(tests, random_access_equals_sequence);
    tcase_add_test(tests, permutation_is_one);
    tcase_add_test(tests, rows_hold_everything);
    tcase_add_test(tests, layouts_round_trip);
    tcase_add_test(tests, shapes_out_of_range_are_refused);
    tcase_add_test(tests, details_are_one_tame_line);
    tcase_add_test(tests, rates_in_decimal);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
