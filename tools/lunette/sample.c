/* lunette sample */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base.h"
#include "base/file.h"
#include "common.h"
#include "live.h"

#define PANELS 10

typedef struct sample_args {
    const char *model, *out, *device, *weights, *steps;
    int count, sampler, clip, norm, size[2], batch, threads, label, variance;
    double eta, guidance, hang_timeout;
    uint64_t seed, between[2];
    bool strip, quiet, clip_given, size_given, label_given, seed_given, between_given, variance_given, allow_fallback;
} sample_args;

static const char *const sampler_names[] = {"ancestral", "ddim", "dpm", "heun", NULL};
static const char *const variance_names[] = {"small", "large", "learned", NULL};

typedef struct drawing {
    const sample_args *args;
    bool folder; /* one file a picture, or all in one grid */
    char *file;  /* of the model */
    loaded_model model;
    lun_schedule full, schedule;
    lun_tuning *tuning;
    lun_sampler *sampler;
    int clip, norm, variance, steps;  /* steps: of a drawing */
    bool by_seed;                     /* labels: the network needs one, and none was asked for */
    int batch, height, width, panels; /* panels a picture: 1, or those of a strip */
    size_t elements;                  /* of one image */
    uint64_t *seeds, *seeds_to;       /* (batch) */
    double *mix;                      /* (batch) */
    int32_t *labels;                  /* (batch) */
    float *images;                    /* (batch, C, H, W) */
    float *shown;                     /* (count, panels, C, H, W) */
    int first;                        /* picture of the batch at turn */
    double started;
} drawing;

/* ---- Where to
 * ------------------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && strcasecmp(text + a - b, end) == 0;
}

/* Decide what --out is, and find out now whether it can be written. */
static lun_status check_out(drawing *d)
{
    const char *out = d->args->out;
    lun_path_kind kind;
    LUN_TRY(lun_path_look(out, LUN_ERR_STORAGE, &kind));
    d->folder = kind == LUN_PATH_FOLDER || (kind == LUN_PATH_MISSING && ends_with(out, "/"));
    if (!d->folder && !ends_with(out, ".png") && kind != LUN_PATH_OTHER)
        return lun_fail(LUN_ERR_USAGE, "--out %s: must end in .png, or in / to name a folder", out);
    if (d->folder)
        LUN_TRY(lun_make_dirs(out));
    char *path = d->folder ? lun_format("%s/000000.png", out) : lun_strdup(out);
    lun_file *file = NULL;
    if (!path)
        return LUN_ERR_MEMORY;
    const lun_status status = lun_file_create(path, &file);
    if (status == LUN_OK)
        lun_file_discard(file);
    free(path);
    return status;
}

