#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/checkpoint.h>
#include <lunette/diffusion.h>

#include "base/base.h"

static lun_safetensors *golden;

static void open_golden(void)
{
    char path[1024];
    const char *source = getenv("LUN_TEST_SOURCE");
    snprintf(path, sizeof path, "%s/../model/golden/schedule.safetensors", source ? source : ".");
    ck_assert_msg(lun_safetensors_open(path, &golden) == LUN_OK, "%s", lun_error_detail());
}

static void close_golden(void)
{
    lun_safetensors_close(golden);
}

/* PyTorch's float64 numbers. cumprod and a loop may differ in the last places. */
static void compare(const char *name, const double *got, int count)
{
    const int64_t index = lun_safetensors_find(golden, name);
    ck_assert_msg(index >= 0, "no %s", name);
    const lun_safetensors_entry *entry = lun_safetensors_info(golden, (size_t)index);
    ck_assert_int_eq(entry->count, count);
    double *want = malloc((size_t)entry->bytes);
    ck_assert_int_eq(lun_safetensors_read(golden, (size_t)index, want, (size_t)entry->bytes), LUN_OK);
    for (int i = 0; i < count; i++)
        ck_assert_msg(fabs(got[i] - want[i]) <= 1e-12 * fabs(want[i]) + 1e-18, "%s[%d] is %.17g, wanted %.17g", name, i,
                      got[i], want[i]);
    free(want);
}

START_TEST(linear_matches_float64)
{
    static const int lengths[] = {300, 1000};
    for (size_t k = 0; k < LUN_COUNT(lengths); k++) {
        lun_schedule s;
        char name[32];
        ck_assert_int_eq(lun_schedule_linear(lengths[k], 1e-4, 0.02, &s), LUN_OK);
        snprintf(name, sizeof name, "beta.%d", lengths[k]);
        compare(name, s.beta, s.steps);
        snprintf(name, sizeof name, "abar.%d", lengths[k]);
        compare(name, s.abar, s.steps);
        snprintf(name, sizeof name, "variance.%d", lengths[k]);
        compare(name, s.posterior_variance, s.steps);
        for (int i = 0; i < s.steps; i++)
            ck_assert_int_eq(s.timestep[i], i);
        lun_schedule_free(&s);
        ck_assert_ptr_null(s.beta);
    }
}
END_TEST

/* The experiment's own check values. */
START_TEST(notebook_table)
{
    static const struct {
        int t;
        double beta, abar, root, rest, variance;
    } rows[] = {{0, 1e-4, .9999, .99995, .01000, 0},
                {1, 1.66555e-4, .999733, .99987, .01633, 6.24882e-5},
                {50, .00342776, .913875, .95597, .29347, .00330266},
                {150, .0100833, .462345, .67996, .73325, .00999496},
                {299, .02, .0480584, .21922, .97567, .0199794}};
    lun_schedule s;
    float table[600];
    ck_assert_int_eq(lun_schedule_linear(300, 1e-4, 0.02, &s), LUN_OK);
    lun_schedule_noise_table(&s, table);
    for (size_t i = 0; i < LUN_COUNT(rows); i++) {
        const int t = rows[i].t;
        ck_assert_double_eq_tol(s.beta[t], rows[i].beta, 1e-5 * rows[i].beta);
        ck_assert_double_eq_tol(s.abar[t], rows[i].abar, 1e-5 * rows[i].abar);
        ck_assert_double_eq_tol((double)table[2 * t], rows[i].root, 1e-5);
        ck_assert_double_eq_tol((double)table[2 * t + 1], rows[i].rest, 1e-5);
        ck_assert_double_eq_tol(s.posterior_variance[t], rows[i].variance, 1e-5 * rows[i].variance + 1e-30);
    }
    lun_schedule_free(&s);
}
END_TEST

