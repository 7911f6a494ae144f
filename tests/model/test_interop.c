/* Files of the neighbours: folders that diffusers saved (make_golden_interop.py), layouts and round trips, and what is
 * refused. */
#include <ftw.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/json.h"
#include "golden.h"

#define WEIGHTS "/unet/diffusion_pytorch_model.safetensors"

static const char *const folders[] = {"hf-ho", "hf-adm"};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static void remove_all(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A path to write to, with nothing there. */
static const char *fresh(const char *name)
{
    const char *path = scratch_path(name);
    remove_all(path);
    return path;
}

/* Both names joined; valid for the next few calls. */
static const char *join(const char *folder, const char *name)
{
    static char text[8][600];
    static int turn;
    char *path = text[turn++ % 8];
    snprintf(path, sizeof text[0], "%s%s", folder, name);
    return path;
}

static lun_status convert(const char *from, const char *to, lun_naming layout)
{
    return lun_model_convert(&(lun_convert_params){.from = from, .to = to, .layout = layout}, NULL);
}

#define ck_refused(call, status, words)                                                                                \
    do {                                                                                                               \
        const lun_status refused_s_ = (call);                                                                          \
        ck_assert_msg(refused_s_ == (status) && strstr(lun_error_detail(), words) != NULL, "%s: %s: %s", #call,        \
                      lun_status_name(refused_s_), refused_s_ == LUN_OK ? "passed" : lun_error_detail());              \
    } while (0)

/* ---- What diffusers computes ------------------------------------------------------------------------------------- */

START_TEST(diffusers_folders_match)
{
    for (size_t i = 0; i < 2; i++)
        compare_predict(folders[i], folders[i], LUN_PREDICT_NORM_DEFAULT, "eval", LUN_L2, NULL);
    lun_model_file_info info;
    MUST(lun_model_inspect(golden_path("hf-ho"), &info));
    ck_assert_int_eq(info.config.network, LUN_DDPM);
    ck_assert_int_eq(info.config.asymmetric_pad, 1);
    ck_assert_int_eq(info.config.heads, 1);
    ck_assert_int_eq(info.config.steps, 20);
    ck_assert_int_eq(info.height, 8);
    ck_assert_int_eq(info.width, 16);
    ck_assert_double_eq(info.beta_first, 0.002);
    ck_assert_double_eq(info.beta_last, 0.3);
    ck_assert_int_eq(info.assumed, 0);
    MUST(lun_model_inspect(golden_path("hf-adm"), &info));
    ck_assert_int_eq(info.config.network, LUN_ADM);
    ck_assert_int_eq(info.config.learned_sigma, 1);
    ck_assert_int_eq(info.config.classes, 5);
    ck_assert_int_eq(info.config.head_width, 4);
    /* The folder of the model alone says nothing of the schedule. */
    MUST(lun_model_inspect(join(golden_path("hf-ho"), "/unet"), &info));
    ck_assert_int_eq(info.config.steps, 1000);
    ck_assert_double_eq(info.beta_last, 0.02);
}
END_TEST

/* A whole run of DDPMPipeline with given noise. */
START_TEST(pipeline_draws_our_picture)
{
    lun_safetensors *file = golden_open(golden_path("hf-ho.picture.safetensors"));
    const lun_shape shape = lun_shape4(2, 3, 8, 16);
    const size_t size = (size_t)lun_count(shape);
    network n = network_open(golden_path("hf-ho"), shape, LUN_NORM_EVAL);
    network_ready(&n, golden_path("hf-ho"), 0);
    float *start = golden_floats(file, "start", size), *noise = golden_floats(file, "noise", 20 * size),
          *wanted = golden_floats(file, "picture", size), *images = malloc(size * sizeof *images);
    lun_schedule schedule = {0};
    lun_sampler *sampler = NULL;
    MUST(lun_schedule_linear(n.info.config.steps, n.info.beta_first, n.info.beta_last, &schedule));
    const lun_sampler_params params = {
        .batch = 2, .height = 8, .width = 16, .clip = LUN_CLIP_MODE_X0, .norm = LUN_NORM_EVAL, .schedule = &schedule};
    MUST(lun_sampler_create(n.store, golden_device, &n.info.config, &params, NULL, &sampler));
    MUST(lun_sampler_draw(sampler, &(lun_sampler_run){.start = start, .noise = noise}, images));
    double worst = 0;
    for (size_t i = 0; i < size; i++) {
        const double off = fabs(fmin(fmax((double)images[i], -1), 1) - (2 * (double)wanted[i] - 1));
        worst = off > worst || isnan(off) ? off : worst;
    }
    printf("diffusers' picture: %.2e\n", worst);
    ck_assert_msg(!!(worst <= 1e-4), "the picture differs by %g", worst);
    lun_sampler_destroy(&sampler);
    lun_schedule_free(&schedule);
    free(start);
    free(noise);
    free(wanted);
    free(images);
    lun_safetensors_close(file);
    network_close(&n);
}
END_TEST

/* ---- Round trips ------------------------------------------------------------------------------------------------- */

/* Every key that both have, or `ours` alone, says the same. */
static void same_json(const char *theirs, const char *ours)
{
    json_t *a = NULL, *b = NULL, *value = NULL;
    const char *key = NULL;
    MUST(lun_json_read(theirs, LUN_ERR_CHECKPOINT, &a));
    MUST(lun_json_read(ours, LUN_ERR_CHECKPOINT, &b));
    json_object_foreach(b, key, value)
    {
        const json_t *other = json_object_get(a, key);
        if (json_is_number(value) && json_is_number(other))
            ck_assert_msg(fabs(json_number_value(value) - json_number_value(other)) == 0, "%s: %s", ours, key);
        else
            ck_assert_msg(json_equal(other, value), "%s: %s", ours, key);
    }
    ck_assert_uint_eq(json_object_size(a), json_object_size(b));
    json_decref(a);
    json_decref(b);
}

START_TEST(diffusers_gets_its_folder_back)
{
    for (size_t i = 0; i < 2; i++) {
        const char *const theirs = golden_path(folders[i]);
        const char *const ours = fresh("interop.safetensors"), *const back = fresh("interop-folder");
        MUST(convert(theirs, ours, LUN_NAMING_OWN));
        MUST(convert(ours, back, LUN_NAMING_DIFFUSERS));
        same_tensors(join(theirs, WEIGHTS), join(back, WEIGHTS));
        same_json(join(theirs, "/unet/config.json"), join(back, "/unet/config.json"));
        same_json(join(theirs, "/scheduler/scheduler_config.json"), join(back, "/scheduler/scheduler_config.json"));
        same_json(join(theirs, "/model_index.json"), join(back, "/model_index.json"));
        /* Our folder is read as a folder and as a file. */
        MUST(convert(back, fresh("interop-again.safetensors"), LUN_NAMING_OWN));
        same_files(ours, scratch_path("interop-again.safetensors"));
        MUST(convert(join(back, WEIGHTS), fresh("interop-again.safetensors"), LUN_NAMING_OWN));
        same_files(ours, scratch_path("interop-again.safetensors"));
    }
    remove_all(scratch_path("interop-folder"));
    remove_all(scratch_path("interop.safetensors"));
    remove_all(scratch_path("interop-again.safetensors"));
}
END_TEST

/* Published networks with few channels. `holds`: by lun_naming. */
typedef struct family {
    const char *published;
    int levels, channels[3], base, classes;
    bool holds[4];
    const char *says[4];
} family;

static const family families[] = {
    {"ddpm-cifar10", 2, {32, 64}, 32, 0, {1, 0, 1, 1}, {NULL, "norm_eps 1e-06", NULL, NULL}},
    {"iddpm-cifar10", 3, {32, 64, 64}, 32, 0, {1, 1, 0, 0}, {NULL, NULL, "more than one head", "t 1000 / 4000"}},
    {"adm-64", 2, {64, 64}, 64, 5, {1, 1, 0, 1}, {NULL, NULL, "residual blocks between levels", NULL}},
    {"adm-512", 2, {32, 64}, 64, 5, {1, 1, 0, 0}, {NULL, NULL, "classes", "a time of 64 channels"}},
    {"small", 2, {32, 64}, 32, 0, {1, 1, 0, 1}, {NULL, NULL, "[cos | sin]", NULL}},
};

static lun_model_file_info narrow(const family *f)
{
    lun_model_file_info info = {.height = 16, .width = 24, .step = 7, .beta_first = 1e-4, .beta_last = 0.02};
    MUST(lun_model_config_named(f->published, &info.config));
    lun_model_config *c = &info.config;
    c->levels = f->levels;
    c->time_dim = f->base;
    memset(c->channels, 0, sizeof c->channels);
    memset(c->attention, 0, sizeof c->attention);
    memcpy(c->channels, f->channels, (size_t)f->levels * sizeof f->channels[0]);
    c->attention[f->levels - 1] = c->attention[1] = 1;
    c->blocks = 1;
    c->head_width = c->head_width ? 16 : 0;
    c->classes = f->classes;
    c->null_class = f->classes > 0;
    snprintf(info.preset, sizeof info.preset, "test");
    return info;
}

static void save_info(const lun_model_file_info *info, const char *path)
{
    lun_store *store = NULL;
    MUST(lun_store_create(&store));
    MUST(lun_model_declare(store, &info->config));
    MUST(lun_store_allocate(store, golden_device, 0));
    MUST(lun_store_init(store, 3));
    MUST(lun_model_save(store, info, "an id", path));
    lun_store_destroy(&store);
}

static void save_family(const family *f, const char *path)
{
    const lun_model_file_info info = narrow(f);
    save_info(&info, path);
}

START_TEST(round_trips_through_layouts)
{
    const char *const saved = scratch_path("saved.safetensors");
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        const family *f = &families[i];
        save_family(f, saved);
        for (int layout = LUN_NAMING_OWN; layout <= LUN_NAMING_DIFFUSERS; layout++) {
            const char *const there = fresh("interop-there"), *const back = fresh("interop-back");
            if (!f->holds[layout]) {
                ck_refused(convert(saved, there, (lun_naming)layout), LUN_ERR_USAGE, f->says[layout]);
                ck_assert_int_ne(access(there, F_OK), 0);
                continue;
            }
            MUST(convert(saved, there, (lun_naming)layout));
            lun_model_file_info info;
            MUST(lun_model_inspect(there, &info));
            ck_assert(layout == LUN_NAMING_OWN || info.naming == (lun_naming)layout);
            MUST(convert(there, back, LUN_NAMING_OWN));
            same_files(saved, back);
            /* And from there to every other that holds it. */
            for (int other = LUN_NAMING_GUIDED; other <= LUN_NAMING_DIFFUSERS; other++) {
                if (!f->holds[other])
                    continue;
                MUST(convert(there, fresh("interop-other"), (lun_naming)other));
                MUST(convert(scratch_path("interop-other"), fresh("interop-back"), LUN_NAMING_OWN));
                same_files(saved, scratch_path("interop-back"));
            }
        }
    }
    remove_all(scratch_path("interop-there"));
    remove_all(scratch_path("interop-back"));
    remove_all(scratch_path("interop-other"));
}
END_TEST

