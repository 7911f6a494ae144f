#include <locale.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/base.h"
#include "base/file.h"
#include "checkpoint/json.h"
#include "checkpoint/runfolder.h"
#include "scratch.h"

#define ck_contains(part)                                                                                              \
    ck_assert_msg(strstr(lun_error_detail(), (part)) != NULL, "'%s' lacks '%s'", lun_error_detail(), part)

static char logged[4096];

static void keep_log(void *payload, lun_log_level level, const char *line)
{
    (void)payload;
    if (level == LUN_LOG_WARN)
        snprintf(logged + strlen(logged), sizeof logged - strlen(logged), "%s\n", line);
}

static void setup(void)
{
    scratch_make();
    logged[0] = 0;
    lun_log_set(keep_log, NULL, LUN_LOG_WARN);
}

static void teardown(void)
{
    lun_log_set(NULL, NULL, LUN_LOG_WARN);
    scratch_remove();
}

static lun_runfolder *open_run(bool resume)
{
    lun_runfolder *run = NULL;
    ck_assert_msg(lun_runfolder_open(scratch("run"), resume, &run) == LUN_OK, "%s", lun_error_detail());
    return run;
}

static lun_status save(const lun_runfolder *run, uint64_t step, float value, int keep)
{
    const int64_t dims[1] = {4};
    const float weights[4] = {value, value + 1, 0, -value}, moments[4] = {0, value, value, 1};
    lun_safetensors_writer *first = NULL, *second = NULL;
    LUN_TRY(lun_runfolder_checkpoint_begin(run, step, &first, &second));
    lun_safetensors_writer_metadata(first, "config", "{}");
    lun_safetensors_writer_declare(first, "weight", LUN_ST_F32, 1, dims);
    lun_safetensors_writer_declare(second, "m.weight", LUN_ST_F32, 1, dims);
    lun_safetensors_writer_data(second, moments, sizeof moments);
    lun_safetensors_writer_data(first, weights, sizeof weights);
    return lun_runfolder_checkpoint_commit(run, step, first, second, keep);
}

static const char *weights_of(uint64_t step)
{
    char name[64];
    snprintf(name, sizeof name, "run/checkpoints/step-%08llu.safetensors", (unsigned long long)step);
    return scratch(name);
}

static const char *optimizer_of(uint64_t step)
{
    char name[64];
    snprintf(name, sizeof name, "run/checkpoints/step-%08llu.optimizer.safetensors", (unsigned long long)step);
    return scratch(name);
}

/* Flip one bit of the last byte, which is data. */
static void damage(const char *path)
{
    size_t bytes = 0;
    char *data = get_file(path, &bytes);
    data[bytes - 1] ^= 1;
    put_file(path, data, bytes);
    free(data);
}

static int64_t newest(bool with_optimizer)
{
    lun_checkpoint found = {.step = 77};
    const lun_status status = lun_runfolder_newest(scratch("run"), with_optimizer, &found);
    if (status != LUN_OK) {
        ck_assert_ptr_null(found.weights);
        return -(int64_t)status;
    }
    if (!found.weights)
        return 0;
    const int64_t step = (int64_t)found.step;
    ck_assert_str_eq(found.weights, weights_of(found.step));
    ck_assert((found.optimizer != NULL) == with_optimizer);
    if (with_optimizer)
        ck_assert_str_eq(found.optimizer, optimizer_of(found.step));
    lun_checkpoint_free(&found);
    return step;
}

