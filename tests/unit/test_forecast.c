/* Presets, and what is told of a run before it is begun: memory is the run's to the byte, and time is of its order. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lunette/lunette.h>

#include "base/base.h"
#include "base/memory.h"
#include "device/shadow.h"
#include "scratch.h"
#include "train/holdout.h"

#define OK(expr)           ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())
#define NOT_OK(expr, want) ck_assert_msg((expr) == (want), "%s: %s", #expr, lun_error_detail())

static lun_train_config preset(const char *name)
{
    lun_train_config c;
    OK(lun_train_preset(name, &c));
    return c;
}

/* ---- Presets ---- */

START_TEST(presets_have_their_parameters)
{
    static const struct {
        const char *name;
        uint64_t parameters;
        int size, batch;
        double lr;
        float dropout;
    } wanted[] = {{"notebook", 62438883, 64, 16, 1e-3, 0},   {"ddpm-cifar10", 35746307, 32, 128, 2e-4, 0.1f},
                  {"ddpm-256", 113673219, 256, 64, 2e-5, 0}, {"adm-64", 295904454, 64, 2048, 3e-4, 0.1f},
                  {"small", 22080323, 64, 32, 1e-4, 0},      {"tiny", 2855811, 32, 32, 1e-3, 0}};
    ck_assert_uint_eq(lun_preset_count(), LUN_COUNT(wanted));
    for (size_t i = 0; i < LUN_COUNT(wanted); i++) {
        const lun_train_config c = preset(wanted[i].name);
        ck_assert_msg(lun_model_parameters(&c.model, NULL) == wanted[i].parameters, "%s has %llu parameters",
                      wanted[i].name, (unsigned long long)lun_model_parameters(&c.model, NULL));
        ck_assert_int_eq(c.width, wanted[i].size);
        ck_assert_int_eq(c.height, wanted[i].size);
        ck_assert_int_eq(c.batch, wanted[i].batch);
        ck_assert(c.lr == wanted[i].lr && c.model.dropout == wanted[i].dropout);
        OK(lun_train_config_check(&c));
    }
    for (size_t i = 0; i < lun_preset_count(); i++) {
        lun_preset at, named;
        lun_preset_at(i, &at);
        OK(lun_preset_named(at.name, &named));
        ck_assert_str_eq(at.about, named.about);
        ck_assert((at.steps == 0) != (at.epochs == 0));
    }
    lun_preset p;
    NOT_OK(lun_preset_named("adm-65", &p), LUN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "tiny, small, notebook"));
    NOT_OK(lun_preset_named(NULL, &p), LUN_ERR_USAGE);
}
END_TEST

/* ---- Memory ---- */

static uint64_t sum(const lun_memory_need *n)
{
    return n->weights + n->gradients + n->moments + n->averages + n->activations + n->inputs + n->workspace +
           n->holdout + n->samples;
}

/* What a trainer really takes, by class, beside what was told of it. */
static void is_as_told(const char *spec, lun_train_config c)
{
    lun_device *dev = NULL;
    lun_trainer *trainer = NULL;
    lun_forecast told;
    if (lun_device_open(spec, NULL, &dev) != LUN_OK) {
        printf("no device %s here\n", spec);
        return;
    }
    OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.only_memory = 1}, &told));
    ck_assert(told.need_exact);
    ck_assert_uint_eq(told.need.samples, 0);
    ck_assert_uint_eq(told.need.device, sum(&told.need));
    size_t now = 1;
    lun_device_memory(dev, &now, NULL);
    ck_assert_uint_eq(now, 0);
    OK(lun_trainer_create(dev, &c, (size_t)c.batch, NULL, &trainer));
    const lun_store *store = lun_trainer_store(trainer);
    lun_plan_info info = lun_plan_get_info(lun_trainer_plan(trainer));
    if (lun_trainer_update_plan(trainer)) {
        const lun_plan_info update = lun_plan_get_info(lun_trainer_update_plan(trainer));
        info.activation_bytes += update.activation_bytes;
        info.fixed_bytes += update.fixed_bytes;
        info.workspace_bytes += update.workspace_bytes;
    }
    ck_assert_uint_eq(told.need.weights,
                      lun_store_bytes(store, LUN_SLOT_VALUE) + lun_store_bytes(store, LUN_SLOT_SAFE));
    ck_assert_uint_eq(told.need.gradients,
                      lun_store_bytes(store, LUN_SLOT_GRAD) + lun_store_bytes(store, LUN_SLOT_SUM));
    ck_assert_uint_eq(told.need.moments, lun_store_bytes(store, LUN_SLOT_M) + lun_store_bytes(store, LUN_SLOT_V));
    ck_assert_uint_eq(told.need.averages, c.ema_count ? lun_store_bytes(store, LUN_SLOT_EMA) : 0);
    ck_assert_uint_eq(told.need.activations, info.activation_bytes);
    ck_assert_uint_eq(told.need.inputs, info.fixed_bytes);
    ck_assert_uint_eq(told.need.workspace, info.workspace_bytes);
    lun_device_memory(dev, &now, NULL);
    ck_assert_uint_eq(told.need.device, now);
    lun_trainer_destroy(&trainer);
    lun_device_close(&dev);
}

