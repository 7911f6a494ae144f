/* The front door and the drivers as such; what ops compute is opcheck's to say. Parts that need an OpenCL device say
 * so on stderr and pass where there is none. LUN_TEST_SOURCE is this folder. */
#include "base/philox.h"
#include "device/null.h"
#include "device_ops.h"
#include "devices.h"

/* ---- specifications ---- */

START_TEST(specifications)
{
    static const char *const wrong[] = {"",
                                        "gpu",
                                        "cpu:0",
                                        "opencl:",
                                        "opencl:x",
                                        "opencl:-1",
                                        "opencl:1x",
                                        "opencl:12345",
                                        "null:1",
                                        "check:",
                                        "check:cpu",
                                        "check:cpu,",
                                        "check:,cpu",
                                        "check:cpu,null",
                                        "check:check,cpu",
                                        "check:cpu,cpu,cpu",
                                        "auto:1",
                                        "opencl 0",
                                        "CPU",
                                        "a specification that is far too long"};
    lun_device *dev = NULL;
    for (size_t i = 0; i < LUN_COUNT(wrong); i++) {
        ck_assert_msg(lun_device_open(wrong[i], NULL, &dev) == LUN_ERR_USAGE, "\"%s\" is accepted", wrong[i]);
        DETAIL_HAS("valid are auto, cpu, opencl, opencl:I, check, check:A,B, null");
        ck_assert_ptr_null(dev);
    }
    FAILS(LUN_ERR_USAGE, lun_device_open(NULL, NULL, &dev));
    FAILS(LUN_ERR_USAGE, lun_device_open("null", NULL, NULL));
    FAILS(LUN_ERR_USAGE, lun_device_open("null", &(lun_device_params){.threads = -1}, &dev));
    FAILS(LUN_ERR_DEVICE, lun_device_open("opencl:99", NULL, &dev));
    FAILS(LUN_ERR_DEVICE, lun_device_open("check:cpu,opencl:99", NULL, &dev));
    ck_assert_ptr_null(dev);
    dev = open_device("null");
    ck_assert_str_eq(lun_device_get_info(dev)->spec, "null");
    lun_device_close(&dev);
    ck_assert_ptr_null(dev);
    lun_device_close(&dev);
    lun_device_close(NULL);
}
END_TEST

START_TEST(listed_devices_open)
{
    if (!has("opencl"))
        return;
    lun_device *dev = open_device("opencl:0"), *again = open_device("opencl");
    ck_assert_str_eq(lun_device_get_info(dev)->spec, "opencl:0");
    ck_assert_str_eq(lun_device_get_info(again)->spec, "opencl:0");
    ck_assert_int_ge(lun_device_get_info(dev)->units, 1);
    ck_assert(lun_device_get_info(dev)->max_alloc_bytes > 0);
    lun_device_close(&dev);
    lun_device_close(&again);
}
END_TEST

START_TEST(decline_list)
{
    const lun_op relu = small_op(LUN_OP_RELU), add = small_op(LUN_OP_ADD);
    lun_op_plan *plan = NULL;
    lun_device *dev = open_device("null");
    setenv("LUNETTE_DECLINE", "conv2d,relu", 1);
    FAILS(LUN_UNSUPPORTED, lun_op_plan_create(dev, &relu, NULL, &plan));
    DETAIL_HAS("LUNETTE_DECLINE");
    ck_assert_ptr_null(plan);
    OK(lun_op_plan_create(dev, &add, NULL, &plan));
    lun_op_plan_destroy(&plan);
    lun_device_close(&dev);
    if (has("cpu")) {
        dev = open_device("cpu");
        OK(lun_op_plan_create(dev, &relu, NULL, &plan));
        lun_op_plan_destroy(&plan);
        lun_device_close(&dev);
    }
    setenv("LUNETTE_DECLINE", "relu,rel", 1);
    FAILS(LUN_ERR_USAGE, lun_device_open("null", NULL, &dev));
    DETAIL_HAS("\"rel\"");
    unsetenv("LUNETTE_DECLINE");
}
END_TEST

/* ---- the front door ---- */

