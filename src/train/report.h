/* The pictures and charts of a run folder. Private. */
#ifndef LUN_TRAIN_REPORT_H
#define LUN_TRAIN_REPORT_H

#include <lunette/train.h>

/* A log line kept for the chart. */
typedef struct lun_history_line {
    double step, loss;
    double holdout, average; /* the held-out pictures' losses as measured at that step, of the weights and of their
                                first moving average; else NaN */
} lun_history_line;

typedef struct lun_history {
    lun_history_line *lines;
    size_t count, room;
} lun_history;

lun_status lun_history_add(lun_history *history, const lun_history_line *line);
/* Forget what is later than `step`. */
void lun_history_cut(lun_history *history, uint64_t step);
void lun_history_free(lun_history *history);

/* Every picture carries text chunks that say what it is of. Those smaller than 64 pixels are magnified in whole steps.
 *
 * RUN/loss.png: the logged losses, their mean over a moving window, and the losses of held-out pictures. */
lun_status lun_report_loss(const char *folder, const lun_history *history, const lun_train_config *config);
/* RUN/data.png: a strip of the first ten pictures as the network sees them. */
lun_status lun_report_data(const char *folder, const lun_dataset *dataset, const lun_train_config *config);
/* RUN/forward.png: the first picture noised to ten evenly spaced steps from 0 on. */
lun_status lun_report_forward(const char *folder, lun_device *dev, const lun_dataset *dataset,
                              const lun_train_config *config);

/* Text chunks that every picture drawn by a model carries. */
typedef struct lun_report_facts {
    const char *model; /* preset */
    uint64_t step, seed;
    const char *sampler; /* "ancestral" */
    int steps;
    lun_clip_mode clip;
    lun_norm_mode norm;
    double ema; /* rate of the moving average that the weights are; 0: the weights themselves */
} lun_report_facts;

/* A strip of `count` images (count, channels, height, width) as a PNG with those facts. */
lun_status lun_report_strip(const char *path, const float *images, int count, int channels, int height, int width,
                            const lun_report_facts *facts);

#endif
