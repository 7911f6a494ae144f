/* A folder of pictures as a data set: what is found, in which order, what is left out and what is said about it. */
#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lunette/data.h>

#include "base/base.h"
#include "data/patience.h"
#include "scratch.h"

/* Pictures to copy from. */
static char cases_folder[512];

static const char *case_path(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", cases_folder, name);
    return path;
}

static char logged[64][512];
static atomic_int log_count; /* lines may come from another thread, one at a time */

static void keep_line(void *payload, lun_log_level level, const char *line)
{
    (void)payload;
    const int at = log_count;
    if (level != LUN_LOG_WARN || at >= 64)
        return;
    snprintf(logged[at], sizeof logged[0], "%s", line);
    log_count = at + 1;
}

static bool was_logged(const char *name, const char *reason)
{
    for (int i = 0; i < log_count; i++) {
        if (strstr(logged[i], name) && strstr(logged[i], reason))
            return true;
    }
    return false;
}

static void copy_case(const char *name, const char *to)
{
    size_t count;
    char *data = get_file(case_path(name), &count);
    put_file(scratch(to), data, count);
    free(data);
}

static void empty_scratch(void)
{
    scratch_remove();
    ck_assert_int_eq(mkdir(scratch_dir, 0777), 0);
    log_count = 0;
}

static lun_dataset_params params_of(const char *folder)
{
    return (lun_dataset_params){.folder = folder, .width = 8, .height = 6, .fit = LUN_FIT_STRETCH, .threads = 2};
}

/* The pixels of picture `i`, in one buffer. */
static const uint8_t *pixels_of(const lun_dataset *ds, size_t i)
{
    static uint8_t pixels[8 * 6 * 3];
    ck_assert_msg(lun_dataset_pixels(ds, i, pixels) == LUN_OK, "%s", lun_error_detail());
    return pixels;
}

/* `count` good pictures named good-00.png on. */
static void put_good(int count)
{
    for (int i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "good-%02d.png", i);
        copy_case(i % 2 ? "rgb8.png" : "grey16.png", name);
    }
}

