/* The UNets of the papers, as far as no device is needed: what they consist of, under whose names, and what is refused.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/lunette.h>

#include "model/build.h"
#include "model/config_json.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        const lun_status ok_s_ = (call);                                                                               \
        ck_assert_msg(ok_s_ == LUN_OK, "%s: %s: %s", #call, lun_status_name(ok_s_), lun_error_detail());               \
    } while (0)

static lun_model_config named(const char *name)
{
    lun_model_config config;
    OK(lun_model_config_named(name, &config));
    return config;
}

/* ---- Counts ------------------------------------------------------------------------------------------------------ */

START_TEST(published_networks_have_their_parameters)
{
    static const struct {
        const char *name;
        uint64_t parameters, tensors; /* 0: not published */
        int size;
    } wanted[] = {
        {"notebook", 62438883, 0, 64},      {"ddpm-cifar10", 35746307, 328, 32}, {"ddpm-256", 113673219, 450, 256},
        {"iddpm-cifar10", 52546438, 0, 32}, {"iddpm-64", 121063942, 0, 64},      {"adm-64", 295904454, 541, 64},
        {"adm-128", 421529606, 0, 128},     {"adm-256", 553838086, 0, 256},      {"adm-256-uncond", 552814086, 0, 256},
        {"adm-512", 558997638, 0, 512},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const lun_model_config config = named(wanted[i].name);
        uint64_t tensors = 0;
        const uint64_t parameters = lun_model_parameters(&config, &tensors);
        ck_assert_msg(parameters == wanted[i].parameters, "%s has %llu parameters", wanted[i].name,
                      (unsigned long long)parameters);
        ck_assert_msg(!wanted[i].tensors || tensors == wanted[i].tensors, "%s has %llu tensors", wanted[i].name,
                      (unsigned long long)tensors);
        OK(lun_model_config_check(&config, wanted[i].size, wanted[i].size));
    }
    lun_model_config config = named("adm-64");
    config.heads = -1;
    ck_assert_uint_eq(lun_model_parameters(&config, NULL), 0);
    ck_assert_int_eq(lun_model_config_named("adm-65", &config), LUN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "adm-256-uncond, adm-512, small"));
    ck_assert_int_eq(lun_model_config_named(NULL, &config), LUN_ERR_USAGE);
}
END_TEST

/* What is listed is what is recorded: the same names, shapes and starts in the same order. */
typedef struct beside {
    lun_store *store;
    size_t at;
} beside;

static bool same_entry(void *payload, const lun_model_param *p)
{
    beside *b = payload;
    ck_assert_uint_lt(b->at, lun_store_count(b->store));
    const lun_param_info *info = lun_store_info(b->store, b->at++);
    ck_assert_str_eq(info->name, p->info.name);
    ck_assert_msg(lun_shape_equal(info->desc.shape, p->info.desc.shape), "%s", info->name);
    ck_assert_int_eq(info->desc.layout, p->info.desc.layout);
    ck_assert_int_eq(info->rank, p->info.rank);
    ck_assert_int_eq(info->role, p->info.role);
    ck_assert_int_eq(info->init.kind, p->info.init.kind);
    ck_assert_float_eq(info->init.bound, p->info.init.bound);
    return true;
}