static lun_status write_pictures(const drawing *d, const char *path, const float *images, int count, int columns,
                                 uint64_t seed)
{
    const sample_args *a = d->args;
    const char *slash = strrchr(d->file, '/');
    char seed_text[64], steps[16], training[24], eta[24], guidance[24], label[32], ema[LUN_RATE_TEXT];
    if (a->between_given)
        snprintf(seed_text, sizeof seed_text, "%" PRIu64 " to %" PRIu64, a->between[0], a->between[1]);
    else if (count > d->panels)
        snprintf(seed_text, sizeof seed_text, "%" PRIu64 "..%" PRIu64, seed, seed + (uint64_t)(count / d->panels - 1));
    else
        snprintf(seed_text, sizeof seed_text, "%" PRIu64, seed);
    snprintf(steps, sizeof steps, "%d", d->steps);
    snprintf(eta, sizeof eta, "%g", a->eta);
    snprintf(guidance, sizeof guidance, "%g", a->guidance);
    snprintf(label, sizeof label, d->by_seed ? "seed modulo %d" : "%d",
             d->by_seed ? d->model.info.config.classes : a->label);
    snprintf(training, sizeof training, "%" PRIu64, d->model.info.step);
    lun_png_text texts[16] = {{"Software", "lunette " LUN_VERSION},   {"model", slash ? slash + 1 : d->file},
                              {"training steps", training},           {"seed", seed_text},
                              {"sampler", sampler_names[a->sampler]}, {"steps", steps},
                              {"clip", clip_names[d->clip]},          {"norm mode", norm_names[d->norm]}};
    size_t text_count = 8;
    if (a->sampler == LUN_SAMPLER_DDIM)
        texts[text_count++] = (lun_png_text){"eta", eta};
    if (d->variance != LUN_VARIANCE_SMALL)
        texts[text_count++] = (lun_png_text){"variance", variance_names[d->variance]};
    if (a->guidance != 0)
        texts[text_count++] = (lun_png_text){"guidance", guidance};
    if (a->label_given || d->by_seed)
        texts[text_count++] = (lun_png_text){"class", label};
    if (lun_rate_text(d->model.info.ema, ema))
        texts[text_count++] = (lun_png_text){"moving average", ema};
    /* Tiny pictures are magnified, so that a grid can be looked at. */
    const int scale = d->width < 64 && !d->folder ? 64 / d->width : 1;
    lun_picture picture;
    LUN_TRY(lun_picture_from_floats(images, (size_t)count, d->model.info.config.image_channels, d->height, d->width,
                                    columns, d->folder && !a->strip ? 0 : GRID_GAP, scale < 1 ? 1 : scale, &picture));
    const lun_status status = lun_png_write(path, &picture, texts, text_count);
    lun_picture_free(&picture);
    return status;
}

static lun_status write_all(const drawing *d)
{
    const sample_args *a = d->args;
    if (!d->folder) {
        const int columns = a->strip ? d->panels : (int)ceil(sqrt((double)a->count));
        return write_pictures(d, a->out, d->shown, a->count * d->panels, columns, a->seed);
    }
    for (int k = 0; k < a->count; k++) {
        char *path = lun_format("%s/%06d.png", a->out, k);
        if (!path)
            return LUN_ERR_MEMORY;
        const lun_status status = write_pictures(d, path, d->shown + (size_t)k * (size_t)d->panels * d->elements,
                                                 d->panels, d->panels, a->seed + (uint64_t)k);
        free(path);
        LUN_TRY(status);
    }
    return LUN_OK;
}

/* ---- Drawing
 * -------------------------------------------------------------------------------------------------------------- */

/* Which panel of a strip the state with `remaining` steps to go is, or -1: evenly spaced, the last one finished. */
static int panel_of(const drawing *d, int remaining)
{
    for (int p = 0; p < d->panels; p++) {
        if ((int)((int64_t)(d->panels - 1 - p) * d->steps / d->panels) == remaining)
            return p;
    }
    return -1;
}

static void keep(drawing *d, const float *images, int panel)
{
    for (int k = 0; k < d->batch && d->first + k < d->args->count; k++)
        memcpy(d->shown + ((size_t)(d->first + k) * (size_t)d->panels + (size_t)panel) * d->elements,
               images + (size_t)k * d->elements, d->elements * sizeof *images);
}

static int wants(void *payload, int remaining)
{
    const drawing *d = payload;
    return d->panels > 1 && panel_of(d, remaining) >= 0;
}

static int takes(void *payload, int remaining, const float *images)
{
    drawing *d = payload;
    if (images)
        keep(d, images, panel_of(d, remaining));
    const int steps = d->steps, batches = (d->args->count + d->batch - 1) / d->batch, batch = d->first / d->batch;
    const double share = (batch + (double)(steps - remaining) / steps) / batches, took = lun_clock() - d->started;
    char head[64], left[32];
    snprintf(head, sizeof head, "picture %d/%d", d->first + 1, d->args->count);
    live_show(head, "  step %d/%d  %s left", steps - remaining, steps,
              duration_text(took > 0.5 ? took / share - took : NAN, left, sizeof left));
    return 0;
}

