/* Whatever reads and writes files, with each of its allocations and each of its calls to the system failing in turn: no
 * crash, an error that says something, what was there before is still whole, and the same thing succeeds once nothing
 * fails. Calls from this program's own objects and from jansson go through counters here (the linker's --wrap). */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <jansson.h>
#include <lunette/data.h>

#include "base/base.h"
#include "base/file.h"
#include "base/folder.h"
#include "checkpoint/runfolder.h"
#include "data/picture.h"
#include "device/driver.h"
#include "device/tune.h"
#include "scratch.h"
#include "small_config.h"
#include "train/config.h"

typedef enum way { NOTHING, MEMORY, SYSTEM } way;
static way failing;
static atomic_long left; /* until the one that fails */
static int error;        /* what a call to the system fails with */

static bool fails(way what)
{
    if (failing != what || atomic_fetch_sub(&left, 1) != 1)
        return false;
    errno = what == MEMORY ? ENOMEM : error;
    return true;
}

#define WRAP(what, bad, type, name, parameters, arguments)                                                             \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters                                                                                      \
    {                                                                                                                  \
        return fails(what) ? (bad) : __real_##name arguments;                                                          \
    }
WRAP(MEMORY, NULL, void *, malloc, (size_t bytes), (bytes))
WRAP(MEMORY, NULL, void *, calloc, (size_t count, size_t bytes), (count, bytes))
WRAP(MEMORY, NULL, void *, realloc, (void *old, size_t bytes), (old, bytes))

#define BOTH(what, bad, type, name, parameters, arguments)                                                             \
    WRAP(what, bad, type, name, parameters, arguments)                                                                 \
    WRAP(what, bad, type, name##64, parameters, arguments)
BOTH(SYSTEM, -1, ssize_t, pwrite, (int fd, const void *data, size_t bytes, off_t offset), (fd, data, bytes, offset))
BOTH(SYSTEM, -1, ssize_t, pread, (int fd, void *data, size_t bytes, off_t offset), (fd, data, bytes, offset))
BOTH(SYSTEM, -1, int, fstat, (int fd, struct stat *st), (fd, st))
BOTH(SYSTEM, -1, int, ftruncate, (int fd, off_t bytes), (fd, bytes))
WRAP(SYSTEM, -1, ssize_t, read, (int fd, void *data, size_t bytes), (fd, data, bytes))
WRAP(SYSTEM, -1, ssize_t, write, (int fd, const void *data, size_t bytes), (fd, data, bytes))
WRAP(SYSTEM, -1, int, renameat, (int from, const char *old, int to, const char *name), (from, old, to, name))
WRAP(SYSTEM, -1, int, rename, (const char *old, const char *name), (old, name))
WRAP(SYSTEM, -1, int, mkdir, (const char *name, mode_t mode), (name, mode))
WRAP(SYSTEM, -1, int, mkdirat, (int at, const char *name, mode_t mode), (at, name, mode))
WRAP(SYSTEM, -1, int, flock, (int fd, int how), (fd, how))
WRAP(SYSTEM, NULL, DIR *, opendir, (const char *name), (name))
WRAP(SYSTEM, NULL, DIR *, fdopendir, (int fd), (fd))
WRAP(SYSTEM, NULL, FILE *, fdopen, (int fd, const char *mode), (fd, mode))

/* Nothing here is cut off from power, and thousands of syncs would take their time. */
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    (void)fd;
    return fails(SYSTEM) ? -1 : 0;
}

#define OPENS(name, at_parameter, at_argument)                                                                         \
    int __real_##name(at_parameter const char *path, int flags, ...);                                                  \
    int __wrap_##name(at_parameter const char *path, int flags, ...);                                                  \
    int __wrap_##name(at_parameter const char *path, int flags, ...)                                                   \
    {                                                                                                                  \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        const mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;                                                \
        va_end(list);                                                                                                  \
        return fails(SYSTEM) ? -1 : __real_##name(at_argument path, flags, mode);                                      \
    }
