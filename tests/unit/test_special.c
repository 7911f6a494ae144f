/* cl/special.h as C, against double: over floats of every sign and exponent, at the bounds derived there; and over a
 * whole octave of exp's reduced argument. How the compilers of the instruction sets fuse is opcheck's to see. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "special.h"

#define U 0x1p-24

typedef struct worst {
    double exponential, sigmoid, silu, slope, distribution, density;
} worst;

/* Bounds are taken in units of themselves: 1 is the most that is allowed. */
static double ratio(double got, double want, double bound, double sofar)
{
    const double r = fabs(got - want) / bound;
    return r <= sofar ? sofar : r; /* NaN sticks */
}

static void look(float value, worst *w)
{
    const double x = (double)value, within = fmin(fmax(x, -87), 87), y = exp(within);
    const double flushed = 0x1p-124 * (1 + fabs(x)), s = 1 / (1 + exp(-x)), rest = 1 / (1 + exp(x)), q = x * rest;
    w->exponential = ratio((double)f_exp(value), y, 3 * U * y, w->exponential);
    w->sigmoid = ratio((double)f_sigmoid(value), s, 9 * U * s + flushed, w->sigmoid);
    w->silu = ratio((double)f_silu(value), x * s, 9 * U * fabs(x * s) + flushed, w->silu);
    w->slope =
        ratio((double)f_silu_slope(value), s * (1 + q), U * s * (14 * fabs(q) + 11 * fabs(1 + q)) + flushed, w->slope);
    const double tail = erfc(fabs(x) * sqrt(0.5)) / 2, below = x < 0 ? tail : 1 - tail;
    const double square = fmin(x * x / 2, 87), bell = exp(-x * x / 2) / sqrt(2 * acos(-1.0));
    float density;
    const float distribution = f_normal(value, &density);
    w->distribution =
        ratio((double)distribution, below, U * (26 + square) * tail + (x < 0 ? 0 : U) + flushed, w->distribution);
    w->density = ratio((double)density, bell, U * (5 + square) * bell + flushed, w->density);
}

static void judge(const worst *w)
{
    ck_assert_msg(w->exponential <= 1, "exp: %g", w->exponential);
    ck_assert_msg(w->sigmoid <= 1, "sigmoid: %g", w->sigmoid);
    ck_assert_msg(w->silu <= 1, "silu: %g", w->silu);
    ck_assert_msg(w->slope <= 1, "silu's slope: %g", w->slope);
    ck_assert_msg(w->distribution <= 1, "normal distribution: %g", w->distribution);
    ck_assert_msg(w->density <= 1, "normal density: %g", w->density);
    /* Far below the bounds something else would be measured than what the bounds are about. */
    ck_assert(w->exponential > 0.2 && w->silu > 0.1 && w->slope > 0.1 && w->distribution > 0.1);
    if (getenv("LUN_TEST_VERBOSE"))
        printf("of the bounds: exp %.3f, sigmoid %.3f, silu %.3f, slope %.3f, distribution %.3f, density %.3f\n",
               w->exponential, w->sigmoid, w->silu, w->slope, w->distribution, w->density);
}

START_TEST(bounds_hold_everywhere)
{
    worst w = {0};
    for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += 1021) {
        const float x = bits_to_float((uint32_t)bits);
        if (fabsf(x) <= 1e30f)
            look(x, &w);
    }
    for (float x = -100; x <= 100; x += 0x1p-14f) /* where something happens, densely */
        look(x, &w);
    judge(&w);
}
END_TEST

START_TEST(every_float_of_an_octave)
{
    double most = 0;
    for (uint32_t bits = 0; bits < 1u << 24; bits++) {
        const float x = bits_to_float(0x3e800000 + (bits >> 1)) * (bits & 1 ? -1.0f : 1.0f); /* 1/4 to 1/2 */
        const double y = exp((double)x);
        most = ratio((double)f_exp(x), y, 3 * U * y, most);
    }
    ck_assert_msg(most <= 1, "exp: %g", most);
}
END_TEST

START_TEST(ends)
{
    float density;
    static const uint32_t nans[] = {0x7fc00000, 0xffc00000, 0x7fc0dead, 0x7fffffff, 0xffffffff};
    for (size_t i = 0; i < sizeof nans / sizeof nans[0]; i++) {
        const float nan = bits_to_float(nans[i]);
        ck_assert(isnan(f_exp(nan)) && isnan(f_sigmoid(nan)) && isnan(f_silu(nan)) && isnan(f_silu_slope(nan)));
        ck_assert(isnan(f_normal(nan, &density)) && isnan(density));
    }
    ck_assert(f_exp(0) == 1 && f_exp(-0.0f) == 1 && f_exp(88) == f_exp(87) && f_exp(-INFINITY) == f_exp(-87));
    ck_assert(f_sigmoid(0) == 0.5f && f_sigmoid(INFINITY) == 1 && f_silu(0) == 0 && f_silu(INFINITY) == INFINITY);
    ck_assert(f_silu(100) == 100 && f_silu_slope(100) == 1 && f_silu_slope(0) == 0.5f);
    ck_assert(f_normal(20, &density) == 1 && f_normal(INFINITY, &density) == 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("special");
    TCase *tcase = tcase_create("special");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, bounds_hold_everywhere);
    tcase_add_test(tcase, every_float_of_an_octave);
    tcase_add_test(tcase, ends);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