START_TEST(notebook_network_stays_ours)
{
    const char *const model = golden_path("small.model.safetensors"), *const out = fresh("interop.safetensors");
    for (int layout = LUN_NAMING_GUIDED; layout <= LUN_NAMING_DIFFUSERS; layout++)
        ck_refused(convert(model, out, (lun_naming)layout), LUN_ERR_USAGE, "no layout but lunette's");
    MUST(convert(model, out, LUN_NAMING_OWN));
    same_tensors(model, out);
    /* The tutorial's other names become those. */
    MUST(convert(golden_path("small.stream.safetensors"), fresh("interop.safetensors"), LUN_NAMING_OWN));
    same_tensors(model, out);
    ck_refused(convert(model, out, LUN_NAMING_OWN), LUN_ERR_USAGE, "exists already");
    ck_refused(convert(out, join(out, "/below"), LUN_NAMING_OWN), LUN_ERR_STORAGE, "");
    const lun_convert_params hinted = {.from = model, .to = scratch_path("interop-back"), .hints = {.heads = 2}};
    ck_refused(lun_model_convert(&hinted, NULL), LUN_ERR_USAGE, "no network with attention");
    remove_all(out);
}
END_TEST

/* ---- Files of others --------------------------------------------------------------------------------------------- */

/* A file's tensors without its metadata. `rename`, `drop` and `half` may be NULL: pairs of a piece of a name and what
 * takes its place, ended by NULL; a piece of the names that are left out; `half`: of those that become F16 zeros. */
