/* What a training step computes before the gradient: noising, network, loss. Private. */
#ifndef LUN_TRAIN_STEP_H
#define LUN_TRAIN_STEP_H

#include <lunette/train.h>

typedef struct lun_step_values {
    lun_value images;                /* (batch, C, H, W) */
    lun_value time_rows, noise_rows; /* (batch, LUN_RANDOM_ROW, 1, 1) u32 */
    lun_value dropout_rows;          /* the same; -1: a network without dropout */
    lun_value labels;                /* (batch, 1, 1, 1) i32; -1: a network without classes */
    lun_value loss;                  /* (1, 1, 1, 1) */
} lun_step_values;

/* Record it for `batch` pictures; all but the loss are inputs. The network predicts the noise; one with learned_sigma
 * is trained by the hybrid objective, too. Errors are the graph's. */
lun_status lun_step_record(lun_graph *graph, const lun_train_config *config, int batch, lun_step_values *out);

#endif
