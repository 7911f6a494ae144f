/* Schedules of every kind, lists of steps, tables, and draws of time steps. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/checkpoint.h>
#include <lunette/diffusion.h>

#include "base/base.h"
#include "base/philox.h"
#include "diffusion/moves.h"

#define OK(expr) ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())

static lun_safetensors *golden;

static void open_golden(void)
{
    char path[1024];
    const char *source = getenv("LUN_TEST_SOURCE");
    snprintf(path, sizeof path, "%s/../model/golden/schedules.safetensors", source ? source : ".");
    ck_assert_msg(lun_safetensors_open(path, &golden) == LUN_OK, "%s", lun_error_detail());
}

static void close_golden(void)
{
    lun_safetensors_close(golden);
}

/* float64 numbers by numpy. */
static void compare(const char *key, const char *name, const double *got, int count)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%s", key, name);
    const int64_t index = lun_safetensors_find(golden, full);
    ck_assert_msg(index >= 0, "no %s", full);
    const lun_safetensors_entry *entry = lun_safetensors_info(golden, (size_t)index);
    ck_assert_int_eq(entry->count, count);
    double *want = malloc((size_t)entry->bytes);
    ck_assert_int_eq(lun_safetensors_read(golden, (size_t)index, want, (size_t)entry->bytes), LUN_OK);
    for (int i = 0; i < count; i++) {
        /* 1 - a / b of close numbers, and what is made of it: relative to their own ulp, not to the difference. */
        const double bound = 1e-11 * fabs(want[i]) + 1e-14;
        ck_assert_msg(!!(fabs(got[i] - want[i]) <= bound), "%s[%d] is %.17g, wanted %.17g", full, i, got[i], want[i]);
    }
    free(want);
}

START_TEST(schedules_match_float64)
{
    static const struct {
        const char *name;
        lun_schedule_kind kind;
        int steps;
    } all[] = {{"linear.300", LUN_SCHEDULE_LINEAR, 300},   {"scaled.250", LUN_SCHEDULE_SCALED, 250},
               {"cosine.400", LUN_SCHEDULE_COSINE, 400},   {"cosine.50", LUN_SCHEDULE_COSINE, 50},
               {"sigmoid.200", LUN_SCHEDULE_SIGMOID, 200}, {"sigmoid.40", LUN_SCHEDULE_SIGMOID, 40}};
    for (size_t k = 0; k < LUN_COUNT(all); k++) {
        lun_schedule s;
        OK(lun_schedule_create(all[k].kind, all[k].steps, 1e-4, 0.02, &s));
        ck_assert_int_eq(s.steps, all[k].steps);
        compare("beta", all[k].name, s.beta, s.steps);
        compare("abar", all[k].name, s.abar, s.steps);
        compare("variance", all[k].name, s.posterior_variance, s.steps);
        compare("mean_x0", all[k].name, s.mean_x0, s.steps);
        compare("mean_xt", all[k].name, s.mean_xt, s.steps);
        compare("small", all[k].name, s.log_variance_small, s.steps);
        compare("large", all[k].name, s.log_variance_large, s.steps);
        for (int i = 0; i < s.steps; i++) {
            ck_assert_int_eq(s.timestep[i], i);
            ck_assert(s.beta[i] > 0 && s.beta[i] <= 0.999);
        }
        lun_schedule_free(&s);
        ck_assert_ptr_null(s.mean_x0);
    }
    ck_assert_str_eq(lun_schedule_kind_name(LUN_SCHEDULE_SIGMOID), "sigmoid");
    ck_assert_ptr_null(lun_schedule_kind_name((lun_schedule_kind)LUN_SCHEDULE_KINDS));
    ck_assert_str_eq(lun_prediction_name(LUN_PREDICTION_V), "v");
    ck_assert_ptr_null(lun_prediction_name((lun_prediction)LUN_PREDICTIONS));
}
END_TEST