START_TEST(a_folder_belongs_to_one_run)
{
    lun_runfolder *other = NULL;
    ck_assert_int_eq(lun_runfolder_open(scratch("run"), true, &other), LUN_ERR_USAGE);
    ck_contains("no run");
    ck_assert(!lun_file_exists(scratch("run")));
    ck_assert_int_eq(lun_runfolder_open("", false, &other), LUN_ERR_USAGE);

    lun_runfolder *run = open_run(false);
    ck_assert_str_eq(lun_runfolder_dir(run), scratch("run"));
    ck_assert(lun_file_exists(scratch("run/samples")) && lun_file_exists(scratch("run/checkpoints")));
    ck_assert(!lun_runfolder_holds_run(scratch("run")));
    lun_runfolder_close(run);
    run = open_run(false); /* a start that got nowhere is no obstacle */
    ck_assert_int_eq(lun_runfolder_write_text(run, "config.json", "{}\n"), LUN_OK);
    lun_runfolder_close(run);
    lun_runfolder_close(NULL);
    ck_assert_int_eq(lun_runfolder_open(scratch("run/"), false, &other), LUN_ERR_USAGE);
    ck_contains("already holds a run");
    unlink(scratch("run/config.json"));
    put_file(weights_of(3), "", 0);
    ck_assert_int_eq(lun_runfolder_open(scratch("run"), false, &other), LUN_ERR_USAGE);
    ck_assert_ptr_null(other);
    run = open_run(true);
    lun_runfolder_close(run);

    put_file(scratch("file"), "", 0);
    ck_assert_int_eq(lun_runfolder_open(scratch("file"), false, &other), LUN_ERR_STORAGE);
    ck_assert_int_eq(lun_runfolder_open(scratch("file/run"), false, &other), LUN_ERR_STORAGE);
}
END_TEST

