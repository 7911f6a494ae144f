/* conv2d and conv2d_transpose: the Winograd candidates (cl/winograd.h). */
#include "winograd.h"

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

lun_status lun_winograd_gather(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const bool transposed = op->kind == LUN_OP_CONV2D_TRANSPOSE;
    const lun_shape src = op->src[0].shape, dst = op->dst[0].shape;
    LUN_TRY(possible(op, caps, op->src[1].shape));
    const lun_conv_attrs *a = &op->attrs.conv;
    const int width = 2 * caps->lanes, panels = (int)lun_ceil_div(dst.c, width);
    struct winograd_args w = {.src_h = (int)src.h,
                              .src_w = (int)src.w,
                              .src_c = (int)src.c,
                              .dst_h = (int)dst.h,
                              .dst_w = (int)dst.w,
                              .dst_c = (int)dst.c,
                              .has_bias = op->nsrc == 3};
    /* The data gradient is a convolution with the filter turned round, padded by what the filter had left over. */
    w.pad_h = transposed ? 2 - a->pad_h : a->pad_h;
    w.pad_w = transposed ? 2 - a->pad_w : a->pad_w;
    w.tiles_h = (int)lun_ceil_div(dst.h, 4);
    w.tiles_w = (int)lun_ceil_div(dst.w, 4);
    w.tiles = (int)dst.n * w.tiles_h * w.tiles_w;
    const int64_t depth = lun_round_up(src.c, caps->lanes);
    /* A block of transformed tiles is to stay in the second-level cache; filters larger than that want more tiles to
     * use each on. */
    w.block = src.c <= 256 ? 24 : 48;
    w.block = (int)lun_min_i64(w.block, lun_round_up(w.tiles, TILE_MULTIPLE));
    const int64_t blocks = lun_ceil_div(w.tiles, w.block);
    w.panels_per_task = (int)lun_max_i64(1, lun_min_i64(panels, panels * blocks / 32));
    w.tasks = (int)(blocks * lun_ceil_div(panels, w.panels_per_task));
    const int64_t slot = (int64_t)36 * w.block * (depth + width);
    const int64_t filter = (int64_t)panels * 36 * src.c * width;
    if (slot > INT32_MAX / 4 || filter > INT32_MAX)
        return lun_fail(LUN_UNSUPPORTED, "too many channels for Winograd's scratch");
    w.slot_floats = (int)slot;
    w.slots = slots_for(caps, w.tasks, slot);

    const size_t packed = lun_book(out, (size_t)filter * 4), scratch = lun_book(out, (size_t)(w.slots * slot) * 4);
    const struct winograd_filter_args f = {
        .src_c = w.src_c, .dst_c = w.dst_c, .width = width, .transposed = transposed};
    lun_launch *launch = lun_emit(out, "cpu/winograd_4x4_3x3.cl", "winograd_filter",
                                  panels * lun_ceil_div(src.c, WINOGRAD_FILTER_CHANNELS));
    lun_emit_src(launch, 1);
    lun_emit_workspace(launch, packed);
    lun_emit_args(launch, f);
    launch = lun_emit(out, "cpu/winograd_4x4_3x3.cl", "winograd_conv2d", w.slots);
    lun_emit_src(launch, 0);
    lun_emit_workspace(launch, packed);
    lun_emit_src(launch, w.has_bias ? 2 : 1);
    lun_emit_dst(launch, 0);
    lun_emit_workspace(launch, scratch);
    lun_emit_args(launch, w);
    return LUN_OK;
}
