/* Samplers against diffusers' schedulers: whole trajectories with given noise, by make_sampling.py; and what seeds,
 * labels and guidance mean. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "golden.h"

enum { SIDE = 8, BATCH = 2, EACH = 3 * SIDE * SIDE, SIZE = BATCH * EACH };
#define WITHIN 1e-4

static lun_safetensors *file;
static network net;
static lun_schedule whole, twenty; /* T = 300, and a process of its own of 20 steps */
static float *start, *noise, *wide_weight, *label_table;

static void open_all(void)
{
    const char *const model = golden_path("small.model.safetensors");
    file = golden_open(golden_path("samplers.safetensors"));
    lun_safetensors *path = golden_open(golden_path("path.safetensors"));
    start = golden_floats(path, "start", SIZE);
    noise = golden_floats(path, "noise", 300 * SIZE);
    lun_safetensors_close(path);
    wide_weight = golden_floats(file, "wide.weight", 9);
    label_table = golden_floats(file, "labels.table", 12);
    net = network_open(model, lun_shape4(BATCH, 3, SIDE, SIDE), LUN_NORM_EVAL);
    network_ready(&net, model, 0);
    MUST(lun_schedule_linear(300, 1e-4, 0.02, &whole));
    MUST(lun_schedule_linear(20, 1e-4, 0.02, &twenty));
}

static void close_all(void)
{
    free(start);
    free(noise);
    free(wide_weight);
    free(label_table);
    lun_schedule_free(&whole);
    lun_schedule_free(&twenty);
    network_close(&net);
    lun_safetensors_close(file);
}

/* make_sampling.py's Wide: labels shift the input, and three channels may stand behind the prediction. */
typedef struct variant {
    bool labels, wide, no_null;
} variant;

static lun_value record(void *payload, lun_graph *g, lun_value x, lun_value t, lun_value labels, lun_norm_mode norm)
{
    const variant *v = payload;
    if (v->labels) {
        const lun_value table = lun_graph_constant(g, "labels.table", lun_image(4, 3, 1, 1), label_table);
        x = lun_add_channel(g, x, lun_embed(g, labels, table));
    }
    const lun_value y = lun_model_forward(g, &net.info.config, x, t, norm);
    if (!v->wide)
        return y;
    const lun_value weight = lun_graph_constant(g, "wide.weight", lun_filter(3, 3, 1, 1), wide_weight);
    return lun_concat(g, y, lun_conv2d(g, x, weight, -1, 1, 0));
}

static lun_denoiser denoiser_of(variant *v)
{
    return (lun_denoiser){.record = record,
                          .payload = v,
                          .channels = 3,
                          .steps = 300,
                          .classes = v->labels ? 4 : 0,
                          .null_label = v->no_null ? -1 : 3};
}

static lun_sampler *sampler_open(lun_sampler_params params, variant *v)
{
    lun_sampler *sampler = NULL;
    const lun_denoiser denoiser = denoiser_of(v);
    if (params.batch == 0)
        params.batch = BATCH;
    params.height = params.width = SIDE;
    params.denoiser = &denoiser;
    MUST(lun_sampler_create(net.store, golden_device, NULL, &params, NULL, &sampler));
    return sampler;
}

typedef struct watcher {
    const float *want; /* states, in order */
    int every, compared, calls, last;
    double worst;
} watcher;

static int want_every(void *payload, int remaining)
{
    return remaining % ((watcher *)payload)->every == 0;
}

static int watch(void *payload, int remaining, const float *images)
{
    watcher *w = payload;
    ck_assert_int_eq(remaining, w->last - 1);
    w->last = remaining;
    w->calls++;
    if (images) {
        const double error = relative(images, w->want + (size_t)w->compared * SIZE, SIZE);
        w->worst = error > w->worst || isnan(error) ? error : w->worst;
        w->compared++;
    }
    return 0;
}

