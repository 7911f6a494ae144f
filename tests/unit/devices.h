/* Devices to test: opened, with caches and kernel texts of their own. */
#ifndef TEST_DEVICES_H
#define TEST_DEVICES_H

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"
#include "device/driver.h"
#include "scratch.h"

#define OK(expr)          ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())
#define FAILS(want, expr) ck_assert_int_eq((expr), (want))
#define DETAIL_HAS(text)                                                                                               \
    ck_assert_msg(strstr(lun_error_detail(), text) != NULL, "no \"%s\" in: %s", text, lun_error_detail())

static int compiled, loaded, measured, tiled; /* lines of the log so far that tell of it */

static inline void count_line(void *payload, lun_log_level level, const char *line)
{
    (void)payload;
    (void)level;
    compiled += strstr(line, "OpenCL: compiled ") != NULL;
    loaded += strstr(line, "OpenCL: loaded ") != NULL;
    measured += strstr(line, "auto: measuring ") != NULL;
    tiled += strncmp(line, "opencl", 6) == 0 && strstr(line, " by tile ") != NULL;
}

static inline void count_spec(void *payload, const lun_device_info *info)
{
    ((int *)payload)[0] += strncmp(info->spec, "opencl", 6) == 0;
    ((int *)payload)[1] += strcmp(info->spec, "cpu") == 0;
    ((int *)payload)[2] += strncmp(info->spec, "opencl", 6) == 0 && info->type == LUN_DEVICE_GPU;
}

static inline bool has(const char *what)
{
    int seen[3] = {0};
    lun_device_list(count_spec, seen);
    const bool have = seen[strcmp(what, "cpu") == 0] > 0;
    if (!have)
        fprintf(stderr, "no %s device: skipped\n", what);
    return have;
}

static inline bool has_gpu(void)
{
    int seen[3] = {0};
    lun_device_list(count_spec, seen);
    return seen[2] > 0;
}

/* A fresh folder under the temporary one. */
static inline char *fresh_folder(void)
{
    static int number;
    char *folder = lun_format("%s/%d", scratch_dir, number++);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    return folder;
}

static inline void use_fresh_cache(void)
{
    char *folder = fresh_folder();
    setenv("LUNETTE_CACHE", folder, 1);
    free(folder);
}

/* The path of the only entry of the cache folder that begins with `name`. */
static inline char *cache_entry(const char *name)
{
    const char *folder = getenv("LUNETTE_CACHE");
    DIR *dir = opendir(folder);
    char *path = NULL;
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (strncmp(e->d_name, name, strlen(name)) == 0) {
            ck_assert_ptr_null(path);
            path = lun_format("%s/%s", folder, e->d_name);
        }
    }
    closedir(dir);
    ck_assert_ptr_nonnull(path);
    return path;
}

/* The kernel texts of the source tree in a fresh folder, with `from` in elementwise.cl replaced by `to`. */
static inline char *changed_kernels(const char *from, const char *to)
{
    char *cl = lun_format("%s/../../cl", getenv("LUN_TEST_SOURCE")), *folder = fresh_folder();
    DIR *dir = opendir(cl);
    ck_assert_msg(dir != NULL, "LUN_TEST_SOURCE must name tests/unit, as meson test has it");
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        const size_t length = strlen(e->d_name);
        const bool text = strcmp(e->d_name, "elementwise.cl") == 0;
        if (!text && (length < 3 || strcmp(e->d_name + length - 2, ".h") != 0))
            continue;
        char *source = lun_format("%s/%s", cl, e->d_name), *target = lun_format("%s/%s", folder, e->d_name), *content;
        size_t bytes;
        OK(lun_file_read(source, 1 << 20, LUN_ERR_DATA, &content, &bytes));
        if (text && from) {
            char *at = strstr(content, from);
            ck_assert_ptr_nonnull(at);
            *at = 0;
            char *changed = lun_format("%s%s%s", content, to, at + strlen(from));
            free(content);
            content = changed;
            bytes = strlen(changed);
        }
        put_file(target, content, bytes);
        free(content);
        free(source);
        free(target);
    }
    closedir(dir);
    free(cl);
    return folder;
}

static inline lun_device *open_device(const char *spec)
{
    const lun_device_params params = {.threads = 2};
    lun_device *dev = NULL;
    ck_assert_msg(lun_device_open(spec, &params, &dev) == LUN_OK, "%s: %s", spec, lun_error_detail());
    return dev;
}

/* For all tests of a program: a folder, and the log counted. */
static inline void devices_begin(void)
{
    scratch_make();
    lun_log_set(count_line, NULL, LUN_LOG_DEBUG);
}

static inline void devices_end(void)
{
    scratch_remove();
}

/* Before each: what a test that failed on its way may have left. */
static inline void devices_forget(void)
{
    unsetenv("LUNETTE_DECLINE");
    unsetenv("LUNETTE_KERNELS");
    setenv("LUNETTE_CACHE", scratch_dir, 1);
}

static inline TCase *devices_case(Suite *suite, const char *name)
{
    TCase *tests = tcase_create(name);
    tcase_set_timeout(tests, 0);
    tcase_add_unchecked_fixture(tests, devices_begin, devices_end);
    tcase_add_checked_fixture(tests, devices_forget, NULL);
    suite_add_tcase(suite, tests);
    return tests;
}

/* In this process: drivers do not survive a fork. */
static inline int devices_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
