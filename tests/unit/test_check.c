/* The check device: two devices that agree, and one that is wrong. */
#include "device/check.h"
#include "device_ops.h"
#include "devices.h"

/* Every op by each candidate that B can use, against A's first choice; at least `least` of them. */
static void agree(lun_device *dev, int least)
{
    int tried = 0;
    for (int kind = 0; kind < LUN_OP_KIND_COUNT; kind++) {
        const lun_op op = small_op((lun_op_kind)kind);
        const char *first = lun_candidates(op.kind)[0].name;
        for (const lun_candidate *c = lun_candidates(op.kind); c->name; c++) {
            char *pair = lun_format("%s|%s", first, c->name);
            const lun_status status = run_candidate(dev, &op, pair);
            ck_assert_msg(status == LUN_OK || status == LUN_UNSUPPORTED, "%s", lun_error_detail());
            tried += status == LUN_OK;
            free(pair);
        }
    }
    ck_assert_int_ge(tried, least);
}

START_TEST(check_agrees)
{
    if (!has("opencl") || !has("cpu"))
        return;
    lun_device *dev = open_device("check");
    agree(dev, LUN_OP_KIND_COUNT);
    lun_device_close(&dev);
}
END_TEST

/* What a GPU does (one element an item, work-groups), on whatever OpenCL device there is. */
START_TEST(gpu_paths_agree)
{
    if (!has("opencl") || !has("cpu"))
        return;
    lun_device *dev = open_device("check");
    lun_caps *caps = &lun_check_side(dev, 1)->caps;
    caps->gpu = true;
    if (caps->lanes > 4)
        caps->lanes = 4;
    tiled = 0;
    agree(dev, LUN_OP_KIND_COUNT);
    if (caps->groups)
        ck_assert_int_ge(tiled, 3);
    lun_device_close(&dev);
}
END_TEST

/* The text `from` of elementwise.cl replaced by `to`: does the check device see it in `kind`? */
static void sees(const char *from, const char *to, lun_op_kind kind)
{
    const lun_op op = small_op(kind), other = small_op(LUN_OP_CONCAT);
    char *folder = changed_kernels(from, to);
    lun_buffer *buffer = NULL;
    setenv("LUNETTE_KERNELS", folder, 1);
    lun_device *dev = open_device("check:cpu,opencl:0");
    OK(run_once(dev, &other)); /* an op that was not touched */
    ck_assert_msg(run_once(dev, &op) == LUN_ERR_DEVICE, "%s: not seen", to);
    DETAIL_HAS(lun_op_info_of(kind)->name);
    DETAIL_HAS("opencl:0 (plain)");
    DETAIL_HAS("cpu (plain)");
    char *first = lun_strdup(lun_error_detail());
    lun_fail(LUN_ERR_USAGE, "something else");
    FAILS(LUN_ERR_DEVICE, lun_device_finish(dev)); /* the first error stays */
    ck_assert_str_eq(lun_error_detail(), first);
    FAILS(LUN_ERR_DEVICE, lun_buffer_create(dev, 4, &buffer));
    ck_assert_str_eq(lun_error_detail(), first);
    lun_device_close(&dev);
    unsetenv("LUNETTE_KERNELS");
    free(first);
    free(folder);
}

START_TEST(check_sees_wrong_kernels)
{
    if (!has("opencl") || !has("cpu"))
        return;
    sees("dst[i] = a[i] + b[i];", "dst[i] = a[i] + b[i] + 1e-4f;", LUN_OP_ADD);
    sees("dst[i] = a[i] + b[i];", "dst[i] = i == 17 ? 0.0f / 0.0f * a[i] : a[i] + b[i];", LUN_OP_ADD);
    sees("dst[i] = a[i] + b[i];", "if (i < arg.count - 1) dst[i] = a[i] + b[i];", LUN_OP_ADD);
    sees("0.0f : src[i];", "0.0f : src[i] * 1.0000002f;", LUN_OP_RELU);
}
END_TEST

START_TEST(check_wants_both)
{
    if (!has("opencl") || !has("cpu"))
        return;
    const lun_op op = small_op(LUN_OP_RELU);
    lun_op_plan *plan = NULL;
    lun_device *dev = open_device("check:cpu,opencl");
    OK(lun_op_plan_create(dev, &op, NULL, &plan));
    ck_assert_str_eq(plan->candidate, "plain|plain");
    lun_op_plan *pinned = NULL;
    OK(lun_op_plan_create(dev, &op, plan->candidate, &pinned)); /* its own name for a candidate */
    lun_op_plan_destroy(&plan);
    lun_op_plan_destroy(&pinned);
    lun_device_close(&dev);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("check");
    TCase *tests = devices_case(suite, "check");
    tcase_add_test(tests, check_agrees);
    tcase_add_test(tests, gpu_paths_agree);
    tcase_add_test(tests, check_sees_wrong_kernels);
    tcase_add_test(tests, check_wants_both);
    return devices_run(suite);
}
