/* Losses and their gradients against float64, by make_sampling.py: every prediction, loss, weighting and variance. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

enum { N = 5, CHANNELS = 3, AREA = 16, SIZE = N * CHANNELS * AREA, STEPS = 300 };

typedef struct given {
    lun_safetensors *file;
    lun_schedule schedule;
    float *x0, *xt, *eps, *weights;
    int32_t t[N];
} given;

static lun_value constant(lun_graph *g, const char *name, const float *values)
{
    return lun_graph_constant(g, name, lun_image(N, CHANNELS, 4, 4), values);
}

/* Without the second half of the channels. */
static void first_half(const float *wide, float *narrow)
{
    for (int n = 0; n < N; n++)
        memcpy(narrow + n * CHANNELS * AREA, wide + 2 * n * CHANNELS * AREA, CHANNELS * AREA * sizeof *wide);
}

static void objective_matches(const given *in, const lun_objective *o, const char *name, const char *pred_name)
{
    const int channels = o->learned_variance ? 2 * CHANNELS : CHANNELS;
    char key[64];
    float *wide = golden_floats(in->file, pred_name, 2 * SIZE), narrow[SIZE];
    first_half(wide, narrow);
    lun_store *store = NULL;
    lun_graph *g = NULL;
    lun_plan *plan = NULL;
    MUST(lun_store_create(&store));
    MUST(lun_graph_create(store, &g));
    const lun_value pred =
        lun_graph_param(g, "pred", lun_image(N, channels, 4, 4), 4, LUN_ROLE_PARAM, (lun_init){LUN_INIT_ZERO, 0});
    const lun_value x0 = constant(g, "x0", in->x0), eps = constant(g, "eps", in->eps);
    const lun_value t = lun_graph_constant(g, "t", lun_typed(lun_image(N, 1, 1, 1), LUN_I32), in->t);
    const lun_value weights = lun_graph_constant(g, "w", lun_image(N, 1, 1, 1), in->weights);
    const lun_value xt = lun_objective_noisy(g, &in->schedule, x0, eps, t);
    lun_value each = -1;
    const lun_value loss = lun_objective_loss(g, &in->schedule, o, pred, x0, xt, eps, t, weights, &each);
    lun_graph_output(g, each);
    lun_graph_output(g, loss);
    lun_graph_output(g, xt);
    lun_graph_backward(g, loss);
    MUST(lun_graph_check(g));
    MUST(lun_store_allocate(store, golden_device, 1));
    MUST(lun_store_write(store, 0, LUN_SLOT_VALUE, o->learned_variance ? wide : narrow));
    MUST(lun_graph_compile(g, golden_device, NULL, &plan));
    MUST(lun_plan_run(plan));

    float got_xt[SIZE], got_each[N], got_loss, gradient[2 * SIZE];
    MUST(lun_plan_read(plan, xt, got_xt));
    MUST(lun_plan_read(plan, each, got_each));
    MUST(lun_plan_read(plan, loss, &got_loss));
    MUST(lun_store_read(store, 0, LUN_SLOT_GRAD, gradient));
    ck_assert(relative(got_xt, in->xt, SIZE) < 1e-6);
    snprintf(key, sizeof key, "each.%s", name);
    float *want = golden_floats(in->file, key, N);
    for (int n = 0; n < N; n++)
        ck_assert_msg(!!(fabsf(got_each[n] - want[n]) <= 1e-4f * fabsf(want[n])), "%s[%d]: %g, wanted %g", key, n,
                      (double)got_each[n], (double)want[n]);
    free(want);
    snprintf(key, sizeof key, "loss.%s", name);
    ck_assert_double_eq_tol((double)got_loss, golden_scalar(in->file, key), 1e-5 * golden_scalar(in->file, key));
    snprintf(key, sizeof key, "grad.%s", name);
    want = golden_floats(in->file, key, (size_t)(N * channels * AREA));
    const double error = relative(gradient, want, (size_t)(N * channels * AREA));
    ck_assert_msg(!!(error <= 1e-5), "%s is %g off", key, error);
    free(want);
    free(wide);
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
    lun_store_destroy(&store);
}

