/* The Winograd candidates of the convolutions. Private to src/lower. */
#ifndef LUN_WINOGRAD_LOWER_H
#define LUN_WINOGRAD_LOWER_H

#include "lower.h"

lun_status lun_winograd_gather(const lun_op *op, const lun_caps *caps, lun_lowering *out);
lun_status lun_winograd_gather_2x2(const lun_op *op, const lun_caps *caps, lun_lowering *out);
lun_status lun_winograd_deep_4x4(const lun_op *op, const lun_caps *caps, lun_lowering *out);
lun_status lun_winograd_deep_2x2(const lun_op *op, const lun_caps *caps, lun_lowering *out);
lun_status lun_winograd_wgrad_4x4(const lun_op *op, const lun_caps *caps, lun_lowering *out);
lun_status lun_winograd_wgrad_2x2(const lun_op *op, const lun_caps *caps, lun_lowering *out);

/* lun_candidate.suits for the 4x4 forms of the above. Few channels are not worth the transforms; and what decides
 * between the two forms of the gather is whether the transformed filter, several times as large, stays in a cache or
 * serves many tiles. */
bool lun_winograd_suits(const lun_op *op, const lun_caps *caps);
bool lun_winograd_deep_suits(const lun_op *op, const lun_caps *caps);
bool lun_winograd_wgrad_suits(const lun_op *op, const lun_caps *caps);

#endif
