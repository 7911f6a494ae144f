/* The whole network against PyTorch's float64: forward, loss, gradients, ten optimiser steps, sampling trajectories,
 * files.
 *
 *     test_model GOLDEN DEVICE [FOLDER]     FOLDER keeps what is written (the other framework's turn: check_torch.py)
 *
 * Nothing may fall back: a graph that compiles here runs on the device. Exit 77 where there is no such device. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden.h"

#define FORWARD_BOUND  1e-5 /* relative L2, direct convolutions */
#define GRADIENT_BOUND 1e-4 /* of every parameter */
#define LOSS_BOUND     1e-5

static const lun_predict_params predict_defaults = {.loss = LUN_L1, .huber_delta = 1};

/* ---- Structure --------------------------------------------------------------------------------------------------- */

START_TEST(published_network_has_its_parameters)
{
    const lun_model_config config = lun_model_config_notebook();
    lun_store *store = NULL;
    lun_graph *graph = NULL;
    MUST(lun_store_create(&store));
    MUST(lun_graph_create(store, &graph));
    const lun_value x = lun_graph_input(graph, "x", lun_image(2, 3, 64, 64));
    const lun_value t = lun_graph_input(graph, "t", lun_typed(lun_image(2, 1, 1, 1), LUN_I32));
    const lun_value y = lun_model_forward(graph, &config, x, t, LUN_NORM_TRAIN);
    MUST(lun_graph_check(graph));
    ck_assert(lun_shape_equal(lun_graph_desc(graph, y).shape, lun_shape4(2, 3, 64, 64)));
    ck_assert_uint_eq(lun_store_param_elements(store), 62438883);
    static const uint64_t blocks[] = {488448, 1943552, 7753728, 30973952, 16011264, 4007936, 1004544, 252416};
    for (int b = 0; b < 8; b++) {
        char prefix[16];
        uint64_t elements = 0;
        snprintf(prefix, sizeof prefix, "%s.%d.", b < 4 ? "downs" : "ups", b % 4);
        for (size_t i = 0; i < lun_store_count(store); i++) {
            const lun_param_info *info = lun_store_info(store, i);
            if (info->role == LUN_ROLE_PARAM && strncmp(info->name, prefix, strlen(prefix)) == 0)
                elements += (uint64_t)lun_count(info->desc.shape);
        }
        ck_assert_msg(elements == blocks[b], "%s has %llu parameters", prefix, (unsigned long long)elements);
    }
    /* The order of PyTorch's state_dict. */
    static const char *const first[] = {"time_mlp.1.weight",
                                        "time_mlp.1.bias",
                                        "conv0.weight",
                                        "conv0.bias",
                                        "downs.0.time_mlp.weight",
                                        "downs.0.time_mlp.bias",
                                        "downs.0.conv1.weight",
                                        "downs.0.conv1.bias",
                                        "downs.0.transform.weight",
                                        "downs.0.transform.bias",
                                        "downs.0.conv2.weight",
                                        "downs.0.conv2.bias",
                                        "downs.0.bnorm1.weight",
                                        "downs.0.bnorm1.bias",
                                        "downs.0.bnorm1.running_mean",
                                        "downs.0.bnorm1.running_var",
                                        "downs.0.bnorm2.weight"};
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++)
        ck_assert_str_eq(lun_store_info(store, i)->name, first[i]);
    ck_assert_str_eq(lun_store_info(store, lun_store_count(store) - 1)->name, "output.bias");
    lun_graph_destroy(&graph);
    lun_store_destroy(&store);
}
END_TEST