/* The trajectory `name` of the file, with these parameters. */
static void follow(const char *name, lun_sampler_params params, const lun_schedule *full, const char *steps, variant v)
{
    lun_schedule schedule;
    MUST(lun_schedule_select(full, steps, &schedule));
    params.schedule = &schedule;
    lun_sampler *sampler = sampler_open(params, &v);
    const int count = lun_sampler_steps(sampler), every = count >= 20 ? 5 : 1;
    float *want = golden_floats(file, name, (size_t)(count / every) * SIZE), images[SIZE];
    static const int32_t labels[BATCH] = {1, 2};
    watcher w = {.want = want, .every = every, .last = count};
    const lun_sampler_run run = {.start = start,
                                 .noise = noise,
                                 .want = want_every,
                                 .progress = watch,
                                 .payload = &w,
                                 .labels = v.labels ? labels : NULL};
    MUST(lun_sampler_draw(sampler, &run, images));
    printf("%s: %.2e\n", name, w.worst);
    ck_assert_int_eq(w.calls, count);
    ck_assert_int_eq(w.compared, count / every);
    ck_assert_msg(!!(w.worst <= WITHIN), "%s is %g off", name, w.worst);
    free(want);
    lun_sampler_destroy(&sampler);
    lun_schedule_free(&schedule);
}

#define PARAMS(...) ((lun_sampler_params){__VA_ARGS__})
static const variant plain = {.labels = false}, wide = {.wide = true}, labelled = {.labels = true},
                     both = {.labels = true, .wide = true};

START_TEST(ancestral_matches)
{
    const lun_clip_mode x0 = LUN_CLIP_MODE_X0;
    const lun_variance large = LUN_VARIANCE_LARGE, learned = LUN_VARIANCE_LEARNED;
    follow("ancestral.small.x0.eps", PARAMS(.clip = x0), &whole, "ddim25", plain);
    follow("ancestral.small.none.eps", PARAMS(0), &whole, "ddim25", plain);
    follow("ancestral.large.x0.eps", PARAMS(.clip = x0, .variance = large), &whole, "ddim25", plain);
    follow("ancestral.small.x0.v", PARAMS(.clip = x0, .prediction = LUN_PREDICTION_V), &whole, "ddim25", plain);
    follow("ancestral.small.none.v", PARAMS(.prediction = LUN_PREDICTION_V), &whole, "ddim25", plain);
    follow("ancestral.small.x0.x0", PARAMS(.clip = x0, .prediction = LUN_PREDICTION_X0), &whole, "ddim25", plain);
    follow("ancestral.large.none.x0", PARAMS(.variance = large, .prediction = LUN_PREDICTION_X0), &whole, "ddim25",
           plain);
    follow("ancestral.learned.x0.eps", PARAMS(.clip = x0, .variance = learned), &twenty, "20", wide);
    follow("ancestral.learned.none.eps", PARAMS(.variance = learned), &twenty, "20", wide);
    /* What a network says of the variance is nothing to those who fix it. */
    follow("ancestral.small.x0.eps", PARAMS(.clip = x0), &whole, "ddim25", wide);
}
END_TEST

START_TEST(ddim_matches)
{
    const lun_sampler_kind ddim = LUN_SAMPLER_DDIM;
    const lun_clip_mode x0 = LUN_CLIP_MODE_X0;
    follow("ddim.0.x0.eps", PARAMS(.kind = ddim, .clip = x0), &whole, "ddim25", plain);
    follow("ddim.0.x0.eps", PARAMS(.kind = ddim, .clip = x0), &whole, "ddim25", wide);
    follow("ddim.0.raw.eps", PARAMS(.kind = ddim, .clip = x0, .raw_eps = 1), &whole, "ddim25", plain);
    follow("ddim.0.none.eps", PARAMS(.kind = ddim), &whole, "ddim25", plain);
    follow("ddim.0.7.x0.eps", PARAMS(.kind = ddim, .clip = x0, .eta = 0.7), &whole, "ddim25", plain);
    follow("ddim.1.none.eps", PARAMS(.kind = ddim, .eta = 1), &whole, "ddim25", plain);
    follow("ddim.0.x0.v", PARAMS(.kind = ddim, .clip = x0, .prediction = LUN_PREDICTION_V), &whole, "ddim25", plain);
    follow("ddim.0.raw.v", PARAMS(.kind = ddim, .clip = x0, .raw_eps = 1, .prediction = LUN_PREDICTION_V), &whole,
           "ddim25", plain);
    follow("ddim.0.x0.x0", PARAMS(.kind = ddim, .clip = x0, .prediction = LUN_PREDICTION_X0), &whole, "ddim25", plain);
    follow("ddim.0.raw.x0", PARAMS(.kind = ddim, .clip = x0, .raw_eps = 1, .prediction = LUN_PREDICTION_X0), &whole,
           "ddim25", plain);
}
END_TEST

