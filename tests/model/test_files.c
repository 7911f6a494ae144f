/* Model files: both families of names, round trips, and what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static void same_values(lun_store *a, lun_store *b)
{
    for (int role = LUN_ROLE_PARAM; role <= LUN_ROLE_BUFFER; role++) {
        size_t count_a = 0, count_b = 0;
        float *va = store_values(a, role, &count_a), *vb = store_values(b, role, &count_b);
        ck_assert_uint_eq(count_a, count_b);
        ck_assert_mem_eq(va, vb, count_a * sizeof *va);
        free(va);
        free(vb);
    }
}

START_TEST(files_round_trip)
{
    const lun_shape shape = {2, 3, 16, 16};
    network a = network_open(golden_path("small.model.safetensors"), shape, LUN_NORM_EVAL);
    network_ready(&a, golden_path("small.model.safetensors"), 0);
    ck_assert_int_eq(a.info.config.levels, 3);
    ck_assert_int_eq(a.info.config.channels[2], 24);
    ck_assert_int_eq(a.info.config.time_dim, 32);
    ck_assert_int_eq(a.info.config.steps, 300);
    ck_assert_uint_eq(a.info.batches_tracked, 7);
    ck_assert_str_eq(a.info.preset, "");

    lun_model_file_info info = a.info;
    info.config.steps = 123;
    info.height = 16;
    info.width = 8;
    info.step = 4321;
    info.batches_tracked = 99;
    info.beta_first = 2e-4;
    info.beta_last = 0.03;
    info.schedule = LUN_SCHEDULE_SCALED;
    info.prediction = LUN_PREDICTION_V;
    snprintf(info.preset, sizeof info.preset, "notebook");
    const char *path = scratch_path("saved.safetensors");
    MUST(lun_model_save(a.store, &info, "0123", path));

    network b = network_open(path, shape, LUN_NORM_EVAL);
    network_ready(&b, path, 0);
    ck_assert_int_eq(b.info.config.steps, 123);
    ck_assert_mem_eq(b.info.config.channels, info.config.channels, sizeof info.config.channels);
    ck_assert_int_eq(b.info.height, 16);
    ck_assert_int_eq(b.info.width, 8);
    ck_assert_uint_eq(b.info.step, 4321);
    ck_assert_uint_eq(b.info.batches_tracked, 99);
    ck_assert_str_eq(b.info.preset, "notebook");
    ck_assert_double_eq(b.info.beta_first, 2e-4);
    ck_assert_double_eq(b.info.beta_last, 0.03);
    ck_assert_int_eq(b.info.schedule, LUN_SCHEDULE_SCALED);
    ck_assert_int_eq(b.info.prediction, LUN_PREDICTION_V);
    same_values(a.store, b.store);

    network c = network_open(golden_path("small.stream.safetensors"), shape, LUN_NORM_EVAL);
    network_ready(&c, golden_path("small.stream.safetensors"), 0);
    same_values(a.store, c.store);

    /* PyTorch's names, types and shapes, all of them and no other. */
    lun_safetensors *theirs = golden_open(golden_path("small.model.safetensors")), *ours = golden_open(path);
    ck_assert_uint_eq(lun_safetensors_count(theirs), lun_safetensors_count(ours));
    for (size_t i = 0; i < lun_safetensors_count(theirs); i++) {
        const lun_safetensors_entry *x = lun_safetensors_info(theirs, i);
        const int64_t index = lun_safetensors_find(ours, x->name);
        ck_assert_msg(index >= 0, "no %s", x->name);
        const lun_safetensors_entry *y = lun_safetensors_info(ours, (size_t)index);
        ck_assert_int_eq(x->dtype, y->dtype);
        ck_assert_int_eq(x->rank, y->rank);
        ck_assert_mem_eq(x->dims, y->dims, (size_t)x->rank * sizeof x->dims[0]);
    }
    ck_assert_str_eq(lun_safetensors_metadata(ours, "lunette.id"), "0123");
    MUST(lun_safetensors_verify(ours, 1));
    lun_safetensors_close(theirs);
    lun_safetensors_close(ours);
    network_close(&a);
    network_close(&b);
    network_close(&c);
}
END_TEST