static void rewrite(const char *from_path, const char *path, const char *const *rename, const char *drop,
                    const char *half)
{
    lun_safetensors *from = golden_open(from_path);
    lun_safetensors_writer *writer = NULL;
    MUST(lun_safetensors_writer_create(path, &writer));
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < lun_safetensors_count(from); i++) {
            const lun_safetensors_entry *e = lun_safetensors_info(from, i);
            const bool narrow_one = half && strstr(e->name, half);
            char name[256];
            snprintf(name, sizeof name, "%s", e->name);
            for (size_t k = 0; rename && rename[k]; k += 2) {
                const char *at = strstr(e->name, rename[k]);
                if (at)
                    snprintf(name, sizeof name, "%.*s%s%s", (int)(at - e->name), e->name, rename[k + 1],
                             at + strlen(rename[k]));
            }
            if (drop && strstr(e->name, drop))
                continue;
            if (!round) {
                MUST(
                    lun_safetensors_writer_declare(writer, name, narrow_one ? LUN_ST_F16 : e->dtype, e->rank, e->dims));
                continue;
            }
            void *data = calloc(1, (size_t)e->bytes);
            if (!narrow_one)
                MUST(lun_safetensors_read(from, i, data, (size_t)e->bytes));
            MUST(lun_safetensors_writer_data(writer, data, (size_t)e->bytes / (narrow_one ? 2 : 1)));
            free(data);
        }
    MUST(lun_safetensors_writer_commit(writer));
    lun_safetensors_close(from);
}