/* Every list in the file is of the original algorithm; halves round to even there. */
START_TEST(respacing_lists)
{
    int lists = 0;
    for (size_t k = 0; k < lun_safetensors_count(golden); k++) {
        const lun_safetensors_entry *entry = lun_safetensors_info(golden, k);
        int steps = 0, count = 0;
        if (sscanf(entry->name, "respace.%d.%d", &steps, &count) != 2)
            continue;
        lun_schedule full, s;
        char name[48];
        int64_t *want = malloc((size_t)entry->bytes);
        ck_assert_int_eq(lun_safetensors_read_i64(golden, k, want, (size_t)count), LUN_OK);
        ck_assert_int_eq(lun_schedule_linear(steps, 1e-4, 0.02, &full), LUN_OK);
        ck_assert_int_eq(lun_schedule_respace(&full, count, &s), LUN_OK);
        ck_assert_int_eq(s.steps, count);
        for (int i = 0; i < count; i++)
            ck_assert_msg(s.timestep[i] == want[i], "%s: entry %d is %d, wanted %d", entry->name, i, s.timestep[i],
                          (int)want[i]);
        snprintf(name, sizeof name, "respaced_beta.%d.%d", steps, count);
        /* 1 - a / b of close numbers: absolute, in units of 1. */
        const int64_t index = lun_safetensors_find(golden, name);
        ck_assert_int_ge(index, 0);
        double *beta = malloc((size_t)count * sizeof *beta);
        ck_assert_int_eq(lun_safetensors_read(golden, (size_t)index, beta, (size_t)count * sizeof *beta), LUN_OK);
        for (int i = 0; i < count; i++) {
            ck_assert_double_eq_tol(s.beta[i], beta[i], 1e-14);
            ck_assert_double_eq_tol(s.abar[i], full.abar[s.timestep[i]], 1e-13);
        }
        free(beta);
        free(want);
        lun_schedule_free(&full);
        lun_schedule_free(&s);
        lists++;
    }
    ck_assert_int_ge(lists, 18);
}
END_TEST

/* Both ways to the mean agree where nothing is clamped; and with the right noise taken out, x0 comes back at the end.
 */
START_TEST(ancestral_coefficients)
{
    lun_schedule s;
    ck_assert_int_eq(lun_schedule_linear(300, 1e-4, 0.02, &s), LUN_OK);
    for (int i = 0; i < s.steps; i++) {
        float none[8], x0[8], xt[8];
        lun_schedule_ancestral(&s, i, LUN_CLIP_MODE_NONE, none);
        lun_schedule_ancestral(&s, i, LUN_CLIP_MODE_X0, x0);
        lun_schedule_ancestral(&s, i, LUN_CLIP_MODE_XT, xt);
        ck_assert_mem_eq(none, xt, sizeof none);
        const double x = 0.7, eps = -1.3;
        const double direct = (double)none[2] * (none[0] * x + none[1] * eps) + none[3] * x + none[4] * eps;
        const double over = (double)x0[2] * (x0[0] * x + x0[1] * eps) + x0[3] * x + x0[4] * eps;
        const double paper = (x - s.beta[i] / sqrt(1 - s.abar[i]) * eps) / sqrt(1 - s.beta[i]);
        ck_assert_double_eq_tol(direct, paper, 1e-6);
        ck_assert_double_eq_tol(over, paper, 1e-6);
        ck_assert_double_eq_tol((double)none[5], i ? sqrt(s.posterior_variance[i]) : 0, 1e-8);
        ck_assert_float_eq(none[5], x0[5]);
        ck_assert(none[6] == 0 && none[7] == 0);
    }
    float last[8];
    lun_schedule_ancestral(&s, 0, LUN_CLIP_MODE_X0, last);
    ck_assert_double_eq_tol((double)last[2], 1, 1e-6);
    ck_assert_float_eq(last[3], 0);
    ck_assert_float_eq(last[5], 0);
    lun_schedule_free(&s);
}
END_TEST

START_TEST(wrong_schedules_are_refused)
{
    lun_schedule s = {0}, full;
    ck_assert_int_eq(lun_schedule_linear(0, 1e-4, 0.02, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_linear(300, 0, 0.02, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_linear(300, 0.02, 1e-4, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_linear(300, 1e-4, 1, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_linear(300, 1e-4, NAN, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_linear(300, 1e-4, 0.02, &full), LUN_OK);
    ck_assert_int_eq(lun_schedule_respace(&full, 0, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_respace(&full, 301, &s), LUN_ERR_USAGE);
    ck_assert_ptr_null(s.beta);
    lun_schedule_free(&full);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schedule");
    TCase *group = tcase_create("schedule");
    tcase_add_unchecked_fixture(group, open_golden, close_golden);
    tcase_add_test(group, linear_matches_float64);
    tcase_add_test(group, notebook_table);
    tcase_add_test(group, respacing_lists);
    tcase_add_test(group, ancestral_coefficients);
    tcase_add_test(group, wrong_schedules_are_refused);
    suite_add_tcase(suite, group);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
