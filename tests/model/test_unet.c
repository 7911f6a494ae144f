/* The UNets against PyTorch's float64 and diffusers' files: make_golden_unet.py. Forward, loss and every gradient;
 * files in all namings, round trips; classes, dropout. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

/* Ho's with asymmetric padding, pictures that are not square; OpenAI's with scale-shift, residual blocks between
 * levels, heads by width in the new order, classes with a null class and learned sigma; before it, with convolutions
 * between levels, heads by count in the old order, rescaled steps and grey pictures; and a mixture: time added,
 * residual blocks between levels, classes, four channels. */
static const char *const networks[] = {"ddpm", "adm", "iddpm", "plain"};
#define NETWORKS (sizeof networks / sizeof networks[0])

static const char *file_of(const char *name, const char *what)
{
    char file[64];
    snprintf(file, sizeof file, "%s.%s.safetensors", name, what);
    return golden_path(file);
}

START_TEST(unets_match)
{
    for (size_t i = 0; i < NETWORKS; i++) {
        char model[64];
        snprintf(model, sizeof model, "%s.model.safetensors", networks[i]);
        compare_predict(networks[i], model, LUN_PREDICT_NORM_DEFAULT, "eval", LUN_L2, NULL);
        compare_predict(networks[i], model, LUN_PREDICT_NORM_DEFAULT, "eval", LUN_L2, "l2");
    }
}
END_TEST

/* diffusers' own state_dicts give the same numbers. */
START_TEST(diffusers_files_match)
{
    compare_predict("ddpm", "ddpm.diffusers.safetensors", LUN_PREDICT_NORM_DEFAULT, "eval", LUN_L2, NULL);
    compare_predict("adm", "adm.diffusers.safetensors", LUN_PREDICT_NORM_DEFAULT, "eval", LUN_L2, NULL);
}
END_TEST

/* ---- Files ------------------------------------------------------------------------------------------------------- */

void same_tensors(const char *path_a, const char *path_b)
{
    lun_safetensors *a = golden_open(path_a), *b = golden_open(path_b);
    ck_assert_uint_eq(lun_safetensors_count(a), lun_safetensors_count(b));
    for (size_t i = 0; i < lun_safetensors_count(a); i++) {
        const lun_safetensors_entry *x = lun_safetensors_info(a, i);
        const int64_t index = lun_safetensors_find(b, x->name);
        ck_assert_msg(index >= 0, "%s has no %s", path_b, x->name);
        const lun_safetensors_entry *y = lun_safetensors_info(b, (size_t)index);
        ck_assert_int_eq(x->dtype, y->dtype);
        ck_assert_msg(x->rank == y->rank && memcmp(x->dims, y->dims, (size_t)x->rank * sizeof x->dims[0]) == 0, "%s",
                      x->name);
        void *left = malloc((size_t)x->bytes), *right = malloc((size_t)y->bytes);
        MUST(lun_safetensors_read(a, i, left, (size_t)x->bytes));
        MUST(lun_safetensors_read(b, (size_t)index, right, (size_t)y->bytes));
        ck_assert_msg(memcmp(left, right, (size_t)x->bytes) == 0, "%s differs", x->name);
        free(left);
        free(right);
    }
    lun_safetensors_close(a);
    lun_safetensors_close(b);
}