static lun_train_config narrow(const char *name)
{
    lun_train_config c = preset(name);
    const int unit = c.model.network == LUN_NOTEBOOK ? 8 : 32;
    for (int i = 0; i < c.model.levels; i++)
        c.model.channels[i] = unit * (i + 1);
    if (c.model.network != LUN_NOTEBOOK)
        c.model.time_dim = unit;
    if (c.model.head_width)
        c.model.head_width = 32;
    if (c.model.classes)
        c.model.classes = 10;
    c.width = c.height = 2 << c.model.levels;
    c.batch = 3;
    return c;
}

START_TEST(memory_is_the_trainers)
{
    for (size_t i = 0; i < lun_preset_count(); i++) {
        lun_preset p;
        lun_preset_at(i, &p);
        is_as_told("cpu", narrow(p.name));
        is_as_told("opencl", narrow(p.name));
    }
    is_as_told("cpu", preset("tiny"));
    lun_train_config parts = narrow("small");
    parts.batch = 6;
    parts.accumulate = 3;
    is_as_told("cpu", parts);
    is_as_told("opencl", parts);
}
END_TEST

/* Beside the trainer, what measures the loss of pictures that are held out. */
START_TEST(held_out_pictures_are_told)
{
    lun_device *dev = NULL;
    lun_trainer *trainer = NULL;
    lun_holdout *holdout = NULL;
    lun_forecast told;
    lun_train_config c = narrow("small");
    c.batch = 4;
    c.accumulate = 2;
    c.ema_count = 1;
    c.ema_rate[0] = 0.99;
    const uint32_t pictures[3] = {0, 1, 2};
    size_t before = 0, after = 0;
    OK(lun_device_open("cpu", NULL, &dev));
    OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.only_memory = 1, .held = 3}, &told));
    ck_assert_uint_eq(told.need.device, sum(&told.need));
    OK(lun_trainer_create(dev, &c, 4, NULL, &trainer));
    lun_device_memory(dev, &before, NULL);
    ck_assert_uint_eq(told.need.device - told.need.holdout, before);
    OK(lun_holdout_create(dev, lun_trainer_store(trainer), &c, NULL, pictures, 3, NULL, &holdout));
    lun_device_memory(dev, &after, NULL);
    ck_assert_uint_gt(after, before);
    ck_assert_uint_eq(told.need.device, after);
    lun_holdout_destroy(&holdout);
    lun_trainer_destroy(&trainer);
    lun_device_close(&dev);
}
END_TEST

START_TEST(strips_are_told)
{
    lun_device *dev = NULL;
    lun_forecast without, with;
    const lun_train_config c = narrow("small");
    OK(lun_device_open("null", NULL, &dev));
    OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.only_memory = 1}, &without));
    OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.only_memory = 1, .strips = 1}, &with));
    ck_assert_uint_gt(with.need.samples, 0);
    ck_assert_uint_eq(with.need.device, without.need.device + with.need.samples);
    ck_assert_int_eq(with.largest_batch, -1);
    ck_assert(isnan(with.step_s));
    lun_device_close(&dev);
}
END_TEST