static void places_refused(const char *spec)
{
    lun_device *dev = open_device(spec), *other = open_device("null");
    lun_buffer *buffer = NULL, *foreign = NULL, *none = NULL;
    uint32_t words[64] = {0};
    size_t now, peak;
    FAILS(LUN_ERR_INTERNAL, lun_buffer_create(dev, 0, &none));
    FAILS(LUN_ERR_INTERNAL, lun_buffer_create(dev, 6, &none));
    ck_assert_ptr_null(none);
    OK(lun_buffer_create(dev, 64, &buffer));
    OK(lun_buffer_create(other, 4096, &foreign));
    const lun_place bad[] = {{buffer, 64}, {buffer, 4}, {buffer, 2}, {buffer, SIZE_MAX - 3}, {NULL, 0}};
    for (size_t i = 0; i < LUN_COUNT(bad); i++) {
        FAILS(LUN_ERR_INTERNAL, lun_buffer_write(bad[i], words, 64));
        FAILS(LUN_ERR_INTERNAL, lun_buffer_read(bad[i], words, 64));
        FAILS(LUN_ERR_INTERNAL, lun_buffer_fill(bad[i], 1, 64));
    }
    FAILS(LUN_ERR_INTERNAL, lun_buffer_write((lun_place){buffer, 0}, NULL, 64));
    OK(lun_buffer_write((lun_place){buffer, 64}, NULL, 0));
    OK(lun_buffer_write((lun_place){buffer, 60}, words, 4));

    lun_op relu = small_op(LUN_OP_RELU);
    relu.src[0] = relu.dst[0] = lun_image(1, 4, 1, 1);
    lun_op wrong = relu;
    lun_op_plan *plan = NULL;
    wrong.dst[0].shape.c = 5;
    FAILS(LUN_ERR_INTERNAL, lun_op_plan_create(dev, &wrong, NULL, &plan));
    wrong = relu;
    wrong.kind = (lun_op_kind)99;
    FAILS(LUN_ERR_INTERNAL, lun_op_plan_create(dev, &wrong, NULL, &plan));
    FAILS(LUN_UNSUPPORTED, lun_op_plan_create(dev, &relu, "no such", &plan));
    DETAIL_HAS("plain");
    OK(lun_op_plan_create(dev, &relu, "plain", &plan));
    ck_assert_ptr_eq(plan->device, dev);
    FAILS(LUN_ERR_INTERNAL, lun_op_plan_run(plan));
    const lun_place workspace = {0}, good = {buffer, 0};
    for (size_t i = 0; i < LUN_COUNT(bad); i++) {
        if (i == 1)
            continue; /* 16 bytes do fit there */
        FAILS(LUN_ERR_INTERNAL, lun_op_plan_bind(plan, &bad[i], &good, workspace));
        FAILS(LUN_ERR_INTERNAL, lun_op_plan_bind(plan, &good, &bad[i], workspace));
    }
    FAILS(LUN_ERR_INTERNAL, lun_op_plan_bind(plan, &good, &(lun_place){foreign, 0}, workspace));
    FAILS(LUN_ERR_INTERNAL, lun_op_plan_bind(plan, &good, &(lun_place){buffer, 4}, workspace)); /* overlaps */
    OK(lun_op_plan_bind(plan, &good, &good, workspace));                                        /* in place */
    OK(lun_op_plan_bind(plan, &good, &(lun_place){buffer, 16}, workspace));
    OK(lun_op_plan_run(plan));
    OK(lun_device_finish(dev));
    lun_op_plan_destroy(&plan);

    /* Two channels of five, three pixels: 48 bytes. Others' channels may lie between them. */
    static const struct {
        size_t offset;
        bool fits;
    } between[] = {{8, true}, {12, true}, {0, true}, {4, false}, {16, false}, {20, false}};
    relu.src[0] = relu.dst[0] = lun_image(1, 2, 3, 1);
    relu.src_pitch[0] = relu.dst_pitch[0] = 5;
    OK(lun_op_plan_create(dev, &relu, NULL, &plan));
    for (size_t i = 0; i < LUN_COUNT(between); i++)
        ck_assert_int_eq(lun_op_plan_bind(plan, &good, &(lun_place){buffer, between[i].offset}, workspace),
                         between[i].fits ? LUN_OK : LUN_ERR_INTERNAL);
    lun_op_plan_destroy(&plan);
    relu.dst_pitch[0] = 0;
    OK(lun_op_plan_create(dev, &relu, NULL, &plan));
    FAILS(LUN_ERR_INTERNAL, lun_op_plan_bind(plan, &good, &good, workspace)); /* not in place: pixels lie otherwise */
    FAILS(LUN_ERR_INTERNAL, lun_op_plan_bind(plan, &good, &(lun_place){buffer, 32}, workspace));
    lun_op_plan_destroy(&plan);
    relu.dst_pitch[0] = 1;
    FAILS(LUN_ERR_USAGE, lun_op_plan_create(dev, &relu, NULL, &plan));

    OK(lun_buffer_create(dev, 100, &none));
    lun_device_memory(dev, &now, &peak);
    ck_assert_uint_eq(now, 164);
    lun_buffer_destroy(&none);
    lun_device_memory(dev, &now, &peak);
    ck_assert_uint_eq(now, 64);
    ck_assert_uint_eq(peak, 164);
    lun_buffer_destroy(&buffer);
    lun_buffer_destroy(&foreign);
    lun_device_close(&dev);
    lun_device_close(&other);
}

