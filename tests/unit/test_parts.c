/* No launch on a GPU takes long: every one of a training step of every preset, at its own batch, on a slow card. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/lunette.h>

#include "attention.h"
#include "base/base.h"
#include "conv2d.h"
#include "device/shadow.h"

#define OK(expr) ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())

extern const lun_driver lun_driver_null;

/* What was seen of the launches of all plans that were made. */
static struct {
    double whole, part;  /* predicted seconds of the longest, whole and as it is enqueued */
    double whole_flops;  /* of tiles, counted from the kernels' own arguments: the most of one launch, */
    double part_flops;   /* of one part, */
    double group_flops;  /* and of one work-group */
    int launches, parts; /* how many */
    int64_t adam;        /* items of a part of Adam's, at most */
    int64_t fewest;      /* items of a part that is one of several, of kernels with work-groups */
    char longest[200];
} seen;

/* What one work-group of these kernels multiplies: 64 x 64 sums over a depth, 32 rows by all pixels. 0: another kernel.
 */
static double flops_of_group(const lun_launch *l)
{
    if (l->file && strcmp(l->kernel, "conv2d_tile") == 0) {
        struct conv2d_gather_args a;
        memcpy(&a, l->args, sizeof a);
        return 2.0 * 64 * 64 * a.taps_h * a.taps_w * a.src_c;
    }
    if (l->file && strcmp(l->kernel, "conv2d_wgrad_tile") == 0) {
        struct conv2d_wgrad_args a;
        memcpy(&a, l->args, sizeof a);
        return 2.0 * 64 * 64 * a.rows_per_chunk;
    }
    if (l->file && strncmp(l->kernel, "attention_", 10) == 0 && l->group > 0) {
        struct attention_args a;
        memcpy(&a, l->args, sizeof a);
        /* scores and their sum over v; backward the scores again, those of the gradient, and one sum or two */
        const double products = strcmp(l->kernel, "attention_tile") == 0      ? 2
                                : strcmp(l->kernel, "attention_dq_tile") == 0 ? 3
                                                                              : 4;
        return 2.0 * products * 32 * a.pixels * a.width;
    }
    return 0;
}

static void keep_most(double *most, double value)
{
    if (value > *most)
        *most = value;
}

static void look_at(const lun_op *op, const lun_lowering *lowering, const lun_caps *caps)
{
    for (int i = 0; i < lowering->count; i++) {
        const lun_launch *l = &lowering->launch[i];
        const int64_t group = l->group > 0 ? l->group : l->file ? 64 : 256;
        const int64_t all = lun_ceil_div(l->file ? l->items : l->gemm.m, group) * group;
        const int64_t some = lun_launch_items(op, lowering, i, caps, group);
        ck_assert_msg(some > 0 && some <= all && some % group == 0, "%lld of %lld items", (long long)some,
                      (long long)all);
        const double seconds = lun_launch_seconds(op, lowering, i, caps), part = seconds * (double)some / (double)all;
        const double flops = flops_of_group(l);
        keep_most(&seen.whole, seconds);
        if (part > seen.part) {
            char what[160];
            lun_op_describe(op, what, sizeof what);
            snprintf(seen.longest, sizeof seen.longest, "%s (%s)", what, l->kernel);
        }
        keep_most(&seen.part, part);
        keep_most(&seen.whole_flops, flops * (double)(all / group));
        keep_most(&seen.part_flops, flops * (double)(some / group));
        keep_most(&seen.group_flops, flops);
        if (l->file && strncmp(l->kernel, "adam", 4) == 0)
            seen.adam = lun_max_i64(seen.adam, some);
        if (l->group > 0 && some < all && (seen.fewest == 0 || some < seen.fewest))
            seen.fewest = some;
        seen.launches++;
        seen.parts += (int)lun_ceil_div(all, some);
    }
}

static lun_status ready(lun_device *dev, const lun_lowering *lowering, void *payload)
{
    (void)dev, (void)lowering, (void)payload;
    return LUN_OK;
}

static lun_status plan(lun_device *dev, const lun_op *op, const char *candidate, lun_op_plan **out)
{
    static lun_lowering lowering;
    const char *name;
    LUN_TRY(lun_choose_candidate(dev, op, candidate, ready, NULL, &lowering, &name));
    look_at(op, &lowering, &dev->caps);
    return lun_driver_null.plan(dev, op, candidate, out);
}

