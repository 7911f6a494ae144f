/* cl/random.cl as C: the normals' accuracy over every radius and every angle, their exact bits, and the elements'
 * order. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/philox.h"
#include "kernel.h"
#pragma GCC diagnostic ignored "-Wunused-function" /* dropout */
#include "random.cl"

enum { COUNT = 1 << 23 };
#define TURN 6.283185307179586476925286766559

static double v_of(uint32_t k)
{
    return (2.0 * k + 1) * 0x1p-24;
}

/* |z - z64| <= |r - r64| + 5.77 |c - c64| + 2^-24 |z|: the two tables bound every one of the 2^46 pairs. The hashes are
 * those of the bits themselves: any device must get the same, and any compiler that fuses or reorders does not. */
START_TEST(normals_are_accurate_everywhere)
{
    double worst_r = 0, worst_turn = 0, largest = 0;
    uint64_t hash_r = LUN_HASH_START, hash_turn = LUN_HASH_START;
    for (uint32_t k = 0; k < COUNT; k++) {
        const float r = random_radius(k << 9 | 0x155);
        float turn[2];
        random_turn(k << 9 | 0xaa, &turn[0], &turn[1]);
        const double v = v_of(k), r64 = sqrt(-2 * log(v));
        double error = fabs(r - r64);
        worst_r = error <= worst_r ? worst_r : error; /* NaN sticks */
        largest = r > largest ? r : largest;
        error = fmax(fabs(turn[0] - cos(TURN * v)), fabs(turn[1] - sin(TURN * v)));
        worst_turn = error <= worst_turn ? worst_turn : error;
        hash_r = (hash_r ^ float_to_bits(r)) * UINT64_C(0x100000001b3);
        hash_turn = (hash_turn ^ float_to_bits(turn[0])) * UINT64_C(0x100000001b3);
        hash_turn = (hash_turn ^ float_to_bits(turn[1])) * UINT64_C(0x100000001b3);
    }
    const double worst = worst_r + largest * worst_turn + largest * 0x1p-24;
    ck_assert(worst <= 1.3e-6);
    ck_assert(largest < 5.7683 && largest > 5.768);
    ck_assert_uint_eq(hash_r, UINT64_C(0x5f88a8c74fa56185));
    ck_assert_uint_eq(hash_turn, UINT64_C(0x8e54979cf54c84d5));
}
END_TEST

/* Cutting a sample into items of any size gives the same, each element its own draw, in the storage's place. */
START_TEST(elements_and_places)
{
    enum { N = 2, C = 3, H = 5, W = 7, PER = C * H * W };
    uint32_t rows[N][LUN_RANDOM_ROW];
    for (uint32_t n = 0; n < N; n++)
        lun_random_row(0xfeedfacecafef00d, LUN_RANDOM_TEST, 0x123456789a + n, 17, rows[n]);
    for (int grain = 1; grain <= 40; grain += 13) {
        const int blocks = (PER + 3) / 4, pieces = (blocks + grain - 1) / grain;
        const struct random_args args = {
            .channels = C, .pixels = H * W, .blocks = blocks, .grain = grain, .pieces = pieces, .bound = 300};
        float normals[N * PER + 1];
        int integers[N * PER + 1];
        normals[N * PER] = 77;
        integers[N * PER] = 77;
        for (int item = 0; item < N * pieces; item++) {
            randn((void *[]){rows, normals}, &args, item);
            randint((void *[]){rows, integers}, &args, item);
        }
        ck_assert(normals[N * PER] == 77);
        ck_assert_int_eq(integers[N * PER], 77);
        for (uint32_t n = 0; n < N; n++)
            for (uint32_t e = 0; e < PER; e++) {
                const uint32_t c = e / (H * W), q = e % (H * W), at = (n * H * W + q) * C + c;
                uint32_t x[4];
                lun_random_block(0xfeedfacecafef00d, LUN_RANDOM_TEST, 0x123456789a + n, 17, e / 4, x);
                ck_assert_int_eq(integers[at], (int)(((uint64_t)x[e % 4] * 300) >> 32));
                const uint32_t pair = e % 4 / 2 * 2;
                const double a = TURN * v_of(x[pair + 1] >> 9),
                             want = sqrt(-2 * log(v_of(x[pair] >> 9))) * (e % 2 ? sin(a) : cos(a));
                ck_assert(fabs(normals[at] - want) <= 1.3e-6);
            }
    }
}
END_TEST

/* Mean, variance, skew and kurtosis of 2^20 draws within five standard errors. */
START_TEST(moments)
{
    enum { BLOCKS = 1 << 18, DRAWS = 4 * BLOCKS };
    float *z = malloc(DRAWS * sizeof *z);
    ck_assert(z != NULL);
    uint32_t row[LUN_RANDOM_ROW];
    lun_random_row(5, LUN_RANDOM_TEST, 9, 0, row);
    const struct random_args args = {.channels = 1, .pixels = DRAWS, .blocks = BLOCKS, .grain = BLOCKS, .pieces = 1};
    randn((void *[]){row, z}, &args, 0);
    double m[5] = {0}, pair = 0;
    for (int i = 0; i < DRAWS; i++) {
        const double v = z[i];
        m[1] += v;
        m[2] += v * v;
        m[3] += v * v * v;
        m[4] += v * v * v * v;
        pair += v * (double)z[i ^ 1];
    }
    const double se = 1 / sqrt((double)DRAWS);
    ck_assert(fabs(m[1] / DRAWS) <= 5 * se);
    ck_assert(fabs(m[2] / DRAWS - 1) <= 5 * se * sqrt(2));
    ck_assert(fabs(m[3] / DRAWS) <= 5 * se * sqrt(15));
    ck_assert(fabs(m[4] / DRAWS - 3) <= 5 * se * sqrt(96));
    ck_assert(fabs(pair / DRAWS) <= 5 * se * sqrt(2));
    free(z);
}
END_TEST

int main(void)
{
    (void)dropout; /* tests/opcheck has it */
    Suite *suite = suite_create("normals");
    TCase *tcase = tcase_create("normals");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, normals_are_accurate_everywhere);
    tcase_add_test(tcase, elements_and_places);
    tcase_add_test(tcase, moments);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
