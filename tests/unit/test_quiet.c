/* A training step and a denoising step allocate nothing and wait for nobody: calls from this program's own objects to
 * the allocator and to what waits or makes things in OpenCL go through counters here (the linker's --wrap). What a
 * driver or CLBlast does inside itself is not seen. */
#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/diffusion.h>
#include <lunette/train.h>

#include "base/base.h"
#include "graph/graph.h"

#define OK(expr) ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())

static atomic_int counting, allocations, waits, made;
static const char *last = "";

static void note(atomic_int *counter, const char *what)
{
    if (atomic_load(&counting)) {
        atomic_fetch_add(counter, 1);
        last = what;
    }
}

#define WRAP(counter, type, name, parameters, arguments)                                                               \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters                                                                                      \
    {                                                                                                                  \
        note(&counter, #name);                                                                                         \
        return __real_##name arguments;                                                                                \
    }

WRAP(allocations, void *, malloc, (size_t bytes), (bytes))
WRAP(allocations, void *, calloc, (size_t count, size_t bytes), (count, bytes))
WRAP(allocations, void *, realloc, (void *old, size_t bytes), (old, bytes))
WRAP(allocations, void *, aligned_alloc, (size_t align, size_t bytes), (align, bytes))

#ifdef LUN_TEST_OPENCL
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
WRAP(waits, cl_int, clFinish, (cl_command_queue queue), (queue))
WRAP(waits, cl_int, clWaitForEvents, (cl_uint count, const cl_event *list), (count, list))
WRAP(waits, cl_int, clEnqueueReadBuffer,
     (cl_command_queue queue, cl_mem mem, cl_bool blocking, size_t offset, size_t bytes, void *to, cl_uint count,
      const cl_event *list, cl_event *event),
     (queue, mem, blocking, offset, bytes, to, count, list, event))
WRAP(made, cl_mem, clCreateBuffer, (cl_context context, cl_mem_flags flags, size_t bytes, void *host, cl_int *error),
     (context, flags, bytes, host, error))
WRAP(made, cl_kernel, clCreateKernel, (cl_program program, const char *name, cl_int *error), (program, name, error))
WRAP(made, cl_int, clSetKernelArg, (cl_kernel kernel, cl_uint index, size_t bytes, const void *value),
     (kernel, index, bytes, value))
WRAP(made, cl_int, clBuildProgram,
     (cl_program program, cl_uint count, const cl_device_id *list, const char *options,
      void(CL_CALLBACK *notify)(cl_program, void *), void *user),
     (program, count, list, options, notify, user))
#endif

#define BATCH 2
#define SIDE  16

static lun_train_config small(void)
{
    lun_train_config c;
    OK(lun_train_preset("notebook", &c));
    memset(c.model.channels, 0, sizeof c.model.channels);
    c.model.levels = 3;
    c.model.channels[0] = 8;
    c.model.channels[1] = 16;
    c.model.channels[2] = 20;
    c.width = c.height = SIDE;
    c.batch = BATCH;
    return c;
}

static void begin_counting(void)
{
    last = "";
    atomic_store(&allocations, 0);
    atomic_store(&waits, 0);
    atomic_store(&made, 0);
    atomic_store(&counting, 1);
}

static void end_counting(void)
{
    atomic_store(&counting, 0);
}

static void nothing_happened(void)
{
    ck_assert_msg(atomic_load(&allocations) == 0, "%d allocations, the last by %s", atomic_load(&allocations), last);
    ck_assert_msg(atomic_load(&waits) == 0, "%d waits, the last in %s", atomic_load(&waits), last);
    ck_assert_msg(atomic_load(&made) == 0, "%d objects made or set, the last by %s", atomic_load(&made), last);
}

/* With all that may surround the optimiser's step. */
static lun_train_config rich(void)
{
    lun_train_config c = small();
    c.optimizer = LUN_ADAMW;
    c.warmup = 2;
    c.decay = LUN_DECAY_COSINE;
    c.decay_steps = 9;
    c.clip_norm = 0.5;
    c.ema_count = 2;
    c.ema_rate[0] = 0.9;
    c.ema_rate[1] = 0.99;
    c.accumulate = 2;
    return c;
}

static void train_quietly(lun_device *dev, lun_train_config config)
{
    static float images[BATCH * 3 * SIDE * SIDE];
    lun_trainer *trainer = NULL;
    float losses[LUN_TRAINER_RING];
    int count = 0;
    OK(lun_trainer_create(dev, &config, BATCH, NULL, &trainer));
    OK(lun_trainer_run(trainer, images));
    OK(lun_trainer_losses(trainer, losses, &count));
    lun_status status = LUN_OK; /* Check's own macros allocate */
    begin_counting();
    for (int i = 0; i < 3 && status == LUN_OK; i++)
        status = lun_trainer_run(trainer, images);
    end_counting();
    OK(status);
    nothing_happened();
    /* The counters do count. */
    begin_counting();
    free(lun_malloc(1, 1, "a test"));
    status = lun_trainer_losses(trainer, losses, &count);
    end_counting();
    OK(status);
    ck_assert_int_eq(atomic_load(&allocations), 1);
    if (strcmp(dev->driver->name, "opencl") == 0)
        ck_assert_int_eq(atomic_load(&waits), 3); /* losses, norms, health */
    ck_assert_int_eq(count, 3);
    lun_trainer_destroy(&trainer);
}

/* From the second step of a draw on: the first prepares what is kept. */
static int watch(void *payload, int remaining, const float *images)
{
    (void)images;
    if (remaining == *(const int *)payload)
        begin_counting();
    else if (remaining == 1) /* the last one is followed by reading the pictures */
        end_counting();
    return 0;
}

static void sample_quietly(lun_device *dev)
{
    static float image[3 * SIDE * SIDE];
    const lun_train_config config = small();
    const lun_model_config *model = &config.model;
    lun_store *store = NULL;
    lun_graph *g = NULL;
    lun_sampler *sampler = NULL;
    lun_schedule schedule;
    OK(lun_store_create(&store));
    OK(lun_graph_create(store, &g));
    lun_model_forward(g, model, lun_graph_input(g, "x", lun_image(1, 3, SIDE, SIDE)),
                      lun_graph_input(g, "t", lun_typed(lun_image(1, 1, 1, 1), LUN_I32)), LUN_NORM_EVAL);
    OK(lun_graph_check(g));
    lun_graph_destroy(&g);
    OK(lun_store_allocate(store, dev, 0));
    OK(lun_store_init(store, 1));
    OK(lun_schedule_linear(8, 1e-4, 0.02, &schedule));
    for (int kind = 0; kind < LUN_SAMPLER_KINDS; kind++) {
        const lun_sampler_params params = {.batch = 1,
                                           .height = SIDE,
                                           .width = SIDE,
                                           .clip = kind == LUN_SAMPLER_ANCESTRAL ? LUN_CLIP_MODE_XT : LUN_CLIP_MODE_X0,
                                           .norm = LUN_NORM_BATCH,
                                           .schedule = &schedule,
                                           .kind = (lun_sampler_kind)kind,
                                           .eta = kind == LUN_SAMPLER_DDIM ? 0.5 : 0};
        OK(lun_sampler_create(store, dev, model, &params, NULL, &sampler));
        const uint64_t seed = 1;
        int from = 7;
        OK(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = &seed},
                            image)); /* a device may finish its own start */
        OK(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = &seed, .progress = watch, .payload = &from}, image));
        nothing_happened();
        lun_sampler_destroy(&sampler);
    }
    lun_schedule_free(&schedule);
    lun_store_destroy(&store);
}

START_TEST(on_plain_c)
{
    lun_device *dev = NULL;
    OK(lun_device_open("cpu", &(lun_device_params){.threads = 2}, &dev));
    train_quietly(dev, small());
    train_quietly(dev, rich());
    sample_quietly(dev);
    lun_device_close(&dev);
}
END_TEST

START_TEST(on_opencl)
{
    lun_device *dev = NULL;
    if (lun_device_open("opencl", NULL, &dev) != LUN_OK) {
        printf("skipped: %s\n", lun_error_detail());
        return;
    }
    train_quietly(dev, small());
    train_quietly(dev, rich());
    sample_quietly(dev);
    lun_device_close(&dev);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quiet");
    TCase *tc = tcase_create("quiet");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, on_plain_c);
    tcase_add_test(tc, on_opencl);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