static char *bytes_of(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    char *bytes = malloc(*size);
    rewind(file);
    ck_assert_uint_eq(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

void same_files(const char *path_a, const char *path_b)
{
    size_t size_a = 0, size_b = 0;
    char *a = bytes_of(path_a, &size_a), *b = bytes_of(path_b, &size_b);
    ck_assert_uint_eq(size_a, size_b);
    ck_assert_mem_eq(a, b, size_a);
    free(a);
    free(b);
}

/* A network that only declares: files need no more. */
static network declared(const char *path)
{
    network n = {0};
    MUST(lun_model_inspect(path, &n.info));
    MUST(lun_store_create(&n.store));
    MUST(lun_model_declare(n.store, &n.info.config));
    MUST(lun_store_allocate(n.store, golden_device, 0));
    MUST(lun_model_load(n.store, path));
    return n;
}

START_TEST(round_trips)
{
    const char *const saved = scratch_path("saved.safetensors"), *again = scratch_path("again.safetensors");
    for (size_t i = 0; i < NETWORKS; i++) {
        network a = declared(file_of(networks[i], "model"));
        ck_assert_int_eq(a.info.naming, a.info.config.network == LUN_DDPM ? LUN_NAMING_DDPM : LUN_NAMING_GUIDED);
        a.info.height = 24;
        a.info.step = 12;
        MUST(lun_model_save(a.store, &a.info, "id", saved));
        same_tensors(file_of(networks[i], "model"), saved);
        network b = declared(saved);
        ck_assert_int_eq(b.info.height, 24);
        ck_assert_uint_eq(b.info.step, 12);
        ck_assert_uint_eq(lun_model_parameters(&b.info.config, NULL), lun_model_parameters(&a.info.config, NULL));
        MUST(lun_model_save(b.store, &b.info, "id", again));
        same_files(saved, again);
        network_close(&b);
        /* Through every other naming and back. */
        for (int naming = LUN_NAMING_GUIDED; naming <= LUN_NAMING_DIFFUSERS; naming++) {
            lun_model_file_info info = a.info;
            info.naming = naming;
            MUST(lun_model_save(a.store, &info, "id", again));
            network c = declared(again);
            ck_assert_int_eq(c.info.naming, naming);
            c.info.naming = LUN_NAMING_OWN;
            MUST(lun_model_save(c.store, &c.info, "id", again));
            same_files(saved, again);
            network_close(&c);
        }
        network_close(&a);
    }
}
END_TEST

START_TEST(diffusers_gets_its_own_file_back)
{
    static const char *const names[] = {"ddpm", "adm"};
    for (size_t i = 0; i < 2; i++) {
        network a = declared(file_of(names[i], "model"));
        a.info.naming = LUN_NAMING_DIFFUSERS;
        MUST(lun_model_save(a.store, &a.info, NULL, scratch_path("saved.safetensors")));
        same_tensors(file_of(names[i], "diffusers"), scratch_path("saved.safetensors"));
        network_close(&a);
    }
}
END_TEST

/* Write a model file's tensors with other metadata, or less of them. */
static void write_bare(const char *from_path, const char *path, const char *skip, const char *metadata)
{
    lun_safetensors *from = golden_open(from_path);
    lun_safetensors_writer *writer = NULL;
    MUST(lun_safetensors_writer_create(path, &writer));
    if (metadata)
        MUST(lun_safetensors_writer_metadata(writer, "lunette.model", metadata));
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < lun_safetensors_count(from); i++) {
            const lun_safetensors_entry *e = lun_safetensors_info(from, i);
            if (skip && strcmp(e->name, skip) == 0)
                continue;
            if (!round) {
                MUST(lun_safetensors_writer_declare(writer, e->name, e->dtype, e->rank, e->dims));
                continue;
            }
            void *data = malloc((size_t)e->bytes);
            MUST(lun_safetensors_read(from, i, data, (size_t)e->bytes));
            MUST(lun_safetensors_writer_data(writer, data, (size_t)e->bytes));
            free(data);
        }
    MUST(lun_safetensors_writer_commit(writer));
    lun_safetensors_close(from);
}

/* A published network of 32 channels a group, without any metadata. */
static void told(const char *published, int base, int levels, const int *channels, lun_naming naming,
                 lun_schedule_kind schedule, lun_model_config *out)
{
    const char *const path = scratch_path("saved.safetensors");
    lun_model_file_info info = {.naming = naming, .beta_first = 1e-4, .beta_last = 0.02}, read;
    MUST(lun_model_config_named(published, &info.config));
    /* As it is, but narrow enough for a test. */
    info.config.levels = levels;
    info.config.time_dim = base;
    memset(info.config.channels, 0, sizeof info.config.channels);
    memcpy(info.config.channels, channels, (size_t)levels * sizeof *channels);
    for (int i = levels; i < LUN_MODEL_MAX_LEVELS; i++)
        info.config.attention[i] = 0;
    info.config.head_width = info.config.head_width ? 32 : 0;
    if (info.config.classes)
        info.config.classes = 10;
    lun_store *store = NULL;
    MUST(lun_store_create(&store));
    MUST(lun_model_declare(store, &info.config));
    MUST(lun_store_allocate(store, golden_device, 0));
    MUST(lun_store_init(store, 1));
    MUST(lun_model_save(store, &info, NULL, path));
    write_bare(path, scratch_path("variant.safetensors"), NULL, NULL);
    MUST(lun_model_inspect(scratch_path("variant.safetensors"), &read));
    ck_assert_int_eq(read.naming, naming);
    ck_assert_int_eq(read.schedule, schedule);
    ck_assert_int_eq(read.prediction, LUN_PREDICTION_EPS);
    const lun_model_config *is = &read.config, *was = &info.config;
    ck_assert_int_eq(is->network, was->network);
    ck_assert_int_eq(is->levels, was->levels);
    ck_assert_mem_eq(is->channels, was->channels, sizeof is->channels);
    ck_assert_mem_eq(is->attention, was->attention, sizeof is->attention);
    ck_assert_int_eq(is->blocks, was->blocks);
    ck_assert_int_eq(is->time_dim, was->time_dim);
    ck_assert_int_eq(is->steps, was->steps);
    ck_assert_int_eq(is->scale_shift, was->scale_shift);
    ck_assert_int_eq(is->resample_blocks, was->resample_blocks);
    ck_assert_int_eq(is->asymmetric_pad, was->asymmetric_pad);
    ck_assert_int_eq(is->learned_sigma, was->learned_sigma);
    ck_assert_int_eq(is->classes, was->classes);
    ck_assert_int_eq(is->groups, was->groups);
    ck_assert_float_eq(is->norm_eps, was->norm_eps);
    ck_assert_int_eq(is->time_cos_first, was->time_cos_first);
    ck_assert_int_eq(is->time_shift, was->time_shift);
    ck_assert_int_eq(is->time_rescale, was->time_rescale);
    *out = *is;
    lun_store_destroy(&store);
}

START_TEST(networks_are_told_from_their_tensors)
{
    lun_model_config config;
    told("ddpm-cifar10", 32, 3, (const int[]){32, 64, 32}, LUN_NAMING_DDPM, LUN_SCHEDULE_LINEAR, &config);
    ck_assert_int_eq(config.heads, 1);
    told("ddpm-cifar10", 32, 3, (const int[]){32, 64, 32}, LUN_NAMING_DIFFUSERS, LUN_SCHEDULE_LINEAR, &config);
    ck_assert_int_eq(config.heads, 1);
    told("iddpm-cifar10", 32, 3, (const int[]){32, 64, 64}, LUN_NAMING_GUIDED, LUN_SCHEDULE_COSINE, &config);
    ck_assert_int_eq(config.heads, 4);
    ck_assert_int_eq(config.qkv_order, LUN_QKV_HEADS);
    told("adm-64", 32, 3, (const int[]){64, 64, 128}, LUN_NAMING_GUIDED, LUN_SCHEDULE_LINEAR, &config);
    ck_assert_int_eq(config.head_width, 64);
    told("adm-64", 32, 3, (const int[]){64, 64, 128}, LUN_NAMING_DIFFUSERS, LUN_SCHEDULE_LINEAR, &config);
    ck_assert_int_eq(config.head_width, 64);
}
END_TEST

START_TEST(files_that_lie_are_refused)
{
    const char *const model = file_of("adm", "model"), *path = scratch_path("variant.safetensors");
    lun_safetensors *file = golden_open(model);
    const char *const metadata = lun_safetensors_metadata(file, "lunette.model");
    lun_model_file_info info;
    network n = declared(model);
    write_bare(model, path, "middle_block.1.qkv.weight", metadata);
    ck_assert_int_eq(lun_model_inspect(path, &info), LUN_ERR_CHECKPOINT);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "middle_block.1.qkv.weight is missing"));
    ck_assert_int_eq(lun_model_load(n.store, path), LUN_ERR_CHECKPOINT);
    /* Not the published widths, so nothing can be assumed of the groups. */
    write_bare(model, path, NULL, NULL);
    ck_assert_int_eq(lun_model_inspect(path, &info), LUN_ERR_CHECKPOINT);
    static const struct {
        const char *from, *to, *says;
    } lies[] = {
        {"\"channels\": [8, 16, 16]", "\"channels\": [8, 16, 32]", "and should be"},
        {"\"blocks\": 1", "\"blocks\": 2",
         "input_blocks.3.0.in_layers.2.weight is (16, 8, 3, 3) and should be (8, 8, 3, 3)"},
        {"\"attention\": [1, 2]", "\"attention\": [0, 1]", "is missing"},
        {"\"classes\": 5", "\"classes\": 4", "label_emb.weight is (6, 32) and should be (5, 32)"},
        {"\"scale_shift\": true", "\"scale_shift\": false", "and should be"},
        {"\"qkv_order\": \"split\"", "\"qkv_order\": \"spilt\"", "qkv_order 'spilt'"},
        {"\"groups\": 4", "\"groups\": 5", "5 groups"},
        {"\"network\": \"adm\"", "\"network\": \"notebook\"", "not those of network 'notebook'"},
        {"\"network\": \"adm\"", "\"network\": \"ddpm\"", "two networks"},
        {"\"head_width\": 8", "\"head_width\": 1000000000000", "head_width"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        char text[2000];
        const char *at = strstr(metadata, lies[i].from);
        ck_assert_msg(at != NULL, "the metadata has no %s", lies[i].from);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - metadata), metadata, lies[i].to, at + strlen(lies[i].from));
        write_bare(model, path, NULL, text);
        ck_assert_msg(lun_model_inspect(path, &info) == LUN_ERR_CHECKPOINT, "%s passed", lies[i].to);
        ck_assert_msg(strstr(lun_error_detail(), lies[i].says) != NULL, "%s", lun_error_detail());
    }
    /* A sound file of another network. */
    ck_assert_int_eq(lun_model_load(n.store, file_of("ddpm", "model")), LUN_ERR_CHECKPOINT);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "temb.dense.0.weight does not belong there"));
    ck_assert_int_eq(lun_model_load(n.store, golden_path("small.model.safetensors")), LUN_ERR_CHECKPOINT);
    lun_safetensors_close(file);
    network_close(&n);
}
END_TEST

