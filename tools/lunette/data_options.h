/* The options about pictures, and what train makes of them. */
#ifndef LUN_DATA_OPTIONS_H
#define LUN_DATA_OPTIONS_H

#include "args.h"

extern const char *const crop_names[];    /* of lun_crop, ended by NULL */
extern const char *const channel_names[]; /* "auto", "grey", "rgb", "rgba" */

/* The number of channels that a name of channel_names[] means; 0 for "auto". */
int channels_of(int choice);
/* "grey", "RGB", "RGBA" */
const char *channels_name(int channels);

typedef struct data_args {
    int crop, channels;
    bool flip, labels;
    double holdout, label_dropout;
    bool crop_given, channels_given, holdout_given, label_dropout_given;
} data_args;

/* Of arg_option, for the table of a command; `place`: data_args *. */
#define DATA_OPTIONS(place)                                                                                            \
    {.name = "--crop",                                                                                                 \
     .type = ARG_CHOICE,                                                                                               \
     .value = &(place)->crop,                                                                                          \
     .choices = crop_names,                                                                                            \
     .given = &(place)->crop_given,                                                                                    \
     .meta = "HOW",                                                                                                    \
     .help = "stretch (notebook's), centre (the others'), random: see below"},                                         \
        {.name = "--flip",                                                                                             \
         .type = ARG_FLAG,                                                                                             \
         .value = &(place)->flip,                                                                                      \
         .help = "mirror every other picture, by chance"},                                                             \
        {.name = "--channels-in",                                                                                      \
         .type = ARG_CHOICE,                                                                                           \
         .value = &(place)->channels,                                                                                  \
         .choices = channel_names,                                                                                     \
         .given = &(place)->channels_given,                                                                            \
         .meta = "KIND",                                                                                               \
         .help = "of the pictures: grey, rgb, rgba, or auto for what the folder holds (rgb)"},                         \
        {.name = "--labels",                                                                                           \
         .type = ARG_FLAG,                                                                                             \
         .value = &(place)->labels,                                                                                    \
         .help = "FOLDER's sub-folders are classes that the network is told"},                                         \
        {.name = "--label-dropout",                                                                                    \
         .type = ARG_DOUBLE,                                                                                           \
         .value = &(place)->label_dropout,                                                                             \
         .max = 1,                                                                                                     \
         .given = &(place)->label_dropout_given,                                                                       \
         .meta = "P",                                                                                                  \
         .help = "share of the samples told no class, for guidance (0.1)"},                                            \
    {                                                                                                                  \
        .name = "--holdout", .type = ARG_DOUBLE, .value = &(place)->holdout, .max = 1e6,                               \
        .given = &(place)->holdout_given, .meta = "X",                                                                 \
        .help = "never train on a share of the pictures (0.1), or on every Xth (10)"                                   \
    }

/* What the help says about them. */
#define DATA_NOTES                                                                                                     \
    "--crop says how a picture becomes W x H pixels. stretch: resized to that, whatever its proportions. centre: "     \
    "resized so\nthat it just covers W x H (the side that fits exactly decides, the other is rounded down), then the " \
    "middle is cut out.\nrandom: resized in the same way, and each time that it is trained on another part is cut "    \
    "out, at a random place; of a\npicture longer than four times the size the middle four are used. Resizing is "     \
    "antialiased, a triangle filter over the\nwhole reduction. --flip and the place are drawn from the seed and the "  \
    "number of the sample, so that resuming and the\nsize of the batch change nothing.\n\n"                            \
    "--channels-in auto takes rgba if every picture has alpha, grey if every one is grey without, else rgb. As rgb "   \
    "or "                                                                                                              \
    "grey,\nalpha is composited over black; as rgba it is a fourth channel, and colour that it hides counts as "       \
    "black.\n\n"                                                                                                       \
    "--holdout below 1 chooses by the names of the files, so that a picture stays on its side whatever else is in "    \
    "the folder; from\n2 on it takes every Xth in the order of names. Their loss is logged (holdout_loss, and with "   \
    "--ema holdout_loss_ema, that of\nthe first moving average): same noise, same time steps, no flip, running "       \
    "statistics, so that values compare between epochs\nand between runs.\n\n"

/* Everything but the channels into a configuration. LUN_ERR_USAGE for what does not go together. */
lun_status data_args_apply(const data_args *args, lun_data_config *config);
/* The channels, which may need a look at the folder; says what was chosen and why. */
lun_status data_args_channels(const data_args *args, const char *folder, int *channels);
/* On --resume: LUN_ERR_USAGE where an option says otherwise than the run `out` recorded. */
lun_status data_args_check_same(const data_args *args, const char *out, const lun_train_config *config);
/* How many pictures are held out. */
lun_status count_held(const lun_dataset *dataset, double holdout, size_t *held);

#endif
