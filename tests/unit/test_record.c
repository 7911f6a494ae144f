/* A run's record, config.json: what is written is read back, and what is wrong is refused. */
#include "scratch.h"
#include "small_config.h"

#include "train/config.h"

static void write_record(const lun_run_record *r)
{
    char *text = lun_run_record_text(r);
    ck_assert_ptr_nonnull(text);
    put_file(scratch("config.json"), text, strlen(text));
    free(text);
}

START_TEST(record_keeps_every_field)
{
    lun_run_record in, out;
    memset(&in, 0, sizeof in);
    snprintf(in.config.preset, sizeof in.config.preset, "%.31s", "a-name-that-fills-the-field-up-");
    in.config.model = (lun_model_config){.image_channels = 3,
                                         .levels = 8,
                                         .channels = {1, 65536, 3, 4, 5, 6, 7, 8},
                                         .time_dim = 65536,
                                         .steps = 1000000};
    in.config.height = 128;
    in.config.width = 4096;
    in.config.beta_first = 1.2345678901234567e-300;
    in.config.beta_last = 0.1 + 0.2;
    in.config.loss = LUN_HUBER;
    in.config.huber_delta = 0.1f;
    in.config.batch = 4096;
    in.config.lr = 1.0 / 3;
    in.config.beta1 = 0;
    in.config.beta2 = 1 - 0x1p-53;
    in.config.eps = 3e-38;
    in.config.weight_decay = 3.4e38;
    in.config.optimizer = LUN_ADAMW;
    in.config.accumulate = 4096;
    in.config.warmup = 12345;
    in.config.decay = LUN_DECAY_COSINE;
    in.config.decay_steps = UINT64_C(1) << 52;
    in.config.lr_end = 1.0 / 7;
    in.config.clip_norm = 0.1 + 0.2;
    in.config.ema_count = 4;
    for (int i = 0; i < 4; i++)
        in.config.ema_rate[i] = (double[]){0.9999, 0.5, 0.123456789012345, 0.9999999}[i];
    in.config.ema_warmup = LUN_EMA_WARMUP_RAMP;
    in.config.seed = UINT64_MAX;
    in.config.data = (lun_data_config){LUN_CROP_RANDOM, 1, 0.1 + 0.2, 0, 0};
    in.length = (lun_run_length){UINT64_MAX - 1, UINT64_C(1) << 53, 0.1};
    snprintf(in.version, sizeof in.version, "%.15s", "123456789012345678");
    snprintf(in.device, sizeof in.device, "%s", "a \"device\" \\ of\ttwo\nlines \xc3\xa9");
    snprintf(in.driver, sizeof in.driver, "%s", "driver");
    in.dataset_hash = UINT64_C(0x00ffffffffffff01);
    in.dataset_count = UINT64_C(0xffffffffffffffff);
    for (int round = 0; round < 2; round++) {
        write_record(&in);
        OK(lun_run_record_read(scratch_dir, &out));
        ck_assert_str_eq(out.config.preset, in.config.preset);
        const lun_train_config *a = &in.config, *b = &out.config;
        ck_assert_int_eq(memcmp(&a->model, &b->model, sizeof a->model), 0);
        ck_assert(a->height == b->height && a->width == b->width && a->batch == b->batch && a->loss == b->loss);
        ck_assert(a->beta_first == b->beta_first && a->beta_last == b->beta_last && a->huber_delta == b->huber_delta);
        ck_assert(a->lr == b->lr && a->beta1 == b->beta1 && a->beta2 == b->beta2 && a->eps == b->eps);
        ck_assert(a->weight_decay == b->weight_decay && a->seed == b->seed);
        ck_assert(a->optimizer == b->optimizer && a->accumulate == b->accumulate && a->warmup == b->warmup);
        ck_assert(a->decay == b->decay && a->decay_steps == b->decay_steps && a->lr_end == b->lr_end);
        ck_assert(a->clip_norm == b->clip_norm && a->ema_count == b->ema_count && a->ema_warmup == b->ema_warmup);
        ck_assert_int_eq(memcmp(a->ema_rate, b->ema_rate, sizeof a->ema_rate), 0);
        ck_assert_int_eq(memcmp(&in.length, &out.length, sizeof in.length), 0);
        ck_assert_str_eq(in.version, out.version);
        ck_assert_str_eq(in.device, out.device);
        ck_assert_str_eq(in.driver, out.driver);
        ck_assert(in.dataset_hash == out.dataset_hash && in.dataset_count == out.dataset_count);
        ck_assert(a->data.crop == b->data.crop && a->data.flip == b->data.flip && a->data.holdout == b->data.holdout);
        ck_assert(a->data.labels == b->data.labels && a->data.label_dropout == b->data.label_dropout);
        ck_assert(json_equal(in.classes ? in.classes : json_null(), out.classes ? out.classes : json_null()));
        ck_assert_int_eq(in.candidates != NULL, out.candidates != NULL);
        ck_assert(
            json_equal(in.candidates ? in.candidates : json_null(), out.candidates ? out.candidates : json_null()));
        lun_run_record_free(&out);
        if (!in.candidates)
            in.candidates = json_pack("{s:s, s:s}", "conv2d [1]", "direct", "adam", "whole");
        if (!in.classes)
            in.classes = json_pack("[s, s]", "a b", "\xc3\xa9");
    }
    lun_run_record_free(&in);
    ck_assert_ptr_null(in.candidates);
}
END_TEST