/* Copy a model file's tensors but for what `skip`, `extra` and `reshape` change. */
static void write_variant(const char *path, const char *skip, const char *extra, const char *reshape,
                          const char *metadata)
{
    lun_safetensors *from = golden_open(golden_path("small.model.safetensors"));
    lun_safetensors_writer *writer = NULL;
    MUST(lun_safetensors_writer_create(path, &writer));
    if (metadata)
        MUST(lun_safetensors_writer_metadata(writer, "lunette.model", metadata));
    const float one = 1;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < lun_safetensors_count(from); i++) {
            const lun_safetensors_entry *e = lun_safetensors_info(from, i);
            if (skip && strcmp(e->name, skip) == 0)
                continue;
            if (round) {
                void *data = malloc((size_t)e->bytes);
                MUST(lun_safetensors_read(from, i, data, (size_t)e->bytes));
                MUST(lun_safetensors_writer_data(writer, data, (size_t)e->bytes));
                free(data);
            } else if (reshape && strcmp(e->name, reshape) == 0) {
                MUST(lun_safetensors_writer_declare(writer, e->name, e->dtype, 1, &e->count));
            } else {
                MUST(lun_safetensors_writer_declare(writer, e->name, e->dtype, e->rank, e->dims));
            }
        }
        if (extra && round)
            MUST(lun_safetensors_writer_data(writer, &one, sizeof one));
        else if (extra)
            MUST(lun_safetensors_writer_declare(writer, extra, LUN_ST_F32, 0, NULL));
    }
    MUST(lun_safetensors_writer_commit(writer));
    lun_safetensors_close(from);
}

