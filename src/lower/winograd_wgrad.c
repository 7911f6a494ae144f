/* conv2d_wgrad: the Winograd candidates (cl/winograd_wgrad.h). */
#include "winograd_wgrad.h"

#include "base/base.h"
#include "winograd_lower.h"

/* A multiple of every register tile's rows (6 and 8), and of every lane width above one (48 = 3 x 16). */
#define TILE_MULTIPLE    24
#define CHANNEL_MULTIPLE 48
/* Scratch of all slots together may take this much. */
#define SCRATCH_BYTES (256u << 20)

static lun_status possible(const lun_op *op, const lun_caps *caps, lun_shape filter)
{
    const lun_conv_attrs *a = &op->attrs.conv;
    if (caps->gpu || caps->lanes < 4)
        return lun_fail(LUN_UNSUPPORTED, "the Winograd kernels are for CPUs with vectors");
    if (filter.h != 3 || filter.w != 3 || a->stride_h != 1 || a->stride_w != 1)
        return lun_fail(LUN_UNSUPPORTED, "Winograd is for 3x3 filters with stride 1");
    if (a->pad_h > 2 || a->pad_w > 2)
        return lun_fail(LUN_UNSUPPORTED, "Winograd with more padding than the filter has");
    return LUN_OK;
}

/* How many items share the tasks: a few a core, so that a core that is taken away delays little, as far as scratch
 * allows. */
static int slots_for(const lun_caps *caps, int64_t tasks, int64_t slot_floats)
{
    const int64_t fit = (int64_t)SCRATCH_BYTES / (slot_floats * 4);
    return (int)lun_max_i64(1, lun_min_i64(lun_min_i64(tasks, 4LL * caps->units), fit));
}

lun_status lun_winograd_wgrad(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape big = op->src[0].shape, small = op->src[1].shape;
    LUN_TRY(possible(op, caps, op->dst[0].shape));
    const lun_conv_attrs *a = &op->attrs.conv;
    const int width = 2 * caps->lanes, panels = (int)lun_ceil_div(small.c, width);
    struct winograd_wgrad_args w = {.big_h = (int)big.h,
                                    .big_w = (int)big.w,
                                    .big_c = (int)big.c,
                                    .small_h = (int)small.h,
                                    .small_w = (int)small.w,
                                    .small_c = (int)small.c,
                                    .pad_h = a->pad_h,
                                    .pad_w = a->pad_w};
    w.tiles_h = (int)lun_ceil_div(small.h, 4);
    w.tiles_w = (int)lun_ceil_div(small.w, 4);
    w.tiles = (int)small.n * w.tiles_h * w.tiles_w;
    w.block = (int)lun_min_i64(64, w.tiles);
    w.channels_per_task = CHANNEL_MULTIPLE;
    w.panels_per_task = (int)lun_min_i64(panels, 2);
    w.tasks = (int)(lun_ceil_div(big.c, w.channels_per_task) * lun_ceil_div(panels, w.panels_per_task));
    const int64_t columns = (int64_t)w.panels_per_task * width, lines = w.channels_per_task;
    const int64_t slot = 36 * (w.block * lines + w.block * columns + lines * columns);
    w.slot_floats = (int)slot;
    w.slots = slots_for(caps, w.tasks, slot);
    const size_t scratch = lun_book(out, (size_t)(w.slots * slot) * 4);
    lun_launch *launch = lun_emit(out, "cpu/winograd_weight_4x4_3x3.cl", "winograd_wgrad", w.slots);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_workspace(launch, scratch);
    lun_emit_args(launch, w);
    return LUN_OK;
}
