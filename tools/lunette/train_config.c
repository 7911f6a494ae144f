/* From the command line of lunette train to the configuration of a run. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "advise.h"
#include "base/base.h"
#include "base/file.h"
#include "checkpoint/runfolder.h"
#include "common.h"
#include "train_args.h"

/* What a run with preset auto does so many times. */
#define STRIPS       20
#define MEASUREMENTS 100

/* "64", or "96x64" */
static const char *size_text(int width, int height, char *text, size_t size)
{
    if (width == height)
        snprintf(text, size, "%d", width);
    else
        snprintf(text, size, "%dx%d", width, height);
    return text;
}

/* On --resume the run's own configuration counts; an option that says otherwise is a mistake. */
static lun_status check_same(const train_args *a, const lun_train_config *c)
{
    LUN_TRY(update_check_same(&a->update, a->out, c));
    LUN_TRY(objective_check_same(&a->objective, a->out, c));
    if (a->preset_given && strcmp(a->preset, c->preset) != 0)
        return run_differs(a->out, "--preset", a->preset, c->preset);
    if (a->size_given && (a->size[0] != c->width || a->size[1] != c->height)) {
        char left[24], right[24];
        return run_differs(a->out, "--size", size_text(a->size[0], a->size[1], left, sizeof left),
                           size_text(c->width, c->height, right, sizeof right));
    }
    LUN_TRY(data_args_check_same(&a->data, a->out, c));
    LUN_TRY(run_check_number(a->out, "--batch", a->batch_given, a->batch, c->batch));
    LUN_TRY(run_check_number(a->out, "--lr", a->lr_given, a->lr, c->lr));
    if (a->seed_given && a->seed != c->seed) {
        char left[24], right[24];
        snprintf(left, sizeof left, "%" PRIu64, a->seed);
        snprintf(right, sizeof right, "%" PRIu64, c->seed);
        return run_differs(a->out, "--seed", left, right);
    }
    if (a->loss_given && a->loss != (int)c->loss)
        return run_differs(a->out, "--loss", loss_names[a->loss], loss_names[c->loss]);
    if (a->channels_given && (a->levels != c->model.levels ||
                              memcmp(a->channels, c->model.channels, sizeof(int) * (size_t)a->levels) != 0)) {
        char left[128], right[128];
        lun_model_config given = {.levels = a->levels};
        memcpy(given.channels, a->channels, sizeof(int) * (size_t)a->levels);
        return run_differs(a->out, "--channels", channels_text(&given, left, sizeof left),
                           channels_text(&c->model, right, sizeof right));
    }
    return LUN_OK;
}

bool train_wants_advice(const train_args *a)
{
    return !a->resume && strcmp(a->preset, LUN_PRESET_AUTO) == 0;
}

/* What the preset says of the run and, unless an option does, of its length. `dev`: for preset auto. */
static lun_status preset_config(const train_args *a, lun_device *dev, lun_train_config *c, lun_run_length *length)
{
    const bool own_length = !a->epochs_given && !a->steps_given;
    lun_preset preset;
    if (train_wants_advice(a)) {
        const advise_args wishes = {.folder = a->folder,
                                    .data = &a->data,
                                    .width = a->size_given ? a->size[0] : 0,
                                    .height = a->size_given ? a->size[1] : 0,
                                    .batch = a->batch_given ? a->batch : 0,
                                    .steps = a->steps,
                                    .epochs = a->epochs,
                                    .hours = a->hours};
        uint64_t steps = 0;
        LUN_TRY(advise(dev, &wishes, c, &steps, NULL));
        if (!a->epochs_given) /* with --hours too: the learning rate's decay has to end somewhere */
            length->steps = steps;
        return LUN_OK;
    }
    LUN_TRY(lun_train_preset(a->preset, c));
    LUN_TRY(lun_preset_named(a->preset, &preset));
    if (own_length && !a->hours_given) {
        length->steps = preset.steps;
        length->epochs = preset.epochs;
    }
    return LUN_OK;
}

lun_status train_new_config(const train_args *a, lun_device *dev, lun_train_config *out, lun_run_length *length)
{
    lun_train_config c;
    LUN_TRY(preset_config(a, dev, &c, length));
    if (a->size_given) {
        c.width = a->size[0];
        c.height = a->size[1];
    }
    LUN_TRY(data_args_apply(&a->data, &c.data));
    if (a->batch_given)
        c.batch = a->batch;
    if (a->lr_given)
        c.lr = a->lr;
    if (a->loss_given)
        c.loss = (lun_loss_type)a->loss;
    if (a->channels_given)
        set_channels(&c.model, a->channels, a->levels);
    LUN_TRY(objective_apply(&a->objective, &c));
    /* How many classes there are the pictures will tell. */
    if (c.data.labels && c.model.network != LUN_NOTEBOOK) {
        c.model.classes = 1;
        c.model.null_class = c.data.label_dropout > 0;
    }
    c.seed = a->seed;
    LUN_TRY(update_apply(&a->update, &c));
    LUN_TRY(lun_train_config_check(&c));
    if (c.decay != LUN_DECAY_CONSTANT && c.decay_steps == 0 && length->epochs == 0 && length->steps == 0)
        return lun_fail(LUN_ERR_USAGE, "--hours does not say by which step the learning rate has decayed: give "
                                       "--decay-steps, or --decay constant");
    *out = c;
    return LUN_OK;
}