START_TEST(objectives_match)
{
    static const char *const predictions[] = {"eps", "x0", "v"}, *const losses[] = {"l1", "l2", "huber"};
    given in = {.file = golden_open(golden_path("objective.safetensors"))};
    MUST(lun_schedule_linear(STEPS, 1e-4, 0.02, &in.schedule));
    in.x0 = golden_floats(in.file, "x0", SIZE);
    in.xt = golden_floats(in.file, "xt", SIZE);
    in.eps = golden_floats(in.file, "eps", SIZE);
    in.weights = golden_floats(in.file, "weights", N);
    size_t count = 0;
    int64_t *t = golden_integers(in.file, "t", &count);
    ck_assert_uint_eq(count, N);
    for (int n = 0; n < N; n++)
        in.t[n] = (int32_t)t[n];
    free(t);
    for (int p = 0; p < 3; p++) {
        for (int kind = 0; kind < 3; kind++) {
            for (int learned = 0; learned < 2; learned++) {
                for (int gamma = 0; gamma <= 5; gamma += 5) {
                    char name[48], pred[16];
                    const lun_objective o = {.prediction = (lun_prediction)p,
                                             .loss = (lun_loss_type)kind,
                                             .huber_delta = 0.7f,
                                             .min_snr = gamma,
                                             .learned_variance = learned,
                                             .bound_scale = STEPS / 1000.0};
                    snprintf(name, sizeof name, "%s.%s.%s.%d", predictions[p], losses[kind],
                             learned ? "learned" : "fixed", gamma);
                    snprintf(pred, sizeof pred, "pred.%s", predictions[p]);
                    objective_matches(&in, &o, name, pred);
                }
            }
        }
    }
    lun_schedule_free(&in.schedule);
    free(in.x0);
    free(in.xt);
    free(in.eps);
    free(in.weights);
    lun_safetensors_close(in.file);
}
END_TEST

/* Without weights of any kind it is the one op that it was. */
START_TEST(plain_objective_is_the_loss)
{
    lun_schedule schedule;
    lun_graph *g = NULL;
    lun_plan *plan = NULL;
    float a[SIZE], b[SIZE], losses[2];
    const int32_t t[N] = {0};
    for (int i = 0; i < SIZE; i++) {
        a[i] = (float)sin(i);
        b[i] = (float)cos(3 * i);
    }
    MUST(lun_schedule_linear(STEPS, 1e-4, 0.02, &schedule));
    MUST(lun_graph_create(NULL, &g));
    const lun_value pred = constant(g, "pred", a), eps = constant(g, "eps", b);
    const lun_value time = lun_graph_constant(g, "t", lun_typed(lun_image(N, 1, 1, 1), LUN_I32), t);
    const lun_objective plain = {.loss = LUN_HUBER, .huber_delta = 0.3f};
    const lun_value one = lun_loss(g, pred, eps, LUN_HUBER, 0.3f);
    const lun_value other = lun_objective_loss(g, &schedule, &plain, pred, eps, eps, eps, time, -1, NULL);
    lun_graph_output(g, one);
    lun_graph_output(g, other);
    MUST(lun_graph_compile(g, golden_device, NULL, &plan));
    ck_assert_uint_eq(lun_plan_get_info(plan).nodes, 2);
    MUST(lun_plan_run(plan));
    MUST(lun_plan_read(plan, one, &losses[0]));
    MUST(lun_plan_read(plan, other, &losses[1]));
    ck_assert_mem_eq(&losses[0], &losses[1], sizeof losses[0]);
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
    lun_schedule_free(&schedule);
}
END_TEST

void add_objective_tests(TCase *group)
{
    tcase_add_test(group, objectives_match);
    tcase_add_test(group, plain_objective_is_the_loss);
}
