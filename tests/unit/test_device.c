/* The front door and the drivers as such; what ops compute is opcheck's to say. Parts that need an OpenCL device say
 * so on stderr and pass where there is none. LUN_TEST_SOURCE is this folder. */
#include <check.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"
#include "base/philox.h"
#include "device/auto.h"
#include "device/cache.h"
#include "device/check.h"
#include "device/driver.h"
#include "device/null.h"
#include "device_ops.h"

static char temp[256];

/* ---- helpers ---- */

#define OK(expr)          ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())
#define FAILS(want, expr) ck_assert_int_eq((expr), (want))
#define DETAIL_HAS(text)                                                                                               \
    ck_assert_msg(strstr(lun_error_detail(), text) != NULL, "no \"%s\" in: %s", text, lun_error_detail())

static int compiled, loaded, measured, tiled;

static void count_line(void *payload, lun_log_level level, const char *line)
{
    (void)payload;
    (void)level;
    compiled += strstr(line, "OpenCL: compiled ") != NULL;
    loaded += strstr(line, "OpenCL: loaded ") != NULL;
    measured += strstr(line, "auto: measuring ") != NULL;
    tiled += strncmp(line, "opencl", 6) == 0 && strstr(line, " by tile ") != NULL;
}

static void count_spec(void *payload, const lun_device_info *info)
{
    ((int *)payload)[0] += strncmp(info->spec, "opencl", 6) == 0;
    ((int *)payload)[1] += strcmp(info->spec, "cpu") == 0;
    ((int *)payload)[2] += strncmp(info->spec, "opencl", 6) == 0 && info->type == LUN_DEVICE_GPU;
}

static bool has(const char *what)
{
    int seen[3] = {0};
    lun_device_list(count_spec, seen);
    const bool have = seen[strcmp(what, "cpu") == 0] > 0;
    if (!have)
        fprintf(stderr, "no %s device: skipped\n", what);
    return have;
}

static bool has_gpu(void)
{
    int seen[3] = {0};
    lun_device_list(count_spec, seen);
    return seen[2] > 0;
}

/* A fresh folder under the temporary one. */
static char *fresh_folder(void)
{
    static int number;
    char *folder = lun_format("%s/%d", temp, number++);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    return folder;
}

static void use_fresh_cache(void)
{
    char *folder = fresh_folder();
    setenv("LUNETTE_CACHE", folder, 1);
    free(folder);
}

static void put_file(const char *path, const void *data, size_t bytes)
{
    lun_file *file = NULL;
    OK(lun_file_create(path, &file));
    OK(lun_file_write(file, data, bytes));
    OK(lun_file_commit(file));
}

/* The path of the only entry of the cache folder that begins with `name`. */
static char *cache_entry(const char *name)
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
static char *changed_kernels(const char *from, const char *to)
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

static lun_device *open_device(const char *spec)
{
    const lun_device_params params = {.threads = 2};
    lun_device *dev = NULL;
    ck_assert_msg(lun_device_open(spec, &params, &dev) == LUN_OK, "%s: %s", spec, lun_error_detail());
    return dev;
}

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

/* ---- the cache ---- */