#define AT int at,
#define IN at,
OPENS(open, , )
OPENS(open64, , )
OPENS(openat, AT, IN)
OPENS(openat64, AT, IN)

/* ---- What is done ---- */

static const double rates[2] = {0.5, 0.99};
static const int64_t dims[1] = {4};

static lun_status write_a_file(void)
{
    static char block[70000];
    lun_file *file = NULL;
    int fd = -1;
    memset(block, 'x', sizeof block);
    LUN_TRY(lun_file_create(scratch("file"), &file));
    lun_file_make_private(file);
    lun_file_write(file, block, 10);
    lun_file_write(file, block, sizeof block); /* beyond the buffer */
    lun_file_patch(file, 2, "abc", 3);
    const lun_status status = lun_file_commit_open(file, &fd);
    if (fd >= 0)
        close(fd);
    return status;
}

static lun_status read_a_file(void)
{
    char *text = NULL;
    size_t bytes = 0;
    LUN_TRY(lun_file_read(scratch("file"), 100000, LUN_ERR_DATA, &text, &bytes));
    free(text);
    return LUN_OK;
}

static lun_status make_a_folder(void)
{
    static int number;
    char name[32];
    lun_folder *folder = NULL;
    snprintf(name, sizeof name, "deep/made%d", number++);
    LUN_TRY(lun_make_dirs(scratch("deep/er/down")));
    LUN_TRY(lun_append_line(scratch("deep/log"), "a line"));
    LUN_TRY(lun_folder_create(scratch(name), &folder));
    lun_status status = lun_folder_add(folder, "part");
    if (status != LUN_OK) {
        lun_folder_discard(folder);
        return status;
    }
    LUN_TRY(lun_folder_commit(folder));
    lun_folder *other = NULL;
    LUN_TRY(lun_folder_create(scratch("deep/other"), &other));
    lun_folder_add(other, "part");
    lun_folder_discard(other);
    return LUN_OK;
}

static lun_status fill(lun_safetensors_writer *writer, const char *name)
{
    const float values[4] = {0, 1, 2, 3};
    LUN_TRY(lun_safetensors_writer_metadata(writer, "a key", "a value"));
    LUN_TRY(lun_safetensors_writer_declare(writer, name, LUN_ST_F32, 1, dims));
    return lun_safetensors_writer_data(writer, values, sizeof values);
}

static lun_status save(const lun_runfolder *run, uint64_t step)
{
    lun_safetensors_writer *weights = NULL, *optimizer = NULL, *averages[2] = {NULL};
    LUN_TRY(lun_runfolder_checkpoint_begin_with(run, step, rates, 2, &weights, &optimizer, averages));
    lun_status status = fill(weights, "weight");
    if (status == LUN_OK)
        status = fill(optimizer, "m.weight");
    for (int i = 0; i < 2 && status == LUN_OK; i++)
        status = fill(averages[i], "weight");
    if (status != LUN_OK) {
        lun_safetensors_writer_discard(weights);
        lun_safetensors_writer_discard(optimizer);
        for (int i = 0; i < 2; i++)
            lun_safetensors_writer_discard(averages[i]);
        return status;
    }
    return lun_runfolder_checkpoint_commit_with(run, step, weights, optimizer, averages, 2, 1);
}

static lun_status work_in_a_run(void)
{
    lun_runfolder *run = NULL;
    const char *path = scratch("run");
    LUN_TRY(lun_runfolder_open(path, lun_runfolder_holds_run(path), &run));
    lun_status status = lun_runfolder_write_text(run, "config.json", "{}\n");
    if (status == LUN_OK)
        status = lun_runfolder_append_log(run, "{\"step\": 1}");
    for (uint64_t step = 1; step <= 2 && status == LUN_OK; step++)
        status = save(run, step);
    if (status == LUN_OK)
        status = lun_runfolder_append_log(run, "{\"step\": 9}");
    if (status == LUN_OK)
        status = lun_runfolder_truncate_log(run, 1);
    lun_runfolder_close(run);
    return status;
}

