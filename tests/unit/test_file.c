#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/base.h"
#include "base/file.h"
#include "scratch.h"

#define ck_contains(part)                                                                                              \
    ck_assert_msg(strstr(lun_error_detail(), (part)) != NULL, "'%s' lacks '%s'", lun_error_detail(), part)

START_TEST(a_file_appears_whole)
{
    const char *path = scratch("a");
    const size_t big = 3 * 65536 + 17;
    char *data = malloc(big);
    for (size_t i = 0; i < big; i++)
        data[i] = (char)(i * 131 >> 3);
    put_file(path, "old", 3);
    lun_file *file = NULL;
    ck_assert_int_eq(lun_file_create(path, &file), LUN_OK);
    ck_assert_int_eq(lun_file_write(file, data, 5), LUN_OK);
    ck_assert_int_eq(lun_file_write(file, data + 5, 65536), LUN_OK);
    for (size_t at = 65541; at < big; at += 7)
        ck_assert_int_eq(lun_file_write(file, data + at, big - at < 7 ? big - at : 7), LUN_OK);
    ck_assert_uint_eq(lun_file_size(file), big);
    ck_assert_int_eq(lun_file_patch(file, 10, "0123", 4), LUN_OK);
    memcpy(data + 10, "0123", 4);
    ck_assert_int_eq(lun_file_patch(file, big - 3, "0123", 4), LUN_ERR_INTERNAL);
    size_t bytes = 0;
    char *back = get_file(path, &bytes);
    ck_assert_str_eq(back, "old");
    free(back);
    ck_assert_int_eq(lun_file_commit(file), LUN_OK);
    back = get_file(path, &bytes);
    ck_assert_uint_eq(bytes, big);
    ck_assert_mem_eq(back, data, big);
    ck_assert_int_eq(count_entries(scratch_dir), 1);
    free(back);
    free(data);
    unlink(path);
}
END_TEST

START_TEST(a_discarded_file_leaves_nothing)
{
    lun_file *file = NULL;
    ck_assert_int_eq(lun_file_create(scratch("a"), &file), LUN_OK);
    lun_file_write(file, "x", 1);
    lun_fail(LUN_ERR_DATA, "first");
    lun_file_discard(file);
    lun_file_discard(NULL);
    ck_assert_str_eq(lun_error_detail(), "first");
    ck_assert_int_eq(count_entries(scratch_dir), 0);
}
END_TEST

START_TEST(a_reader_keeps_the_former_file)
{
    const char *path = scratch("a");
    put_file(path, "old", 3);
    const int fd = open(path, O_RDONLY);
    lun_file *file = NULL;
    ck_assert_int_eq(lun_file_create(path, &file), LUN_OK);
    lun_file_write(file, "new!", 4);
    ck_assert_int_eq(lun_file_commit(file), LUN_OK);
    char text[8] = "";
    ck_assert_int_eq(read(fd, text, sizeof text), 3);
    ck_assert_str_eq(text, "old");
    close(fd);
    unlink(path);
}
END_TEST

START_TEST(leftovers_of_the_dead_are_swept)
{
    /* A child that has ended has a number nobody uses now. */
    const pid_t dead = fork();
    if (dead == 0)
        _exit(0);
    waitpid(dead, NULL, 0);
    char name[64];
    snprintf(name, sizeof name, ".a.tmp.%ld", (long)dead);
    put_file(scratch(name), "x", 1);
    snprintf(name, sizeof name, ".a.tmp.%ld", (long)getpid()); /* our number, from before us */
    put_file(scratch(name), "xyz", 3);
    snprintf(name, sizeof name, ".b.tmp.%ld", (long)dead);
    put_file(scratch(name), "x", 1);
    put_file(scratch(".a.tmp.1"), "x", 1); /* alive */
    put_file(scratch(".a.tmp.12x"), "x", 1);
    lun_file *file = NULL, *other = NULL;
    ck_assert_int_eq(lun_file_create(scratch("a"), &file), LUN_OK);
    ck_assert_int_eq(count_entries(scratch_dir), 4);
    ck_assert_int_eq(lun_file_create(scratch("a"), &other), LUN_ERR_STORAGE); /* in use by `file` */
    ck_assert_ptr_null(other);
    lun_file_write(file, "1", 1);
    ck_assert_int_eq(lun_file_commit(file), LUN_OK);
    char *text = get_file(scratch("a"), NULL);
    ck_assert_str_eq(text, "1");
    free(text);
    lun_file_sweep(scratch_dir);
    ck_assert_int_eq(count_entries(scratch_dir), 3); /* a, and the two that are not ours to judge */
    unlink(scratch("a"));
    unlink(scratch(".a.tmp.1"));
    unlink(scratch(".a.tmp.12x"));
}
END_TEST