START_TEST(cache_entries_are_checked)
{
    static const char payload[] = "seventeen bytes..";
    char *text, *read;
    size_t bytes, size;
    use_fresh_cache();
    ck_assert(!lun_cache_load("test", "a key", &read, &size));
    lun_cache_store("test", "a key", payload, 17);
    ck_assert(lun_cache_load("test", "a key", &read, &size));
    ck_assert_uint_eq(size, 17);
    ck_assert_mem_eq(read, payload, 17);
    free(read);
    ck_assert(!lun_cache_load("test", "another key", &read, &size));

    char *path = cache_entry("test-");
    OK(lun_file_read(path, 4096, LUN_ERR_DATA, &text, &bytes));
    for (size_t i = 0; i < bytes; i++) { /* every byte matters */
        text[i] ^= 0x10;
        put_file(path, text, bytes);
        ck_assert_msg(!lun_cache_load("test", "a key", &read, &size), "byte %zu", i);
        text[i] ^= 0x10;
    }
    for (size_t n = 0; n < bytes; n += 3) {
        put_file(path, text, n);
        ck_assert_msg(!lun_cache_load("test", "a key", &read, &size), "cut at %zu", n);
    }
    put_file(path, text, bytes + 1); /* one byte too many */
    ck_assert(!lun_cache_load("test", "a key", &read, &size));
    lun_cache_store("test", "a key", "", 0);
    ck_assert(lun_cache_load("test", "a key", &read, &size));
    ck_assert_uint_eq(size, 0);
    free(read);
    free(text);
    free(path);

    /* No folder, or one that cannot be made: nothing is remembered, nothing fails. */
    setenv("LUNETTE_CACHE", "/dev/null/nowhere", 1);
    lun_cache_store("test", "a key", payload, 17);
    ck_assert(!lun_cache_load("test", "a key", &read, &size));
    use_fresh_cache();
}
END_TEST

/* Plan and run relu on a device opened anew; what it took is in `compiled` and `loaded`. */
static void relu_anew(void)
{
    compiled = loaded = 0;
    lun_device *dev = open_device("opencl");
    const lun_op op = small_op(LUN_OP_RELU);
    op_run run;
    const size_t bytes = lun_bytes(op.src[0]);
    float *data = source_data(&op, 0), *back = malloc(bytes);
    OK(op_begin(dev, &op, NULL, &run));
    OK(lun_op_plan_run(run.plan));
    OK(lun_buffer_read(run.dst[0], back, bytes));
    for (size_t i = 0; i < bytes / 4; i++)
        ck_assert(back[i] == (data[i] > 0 ? data[i] : 0));
    op_end(&run);
    OK(run_once(dev, &op)); /* the same program again: neither compiled nor loaded */
    lun_device_close(&dev);
    free(data);
    free(back);
}

START_TEST(programs_are_cached)
{
    if (!has("opencl"))
        return;
    setenv("POCL_KERNEL_CACHE", "0", 1); /* else PoCL's binaries are left to its own cache */
    use_fresh_cache();
    relu_anew();
    ck_assert_int_eq(compiled, 1);
    ck_assert_int_eq(loaded, 0);
    relu_anew();
    ck_assert_int_eq(compiled, 0);
    ck_assert_int_eq(loaded, 1);

    char *path = cache_entry("opencl-"), *text;
    size_t bytes;
    OK(lun_file_read(path, 1 << 26, LUN_ERR_DATA, &text, &bytes));
    text[bytes - 100] ^= 1;
    put_file(path, text, bytes);
    relu_anew();
    ck_assert_int_eq(compiled, 1); /* and has written it anew: */
    relu_anew();
    ck_assert_int_eq(loaded, 1);
    text[bytes - 100] ^= 1;
    put_file(path, text, bytes / 2);
    relu_anew();
    ck_assert_int_eq(compiled, 1);
    put_file(path, "", 0);
    relu_anew();
    ck_assert_int_eq(compiled, 1);

    /* A sound entry whose binary the driver refuses. */
    unsigned long long key_bytes;
    const char *line = strchr(text, '\n');
    ck_assert(line && sscanf(line + 1, "%16llx", &key_bytes) == 1 && key_bytes < bytes);
    const char *key_at = strchr(line + 1, '\n') + 1;
    char *key = lun_format("%.*s", (int)key_bytes, key_at);
    lun_cache_store("opencl", key, "not a binary", 12);
    relu_anew();
    ck_assert_int_eq(compiled, 1);
    relu_anew();
    ck_assert_int_eq(loaded, 1);
    free(key);
    free(text);
    free(path);

    unsetenv("POCL_KERNEL_CACHE");
    lun_device *dev = open_device("opencl");
    const bool pocl = strstr(lun_device_get_info(dev)->platform, "Portable Computing Language") != NULL;
    lun_device_close(&dev);
    if (pocl) {
        use_fresh_cache();
        relu_anew();
        relu_anew();
        ck_assert_int_eq(loaded, 0);
        ck_assert_int_eq(rmdir(getenv("LUNETTE_CACHE")), 0); /* nothing was put there */
    }
}
END_TEST