/* Each tensor uniform in +-1 / sqrt(fan_in): never outside, and filling it. */
START_TEST(initial_values_are_pytorchs)
{
    const lun_model_config config = {
        .image_channels = 3, .levels = 3, .channels = {8, 16, 24}, .time_dim = 32, .steps = 300};
    lun_store *store = NULL;
    lun_graph *graph = NULL;
    MUST(lun_store_create(&store));
    MUST(lun_graph_create(store, &graph));
    lun_model_forward(graph, &config, lun_graph_input(graph, "x", lun_image(2, 3, 16, 16)),
                      lun_graph_input(graph, "t", lun_typed(lun_image(2, 1, 1, 1), LUN_I32)), LUN_NORM_EVAL);
    MUST(lun_graph_check(graph));
    MUST(lun_store_allocate(store, golden_device, 0));
    MUST(lun_store_init(store, 5));
    static const struct {
        const char *name;
        int fan_in;
    } wanted[] = {{"time_mlp.1.weight", 32},
                  {"conv0.weight", 27},
                  {"conv0.bias", 27},
                  {"downs.0.conv1.weight", 72},
                  {"downs.0.transform.weight", 256},
                  {"downs.1.time_mlp.bias", 32},
                  {"ups.0.conv1.weight", 432},
                  {"ups.0.transform.weight", 256},
                  {"ups.1.transform.weight", 128}, /* (in 8, out 8, 4, 4) */
                  {"ups.1.conv1.bias", 288},
                  {"output.weight", 8}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const int index = lun_store_find(store, wanted[i].name);
        ck_assert_int_ge(index, 0);
        const size_t count = (size_t)lun_count(lun_store_info(store, (size_t)index)->desc.shape);
        float *values = malloc(count * sizeof *values), most = 0;
        double sum = 0, square = 0;
        MUST(lun_store_read(store, (size_t)index, LUN_SLOT_VALUE, values));
        for (size_t k = 0; k < count; k++) {
            most = fmaxf(most, fabsf(values[k]));
            sum += values[k];
            square += (double)values[k] * values[k];
        }
        const double bound = 1 / sqrt(wanted[i].fan_in), deviation = sqrt(square / (double)count);
        ck_assert_msg(most <= bound * (1 + 1e-6) && most > bound * 0.6, "%s reaches %g of %g", wanted[i].name, most,
                      bound);
        if (count >= 200) {
            ck_assert_msg(fabs(deviation * sqrt(3) / bound - 1) < 0.12, "%s deviates by %g", wanted[i].name, deviation);
            ck_assert_msg(fabs(sum / (double)count) < bound * 0.2, "%s has mean %g", wanted[i].name,
                          sum / (double)count);
        }
        free(values);
    }
    float norm[8];
    MUST(lun_store_read(store, (size_t)lun_store_find(store, "ups.1.bnorm2.running_var"), LUN_SLOT_VALUE, norm));
    for (int k = 0; k < 8; k++)
        ck_assert_float_eq(norm[k], 1);
    MUST(lun_store_read(store, (size_t)lun_store_find(store, "ups.1.bnorm2.running_mean"), LUN_SLOT_VALUE, norm));
    for (int k = 0; k < 8; k++)
        ck_assert_float_eq(norm[k], 0);
    lun_graph_destroy(&graph);
    lun_store_destroy(&store);
}
END_TEST

START_TEST(wrong_configurations_are_refused)
{
    lun_model_config config = lun_model_config_notebook();
    MUST(lun_model_config_check(&config, 64, 48));
    ck_assert_int_eq(lun_model_config_check(&config, 64, 40), LUN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "divisible by 16"));
    ck_assert_int_eq(lun_model_config_check(&config, 0, 64), LUN_ERR_USAGE);
    config.levels = 1;
    ck_assert_int_eq(lun_model_config_check(&config, 64, 64), LUN_ERR_USAGE);
    config.levels = LUN_MODEL_MAX_LEVELS + 1;
    ck_assert_int_eq(lun_model_config_check(&config, 64, 64), LUN_ERR_USAGE);
    config = lun_model_config_notebook();
    config.time_dim = 31;
    ck_assert_int_eq(lun_model_config_check(&config, 64, 64), LUN_ERR_USAGE);
    config = lun_model_config_notebook();
    config.channels[3] = 0;
    lun_store *store = NULL;
    lun_graph *graph = NULL;
    MUST(lun_store_create(&store));
    MUST(lun_graph_create(store, &graph));
    const lun_value x = lun_graph_input(graph, "x", lun_image(2, 3, 64, 64));
    ck_assert_int_eq(lun_model_forward(graph, &config, x,
                                       lun_graph_input(graph, "t", lun_typed(lun_image(2, 1, 1, 1), LUN_I32)),
                                       LUN_NORM_EVAL),
                     -1);
    ck_assert_int_eq(lun_graph_check(graph), LUN_ERR_USAGE);
    lun_graph_destroy(&graph);
    lun_store_destroy(&store);
}
END_TEST

