/* What `lunette train FOLDER` chooses: by the pictures' number and size, and by the speed of the device. */
#include <check.h>
#include <stdlib.h>

#include <lunette/lunette.h>

#include "base/base.h"

#define OK(expr)           ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())
#define NOT_OK(expr, want) ck_assert_msg((expr) == (want), "%s: %s", #expr, lun_error_detail())

static lun_advice untimed(lun_advice_params params)
{
    lun_advice advice;
    params.channels = params.channels ? params.channels : 3;
    OK(lun_advise_untimed(&params, &advice));
    OK(lun_train_config_check(&advice.config));
    ck_assert_str_eq(advice.config.preset, LUN_PRESET_AUTO);
    return advice;
}

static lun_advice timed(const char *spec, lun_advice_params params)
{
    lun_device *dev = NULL;
    lun_advice advice;
    params.channels = 3;
    OK(lun_device_open(spec, NULL, &dev));
    OK(lun_advise(dev, &params, &advice));
    OK(lun_train_config_check(&advice.config));
    lun_device_close(&dev);
    return advice;
}

START_TEST(sizes_follow_the_pictures)
{
    static const struct {
        int side, size, levels;
    } wanted[] = {{3, 32, 3}, {32, 32, 3}, {63, 32, 3}, {64, 64, 4}, {100, 64, 4}, {128, 128, 5}, {4000, 256, 6}};
    for (size_t i = 0; i < LUN_COUNT(wanted); i++) {
        const lun_train_config c = untimed((lun_advice_params){.pictures = 98, .side = wanted[i].side}).config;
        ck_assert_int_eq(c.width, wanted[i].size);
        ck_assert_int_eq(c.height, wanted[i].size);
        ck_assert_int_eq(c.model.levels, wanted[i].levels);
        ck_assert_int_eq(c.width >> (c.model.levels - 1), 8);
        ck_assert_int_eq(c.model.attention[c.model.levels - 1], 1);
        ck_assert_int_eq(c.model.attention[0], 0);
    }
    /* As far as both sides can be halved. */
    const lun_train_config c =
        untimed((lun_advice_params){.pictures = 9, .side = 64, .width = 96, .height = 36, .batch = 3, .channels = 1})
            .config;
    ck_assert(c.width == 96 && c.height == 36 && c.model.levels == 3 && c.batch == 3 && c.model.image_channels == 1);
}
END_TEST

START_TEST(lengths_follow_the_wishes)
{
    const lun_advice steps = untimed((lun_advice_params){.pictures = 98, .side = 64, .steps = 40});
    ck_assert_uint_eq(steps.steps, 40);
    ck_assert_uint_eq(steps.config.warmup, 2);
    ck_assert(steps.config.ema_rate[0] == 0.99);
    const lun_advice epochs = untimed((lun_advice_params){.pictures = 98, .side = 64, .epochs = 5000});
    ck_assert_uint_eq(epochs.steps, 5000 * 6);
    ck_assert_uint_eq(epochs.config.warmup, 500);
    ck_assert(epochs.config.ema_rate[0] == 0.9997);
    /* A hundred thousand pictures, by batches of 16. */
    ck_assert_uint_eq(untimed((lun_advice_params){.pictures = 98, .side = 64}).steps, 6250);
}
END_TEST

/* The device null computes nothing, in no time. */
START_TEST(fast_devices_get_wide_networks)
{
    const lun_advice few = timed("null", (lun_advice_params){.pictures = 98, .side = 64});
    ck_assert_int_eq(few.config.width, 64);
    ck_assert_int_eq(few.config.model.channels[0], 64); /* wider ones learn so few by heart */
    ck_assert_int_eq(few.config.model.blocks, 1);
    ck_assert_uint_eq(few.steps * (uint64_t)few.config.batch, 100000);
    const lun_advice many = timed("null", (lun_advice_params){.pictures = 20000, .side = 64});
    ck_assert_int_eq(many.config.model.channels[0], 128);
    ck_assert_int_eq(many.config.model.blocks, 2);
    ck_assert_int_eq(many.config.batch, 64);
    ck_assert_uint_eq(many.steps, 200 * 20000 / 64);
    ck_assert(many.config.lr == 1e-3 / 4 && many.config.model.dropout == 0.1f);
    const lun_advice wish = timed("null", (lun_advice_params){.pictures = 5, .side = 64, .batch = 4, .steps = 7});
    ck_assert_int_eq(wish.config.batch, 4);
    ck_assert_uint_eq(wish.steps, 7);
}
END_TEST

START_TEST(slow_devices_get_small_pictures)
{
    const lun_advice slow = timed("cpu", (lun_advice_params){.pictures = 98, .side = 64, .hours = 1e-5});
    ck_assert_int_eq(slow.config.width, 32);
    ck_assert_int_eq(slow.config.model.channels[0], 32);
    ck_assert_uint_ge(slow.steps, 1);
    ck_assert_uint_le(slow.steps, 1000);
    ck_assert(slow.step_s > 0);
    /* But not those that were asked for. */
    const lun_advice wish =
        timed("cpu", (lun_advice_params){.pictures = 98, .side = 640, .hours = 1e-5, .width = 40, .height = 40});
    ck_assert(wish.config.width == 40 && wish.config.model.levels == 3);
    /* No batch is larger than the folder. */
    ck_assert_int_eq(timed("cpu", (lun_advice_params){.pictures = 7, .side = 32, .hours = 1e-5}).config.batch, 4);
}
END_TEST

START_TEST(what_cannot_be_advised)
{
    static const lun_advice_params wrong[] = {{.pictures = 0, .side = 64, .channels = 3},
                                              {.pictures = 9, .side = 64, .channels = 2},
                                              {.pictures = 9, .side = 64, .channels = 3, .width = 64},
                                              {.pictures = 9, .side = 64, .channels = 3, .hours = -1},
                                              {.pictures = 9, .side = 64, .channels = 3, .steps = 1, .epochs = 1}};
    lun_advice advice;
    for (size_t i = 0; i < LUN_COUNT(wrong); i++)
        NOT_OK(lun_advise_untimed(&wrong[i], &advice), LUN_ERR_USAGE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("advice");
    TCase *tests = tcase_create("advice");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, sizes_follow_the_pictures);
    tcase_add_test(tests, lengths_follow_the_wishes);
    tcase_add_test(tests, fast_devices_get_wide_networks);
    tcase_add_test(tests, slow_devices_get_small_pictures);
    tcase_add_test(tests, what_cannot_be_advised);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
