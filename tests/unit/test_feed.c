/* Batches read ahead: the same as read on the spot, in the same order, and no thread that stays behind. */
#include <fcntl.h>

#include <lunette/picture_out.h>
#include <lunette/train.h>

#include "base/base.h"
#include "base/philox.h"
#include "scratch.h"
#include "train/feed.h"

enum { PICTURES = 11, SIDE = 8, BATCH = 4, PER_EPOCH = PICTURES / BATCH, ELEMENTS = BATCH * 3 * SIDE * SIDE };

#define OK(call) ck_assert_msg((call) == LUN_OK, "%s", lun_error_detail())

static lun_dataset *open_set(const char *cache)
{
    lun_dataset *d = NULL;
    const lun_dataset_params params = {
        .folder = scratch("pictures"), .width = SIDE, .height = SIDE, .threads = 1, .cache = cache};
    OK(lun_dataset_open(&params, &d));
    return d;
}

static void setup(void)
{
    scratch_make();
    mkdir(scratch("pictures"), 0755);
    for (int i = 0; i < PICTURES; i++) {
        char name[40];
        lun_picture picture;
        snprintf(name, sizeof name, "pictures/%03d.png", i);
        OK(lun_craters_draw(7, (uint32_t)i, SIDE, &picture));
        OK(lun_png_write(scratch(name), &picture, NULL, 0));
        lun_picture_free(&picture);
    }
}

static void teardown(void)
{
    scratch_remove();
}

START_TEST(batches_come_in_order)
{
    lun_dataset *plain = open_set(NULL), *cached = open_set(scratch("cache"));
    for (int start = 0; start < 2; start++) {
        const uint64_t first = start ? 7 : 0; /* as a resumed run begins */
        lun_feed *feeds[2] = {NULL, NULL};
        OK(lun_feed_start(plain, 5, BATCH, first, &feeds[0]));
        OK(lun_feed_start(cached, 5, BATCH, first, &feeds[1]));
        for (uint64_t step = first; step < first + 20; step++) {
            uint32_t order[PICTURES];
            float want[ELEMENTS];
            lun_random_permutation(5, step / PER_EPOCH, PICTURES, order);
            OK(lun_dataset_images(plain, order + step % PER_EPOCH * BATCH, BATCH, want));
            for (int k = 0; k < 2; k++) {
                const float *images = NULL;
                OK(lun_feed_next(feeds[k], &images));
                if (step % 3 == 0)
                    usleep(2000); /* the thread is ahead by as much as it may: what was handed out stays */
                ck_assert_mem_eq(images, want, sizeof want);
            }
        }
        lun_feed_stop(&feeds[0]);
        lun_feed_stop(&feeds[1]);
        ck_assert_ptr_null(feeds[0]);
        lun_feed_stop(&feeds[0]);
    }
    lun_dataset_close(&plain);
    lun_dataset_close(&cached);
}
END_TEST

START_TEST(a_feed_ends_at_any_time)
{
    lun_dataset *d = open_set(NULL);
    for (int i = 0; i < 60; i++) {
        lun_feed *feed = NULL;
        const float *images = NULL;
        OK(lun_feed_start(d, 1, BATCH, 0, &feed));
        for (int k = 0; k < i % 5; k++)
            OK(lun_feed_next(feed, &images));
        lun_feed_stop(&feed);
    }
    lun_feed *feed = NULL;
    ck_assert_int_eq(lun_feed_start(d, 1, PICTURES + 1, 0, &feed), LUN_ERR_DATA);
    ck_assert_ptr_null(feed);
    lun_dataset_close(&d);
}
END_TEST

/* A picture that is damaged in the cache and gone from its folder: the batches before it are handed out, then the
 * error, again and again. */
START_TEST(an_error_comes_in_its_turn)
{
    lun_dataset *d = open_set(scratch("cache"));
    uint32_t order[PICTURES];
    char name[40], command[700];
    lun_random_permutation(3, 0, PICTURES, order);
    snprintf(name, sizeof name, "pictures/%03u.png", order[BATCH]); /* of the second batch */
    snprintf(command, sizeof command, "cd '%s' && for f in cache/pictures-*; do truncate -s 4096 $f; done",
             scratch_dir);
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_eq(unlink(scratch(name)), 0);
    lun_feed *feed = NULL;
    const float *images = NULL;
    OK(lun_feed_start(d, 3, BATCH, 0, &feed));
    OK(lun_feed_next(feed, &images));
    for (int again = 0; again < 2; again++) {
        ck_assert_int_eq(lun_feed_next(feed, &images), LUN_ERR_DATA);
        ck_assert_ptr_nonnull(strstr(lun_error_detail(), strchr(name, '/') + 1));
    }
    lun_feed_stop(&feed);
    lun_dataset_close(&d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("feed");
    TCase *tests = tcase_create("feed");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, batches_come_in_order);
    tcase_add_test(tests, a_feed_ends_at_any_time);
    tcase_add_test(tests, an_error_comes_in_its_turn);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