START_TEST(guidance_matches)
{
    const lun_clip_mode x0 = LUN_CLIP_MODE_X0;
    follow("ddim.labelled", PARAMS(.kind = LUN_SAMPLER_DDIM, .clip = x0), &whole, "ddim25", labelled);
    follow("ddim.labelled", PARAMS(.kind = LUN_SAMPLER_DDIM, .clip = x0, .guidance = 1), &whole, "ddim25", labelled);
    follow("ddim.guided", PARAMS(.kind = LUN_SAMPLER_DDIM, .clip = x0, .guidance = 2.5), &whole, "ddim25", labelled);
    follow("ddim.guided", PARAMS(.kind = LUN_SAMPLER_DDIM, .clip = x0, .guidance = 2.5), &whole, "ddim25", both);
    follow("ancestral.learned.guided", PARAMS(.clip = x0, .guidance = 2.5, .variance = LUN_VARIANCE_LEARNED), &twenty,
           "20", both);
}
END_TEST

START_TEST(dpm_matches)
{
    const lun_sampler_kind dpm = LUN_SAMPLER_DPM;
    follow("dpm.10.eps", PARAMS(.kind = dpm), &whole, "linspace10", plain);
    follow("dpm.20.eps", PARAMS(.kind = dpm), &whole, "linspace20", plain);
    follow("dpm.10.eps", PARAMS(.kind = dpm), &whole, "linspace10", wide);
    follow("dpm.10.v", PARAMS(.kind = dpm, .prediction = LUN_PREDICTION_V), &whole, "linspace10", plain);
    follow("dpm.10.x0.eps", PARAMS(.kind = dpm, .clip = LUN_CLIP_MODE_X0), &whole, "linspace10", plain);
    follow("dpm.2.eps", PARAMS(.kind = dpm), &whole, "linspace2", plain);
    follow("dpm.1.eps", PARAMS(.kind = dpm), &whole, "linspace1", plain);
}
END_TEST

START_TEST(heun_matches)
{
    follow("heun.8.eps", PARAMS(.kind = LUN_SAMPLER_HEUN, .steps = 8), &whole, "300", plain);
    follow("heun.8.eps", PARAMS(.kind = LUN_SAMPLER_HEUN, .steps = 8), &whole, "300", wide);
    follow("heun.5.v", PARAMS(.kind = LUN_SAMPLER_HEUN, .steps = 5, .prediction = LUN_PREDICTION_V), &whole, "300",
           plain);
}
END_TEST

/* Of every sampler: a picture is its seed's, wherever in whatever batch it is drawn, and a drawing repeats bit for bit.
 */