START_TEST(a_folder_becomes_a_dataset)
{
    static const char *const want[] = {"B.PNG", "a b\n.png",     "a",           "a-b.png",
                                       "a.png", "deep/er/x.PnG", "deep/er.png", "z.png"};
    static const char *const sorted[] = {"B.PNG", "a",           "a b\n.png",     "a-b.png",
                                         "a.png", "deep/er.png", "deep/er/x.PnG", "z.png"};
    empty_scratch();
    mkdir(scratch("deep"), 0777);
    mkdir(scratch("deep/er"), 0777);
    for (size_t i = 0; i < LUN_COUNT(want); i++)
        copy_case(i == 0 ? "grey8.png" : "rgb8.png", want[i]);
    /* Left out without a word: no picture by name nor by content, hidden, and a loop. */
    put_file(scratch("notes.txt"), "text", 4);
    copy_case("bad-gif.png", "moving.gif");
    copy_case("rgb8.png", ".hidden.png");
    put_file(scratch("empty"), "", 0);
    ck_assert_int_eq(mkfifo(scratch("pipe"), 0600), 0);
    ck_assert_int_eq(symlink("..", scratch("deep/loop")), 0);
    ck_assert_int_eq(symlink("deep", scratch("zdeep")), 0);
    ck_assert_int_eq(symlink("nowhere", scratch("dangling")), 0);

    lun_dataset *ds = NULL, *again = NULL;
    lun_dataset_params params = params_of(scratch_dir);
    ck_assert_msg(lun_dataset_open(&params, &ds) == LUN_OK, "%s", lun_error_detail());
    ck_assert_uint_eq(lun_dataset_count(ds), LUN_COUNT(sorted));
    ck_assert_uint_eq(lun_dataset_skipped(ds), 0);
    ck_assert_int_eq(log_count, 0);
    for (size_t i = 0; i < LUN_COUNT(sorted); i++) {
        ck_assert_str_eq(lun_dataset_name(ds, i), sorted[i]);
        lun_picture whole = {0}, small = {0};
        ck_assert_int_eq(lun_picture_load(scratch(sorted[i]), 0, &whole), LUN_OK);
        ck_assert_int_eq(lun_picture_resize(&whole, 8, 6, &small), LUN_OK);
        ck_assert_mem_eq(pixels_of(ds, i), small.pixels, 8 * 6 * 3);
        lun_picture_free(&whole);
        lun_picture_free(&small);
    }
    ck_assert_ptr_null(lun_dataset_name(ds, LUN_COUNT(sorted)));
    ck_assert_int_eq(lun_dataset_pixels(ds, LUN_COUNT(sorted), (uint8_t[8 * 6 * 3]){0}), LUN_ERR_USAGE);

    const uint32_t index[] = {7, 0, 7}, wrong[] = {0, 8};
    float images[3 * 3 * 6 * 8];
    ck_assert_int_eq(lun_dataset_images(ds, index, 3, images), LUN_OK);
    for (size_t n = 0; n < 3; n++) {
        for (size_t c = 0; c < 3; c++) {
            for (size_t p = 0; p < 48; p++) {
                const float v = (float)pixels_of(ds, index[n])[3 * p + c];
                ck_assert_float_eq(images[(n * 3 + c) * 48 + p], v / 255.0f * 2.0f - 1.0f);
            }
        }
    }
    ck_assert_int_eq(lun_dataset_images(ds, wrong, 2, images), LUN_ERR_USAGE);

    /* The hash: the same with another number of threads, another after each change that can be seen. */
    uint64_t hash = lun_dataset_hash(ds);
    params.threads = 1;
    ck_assert_int_eq(lun_dataset_open(&params, &again), LUN_OK);
    ck_assert(lun_dataset_hash(again) == hash);
    lun_dataset_close(&again);
    ck_assert_ptr_null(again);
    for (int change = 0; change < 4; change++) {
        if (change == 0)
            copy_case("rgb16.png", "a.png");
        else if (change == 1)
            ck_assert_int_eq(rename(scratch("a.png"), scratch("aa.png")), 0);
        else if (change == 2)
            unlink(scratch("aa.png"));
        else
            params.width = 9;
        ck_assert_int_eq(lun_dataset_open(&params, &again), LUN_OK);
        ck_assert(lun_dataset_hash(again) != hash);
        hash = lun_dataset_hash(again);
        lun_dataset_close(&again);
    }
    lun_dataset_close(&ds);
    lun_dataset_close(&ds);
}
END_TEST