/* The whole published networks, whose step needs many times the memory of this process. */
START_TEST(large_networks_take_little_memory_to_plan)
{
    lun_device *dev = NULL;
    struct rusage before, after;
    OK(lun_device_open("null", NULL, &dev));
    getrusage(RUSAGE_SELF, &before);
    static const char *const names[] = {"adm-64", "ddpm-256"};
    for (size_t i = 0; i < LUN_COUNT(names); i++) {
        lun_train_config c = preset(names[i]);
        lun_forecast f;
        c.batch = 8;
        OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.only_memory = 1}, &f));
        ck_assert(f.need_exact);
        ck_assert_uint_eq(f.need.device, sum(&f.need));
        ck_assert_uint_ge(f.need.weights, 4 * f.parameters);
        ck_assert_uint_eq(f.need.moments, 2 * f.need.gradients);
        ck_assert_uint_eq(f.need.averages, f.need.gradients);
    }
    getrusage(RUSAGE_SELF, &after);
    ck_assert_int_lt(after.ru_maxrss - before.ru_maxrss, 128 << 10);
    lun_device_close(&dev);
}
END_TEST

/* On a device with a known memory, the largest batch fits and one more does not. */
START_TEST(the_largest_batch_is_the_largest)
{
    lun_device *dev = NULL, *small = NULL;
    lun_forecast f, one_more;
    lun_train_config c = narrow("small");
    OK(lun_device_open("null", NULL, &dev));
    OK(lun_device_shadow(dev, false, &small));
    small->info.memory_bytes = (uint64_t)200 << 20;
    small->info.type = LUN_DEVICE_GPU;
    OK(lun_forecast_run(small, &c, &(lun_forecast_params){.strips = 1}, &f));
    ck_assert_int_gt(f.largest_batch, 1);
    ck_assert_int_lt(f.largest_batch, 4096);
    ck_assert(f.fits);
    const uint64_t most = small->info.memory_bytes - small->info.memory_bytes / 16;
    c.batch = f.largest_batch;
    OK(lun_forecast_run(small, &c, &(lun_forecast_params){.strips = 1, .only_memory = 1}, &one_more));
    ck_assert(one_more.fits && one_more.need.device <= most);
    c.batch++;
    OK(lun_forecast_run(small, &c, &(lun_forecast_params){.strips = 1, .only_memory = 1}, &one_more));
    ck_assert(!one_more.fits && one_more.need.device > most && one_more.reason[0] == 0);
    /* A limit of one buffer refuses what would fit otherwise, with the reason. */
    small->info.memory_bytes = (uint64_t)1 << 40;
    small->info.max_alloc_bytes = small->caps.max_alloc = 8 << 20;
    c.batch = 64;
    OK(lun_forecast_run(small, &c, &(lun_forecast_params){.strips = 1}, &f));
    ck_assert(!f.fits && f.need_exact);
    ck_assert_ptr_nonnull(strstr(f.reason, "one buffer of this device holds"));
    ck_assert_int_gt(f.largest_batch, 0);
    ck_assert_int_lt(f.largest_batch, 64);
    /* Not even one picture. */
    small->info.memory_bytes = 1 << 20;
    OK(lun_forecast_run(small, &c, &(lun_forecast_params){.strips = 1}, &f));
    ck_assert_int_eq(f.largest_batch, 0);
    lun_device_close(&small);
    lun_device_close(&dev);
}
END_TEST

/* A batch that no graph can hold is carried on from small ones. */
START_TEST(beyond_a_tensor)
{
    lun_device *dev = NULL;
    lun_forecast f;
    lun_train_config c = preset("ddpm-256");
    c.batch = 4096;
    OK(lun_device_open("null", NULL, &dev));
    OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.only_memory = 1}, &f));
    ck_assert(!f.need_exact && !f.fits && f.reason[0]);
    ck_assert_uint_gt(f.need.activations, (uint64_t)1 << 40);
    lun_device_close(&dev);
}
END_TEST

/* ---- Time ---- */

START_TEST(time_is_told)
{
    lun_device *dev = NULL;
    lun_forecast f;
    lun_train_config c = narrow("tiny");
    c.width = c.height = 32;
    OK(lun_device_open("cpu", &(lun_device_params){.threads = 1}, &dev));
    OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.seconds = 5}, &f));
    ck_assert(f.step_s > 0 && f.step_s < 60);
    ck_assert(f.timed_share > 0.9 && f.timed_share <= 1);
    ck_assert_int_eq(f.timed_batch, c.batch);
    ck_assert_uint_gt(f.ops, 50);
    ck_assert(f.flops_per_image > 0 && f.flops_per_step > 2 * f.flops_per_image);
    size_t now = 1;
    lun_device_memory(dev, &now, NULL);
    ck_assert_uint_eq(now, 0);
    lun_device_close(&dev);
}
END_TEST

/* Each part costs what a batch of its size does, but for the update. The bounds leave room for a restless machine: a
 * part counted once, or the update in each, is told apart by the FLOPs. */
