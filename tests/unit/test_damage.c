/* Files that were cut at any byte, or of which any bit was turned. */
#include <lunette/checkpoint.h>
#include <lunette/data.h>

#include "base/base.h"
#include "scratch.h"
#include "train/config.h"

#define MUST(call) ck_assert_msg((call) == LUN_OK, "%s", lun_error_detail())

/* What `read` makes of the file, changed in every way in turn. */
typedef struct tally {
    int cut, cut_taken, turned, turned_taken;
} tally;

static tally damage(const char *name, const char *data, size_t bytes, lun_status (*read)(const char *path))
{
    tally t = {0};
    const char *path = scratch(name);
    char *copy = malloc(bytes + 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, data, bytes);
    put_file(path, data, bytes);
    MUST(read(path));
    for (size_t length = 0; length < bytes; length++) {
        put_file(path, data, length);
        t.cut++;
        t.cut_taken += read(path) == LUN_OK;
    }
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        copy[bit / 8] = (char)(copy[bit / 8] ^ (1 << bit % 8));
        put_file(path, copy, bytes);
        t.turned++;
        t.turned_taken += read(path) == LUN_OK;
        copy[bit / 8] = data[bit / 8];
    }
    free(copy);
    return t;
}

/* ---- safetensors ---- */

static lun_status read_safetensors(const char *path)
{
    lun_safetensors *file = NULL;
    LUN_TRY(lun_safetensors_open(path, &file));
    const lun_status status = lun_safetensors_verify(file, 1);
    lun_safetensors_close(file);
    ck_assert(status == LUN_OK || status == LUN_ERR_CHECKPOINT);
    return status;
}

START_TEST(safetensors)
{
    const int64_t dims[2] = {3, 5};
    float values[15];
    for (int i = 0; i < 15; i++)
        values[i] = (float)i * 0.75f - 3;
    const int64_t count = 12345;
    lun_safetensors_writer *writer = NULL;
    MUST(lun_safetensors_writer_create(scratch("whole"), &writer));
    MUST(lun_safetensors_writer_metadata(writer, "lunette.id", "0123"));
    MUST(lun_safetensors_writer_declare(writer, "count", LUN_ST_I64, 0, NULL));
    MUST(lun_safetensors_writer_declare(writer, "conv.weight", LUN_ST_F32, 2, dims));
    MUST(lun_safetensors_writer_data(writer, &count, sizeof count));
    MUST(lun_safetensors_writer_data(writer, values, sizeof values));
    MUST(lun_safetensors_writer_commit(writer));
    size_t bytes = 0;
    char *data = get_file(scratch("whole"), &bytes);
    const tally t = damage("damaged", data, bytes, read_safetensors);
    ck_assert_int_eq(t.cut, (int)bytes);
    ck_assert_int_eq(t.cut_taken, 0);
    ck_assert_int_eq(t.turned_taken, 0);
    free(data);
}
END_TEST

/* ---- pictures ---- */

static lun_status read_picture(const char *path)
{
    lun_picture picture = {0};
    const lun_status status = lun_picture_load(path, 1, &picture);
    ck_assert(status == LUN_OK || status == LUN_ERR_DATA || status == LUN_ERR_MEMORY);
    lun_picture_free(&picture);
    return status;
}

START_TEST(png)
{
    size_t bytes = 0;
    char path[1024];
    snprintf(path, sizeof path, "%s/pictures/rgb8.png", getenv("LUN_TEST_SOURCE"));
    char *data = get_file(path, &bytes);
    const tally t = damage("damaged.png", data, bytes, read_picture);
    ck_assert_int_eq(t.cut_taken, 0);
    /* Every critical chunk has a checksum; what is left are bits that make a chunk another ancillary one. */
    ck_assert_int_lt(t.turned_taken, t.turned / 20);
    free(data);
}
END_TEST

START_TEST(jpeg)
{
    size_t bytes = 0;
    char path[1024];
    snprintf(path, sizeof path, "%s/pictures/jpeg-grey.jpg", getenv("LUN_TEST_SOURCE"));
    char *data = get_file(path, &bytes);
    put_file(scratch("jpeg"), data, bytes);
    if (read_picture(scratch("jpeg")) == LUN_OK) { /* built with a JPEG library */
        const tally t = damage("damaged.jpg", data, bytes, read_picture);
        ck_assert_int_eq(t.cut_taken, 0);
        ck_assert_int_gt(t.turned, 0); /* there is no checksum: a turned bit is mostly another picture */
    }
    free(data);
}
END_TEST

/* ---- config.json ---- */

static lun_status read_config(const char *path)
{
    (void)path; /* its folder */
    lun_run_record record;
    const lun_status status = lun_run_record_read(scratch_dir, &record);
    if (status != LUN_OK) {
        ck_assert_int_eq(status, LUN_ERR_USAGE);
        return status;
    }
    MUST(lun_train_config_check(&record.config));
    lun_run_record_free(&record);
    return LUN_OK;
}

START_TEST(config)
{
    lun_run_record record;
    memset(&record, 0, sizeof record);
    MUST(lun_train_preset("notebook", &record.config));
    record.length.epochs = 500;
    snprintf(record.version, sizeof record.version, "1");
    snprintf(record.device, sizeof record.device, "a device");
    snprintf(record.driver, sizeof record.driver, "a driver");
    record.candidates = json_pack("{s:s}", "conv2d 1x2x3x4", "panel");
    char *text = lun_run_record_text(&record);
    ck_assert_ptr_nonnull(text);
    const tally t = damage("config.json", text, strlen(text), read_config);
    ck_assert_int_le(t.cut_taken, 1); /* the newline at the end */
    ck_assert_int_lt(t.turned_taken, t.turned);
    free(text);
    lun_run_record_free(&record);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("damage");
    TCase *tcase = tcase_create("damage");
    tcase_add_unchecked_fixture(tcase, scratch_make, scratch_remove);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, safetensors);
    tcase_add_test(tcase, png);
    tcase_add_test(tcase, jpeg);
    tcase_add_test(tcase, config);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