/* A folder in the scratch place: that of diffusers with other weights (NULL: its own) and one JSON file in which `to`
 * takes the place of `from`. */
static const char *variant(const char *golden, const char *weights, const char *file, const char *from, const char *to)
{
    static const char *const files[] = {"/model_index.json", "/unet/config.json", "/scheduler/scheduler_config.json"};
    const char *const folder = fresh("interop-folder");
    mkdir(folder, 0755);
    mkdir(join(folder, "/unet"), 0755);
    mkdir(join(folder, "/scheduler"), 0755);
    char *target = realpath(weights ? weights : join(golden_path(golden), WEIGHTS), NULL);
    ck_assert_ptr_nonnull(target);
    ck_assert_int_eq(symlink(target, join(folder, WEIGHTS)), 0);
    free(target);
    for (size_t i = 0; i < 3; i++) {
        char text[8000] = "";
        FILE *in = fopen(join(golden_path(golden), files[i]), "r"), *out = fopen(join(folder, files[i]), "w");
        ck_assert(in && out);
        const size_t bytes = fread(text, 1, sizeof text - 1, in);
        ck_assert(bytes > 0 && bytes < sizeof text - 1);
        char *at = file && strcmp(file, files[i]) == 0 ? strstr(text, from) : NULL;
        ck_assert_msg(at || !file || strcmp(file, files[i]) != 0, "%s has no %s", files[i], from);
        if (at)
            fprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
        else
            fputs(text, out);
        fclose(in);
        fclose(out);
    }
    return folder;
}