/* ---- OpenCL ---- */

START_TEST(many_writes)
{
    if (!has("opencl"))
        return;
    enum { WRITES = 700, BIG = 5 << 20 };
    lun_device *dev = open_device("opencl");
    lun_buffer *buffer = NULL;
    const size_t words = (size_t)BIG + 1000;
    uint32_t *want = malloc(words * 4), *source = malloc(words * 4), *back = malloc(words * 4);
    OK(lun_buffer_create(dev, words * 4, &buffer));
    OK(lun_buffer_fill((lun_place){buffer, 0}, 0xdeadbeefu, words * 4));
    for (size_t i = 0; i < words; i++)
        want[i] = 0xdeadbeefu;
    for (uint32_t i = 0; i < WRITES; i++) {
        /* mostly small, some of more than the ring holds; the source is overwritten as soon as the call is back */
        const size_t count =
            i % 97 == 50 ? (size_t)BIG : 1 + lun_random_below(1, LUN_RANDOM_TEST, 1, 0, i, i % 5 == 0 ? 200000 : 300);
        const size_t at = lun_random_below(1, LUN_RANDOM_TEST, 2, 0, i, (uint32_t)(words - count + 1));
        for (size_t j = 0; j < count; j++)
            want[at + j] = source[j] = (uint32_t)(i * 2654435761u + j);
        OK(lun_buffer_write((lun_place){buffer, at * 4}, source, count * 4));
        memset(source, 0x55, count * 4);
    }
    OK(lun_buffer_read((lun_place){buffer, 0}, back, words * 4));
    ck_assert(memcmp(back, want, words * 4) == 0);
    lun_buffer_destroy(&buffer);
    lun_device_close(&dev);
    free(want);
    free(source);
    free(back);
}
END_TEST

START_TEST(kernel_folder)
{
    if (!has("opencl"))
        return;
    lun_device *dev = NULL;
    lun_op_plan *plan = NULL;
    const lun_op op = small_op(LUN_OP_RELU);
    setenv("LUNETTE_KERNELS", "/no/such/folder", 1);
    FAILS(LUN_ERR_USAGE, lun_device_open("opencl", NULL, &dev));
    DETAIL_HAS("/no/such/folder");

    char *folder = changed_kernels(NULL, NULL);
    setenv("LUNETTE_KERNELS", folder, 1);
    dev = open_device("opencl");
    OK(run_once(dev, &op));
    lun_device_close(&dev);
    char *file = lun_format("%s/elementwise.cl", folder);
    ck_assert_int_eq(unlink(file), 0);
    dev = open_device("opencl");
    FAILS(LUN_ERR_USAGE, lun_op_plan_create(dev, &op, NULL, &plan));
    DETAIL_HAS("elementwise.cl");
    lun_device_close(&dev);
    free(file);
    free(folder);

    folder = changed_kernels("dst[i] = src[i] <", "no such thing;");
    setenv("LUNETTE_KERNELS", folder, 1);
    dev = open_device("opencl");
    FAILS(LUN_ERR_DEVICE, lun_op_plan_create(dev, &op, NULL, &plan));
    DETAIL_HAS("elementwise.cl does not compile");
    DETAIL_HAS("error");
    ck_assert_ptr_null(plan);
    lun_device_close(&dev);
    free(folder);
    unsetenv("LUNETTE_KERNELS");
}
END_TEST

/* ---- check ---- */

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

/* ---- auto ---- */