START_TEST(pictures_are_their_seeds)
{
    static const lun_sampler_params kinds[] = {
        {.clip = LUN_CLIP_MODE_X0, .variance = LUN_VARIANCE_LEARNED, .guidance = 2},
        {.kind = LUN_SAMPLER_DDIM, .clip = LUN_CLIP_MODE_X0, .eta = 0.5},
        {.kind = LUN_SAMPLER_DPM, .clip = LUN_CLIP_MODE_X0, .guidance = 2},
        {.kind = LUN_SAMPLER_HEUN, .clip = LUN_CLIP_MODE_X0, .steps = 6}};
    lun_schedule schedule;
    MUST(lun_schedule_respace(&whole, 10, &schedule));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        lun_sampler_params params = kinds[i];
        variant v = both;
        params.schedule = params.kind == LUN_SAMPLER_HEUN ? &whole : &schedule;
        lun_sampler *two = sampler_open(params, &v);
        params.batch = 1;
        lun_sampler *one = sampler_open(params, &v);
        float pair[SIZE], again[SIZE], single[EACH];
        const uint64_t seeds[] = {5, UINT64_C(1) << 41};
        const int32_t labels[] = {0, 2};
        MUST(lun_sampler_draw(two, &(lun_sampler_run){.seeds = seeds, .labels = labels}, pair));
        MUST(lun_sampler_draw(two, &(lun_sampler_run){.seeds = seeds, .labels = labels}, again));
        ck_assert_mem_eq(pair, again, sizeof pair);
        for (int k = 0; k < 2; k++) {
            MUST(lun_sampler_draw(one, &(lun_sampler_run){.seeds = seeds + k, .labels = labels + k}, single));
            ck_assert(relative(single, pair + k * EACH, EACH) < 1e-4);
        }
        ck_assert(relative(pair, pair + EACH, EACH) > 0.05);
        /* Another label, another picture; without any the null label's. */
        MUST(lun_sampler_draw(one, &(lun_sampler_run){.seeds = seeds, .labels = labels + 1}, again));
        ck_assert(relative(again, pair, EACH) > 1e-3);
        const int32_t null = 3, beyond = 4;
        MUST(lun_sampler_draw(one, &(lun_sampler_run){.seeds = seeds}, again));
        MUST(lun_sampler_draw(one, &(lun_sampler_run){.seeds = seeds, .labels = &null}, single));
        ck_assert_mem_eq(single, again, sizeof single);
        ck_assert_int_eq(lun_sampler_draw(one, &(lun_sampler_run){.seeds = seeds, .labels = &beyond}, again),
                         LUN_ERR_USAGE);
        lun_sampler_destroy(&one);
        lun_sampler_destroy(&two);
    }
    lun_schedule_free(&schedule);
}
END_TEST

/* Normals of the batch's seeds, for the start or for the noise of a step. */
static void normals(const uint64_t *seeds, uint32_t sub, float *images)
{
    lun_graph *g = NULL;
    lun_plan *plan = NULL;
    uint32_t rows[BATCH * LUN_RANDOM_ROW];
    for (int k = 0; k < BATCH; k++)
        lun_random_row(seeds[k], LUN_RANDOM_SAMPLER, 0, sub, rows + k * LUN_RANDOM_ROW);
    MUST(lun_graph_create(NULL, &g));
    const lun_value in = lun_graph_input(g, "rows", lun_typed(lun_image(BATCH, LUN_RANDOM_ROW, 1, 1), LUN_U32));
    const lun_value out = lun_randn(g, in, 3, SIDE, SIDE);
    lun_graph_output(g, out);
    MUST(lun_graph_compile(g, golden_device, NULL, &plan));
    MUST(lun_plan_write(plan, in, rows));
    MUST(lun_plan_run(plan));
    MUST(lun_plan_read(plan, out, images));
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
}

/* What is drawn is what is drawn with given numbers: those of the seed, the start's and every step's own. */
START_TEST(noise_is_the_steps_own)
{
    variant v = plain;
    const uint64_t seeds[] = {7, UINT64_C(3) << 40};
    float from[SIZE], drawn[SIZE], given[SIZE];
    float *own = malloc(20 * sizeof from);
    ck_assert_ptr_nonnull(own);
    normals(seeds, 0, from);
    for (uint32_t place = 0; place < 20; place++)
        normals(seeds, 20 - place, own + place * SIZE);
    lun_sampler *sampler = sampler_open(PARAMS(.clip = LUN_CLIP_MODE_X0, .schedule = &twenty), &v);
    MUST(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = seeds}, drawn));
    MUST(lun_sampler_draw(sampler, &(lun_sampler_run){.start = from, .noise = own}, given));
    ck_assert_mem_eq(drawn, given, sizeof drawn);
    lun_sampler_destroy(&sampler);
    free(own);
}
END_TEST

/* A network that has no null label wants one of the others for every picture. */
START_TEST(labels_may_be_needed)
{
    variant v = {.labels = true, .no_null = true};
    lun_sampler *sampler = sampler_open(PARAMS(.kind = LUN_SAMPLER_DDIM, .guidance = 1, .schedule = &twenty), &v);
    const uint64_t seeds[] = {1, 2};
    const int32_t labels[] = {3, 0}, wrong[] = {1, -1};
    float images[SIZE];
    ck_assert_int_eq(lun_sampler_classes(sampler), 4);
    ck_assert_int_eq(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = seeds}, images), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = seeds, .labels = wrong}, images),
                     LUN_ERR_USAGE);
    MUST(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = seeds, .labels = labels}, images));
    lun_sampler_destroy(&sampler);
}
END_TEST