START_TEST(files_that_do_not_fit_are_refused)
{
    const char *path = scratch_path("variant.safetensors");
    lun_model_file_info info;
    network n = network_open(golden_path("small.model.safetensors"), lun_shape4(1, 3, 8, 8), LUN_NORM_EVAL);
    network_ready(&n, golden_path("small.model.safetensors"), 0);
    size_t count = 0;
    float *before = store_values(n.store, LUN_ROLE_PARAM, &count);
    static const struct {
        const char *skip, *extra, *reshape, *metadata, *says;
    } cases[] = {
        {"ups.1.conv2.bias", NULL, NULL, NULL, "ups.1.conv2.bias is missing"},
        {NULL, "stranger", NULL, NULL, "stranger does not belong there"},
        {NULL, NULL, "downs.0.conv2.weight", NULL, "downs.0.conv2.weight is (2304) and should be (16, 16, 3, 3)"},
        {"conv0.bias", "conv0.biases", "output.weight", NULL,
         "conv0.bias is missing; output.weight is (24) and should be (3, 8, 1, 1); conv0.biases does not"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_variant(path, cases[i].skip, cases[i].extra, cases[i].reshape, cases[i].metadata);
        ck_assert_int_eq(lun_model_inspect(path, &info), LUN_ERR_CHECKPOINT);
        ck_assert_msg(strstr(lun_error_detail(), cases[i].says) != NULL, "%s", lun_error_detail());
        ck_assert_int_eq(lun_model_load(n.store, path), LUN_ERR_CHECKPOINT);
        ck_assert_msg(strstr(lun_error_detail(), cases[i].says) != NULL, "%s", lun_error_detail());
    }
    /* Metadata that lies. */
#define CONFIG(channels, steps, rest)                                                                                  \
    "{\"network\":\"notebook\",\"image_channels\":3,\"channels\":" channels ",\"time_dim\":32,\"steps\":" steps        \
    ",\"height\":8,\"width\":8,\"preset\":\"\",\"beta_first\":0.0001,\"beta_last\":0.02" rest "}"
    static const char *const lies[] = {CONFIG("[8,16,24,32]", "300", ""),
                                       CONFIG("[8,16,23]", "300", ""),
                                       CONFIG("[8,16,24]", "0", ""),
                                       CONFIG("[8,16,24]", "2000000000", ""),
                                       CONFIG("[8,16,24]", "300", ",\"more\":1"),
                                       CONFIG("[8,16,24]", "300", ",\"schedule\":\"quadratic\""),
                                       CONFIG("[8,16,24]", "300", ",\"schedule\":2"),
                                       CONFIG("[8,16,24]", "300", ",\"prediction\":\"epsilon\""),
                                       "{",
                                       "[]"};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        write_variant(path, NULL, NULL, NULL, lies[i]);
        ck_assert_msg(lun_model_inspect(path, &info) == LUN_ERR_CHECKPOINT, "%s passed", lies[i]);
    }
    write_variant(path, NULL, NULL, NULL, CONFIG("[8,16,24]", "77", ""));
    MUST(lun_model_inspect(path, &info));
    ck_assert_int_eq(info.config.steps, 77);
    ck_assert(info.schedule == LUN_SCHEDULE_LINEAR && info.prediction == LUN_PREDICTION_EPS);
    write_variant(path, NULL, NULL, NULL, CONFIG("[8,16,24]", "77", ",\"prediction\":\"x0\",\"schedule\":\"sigmoid\""));
    MUST(lun_model_inspect(path, &info));
    ck_assert(info.schedule == LUN_SCHEDULE_SIGMOID && info.prediction == LUN_PREDICTION_X0);
    /* A PyTorch of before 0.4.1 counted no batches. */
    write_variant(path, "downs.0.bnorm1.num_batches_tracked", NULL, NULL, NULL);
    MUST(lun_model_inspect(path, &info));
    ck_assert_uint_eq(info.batches_tracked, 0);
    /* A bit that flipped in one of our files. */
    lun_model_file_info mine = n.info;
    MUST(lun_model_save(n.store, &mine, NULL, path));
    FILE *file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    fseek(file, -100, SEEK_END);
    const int byte = fgetc(file);
    fseek(file, -1, SEEK_CUR);
    fputc(byte ^ 4, file);
    fclose(file);
    ck_assert_int_eq(lun_model_load(n.store, path), LUN_ERR_CHECKPOINT);
    /* None of it touched the store. */
    float *after = store_values(n.store, LUN_ROLE_PARAM, &count);
    ck_assert_mem_eq(before, after, count * sizeof *before);
    free(before);
    free(after);
    network_close(&n);
}
END_TEST

/* What the first version wrote is said as it was then: such files are the same bytes, and it can read them. */
START_TEST(usual_kinds_are_not_said)
{
    const char *path = scratch_path("saved.safetensors");
    network n = network_open(golden_path("small.model.safetensors"), lun_shape4(1, 3, 8, 8), LUN_NORM_EVAL);
    network_ready(&n, golden_path("small.model.safetensors"), 0);
    for (int kind = 0; kind <= LUN_SCHEDULE_KINDS; kind++) {
        n.info.schedule = (lun_schedule_kind)kind;
        n.info.prediction = (lun_prediction)(kind < LUN_PREDICTIONS ? kind : 0);
        if (kind == LUN_SCHEDULE_KINDS) {
            ck_assert_int_eq(lun_model_save(n.store, &n.info, NULL, path), LUN_ERR_USAGE);
            break;
        }
        MUST(lun_model_save(n.store, &n.info, NULL, path));
        lun_safetensors *file = golden_open(path);
        const char *text = lun_safetensors_metadata(file, "lunette.model");
        ck_assert(!strstr(text, "schedule") == (kind == 0));
        ck_assert(!strstr(text, "prediction") == (n.info.prediction == LUN_PREDICTION_EPS));
        lun_safetensors_close(file);
    }
    network_close(&n);
}
END_TEST

void add_file_tests(TCase *group)
{
    tcase_add_test(group, usual_kinds_are_not_said);
    tcase_add_test(group, files_round_trip);
    tcase_add_test(group, files_that_do_not_fit_are_refused);
}