/* ---- Classes and dropout ----------------------------------------------------------------------------------------- */

typedef struct drawn {
    lun_shape shape;
    float *y;
} drawn;

/* The golden network's output, with labels (NULL: none given) and rows of dropout (NULL: none). */
static drawn draw(const char *name, const int32_t *labels, const uint32_t *rows, float dropout)
{
    lun_safetensors *file = golden_open(file_of(name, "in"));
    const lun_safetensors_entry *e = lun_safetensors_info(file, (size_t)lun_safetensors_find(file, "x"));
    const lun_shape shape = {e->dims[0], e->dims[1], e->dims[2], e->dims[3]};
    float *x = golden_floats(file, "x", 0);
    size_t count = 0;
    int64_t *steps = golden_integers(file, "t", &count);
    int32_t t[8];
    for (size_t i = 0; i < count; i++)
        t[i] = (int32_t)steps[i];
    network n = {0};
    MUST(lun_model_inspect(file_of(name, "model"), &n.info));
    n.info.config.dropout = dropout;
    MUST(lun_store_create(&n.store));
    MUST(lun_graph_create(n.store, &n.graph));
    const lun_desc per_picture = lun_typed(lun_image(shape.n, 1, 1, 1), LUN_I32);
    const lun_model_inputs in = {
        .x = lun_graph_input(n.graph, "x", (lun_desc){LUN_F32, LUN_IMAGE, shape}),
        .t = lun_graph_input(n.graph, "t", per_picture),
        .labels = labels ? lun_graph_input(n.graph, "labels", per_picture) : -1,
        .dropout = rows ? lun_graph_input(n.graph, "rows", lun_typed(lun_image(shape.n, 8, 1, 1), LUN_U32)) : -1};
    n.y = lun_model_apply(n.graph, &n.info.config, &in);
    lun_graph_output(n.graph, n.y);
    network_ready(&n, file_of(name, "model"), 0);
    MUST(lun_plan_write(n.plan, in.x, x));
    MUST(lun_plan_write(n.plan, in.t, t));
    if (labels)
        MUST(lun_plan_write(n.plan, in.labels, labels));
    if (rows)
        MUST(lun_plan_write(n.plan, in.dropout, rows));
    MUST(lun_plan_run(n.plan));
    drawn d = {lun_graph_desc(n.graph, n.y).shape, NULL};
    d.y = malloc((size_t)lun_count(d.shape) * sizeof *d.y);
    MUST(lun_plan_read(n.plan, n.y, d.y));
    network_close(&n);
    free(x);
    free(steps);
    lun_safetensors_close(file);
    return d;
}