START_TEST(what_cannot_be_written_is_refused)
{
    lun_file *file = NULL;
    ck_assert_int_eq(lun_file_create(scratch("no/such"), &file), LUN_ERR_STORAGE);
    ck_contains("no/such");
    ck_contains(strerror(ENOENT));
    ck_assert_int_eq(lun_file_create(scratch_dir, &file), LUN_ERR_STORAGE);
    ck_assert_int_eq(lun_file_create(scratch(""), &file), LUN_ERR_STORAGE);
    ck_assert_int_eq(lun_file_create("", &file), LUN_ERR_STORAGE);
    ck_assert_int_eq(lun_file_create(scratch(".."), &file), LUN_ERR_STORAGE);
    ck_assert_int_eq(lun_file_create("/dev/null", &file), LUN_ERR_STORAGE);
    ck_contains("not a regular file");
    const char *pipe = scratch("pipe");
    ck_assert_int_eq(mkfifo(pipe, 0600), 0);
    ck_assert_int_eq(lun_file_create(pipe, &file), LUN_ERR_STORAGE);
    ck_assert_int_eq(lun_append_line(pipe, "x"), LUN_ERR_STORAGE);
    char longname[300];
    memset(longname, 'n', sizeof longname - 1);
    longname[sizeof longname - 1] = 0;
    ck_assert_int_eq(lun_file_create(scratch(longname), &file), LUN_ERR_STORAGE);
    ck_assert_ptr_null(file);
    unlink(pipe);
    ck_assert_int_eq(count_entries(scratch_dir), 0);
}
END_TEST

/* Run in a child, as nobody if we are root, who may write everywhere. */
START_TEST(a_directory_without_permission)
{
    const char *dir = scratch("locked");
    ck_assert_int_eq(mkdir(dir, 0555), 0);
    ck_assert_int_eq(chmod(scratch_dir, 0755), 0);
    const pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && seteuid(65534) != 0)
            _exit(77);
        lun_file *file = NULL;
        if (lun_file_create(scratch("locked/a"), &file) != LUN_ERR_STORAGE ||
            !strstr(lun_error_detail(), strerror(EACCES)))
            _exit(1);
        _exit(lun_make_dirs(scratch("locked/b/c")) == LUN_ERR_STORAGE ? 0 : 2);
    }
    int how = 0;
    waitpid(child, &how, 0);
    ck_assert(WIFEXITED(how));
    ck_assert_msg(WEXITSTATUS(how) == 0 || WEXITSTATUS(how) == 77, "child: %d", WEXITSTATUS(how));
    rmdir(dir);
}
END_TEST

START_TEST(what_cannot_be_told_is_not_missing)
{
    const char *loop = scratch("loop");
    bool there = true;
    lun_path_kind kind = LUN_PATH_OTHER;
    ck_assert_int_eq(symlink("loop", loop), 0);
    ck_assert_int_eq(lun_path_look(loop, LUN_ERR_DATA, &kind), LUN_ERR_DATA);
    ck_contains(strerror(ELOOP));
    ck_assert_int_eq(lun_file_look(loop, &there), LUN_OK);
    ck_assert(there);
    ck_assert_int_eq(lun_file_look_in(loop, "a", &there), LUN_ERR_STORAGE);
    ck_contains(strerror(ELOOP));
    ck_assert(lun_file_exists_in(loop, "a")); /* may be */

    ck_assert_int_eq(lun_path_look(scratch("none"), LUN_ERR_DATA, &kind), LUN_OK);
    ck_assert_int_eq(kind, LUN_PATH_MISSING);
    ck_assert_int_eq(lun_path_look(scratch_dir, LUN_ERR_DATA, &kind), LUN_OK);
    ck_assert_int_eq(kind, LUN_PATH_FOLDER);
    ck_assert_int_eq(lun_path_look("/dev/null", LUN_ERR_DATA, &kind), LUN_OK);
    ck_assert_int_eq(kind, LUN_PATH_OTHER);
    char name[PATH_MAX + 1];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    ck_assert_int_eq(lun_file_look_in(scratch_dir, name, &there), LUN_OK);
    ck_assert(!there);
    ck_assert(!lun_file_exists(scratch("none")));
    unlink(loop);
}
END_TEST