/* ---- Forward, loss, gradients, through lun_predict --------------------------------------------------------------- */

static const char *const networks[] = {"small", "deep"};

void compare_predict(const char *name, const char *model, lun_predict_norm norm, const char *mode, lun_loss_type loss,
                     const char *kind)
{
    char in[64], out[64], key[160];
    snprintf(in, sizeof in, "%s.in.safetensors", name);
    snprintf(out, sizeof out, "%s.out.safetensors", name);
    lun_predict_params params = predict_defaults;
    params.model = golden_path(model);
    params.in = golden_path(in);
    params.out = scratch_path("predicted.safetensors");
    params.norm = norm;
    params.grad = kind != NULL;
    params.loss = loss;
    MUST(lun_predict(golden_device, &params));
    lun_safetensors *want = golden_open(golden_path(out)), *got = golden_open(params.out);

    snprintf(key, sizeof key, "y.%s", mode);
    float *y = golden_floats(got, "y", 0);
    const size_t count = (size_t)lun_safetensors_info(got, (size_t)lun_safetensors_find(got, "y"))->count;
    float *y_want = golden_floats(want, key, count);
    const double forward = relative(y, y_want, count);
    printf("%s %s %s: forward %.2e", name, mode, kind ? kind : "-", forward);
    ck_assert_msg(!!(forward <= FORWARD_BOUND), "%s %s: forward differs by %g", name, mode, forward);
    free(y);
    free(y_want);

    size_t gradients = 0;
    double worst = 0;
    char worst_name[96] = "";
    if (kind) {
        snprintf(key, sizeof key, "loss.%s.%s", mode, kind);
        const double loss_want = golden_scalar(want, key), loss_got = golden_scalar(got, "loss");
        ck_assert_msg(!!(fabs(loss_got - loss_want) <= LOSS_BOUND * loss_want), "%s: loss %.9g, wanted %.9g", key,
                      loss_got, loss_want);
        for (size_t i = 0; i < lun_safetensors_count(want); i++) {
            const lun_safetensors_entry *entry = lun_safetensors_info(want, i);
            snprintf(key, sizeof key, "grad.%s.%s.", mode, kind);
            if (strncmp(entry->name, key, strlen(key)) != 0)
                continue;
            const char *param = entry->name + strlen(key);
            snprintf(key, sizeof key, "grad.%s", param);
            const int64_t index = lun_safetensors_find(got, key);
            ck_assert_msg(index >= 0, "no %s", key);
            const lun_safetensors_entry *mine = lun_safetensors_info(got, (size_t)index);
            ck_assert_int_eq(mine->rank, entry->rank);
            ck_assert_mem_eq(mine->dims, entry->dims, (size_t)entry->rank * sizeof entry->dims[0]);
            float *g = golden_floats(got, key, (size_t)entry->count),
                  *g_want = golden_floats(want, entry->name, (size_t)entry->count);
            double error = relative(g, g_want, (size_t)entry->count);
            /* Exactly zero is the gradient of k's bias: softmax does not see what all scores of a row share. What is
             * there is rounding, of numbers like those of q's. */
            const size_t stem = strlen(param) > 7 ? strlen(param) - 7 : 0;
            if (stem && strcmp(param + stem, ".k.bias") == 0) {
                snprintf(key, sizeof key, "grad.%s.%s.%.*s.q.bias", mode, kind, (int)stem, param);
                float *q = golden_floats(want, key, (size_t)entry->count);
                error /= relative(q, g_want, (size_t)entry->count);
                free(q);
            }
            if (!(error <= worst)) {
                worst = error;
                snprintf(worst_name, sizeof worst_name, "%s", param);
            }
            ck_assert_msg(!!(error <= GRADIENT_BOUND), "%s %s %s: %s differs by %g", name, mode, kind, key, error);
            free(g);
            free(g_want);
            gradients++;
        }
        printf(", %zu gradients, the worst %.2e (%s)", gradients, worst, worst_name);
    }
    printf("\n");
    /* Everything asked for is there and nothing else. */
    ck_assert_uint_eq(lun_safetensors_count(got), kind ? 2 + gradients : 1);
    ck_assert(!kind || gradients > 40);
    lun_safetensors_close(want);
    lun_safetensors_close(got);
}