START_TEST(bad_files_are_named_and_skipped)
{
    static const struct {
        const char *name, *reason;
    } bad[] = {{"bad-empty.png", "empty file"},    {"bad-pipe.png", "not a regular file"},
               {"bad-link.jpg", "No such file"},   {"bad-loop.png", "Too many levels"},
               {"bad-html.JPEG", "neither a PNG"}, {"bad-huge.PNG", "exceeds user limit"},
               {"bad-cut", "Read Error"},          {"bad-device.jpg", "not a regular file"}};
    empty_scratch();
    put_good(19 * LUN_COUNT(bad) < 100 ? 19 * (int)LUN_COUNT(bad) : 99);
    for (int i = 99; i < 19 * (int)LUN_COUNT(bad); i++) {
        char name[32];
        snprintf(name, sizeof name, "more-%03d.png", i);
        copy_case("one.png", name);
    }
    put_file(scratch("bad-empty.png"), "", 0);
    ck_assert_int_eq(mkfifo(scratch("bad-pipe.png"), 0600), 0);
    ck_assert_int_eq(symlink("nowhere", scratch("bad-link.jpg")), 0);
    ck_assert_int_eq(symlink("bad-loop.png", scratch("bad-loop.png")), 0);
    copy_case("bad-html.png", "bad-html.JPEG");
    copy_case("bad-huge.png", "bad-huge.PNG");
    size_t count;
    char *data = get_file(case_path("rgb8.png"), &count);
    put_file(scratch("bad-cut"), data, count - 1);
    free(data);
    ck_assert_int_eq(symlink("/dev/zero", scratch("bad-device.jpg")), 0);

    /* Exactly 5 %: goes on. */
    lun_dataset *ds = NULL;
    lun_dataset_params params = params_of(scratch_dir);
    lun_log_set(keep_line, NULL, LUN_LOG_WARN);
    ck_assert_msg(lun_dataset_open(&params, &ds) == LUN_OK, "%s; %s", lun_error_detail(), logged[log_count - 1]);
    ck_assert_uint_eq(lun_dataset_skipped(ds), LUN_COUNT(bad));
    ck_assert_uint_eq(lun_dataset_count(ds), 19 * LUN_COUNT(bad));
    ck_assert_int_eq(log_count, (int)LUN_COUNT(bad));
    for (size_t i = 0; i < LUN_COUNT(bad); i++)
        ck_assert_msg(was_logged(bad[i].name, bad[i].reason), "%s: %s was not logged", bad[i].name, bad[i].reason);
    for (size_t i = 0; i < lun_dataset_count(ds); i++) {
        ck_assert_msg(strncmp(lun_dataset_name(ds, i), "bad", 3) != 0, "%s", lun_dataset_name(ds, i));
        ck_assert(i == 0 || strcmp(lun_dataset_name(ds, i - 1), lun_dataset_name(ds, i)) < 0);
    }
    /* The pixels were moved together with their names. */
    lun_picture whole = {0}, small = {0};
    ck_assert_int_eq(lun_picture_load(scratch(lun_dataset_name(ds, 1)), 0, &whole), LUN_OK);
    ck_assert_int_eq(lun_picture_resize(&whole, 8, 6, &small), LUN_OK);
    ck_assert_mem_eq(pixels_of(ds, 1), small.pixels, 8 * 6 * 3);
    lun_picture_free(&whole);
    lun_picture_free(&small);
    lun_dataset_close(&ds);

    /* One good picture less: more than 5 %. */
    unlink(scratch("good-00.png"));
    ck_assert_int_eq(lun_dataset_open(&params, &ds), LUN_ERR_DATA);
    ck_assert_ptr_null(ds);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "8 of 159 pictures"));
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "bad-cut: Read Error; bad-device.jpg: not a regular file;"));
    lun_log_set(NULL, NULL, LUN_LOG_WARN);
    empty_scratch();
}
END_TEST

START_TEST(unreadable_files_are_skipped)
{
    if (geteuid() == 0)
        return; /* root reads everything */
    empty_scratch();
    put_good(50);
    copy_case("rgb8.png", "closed.png");
    chmod(scratch("closed.png"), 0);
    mkdir(scratch("closed"), 0);
    lun_dataset *ds = NULL;
    lun_dataset_params params = params_of(scratch_dir);
    lun_log_set(keep_line, NULL, LUN_LOG_WARN);
    ck_assert_int_eq(lun_dataset_open(&params, &ds), LUN_OK);
    lun_log_set(NULL, NULL, LUN_LOG_WARN);
    ck_assert_uint_eq(lun_dataset_skipped(ds), 2);
    ck_assert(was_logged("closed.png", "Permission denied") && was_logged("closed:", "folder"));
    lun_dataset_close(&ds);
    empty_scratch();
}
END_TEST