START_TEST(time_of_parts_is_told)
{
    lun_device *dev = NULL;
    lun_forecast one, parts;
    lun_train_config c = narrow("tiny");
    c.width = c.height = 32;
    OK(lun_device_open("cpu", &(lun_device_params){.threads = 1}, &dev));
    OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.seconds = 2}, &one));
    c.batch *= 4;
    c.accumulate = 4;
    OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.seconds = 2}, &parts));
    ck_assert_int_ge(parts.timed_batch, 1);
    ck_assert_int_le(parts.timed_batch, 3);
    ck_assert(parts.timed_share > 0.9 && parts.timed_share <= 1);
    ck_assert(parts.step_s > 1.3 * one.step_s && parts.step_s < 12 * one.step_s);
    ck_assert(fabs(parts.flops_per_image / one.flops_per_image - 1) < 1e-6);
    const double pictures = 4 * 3 * one.flops_per_image, rest = one.flops_per_step - 3 * one.flops_per_image;
    ck_assert(parts.flops_per_step > pictures && parts.flops_per_step < pictures + 8 * rest);
    ck_assert_int_ge(parts.largest_batch, 12);
    lun_device_close(&dev);
}
END_TEST

START_TEST(what_cannot_be_told)
{
    lun_device *dev = NULL;
    lun_forecast f = {.ops = 7};
    lun_train_config c = narrow("tiny");
    if (lun_device_open("check:cpu,cpu", NULL, &dev) == LUN_OK) {
        NOT_OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.only_memory = 1}, &f), LUN_ERR_USAGE);
        lun_device_close(&dev);
    }
    OK(lun_device_open("null", NULL, &dev));
    c.batch = 0;
    NOT_OK(lun_forecast_run(dev, &c, &(lun_forecast_params){.only_memory = 1}, &f), LUN_ERR_USAGE);
    ck_assert_uint_eq(f.ops, 7);
    lun_device_close(&dev);
}
END_TEST

/* ---- What the system has left ---- */

static void put(const char *path, const char *text)
{
    FILE *file = fopen(scratch(path), "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static void folder(const char *path)
{
    mkdir(scratch(path), 0755);
}

static uint64_t left(void)
{
    char proc[1200], groups[1200];
    snprintf(proc, sizeof proc, "%s", scratch("proc"));
    snprintf(groups, sizeof groups, "%s", scratch("groups"));
    return lun_memory_available_in(proc, groups);
}

START_TEST(control_groups_count)
{
    scratch_make();
    folder("proc");
    ck_assert_uint_eq(left(), 0);
    folder("proc/self");
    folder("groups");
    put("proc/meminfo", "MemTotal: 9999 kB\nMemAvailable:    1000 kB\n");
    ck_assert_uint_eq(left(), 1024000);
    /* The second generation: a group without a limit in one with. */
    put("proc/self/cgroup", "0::/a/b\n");
    folder("groups/a");
    folder("groups/a/b");
    put("groups/a/memory.max", "500000\n");
    put("groups/a/memory.current", "300000\n");
    put("groups/a/memory.stat", "anon 5\ninactive_file 100000\n");
    put("groups/a/b/memory.max", "max\n");
    put("groups/a/b/memory.current", "1\n");
    ck_assert_uint_eq(left(), 300000);
    put("groups/a/memory.current", "700000\n");
    ck_assert_uint_eq(left(), 0);
    /* The first, in a container that sees only its root. */
    put("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/host/path\n");
    folder("groups/memory");
    put("groups/memory/memory.limit_in_bytes", "800000\n");
    put("groups/memory/memory.usage_in_bytes", "50000\n");
    ck_assert_uint_eq(left(), 750000);
    scratch_remove();
    ck_assert_uint_gt(lun_memory_available(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("forecast");
    TCase *tests = tcase_create("forecast");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, presets_have_their_parameters);
    tcase_add_test(tests, memory_is_the_trainers);
    tcase_add_test(tests, strips_are_told);
    tcase_add_test(tests, large_networks_take_little_memory_to_plan);
    tcase_add_test(tests, the_largest_batch_is_the_largest);
    tcase_add_test(tests, beyond_a_tensor);
    tcase_add_test(tests, held_out_pictures_are_told);
    tcase_add_test(tests, time_is_told);
    tcase_add_test(tests, time_of_parts_is_told);
    tcase_add_test(tests, what_cannot_be_told);
    tcase_add_test(tests, control_groups_count);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
