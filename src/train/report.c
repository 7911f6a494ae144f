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

lun_status lun_history_add(lun_history *h, const lun_history_line *line)
{
    if (h->count == h->room) {
        const size_t room = h->room ? h->room * 2 : 256;
        lun_history_line *lines = lun_realloc(h->lines, room, sizeof *lines, "the loss history");
        if (!lines)
            return LUN_ERR_MEMORY;
        h->lines = lines;
        h->room = room;
    }
    h->lines[h->count++] = *line;
    return LUN_OK;
}

void lun_history_cut(lun_history *history, uint64_t step)
{
    while (history->count > 0 && history->lines[history->count - 1].step > (double)step)
        history->count--;
}

void lun_history_free(lun_history *h)
{
    free(h->lines);
    *h = (lun_history){0};
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

/* Mean over a centred window of a twentieth of the run, at least five lines: wide enough to show the trend through the
 * noise of single batches. room: count + 1 */
static void moving_mean(const double *value, size_t count, double *room, double *mean)
{
    const size_t half = count > 80 ? count / 40 : 2;
    room[0] = 0;
    for (size_t i = 0; i < count; i++)
        room[i + 1] = room[i] + value[i];
    for (size_t i = 0; i < count; i++) {
        const size_t first = i > half ? i - half : 0, last = i + half + 1 < count ? i + half + 1 : count;
        mean[i] = (room[last] - room[first]) / (double)(last - first);
    }
}

lun_status lun_report_loss(const char *folder, const lun_history *h, const lun_train_config *c)
{
    enum { STEP, LOSS, MEAN, SUMS, HELD_STEP, HELD, AVERAGE_STEP, AVERAGE, COLUMNS };
    const size_t rows = h->count + 1;
    double *room = lun_malloc(COLUMNS * rows, sizeof *room, "the loss chart"), *column[COLUMNS];
    if (!room)
        return LUN_ERR_MEMORY;
    for (size_t k = 0; k < COLUMNS; k++)
        column[k] = room + k * rows;
    /* The held-out losses without the lines that have none, which would be gaps. */
    size_t held = 0, averages = 0;
    for (size_t i = 0; i < h->count; i++) {
        const lun_history_line *line = &h->lines[i];
        column[STEP][i] = line->step;
        column[LOSS][i] = line->loss;
        if (isfinite(line->holdout)) {
            column[HELD_STEP][held] = line->step;
            column[HELD][held++] = line->holdout;
        }
        if (isfinite(line->average)) {
            column[AVERAGE_STEP][averages] = line->step;
            column[AVERAGE][averages++] = line->average;
        }
    }
    moving_mean(column[LOSS], h->count, column[SUMS], column[MEAN]);
    lun_chart_series series[4] = {{"loss", column[STEP], column[LOSS], h->count, {170, 190, 215}},
                                  {"moving mean", column[STEP], column[MEAN], h->count, {20, 60, 130}}};
    size_t count = 2;
    if (held)
        series[count++] = (lun_chart_series){"held out", column[HELD_STEP], column[HELD], held, {200, 90, 20}};
    if (averages)
        series[count++] = (lun_chart_series){
            "held out, averaged weights", column[AVERAGE_STEP], column[AVERAGE], averages, {40, 130, 60}};
    const lun_chart chart = {.title = "training loss",
                             .x_label = "step",
                             .y_label = "loss",
                             .series = series,
                             .count = count,
                             .width = 900,
                             .height = 540};
    lun_picture picture;
    const lun_status status = lun_chart_draw(&chart, &picture);
    free(room);
    return status == LUN_OK ? write_png(folder, "loss.png", c, &picture) : status;
}

lun_status lun_report_data(const char *folder, const lun_dataset *dataset, const lun_train_config *c)
{
    const size_t count = lun_dataset_count(dataset) < PANELS ? lun_dataset_count(dataset) : PANELS;
    uint32_t index[PANELS];
    for (uint32_t i = 0; i < PANELS; i++)
        index[i] = i;
    const size_t channels = (size_t)c->model.image_channels;
    float *images =
        lun_malloc(count * channels * (size_t)c->height * (size_t)c->width, sizeof *images, "the data strip");
    if (!images)
        return LUN_ERR_MEMORY;
    lun_picture picture;
    lun_status status = lun_dataset_images(dataset, index, count, images);
    if (status == LUN_OK)
        status = lun_picture_from_floats(images, count, (int)channels, c->height, c->width, (int)count, GAP,
                                         magnified(c->width), &picture);
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
    LUN_TRY_GOTO(status, done, lun_train_schedule(c, &schedule));
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
    char software[40], step[24], seed[24], steps[24], ema[LUN_RATE_TEXT];
    snprintf(software, sizeof software, "lunette %s", lun_version());
    snprintf(step, sizeof step, "%" PRIu64, f->step);
    snprintf(seed, sizeof seed, "%" PRIu64, f->seed);
    snprintf(steps, sizeof steps, "%d", f->steps);
    const lun_png_text texts[] = {{"Software", software},
                                  {"model", f->model},
                                  {"training steps", step},
                                  {"seed", seed},
                                  {"sampler", f->sampler},
                                  {"steps", steps},
                                  {"clip", clips[f->clip]},
                                  {"norm mode", f->norm == LUN_NORM_EVAL ? "eval" : "train"},
                                  {"moving average", lun_rate_text(f->ema, ema) ? ema : "none"}};
    lun_picture picture;
    LUN_TRY(lun_picture_from_floats(images, (size_t)count, channels, height, width, count, GAP, magnified(width),
                                    &picture));
    const lun_status status = lun_png_write(path, &picture, texts, LUN_COUNT(texts));
    lun_picture_free(&picture);
    return status;
}