START_TEST(folders_without_pictures)
{
    lun_dataset *ds = NULL;
    empty_scratch();
    lun_dataset_params params = params_of(scratch_dir);
    ck_assert_int_eq(lun_dataset_open(&params, &ds), LUN_ERR_DATA);
    put_file(scratch("notes.txt"), "text", 4);
    ck_assert_int_eq(lun_dataset_open(&params, &ds), LUN_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "no PNG or JPEG pictures"));
    put_file(scratch("x.png"), "text", 4);
    ck_assert_int_eq(lun_dataset_open(&params, &ds), LUN_ERR_DATA);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "x.png: neither"));

    params.folder = scratch("missing");
    ck_assert_int_eq(lun_dataset_open(&params, &ds), LUN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), params.folder));
    params.folder = scratch("notes.txt");
    ck_assert_int_eq(lun_dataset_open(&params, &ds), LUN_ERR_USAGE);
    params = params_of(scratch_dir);
    params.width = 0;
    ck_assert_int_eq(lun_dataset_open(&params, &ds), LUN_ERR_USAGE);
    params = params_of(scratch_dir);
    params.height = 4097;
    ck_assert_int_eq(lun_dataset_open(&params, &ds), LUN_ERR_USAGE);
    params = params_of(scratch_dir);
    params.threads = -1;
    ck_assert_int_eq(lun_dataset_open(&params, &ds), LUN_ERR_USAGE);
    ck_assert_ptr_null(ds);
    empty_scratch();
}
END_TEST

static bool any_logged(const char *text)
{
    return was_logged(text, "");
}

/* Opens the scratch folder as it is, and closes it; what was said is kept. */
static lun_status open_scratch(void)
{
    lun_dataset *ds = NULL;
    const lun_dataset_params params = params_of(scratch_dir);
    log_count = 0;
    lun_log_set(keep_line, NULL, LUN_LOG_WARN);
    const lun_status status = lun_dataset_open(&params, &ds);
    lun_log_set(NULL, NULL, LUN_LOG_WARN);
    lun_dataset_close(&ds);
    return status;
}

START_TEST(pictures_that_are_all_alike_are_told_of)
{
    empty_scratch();
    copy_case("rgb8.png", "a.png");
    ck_assert_int_eq(open_scratch(), LUN_OK);
    ck_assert_int_eq(log_count, 0); /* one picture is one on purpose */
    copy_case("rgb8.png", "b.png");
    copy_case("rgb8-i.png", "c.png"); /* other bytes, the same pixels */
    ck_assert_int_eq(open_scratch(), LUN_OK);
    ck_assert_int_eq(log_count, 1);
    ck_assert(was_logged("all 3 pictures in", "are alike: there"));
    copy_case("grey8.png", "d.png");
    ck_assert_int_eq(open_scratch(), LUN_OK);
    ck_assert_int_eq(log_count, 0);
    empty_scratch();
    copy_case("one.png", "a.png");
    copy_case("one.png", "b.png");
    ck_assert_int_eq(open_scratch(), LUN_OK);
    ck_assert(was_logged("all 2 pictures in", "and of a single colour"));
    empty_scratch();
}
END_TEST

START_TEST(files_that_go_on_are_told_of)
{
    empty_scratch();
    put_good(3);
    copy_case("apng.png", "k.png"); /* its other pictures are chunks before the end */
    ck_assert_int_eq(open_scratch(), LUN_OK);
    ck_assert_int_eq(log_count, 0);
    copy_case("trailing.png", "y.png");
    copy_case("trailing.png", "x.png");
    ck_assert_int_eq(open_scratch(), LUN_OK);
    ck_assert_int_eq(log_count, 1);
    ck_assert(any_logged("2 files hold more than their picture, which is not read; the first is x.png"));
    empty_scratch();
}
END_TEST