static lun_status draw_all(drawing *d)
{
    const sample_args *a = d->args;
    const lun_sampler_run run = {.seeds = d->seeds,
                                 .want = wants,
                                 .progress = takes,
                                 .payload = d,
                                 .labels = a->label_given || d->by_seed ? d->labels : NULL,
                                 .seeds_to = a->between_given ? d->seeds_to : NULL,
                                 .mix = d->mix};
    d->started = lun_clock();
    for (d->first = 0; d->first < a->count; d->first += d->batch) {
        /* The last batch is filled up with pictures that are not kept: every batch has the one compiled shape. */
        for (int k = 0; k < d->batch; k++) {
            const int number = d->first + k;
            d->seeds[k] = a->between_given ? a->between[0] : a->seed + (uint64_t)number;
            d->seeds_to[k] = a->between[1];
            d->mix[k] = a->count > 1 ? fmin((double)number / (a->count - 1), 1) : 0;
            d->labels[k] = d->by_seed ? (int32_t)(d->seeds[k] % (uint64_t)d->model.info.config.classes) : a->label;
        }
        LUN_TRY(lun_sampler_draw(d->sampler, &run, d->images));
        if (d->panels == 1)
            keep(d, d->images, 0);
        if (!live_terminal())
            say("%d of %d drawn", d->first + d->batch < a->count ? d->first + d->batch : a->count, a->count);
    }
    live_clear();
    return LUN_OK;
}

/* The steps of the schedule that --steps asks for: of ancestral sampling all, of the others as many as they are known
 * to need. Heun's levels are its own. */
static lun_status choose_steps(drawing *d)
{
    static const int usual[LUN_SAMPLER_KINDS] = {0, 50, 20, 18};
    const sample_args *a = d->args;
    const lun_sampler_kind kind = (lun_sampler_kind)a->sampler;
    const bool number = !a->steps || !a->steps[strspn(a->steps, "0123456789")];
    const int most = d->full.steps, few = usual[kind] && usual[kind] < most ? usual[kind] : most;
    const long asked = a->steps ? strtol(a->steps, NULL, 10) : few;
    if (number && asked > most && kind != LUN_SAMPLER_HEUN)
        return lun_fail(LUN_ERR_USAGE, "--steps %s: the model has %d", a->steps, most);
    if (number && (asked < 1 || asked > 100000))
        return lun_fail(LUN_ERR_USAGE, "--steps %s: must be at least 1 and at most 100000", a->steps);
    if (kind == LUN_SAMPLER_HEUN) {
        if (!number)
            return lun_fail(LUN_ERR_USAGE, "--steps %s: the heun sampler takes a number of noise levels", a->steps);
        d->steps = (int)asked;
        return lun_schedule_respace(&d->full, most, &d->schedule);
    }
    char text[32];
    snprintf(text, sizeof text, "%s%ld", kind == LUN_SAMPLER_DPM && asked < most ? "linspace" : "", asked);
    LUN_TRY(lun_schedule_select(&d->full, number ? text : a->steps, &d->schedule));
    d->steps = d->schedule.steps;
    return LUN_OK;
}

/* The null class is not for asking: it is what is drawn without --class. */
static lun_status check_label(drawing *d)
{
    const sample_args *a = d->args;
    const lun_model_config *config = &d->model.info.config;
    if (a->label_given && config->classes == 0)
        return lun_fail(LUN_ERR_USAGE, "--class %d: this network takes no labels", a->label);
    if (a->label_given && a->label >= config->classes)
        return lun_fail(LUN_ERR_USAGE, "--class %d: this network knows 0 to %d", a->label, config->classes - 1);
    d->by_seed = config->classes > 0 && !config->null_class && !a->label_given;
    return LUN_OK;
}