static double apart(drawn a, drawn b)
{
    ck_assert(lun_shape_equal(a.shape, b.shape));
    return relative(a.y, b.y, (size_t)lun_count(a.shape));
}

START_TEST(no_labels_is_the_null_class)
{
    const int32_t null[] = {5, 5, 5}, others[] = {0, 1, 2};
    const drawn a = draw("adm", NULL, NULL, 0), b = draw("adm", null, NULL, 0), c = draw("adm", others, NULL, 0);
    ck_assert_double_eq(apart(a, b), 0);
    ck_assert_double_gt(apart(c, b), 0.01);
    free(a.y);
    free(b.y);
    free(c.y);
}
END_TEST

START_TEST(dropout_is_drawn_from_its_rows)
{
    uint32_t rows[2][2 * 8] = {{0}};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 2; i++) {
            rows[k][8 * i] = 17;                        /* the seed */
            rows[k][8 * i + 2] = (uint32_t)(i + 2 * k); /* the picture */
            rows[k][8 * i + 4] = 5u << 24;
        }
    const drawn without = draw("ddpm", NULL, NULL, 0.1f), none = draw("ddpm", NULL, rows[0], 0),
                a = draw("ddpm", NULL, rows[0], 0.1f), b = draw("ddpm", NULL, rows[0], 0.1f),
                c = draw("ddpm", NULL, rows[1], 0.1f);
    ck_assert_double_eq(apart(without, none), 0);
    ck_assert_double_eq(apart(a, b), 0);
    ck_assert_double_gt(apart(a, without), 0.01);
    ck_assert_double_gt(apart(a, c), 0.01);
    free(without.y);
    free(none.y);
    free(a.y);
    free(b.y);
    free(c.y);
}
END_TEST

