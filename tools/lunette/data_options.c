#include "data_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "common.h"
#include "live.h"

#define LABEL_DROPOUT 0.1

const char *const crop_names[] = {"stretch", "centre", "random", NULL};
const char *const channel_names[] = {"auto", "grey", "rgb", "rgba", NULL};

int channels_of(int choice)
{
    static const int channels[] = {0, 1, 3, 4};
    return channels[choice];
}

const char *channels_name(int channels)
{
    return channels == 1 ? "grey" : channels == 4 ? "RGBA" : "RGB";
}

lun_status data_args_apply(const data_args *a, lun_data_config *c)
{
    if (a->label_dropout_given && !a->labels && !c->labels)
        return lun_fail(LUN_ERR_USAGE, "--label-dropout: only with --labels");
    if (a->crop_given)
        c->crop = (lun_crop)a->crop;
    if (a->flip)
        c->flip = 1;
    if (a->labels) {
        c->labels = 1;
        c->label_dropout = LABEL_DROPOUT;
    }
    if (a->label_dropout_given)
        c->label_dropout = a->label_dropout;
    if (a->holdout_given && lun_holdout_check(a->holdout) != LUN_OK)
        return lun_fail(LUN_ERR_USAGE, "--holdout: %s", lun_error_detail());
    if (a->holdout_given)
        c->holdout = a->holdout;
    return LUN_OK;
}

lun_status data_args_channels(const data_args *a, const char *folder, int *channels)
{
    lun_folder_survey found;
    if (!a->channels_given)
        return LUN_OK;
    if (channels_of(a->channels)) {
        *channels = channels_of(a->channels);
        return LUN_OK;
    }
    LUN_TRY(lun_folder_look(folder, &found));
    *channels = found.channels;
    say("channels: %s; %zu grey pictures, %zu in colour, %zu with alpha", channels_name(*channels), found.grey,
        found.colour, found.alpha);
    return LUN_OK;
}

static lun_status check_flag(const char *out, const char *option, bool given, bool recorded)
{
    if (!given || recorded)
        return LUN_OK;
    return lun_fail(LUN_ERR_USAGE, "%s: the run in %s was started without it", option, out);
}

lun_status data_args_check_same(const data_args *a, const char *out, const lun_train_config *config)
{
    const lun_data_config *c = &config->data;
    const int channels = channels_of(a->channels);
    if (a->crop_given && a->crop != (int)c->crop)
        return run_differs(out, "--crop", crop_names[a->crop], crop_names[c->crop]);
    if (a->channels_given && channels && channels != config->model.image_channels)
        return run_differs(out, "--channels-in", channel_names[a->channels],
                           channels_name(config->model.image_channels));
    LUN_TRY(check_flag(out, "--flip", a->flip, c->flip));
    LUN_TRY(check_flag(out, "--labels", a->labels, c->labels));
    LUN_TRY(run_check_number(out, "--label-dropout", a->label_dropout_given, a->label_dropout, c->label_dropout));
    return run_check_number(out, "--holdout", a->holdout_given, a->holdout, c->holdout);
}

lun_status count_held(const lun_dataset *dataset, double holdout, size_t *held)
{
    uint32_t *order = lun_malloc(lun_dataset_count(dataset), sizeof *order, "the pictures of a run");
    if (!order)
        return LUN_ERR_MEMORY;
    const lun_status status = lun_holdout_split(dataset, holdout, order, held);
    free(order);
    return status;
}