/* Schedules and predictions by diffusers' names; what only samplers are told is kept. */
START_TEST(schedulers)
{
    static const char path[] = "/scheduler/scheduler_config.json";
    const char *const ours = scratch_path("interop.safetensors"), *const back = scratch_path("interop-back");
    lun_model_file_info info;
    MUST(convert(variant("hf-ho", NULL, path, "\"linear\"", "\"squaredcos_cap_v2\""), fresh("interop.safetensors"),
                 LUN_NAMING_OWN));
    MUST(lun_model_inspect(ours, &info));
    ck_assert_int_eq(info.schedule, LUN_SCHEDULE_COSINE);
    ck_assert_int_eq(info.prediction, LUN_PREDICTION_EPS);
    MUST(convert(ours, fresh("interop-back"), LUN_NAMING_DIFFUSERS));
    same_json(join(scratch_path("interop-folder"), path), join(back, path));
    static const char *const predictions[] = {"epsilon", "sample", "v_prediction"};
    for (int i = 0; i < LUN_PREDICTIONS; i++) {
        MUST(convert(variant("hf-ho", NULL, path, "epsilon", predictions[i]), fresh("interop.safetensors"),
                     LUN_NAMING_OWN));
        MUST(lun_model_inspect(ours, &info));
        ck_assert_int_eq(info.prediction, i);
        MUST(convert(ours, fresh("interop-back"), LUN_NAMING_DIFFUSERS));
        same_json(join(scratch_path("interop-folder"), path), join(back, path));
    }
    /* Another class of scheduler, and another variance. */
    static const char *const kept[][2] = {{"\"fixed_small\"", "\"fixed_large\""},
                                          {"\"DDPMScheduler\"", "\"DDIMScheduler\""},
                                          {"\"steps_offset\": 0", "\"steps_offset\": 1, \"of_later\": [1]"}};
    for (size_t i = 0; i < 3; i++) {
        MUST(convert(variant("hf-ho", NULL, path, kept[i][0], kept[i][1]), fresh("interop.safetensors"),
                     LUN_NAMING_OWN));
        MUST(convert(ours, fresh("interop-back"), LUN_NAMING_DIFFUSERS));
        same_json(join(scratch_path("interop-folder"), path), join(back, path));
        MUST(convert(back, fresh("interop-again.safetensors"), LUN_NAMING_OWN));
        same_files(ours, scratch_path("interop-again.safetensors"));
        MUST(convert(ours, fresh("interop-again.safetensors"), LUN_NAMING_OWN));
        same_files(ours, scratch_path("interop-again.safetensors"));
    }
    /* Schedules that only lunette has. */
    info = narrow(&families[0]);
    info.schedule = LUN_SCHEDULE_SIGMOID;
    save_info(&info, scratch_path("saved.safetensors"));
    ck_refused(convert(scratch_path("saved.safetensors"), fresh("interop-back"), LUN_NAMING_DIFFUSERS), LUN_ERR_USAGE,
               "'sigmoid'");
    info.schedule = LUN_SCHEDULE_SCALED;
    info.config.steps = 100;
    save_info(&info, scratch_path("saved.safetensors"));
    MUST(convert(scratch_path("saved.safetensors"), back, LUN_NAMING_DIFFUSERS));
    MUST(convert(back, fresh("interop-again.safetensors"), LUN_NAMING_OWN));
    same_files(scratch_path("saved.safetensors"), scratch_path("interop-again.safetensors"));
    rewrite(join(back, WEIGHTS), scratch_path("variant.safetensors"), NULL, NULL, NULL);
    ck_assert_int_eq(rename(scratch_path("variant.safetensors"), join(back, WEIGHTS)), 0);
    MUST(lun_model_inspect(back, &info));
    ck_assert_int_eq(info.schedule, LUN_SCHEDULE_LINEAR);
    ck_assert_double_eq(info.beta_first, 1e-3);
    ck_assert_double_eq(info.beta_last, 0.2);
    static const char *const rest[] = {"interop-folder", "interop-back", "interop.safetensors",
                                       "interop-again.safetensors"};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
        remove_all(scratch_path(rest[i]));
}
END_TEST

START_TEST(what_no_tensor_shows)
{
    const char *const saved = scratch_path("saved.safetensors"), *const bare = scratch_path("variant.safetensors");
    lun_model_file_info info;
    /* adm-64's shape, and OpenAI's at large: heads of 64, which four hints change. */
    save_family(&families[2], saved);
    rewrite(saved, bare, NULL, NULL, NULL);
    MUST(lun_model_inspect(bare, &info));
    ck_assert_int_eq(info.assumed, 1);
    ck_assert_int_eq(info.config.head_width, 64);
    const lun_convert_params hinted = {.from = bare,
                                       .to = fresh("interop.safetensors"),
                                       .hints = {.head_width = 16, .order = 1 + LUN_QKV_SPLIT, .groups = 16}};
    MUST(lun_model_convert(&hinted, &info));
    ck_assert_int_eq(info.assumed, 1);
    MUST(lun_model_inspect(hinted.to, &info));
    ck_assert_int_eq(info.assumed, 0);
    ck_assert_int_eq(info.config.heads, 0);
    ck_assert_int_eq(info.config.head_width, 16);
    ck_assert_int_eq(info.config.groups, 16);
    ck_assert_int_eq(info.config.qkv_order, LUN_QKV_SPLIT);
    same_tensors(bare, hinted.to);
    /* What the file says itself is not overruled. */
    const lun_convert_params twice = {.from = hinted.to, .to = scratch_path("interop-back"), .hints = {.heads = 2}};
    ck_refused(lun_model_convert(&twice, NULL), LUN_ERR_USAGE, "says itself");
    const lun_convert_params folder = {.from = golden_path("hf-ho"), .to = twice.to, .hints = {.groups = 2}};
    ck_refused(lun_model_convert(&folder, NULL), LUN_ERR_USAGE, "says itself");
    lun_convert_params wrong = {.from = bare, .to = twice.to, .hints = {.heads = 7}};
    ck_refused(lun_model_convert(&wrong, NULL), LUN_ERR_CHECKPOINT, "do not divide into heads");
    wrong.hints = (lun_model_hints){.heads = 2, .head_width = 2};
    ck_refused(lun_model_convert(&wrong, NULL), LUN_ERR_USAGE, "");
    /* Bare files of the other layouts. */
    save_family(&families[0], saved);
    for (int layout = LUN_NAMING_DDPM; layout <= LUN_NAMING_DIFFUSERS; layout++) {
        MUST(convert(saved, fresh("interop-there"), (lun_naming)layout));
        rewrite(layout == LUN_NAMING_DIFFUSERS ? join(scratch_path("interop-there"), WEIGHTS)
                                               : scratch_path("interop-there"),
                bare, NULL, NULL, NULL);
        MUST(convert(bare, fresh("interop.safetensors"), LUN_NAMING_OWN));
        same_tensors(saved, scratch_path("interop.safetensors"));
    }
    remove_all(scratch_path("interop-there"));
    remove_all(scratch_path("interop.safetensors"));
}
END_TEST