static lun_status find_the_newest(void)
{
    lun_checkpoint found;
    LUN_TRY(lun_runfolder_newest(scratch("run"), true, &found));
    const uint64_t step = found.step;
    lun_checkpoint_free(&found);
    return step == 2 ? LUN_OK : lun_fail(LUN_ERR_CHECKPOINT, "step %d is not the newest", (int)step);
}

static lun_status write_tensors(const char *path)
{
    const uint16_t halves[3] = {0x3c00, 0xc000, 0x0001};
    const int64_t three[1] = {3}, wide[1] = {40000};
    static int32_t numbers[40000];
    lun_safetensors_writer *writer = NULL;
    LUN_TRY(lun_safetensors_writer_create(path, &writer));
    lun_status status = lun_safetensors_writer_metadata(writer, "a", "b");
    if (status == LUN_OK)
        status = lun_safetensors_writer_declare(writer, "numbers", LUN_ST_I32, 1, wide);
    for (int i = 0; i < 70 && status == LUN_OK; i++) { /* more than there is room for at first */
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        status = lun_safetensors_writer_declare(writer, name, LUN_ST_F16, 1, three);
    }
    if (status == LUN_OK)
        status = lun_safetensors_writer_data(writer, numbers, sizeof numbers);
    for (int i = 0; i < 70 && status == LUN_OK; i++)
        status = lun_safetensors_writer_data(writer, halves, sizeof halves);
    if (status != LUN_OK) {
        lun_safetensors_writer_discard(writer);
        return status;
    }
    return lun_safetensors_writer_commit(writer);
}

static lun_status save_tensors(void)
{
    return write_tensors(scratch("tensors"));
}

static lun_status load_tensors(void)
{
    static int64_t numbers[40000];
    lun_safetensors *file = NULL;
    float values[3];
    LUN_TRY(lun_safetensors_open(scratch("tensors"), &file));
    lun_status status = lun_safetensors_verify(file, 1);
    if (status == LUN_OK)
        status = lun_safetensors_read_f32(file, (size_t)lun_safetensors_find(file, "7"), values, 3);
    if (status == LUN_OK)
        status = lun_safetensors_read_i64(file, (size_t)lun_safetensors_find(file, "numbers"), numbers, 40000);
    lun_safetensors_close(file);
    return status;
}

static const char *case_file(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/pictures/%s", getenv("LUN_TEST_SOURCE"), name);
    return path;
}

static lun_status load_pictures(void)
{
    static const char *const names[] = {"grey16-i.png",         "palette2-trns.png", "rgb8.png",
                                        "jpeg-progressive.jpg", "jpeg-cmyk.jpg",     "orient-6.jpg"};
    for (size_t i = 0; i < LUN_COUNT(names); i++) {
        if (strstr(names[i], ".jpg") && !lun_jpeg_version())
            continue;
        for (int channels = 1; channels <= 4; channels += channels == 1 ? 2 : 1) {
            lun_picture picture = {0}, small = {0};
            lun_status status = lun_picture_load_as(case_file(names[i]), 1, channels, &picture);
            if (status == LUN_OK)
                status = lun_picture_fit(&picture, LUN_FIT_CROP, 5, 7, &small);
            lun_picture_free(&picture);
            lun_picture_free(&small);
            LUN_TRY(status);
        }
    }
    return LUN_OK;
}