START_TEST(forward_and_gradients_match)
{
    for (size_t i = 0; i < 2; i++) {
        char model[64];
        snprintf(model, sizeof model, "%s.model.safetensors", networks[i]);
        compare_predict(networks[i], model, LUN_PREDICT_NORM_DEFAULT, "eval", LUN_L2, NULL);
        compare_predict(networks[i], model, LUN_PREDICT_NORM_TRAIN, "train", LUN_L2, NULL);
        compare_predict(networks[i], model, LUN_PREDICT_NORM_DEFAULT, "train", LUN_L2, "l2");
        compare_predict(networks[i], model, LUN_PREDICT_NORM_EVAL, "eval", LUN_L2, "l2");
    }
    compare_predict("small", "small.model.safetensors", LUN_PREDICT_NORM_DEFAULT, "train", LUN_L1, "l1");
    compare_predict("small", "small.model.safetensors", LUN_PREDICT_NORM_DEFAULT, "train", LUN_HUBER, "huber");
}
END_TEST

START_TEST(other_names_load)
{
    compare_predict("small", "small.stream.safetensors", LUN_PREDICT_NORM_DEFAULT, "eval", LUN_L2, NULL);
}
END_TEST

/* ---- What is refused --------------------------------------------------------------------------------------------- */

static void write_in(const char *path, int64_t n, int64_t c, int64_t size, int64_t t_count, int64_t t, float value,
                     bool target)
{
    const int64_t dims[] = {n, c, size, size};
    const size_t count = (size_t)(n * c * size * size);
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = value;
    lun_safetensors_writer *writer = NULL;
    MUST(lun_safetensors_writer_create(path, &writer));
    MUST(lun_safetensors_writer_declare(writer, "t", LUN_ST_I64, 1, &t_count));
    MUST(lun_safetensors_writer_declare(writer, "x", LUN_ST_F32, 4, dims));
    if (target)
        MUST(lun_safetensors_writer_declare(writer, "target", LUN_ST_F32, 4, dims));
    for (int64_t i = 0; i < t_count; i++)
        MUST(lun_safetensors_writer_data(writer, &t, sizeof t));
    for (int i = 0; i < 1 + target; i++)
        MUST(lun_safetensors_writer_data(writer, x, count * sizeof *x));
    MUST(lun_safetensors_writer_commit(writer));
    free(x);
}

static void refused(const char *model, const char *in, int grad, lun_status status, const char *says)
{
    lun_predict_params params = predict_defaults;
    params.model = model;
    params.in = in;
    params.out = scratch_path("refused.safetensors");
    params.grad = grad;
    const lun_status got = lun_predict(golden_device, &params);
    ck_assert_msg(got == status && strstr(lun_error_detail(), says), "wanted %s with '%s', got %s: %s",
                  lun_status_name(status), says, lun_status_name(got), lun_error_detail());
    ck_assert_int_ne(access(params.out, F_OK), 0);
}

