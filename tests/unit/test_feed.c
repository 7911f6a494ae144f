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

static lun_status start_feed(const lun_dataset *d, uint64_t seed, uint64_t step, lun_feed **out)
{
    return lun_feed_start(&(lun_feed_params){.dataset = d, .batch = BATCH, .seed = seed, .step = step}, out);
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
        OK(start_feed(plain, 5, first, &feeds[0]));
        OK(start_feed(cached, 5, first, &feeds[1]));
        for (uint64_t step = first; step < first + 20; step++) {
            uint32_t order[PICTURES];
            float want[ELEMENTS];
            lun_random_permutation(5, step / PER_EPOCH, PICTURES, order);
            OK(lun_dataset_images(plain, order + step % PER_EPOCH * BATCH, BATCH, want));
            for (int k = 0; k < 2; k++) {
                lun_feed_batch batch = {0};
                OK(lun_feed_next(feeds[k], &batch));
                ck_assert_ptr_null(batch.labels);
                if (step % 3 == 0)
                    usleep(2000); /* the thread is ahead by as much as it may: what was handed out stays */
                ck_assert_mem_eq(batch.images, want, sizeof want);
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
        lun_feed_batch batch = {0};
        OK(start_feed(d, 1, 0, &feed));
        for (int k = 0; k < i % 5; k++)
            OK(lun_feed_next(feed, &batch));
        lun_feed_stop(&feed);
    }
    lun_feed *feed = NULL;
    const uint32_t outside[BATCH] = {0, 1, 2, PICTURES};
    ck_assert_int_eq(lun_feed_start(&(lun_feed_params){.dataset = d, .batch = PICTURES + 1}, &feed), LUN_ERR_DATA);
    ck_assert_int_eq(
        lun_feed_start(&(lun_feed_params){.dataset = d, .batch = BATCH, .pictures = outside, .count = 3}, &feed),
        LUN_ERR_DATA);
    ck_assert_int_eq(
        lun_feed_start(&(lun_feed_params){.dataset = d, .batch = BATCH, .pictures = outside, .count = 4}, &feed),
        LUN_ERR_USAGE);
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
    lun_feed_batch batch = {0};
    OK(start_feed(d, 3, 0, &feed));
    OK(lun_feed_next(feed, &batch));
    for (int again = 0; again < 2; again++) {
        ck_assert_int_eq(lun_feed_next(feed, &batch), LUN_ERR_DATA);
        ck_assert_ptr_nonnull(strstr(lun_error_detail(), strchr(name, '/') + 1));
    }
    lun_feed_stop(&feed);
    lun_dataset_close(&d);
}
END_TEST

/* Varied, labelled and of some pictures only: every batch is what the sample's number says, however it was come by. */
START_TEST(what_varies_is_drawn_by_number)
{
    static const uint32_t some[] = {9, 1, 2, 3, 4, 7};
    enum { SOME = 6, WIDE = 2 };
    lun_dataset *sets[2] = {NULL, NULL};
    for (int i = 0; i < PICTURES; i++) { /* in two folders, and wider than the window */
        char from[40], to[40];
        lun_picture square, wide;
        mkdir(scratch(i % 2 ? "pictures/b" : "pictures/a"), 0755);
        snprintf(from, sizeof from, "pictures/%03d.png", i);
        snprintf(to, sizeof to, "pictures/%s/%03d.png", i % 2 ? "b" : "a", i);
        OK(lun_picture_load(scratch(from), 0, &square));
        OK(lun_picture_resize(&square, WIDE * SIDE, SIDE, &wide));
        OK(lun_png_write(scratch(to), &wide, NULL, 0));
        ck_assert_int_eq(unlink(scratch(from)), 0);
        lun_picture_free(&square);
        lun_picture_free(&wide);
    }
    for (int k = 0; k < 2; k++) {
        const lun_dataset_params params = {.folder = scratch("pictures"),
                                           .width = SIDE,
                                           .height = SIDE,
                                           .fit = LUN_FIT_COVER,
                                           .labels = 1,
                                           .cache = k ? scratch("cache") : NULL};
        OK(lun_dataset_open(&params, &sets[k]));
    }
    lun_feed_params params = {.pictures = some,
                              .count = SOME,
                              .batch = BATCH,
                              .seed = 77,
                              .augment = {.flip = 1, .window = 1},
                              .label_dropout = 0.4};
    int dropped = 0, told = 0;
    for (uint64_t first = 0; first < 8; first += 5) {
        lun_feed *feeds[2];
        for (int k = 0; k < 2; k++) {
            params.dataset = sets[k];
            params.step = first;
            OK(lun_feed_start(&params, &feeds[k]));
        }
        for (uint64_t step = first; step < first + 10; step++) {
            uint32_t order[SOME];
            lun_feed_batch batch[2];
            lun_random_permutation(77, step / (SOME / BATCH), SOME, order);
            for (int k = 0; k < 2; k++)
                OK(lun_feed_next(feeds[k], &batch[k]));
            ck_assert_mem_eq(batch[0].images, batch[1].images, ELEMENTS * sizeof(float));
            for (size_t i = 0; i < BATCH; i++) {
                /* One sample by itself. */
                const uint64_t number = step * BATCH + i;
                const uint32_t picture = some[order[step % (SOME / BATCH) * BATCH + i]];
                const lun_augment augment = {.seed = 77, .flip = 1, .window = 1};
                float want[ELEMENTS / BATCH];
                OK(lun_dataset_draw(sets[0], &augment, number, &picture, 1, want));
                ck_assert_mem_eq(batch[0].images + i * (ELEMENTS / BATCH), want, sizeof want);
                const bool drop = lun_feed_drops_label(77, number, 0.4);
                const int label = drop ? 2 : lun_dataset_label(sets[0], picture);
                ck_assert_int_eq(batch[0].labels[i], label);
                ck_assert_int_eq(batch[1].labels[i], label);
                dropped += drop;
                told += !drop;
            }
        }
        for (int k = 0; k < 2; k++)
            lun_feed_stop(&feeds[k]);
    }
    ck_assert_int_gt(dropped, 10);
    ck_assert_int_gt(told, dropped);
    int few = 0; /* of 4000 with a chance of one in ten: 400 +- 19 */
    for (uint64_t number = 0; number < 4000; number++) {
        few += lun_feed_drops_label(77, number, 0.1);
        ck_assert(!lun_feed_drops_label(77, number, 0) && lun_feed_drops_label(77, number, 1));
    }
    ck_assert_msg(few > 300 && few < 500, "%d of 4000", few);
    lun_dataset_close(&sets[0]);
    lun_dataset_close(&sets[1]);
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
    tcase_add_test(tests, what_varies_is_drawn_by_number);
    tcase_add_test(tests, an_error_comes_in_its_turn);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
