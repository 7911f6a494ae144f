/* What a training step computes before the gradient: noising, network, loss. Private. */
#ifndef LUN_TRAIN_STEP_H
#define LUN_TRAIN_STEP_H

#include <lunette/train.h>

typedef struct lun_step_values {
    lun_value images;                /* (batch, C, H, W) */
    lun_value time_rows, noise_rows; /* (batch, LUN_RANDOM_ROW, 1, 1) u32; time_rows -1 with loss_aware */
    lun_value time, weights;         /* with loss_aware: (batch, 1, 1, 1), i32 and f32; else -1 */
    lun_value dropout_rows;          /* as noise_rows; -1: a network without dropout */
    lun_value labels;                /* (batch, 1, 1, 1) i32; -1: a network without classes */
    lun_value each; /* with loss_aware: an output, the pictures' own losses (batch, 1, 1, 1); else -1 */
    lun_value loss; /* (1, 1, 1, 1) */
} lun_step_values;

/* Record it for `batch` pictures; all but each and the loss are inputs. Errors are the graph's. */
lun_status lun_step_record(lun_graph *graph, const lun_train_config *config, int batch, lun_step_values *out);

/* What the network is asked for. */
lun_objective lun_train_objective(const lun_train_config *config);

#endif
