/* Ancestral sampling with given noise, from file to file: what check_diffusers.py compares a pipeline with.
 *
 *     draw_given MODEL DEVICE GIVEN.safetensors PICTURE.safetensors
 *
 * GIVEN: start (N, C, H, W) and noise (T, N, C, H, W). PICTURE: picture (N, C, H, W) in [-1, 1], the predicted x0 being
 * clamped at every step, as diffusers' clip_sample does. */
#include <stdio.h>
#include <stdlib.h>

#include <lunette/checkpoint.h>
#include <lunette/lunette.h>

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        if ((call) != LUN_OK) {                                                                                        \
            fprintf(stderr, "%s: %s\n", #call, lun_error_detail());                                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static float *floats(const lun_safetensors *file, const char *name, const lun_safetensors_entry **entry)
{
    const int64_t index = lun_safetensors_find(file, name);
    if (index < 0) {
        fprintf(stderr, "%s: no %s\n", lun_safetensors_path(file), name);
        exit(1);
    }
    *entry = lun_safetensors_info(file, (size_t)index);
    float *values = malloc((size_t)(*entry)->bytes);
    MUST(lun_safetensors_read_f32(file, (size_t)index, values, (size_t)(*entry)->count));
    return values;
}

int main(int argc, char **argv)
{
    lun_model_file_info info;
    lun_device *device = NULL;
    lun_store *store = NULL;
    lun_safetensors *given = NULL;
    const lun_safetensors_entry *x = NULL, *z = NULL;
    if (argc != 5)
        return 2;
    MUST(lun_model_inspect(argv[1], &info));
    MUST(lun_device_open(argv[2], NULL, &device));
    MUST(lun_store_create(&store));
    MUST(lun_model_declare(store, &info.config));
    MUST(lun_store_allocate(store, device, 0));
    MUST(lun_model_load(store, argv[1]));
    MUST(lun_safetensors_open(argv[3], &given));
    float *start = floats(given, "start", &x), *noise = floats(given, "noise", &z);
    if (x->rank != 4 || x->dims[1] != info.config.image_channels || z->count != x->count * info.config.steps)
        return 2;

    lun_schedule schedule = {0};
    lun_sampler *sampler = NULL;
    MUST(lun_schedule_create(info.schedule, info.config.steps, info.beta_first, info.beta_last, &schedule));
    const lun_sampler_params params = {.batch = (int)x->dims[0],
                                       .height = (int)x->dims[2],
                                       .width = (int)x->dims[3],
                                       .clip = LUN_CLIP_MODE_X0,
                                       .norm = LUN_NORM_EVAL,
                                       .prediction = info.prediction,
                                       .schedule = &schedule};
    MUST(lun_sampler_create(store, device, &info.config, &params, NULL, &sampler));
    float *picture = malloc((size_t)x->bytes);
    MUST(lun_sampler_draw(sampler, &(lun_sampler_run){.start = start, .noise = noise}, picture));

    lun_safetensors_writer *writer = NULL;
    MUST(lun_safetensors_writer_create(argv[4], &writer));
    MUST(lun_safetensors_writer_declare(writer, "picture", LUN_ST_F32, 4, x->dims));
    MUST(lun_safetensors_writer_data(writer, picture, (size_t)x->bytes));
    MUST(lun_safetensors_writer_commit(writer));
    lun_sampler_destroy(&sampler);
    lun_schedule_free(&schedule);
    lun_safetensors_close(given);
    lun_store_destroy(&store);
    lun_device_close(&device);
    free(start);
    free(noise);
    free(picture);
    return 0;
}
