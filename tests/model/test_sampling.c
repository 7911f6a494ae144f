/* Sampling trajectories with given noise against PyTorch's, and what a seed means. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

typedef struct watcher {
    const lun_safetensors *file;
    const char *name; /* "x0.eval.300" */
    int every, compared, calls;
    size_t size;
    double worst;
} watcher;

static int want_every(void *payload, int remaining)
{
    return remaining % ((watcher *)payload)->every == 0;
}

static int watch(void *payload, int remaining, const float *images)
{
    watcher *w = payload;
    w->calls++;
    ck_assert((images != NULL) == (remaining % w->every == 0));
    if (images) {
        char key[64];
        snprintf(key, sizeof key, "x.%s.%d", w->name, remaining);
        float *wanted = golden_floats(w->file, key, w->size);
        const double error = relative(images, wanted, w->size);
        w->worst = error > w->worst || isnan(error) ? error : w->worst;
        free(wanted);
        w->compared++;
    }
    return 0;
}

static lun_sampler *sampler_open(network *n, const lun_schedule *schedule, lun_clip_mode clip, lun_norm_mode norm,
                                 int batch)
{
    const lun_sampler_params params = {
        .batch = batch, .height = 8, .width = 8, .clip = clip, .norm = norm, .schedule = schedule};
    lun_sampler *sampler = NULL;
    MUST(lun_sampler_create(n->store, golden_device, &n->info.config, &params, NULL, &sampler));
    return sampler;
}

START_TEST(trajectories_match)
{
    static const char *const clips[] = {"none", "x0", "xt"};
    lun_safetensors *file = golden_open(golden_path("path.safetensors"));
    const char *const model = golden_path("small.model.safetensors");
    const size_t size = 2 * 3 * 8 * 8;
    float *start = golden_floats(file, "start", size), *noise = golden_floats(file, "noise", 300 * size);
    network n = network_open(model, lun_shape4(2, 3, 8, 8), LUN_NORM_EVAL);
    network_ready(&n, model, 0);
    size_t buffers = 0;
    float *before = store_values(n.store, LUN_ROLE_BUFFER, &buffers);
    lun_schedule full, short_one;
    MUST(lun_schedule_linear(300, 1e-4, 0.02, &full));
    MUST(lun_schedule_respace(&full, 25, &short_one));
    for (int clip = LUN_CLIP_MODE_NONE; clip <= LUN_CLIP_MODE_XT; clip++) {
        for (int norm = LUN_NORM_EVAL; norm <= LUN_NORM_BATCH; norm++) {
            for (int respaced = 0; respaced < 2; respaced++) {
                char name[32], key[64];
                const lun_schedule *schedule = respaced ? &short_one : &full;
                snprintf(name, sizeof name, "%s.%s.%d", clips[clip], norm == LUN_NORM_EVAL ? "eval" : "train",
                         schedule->steps);
                snprintf(key, sizeof key, "float32.%s", name);
                const double own = golden_number(file, key);
                lun_sampler *sampler = sampler_open(&n, schedule, clip, norm, 2);
                watcher w = {.file = file, .name = name, .every = respaced ? 5 : 50, .size = size};
                const lun_sampler_run run = {
                    .start = start, .noise = noise, .want = want_every, .progress = watch, .payload = &w};
                float images[2 * 3 * 8 * 8];
                MUST(lun_sampler_draw(sampler, &run, images));
                printf("path %s: %.2e (PyTorch float32 %.2e)\n", name, w.worst, own);
                ck_assert_int_eq(w.calls, schedule->steps);
                ck_assert_int_eq(w.compared, schedule->steps / w.every);
                ck_assert_msg(!!(w.worst <= 5 * own), "%s: %g off, PyTorch float32 %g", name, w.worst, own);
                lun_sampler_destroy(&sampler);
            }
        }
    }
    /* Sampling in training mode must not write what evaluation will use. */
    float *after = store_values(n.store, LUN_ROLE_BUFFER, &buffers);
    ck_assert_mem_eq(before, after, buffers * sizeof *before);
    free(before);
    free(after);
    free(start);
    free(noise);
    lun_schedule_free(&full);
    lun_schedule_free(&short_one);
    lun_safetensors_close(file);
    network_close(&n);
}
END_TEST