START_TEST(wrong_tensors_are_refused)
{
    const char *const model = "small.model.safetensors", *in = "bad.safetensors";
#define REFUSED(grad, says) refused(golden_path(model), scratch_path(in), grad, LUN_ERR_DATA, says)
    write_in(scratch_path(in), 2, 3, 8, 2, 300, 0, false);
    REFUSED(0, "is 300; this network's steps are 0 to 299");
    write_in(scratch_path(in), 2, 3, 8, 2, -1, 0, false);
    REFUSED(0, "is -1;");
    write_in(scratch_path(in), 2, 3, 8, 3, 1, 0, false);
    REFUSED(0, "3 time steps for 2 pictures");
    write_in(scratch_path(in), 2, 3, 8, 2, 1, 0, false);
    REFUSED(1, "has no tensor target");
    write_in(scratch_path(in), 2, 1, 8, 2, 1, 0, false);
    REFUSED(0, "x has 1 channels, this network takes 3");
    write_in(scratch_path(in), 2, 3, 6, 2, 1, 0, false);
    REFUSED(0, "divisible by 4");
    write_in(scratch_path(in), 2, 3, 8, 2, 1, NAN, false);
    REFUSED(0, "not finite");
    write_in(scratch_path(in), 1, 3, 4, 1, 1, 0, true);
    REFUSED(1, "more than one value a channel");
    refused(golden_path(model), golden_path("adam.safetensors"), 0, LUN_ERR_DATA, "it may hold x, t and target");
    refused(golden_path(model), golden_path("../golden.c"), 0, LUN_ERR_DATA, "golden.c");
    write_in(scratch_path(in), 2, 3, 8, 2, 1, 0, false);
    refused(golden_path("small.in.safetensors"), scratch_path(in), 0, LUN_ERR_CHECKPOINT,
            "no network that lunette knows");
    refused(golden_path("../golden.c"), scratch_path(in), 0, LUN_ERR_CHECKPOINT, "golden.c");
    refused(golden_path("none"), scratch_path(in), 0, LUN_ERR_USAGE, "none");
#undef REFUSED
}
END_TEST

/* ---- Training ---------------------------------------------------------------------------------------------------- */

START_TEST(statistics_update_in_training_only)
{
    lun_safetensors *in = golden_open(golden_path("small.in.safetensors")),
                    *want = golden_open(golden_path("small.out.safetensors"));
    const lun_shape shape = {3, 3, 16, 16};
    float *x = golden_floats(in, "x", (size_t)lun_count(shape));
    size_t steps = 0, count = 0;
    int64_t *t64 = golden_integers(in, "t", &steps);
    const int32_t t[3] = {(int32_t)t64[0], (int32_t)t64[1], (int32_t)t64[2]};
    for (int mode = LUN_NORM_EVAL; mode <= LUN_NORM_TRAIN; mode++) {
        network n = network_open(golden_path("small.model.safetensors"), shape, mode);
        network_ready(&n, golden_path("small.model.safetensors"), 0);
        float *before = store_values(n.store, LUN_ROLE_BUFFER, &count);
        MUST(lun_plan_write(n.plan, n.x, x));
        MUST(lun_plan_write(n.plan, n.t, t));
        MUST(lun_plan_run(n.plan));
        float *after = store_values(n.store, LUN_ROLE_BUFFER, &count);
        if (mode != LUN_NORM_TRAIN) {
            ck_assert_mem_eq(before, after, count * sizeof *before);
        } else {
            ck_assert(memcmp(before, after, count * sizeof *before) != 0);
            for (size_t i = 0; i < lun_store_count(n.store); i++) {
                const lun_param_info *info = lun_store_info(n.store, i);
                if (info->role != LUN_ROLE_BUFFER)
                    continue;
                char key[160];
                const size_t size = (size_t)lun_count(info->desc.shape);
                snprintf(key, sizeof key, "after.%s", info->name);
                float *wanted = golden_floats(want, key, size), *got = malloc(size * sizeof *got);
                MUST(lun_store_read(n.store, i, LUN_SLOT_VALUE, got));
                const double error = relative(got, wanted, size);
                ck_assert_msg(!!(error <= 1e-5), "%s differs by %g", info->name, error);
                free(wanted);
                free(got);
            }
        }
        free(before);
        free(after);
        network_close(&n);
    }
    free(x);
    free(t64);
    lun_safetensors_close(in);
    lun_safetensors_close(want);
}
END_TEST

