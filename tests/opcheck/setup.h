/* A case laid out on a device: buffers with canaries, images of them, a bound plan. */
#ifndef SETUP_H
#define SETUP_H

#include "opcheck.h"

#define OC_MAX_REGIONS (LUN_OP_MAX_SRC + LUN_OP_MAX_DST + 2)

typedef struct oc_region {
    int buffer;
    size_t offset, words;
    bool changes;       /* a destination, the workspace or the kept memory */
    size_t pixel, step; /* words of a pixel, and from one to the next; between them are canaries. Dense: both are all */
} oc_region;

typedef struct oc_setup {
    lun_op_plan *plan;
    int buffers, regions; /* regions: the sources, the destinations with storage of their own, the workspace, what is
                             kept */
    size_t bytes[OC_MAX_REGIONS];
    lun_buffer *buffer[OC_MAX_REGIONS];
    uint32_t *image[OC_MAX_REGIONS], *after[OC_MAX_REGIONS];
    oc_region region[OC_MAX_REGIONS];
    int dst_region[LUN_OP_MAX_DST], workspace_region, kept_region; /* -1: none */
} oc_setup;

/* LUN_UNSUPPORTED where the candidate declines. */
lun_status oc_setup_create(lun_device *dev, const oc_case *c, const char *candidate, oc_setup *u);
void oc_setup_destroy(oc_setup *u);
/* Put the sources, canaries and NaN patterns in place. */
lun_status oc_setup_write(oc_setup *u);

#endif
