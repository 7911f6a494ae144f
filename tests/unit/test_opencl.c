/* The OpenCL driver: kept binaries, many writes at a time, kernel texts from a folder. */
#include "device/cache.h"
#include "device_ops.h"
#include "devices.h"

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

int main(void)
{
    Suite *suite = suite_create("opencl");
    TCase *tests = devices_case(suite, "opencl");
    tcase_add_test(tests, programs_are_cached);
    tcase_add_test(tests, many_writes);
    tcase_add_test(tests, kernel_folder);
    return devices_run(suite);
}