/* A record with one field wrong is refused as a whole, with a line that names the file. */
START_TEST(record_refusals)
{
    lun_run_record in, out;
    memset(&in, 0, sizeof in);
    in.config = small();
    in.candidates = json_pack("{s:s}", "adam", "whole");
    in.classes = json_pack("[s]", "a class");
    write_record(&in);
    OK(lun_run_record_read(scratch_dir, &out));
    lun_run_record_free(&out);
    static const char *const edits[][2] = {{"\"lr\": 0.001", "\"lr\": null"},
                                           {"\"lr\": 0.001", "\"lr\": -1"},
                                           {"\"seed\"", "\"sed\""},
                                           {"\"batch\": 4", "\"batch\": 0"},
                                           {"\"batch\": 4", "\"batch\": 4.0"},
                                           {"\"kind\": \"l1\"", "\"kind\": \"l9\""},
                                           {"\"linear\"", "\"cubic\""},
                                           {"\"prediction\": \"eps\"", "\"prediction\": \"noise\""},
                                           {"\"min_snr\": 0.0", "\"min_snr\": -5.0"},
                                           {"\"bound_scale\": 1.0", "\"bound_scale\": true"},
                                           {"\"loss_aware\": false", "\"loss_aware\": 0"},
                                           {"\"accumulate\": 1", "\"accumulate\": 3"},
                                           {"\"accumulate\": 1", "\"accumulate\": null"},
                                           {"\"constant\"", "\"linaer\""},
                                           {"\"clip_norm\": 0", "\"clip_norm\": -1, \"x\": 0"},
                                           {"\"rates\": []", "\"rates\": [1.5]"},
                                           {"\"rates\": []", "\"rates\": [1]"},
                                           {"\"rates\": []", "\"rates\": [0.5, 0.5]"},
                                           {"\"rates\": []", "\"rates\": [0.1, 0.2, 0.3, 0.4, 0.5]"},
                                           {"\"rates\"", "\"ratse\""},
                                           {"\"warmup\": \"none\"", "\"warmup\": 0"},
                                           {"\"warmup\": 0", "\"warmup\": -1"},
                                           {"\"kind\": \"adam\"", "\"kind\": 1"},
                                           {"\"whole\"", "7"},
                                           {"\"steps\": 25", "\"steps\": 25, \"steps\": 25"},
                                           {"\"height\": 8", "\"height\": 9"},
                                           {"\"stretch\"", "\"stretched\""},
                                           {"\"flip\": false", "\"flip\": 0"},
                                           {"\"holdout\": 0.0", "\"holdout\": 1.5"},
                                           {"\"holdout\": 0.0", "\"holdout\": 1"},
                                           {"\"holdout\": 0.0", "\"hold\": 0.0"},
                                           {"\"label_dropout\": 0.0", "\"label_dropout\": 0.5"},
                                           {"\"a class\"", "1"},
                                           {"\"0000000000000000\"", "\"000000000000000g\""},
                                           {"\"0000000000000000\"", "\"000000000000000\""},
                                           {"\"0000000000000000\"", "\"00000000000000000\""},
                                           {"\"0000000000000000\"", "\"000000000000000A\""},
                                           {"\"hours\": 0", "\"hours\": -3, \"x\": 0"}};
    char *text = lun_run_record_text(&in);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        const char *at = strstr(text, edits[i][0]);
        ck_assert_msg(at != NULL, "no %s in %s", edits[i][0], text);
        char other[4096];
        const int length =
            snprintf(other, sizeof other, "%.*s%s%s", (int)(at - text), text, edits[i][1], at + strlen(edits[i][0]));
        put_file(scratch("config.json"), other, (size_t)length);
        ck_assert_msg(lun_run_record_read(scratch_dir, &out) == LUN_ERR_USAGE, "%s", edits[i][1]);
        ck_assert_ptr_nonnull(strstr(lun_error_detail(), "config.json"));
        if (strstr(edits[i][1], "0.4, 0.5")) /* before there is room for only four */
            ck_assert_ptr_nonnull(strstr(lun_error_detail(), "at most 4 entries"));
    }
    /* One of before there was a choice of how pictures are brought in. */
    char *from = strstr(text, "\"data\""), *to = strstr(text, "\"length\"");
    ck_assert(from && to && from < to);
    memmove(from, to, strlen(to) + 1);
    put_file(scratch("config.json"), text, strlen(text));
    OK(lun_run_record_read(scratch_dir, &out));
    const lun_data_config none = {0};
    ck_assert_int_eq(memcmp(&out.config.data, &none, sizeof none), 0);
    lun_run_record_free(&out);
    put_file(scratch("config.json"), text, strlen(text) / 2);
    NOT_OK(lun_run_record_read(scratch_dir, &out), LUN_ERR_USAGE);
    NOT_OK(lun_run_record_read(scratch("nowhere"), &out), LUN_ERR_USAGE);
    free(text);
    lun_run_record_free(&in);
}
END_TEST