START_TEST(auto_remembers)
{
    lun_device *dev = NULL;
    char spec[32], again[32];
    use_fresh_cache();
    if (!has("cpu") || !has("opencl") || has_gpu()) {
        if (has("cpu") || has("opencl")) {
            dev = open_device("auto");
            lun_device_close(&dev);
        }
        return;
    }
    const lun_device_params params = {.threads = 2};
    measured = 0;
    OK(lun_auto_choose(&params, spec));
    ck_assert_int_eq(measured, 1);
    ck_assert(strcmp(spec, "cpu") == 0 || strcmp(spec, "opencl:0") == 0);
    OK(lun_auto_choose(&params, again));
    ck_assert_int_eq(measured, 1);
    ck_assert_str_eq(spec, again);
    dev = open_device("auto");
    ck_assert_str_eq(lun_device_get_info(dev)->spec, spec);
    lun_device_close(&dev);

    /* What it reads is what decides: the other winner, under the same key. */
    char *path = cache_entry("auto-"), *text;
    size_t bytes;
    unsigned long long key_bytes;
    OK(lun_file_read(path, 1 << 16, LUN_ERR_DATA, &text, &bytes));
    const char *line = strchr(text, '\n');
    ck_assert(line && sscanf(line + 1, "%16llx", &key_bytes) == 1);
    char *key = lun_format("%.*s", (int)key_bytes, strchr(line + 1, '\n') + 1);
    const char *other = strcmp(spec, "cpu") == 0 ? "opencl\n" : "cpu\n";
    lun_cache_store("auto", key, other, strlen(other));
    OK(lun_auto_choose(&params, again));
    ck_assert_int_eq(measured, 1);
    ck_assert_str_ne(spec, again);
    lun_cache_store("auto", key, "abacus\n", 7); /* sound, but no device */
    OK(lun_auto_choose(&params, again));
    ck_assert_int_eq(measured, 2);
    put_file(path, text, bytes - 1); /* cut */
    OK(lun_auto_choose(&params, again));
    ck_assert_int_eq(measured, 3);
    free(key);
    free(text);
    free(path);

    /* What was measured with some threads says nothing of others. */
    OK(lun_auto_choose(&(lun_device_params){.threads = 1}, again));
    ck_assert_int_eq(measured, 4);
    OK(lun_auto_choose(&params, again));
    ck_assert_int_eq(measured, 4);
}
END_TEST

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char *inner = lun_format("%s/%s", path, e->d_name);
        if (unlink(inner) != 0)
            remove_tree(inner);
        free(inner);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

/* What a test that failed on its way may have left. */
static void forget(void)
{
    unsetenv("LUNETTE_DECLINE");
    unsetenv("LUNETTE_KERNELS");
    setenv("LUNETTE_CACHE", temp, 1);
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(temp, sizeof temp, "%s/lunette-device-XXXXXX", base && base[0] ? base : "/tmp");
    if (!mkdtemp(temp))
        return 99;
    lun_log_set(count_line, NULL, LUN_LOG_DEBUG);

    Suite *suite = suite_create("device");
    TCase *tests = tcase_create("device");
    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, forget, NULL);
    tcase_add_test(tests, specifications);
    tcase_add_test(tests, listed_devices_open);
    tcase_add_test(tests, decline_list);
    tcase_add_test(tests, places_outside_are_refused);
    tcase_add_test(tests, in_place_updates_must_be_in_place);
    tcase_add_test(tests, a_buffer_beyond_the_limit);
    tcase_add_test(tests, null_counts);
    tcase_add_test(tests, cache_entries_are_checked);
    tcase_add_test(tests, programs_are_cached);
    tcase_add_test(tests, many_writes);
    tcase_add_test(tests, kernel_folder);
    tcase_add_test(tests, check_agrees);
    tcase_add_test(tests, gpu_paths_agree);
    tcase_add_test(tests, check_sees_wrong_kernels);
    tcase_add_test(tests, check_wants_both);
    tcase_add_test(tests, auto_remembers);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    remove_tree(temp);
    return failed ? 1 : 0;
}