START_TEST(places_outside_are_refused)
{
    places_refused("null");
    if (has("cpu"))
        places_refused("cpu");
    if (has("opencl"))
        places_refused("opencl");
}
END_TEST

START_TEST(in_place_updates_must_be_in_place)
{
    const lun_op op = small_op(LUN_OP_ADAM);
    lun_device *dev = open_device("null");
    op_run run;
    OK(op_begin(dev, &op, NULL, &run));
    const lun_place kept = run.dst[1];
    run.dst[1] = run.src[1];
    FAILS(LUN_ERR_INTERNAL, lun_op_plan_bind(run.plan, run.src, run.dst, run.workspace));
    OK(lun_op_plan_run(run.plan)); /* a refused binding leaves the former one */
    run.dst[1] = kept;
    op_end(&run);
    lun_device_close(&dev);
}
END_TEST

START_TEST(a_buffer_beyond_the_limit)
{
    if (!has("opencl"))
        return;
    lun_device *dev = open_device("opencl");
    lun_buffer *buffer = NULL;
    FAILS(LUN_ERR_MEMORY, lun_buffer_create(dev, dev->caps.max_alloc / 4 * 4 + 4, &buffer));
    ck_assert_ptr_null(buffer);
    OK(lun_buffer_create(dev, 4, &buffer)); /* and the device is not lost */
    lun_buffer_destroy(&buffer);
    lun_device_close(&dev);
}
END_TEST

START_TEST(null_counts)
{
    lun_device *dev = open_device("null");
    const lun_op op = small_op(LUN_OP_ADD);
    op_run run;
    float back[4] = {1, 2, 3, 4};
    double flops, bytes;
    OK(op_begin(dev, &op, NULL, &run));
    lun_op_cost(&op, &flops, &bytes);
    ck_assert(flops > 0 && bytes > 0);
    for (int i = 0; i < 3; i++)
        OK(lun_op_plan_run(run.plan));
    OK(lun_buffer_read(run.dst[0], back, sizeof back));
    for (int i = 0; i < 4; i++)
        ck_assert(back[i] == 0);
    const lun_null_counts counts = lun_null_get_counts(dev);
    ck_assert_uint_eq(counts.ops, 3);
    ck_assert_uint_ge(counts.launches, 3);
    ck_assert(counts.flops == 3 * flops && counts.bytes == 3 * bytes);
    ck_assert(counts.written_bytes == 2.0 * (double)lun_bytes(op.src[0]) && counts.read_bytes == 16);
    op_end(&run);
    for (int kind = 0; kind < LUN_OP_KIND_COUNT; kind++) {
        const lun_op any = small_op((lun_op_kind)kind);
        OK(run_once(dev, &any));
    }
    lun_device_close(&dev);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device");
    TCase *tests = devices_case(suite, "device");
    tcase_add_test(tests, specifications);
    tcase_add_test(tests, listed_devices_open);
    tcase_add_test(tests, decline_list);
    tcase_add_test(tests, places_outside_are_refused);
    tcase_add_test(tests, in_place_updates_must_be_in_place);
    tcase_add_test(tests, a_buffer_beyond_the_limit);
    tcase_add_test(tests, null_counts);
    return devices_run(suite);
}