START_TEST(the_list_is_the_network)
{
    static const char *const names[] = {"notebook", "ddpm-cifar10", "iddpm-64", "adm-64", "adm-512", "small"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const lun_model_config config = named(names[i]);
        const int size = 2 << (config.levels - 1);
        beside b = {0};
        lun_graph *graph = NULL;
        OK(lun_store_create(&b.store));
        OK(lun_graph_create(b.store, &graph));
        const lun_desc per_picture = lun_typed(lun_image(2, 1, 1, 1), LUN_I32);
        const lun_model_inputs in = {.x = lun_graph_input(graph, "x", lun_image(2, 3, size, 2 * size)),
                                     .t = lun_graph_input(graph, "t", per_picture),
                                     .labels = config.classes ? lun_graph_input(graph, "labels", per_picture) : -1,
                                     .dropout =
                                         lun_graph_input(graph, "dropout", lun_typed(lun_image(2, 8, 1, 1), LUN_U32)),
                                     .norm = LUN_NORM_TRAIN};
        const lun_value y = lun_model_apply(graph, &config, &in);
        OK(lun_graph_check(graph));
        ck_assert(lun_shape_equal(lun_graph_desc(graph, y).shape,
                                  lun_shape4(2, lun_model_output_channels(&config), size, 2 * size)));
        ck_assert_int_eq(lun_model_output_channels(&config), config.learned_sigma ? 6 : 3);
        ck_assert(lun_model_visit(&config, LUN_NAMING_OWN, same_entry, &b));
        ck_assert_uint_eq(b.at, lun_store_count(b.store));
        ck_assert_uint_eq(lun_store_param_elements(b.store), lun_model_parameters(&config, NULL));
        lun_graph_destroy(&graph);
        lun_store_destroy(&b.store);
    }
}
END_TEST

/* ---- Names ------------------------------------------------------------------------------------------------------- */

typedef struct search {
    const char *part;
    lun_model_param found;
    int hits;
    uint64_t elements;
} search;

static bool look(void *payload, const lun_model_param *p)
{
    search *s = payload;
    for (int i = 0; i < p->parts; i++) {
        uint64_t elements = 1;
        for (int d = 0; d < p->rank; d++)
            elements *= (uint64_t)p->dims[d];
        s->elements += elements;
        if (strcmp(p->part[i], s->part) == 0) {
            s->hits++;
            s->found = *p;
        }
    }
    return true;
}