lun_status train_make_config(const train_args *a, lun_device *dev, lun_train_config *out, lun_run_length *length)
{
    if (a->resume) {
        if (!lun_runfolder_holds_run(a->out))
            return lun_fail(LUN_ERR_USAGE, "%s: holds no run to go on with", a->out);
        lun_run_length recorded;
        LUN_TRY(lun_train_config_load(a->out, out, &recorded));
        if (!a->epochs_given && !a->steps_given && !a->hours_given)
            *length = recorded;
        return check_same(a, out);
    }
    lun_path_kind kind; /* what is no folder is a matter for check_out() in train.c */
    LUN_TRY(lun_path_look(a->out, LUN_ERR_STORAGE, &kind));
    if (kind == LUN_PATH_FOLDER && lun_runfolder_holds_run(a->out))
        return lun_fail(LUN_ERR_USAGE, "%s: already holds a run; go on with --resume or choose another folder", a->out);
    return train_new_config(a, dev, out, length);
}

static int interval(const lun_train_config *c, bool given, int epochs, uint64_t per_epoch, const lun_run_length *length,
                    int times)
{
    if (given || strcmp(c->preset, LUN_PRESET_AUTO) != 0 || epochs == 0)
        return epochs;
    const uint64_t all = length->epochs ? length->epochs : length->steps / per_epoch;
    return (int)lun_max_i64(1, (int64_t)(all / (uint64_t)times));
}

int train_sample_interval(const train_args *a, const lun_train_config *c, uint64_t per_epoch,
                          const lun_run_length *length)
{
    return interval(c, a->sample_every_given, a->sample_every, per_epoch, length, STRIPS);
}

int train_holdout_interval(const train_args *a, const lun_train_config *c, uint64_t per_epoch,
                           const lun_run_length *length)
{
    return interval(c, a->holdout_every_given, a->holdout_every, per_epoch, length, MEASUREMENTS);
}

lun_status train_check_init(const train_args *a, const lun_train_config *c)
{
    if (a->init) {
        lun_model_file_info info;
        LUN_TRY(lun_model_inspect(a->init, &info));
        const lun_model_config *m = &info.config;
        if (m->network != c->model.network)
            return lun_fail(LUN_ERR_CHECKPOINT,
                            "%s does not fit the network: it is of kind %s, the run's %s (--preset)", a->init,
                            lun_network_name(m->network), lun_network_name(c->model.network));
        if (m->image_channels != c->model.image_channels)
            return lun_fail(LUN_ERR_CHECKPOINT,
                            "%s does not fit the pictures: it draws %d channels, they have %d (--channels-in)", a->init,
                            m->image_channels, c->model.image_channels);
        if (m->levels != c->model.levels ||
            memcmp(m->channels, c->model.channels, sizeof(int) * (size_t)m->levels) != 0) {
            char left[128], right[128];
            return lun_fail(LUN_ERR_CHECKPOINT,
                            "%s does not fit the network: its channels are %s, the run's %s (--channels)", a->init,
                            channels_text(m, left, sizeof left), channels_text(&c->model, right, sizeof right));
        }
    }
    return LUN_OK;
}

lun_status train_check_folder(const char *folder)
{
    lun_path_kind kind;
    LUN_TRY(lun_path_look(folder, LUN_ERR_DATA, &kind));
    if (kind == LUN_PATH_MISSING)
        return lun_fail(LUN_ERR_USAGE, "%s: no such folder of pictures", folder);
    return kind == LUN_PATH_FOLDER ? LUN_OK : lun_fail(LUN_ERR_USAGE, "%s: not a folder", folder);
}

lun_status train_check_length(const train_args *a)
{
    if (a->epochs_given + a->steps_given + a->hours_given > 1)
        return lun_fail(LUN_ERR_USAGE, "--epochs, --steps and --hours exclude each other: give one");
    return LUN_OK;
}

lun_status train_check_options(const train_args *a)
{
    LUN_TRY(train_check_length(a));
    if (a->no_cache && a->cache)
        return lun_fail(LUN_ERR_USAGE, "--cache and --no-cache exclude each other: give one");
    if (a->resume && a->init)
        return lun_fail(LUN_ERR_USAGE, "--init and --resume exclude each other: a run goes on from its own checkpoint");
    if (a->init && train_wants_advice(a))
        return lun_fail(LUN_ERR_USAGE, "--init: give the --preset whose network %s holds", a->init);
    return check_computes(a->device);
}

lun_status train_check_config(const train_args *a, const lun_train_config *c)
{
    if (a->data.label_dropout_given && !c->data.labels)
        return lun_fail(LUN_ERR_USAGE, "--label-dropout: only with --labels");
    const int shift = c->model.levels - 1;
    if (c->model.network == LUN_NOTEBOOK && a->sample_every > 0 && a->norm == 1 &&
        (c->height >> shift) * (c->width >> shift) < 2)
        return lun_fail(
            LUN_ERR_USAGE,
            "the network's deepest maps have one pixel at this size, too few for sample strips with batch statistics: "
            "give --norm-mode eval or --sample-every 0");
    return LUN_OK;
}
