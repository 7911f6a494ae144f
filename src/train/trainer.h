/* The trainer's private side. */
#ifndef LUN_TRAINER_H
#define LUN_TRAINER_H

#include <lunette/checkpoint.h>
#include <lunette/train.h>

lun_model_file_info lun_trainer_file_info(const lun_trainer *trainer);
/* Start from a model file's weights and running statistics instead of the seed's: step 0, moments zero. */
lun_status lun_trainer_init(lun_trainer *trainer, const char *model_path);
/* Declare and write weights and optimiser state; the writers are neither committed nor discarded here. LUN_ERR_DIVERGED
 * where a value is not finite: such a file would displace a sound one. */
lun_status lun_trainer_write(lun_trainer *trainer, lun_safetensors_writer *weights, lun_safetensors_writer *optimizer);
/* The same for moving average number `index`, as a model file. */
lun_status lun_trainer_write_average(lun_trainer *trainer, int index, lun_safetensors_writer *writer);
/* Every op of a step in order of execution: lun_plan_visit over all that runs. */
void lun_trainer_visit(const lun_trainer *trainer, void (*visit)(void *payload, const lun_plan_op *op), void *payload);

#endif