static lun_status prepare(drawing *d, lun_device *dev)
{
    const sample_args *a = d->args;
    LUN_TRY(load_model(d->file, dev, &d->model));
    const lun_model_file_info *info = &d->model.info;
    d->height = a->size_given ? a->size[1] : info->height ? info->height : 64;
    d->width = a->size_given ? a->size[0] : info->width ? info->width : 64;
    if (!a->size_given && !info->width)
        say("the file does not say how large its pictures were: drawing 64x64 (--size)");
    LUN_TRY(lun_model_config_check(&info->config, d->height, d->width));
    LUN_TRY(check_label(d));
    LUN_TRY(lun_schedule_create(info->schedule, info->config.steps, info->beta_first, info->beta_last, &d->full));
    LUN_TRY(choose_steps(d));
    d->variance = a->variance_given || a->sampler != LUN_SAMPLER_ANCESTRAL ? a->variance
                  : info->config.learned_sigma                             ? LUN_VARIANCE_LEARNED
                                                                           : LUN_VARIANCE_SMALL;
    /* The seed experiment's ways are for its network. */
    const bool notebook = info->config.network == LUN_NOTEBOOK;
    d->norm = notebook && a->norm;
    d->clip = a->clip_given                                     ? a->clip
              : notebook && a->sampler == LUN_SAMPLER_ANCESTRAL ? LUN_CLIP_MODE_XT
                                                                : LUN_CLIP_MODE_X0;
    d->batch = a->batch < a->count ? a->batch : a->count;
    d->panels = !a->strip ? 1 : d->steps < PANELS ? d->steps : PANELS;
    const lun_sampler_params params = {.batch = d->batch,
                                       .height = d->height,
                                       .width = d->width,
                                       .clip = (lun_clip_mode)d->clip,
                                       .norm = d->norm ? LUN_NORM_BATCH : LUN_NORM_EVAL,
                                       .schedule = &d->schedule,
                                       .kind = (lun_sampler_kind)a->sampler,
                                       .prediction = info->prediction,
                                       .variance = (lun_variance)d->variance,
                                       .eta = a->eta,
                                       .steps = a->sampler == LUN_SAMPLER_HEUN ? d->steps : 0,
                                       .guidance = a->guidance};
    LUN_TRY(lun_tuning_open(dev, &d->tuning));
    const lun_compile_params compile = {.allow_fallback = a->allow_fallback, .tuning = d->tuning};
    LUN_TRY(lun_sampler_create(d->model.store, dev, &info->config, &params, &compile, &d->sampler));
    d->elements = (size_t)info->config.image_channels * (size_t)d->height * (size_t)d->width;
    size_t bytes = 0;
    if (!lun_mul_size((size_t)a->count * (size_t)d->panels, d->elements, &bytes) ||
        !lun_mul_size(bytes, sizeof(float), &bytes))
        return lun_fail(LUN_ERR_MEMORY, "%d pictures are too many at this size", a->count);
    d->seeds = lun_calloc((size_t)d->batch, sizeof *d->seeds, "seeds");
    d->seeds_to = lun_calloc((size_t)d->batch, sizeof *d->seeds_to, "seeds");
    d->mix = lun_calloc((size_t)d->batch, sizeof *d->mix, "seeds");
    d->labels = lun_calloc((size_t)d->batch, sizeof *d->labels, "labels");
    d->images = lun_malloc((size_t)d->batch * d->elements, sizeof *d->images, "a batch of pictures");
    d->shown = lun_calloc(bytes, 1, "the pictures");
    return d->seeds && d->seeds_to && d->mix && d->labels && d->images && d->shown ? LUN_OK : LUN_ERR_MEMORY;
}

static void say_start(const drawing *d, const lun_device *dev)
{
    const sample_args *a = d->args;
    char text[400];
    device_text(dev, a->device, text, sizeof text);
    say("device: %s", text);
    say("model: %s", d->file);
    say("drawing %d of %dx%d, %s, %d steps, clip %s, norm mode %s, batches of %d", a->count, d->width, d->height,
        sampler_names[a->sampler], d->steps, clip_names[d->clip], norm_names[d->norm], d->batch);
    if (d->norm && d->batch > 1)
        say("batch statistics: a picture depends on the others of its batch too (--norm-mode eval: on its seed alone)");
}