static int stop_at_ten(void *payload, int remaining, const float *images)
{
    (void)images;
    *(int *)payload = remaining;
    return remaining <= 10;
}

/* A picture is its seed's: neither its neighbours nor its place in the batch matter (in evaluation mode). */
START_TEST(pictures_depend_on_their_seed)
{
    enum { SIZE = 3 * 8 * 8 };
    const char *const model = golden_path("small.model.safetensors");
    network n = network_open(model, lun_shape4(1, 3, 8, 8), LUN_NORM_EVAL);
    network_ready(&n, model, 0);
    lun_schedule full, schedule;
    MUST(lun_schedule_linear(300, 1e-4, 0.02, &full));
    MUST(lun_schedule_respace(&full, 20, &schedule));
    lun_sampler *two = sampler_open(&n, &schedule, LUN_CLIP_MODE_X0, LUN_NORM_EVAL, 2);
    lun_sampler *one = sampler_open(&n, &schedule, LUN_CLIP_MODE_X0, LUN_NORM_EVAL, 1);
    float pair[2 * SIZE], swapped[2 * SIZE], single[SIZE], again[2 * SIZE];
    const uint64_t seeds[] = {7, UINT64_C(1) << 40}, back[] = {UINT64_C(1) << 40, 7};
    MUST(lun_sampler_draw(two, &(lun_sampler_run){.seeds = seeds}, pair));
    MUST(lun_sampler_draw(two, &(lun_sampler_run){.seeds = back}, swapped));
    MUST(lun_sampler_draw(one, &(lun_sampler_run){.seeds = back}, single));
    MUST(lun_sampler_draw(two, &(lun_sampler_run){.seeds = seeds}, again));
    ck_assert_mem_eq(pair, again, sizeof pair);
    ck_assert(relative(pair, pair + SIZE, SIZE) > 0.1);
    /* Another batch may take another kernel, so to rounding and not bit for bit. */
    ck_assert(relative(swapped, pair + SIZE, SIZE) < 1e-4);
    ck_assert(relative(swapped + SIZE, pair, SIZE) < 1e-4);
    ck_assert(relative(single, pair + SIZE, SIZE) < 1e-4);
    int remaining = -1;
    MUST(lun_sampler_draw(one, &(lun_sampler_run){.seeds = back, .progress = stop_at_ten, .payload = &remaining},
                          again));
    ck_assert_int_eq(remaining, 10);
    ck_assert_int_eq(lun_sampler_draw(one, &(lun_sampler_run){.start = single}, again), LUN_ERR_USAGE);

    /* A network that has lost its numbers is an error, and the caller's pictures stay. */
    float poison[24];
    const int index = lun_store_find(n.store, "output.bias");
    for (int i = 0; i < 24; i++)
        poison[i] = INFINITY;
    MUST(lun_store_write(n.store, (size_t)index, LUN_SLOT_VALUE, poison));
    memcpy(again, pair, sizeof again);
    lun_sampler *free_one = sampler_open(&n, &schedule, LUN_CLIP_MODE_NONE, LUN_NORM_EVAL, 1);
    ck_assert_int_eq(lun_sampler_draw(free_one, &(lun_sampler_run){.seeds = seeds}, again), LUN_ERR_DIVERGED);
    ck_assert_mem_eq(again, pair, sizeof again);
    lun_sampler_destroy(&free_one);
    lun_sampler_destroy(&one);
    lun_sampler_destroy(&two);

    lun_sampler *none = NULL;
    lun_sampler_params wrong = {.batch = 1, .height = 8, .width = 8, .norm = LUN_NORM_TRAIN, .schedule = &schedule};
    ck_assert_int_eq(lun_sampler_create(n.store, golden_device, &n.info.config, &wrong, NULL, &none), LUN_ERR_USAGE);
    wrong.norm = LUN_NORM_BATCH;
    wrong.height = wrong.width = 4;
    ck_assert_int_eq(lun_sampler_create(n.store, golden_device, &n.info.config, &wrong, NULL, &none), LUN_ERR_USAGE);
    ck_assert_ptr_null(none);
    lun_schedule_free(&full);
    lun_schedule_free(&schedule);
    network_close(&n);
}
END_TEST

void add_sampling_tests(TCase *group)
{
    tcase_add_test(group, trajectories_match);
    tcase_add_test(group, pictures_depend_on_their_seed);
}