START_TEST(folders_that_lie_are_refused)
{
    static const char unet[] = "/unet/config.json", scheduler[] = "/scheduler/scheduler_config.json",
                      index[] = "/model_index.json";
    static const struct {
        const char *file, *from, *to, *says;
    } lies[] = {
        {unet, "\"act_fn\": \"silu\"", "\"act_fn\": \"gelu\"", "'act_fn' is 'gelu'"},
        {unet, "\"act_fn\": \"silu\"", "\"act_fn\": 1", "'act_fn' must be a string"},
        {unet, "\"attention_head_dim\": null", "\"attention_head_dim\": 5", "do not divide into heads"},
        {unet, "\"attention_head_dim\": null", "\"attention_head_dim\": 0", "attention_head_dim"},
        {unet, "\"AttnDownBlock2D\"", "\"CrossAttnDownBlock2D\"", "has 'CrossAttnDownBlock2D'"},
        {unet, "\"AttnDownBlock2D\"", "\"DownBlock2D\"", "on the way up than on the way down"},
        {unet, "\"AttnDownBlock2D\",", "", "'down_block_types' has 2 entries"},
        {unet, "\"block_out_channels\": [", "\"block_out_channels\": [1, 1, 1, 1, 1, 1,", "has 9 entries"},
        {unet, "\"block_out_channels\": [", "\"block_out_channels\": [1e9,", "whole number from 1 to 65536"},
        {unet, "\"norm_num_groups\": 4", "\"norm_num_groups\": 3", "3 groups"},
        {unet, "\"norm_num_groups\": 4", "\"norm_num_groups\": 4000000000000", "norm_num_groups"},
        {unet, "\"norm_num_groups\": 4", "\"norm_num_groups\": 99999999999999999999999999", "not valid JSON"},
        {unet, "\"norm_num_groups\": 4", "\"norm_num_groups\": 4.0", "must be an integer"},
        {unet, "\"norm_eps\": 1e-06", "\"norm_eps\": 1e99", "norm_eps"},
        {unet, "\"norm_eps\": 1e-06", "\"norm_eps\": 0", "norm_eps"},
        {unet, "\"layers_per_block\": 1", "\"layers_per_block\": 1000", "1000 residual blocks"},
        {unet, "\"layers_per_block\": 1", "\"layers_per_block\": 2", "down_blocks.0.resnets.1.norm1.weight is missing"},
        {unet, "\"layers_per_block\": 1", "\"layers_per_block\": 2", " more"},
        {unet, "\"layers_per_block\": 1", "\"layers_per_block\": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", "nested"},
        {unet, "\"in_channels\": 3", "\"in_channels\": 4", "'out_channels' is 3"},
        {unet, "\"out_channels\": 3", "\"out_channels\": 6",
         "conv_out.weight is (3, 8, 3, 3) and should be (6, 8, 3, 3)"},
        {unet, "\"center_input_sample\": false", "\"center_input_sample\": true", "center_input_sample"},
        {unet, "\"add_attention\": true", "\"add_attention\": false", "add_attention"},
        {unet, "\"time_embedding_type\": \"positional\"", "\"time_embedding_type\": \"fourier\"", "fourier"},
        {unet, "\"time_embedding_dim\": null", "\"time_embedding_dim\": 31", "time_embedding_dim"},
        {unet, "\"freq_shift\": 1", "\"freq_shift\": 2", "freq_shift"},
        {unet, "\"mid_block_scale_factor\": 1", "\"mid_block_scale_factor\": 2", "mid_block_scale_factor"},
        {unet, "\"dropout\": 0.0", "\"dropout\": 0.0, \"surprise\": 3", "'surprise' is not known"},
        {unet, "\"dropout\": 0.0", "\"dropout\": 0.0, \"dropout\": 0.0", "not valid JSON"},
        {unet, "\"_class_name\": \"UNet2DModel\"", "\"_class_name\": \"UNet3D\"", "_class_name"},
        {unet, "\"resnet_time_scale_shift\": \"default\"", "\"resnet_time_scale_shift\": \"scale_shift\"", "no norm"},
        {unet, "\"num_class_embeds\": null", "\"num_class_embeds\": 5", "class_embedding.weight is missing"},
        {unet, "\"sample_size\":", "\"sample_size\": [0, 8], \"_was\":", "sample_size"},
        {unet, "{", "", "not valid JSON"},
        {scheduler, "\"beta_schedule\": \"linear\"", "\"beta_schedule\": \"laplace\"", "laplace"},
        {scheduler, "\"beta_end\": 0.3", "\"beta_end\": 3", "beta_end"},
        {scheduler, "\"beta_end\": 0.3", "\"beta_end\": 0.001", "betas from"},
        {scheduler, "\"trained_betas\": null", "\"trained_betas\": [0.5]", "trained_betas"},
        {scheduler, "\"num_train_timesteps\": 20", "\"num_train_timesteps\": 0", "num_train_timesteps"},
        {scheduler, "\"num_train_timesteps\": 20", "\"num_train_timesteps\": 1e30", "num_train_timesteps"},
        {scheduler, "\"rescale_betas_zero_snr\": false", "\"rescale_betas_zero_snr\": true", "zero_snr"},
        {index, "\"UNet2DModel\"", "\"UNet2DConditionModel\"", "is a UNet2DConditionModel"},
        {index, "\"unet\"", "\"prior\"", "without a 'unet'"},
        {index, "}", "", "not valid JSON"},
    };
    lun_model_file_info info;
    MUST(lun_model_inspect(variant("hf-ho", NULL, NULL, NULL, NULL), &info));
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        const char *folder = variant("hf-ho", NULL, lies[i].file, lies[i].from, lies[i].to);
        const lun_status status = lun_model_inspect(folder, &info);
        ck_assert_msg(status == LUN_ERR_CHECKPOINT, "%s: %s", lies[i].to, lun_status_name(status));
        ck_assert_msg(strstr(lun_error_detail(), lies[i].says) != NULL, "%s: %s", lies[i].to, lun_error_detail());
    }
    /* What it leaves out is what diffusers assumes; what says nothing is passed over. */
    MUST(lun_model_inspect(variant("hf-ho", NULL, unet, "\"act_fn\": \"silu\",", "\"later\": null,"), &info));
    remove_all(scratch_path("interop-folder"));
}
END_TEST