static lun_status run(const sample_args *a)
{
    drawing d = {.args = a};
    lun_device *dev = NULL;
    lun_model_file_info info;
    lun_status status = LUN_OK;
    LUN_TRY_GOTO(status, done, find_weights(a->model, a->weights, &d.file));
    LUN_TRY_GOTO(status, done, lun_model_inspect(d.file, &info));
    LUN_TRY_GOTO(status, done, check_computes(a->device));
    LUN_TRY_GOTO(status, done, check_out(&d));
    LUN_TRY_GOTO(status, done, open_watched(a->device, a->threads, a->hang_timeout, &dev));
    LUN_TRY_GOTO(status, done, prepare(&d, dev));
    say_start(&d, dev);
    LUN_TRY_GOTO(status, done, draw_all(&d));
    LUN_TRY_GOTO(status, done, write_all(&d));
    live_quiet(false);
    say("%s", a->out);
done:
    live_clear();
    lun_sampler_destroy(&d.sampler);
    lun_tuning_close(&d.tuning);
    lun_schedule_free(&d.schedule);
    lun_schedule_free(&d.full);
    free_model(&d.model);
    lun_device_close(&dev);
    free(d.seeds);
    free(d.seeds_to);
    free(d.mix);
    free(d.labels);
    free(d.images);
    free(d.shown);
    free(d.file);
    return status;
}