START_TEST(a_full_disk_keeps_the_former_file)
{
    const char *path = scratch("a");
    put_file(path, "old", 3);
    put_file(scratch("log"), "line\n", 5);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {100000, 100000};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        lun_file *file = NULL;
        char block[3000] = {0};
        if (lun_file_create(path, &file) != LUN_OK)
            _exit(1);
        lun_status status = LUN_OK;
        for (int i = 0; i < 100; i++)
            status = lun_file_write(file, block, sizeof block);
        if (status != LUN_ERR_STORAGE || !strstr(lun_error_detail(), strerror(EFBIG)))
            _exit(2);
        lun_fail(LUN_ERR_DATA, "something else");
        if (lun_file_commit(file) != LUN_ERR_STORAGE || !strstr(lun_error_detail(), strerror(EFBIG)))
            _exit(3);
        /* The failure that comes only with the flush in commit. */
        const struct rlimit small = {1000, 1000};
        setrlimit(RLIMIT_FSIZE, &small);
        if (lun_file_create(path, &file) != LUN_OK || lun_file_write(file, block, sizeof block) != LUN_OK)
            _exit(4);
        if (lun_file_commit(file) != LUN_ERR_STORAGE)
            _exit(5);
        char line[2000];
        memset(line, 'l', sizeof line - 1);
        line[sizeof line - 1] = 0;
        _exit(lun_append_line(scratch("log"), line) == LUN_ERR_STORAGE ? 0 : 6);
    }
    int how = 0;
    waitpid(child, &how, 0);
    ck_assert(WIFEXITED(how));
    ck_assert_int_eq(WEXITSTATUS(how), 0);
    char *text = get_file(path, NULL);
    ck_assert_str_eq(text, "old");
    free(text);
    text = get_file(scratch("log"), NULL);
    ck_assert_str_eq(text, "line\n"); /* the half line was taken back */
    free(text);
    ck_assert_int_eq(count_entries(scratch_dir), 2);
    unlink(path);
    unlink(scratch("log"));
}
END_TEST

START_TEST(reading_is_bounded_and_never_blocks)
{
    char *text = NULL;
    size_t bytes = 99;
    put_file(scratch("a"), "ab\0c", 4);
    ck_assert_int_eq(lun_file_read(scratch("a"), 4, LUN_ERR_DATA, &text, &bytes), LUN_OK);
    ck_assert_uint_eq(bytes, 4);
    ck_assert_mem_eq(text, "ab\0c", 5);
    free(text);
    text = NULL;
    ck_assert_int_eq(lun_file_read(scratch("a"), 3, LUN_ERR_DATA, &text, &bytes), LUN_ERR_DATA);
    put_file(scratch("a"), "", 0);
    ck_assert_int_eq(lun_file_read(scratch("a"), 0, LUN_ERR_DATA, &text, NULL), LUN_OK);
    ck_assert_str_eq(text, "");
    free(text);
    text = NULL;
    ck_assert_int_eq(truncate(scratch("a"), (off_t)1 << 40), 0); /* a hole of a tebibyte: no memory follows it */
    ck_assert_int_eq(lun_file_read(scratch("a"), 1 << 20, LUN_ERR_DATA, &text, NULL), LUN_ERR_DATA);
    ck_assert_int_eq(mkfifo(scratch("pipe"), 0600), 0);
    ck_assert_int_eq(lun_file_read(scratch("pipe"), 10, LUN_ERR_CHECKPOINT, &text, NULL), LUN_ERR_CHECKPOINT);
    ck_assert_int_eq(lun_file_read(scratch_dir, 10, LUN_ERR_USAGE, &text, NULL), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_file_read(scratch("none"), 10, LUN_ERR_USAGE, &text, NULL), LUN_ERR_USAGE);
    ck_contains(strerror(ENOENT));
    ck_assert_ptr_null(text);
    unlink(scratch("a"));
    unlink(scratch("pipe"));
}
END_TEST

START_TEST(directories_and_lines)
{
    ck_assert_int_eq(lun_make_dirs(scratch("x//y/z/")), LUN_OK);
    ck_assert_int_eq(lun_make_dirs(scratch("x/y/z")), LUN_OK);
    ck_assert(lun_file_exists(scratch("x/y/z")));
    ck_assert_int_eq(lun_make_dirs("/"), LUN_OK);
    ck_assert_int_eq(lun_make_dirs(""), LUN_ERR_STORAGE);
    put_file(scratch("f"), "", 0);
    ck_assert_int_eq(lun_make_dirs(scratch("f")), LUN_ERR_STORAGE);
    ck_assert_int_eq(lun_make_dirs(scratch("f/g")), LUN_ERR_STORAGE);
    ck_assert_int_eq(lun_append_line(scratch("x/log"), "one"), LUN_OK);
    ck_assert_int_eq(lun_append_line(scratch("x/log"), "two"), LUN_OK);
    ck_assert_int_eq(lun_append_line(scratch("x/log"), "a\nb"), LUN_ERR_INTERNAL);
    char *text = get_file(scratch("x/log"), NULL);
    ck_assert_str_eq(text, "one\ntwo\n");
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file");
    TCase *tests = tcase_create("file");
    tcase_add_checked_fixture(tests, scratch_make, scratch_remove);
    tcase_add_test(tests, a_file_appears_whole);
    tcase_add_test(tests, a_discarded_file_leaves_nothing);
    tcase_add_test(tests, a_reader_keeps_the_former_file);
    tcase_add_test(tests, leftovers_of_the_dead_are_swept);
    tcase_add_test(tests, what_cannot_be_written_is_refused);
    tcase_add_test(tests, a_directory_without_permission);
    tcase_add_test(tests, what_cannot_be_told_is_not_missing);
    tcase_add_test(tests, a_full_disk_keeps_the_former_file);
    tcase_add_test(tests, reading_is_bounded_and_never_blocks);
    tcase_add_test(tests, directories_and_lines);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