START_TEST(lists_of_steps)
{
    int lists = 0;
    for (size_t k = 0; k < lun_safetensors_count(golden); k++) {
        const lun_safetensors_entry *entry = lun_safetensors_info(golden, k);
        int steps = 0;
        char text[64];
        if (sscanf(entry->name, "steps.%d.%63s", &steps, text) != 2)
            continue;
        lun_schedule full, s;
        int64_t *want = malloc((size_t)entry->bytes);
        OK(lun_safetensors_read_i64(golden, k, want, (size_t)entry->count));
        OK(lun_schedule_linear(steps, 1e-5, 0.02, &full));
        OK(lun_schedule_select(&full, text, &s));
        ck_assert_msg(s.steps == entry->count, "%s: %d steps", entry->name, s.steps);
        for (int i = 0; i < s.steps; i++) {
            ck_assert_msg(s.timestep[i] == want[i], "%s[%d] is %d, wanted %d", entry->name, i, s.timestep[i],
                          (int)want[i]);
            ck_assert_double_eq_tol(s.abar[i], full.abar[want[i]], 1e-13);
        }
        free(want);
        lun_schedule_free(&full);
        lun_schedule_free(&s);
        lists++;
    }
    ck_assert_int_ge(lists, 18);
}
END_TEST

START_TEST(wrong_texts_are_refused)
{
    static const char *const wrong[] = {"",          "0",       "301",      "ddim",      "ddim0",
                                        "ddim299",   "ddim301", "ddim2x",   "ddim-2",    "5,",
                                        ",5",        "5,,5",    "5 ,5",     "-5",        "+5",
                                        "5.0",       "a",       "linspace", "linspace0", "linspace300",
                                        "0,0",       "151,1",   "1,151",    "1000001",   "99999999999999999999",
                                        "ddim25,25", "Ddim25"};
    lun_schedule full, s = {0};
    OK(lun_schedule_linear(300, 1e-4, 0.02, &full));
    for (size_t i = 0; i < LUN_COUNT(wrong); i++) {
        ck_assert_msg(lun_schedule_select(&full, wrong[i], &s) == LUN_ERR_USAGE, "'%s' is taken", wrong[i]);
        ck_assert_ptr_null(s.beta);
    }
    static const int falling[] = {3, 2}, twice[] = {3, 3}, outside[] = {3, 300}, before[] = {-1, 3};
    ck_assert_int_eq(lun_schedule_keep(&full, falling, 2, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_keep(&full, twice, 2, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_keep(&full, outside, 2, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_keep(&full, before, 2, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_create((lun_schedule_kind)4, 300, 1e-4, 0.02, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_create(LUN_SCHEDULE_COSINE, 0, 0, 0, &s), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_schedule_create(LUN_SCHEDULE_SCALED, 20, 1e-4, 0.02, &s), LUN_ERR_USAGE); /* beta 1 */
    ck_assert_int_eq(lun_schedule_create(LUN_SCHEDULE_SCALED, 0, 1e-4, 0.02, &s), LUN_ERR_USAGE);
    ck_assert_ptr_null(s.beta);
    lun_schedule_free(&full);
}
END_TEST

START_TEST(tables)
{
    enum { T = 300 };
    static const char *const names[] = {"eps", "x0", "v"};
    lun_schedule s;
    float noise[2 * T], velocity[2 * T], snr[T], bound[8 * T];
    OK(lun_schedule_linear(T, 1e-4, 0.02, &s));
    lun_schedule_noise_table(&s, noise);
    lun_schedule_velocity_table(&s, velocity);
    for (int t = 0; t < T; t++)
        ck_assert(velocity[2 * t] == noise[2 * t] && velocity[2 * t + 1] == -noise[2 * t + 1]);
    for (int p = 0; p < 3; p++) {
        double wide[T];
        lun_schedule_snr_table(&s, (lun_prediction)p, 5, snr);
        char key[16];
        snprintf(key, sizeof key, "snr.%s", names[p]);
        const int64_t index = lun_safetensors_find(golden, key);
        ck_assert_int_ge(index, 0);
        OK(lun_safetensors_read(golden, (size_t)index, wide, sizeof wide));
        for (int t = 0; t < T; t++)
            ck_assert_double_eq_tol((double)snr[t], wide[t], 1e-7 * wide[t]);
        lun_schedule_bound_table(&s, (lun_prediction)p, bound);
        for (int t = 0; t < T; t++) {
            /* x0 and eps again from what the network should have said */
            const double x0 = 0.3, eps = -1.1, a = sqrt(s.abar[t]), b = sqrt(1 - s.abar[t]), xt = a * x0 + b * eps;
            const double m = p == 0 ? eps : p == 1 ? x0 : a * eps - b * x0;
            const lun_reading r = lun_reading_of((lun_prediction)p, s.abar[t]);
            ck_assert_double_eq_tol(r.a * xt + r.b * m, x0, 1e-12);
            ck_assert_double_eq_tol(r.p * xt + r.q * m, eps, 1e-12);
            const float *row = bound + 8 * t;
            ck_assert(row[0] == (float)r.a && row[1] == (float)r.b && row[2] == (float)s.mean_x0[t]);
            ck_assert_double_eq_tol((double)row[3] + (double)row[4], log(s.beta[t]), 2e-6);
            ck_assert(row[5] == 0 && row[6] == 0 && row[7] == 0);
        }
    }
    lun_schedule_free(&s);
}
END_TEST

/* ---- what samplers make of a schedule ---- */

/* A network that knows the truth about one number: every sampler without noise ends at it. */
static double drive(const lun_moves *moves, lun_prediction prediction, double x0, double start,
                    double (*abar_of)(const void *from, int t), const void *from)
{
    double x = start, memory = 0;
    for (int k = 0; k < moves->count; k++) {
        const lun_move *m = &moves->move[k];
        const double abar = abar_of(from, m->t), a = sqrt(abar), b = sqrt(1 - abar), eps = (x - a * x0) / b;
        const double said = prediction == LUN_PREDICTION_EPS  ? eps
                            : prediction == LUN_PREDICTION_X0 ? x0
                                                              : a * eps - b * x0;
        const double third = moves->has_memory ? memory : 0;
        const double end = (double)m->coef[0] * x + (double)m->coef[1] * said;
        const double next =
            (double)m->coef[2] * end + (double)m->coef[3] * x + (double)m->coef[4] * said + (double)m->coef[5] * third;
        const double kept = (double)m->memory[0] * x + (double)m->memory[1] * said;
        memory = (double)m->memory[2] * kept + (double)m->memory[3] * x + (double)m->memory[4] * said;
        x = next;
    }
    return x;
}

static double abar_of_schedule(const void *from, int t)
{
    const lun_schedule *s = from;
    for (int i = 0; i < s->steps; i++)
        if (s->timestep[i] == t)
            return s->abar[i];
    ck_abort_msg("step %d is not the schedule's", t);
    return 0;
}

typedef struct levels {
    const lun_schedule *schedule;
    const double *times;
    int count;
} levels;

/* The level at a time between two steps, and at the ends the steps' own. */
static double abar_of_time(const void *from, int t)
{
    const levels *l = from;
    const lun_schedule *s = l->schedule;
    ck_assert(t >= 0 && t < l->count);
    const double time = l->times[t];
    const int low = time >= s->steps - 1 ? s->steps - 2 : (int)time;
    const double a = 0.5 * log((1 - s->abar[low]) / s->abar[low]),
                 b = 0.5 * log((1 - s->abar[low + 1]) / s->abar[low + 1]);
    const double level = exp(a + (time - low) * (b - a));
    return 1 / (1 + level * level);
}

START_TEST(samplers_end_at_the_truth)
{
    lun_schedule full;
    OK(lun_schedule_create(LUN_SCHEDULE_COSINE, 100, 0, 0, &full));
    for (int kind = 0; kind < LUN_SAMPLER_KINDS; kind++) {
        for (int p = 0; p < 3; p++) {
            for (int clip = 0; clip < 2; clip++) {
                lun_schedule s;
                OK(lun_schedule_select(&full, kind == LUN_SAMPLER_HEUN ? "100" : "20", &s));
                lun_sampler_params params = {.kind = (lun_sampler_kind)kind,
                                             .prediction = (lun_prediction)p,
                                             .clip = (lun_clip_mode)clip,
                                             .schedule = &s,
                                             .steps = kind == LUN_SAMPLER_HEUN ? 12 : 0};
                lun_moves moves;
                OK(lun_moves_create(&params, &moves));
                ck_assert_int_eq(moves.steps, kind == LUN_SAMPLER_HEUN ? 12 : 20);
                int left = moves.steps;
                for (int k = 0; k < moves.count; k++)
                    if (moves.move[k].left >= 0)
                        ck_assert_int_eq(moves.move[k].left, --left);
                ck_assert_int_eq(left, 0);
                const levels l = {&full, moves.times, moves.steps};
                const double got = kind == LUN_SAMPLER_HEUN
                                       ? drive(&moves, params.prediction, 0.4, 1.3, abar_of_time, &l)
                                       : drive(&moves, params.prediction, 0.4, 1.3, abar_of_schedule, &s);
                /* float32 coefficients up to 1 / sqrt(abar) = 2e4, at the first step only */
                ck_assert_msg(!!(fabs(got - 0.4) < 1e-3), "%s, prediction %d, clip %d: %g",
                              lun_sampler_kind_name(params.kind), p, clip, got);
                lun_moves_free(&moves);
                lun_schedule_free(&s);
            }
        }
    }
    ck_assert_ptr_null(lun_sampler_kind_name((lun_sampler_kind)LUN_SAMPLER_KINDS));
    lun_schedule_free(&full);
}
END_TEST

START_TEST(ddim_with_eta_one_is_ancestral)
{
    lun_schedule s;
    OK(lun_schedule_linear(50, 1e-4, 0.02, &s));
    for (int clip = 0; clip < 2; clip++) {
        lun_sampler_params params = {.schedule = &s, .clip = (lun_clip_mode)clip};
        lun_moves a, d;
        OK(lun_moves_create(&params, &a));
        params.kind = LUN_SAMPLER_DDIM;
        params.eta = 1;
        OK(lun_moves_create(&params, &d));
        for (int k = 0; k < a.count; k++)
            for (int i = 0; i < 8; i++)
                ck_assert_double_eq_tol((double)a.move[k].coef[i], (double)d.move[k].coef[i], 2e-6);
        lun_moves_free(&a);
        lun_moves_free(&d);
    }
    lun_schedule_free(&s);
}
END_TEST

START_TEST(variances)
{
    lun_schedule s;
    OK(lun_schedule_linear(50, 1e-4, 0.02, &s));
    lun_moves moves[3];
    for (int v = 0; v < 3; v++) {
        const lun_sampler_params params = {.schedule = &s, .clip = LUN_CLIP_MODE_X0, .variance = (lun_variance)v};
        OK(lun_moves_create(&params, &moves[v]));
    }
    for (int k = 0; k < 50; k++) {
        const int i = moves[0].move[k].left;
        const float *learned = moves[2].move[k].coef;
        ck_assert_double_eq_tol((double)moves[0].move[k].coef[5], i ? sqrt(s.posterior_variance[i]) : 0, 1e-8);
        ck_assert_double_eq_tol((double)moves[1].move[k].coef[5], i ? sqrt(s.beta[i]) : 0, 1e-8);
        ck_assert(learned[5] == (i ? 1 : 0));
        if (i == 0)
            continue;
        /* v = -1 is small, v = 1 large */
        ck_assert_double_eq_tol(exp((double)learned[6] - (double)learned[7]), sqrt(s.posterior_variance[i]), 1e-7);
        ck_assert_double_eq_tol(exp((double)learned[6] + (double)learned[7]), sqrt(s.beta[i]), 1e-7);
    }
    for (int v = 0; v < 3; v++)
        lun_moves_free(&moves[v]);
    lun_schedule_free(&s);
}
END_TEST

/* ---- time steps ---- */

START_TEST(time_steps_follow_their_losses)
{
    enum { T = 6, DRAWS = 60000 };
    lun_time_sampler *s = NULL;
    OK(lun_time_sampler_create(T, &s));
    int32_t *t = malloc(DRAWS * sizeof *t);
    float *weight = malloc(DRAWS * sizeof *weight);
    /* Uniform, and those of randint, until every step has its history. */
    for (int round = 0; round < LUN_TIME_HISTORY; round++) {
        ck_assert(!lun_time_sampler_ready(s));
        lun_time_sampler_draw(s, 11, 100, 50, t, weight);
        for (int i = 0; i < 50; i++) {
            ck_assert_int_eq(t[i], (int)lun_random_below(11, LUN_RANDOM_TIMESTEP, 100 + (uint64_t)i, 0, 0, T));
            ck_assert(weight[i] == 1);
        }
        for (int32_t k = 0; k < T; k++) {
            const float wrong[] = {NAN, INFINITY}, loss = k == 2 ? 9.0f : 1.0f; /* 9: leaves the history below */
            const int32_t where[] = {k, k}, outside[] = {-1, T};
            lun_time_sampler_update(s, where, wrong, 2);
            lun_time_sampler_update(s, outside, &(float[]){1, 1}[0], 2);
            lun_time_sampler_update(s, &k, &loss, 1);
        }
    }
    ck_assert(lun_time_sampler_ready(s));
    /* Ten more of step 2 push the nines out: root mean square of 1..10 against 1. */
    double square = 0;
    for (int i = 1; i <= LUN_TIME_HISTORY; i++) {
        const int32_t two = 2;
        const float loss = (float)i;
        lun_time_sampler_update(s, &two, &loss, 1);
        square += i * i;
    }
    const double root = sqrt(square / LUN_TIME_HISTORY);
    lun_time_sampler_draw(s, 11, 0, DRAWS, t, weight);
    int seen[T] = {0};
    double mean = 0;
    for (int i = 0; i < DRAWS; i++) {
        const double p = 0.999 * (t[i] == 2 ? root : 1) / (root + T - 1) + 0.001 / T;
        ck_assert_double_eq_tol((double)weight[i], 1 / (T * p), 1e-6 / p);
        seen[t[i]]++;
        mean += (double)weight[i] / DRAWS;
    }
    for (int k = 0; k < T; k++) {
        const double p = 0.999 * (k == 2 ? root : 1) / (root + T - 1) + 0.001 / T;
        /* five standard deviations of a binomial count */
        ck_assert_double_eq_tol(seen[k], DRAWS * p, 5 * sqrt(DRAWS * p * (1 - p)));
    }
    ck_assert_double_eq_tol(mean, 1, 0.02); /* the weights keep the expectation */

    /* A sample's draw is its own, whatever is drawn with it. */
    int32_t one;
    float w;
    lun_time_sampler_draw(s, 11, 777, 1, &one, &w);
    ck_assert(one == t[777] && w == weight[777]);

    /* Saved and loaded it goes on as it would have. */
    float history[T * LUN_TIME_HISTORY];
    int32_t known[T], t2[100];
    float weight2[100];
    lun_time_sampler *other = NULL;
    lun_time_sampler_save(s, history, known);
    OK(lun_time_sampler_create(T, &other));
    OK(lun_time_sampler_load(other, history, known));
    for (int round = 0; round < 3; round++) {
        lun_time_sampler_draw(s, 5, 1000, 100, t, weight);
        lun_time_sampler_draw(other, 5, 1000, 100, t2, weight2);
        ck_assert_mem_eq(t, t2, sizeof t2);
        ck_assert_mem_eq(weight, weight2, sizeof weight2);
        lun_time_sampler_update(s, t, weight, 100);
        lun_time_sampler_update(other, t2, weight2, 100);
    }
    known[1] = LUN_TIME_HISTORY + 1;
    ck_assert_int_eq(lun_time_sampler_load(other, history, known), LUN_ERR_CHECKPOINT);
    known[1] = LUN_TIME_HISTORY;
    history[3] = NAN;
    ck_assert_int_eq(lun_time_sampler_load(other, history, known), LUN_ERR_CHECKPOINT);
    lun_time_sampler_draw(other, 5, 1000, 100, t2, weight2); /* as before */
    lun_time_sampler_draw(s, 5, 1000, 100, t, weight);
    ck_assert_mem_eq(t, t2, sizeof t2);

    /* Losses that are all zero say nothing. */
    memset(history, 0, sizeof history);
    OK(lun_time_sampler_load(other, history, known));
    lun_time_sampler_draw(other, 5, 0, 100, t2, weight2);
    for (int i = 0; i < 100; i++)
        ck_assert_double_eq_tol((double)weight2[i], 1, 1e-6);
    lun_time_sampler_destroy(&other);
    lun_time_sampler_destroy(&s);
    ck_assert_ptr_null(s);
    ck_assert_int_eq(lun_time_sampler_create(0, &s), LUN_ERR_USAGE);
    free(t);
    free(weight);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("diffusion");
    TCase *group = tcase_create("diffusion");
    tcase_add_unchecked_fixture(group, open_golden, close_golden);
    tcase_add_test(group, schedules_match_float64);
    tcase_add_test(group, lists_of_steps);
    tcase_add_test(group, wrong_texts_are_refused);
    tcase_add_test(group, tables);
    tcase_add_test(group, samplers_end_at_the_truth);
    tcase_add_test(group, ddim_with_eta_one_is_ancestral);
    tcase_add_test(group, variances);
    tcase_add_test(group, time_steps_follow_their_losses);
    suite_add_tcase(suite, group);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