int lun_cmd_sample(int argc, char **argv)
{
    sample_args a = {.device = "auto", .count = 16, .batch = 16, .norm = 1, .hang_timeout = HANG_USUAL};
    const arg_option options[] = {
        {.name = "--out",
         .type = ARG_TEXT,
         .value = &a.out,
         .meta = "PATH",
         .help = "GRID.png for all in one picture, FOLDER/ for 000000.png and so on"},
        {.name = "--count",
         .type = ARG_INT,
         .value = &a.count,
         .min = 1,
         .max = 100000,
         .meta = "N",
         .help = "pictures (16)"},
        {.name = "--seed",
         .type = ARG_U64,
         .value = &a.seed,
         .given = &a.seed_given,
         .meta = "S",
         .help = "picture k has the seed S + k (0)"},
        {.name = "--sampler",
         .type = ARG_CHOICE,
         .value = &a.sampler,
         .choices = sampler_names,
         .meta = "NAME",
         .help = "ancestral (default), ddim, dpm (DPM-Solver++ 2M), heun"},
        {.name = "--steps",
         .type = ARG_TEXT,
         .value = &a.steps,
         .meta = "K",
         .help =
             "denoising steps, evenly respaced (all of the model's; ddim 50, dpm 20, heun 18), or a list: see below"},
        {.name = "--eta",
         .type = ARG_DOUBLE,
         .value = &a.eta,
         .max = 1,
         .meta = "E",
         .help = "ddim: noise on the way, from 0 (default, none) to 1"},
        {.name = "--variance",
         .type = ARG_CHOICE,
         .value = &a.variance,
         .choices = variance_names,
         .given = &a.variance_given,
         .meta = "KIND",
         .help = "ancestral: small, large, or learned by the network (default where it is; else small)"},
        {.name = "--class",
         .type = ARG_INT,
         .value = &a.label,
         .min = 0,
         .max = INT32_MAX,
         .given = &a.label_given,
         .meta = "N",
         .help = "draw pictures of class N, with a network that knows classes (none; or seed modulo classes)"},
        {.name = "--guidance",
         .type = ARG_DOUBLE,
         .value = &a.guidance,
         .min = 0,
         .max = 1000,
         .meta = "S",
         .help = "classifier-free guidance towards the class; 1 is none (1)"},
        {.name = "--interpolate",
         .type = ARG_U64_TWO,
         .value = a.between,
         .given = &a.between_given,
         .meta = "A B",
         .help = "pictures on the way from that of seed A to that of seed B"},
        {.name = "--weights",
         .type = ARG_TEXT,
         .value = &a.weights,
         .meta = "WHICH",
         .help = "of a RUN: ema, its first moving average (the default where it has one); a rate as 0.999; raw"},
        {.name = "--strip",
         .type = ARG_FLAG,
         .value = &a.strip,
         .help = "show each picture as ten panels along the reverse process"},
        {.name = "--clip",
         .type = ARG_CHOICE,
         .value = &a.clip,
         .choices = clip_names,
         .given = &a.clip_given,
         .meta = "MODE",
         .help = "clamp to [-1, 1]: xt the picture after each step (default of ancestral sampling from a notebook "
                 "network), x0 the "
                 "predicted end (of all else), none"},
        {.name = "--norm-mode",
         .type = ARG_CHOICE,
         .value = &a.norm,
         .choices = norm_names,
         .meta = "MODE",
         .help = "train: statistics of the batch (default); eval: the trained ones (notebook network only)"},
        {.name = "--batch",
         .type = ARG_INT,
         .value = &a.batch,
         .min = 1,
         .max = 1024,
         .meta = "N",
         .help = "at most N at a time (16)"},
        {.name = "--size",
         .type = ARG_SIZE,
         .value = a.size,
         .min = 2,
         .max = 4096,
         .given = &a.size_given,
         .meta = "N|WxH",
         .help = "pixels, a side or across and down (those of the training)"},
        DEVICE_OPTION(&a.device, ", check"),
        THREADS_OPTION(&a.threads),
        HANG_OPTION(&a.hang_timeout),
        FALLBACK_OPTION(&a.allow_fallback),
        {.name = "--quiet", .type = ARG_FLAG, .value = &a.quiet, .help = "print warnings and the path only"},
        {0},
    };
    const arg_command command = {
        .usage = "sample RUN|FILE.safetensors --out GRID.png|FOLDER/ [options]",
        .about = "Draw new pictures with a model file, or with the newest sound checkpoint of a run folder. Each PNG "
                 "says in text\n"
                 "chunks how it was made.",
        .notes =
            "Schedule, prediction and learned variance are those of the model file. The notebook network's defaults, "
            "--clip xt\n"
            "and --norm-mode train, are the seed experiment's. With --norm-mode train the network\n"
            "normalises by the statistics of the pictures drawn together, so that a picture depends on its whole "
            "batch: the\n"
            "first --batch pictures are one batch, the next ones another, and the last batch is filled up with "
            "the seeds that\n"
            "follow. The same --seed, --count and --batch give the same pictures. With --norm-mode eval a picture "
            "depends on\n"
            "its own seed alone. Rounding apart, that is: 'lunette tune --for sample' may choose faster kernels. "
            "--clip x0\n"
            "keeps more of the brightness and the colours of the data.\n\n"
            "--steps takes 'N,M,..' too, so many of the first, second .. section of the model's steps, 'ddimN', "
            "every k-th\n"
            "step, and 'linspaceN', which dpm uses for a plain number; heun's number is one of noise levels, each "
            "but the last\n"
            "with two evaluations of the network.\n\n"
            "example:\n  lunette sample run --out grid.png --count 16 --seed 7",
        .options = options,
        .min_positionals = 1,
        .max_positionals = 1,
    };
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, &a.model, &positionals, &exit_code))
        return exit_code;
    if (!a.out)
        return report(lun_fail(LUN_ERR_USAGE, "--out is missing; usage: lunette %s", command.usage));
    if (a.seed_given && a.between_given)
        return report(lun_fail(LUN_ERR_USAGE, "--seed and --interpolate exclude each other"));
    if (a.quiet) {
        live_quiet(true);
        log_warnings_only();
    }
    const lun_status status = run(&a);
    return status == LUN_OK ? 0 : report(status);
}
