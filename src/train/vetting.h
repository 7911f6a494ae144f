/* Vetting: before a run, its kernels are held against plain C, once. Private. */
#ifndef LUN_VETTING_H
#define LUN_VETTING_H

#include <stdbool.h>

#include <jansson.h>

#include <lunette/doctor.h>

/* `kernels` is what a run would train with: {"op description": "candidate"}. Is all of it known to be right on the
 * device? True for devices that have no kernels of their own. */
bool lun_vetted(lun_device *dev, const lun_train_config *config, const json_t *kernels);

/* Find out: the configuration's training step with at most two pictures runs beside plain C (lun_doctor), and what is
 * found is remembered in the cache folder for this device, driver, build and kernel texts (doctor-*.txt, one line a
 * kernel and op). Takes memory for two networks meanwhile; where it is missing, that is said and nothing is found out.
 *
 * *detours is an object {"op description": "candidate"} to pin, for the caller to release: right kernels in the place
 * of wrong ones, which are named in warnings. LUN_ERR_DEVICE where an op has no right kernel. Blocks. */
lun_status lun_vet(lun_device *dev, const lun_train_config *config, const json_t *kernels, json_t **detours);

#endif