START_TEST(folders_in_other_ways)
{
    static const char *const former[] = {".to_q.",  ".query.",    ".to_k.",      ".key.", ".to_v.",
                                         ".value.", ".to_out.0.", ".proj_attn.", NULL};
    const char *const own = join(golden_path("hf-ho"), WEIGHTS), *const bare = scratch_path("variant.safetensors");
    const char *const out = scratch_path("interop.safetensors"), *const straight =
                                                                     scratch_path("interop-again.safetensors");
    lun_model_file_info info;
    char again[600];
    snprintf(again, sizeof again, "%s", own);
    MUST(convert(golden_path("hf-ho"), fresh("interop-again.safetensors"), LUN_NAMING_OWN));
    /* Names of 2022. */
    rewrite(again, bare, former, NULL, NULL);
    MUST(convert(variant("hf-ho", bare, NULL, NULL, NULL), fresh("interop.safetensors"), LUN_NAMING_OWN));
    same_tensors(straight, out);
    /* Half precision stays. */
    rewrite(again, bare, NULL, NULL, "");
    MUST(convert(variant("hf-ho", bare, NULL, NULL, NULL), fresh("interop.safetensors"), LUN_NAMING_OWN));
    MUST(convert(out, fresh("interop-back"), LUN_NAMING_DIFFUSERS));
    same_tensors(bare, join(scratch_path("interop-back"), WEIGHTS));
    rewrite(again, bare, NULL, NULL, ".to_k.");
    ck_refused(convert(variant("hf-ho", bare, NULL, NULL, NULL), fresh("interop.safetensors"), LUN_NAMING_OWN),
               LUN_ERR_CHECKPOINT, "to_k.weight are of different types");
    /* What is missing, and how much more. */
    rewrite(again, bare, NULL, "mid_block.attentions.0.to_k.bias", NULL);
    ck_refused(lun_model_inspect(variant("hf-ho", bare, NULL, NULL, NULL), &info), LUN_ERR_CHECKPOINT,
               "does not fit the network: mid_block.attentions.0.to_k.bias is missing");
    rewrite(again, bare, NULL, "norm1", NULL);
    ck_refused(lun_model_inspect(variant("hf-ho", bare, NULL, NULL, NULL), &info), LUN_ERR_CHECKPOINT, "; and 12 more");
    rewrite(again, bare, (const char *const[]){"conv_out", "conv_our", NULL}, NULL, NULL);
    ck_refused(lun_model_inspect(variant("hf-ho", bare, NULL, NULL, NULL), &info), LUN_ERR_CHECKPOINT,
               "conv_our.bias does not belong there");
    /* Another network's weights. */
    ck_refused(lun_model_inspect(variant("hf-ho", golden_path("small.model.safetensors"), NULL, NULL, NULL), &info),
               LUN_ERR_CHECKPOINT, "not the names of diffusers");
    /* Our folder, one of its files changed by hand. */
    MUST(convert(straight, fresh("interop-there"), LUN_NAMING_DIFFUSERS));
    char ours[600];
    snprintf(ours, sizeof ours, "%s", join(scratch_path("interop-there"), WEIGHTS));
    MUST(lun_model_inspect(variant("hf-ho", ours, NULL, NULL, NULL), &info));
    ck_refused(lun_model_inspect(variant("hf-ho", ours, "/unet/config.json", "1e-06", "1e-05"), &info),
               LUN_ERR_CHECKPOINT, "disagree on 'norm_eps'");
    ck_refused(
        lun_model_inspect(
            variant("hf-ho", ours, "/scheduler/scheduler_config.json", "timesteps\": 20", "timesteps\": 30"), &info),
        LUN_ERR_CHECKPOINT, "disagree on 'num_train_timesteps'");
    /* Parts that are missing, and a pickle in the place of the tensors. */
    const char *folder = variant("hf-ho", NULL, NULL, NULL, NULL);
    unlink(join(folder, "/unet/config.json"));
    ck_refused(lun_model_inspect(folder, &info), LUN_ERR_CHECKPOINT, "holds no config.json");
    folder = variant("hf-ho", NULL, NULL, NULL, NULL);
    unlink(join(folder, WEIGHTS));
    ck_refused(lun_model_inspect(folder, &info), LUN_ERR_CHECKPOINT, "holds no diffusion_pytorch_model.safetensors");
    FILE *pickle = fopen(join(folder, "/unet/diffusion_pytorch_model.bin"), "w");
    fwrite("PK\3\4\0\0\10\10\0\0\0\0\0\0", 1, 14, pickle);
    fclose(pickle);
    ck_refused(lun_model_inspect(folder, &info), LUN_ERR_CHECKPOINT, "a PyTorch pickle");
    static const char *const rest[] = {"interop-folder", "interop-there", "interop-back", "interop.safetensors",
                                       "interop-again.safetensors"};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
        remove_all(scratch_path(rest[i]));
}
END_TEST

void add_interop_tests(TCase *group)
{
    tcase_add_test(group, diffusers_folders_match);
    tcase_add_test(group, pipeline_draws_our_picture);
    tcase_add_test(group, diffusers_gets_its_folder_back);
    tcase_add_test(group, round_trips_through_layouts);
    tcase_add_test(group, notebook_network_stays_ours);
    tcase_add_test(group, schedulers);
    tcase_add_test(group, what_no_tensor_shows);
    tcase_add_test(group, folders_that_lie_are_refused);
    tcase_add_test(group, folders_in_other_ways);
}
