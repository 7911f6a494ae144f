/* The loss of pictures that are never trained on. Private.
 *
 * What is measured is the same from call to call, from run to run and whatever the run's seed and batch: the same
 * noise, the same time steps, pictures in the middle and not mirrored, labels not dropped, batch norms with their
 * running statistics. So values compare, and what moves between two of them is the network.
 *
 * There are M measurements: with n pictures M = n ceil(64 / n), picture m mod n the m-th, up to 1024; beyond that 1024,
 * picture floor(m n / 1024). The time steps floor((k + 1/2) T / M), k = 0..M-1, are dealt out by a fixed permutation.
 * The result is the mean over all elements of all measurements of the run's kind of loss of what the network predicts,
 * without any weighting and without a learned variance's part: each measurement's mean comes from the device, their
 * mean is taken in double in that order.
 */
#ifndef LUN_HOLDOUT_H
#define LUN_HOLDOUT_H

#include <stdbool.h>

#include <lunette/train.h>

typedef struct lun_holdout lun_holdout;

/* `pictures`: at least one, of the data set, which is borrowed and has the configuration's size and channels. Compiled
 * for the store's values, and where the configuration has moving averages for the first of them too; they may change
 * between measurements. As many pictures at a time as a micro-batch has. `compile` as for lun_sampler_create(), but its
 * `values` do not matter. */
lun_status lun_holdout_create(lun_device *dev, lun_store *store, const lun_train_config *config,
                              const lun_dataset *dataset, const uint32_t *pictures, size_t count,
                              const lun_compile_params *compile, lun_holdout **out);
/* Of the weights, or with `average` of their first moving average (LUN_ERR_USAGE without any). NaN or infinite where
 * the network's answer is. Waits. */
lun_status lun_holdout_measure(lun_holdout *holdout, bool average, double *loss);
bool lun_holdout_averages(const lun_holdout *holdout);
void lun_holdout_destroy(lun_holdout **holdout);

/* For `count` pictures: the number of measurements, and which picture of 0..count-1 the m-th is of. */
size_t lun_holdout_measurements(size_t count);
size_t lun_holdout_picture(size_t count, size_t m);

#endif