START_TEST(ten_steps_of_adam)
{
    lun_safetensors *file = golden_open(golden_path("adam.safetensors"));
    const char *const model = golden_path("small.model.safetensors");
    const lun_shape shape = {4, 3, 8, 8};
    const size_t size = (size_t)lun_count(shape);
    size_t steps = 0;
    float *x0 = golden_floats(file, "x0", 10 * size), *noise = golden_floats(file, "noise", 10 * size),
          *table = malloc(600 * sizeof *table);
    int64_t *t = golden_integers(file, "t", &steps);
    ck_assert_uint_eq(steps, 40);
    double *losses = golden_doubles(file, "losses", 10);
    lun_schedule schedule;
    MUST(lun_schedule_linear(300, 1e-4, 0.02, &schedule));
    lun_schedule_noise_table(&schedule, table);
    lun_schedule_free(&schedule);

    /* The training step, with the randomness from outside. */
    network n = {0};
    MUST(lun_model_inspect(model, &n.info));
    MUST(lun_store_create(&n.store));
    MUST(lun_graph_create(n.store, &n.graph));
    const lun_desc picture = {LUN_F32, LUN_IMAGE, shape};
    n.x = lun_graph_input(n.graph, "x0", picture);
    n.target = lun_graph_input(n.graph, "noise", picture);
    n.t = lun_graph_input(n.graph, "t", lun_typed(lun_image(4, 1, 1, 1), LUN_I32));
    const lun_value hyper = lun_graph_input(n.graph, "hyper", lun_image(1, 4, 1, 1));
    const lun_value xt =
        lun_noise(n.graph, n.x, n.target, n.t, lun_graph_constant(n.graph, "table", lun_image(300, 2, 1, 1), table));
    n.y = lun_model_forward(n.graph, &n.info.config, xt, n.t, LUN_NORM_TRAIN);
    n.loss = lun_loss(n.graph, n.y, n.target, LUN_L1, 0);
    lun_graph_output(n.graph, n.loss);
    lun_graph_backward(n.graph, n.loss);
    const double beta1 = 0.9, beta2 = 0.999;
    lun_graph_adam(n.graph, hyper, beta1, beta2, 1e-8, 0, 0);
    network_ready(&n, model, 1);

    size_t count = 0, buffers = 0;
    float *start = store_values(n.store, LUN_ROLE_PARAM, &count);
    double worst = 0;
    for (int step = 0; step < 10; step++) {
        int32_t t32[4];
        for (int k = 0; k < 4; k++)
            t32[k] = (int32_t)t[4 * step + k];
        /* From the betas that the op has: 0.999f is 1e-8 above 0.999, which is 1e-5 of what 1 - beta2 corrects. */
        const float numbers[4] = {1e-3f, (float)(1 - pow(beta1, step + 1)), (float)sqrt(1 - pow(beta2, step + 1)), 0};
        float loss = NAN;
        MUST(lun_plan_write(n.plan, n.x, x0 + (size_t)step * size));
        MUST(lun_plan_write(n.plan, n.target, noise + (size_t)step * size));
        MUST(lun_plan_write(n.plan, n.t, t32));
        MUST(lun_plan_write(n.plan, hyper, numbers));
        MUST(lun_plan_run(n.plan));
        MUST(lun_plan_read(n.plan, n.loss, &loss));
        const double error = fabs(loss - losses[step]) / losses[step];
        worst = fmax(worst, error);
        ck_assert_msg(!!(error <= LOSS_BOUND), "step %d: loss %.9g, wanted %.9g", step, (double)loss, losses[step]);
    }
    /* What ten steps changed, and the running statistics. */
    float *end = store_values(n.store, LUN_ROLE_PARAM, &count), *wanted = malloc(count * sizeof *wanted);
    float *statistics = store_values(n.store, LUN_ROLE_BUFFER, &buffers),
          *statistics_wanted = malloc(buffers * sizeof *statistics_wanted);
    size_t at = 0, buffer_at = 0;
    for (size_t i = 0; i < lun_store_count(n.store); i++) {
        const lun_param_info *info = lun_store_info(n.store, i);
        const size_t elements = (size_t)lun_count(info->desc.shape);
        char key[160];
        snprintf(key, sizeof key, "final.%s", info->name);
        float *values = golden_floats(file, key, elements);
        float *to = info->role == LUN_ROLE_PARAM ? wanted + at : statistics_wanted + buffer_at;
        memcpy(to, values, elements * sizeof *values);
        *(info->role == LUN_ROLE_PARAM ? &at : &buffer_at) += elements;
        free(values);
    }
    for (size_t i = 0; i < count; i++) {
        end[i] -= start[i];
        wanted[i] -= start[i];
    }
    const double change = relative(end, wanted, count), statistic = relative(statistics, statistics_wanted, buffers);
    printf("ten steps: losses %.2e, weights' change %.2e, statistics %.2e\n", worst, change, statistic);
    /* Adam divides by its root mean square, so a gradient near zero passes its whole relative error on; a wrong term
     * shows as 1e-2. */
    ck_assert_msg(!!(change <= 1e-4), "the weights' change differs by %g", change);
    ck_assert_msg(!!(statistic <= 1e-5), "the running statistics differ by %g", statistic);
    free(start);
    free(end);
    free(wanted);
    free(statistics);
    free(statistics_wanted);
    free(x0);
    free(noise);
    free(table);
    free(t);
    free(losses);
    lun_safetensors_close(file);
    network_close(&n);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 4)
        return 2;
    golden_folder = argv[1];
    char scratch[] = "/tmp/lunette-model-XXXXXX";
    golden_scratch = argc == 4 ? argv[3] : mkdtemp(scratch);
    if (!golden_scratch)
        return 1;
    if (lun_device_open(argv[2], NULL, &golden_device) != LUN_OK) {
        printf("no device %s: %s\n", argv[2], lun_error_detail());
        return strcmp(argv[2], "cpu") == 0 ? 1 : 77;
    }
    Suite *suite = suite_create("model");
    TCase *group = tcase_create("model");
    tcase_set_timeout(group, 0);
    tcase_add_test(group, published_network_has_its_parameters);
    tcase_add_test(group, initial_values_are_pytorchs);
    tcase_add_test(group, wrong_configurations_are_refused);
    tcase_add_test(group, forward_and_gradients_match);
    tcase_add_test(group, other_names_load);
    tcase_add_test(group, wrong_tensors_are_refused);
    tcase_add_test(group, statistics_update_in_training_only);
    tcase_add_test(group, ten_steps_of_adam);
    add_file_tests(group);
    add_interop_tests(group);
    add_sampling_tests(group);
    add_unet_tests(group);
    add_winograd_tests(group);
    add_objective_tests(group);
    add_optimizer_tests(group);
    suite_add_tcase(suite, group);
    TCase *samplers = tcase_create("samplers");
    tcase_set_timeout(samplers, 0);
    add_sampler_tests(samplers);
    suite_add_tcase(suite, samplers);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    lun_device_close(&golden_device);
    if (argc == 3) {
        static const char *const written[] = {"predicted", "bad", "saved", "again", "variant", "refused"};
        for (size_t i = 0; i < sizeof written / sizeof written[0]; i++) {
            char name[32];
            snprintf(name, sizeof name, "%s.safetensors", written[i]);
            unlink(scratch_path(name));
        }
        rmdir(golden_scratch);
    }
    return failed ? 1 : 0;
}