/* A GPU that plans, computes nothing and has any amount of memory; *driver is to live as long. */
static lun_device *gpu(int units, double launch_s, lun_driver *driver)
{
    lun_device *null = NULL, *dev = NULL;
    OK(lun_device_open("null", NULL, &null));
    OK(lun_device_shadow(null, true, &dev));
    lun_device_close(&null);
    dev->info.type = LUN_DEVICE_GPU;
    dev->caps = (lun_caps){.gpu = true,
                           .groups = true,
                           .lanes = 1,
                           .units = units,
                           .max_group = 256,
                           .local_bytes = (size_t)32 << 10,
                           .launch_s = launch_s};
    *driver = *dev->driver;
    driver->plan = plan;
    dev->driver = driver;
    memset(&seen, 0, sizeof seen);
    return dev;
}

/* Plan a preset's step, at its batch or, where no tensor can be so large, the largest power of two. -> the batch */
static int plan_preset(const char *name, lun_device *dev)
{
    lun_train_config c;
    OK(lun_train_preset(name, &c));
    c.decay = LUN_DECAY_CONSTANT; /* a run knows where it ends */
    for (;; c.batch /= 2) {
        lun_trainer *trainer = NULL;
        memset(&seen, 0, sizeof seen);
        const lun_status status = lun_trainer_create(dev, &c, (size_t)c.batch, NULL, &trainer);
        lun_trainer_destroy(&trainer);
        if (status == LUN_OK)
            return c.batch;
        ck_assert_msg(status == LUN_ERR_USAGE && c.batch > 1, "%s", lun_error_detail());
    }
}

/* The slowest: 24 small units, 120 GFLOP/s. No part may take a quarter of a second there, where Windows allows two and
 * Linux 0.64 at least, and but for those whose work-groups would not fill the card each stays below a tenth. Counted
 * from the kernels' arguments, without the prediction, that is 12 GFLOP, and a third more for tiles that are not full.
 */
START_TEST(no_launch_takes_long)
{
    double whole = 0;
    for (size_t i = 0; i < lun_preset_count(); i++) {
        lun_preset p;
        lun_driver driver;
        lun_preset_at(i, &p);
        lun_device *dev = gpu(24, 0.1, &driver);
        const int batch = plan_preset(p.name, dev);
        printf("%s, batch %d: %d launches, %d parts; the longest %.3f s whole, %.3f s in parts, %.1f GFLOP of tiles, "
               "%.2f in parts, %.3f a group: %s\n",
               p.name, batch, seen.launches, seen.parts, seen.whole, seen.part, seen.whole_flops * 1e-9,
               seen.part_flops * 1e-9, seen.group_flops * 1e-9, seen.longest);
        ck_assert_int_gt(seen.launches, 100);
        ck_assert_double_gt(seen.group_flops, 0);
        ck_assert_double_lt(seen.part, 0.25);
        ck_assert_double_lt(seen.part_flops, 30e9);
        ck_assert_int_gt(seen.adam, 0);
        ck_assert_int_lt(seen.adam, 40000000); /* of 28 bytes at 10 GB/s */
        keep_most(&whole, seen.whole);
        lun_device_close(&dev);
    }
    ck_assert_double_gt(whole, 2); /* it is not for nothing */
}
END_TEST

/* Where nobody asks for it, nothing is cut. */
START_TEST(without_a_bound_launches_are_whole)
{
    lun_driver driver;
    lun_device *dev = gpu(24, 0, &driver);
    ck_assert_int_eq(plan_preset("ddpm-256", dev), 64);
    ck_assert_int_eq(seen.parts, seen.launches);
    ck_assert(seen.part == seen.whole);
    lun_device_close(&dev);
}
END_TEST

/* More units, fewer parts; and never so few items in one that units have nothing to do. */
START_TEST(large_cards_get_large_parts)
{
    int parts[2];
    for (int i = 0; i < 2; i++) {
        lun_driver driver;
        lun_device *dev = gpu(i == 0 ? 24 : 128, 0.1, &driver);
        (void)plan_preset("ddpm-256", dev);
        parts[i] = seen.parts;
        ck_assert_int_gt(seen.parts, seen.launches);
        ck_assert_int_ge(seen.fewest, 512 * (i == 0 ? 24 : 128));
        lun_device_close(&dev);
    }
    ck_assert_int_lt(parts[1], parts[0]);
    lun_driver driver;
    lun_device *dev = gpu(24, 0.0001, &driver);
    (void)plan_preset("ddpm-256", dev);
    ck_assert_int_eq(seen.fewest, 512 * 24);
    lun_device_close(&dev);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("parts");
    TCase *tests = tcase_create("parts");
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, no_launch_takes_long);
    tcase_add_test(tests, without_a_bound_launches_are_whole);
    tcase_add_test(tests, large_cards_get_large_parts);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