START_TEST(names_are_those_of_the_neighbours)
{
    static const struct {
        const char *network;
        lun_naming naming;
        const char *part;
        int rank;
        int64_t dims[4];
    } wanted[] = {
        /* Ho's network in the names of its port */
        {"ddpm-cifar10", LUN_NAMING_OWN, "temb.dense.0.weight", 2, {512, 128}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "temb.dense.1.bias", 1, {512}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "conv_in.weight", 4, {128, 3, 3, 3}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "down.1.block.0.nin_shortcut.weight", 4, {256, 128, 1, 1}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "down.1.attn.1.q.weight", 4, {256, 256, 1, 1}},
        {"ddpm-cifar10", LUN_NAMING_DDPM, "down.1.attn.1.v.bias", 1, {256}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "down.2.downsample.conv.weight", 4, {256, 256, 3, 3}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "mid.block_1.temb_proj.weight", 2, {256, 512}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "mid.attn_1.proj_out.weight", 4, {256, 256, 1, 1}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "mid.block_2.conv2.weight", 4, {256, 256, 3, 3}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "up.0.block.2.conv1.weight", 4, {128, 256, 3, 3}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "up.1.attn.2.norm.weight", 1, {256}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "up.3.upsample.conv.bias", 1, {256}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "norm_out.weight", 1, {128}},
        {"ddpm-cifar10", LUN_NAMING_OWN, "conv_out.weight", 4, {3, 128, 3, 3}},
        /* and in diffusers', whose up_blocks begin at the lowest resolution */
        {"ddpm-cifar10", LUN_NAMING_DIFFUSERS, "time_embedding.linear_2.weight", 2, {512, 512}},
        {"ddpm-cifar10", LUN_NAMING_DIFFUSERS, "down_blocks.1.attentions.1.to_v.weight", 2, {256, 256}},
        {"ddpm-cifar10", LUN_NAMING_DIFFUSERS, "down_blocks.2.downsamplers.0.conv.weight", 4, {256, 256, 3, 3}},
        {"ddpm-cifar10", LUN_NAMING_DIFFUSERS, "mid_block.resnets.1.time_emb_proj.bias", 1, {256}},
        {"ddpm-cifar10", LUN_NAMING_DIFFUSERS, "mid_block.attentions.0.to_out.0.weight", 2, {256, 256}},
        {"ddpm-cifar10", LUN_NAMING_DIFFUSERS, "up_blocks.2.attentions.2.group_norm.bias", 1, {256}},
        {"ddpm-cifar10", LUN_NAMING_DIFFUSERS, "up_blocks.3.resnets.2.conv_shortcut.weight", 4, {128, 256, 1, 1}},
        {"ddpm-cifar10", LUN_NAMING_DIFFUSERS, "up_blocks.0.upsamplers.0.conv.weight", 4, {256, 256, 3, 3}},
        {"ddpm-cifar10", LUN_NAMING_DIFFUSERS, "conv_norm_out.weight", 1, {128}},
        /* OpenAI's: input_blocks and output_blocks 0 to 15 */
        {"adm-64", LUN_NAMING_OWN, "time_embed.0.weight", 2, {768, 192}},
        {"adm-64", LUN_NAMING_OWN, "label_emb.weight", 2, {1000, 768}},
        {"adm-64", LUN_NAMING_OWN, "input_blocks.0.0.weight", 4, {192, 3, 3, 3}},
        {"adm-64", LUN_NAMING_OWN, "input_blocks.4.0.in_layers.2.weight", 4, {192, 192, 3, 3}},
        {"adm-64", LUN_NAMING_OWN, "input_blocks.5.0.skip_connection.weight", 4, {384, 192, 1, 1}},
        {"adm-64", LUN_NAMING_OWN, "input_blocks.5.1.qkv.weight", 3, {1152, 384, 1}},
        {"adm-64", LUN_NAMING_OWN, "input_blocks.15.1.proj_out.weight", 3, {768, 768, 1}},
        {"adm-64", LUN_NAMING_OWN, "middle_block.0.emb_layers.1.weight", 2, {1536, 768}},
        {"adm-64", LUN_NAMING_OWN, "middle_block.1.norm.weight", 1, {768}},
        {"adm-64", LUN_NAMING_OWN, "middle_block.2.out_layers.3.weight", 4, {768, 768, 3, 3}},
        {"adm-64", LUN_NAMING_OWN, "output_blocks.3.2.out_layers.0.bias", 1, {768}},
        {"adm-64", LUN_NAMING_OWN, "output_blocks.4.0.in_layers.0.weight", 1, {768 + 576}}, /* h, and input block 11 */
        {"adm-64", LUN_NAMING_OWN, "output_blocks.15.0.out_layers.3.weight", 4, {192, 192, 3, 3}},
        {"adm-64", LUN_NAMING_OWN, "out.2.weight", 4, {6, 192, 3, 3}},
        {"adm-64", LUN_NAMING_DIFFUSERS, "class_embedding.weight", 2, {1000, 768}},
        {"adm-64", LUN_NAMING_DIFFUSERS, "down_blocks.0.downsamplers.0.norm1.weight", 1, {192}},
        {"adm-64", LUN_NAMING_DIFFUSERS, "up_blocks.0.upsamplers.0.conv2.weight", 4, {768, 768, 3, 3}},
        {"iddpm-64", LUN_NAMING_OWN, "input_blocks.4.0.op.weight", 4, {128, 128, 3, 3}},
        {"iddpm-64", LUN_NAMING_OWN, "output_blocks.3.2.conv.weight", 4, {512, 512, 3, 3}},
        {"iddpm-64", LUN_NAMING_OWN, "output_blocks.11.1.conv.weight", 4, {256, 256, 3, 3}},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const lun_model_config config = named(wanted[i].network);
        search s = {.part = wanted[i].part};
        lun_model_visit(&config, wanted[i].naming, look, &s);
        ck_assert_msg(s.hits == 1, "%s has %d of %s", wanted[i].network, s.hits, wanted[i].part);
        ck_assert_msg(s.found.rank == wanted[i].rank, "%s has rank %d", wanted[i].part, s.found.rank);
        for (int d = 0; d < wanted[i].rank; d++)
            ck_assert_msg(s.found.dims[d] == wanted[i].dims[d], "%s: dimension %d is %lld", wanted[i].part, d,
                          (long long)s.found.dims[d]);
        ck_assert_uint_eq(s.elements, lun_model_parameters(&config, NULL));
    }
}
END_TEST

