/* The trainer's private side. */
#ifndef LUN_TRAINER_H
#define LUN_TRAINER_H

#include <lunette/checkpoint.h>
#include <lunette/train.h>

lun_model_file_info lun_trainer_file_info(const lun_trainer *trainer);
/* Declare and write weights and optimiser state; the writers are neither committed nor discarded here. */
lun_status lun_trainer_write(lun_trainer *trainer, lun_safetensors_writer *weights, lun_safetensors_writer *optimizer);

#endif