static void put_pictures(void)
{
    static const char *const names[] = {"a/1.png", "a/2.png", "b/1.png", "b/deep/2.png"};
    size_t bytes = 0;
    char *data = get_file(case_file("rgb8.png"), &bytes);
    mkdir(scratch("pictures"), 0755);
    mkdir(scratch("pictures/a"), 0755);
    mkdir(scratch("pictures/b"), 0755);
    mkdir(scratch("pictures/b/deep"), 0755);
    for (size_t i = 0; i < LUN_COUNT(names); i++) {
        char name[64];
        snprintf(name, sizeof name, "pictures/%s", names[i]);
        put_file(scratch(name), data, bytes);
    }
    free(data);
}

static lun_status open_pictures(const char *cache)
{
    lun_dataset *set = NULL;
    lun_folder_survey survey;
    float images[2 * 3 * 4 * 4];
    const uint32_t index[2] = {3, 0};
    LUN_TRY(lun_folder_look(scratch("pictures"), &survey));
    const lun_dataset_params params = {.folder = scratch("pictures"),
                                       .width = 4,
                                       .height = 4,
                                       .fit = LUN_FIT_COVER,
                                       .labels = 1,
                                       .threads = 1,
                                       .cache = cache};
    LUN_TRY(lun_dataset_open(&params, &set));
    lun_status status = lun_dataset_images(set, index, 2, images);
    if (status == LUN_OK && lun_dataset_count(set) != 4)
        status = lun_fail(LUN_ERR_DATA, "%zu pictures", lun_dataset_count(set));
    lun_dataset_close(&set);
    return status;
}

static lun_status open_in_memory(void)
{
    return open_pictures(NULL);
}

static lun_status open_in_a_cache(void)
{
    return open_pictures(scratch("cache/decoded"));
}

static lun_status describe_a_run(char **text)
{
    lun_run_record in;
    memset(&in, 0, sizeof in);
    LUN_TRY(lun_train_preset("notebook", &in.config));
    in.length.epochs = 5;
    in.config.ema_count = 1;
    in.config.ema_rate[0] = 0.5;
    *text = lun_run_record_text(&in);
    return *text ? LUN_OK : LUN_ERR_MEMORY;
}

static lun_status tell_a_record(void)
{
    char *text = NULL;
    LUN_TRY(describe_a_run(&text));
    const bool whole = strstr(text, "0.5") && strstr(text, "64") && strstr(text, "\"epochs\": 5");
    free(text);
    return whole ? LUN_OK : lun_fail(LUN_ERR_USAGE, "the text lacks something");
}

static lun_status keep_a_record(void)
{
    lun_run_record out;
    char *text = NULL;
    LUN_TRY(describe_a_run(&text));
    lun_file *file = NULL;
    lun_status status = lun_file_create(scratch("config.json"), &file);
    if (status == LUN_OK) {
        lun_file_write(file, text, strlen(text));
        status = lun_file_commit(file);
    }
    free(text);
    LUN_TRY(status);
    LUN_TRY(lun_run_record_read(scratch_dir, &out));
    const bool same = out.config.ema_count == 1 && out.length.epochs == 5;
    lun_run_record_free(&out);
    return same ? LUN_OK : lun_fail(LUN_ERR_USAGE, "config.json lost something");
}

static lun_device *device;

static lun_status keep_choices(void)
{
    lun_tuning *tuning = NULL;
    LUN_TRY(lun_tuning_open(device, &tuning));
    lun_status status = LUN_OK;
    for (int i = 0; i < 70 && status == LUN_OK; i++) {
        char op[64];
        snprintf(op, sizeof op, "conv2d %d", i);
        status = lun_tuning_set(tuning, op, "direct", 1);
    }
    if (status == LUN_OK)
        lun_tuning_keep(tuning); /* a cache: what cannot be kept is measured again */
    lun_tuning_close(&tuning);
    return status;
}

/* ---- In each way ---- */

static void quiet(void *payload, lun_log_level level, const char *line)
{
    (void)payload, (void)level, (void)line;
}

/* Fail the first, the second, ... allocation or call of `act`, until there is none left to fail; how many there were.
 */