/* The ends of an interpolation are the pictures of the two seeds, and what lies between is neither. */
START_TEST(between_two_seeds)
{
    variant v = plain;
    lun_schedule schedule;
    MUST(lun_schedule_respace(&whole, 10, &schedule));
    lun_sampler *sampler =
        sampler_open(PARAMS(.kind = LUN_SAMPLER_DDIM, .clip = LUN_CLIP_MODE_X0, .schedule = &schedule), &v);
    const uint64_t from[] = {3, 3}, to[] = {9, 9}, own[] = {3, 9};
    const double ends[] = {0, 1}, middle[] = {0.5, 0.25}, nowhere[] = {0.5, NAN};
    float want[SIZE], got[SIZE], half[SIZE];
    MUST(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = own}, want));
    MUST(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = from, .seeds_to = to, .mix = ends}, got));
    ck_assert_mem_eq(got, want, sizeof want);
    MUST(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = from, .seeds_to = to, .mix = middle}, half));
    ck_assert(relative(half, want, EACH) > 0.01 && relative(half, want + EACH, EACH) > 0.01);
    ck_assert(relative(half + EACH, want, EACH) > 0.01);
    ck_assert_int_eq(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = from, .seeds_to = to, .mix = nowhere}, got),
                     LUN_ERR_USAGE);
    ck_assert_int_eq(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = from, .seeds_to = to}, got), LUN_ERR_USAGE);
    lun_sampler_destroy(&sampler);
    lun_schedule_free(&schedule);
}
END_TEST

static lun_status refused(lun_sampler_params params, variant v)
{
    lun_sampler *sampler = NULL;
    const lun_denoiser denoiser = denoiser_of(&v);
    params.batch = 1;
    params.height = params.width = SIDE;
    params.schedule = &twenty;
    params.denoiser = &denoiser;
    const lun_status status = lun_sampler_create(net.store, golden_device, NULL, &params, NULL, &sampler);
    ck_assert_ptr_null(sampler);
    return status;
}

START_TEST(wrong_samplers_are_refused)
{
    ck_assert_int_eq(refused(PARAMS(.kind = (lun_sampler_kind)4), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.prediction = (lun_prediction)3), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.variance = (lun_variance)3), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.variance = LUN_VARIANCE_LEARNED), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.kind = LUN_SAMPLER_DPM, .clip = LUN_CLIP_MODE_XT), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.kind = LUN_SAMPLER_HEUN, .clip = LUN_CLIP_MODE_XT), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.kind = LUN_SAMPLER_HEUN, .steps = -1), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.kind = LUN_SAMPLER_DDIM, .eta = 1.5), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.kind = LUN_SAMPLER_DDIM, .eta = NAN), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.eta = 0.5), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.kind = LUN_SAMPLER_DDIM, .variance = LUN_VARIANCE_LARGE), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.guidance = 2), plain), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.guidance = NAN), labelled), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.guidance = 2), (variant){.labels = true, .no_null = true}), LUN_ERR_USAGE);
    ck_assert_int_eq(refused(PARAMS(.steps = 7), plain), LUN_ERR_USAGE);
}
END_TEST

void add_sampler_tests(TCase *group)
{
    tcase_add_unchecked_fixture(group, open_all, close_all);
    tcase_add_test(group, ancestral_matches);
    tcase_add_test(group, ddim_matches);
    tcase_add_test(group, guidance_matches);
    tcase_add_test(group, noise_is_the_steps_own);
    tcase_add_test(group, dpm_matches);
    tcase_add_test(group, heun_matches);
    tcase_add_test(group, pictures_are_their_seeds);
    tcase_add_test(group, labels_may_be_needed);
    tcase_add_test(group, between_two_seeds);
    tcase_add_test(group, wrong_samplers_are_refused);
}
