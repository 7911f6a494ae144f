/* The candidates for 1x1 filters. Private to src/lower. */
#ifndef LUN_POINTWISE_LOWER_H
#define LUN_POINTWISE_LOWER_H

#include "lower.h"

lun_status lun_pointwise_gather(const lun_op *op, const lun_caps *caps, lun_lowering *out);
lun_status lun_pointwise_wgrad(const lun_op *op, const lun_caps *caps, lun_lowering *out);
/* lun_candidate.suits for both. */
bool lun_pointwise_suits(const lun_op *op, const lun_caps *caps);

#endif