/* ---- Starts ------------------------------------------------------------------------------------------------------ */

static lun_init init_of(const lun_model_config *config, const char *part)
{
    search s = {.part = part};
    lun_model_visit(config, LUN_NAMING_OWN, look, &s);
    ck_assert_msg(s.hits == 1, "%s", part);
    return s.found.info.init;
}

static void is_uniform(const lun_model_config *config, const char *part, double bound)
{
    const lun_init init = init_of(config, part);
    ck_assert_int_eq(init.kind, LUN_INIT_UNIFORM);
    ck_assert_msg(fabs((double)init.bound / bound - 1) < 1e-6, "%s in +-%g, not %g", part, (double)init.bound, bound);
}

START_TEST(weights_start_as_published)
{
    lun_model_config config = named("ddpm-cifar10");
    is_uniform(&config, "conv_in.weight", sqrt(6.0 / (9 * (3 + 128))));
    is_uniform(&config, "temb.dense.0.weight", sqrt(6.0 / (128 + 512)));
    is_uniform(&config, "down.1.attn.0.k.weight", sqrt(6.0 / 512));
    is_uniform(&config, "down.1.attn.0.proj_out.weight", sqrt(6e-10 / 512));
    is_uniform(&config, "down.1.block.0.conv1.weight", sqrt(6.0 / (9 * (128 + 256))));
    is_uniform(&config, "down.1.block.0.conv2.weight", sqrt(6e-10 / (9 * 512)));
    is_uniform(&config, "conv_out.weight", sqrt(6e-10 / (9 * (128 + 3))));
    ck_assert_int_eq(init_of(&config, "conv_in.bias").kind, LUN_INIT_ZERO);
    ck_assert_int_eq(init_of(&config, "norm_out.weight").kind, LUN_INIT_ONE);
    config = named("adm-64");
    is_uniform(&config, "input_blocks.0.0.bias", 1 / sqrt(27));
    is_uniform(&config, "input_blocks.5.1.qkv.weight", 1 / sqrt(384));
    is_uniform(&config, "input_blocks.5.0.skip_connection.weight", 1 / sqrt(192));
    static const char *const zero[] = {"input_blocks.5.0.out_layers.3.weight", "input_blocks.5.0.out_layers.3.bias",
                                       "middle_block.1.proj_out.weight", "out.2.weight", "out.2.bias"};
    for (size_t i = 0; i < sizeof zero / sizeof zero[0]; i++)
        ck_assert_int_eq(init_of(&config, zero[i]).kind, LUN_INIT_ZERO);
    ck_assert_int_eq(init_of(&config, "label_emb.weight").kind, LUN_INIT_NORMAL);
    ck_assert_float_eq(init_of(&config, "label_emb.weight").bound, 1);
    config.start = LUN_START_TORCH;
    is_uniform(&config, "out.2.weight", 1 / sqrt(9 * 192));
}
END_TEST

