#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/picture_out.h>

#include "base/base.h"
#include "base/philox.h"

#define PANELS 10
#define GAP    2

lun_status lun_history_add(lun_history *h, double step, double loss)
{
    if (h->count == h->room) {
        const size_t room = h->room ? h->room * 2 : 256;
        double *steps = lun_realloc(h->step, room, sizeof *steps, "the loss history");
        if (!steps)
            return LUN_ERR_MEMORY;
        h->step = steps;
        double *losses = lun_realloc(h->loss, room, sizeof *losses, "the loss history");
        if (!losses)
            return LUN_ERR_MEMORY;
        h->loss = losses;
        h->room = room;
    }
    h->step[h->count] = step;
    h->loss[h->count++] = loss;
    return LUN_OK;
}

void lun_history_free(lun_history *h)
{
    free(h->step);
    free(h->loss);
    *h = (lun_history){NULL, NULL, 0, 0};
}

/* FOLDER/NAME, a picture of the run and not of a sampler. Frees the picture. */
static lun_status write_png(const char *folder, const char *name, const lun_train_config *c, lun_picture *picture)
{
    char software[40], seed[24], steps[24];
    snprintf(software, sizeof software, "lunette %s", lun_version());
    snprintf(seed, sizeof seed, "%" PRIu64, c->seed);
    snprintf(steps, sizeof steps, "%d", c->model.steps);
    const lun_png_text texts[] = {
        {"Software", software}, {"model", c->preset}, {"seed", seed}, {"sampler", "none"}, {"steps", steps}};
    char *path = lun_format("%s/%s", folder, name);
    lun_status status = path ? lun_png_write(path, picture, texts, LUN_COUNT(texts)) : LUN_ERR_MEMORY;
    free(path);
    lun_picture_free(picture);
    return status;
}

static int magnified(int width)
{
    return width < 64 ? 64 / width : 1;
}

lun_status lun_report_loss(const char *folder, const lun_history *h, const lun_train_config *c)
{
    double *smooth = lun_malloc(h->count, sizeof *smooth, "the loss chart");
    double *sums = lun_malloc(h->count + 1, sizeof *sums, "the loss chart");
    if (!smooth || !sums) {
        free(smooth);
        free(sums);
        return LUN_ERR_MEMORY;
    }
    sums[0] = 0;
    for (size_t i = 0; i < h->count; i++)
        sums[i + 1] = sums[i] + h->loss[i];
    /* Centred window of a twentieth of the run, at least five lines: wide enough to show the trend through the noise of
     * single batches. */
    const size_t half = h->count > 80 ? h->count / 40 : 2;
    for (size_t i = 0; i < h->count; i++) {
        const size_t first = i > half ? i - half : 0, last = i + half + 1 < h->count ? i + half + 1 : h->count;
        smooth[i] = (sums[last] - sums[first]) / (double)(last - first);
    }
    free(sums);
    const lun_chart_series series[] = {{"loss", h->step, h->loss, h->count, {170, 190, 215}},
                                       {"moving mean", h->step, smooth, h->count, {20, 60, 130}}};
    const lun_chart chart = {.title = "training loss",
                             .x_label = "step",
                             .y_label = "loss",
                             .series = series,
                             .count = LUN_COUNT(series),
                             .width = 900,
                             .height = 540};
    lun_picture picture;
    lun_status status = lun_chart_draw(&chart, &picture);
    free(smooth);
    if (status == LUN_OK)
        status = write_png(folder, "loss.png", c, &picture);
    return status;
}

lun_status lun_report_data(const char *folder, const lun_dataset *dataset, const lun_train_config *c)
{
    const size_t count = lun_dataset_count(dataset) < PANELS ? lun_dataset_count(dataset) : PANELS;
    uint32_t index[PANELS];
    for (uint32_t i = 0; i < PANELS; i++)
        index[i] = i;
    float *images = lun_malloc(count * 3 * (size_t)c->height * (size_t)c->width, sizeof *images, "the data strip");
    if (!images)
        return LUN_ERR_MEMORY;
    lun_picture picture;
    lun_status status = lun_dataset_images(dataset, index, count, images);
    if (status == LUN_OK)
        status = lun_picture_from_floats(images, count, 3, c->height, c->width, (int)count, GAP, magnified(c->width),
                                         &picture);
    free(images);
    if (status == LUN_OK)
        status = write_png(folder, "data.png", c, &picture);
    return status;
}