/* ---- Sampling ---------------------------------------------------------------------------------------------------- */

static lun_sampler *sampler_of(const network *n, const lun_schedule *schedule, int batch, double guidance)
{
    lun_sampler *sampler = NULL;
    const lun_sampler_params params = {.batch = batch,
                                       .height = 8,
                                       .width = 16,
                                       .clip = LUN_CLIP_MODE_X0,
                                       .norm = LUN_NORM_BATCH,
                                       .schedule = schedule,
                                       .variance = LUN_VARIANCE_LEARNED,
                                       .guidance = guidance};
    MUST(lun_sampler_create(n->store, golden_device, &n->info.config, &params, NULL, &sampler));
    return sampler;
}

/* Classes, the null class, guidance and the learned variance of a network that a configuration describes; and its
 * pictures depend on no batch, whatever the norm mode. */
START_TEST(unets_are_sampled)
{
    enum { EACH = 3 * 8 * 16 };
    network n = declared(file_of("adm", "model"));
    lun_schedule full, schedule;
    MUST(lun_schedule_create(n.info.schedule, n.info.config.steps, n.info.beta_first, n.info.beta_last, &full));
    MUST(lun_schedule_respace(&full, 5, &schedule));
    const uint64_t seeds[] = {3, 8};
    const int32_t labels[] = {4, 0}, null[] = {5, 5}, beyond[] = {0, 6};
    float two[2 * EACH], one[EACH], again[2 * EACH];
    for (int guided = 0; guided < 2; guided++) {
        lun_sampler *pair = sampler_of(&n, &schedule, 2, guided ? 2 : 0);
        lun_sampler *single = sampler_of(&n, &schedule, 1, guided ? 2 : 0);
        ck_assert_int_eq(lun_sampler_classes(pair), 5);
        MUST(lun_sampler_draw(pair, &(lun_sampler_run){.seeds = seeds, .labels = labels}, two));
        for (int k = 0; k < 2; k++) {
            MUST(lun_sampler_draw(single, &(lun_sampler_run){.seeds = seeds + k, .labels = labels + k}, one));
            ck_assert(relative(one, two + k * EACH, EACH) < 1e-4);
        }
        MUST(lun_sampler_draw(pair, &(lun_sampler_run){.seeds = seeds, .labels = null}, again));
        ck_assert(relative(again, two, 2 * EACH) > 1e-3);
        MUST(lun_sampler_draw(pair, &(lun_sampler_run){.seeds = seeds}, two));
        ck_assert_mem_eq(again, two, sizeof two);
        ck_assert_int_eq(lun_sampler_draw(pair, &(lun_sampler_run){.seeds = seeds, .labels = beyond}, two),
                         LUN_ERR_USAGE);
        lun_sampler_destroy(&pair);
        lun_sampler_destroy(&single);
    }
    lun_schedule_free(&schedule);
    lun_schedule_free(&full);
    network_close(&n);
}
END_TEST

void add_unet_tests(TCase *group)
{
    tcase_add_test(group, unets_match);
    tcase_add_test(group, diffusers_files_match);
    tcase_add_test(group, round_trips);
    tcase_add_test(group, diffusers_gets_its_own_file_back);
    tcase_add_test(group, networks_are_told_from_their_tensors);
    tcase_add_test(group, files_that_lie_are_refused);
    tcase_add_test(group, no_labels_is_the_null_class);
    tcase_add_test(group, dropout_is_drawn_from_its_rows);
    tcase_add_test(group, unets_are_sampled);
}