static long starve(const char *name, way what, lun_status (*act)(void))
{
    long count = 0;
    for (long at = 1;; at++) {
        atomic_store(&left, at);
        error = at % 2 ? EIO : ENOSPC;
        failing = what;
        lun_fail(LUN_ERR_INTERNAL, "nothing was said");
        const lun_status status = act();
        failing = NOTHING;
        const bool met = atomic_load(&left) <= 0;
        if (status != LUN_OK) {
            ck_assert_msg(met, "%s: fails without a fault: %s", name, lun_error_detail());
            ck_assert_msg(strcmp(lun_error_detail(), "nothing was said") != 0, "%s: silent at %ld", name, at);
            ck_assert_msg(status != LUN_ERR_INTERNAL, "%s at %ld: %s", name, at, lun_error_detail());
            /* A file that cannot be read back for want of memory was not written for sure. */
            if (what == MEMORY && status != LUN_ERR_MEMORY)
                ck_assert_msg(strstr(lun_error_detail(), "out of memory") != NULL, "%s at %ld: %s", name, at,
                              lun_error_detail());
        }
        if (!met)
            return count;
        count++;
        ck_assert_msg(act() == LUN_OK, "%s, after a failure at %ld: %s", name, at, lun_error_detail());
    }
}

/* jansson 2.14 ends the process by an assertion where the buffer of a string that it parses cannot grow (load.c,
 * lex_scan_string): what parses is starved of our own memory only. */
static const struct {
    const char *name;
    lun_status (*act)(void);
    long least; /* so many allocations and calls together, or the counters see nothing */
    bool jansson;
} acts[] = {{"write a file", write_a_file, 8, false},        {"read a file", read_a_file, 3, false},
            {"make a folder", make_a_folder, 20, false},     {"work in a run", work_in_a_run, 200, false},
            {"find the newest", find_the_newest, 50, false}, {"save tensors", save_tensors, 100, true},
            {"load tensors", load_tensors, 50, false},       {"load pictures", load_pictures, 50, false},
            {"open pictures", open_in_memory, 50, false},    {"open pictures, cached", open_in_a_cache, 50, false},
            {"keep a record", keep_a_record, 15, false},     {"tell a record", tell_a_record, 100, true},
            {"keep choices", keep_choices, 70, false}};

static bool jansson_too;

/* As src/checkpoint/json.c has it: with this program's malloc(). */
static json_malloc_t our_json_malloc;

static void *json_malloc(size_t bytes)
{
    return jansson_too ? our_json_malloc(bytes) : __real_malloc(bytes);
}

START_TEST(one_failure)
{
    const size_t i = (size_t)_i;
    jansson_too = acts[i].jansson;
    OK(acts[i].act());
    long count = starve(acts[i].name, MEMORY, acts[i].act);
    count += starve(acts[i].name, SYSTEM, acts[i].act);
    ck_assert_msg(count >= acts[i].least, "%s: only %ld failures", acts[i].name, count);
}
END_TEST

static void begin(void)
{
    failing = NOTHING;
    scratch_make();
    setenv("LUNETTE_CACHE", scratch("cache"), 1);
    unsetenv("LUNETTE_KERNELS");
    OK(lun_device_open("cpu", &(lun_device_params){.threads = 1}, &device));
    OK(write_a_file());
    OK(work_in_a_run());
    OK(save_tensors());
    put_pictures();
    lun_log_set(quiet, NULL, LUN_LOG_WARN);
}

static void end(void)
{
    lun_log_set(NULL, NULL, LUN_LOG_WARN);
    lun_device_close(&device);
    scratch_remove();
}

int main(void)
{
    json_get_alloc_funcs(&our_json_malloc, &(json_free_t){NULL});
    json_set_alloc_funcs(json_malloc, free);
    Suite *suite = suite_create("starved");
    TCase *tests = tcase_create("starved");
    tcase_add_checked_fixture(tests, begin, end);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, one_failure, 0, (int)LUN_COUNT(acts));
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