/* The ten noised panels, computed by the op that training uses. */
static lun_status noised_panels(lun_device *dev, const lun_train_config *c, const float *image, float *out)
{
    const int channels = c->model.image_channels, steps = c->model.steps;
    const size_t elements = (size_t)channels * (size_t)c->height * (size_t)c->width;
    lun_graph *graph = NULL;
    lun_plan *plan = NULL;
    lun_schedule schedule = {0};
    float *table = lun_malloc((size_t)steps, 2 * sizeof *table, "the noise table");
    float *batch = lun_malloc(PANELS * elements, sizeof *batch, "the noised panels");
    int32_t times[PANELS];
    uint32_t rows[PANELS][LUN_RANDOM_ROW];
    lun_status status = LUN_ERR_MEMORY;
    if (!table || !batch)
        goto done;
    for (int i = 0; i < PANELS; i++) {
        times[i] = i * steps / PANELS;
        lun_random_row(c->seed, LUN_RANDOM_NOISE, UINT64_MAX - (uint64_t)i, 0, rows[i]);
        memcpy(batch + (size_t)i * elements, image, elements * sizeof *image);
    }
    LUN_TRY_GOTO(status, done, lun_schedule_linear(steps, c->beta_first, c->beta_last, &schedule));
    lun_schedule_noise_table(&schedule, table);
    LUN_TRY_GOTO(status, done, lun_graph_create(NULL, &graph));
    const lun_value x0 = lun_graph_constant(graph, "images", lun_image(PANELS, channels, c->height, c->width), batch);
    const lun_value t = lun_graph_constant(graph, "t", lun_typed(lun_image(PANELS, 1, 1, 1), LUN_I32), times);
    const lun_value row =
        lun_graph_constant(graph, "rows", lun_typed(lun_image(PANELS, LUN_RANDOM_ROW, 1, 1), LUN_U32), rows);
    const lun_value noise_table = lun_graph_constant(graph, "noise_table", lun_image(steps, 2, 1, 1), table);
    const lun_value eps = lun_randn(graph, row, channels, c->height, c->width);
    const lun_value noisy = lun_noise(graph, x0, eps, t, noise_table);
    lun_graph_output(graph, noisy);
    LUN_TRY_GOTO(status, done, lun_graph_compile(graph, dev, NULL, &plan));
    LUN_TRY_GOTO(status, done, lun_plan_run(plan));
    status = lun_plan_read(plan, noisy, out);
done:
    lun_plan_destroy(&plan);
    lun_graph_destroy(&graph);
    lun_schedule_free(&schedule);
    free(table);
    free(batch);
    return status;
}

lun_status lun_report_forward(const char *folder, lun_device *dev, const lun_dataset *dataset,
                              const lun_train_config *c)
{
    const size_t elements = (size_t)c->model.image_channels * (size_t)c->height * (size_t)c->width;
    const uint32_t first = 0;
    float *image = lun_malloc(elements, sizeof *image, "a picture");
    float *panels = lun_malloc(PANELS * elements, sizeof *panels, "the noised panels");
    lun_picture picture;
    lun_status status = image && panels ? lun_dataset_images(dataset, &first, 1, image) : LUN_ERR_MEMORY;
    if (status == LUN_OK)
        status = noised_panels(dev, c, image, panels);
    if (status == LUN_OK)
        status = lun_picture_from_floats(panels, PANELS, c->model.image_channels, c->height, c->width, PANELS, GAP,
                                         magnified(c->width), &picture);
    free(image);
    free(panels);
    if (status == LUN_OK)
        status = write_png(folder, "forward.png", c, &picture);
    return status;
}

lun_status lun_report_strip(const char *path, const float *images, int count, int channels, int height, int width,
                            const lun_report_facts *f)
{
    static const char *const clips[] = {"none", "x0", "xt"};
    char software[40], step[24], seed[24], steps[24];
    snprintf(software, sizeof software, "lunette %s", lun_version());
    snprintf(step, sizeof step, "%" PRIu64, f->step);
    snprintf(seed, sizeof seed, "%" PRIu64, f->seed);
    snprintf(steps, sizeof steps, "%d", f->steps);
    const lun_png_text texts[] = {{"Software", software},   {"model", f->model},
                                  {"training steps", step}, {"seed", seed},
                                  {"sampler", f->sampler},  {"steps", steps},
                                  {"clip", clips[f->clip]}, {"norm mode", f->norm == LUN_NORM_EVAL ? "eval" : "train"}};
    lun_picture picture;
    LUN_TRY(lun_picture_from_floats(images, (size_t)count, channels, height, width, count, GAP, magnified(width),
                                    &picture));
    const lun_status status = lun_png_write(path, &picture, texts, LUN_COUNT(texts));
    lun_picture_free(&picture);
    return status;
}