/* Another process holds the lock; it is named, and when it dies by SIGKILL the lock is free. */
START_TEST(two_at_once_are_refused)
{
    int ready[2];
    char byte = 0, named[64];
    lun_runfolder *run = NULL;
    ck_assert_int_eq(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
        if (lun_runfolder_open(scratch("run"), false, &run) != LUN_OK || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(lun_runfolder_open(scratch("run"), false, &run), LUN_ERR_USAGE);
    snprintf(named, sizeof named, "process %ld", (long)child);
    ck_contains(named);
    ck_assert_ptr_null(run);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    run = open_run(false);
    lun_runfolder *second = NULL;
    ck_assert_int_eq(lun_runfolder_open(scratch("run"), false, &second), LUN_ERR_USAGE);
    snprintf(named, sizeof named, "process %ld", (long)getpid());
    ck_contains(named);
    lun_runfolder_close(run);
    close(ready[0]);
    close(ready[1]);
}
END_TEST

START_TEST(checkpoints_come_and_go)
{
    lun_runfolder *run = open_run(false);
    ck_assert_int_eq(newest(true), 0);
    put_file(optimizer_of(5), "lone", 4);   /* of a process that died between the two files */
    put_file(optimizer_of(900), "lone", 4); /* not older: not judged */
    put_file(scratch("run/checkpoints/step-1.safetensors"), "x", 1);
    put_file(scratch("run/checkpoints/step-00000001.safetensors.old"), "x", 1);
    put_file(scratch("run/checkpoints/notes.txt"), "x", 1);
    for (uint64_t step = 100; step <= 500; step += 100) {
        ck_assert_msg(save(run, step, (float)step, 3) == LUN_OK, "%s", lun_error_detail());
        ck_assert_int_eq(newest(true), (int64_t)step);
        ck_assert_int_eq(newest(false), (int64_t)step);
    }
    ck_assert(!lun_file_exists(optimizer_of(5)) && lun_file_exists(optimizer_of(900)));
    ck_assert(!lun_file_exists(weights_of(200)) && !lun_file_exists(optimizer_of(200)));
    for (uint64_t step = 300; step <= 500; step += 100)
        ck_assert(lun_file_exists(weights_of(step)) && lun_file_exists(optimizer_of(step)));
    ck_assert_int_eq(count_entries(scratch("run/checkpoints")), 6 + 4);
    ck_assert_int_eq(save(run, 600, 1, 0), LUN_OK); /* one stays, whatever is asked */
    ck_assert_int_eq(count_entries(scratch("run/checkpoints")), 2 + 4);
    ck_assert_int_eq(newest(true), 600);
    ck_assert_int_eq(save(run, 123456789, 1, 10), LUN_OK); /* nine digits */
    ck_assert_int_eq(newest(true), 123456789);
    ck_assert_int_eq(save(run, 700, 1, 1), LUN_OK); /* resumed from earlier: the later one is not counted */
    ck_assert(lun_file_exists(weights_of(123456789)) && !lun_file_exists(weights_of(600)));
    ck_assert(lun_file_exists(weights_of(700)) && lun_file_exists(optimizer_of(700)));
    ck_assert_str_eq(logged, "");
    lun_runfolder_close(run);
}
END_TEST

START_TEST(damaged_checkpoints_are_passed_over)
{
    lun_runfolder *run = open_run(false);
    for (uint64_t step = 1; step <= 8; step++)
        ck_assert_int_eq(save(run, step, (float)step, 99), LUN_OK);
    damage(weights_of(8));
    ck_assert_int_eq(newest(true), 7);
    ck_assert_ptr_nonnull(strstr(logged, "tensor 'weight': damaged"));
    unlink(optimizer_of(7));
    ck_assert_int_eq(newest(true), 6);
    ck_assert_int_eq(newest(false), 7);
    damage(optimizer_of(6));
    ck_assert_int_eq(newest(true), 5);
    /* Files of different steps, under each other's names */
    unlink(optimizer_of(5));
    ck_assert_int_eq(link(optimizer_of(4), optimizer_of(5)), 0);
    ck_assert_int_eq(newest(true), 4);
    unlink(weights_of(4));
    unlink(optimizer_of(4));
    ck_assert_int_eq(link(weights_of(3), weights_of(4)), 0);
    ck_assert_int_eq(link(optimizer_of(3), optimizer_of(4)), 0); /* a pair, under a step that is not its own */
    ck_assert_int_eq(newest(true), 3);
    ck_assert_ptr_nonnull(strstr(logged, "lunette.step in its metadata is 3"));
    ck_assert_int_eq(truncate(weights_of(3), 100), 0);
    ck_assert_int_eq(newest(true), 2);
    /* The same step of another run */
    rename(weights_of(1), scratch("weights"));
    rename(optimizer_of(1), scratch("optimizer"));
    ck_assert_int_eq(save(run, 1, 50, 99), LUN_OK);
    unlink(weights_of(2));
    ck_assert_int_eq(mkfifo(weights_of(2), 0600), 0);
    ck_assert_int_eq(newest(true), 1);
    ck_assert_int_eq(rename(scratch("optimizer"), optimizer_of(1)), 0);
    logged[0] = 0;
    ck_assert_int_eq(newest(true), -(int64_t)LUN_ERR_CHECKPOINT);
    ck_contains("8 checkpoints");
    ck_assert_ptr_nonnull(strstr(logged, "lunette.pair"));
    lun_runfolder_close(run);
}
END_TEST

/* With two averages, whose numbers are `value` too. */
static lun_status save_averages(const lun_runfolder *run, uint64_t step, float value, int keep)
{
    static const double rates[] = {0.9999, 0.5};
    const int64_t dims[1] = {1};
    lun_safetensors_writer *writers[4] = {NULL};
    LUN_TRY(lun_runfolder_checkpoint_begin_with(run, step, rates, 2, &writers[0], &writers[1], &writers[2]));
    for (int i = 0; i < 4; i++) {
        lun_safetensors_writer_declare(writers[i], "weight", LUN_ST_F32, 1, dims);
        lun_safetensors_writer_data(writers[i], &value, sizeof value);
    }
    return lun_runfolder_checkpoint_commit_with(run, step, writers[0], writers[1], writers + 2, 2, keep);
}

static const char *average_of(uint64_t step, const char *rate)
{
    char name[96];
    snprintf(name, sizeof name, "run/checkpoints/step-%08llu.ema-%s.safetensors", (unsigned long long)step, rate);
    return scratch(name);
}

START_TEST(averages_belong_to_checkpoints)
{
    lun_runfolder *run = open_run(false);
    put_file(average_of(5, "0.9"), "lone", 4);
    put_file(optimizer_of(5), "lone", 4);      /* written first, removed last: it leads to the averages */
    put_file(average_of(100, "0.25"), "x", 1); /* of an older run of that step: not listed, and goes with it */
    put_file(average_of(100, "0.50"), "x", 1); /* no name of ours */
    ck_assert_msg(save_averages(run, 100, 1, 2) == LUN_OK, "%s", lun_error_detail());
    ck_assert(!lun_file_exists(average_of(5, "0.9")) && !lun_file_exists(optimizer_of(5)));
    lun_checkpoint c;
    ck_assert_int_eq(lun_runfolder_newest(scratch("run"), false, &c), LUN_OK);
    ck_assert(c.averages == 2 && c.rate[0] == 0.9999 && c.rate[1] == 0.5);
    ck_assert_str_eq(c.average[0], average_of(100, "0.9999"));
    ck_assert_str_eq(c.average[1], average_of(100, "0.5"));
    lun_checkpoint_free(&c);
    ck_assert(c.averages == 0 && !c.weights && !c.average[0]);
    for (uint64_t step = 200; step <= 400; step += 100)
        ck_assert_int_eq(save_averages(run, step, (float)step, 2), LUN_OK);
    ck_assert(!lun_file_exists(average_of(100, "0.9999")) && !lun_file_exists(average_of(100, "0.25")));
    ck_assert(lun_file_exists(average_of(100, "0.50")) && !lun_file_exists(average_of(200, "0.5")));
    ck_assert_int_eq(count_entries(scratch("run/checkpoints")), 2 * 4 + 1);
    ck_assert_str_eq(logged, "");
    /* each of them is a part */
    damage(average_of(400, "0.5"));
    ck_assert_int_eq(newest(false), 300);
    put_file(average_of(400, "0.5"), "", 0);
    ck_assert_int_eq(newest(true), 300);
    size_t bytes = 0;
    char *data = get_file(average_of(300, "0.9999"), &bytes);
    put_file(average_of(400, "0.5"), data, bytes);
    free(data);
    ck_assert_int_eq(newest(true), 300);
    unlink(average_of(300, "0.9999"));
    ck_assert_int_eq(newest(true), -(int64_t)LUN_ERR_CHECKPOINT);
    lun_runfolder_close(run);

    lun_safetensors_writer *w = NULL, *o = NULL, *a[2] = {NULL};
    run = open_run(true);
    ck_assert_int_eq(lun_runfolder_checkpoint_begin_with(run, 1, (double[]){1.0 / 3}, 1, &w, &o, a), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_runfolder_checkpoint_begin_with(run, 1, NULL, LUN_RUNFOLDER_AVERAGES + 1, &w, &o, a),
                     LUN_ERR_USAGE);
    ck_assert(!w && !o && !a[0]);
    lun_runfolder_close(run);
}
END_TEST

START_TEST(the_same_training_gives_the_same_bytes)
{
    size_t a = 0, b = 0;
    lun_runfolder *run = open_run(false);
    ck_assert_int_eq(save(run, 9, 2.5f, 1), LUN_OK);
    char *first = get_file(weights_of(9), &a);
    ck_assert_int_eq(save(run, 9, 2.5f, 1), LUN_OK);
    char *second = get_file(weights_of(9), &b);
    ck_assert_uint_eq(a, b);
    ck_assert_mem_eq(first, second, a);
    free(first);
    free(second);
    lun_runfolder_close(run);
}
END_TEST

/* The optimiser's file fits, the weights' does not: what was there before stays the newest. */
START_TEST(a_full_disk_keeps_older_checkpoints)
{
    lun_runfolder *run = open_run(false);
    ck_assert_int_eq(save(run, 1, 1, 1), LUN_OK);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {50000, 50000};
        static const float data[1 << 15];
        const int64_t many[1] = {1 << 15}, few[1] = {2};
        lun_safetensors_writer *weights = NULL, *optimizer = NULL;
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        if (lun_runfolder_checkpoint_begin(run, 2, &weights, &optimizer) != LUN_OK)
            _exit(1);
        lun_safetensors_writer_declare(weights, "w", LUN_ST_F32, 1, many);
        lun_safetensors_writer_declare(optimizer, "m", LUN_ST_F32, 1, few);
        if (lun_safetensors_writer_data(optimizer, data, 8) != LUN_OK)
            _exit(2);
        if (lun_safetensors_writer_data(weights, data, sizeof data) != LUN_ERR_STORAGE)
            _exit(3);
        _exit(lun_runfolder_checkpoint_commit(run, 2, weights, optimizer, 1) != LUN_OK ? 0 : 4);
    }
    int how = 0;
    waitpid(child, &how, 0);
    ck_assert(WIFEXITED(how));
    ck_assert_int_eq(WEXITSTATUS(how), 0);
    ck_assert_int_eq(newest(true), 1);
    ck_assert_int_eq(count_entries(scratch("run/checkpoints")), 2);
    lun_runfolder_close(run);
}
END_TEST

START_TEST(leftover_temporaries_go_on_resume)
{
    const pid_t dead = fork();
    if (dead == 0)
        _exit(0);
    waitpid(dead, NULL, 0);
    lun_runfolder *run = open_run(false);
    ck_assert_int_eq(save(run, 1, 1, 1), LUN_OK);
    lun_runfolder_close(run);
    char name[128];
    snprintf(name, sizeof name, "run/checkpoints/.step-00000002.safetensors.tmp.%ld", (long)dead);
    put_file(scratch(name), "half", 4);
    ck_assert_int_eq(newest(true), 1);
    run = open_run(true);
    ck_assert_int_eq(count_entries(scratch("run/checkpoints")), 2);
    lun_runfolder_close(run);
}
END_TEST

START_TEST(the_log_is_cut_at_a_step)
{
    lun_runfolder *run = open_run(false);
    ck_assert_int_eq(lun_runfolder_truncate_log(run, 3), LUN_OK); /* none yet */
    ck_assert(!lun_file_exists(scratch("run/log.jsonl")));
    for (int step = 1; step <= 5; step++) {
        char line[64];
        snprintf(line, sizeof line, "{\"step\":%d,\"loss\":0.5}", step);
        ck_assert_int_eq(lun_runfolder_append_log(run, line), LUN_OK);
    }
    struct stat before, after;
    stat(scratch("run/log.jsonl"), &before);
    ck_assert_int_eq(lun_runfolder_truncate_log(run, 5), LUN_OK);
    stat(scratch("run/log.jsonl"), &after);
    ck_assert(before.st_ino == after.st_ino); /* nothing to do, nothing written */
    ck_assert_str_eq(logged, "");
    FILE *file = fopen(scratch("run/log.jsonl"), "a");
    fputs("nonsense\n{\"loss\":1}\n\n{\"step\":2,\"loss\":", file);
    fclose(file);
    ck_assert_int_eq(lun_runfolder_truncate_log(run, 2), LUN_OK);
    char *text = get_file(scratch("run/log.jsonl"), NULL);
    ck_assert_str_eq(text, "{\"step\":1,\"loss\":0.5}\n{\"step\":2,\"loss\":0.5}\n");
    ck_assert_ptr_nonnull(strstr(logged, "dropped"));
    free(text);
    ck_assert_int_eq(lun_runfolder_append_log(run, "{\"step\":3}"), LUN_OK);
    ck_assert_int_eq(lun_runfolder_truncate_log(run, 0), LUN_OK);
    text = get_file(scratch("run/log.jsonl"), NULL);
    ck_assert_str_eq(text, "");
    free(text);
    lun_runfolder_close(run);
}
END_TEST

START_TEST(json_says_what_is_wrong)
{
    static const char text[] =
        "{\"i\":5,\"r\":0.25,\"s\":\"x\",\"b\":true,\"u\":\"18446744073709551615\",\"o\":{},\"a\":[1],\"bad\":\"12x\"}";
    static const char *const keys[] = {"i", "r", "s", "b", "u", "o", "a", NULL};
    const lun_json_from from = {"config", LUN_ERR_USAGE};
    json_t *json = NULL, *inner = NULL;
    int64_t number = 0;
    uint64_t wide = 0;
    double real = 0;
    bool truth = false;
    const char *string = NULL;
    ck_assert_int_eq(lun_json_parse(from, text, sizeof text - 1, &lun_json_usual, &json), LUN_OK);
    ck_assert_int_eq(lun_json_get_int(from, json, "i", 0, 5, &number), LUN_OK);
    ck_assert_int_eq(number, 5);
    ck_assert_int_eq(lun_json_get_int(from, json, "i", 0, 4, &number), LUN_ERR_USAGE);
    ck_assert_str_eq(lun_error_detail(), "config: 'i' is 5, must lie between 0 and 4");
    ck_assert_int_eq(lun_json_get_int(from, json, "r", 0, 4, &number), LUN_ERR_USAGE);
    ck_assert_str_eq(lun_error_detail(), "config: 'r' must be an integer, not a real number");
    ck_assert_int_eq(lun_json_get_real(from, json, "r", 0, 1, &real), LUN_OK);
    ck_assert_double_eq(real, 0.25);
    ck_assert_int_eq(lun_json_get_real(from, json, "i", 0, 9, &real), LUN_OK);
    ck_assert_double_eq(real, 5);
    ck_assert_int_eq(lun_json_get_real(from, json, "r", 0.5, 1, &real), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_json_get_string(from, json, "s", &string), LUN_OK);
    ck_assert_str_eq(string, "x");
    ck_assert_int_eq(lun_json_get_string(from, json, "none", &string), LUN_ERR_USAGE);
    ck_assert_str_eq(lun_error_detail(), "config: 'none' is missing");
    ck_assert_int_eq(lun_json_get_bool(from, json, "b", &truth), LUN_OK);
    ck_assert(truth);
    ck_assert_int_eq(lun_json_get_bool(from, json, "i", &truth), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_json_get_u64(from, json, "u", &wide), LUN_OK);
    ck_assert(wide == UINT64_MAX);
    ck_assert_int_eq(lun_json_get_u64(from, json, "i", &wide), LUN_OK);
    ck_assert_int_eq(lun_json_get_u64(from, json, "bad", &wide), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_json_get_object(from, json, "o", &inner), LUN_OK);
    ck_assert_int_eq(lun_json_get_object(from, json, "a", &inner), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_json_get_array(from, json, "a", &inner), LUN_OK);
    ck_assert_int_eq(lun_json_check_keys(from, json, keys), LUN_ERR_USAGE);
    ck_contains("unknown key 'bad'");
    ck_assert(lun_json_has(json, "bad") && !lun_json_has(json, "none"));
    json_object_del(json, "bad");
    ck_assert_int_eq(lun_json_check_keys(from, json, keys), LUN_OK);
    json_decref(json);

    static const char *const bad[] = {"",
                                      "[]",
                                      "{}x",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":1,\"\\u0061\":2}",
                                      "{\"a\":nan}",
                                      "[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]",
                                      "{\"a\":1e999}",
                                      "{\"a\":\"\xff\"}"};
    for (size_t i = 0; i < LUN_COUNT(bad); i++) {
        json = NULL;
        ck_assert_int_eq(lun_json_parse(from, bad[i], strlen(bad[i]), &lun_json_usual, &json), LUN_ERR_USAGE);
        ck_assert_ptr_null(json);
    }
    ck_assert_int_eq(lun_json_read(scratch("none"), LUN_ERR_USAGE, &json), LUN_ERR_USAGE);
}
END_TEST

START_TEST(json_round_trips_in_any_locale)
{
    /* A locale with a decimal comma, where the system has one. */
    static const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "C"};
    for (size_t i = 0; i < LUN_COUNT(locales) && !setlocale(LC_ALL, locales[i]); i++)
        ;
    const lun_json_from from = {"text", LUN_ERR_DATA};
    json_t *json = json_object(), *back = NULL;
    json_object_set_new(json, "lr", lun_json_real(0.1));
    json_object_set_new(json, "nan", lun_json_real(NAN));
    json_object_set_new(json, "small", lun_json_u64(7));
    json_object_set_new(json, "large", lun_json_u64(UINT64_C(12345678901234567890)));
    char *text = lun_json_text(json, 0);
    ck_assert_ptr_null(strchr(text, '\n'));
    ck_assert_int_eq(lun_json_parse(from, text, strlen(text), &lun_json_usual, &back), LUN_OK);
    double real = 0;
    uint64_t small = 0, large = 0;
    ck_assert_int_eq(lun_json_get_real(from, back, "lr", 0, 1, &real), LUN_OK);
    ck_assert(real == 0.1);
    ck_assert(json_is_null(json_object_get(back, "nan")));
    ck_assert_int_eq(lun_json_get_u64(from, back, "small", &small), LUN_OK);
    ck_assert_int_eq(lun_json_get_u64(from, back, "large", &large), LUN_OK);
    ck_assert(small == 7 && large == UINT64_C(12345678901234567890));
    setlocale(LC_ALL, "C");
    free(text);
    json_decref(back);
    json_decref(json);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("runfolder");
    TCase *tests = tcase_create("runfolder");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_folder_belongs_to_one_run);
    tcase_add_test(tests, two_at_once_are_refused);
    tcase_add_test(tests, checkpoints_come_and_go);
    tcase_add_test(tests, damaged_checkpoints_are_passed_over);
    tcase_add_test(tests, averages_belong_to_checkpoints);
    tcase_add_test(tests, the_same_training_gives_the_same_bytes);
    tcase_add_test(tests, a_full_disk_keeps_older_checkpoints);
    tcase_add_test(tests, leftover_temporaries_go_on_resume);
    tcase_add_test(tests, the_log_is_cut_at_a_step);
    tcase_add_test(tests, json_says_what_is_wrong);
    tcase_add_test(tests, json_round_trips_in_any_locale);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