/* config.json as version 0.1 wrote it, before there were learning rate schedules, averages and micro-batches. */
static const char old_text[] =
    "{\"lunette\": \"0.1.0\", \"preset\": \"notebook\", \"model\": {\"kind\": \"notebook\", \"image_channels\": 3, "
    "\"channels\": [8, 16], \"time_dim\": 32, \"steps\": 25}, \"height\": 8, \"width\": 8, \"batch\": 4, "
    "\"schedule\": {\"kind\": \"linear\", \"first\": 0.0001, \"last\": 0.02}, \"loss\": {\"kind\": \"l1\", "
    "\"huber_delta\": 1.0}, \"optimizer\": {\"kind\": \"adam\", \"lr\": 0.001, \"beta1\": 0.9, \"beta2\": 0.999, "
    "\"eps\": 1e-8, \"weight_decay\": 0.0}, \"seed\": \"18364758544493064720\", \"length\": {\"steps\": 10, "
    "\"epochs\": 0, \"hours\": 0.0}, \"dataset\": {\"count\": 11, \"hash\": \"0123456789abcdef\"}, \"device\": "
    "{\"name\": \"d\", \"driver\": \"x\"}}";

START_TEST(an_old_record_is_read)
{
    lun_run_record old, now;
    memset(&now, 0, sizeof now);
    put_file(scratch("config.json"), old_text, strlen(old_text));
    OK(lun_run_record_read(scratch_dir, &old));
    now = old;
    now.config = small();
    char *a = lun_run_record_text(&old), *b = lun_run_record_text(&now);
    ck_assert_str_eq(a, b);
    free(a);
    free(b);
    lun_run_record_free(&old);
}
END_TEST

/* What only a program that calls the library can get wrong. */
START_TEST(numbers_that_name_nothing)
{
    const lun_train_config good = small();
    OK(lun_train_config_check(&good));
    for (int k = 0; k < 7; k++) {
        lun_train_config c = good;
        switch (k) {
        case 0: c.data.crop = (lun_crop)3; break;
        case 1: c.optimizer = (lun_optimizer_kind)2; break;
        case 2: c.decay = (lun_decay)3; break;
        case 3: c.loss = (lun_loss_type)3; break;
        case 4: c.prediction = (lun_prediction)3; break;
        case 5: c.ema_warmup = (lun_ema_warmup)3; break;
        case 6: memset(c.preset, 'x', sizeof c.preset); break;
        }
        ck_assert_msg(lun_train_config_check(&c) == LUN_ERR_USAGE, "%d", k);
    }
    lun_train_config c = good;
    static const lun_fit fits[] = {LUN_FIT_STRETCH, LUN_FIT_CROP, LUN_FIT_COVER};
    for (int crop = 0; crop < 3; crop++) {
        c.data.crop = (lun_crop)crop;
        ck_assert_int_eq(lun_train_fit(&c), fits[crop]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("record");
    TCase *tc = tcase_create("record");
    tcase_add_checked_fixture(tc, scratch_make, scratch_remove);
    tcase_add_test(tc, record_keeps_every_field);
    tcase_add_test(tc, record_refusals);
    tcase_add_test(tc, an_old_record_is_read);
    tcase_add_test(tc, numbers_that_name_nothing);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