/* Moments and reach of a normal start, and that it is the same one again. */
START_TEST(normal_start)
{
    enum { COUNT = 40002 };
    static float values[COUNT], again[COUNT];
    lun_device *device = NULL;
    lun_store *store = NULL;
    lun_graph *graph = NULL;
    OK(lun_device_open("cpu", NULL, &device));
    OK(lun_store_create(&store));
    OK(lun_graph_create(store, &graph));
    lun_graph_param(graph, "other", lun_image(1, 3, 1, 1), 1, LUN_ROLE_PARAM, (lun_init){LUN_INIT_NORMAL, 1});
    lun_graph_param(graph, "table", lun_image(COUNT / 6, 6, 1, 1), 2, LUN_ROLE_PARAM, (lun_init){LUN_INIT_NORMAL, 2});
    OK(lun_graph_check(graph));
    lun_graph_param(graph, "wrong", lun_image(1, 3, 1, 1), 1, LUN_ROLE_PARAM, (lun_init){LUN_INIT_NORMAL, NAN});
    ck_assert_int_eq(lun_graph_check(graph), LUN_ERR_USAGE);
    OK(lun_store_allocate(store, device, 0));
    OK(lun_store_init(store, 9));
    OK(lun_store_read(store, 1, LUN_SLOT_VALUE, values));
    OK(lun_store_init(store, 9));
    OK(lun_store_read(store, 1, LUN_SLOT_VALUE, again));
    ck_assert_mem_eq(values, again, sizeof values);
    double sum[5] = {0}, most = 0;
    for (int i = 0; i < COUNT; i++) {
        const double z = (double)values[i] / 2;
        for (int k = 1; k < 5; k++)
            sum[k] += pow(z, k) / COUNT;
        most = fmax(most, fabs(z));
    }
    /* Five deviations of each moment's estimate: sqrt(variance of z^k / COUNT) = 1, sqrt 2, sqrt 15, sqrt 96 / 200. */
    ck_assert_double_lt(fabs(sum[1]), 0.025);
    ck_assert_double_lt(fabs(sum[2] - 1), 0.036);
    ck_assert_double_lt(fabs(sum[3]), 0.097);
    ck_assert_double_lt(fabs(sum[4] - 3), 0.245);
    ck_assert(most > 3.5 && most <= 5.78);
    lun_graph_destroy(&graph);
    lun_store_destroy(&store);
    lun_device_close(&device);
}
END_TEST

/* ---- Configurations ---------------------------------------------------------------------------------------------- */

START_TEST(configurations_survive_json)
{
    static const char *const names[] = {"notebook", "ddpm-cifar10", "ddpm-256", "iddpm-cifar10",
                                        "adm-64",   "adm-512",      "small"};
    const lun_json_from from = {"here", LUN_ERR_DATA};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        lun_model_config config = named(names[i]), read;
        if (config.classes)
            config.null_class = 1;
        json_t *json = lun_model_config_to_json(&config), *parsed = NULL;
        ck_assert_ptr_nonnull(json);
        char *text = lun_json_text(json, 0);
        OK(lun_json_parse(from, text, strlen(text), &lun_json_usual, &parsed));
        OK(lun_model_config_from_json(from, parsed, &read));
        json_t *second = lun_model_config_to_json(&read);
        ck_assert(json_equal(json, second));
        ck_assert_float_eq(read.norm_eps, config.norm_eps);
        ck_assert_float_eq(read.dropout, config.dropout);
        ck_assert_uint_eq(lun_model_parameters(&read, NULL), lun_model_parameters(&config, NULL));
        /* Every member is needed and no other is taken. */
        const char *key;
        json_t *value;
        json_object_foreach(json, key, value)
        {
            json_t *less = json_copy(json);
            json_object_del(less, key);
            ck_assert_msg(lun_model_config_from_json(from, less, &read) == LUN_ERR_DATA, "%s is not needed", key);
            json_object_set_new(less, key, json_array());
            const bool list = strcmp(key, "attention") == 0;
            ck_assert_msg(list || lun_model_config_from_json(from, less, &read) == LUN_ERR_DATA, "%s: []", key);
            json_decref(less);
        }
        json_object_set_new(json, "more", json_true());
        ck_assert_int_eq(lun_model_config_from_json(from, json, &read), LUN_ERR_DATA);
        free(text);
        json_decref(json);
        json_decref(parsed);
        json_decref(second);
    }
    const lun_model_config cifar = named("ddpm-cifar10");
    json_t *json = lun_model_config_to_json(&cifar);
    /* As it was written, and not the float's 9.99999997e-07 */
    ck_assert_double_eq(json_real_value(json_object_get(json, "norm_eps")), 1e-6);
    json_decref(json);
}
END_TEST