/* Of what is skipped among very many, the first lines and a count. */
START_TEST(thousands_of_bad_files_take_a_few_lines)
{
    empty_scratch();
    for (int i = 0; i < 60 * 19; i++) {
        char name[32];
        snprintf(name, sizeof name, "good-%04d.png", i);
        ck_assert_int_eq(i ? link(scratch("good-0000.png"), scratch(name)) : 0, 0);
        if (i == 0)
            copy_case("one.png", name);
    }
    for (int i = 0; i < 60; i++) {
        char name[32];
        snprintf(name, sizeof name, "bad-%04d.png", i);
        put_file(scratch(name), "", 0);
    }
    ck_assert_int_eq(open_scratch(), LUN_OK);
    ck_assert(any_logged("skipped bad-0049.png: empty file") && any_logged("skipped 10 more"));
    ck_assert_int_eq(log_count, 52); /* and that the good ones are alike */
    put_file(scratch("bad-more.png"), "", 0);
    ck_assert_int_eq(open_scratch(), LUN_ERR_DATA);
    ck_assert(any_logged("skipped 11 more"));
    empty_scratch();
}
END_TEST

static void rest_ms(int ms)
{
    usleep((useconds_t)ms * 1000);
}

/* A file that takes long is named once, and again after as long; one that came in time never. */
START_TEST(a_file_that_is_waited_for_is_named)
{
    log_count = 0;
    lun_log_set(keep_line, NULL, LUN_LOG_WARN);
    lun_patience *p = lun_patience_start("somewhere", 0.2);
    ck_assert_ptr_nonnull(p);
    lun_patience_reads(p, 0, "slow.png");
    for (int i = 0; i < 30; i++) {
        lun_patience_reads(p, 1, i % 2 ? "quick.png" : "other.png");
        rest_ms(10);
    }
    lun_patience_reads(p, 1, NULL);
    ck_assert_int_ge(log_count, 1); /* a loaded machine may take longer over this */
    rest_ms(200);
    lun_patience_reads(p, 0, NULL);
    const int count = log_count;
    ck_assert_int_ge(count, 2);
    for (int i = 0; i < count; i++)
        ck_assert(strstr(logged[i], "still waiting for slow.png in somewhere, after ") &&
                  strstr(logged[i], "may hang"));
    rest_ms(500);
    lun_patience_stop(&p);
    ck_assert_ptr_null(p);
    ck_assert_int_eq(log_count, count);
    /* Where there is none nothing is said. */
    lun_patience_reads(NULL, 0, "name");
    lun_patience_stop(&p);
    lun_log_set(NULL, NULL, LUN_LOG_WARN);
}
END_TEST

/* It is freed with its last owner. */
START_TEST(a_data_set_may_have_several_owners)
{
    empty_scratch();
    put_good(2);
    lun_dataset *first = NULL;
    const lun_dataset_params params = params_of(scratch_dir);
    ck_assert_int_eq(lun_dataset_open(&params, &first), LUN_OK);
    lun_dataset *second = lun_dataset_hold(first);
    ck_assert_ptr_eq(first, second);
    lun_dataset_close(&first);
    ck_assert_ptr_null(first);
    ck_assert_uint_eq(lun_dataset_count(second), 2);
    (void)pixels_of(second, 1);
    lun_dataset_close(&second);
    ck_assert_ptr_null(second);
    empty_scratch();
}
END_TEST

static void teardown(void)
{
    scratch_remove();
}

int main(void)
{
    const char *root = getenv("LUN_TEST_SOURCE");
    snprintf(cases_folder, sizeof cases_folder, "%s/pictures", root ? root : "tests/unit");
    Suite *suite = suite_create("dataset");
    TCase *tests = tcase_create("dataset");
    tcase_set_timeout(tests, 60);
    tcase_add_unchecked_fixture(tests, scratch_make, teardown);
    tcase_add_test(tests, a_folder_becomes_a_dataset);
    tcase_add_test(tests, bad_files_are_named_and_skipped);
    tcase_add_test(tests, unreadable_files_are_skipped);
    tcase_add_test(tests, folders_without_pictures);
    tcase_add_test(tests, pictures_that_are_all_alike_are_told_of);
    tcase_add_test(tests, files_that_go_on_are_told_of);
    tcase_add_test(tests, thousands_of_bad_files_take_a_few_lines);
    tcase_add_test(tests, a_file_that_is_waited_for_is_named);
    tcase_add_test(tests, a_data_set_may_have_several_owners);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
