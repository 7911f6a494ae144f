/* What is remembered between starts: entries of the cache, and the choice of "auto". */
#include "device/auto.h"
#include "device/cache.h"
#include "devices.h"

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

int main(void)
{
    Suite *suite = suite_create("cache");
    TCase *tests = devices_case(suite, "cache");
    tcase_add_test(tests, cache_entries_are_checked);
    tcase_add_test(tests, auto_remembers);
    return devices_run(suite);
}