START_TEST(wrong_configurations_are_refused)
{
#define REFUSED(change, says)                                                                                          \
    do {                                                                                                               \
        lun_model_config c = named("adm-64");                                                                          \
        change;                                                                                                        \
        ck_assert_int_eq(lun_model_config_check(&c, 64, 64), LUN_ERR_USAGE);                                           \
        ck_assert_msg(strstr(lun_error_detail(), says), "%s", lun_error_detail());                                     \
    } while (0)
    REFUSED(c.levels = 0, "levels");
    REFUSED(c.levels = 9, "levels");
    REFUSED(c.blocks = 0, "residual blocks");
    REFUSED(c.blocks = 17, "residual blocks");
    REFUSED(c.head_width = 0, "heads");
    REFUSED(c.head_width = 63, "384 channels do not divide into heads of 63");
    REFUSED((c.heads = 5, c.head_width = 0), "384 channels do not divide into heads: 5");
    REFUSED(c.groups = 0, "groups");
    REFUSED(c.groups = 36, "192 channels at level 0 do not divide into 36 groups");
    REFUSED(c.norm_eps = 0, "norm_eps");
    REFUSED(c.norm_eps = NAN, "norm_eps");
    REFUSED(c.dropout = 1, "dropout");
    REFUSED(c.dropout = NAN, "dropout");
    REFUSED(c.classes = -1, "classes");
    REFUSED((c.classes = 0, c.null_class = 1), "null class");
    REFUSED(c.time_shift = 2, "time_shift");
    REFUSED(c.time_dim = 7, "time embedding");
    REFUSED(c.steps = 0, "time steps");
    REFUSED(c.qkv_order = (lun_qkv_order)2, "order");
    REFUSED(c.start = (lun_start)3, "start");
    REFUSED(c.network = (lun_network)3, "network number 3");
#undef REFUSED
    const lun_model_config c = named("adm-64");
    ck_assert_int_eq(lun_model_config_check(&c, 64, 60), LUN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "divisible by 8"));
}
END_TEST

START_TEST(labels_belong_to_classes)
{
    for (int with = 0; with < 3; with++) {
        lun_model_config c = named(with ? "adm-64" : "small");
        lun_store *store = NULL;
        lun_graph *graph = NULL;
        OK(lun_store_create(&store));
        OK(lun_graph_create(store, &graph));
        const lun_value x = lun_graph_input(graph, "x", lun_image(1, 3, 8, 8));
        const lun_value t = lun_graph_input(graph, "t", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
        c.null_class = with == 2;
        if (with) {
            lun_model_forward(graph, &c, x, t, LUN_NORM_EVAL);
        } else {
            lun_model_apply(graph, &c,
                            &(lun_model_inputs){.x = x, .t = t, .labels = t, .dropout = -1, .norm = LUN_NORM_EVAL});
        }
        ck_assert_int_eq(lun_graph_check(graph), with == 2 ? LUN_OK : LUN_ERR_USAGE);
        ck_assert(with == 2 || strstr(lun_error_detail(), with ? "every picture needs a label" : "without classes"));
        if (with == 2) {
            const int index = lun_store_find(store, "label_emb.weight");
            ck_assert_int_ge(index, 0);
            ck_assert_int_eq(lun_store_info(store, (size_t)index)->desc.shape.n, 1001);
        }
        lun_graph_destroy(&graph);
        lun_store_destroy(&store);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unet");
    TCase *group = tcase_create("unet");
    tcase_add_test(group, published_networks_have_their_parameters);
    tcase_add_test(group, the_list_is_the_network);
    tcase_add_test(group, names_are_those_of_the_neighbours);
    tcase_add_test(group, weights_start_as_published);
    tcase_add_test(group, normal_start);
    tcase_add_test(group, configurations_survive_json);
    tcase_add_test(group, wrong_configurations_are_refused);
    tcase_add_test(group, labels_belong_to_classes);
    suite_add_tcase(suite, group);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
