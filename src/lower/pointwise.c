/* conv2d, conv2d_transpose, conv2d_wgrad: the candidate for 1x1 filters on CPUs (cl/pointwise.h, cl/cpu/pointwise.cl).
 */
#include "pointwise.h"

#include <math.h>

#include "base/base.h"
#include "conv2d.h"
#include "lowerings.h"
#include "pointwise_lower.h"

/* As many items fill the cores of any CPU evenly; cutting finer only costs reuse. */
#define ITEMS_WANTED 64
/* Channels whose piece of a panel stays in the first-level cache beside the rows that meet it. */
#define DEPTH_BLOCK 256
/* Rows of the weight gradient's packed panels, likewise; and the most channels of `big` and panels of an item, which
 * stay in the second level. */
#define WGRAD_DEPTH  128
#define MOST_LINES   192
#define MOST_PANELS  12
#define SCRATCH_MOST (64u << 20)

static lun_status possible(const lun_op *op, const lun_caps *caps)
{
    const lun_conv_attrs *a = &op->attrs.conv;
    const lun_shape filter = op->kind == LUN_OP_CONV2D_WGRAD ? op->dst[0].shape : op->src[1].shape;
    if (caps->gpu)
        return lun_fail(LUN_UNSUPPORTED, "the pointwise kernels are for CPUs");
    if (filter.h != 1 || filter.w != 1 || a->stride_h != 1 || a->stride_w != 1 || a->pad_h != 0 || a->pad_w != 0 ||
        a->more_h != 0 || a->more_w != 0)
        return lun_fail(LUN_UNSUPPORTED, "for 1x1 filters with stride 1 and no padding");
    return LUN_OK;
}

lun_status lun_pointwise_gather(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(possible(op, caps));
    const lun_shape src = op->src[0].shape, dst = op->dst[0].shape;
    const int width = 2 * caps->lanes, panels = (int)lun_ceil_div(dst.c, width);
    struct pointwise_args p = {.rows = (int)(dst.n * dst.h * dst.w),
                               .src_c = (int)src.c,
                               .src_pitch = lun_src_pitch(op, 0),
                               .dst_c = (int)dst.c,
                               .dst_pitch = lun_dst_pitch(op, 0),
                               .has_bias = op->nsrc == 3,
                               .relu = op->attrs.conv.relu,
                               .stream = lun_count(dst) * 4 > LUN_STREAMED_BYTES};
    const int64_t floats = ((int64_t)panels * width + 1) * src.c;
    if (floats > INT32_MAX)
        return lun_fail(LUN_UNSUPPORTED, "the packed filter is too large");
    const size_t packed = lun_book_kept(out, (size_t)floats * sizeof(float));
    const struct conv2d_pack_args pack = {.taps = 1,
                                          .src_c = p.src_c,
                                          .dst_c = p.dst_c,
                                          .width = width,
                                          .transposed = op->kind == LUN_OP_CONV2D_TRANSPOSE};
    lun_launch *launch = lun_emit_prepare(out, "cpu/conv2d.cl", "conv2d_pack", panels);
    lun_emit_src(launch, 1);
    lun_emit_kept(launch, packed);
    lun_emit_args(launch, pack);

    const int64_t blocks = lun_ceil_div(p.rows, POINTWISE_ROWS), pieces = lun_ceil_div(src.c, DEPTH_BLOCK);
    p.depth_block = (int)lun_ceil_div(src.c, pieces);
    p.panels_per_item = (int)lun_max_i64(1, lun_min_i64(panels, panels * blocks / ITEMS_WANTED));
    launch = lun_emit(out, "cpu/pointwise.cl", "pointwise_rows", blocks * lun_ceil_div(panels, p.panels_per_item));
    lun_emit_src(launch, 0);
    lun_emit_kept(launch, packed);
    lun_emit_src(launch, p.has_bias ? 2 : 1);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, p);
    lun_emit_result_statistics(op, caps, out);
    return LUN_OK;
}

/* What an item of so many lines and panels costs a row, in multiply-adds of a lane: its products, and packing. */
static double item_cost(const lun_caps *caps, int64_t lines, int64_t panels)
{
    return (double)(lines * panels * 2) + 4.0 * (double)(lines / caps->lanes + 2 * panels);
}

lun_status lun_pointwise_wgrad(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(possible(op, caps));
    const lun_shape big = op->src[0].shape, small = op->src[1].shape;
    struct pointwise_wgrad_args w = {.rows = (int)(small.n * small.h * small.w),
                                     .big_c = (int)big.c,
                                     .big_pitch = lun_src_pitch(op, 0),
                                     .small_c = (int)small.c,
                                     .small_pitch = lun_src_pitch(op, 1)};
    /* Whole lanes and tiles of any device: see LINES in lane.h. */
    const int64_t step = caps->lanes == 16 ? 16 : 24, all_panels = lun_ceil_div(small.c, 2 * caps->lanes);
    w.depth_block = (int)lun_min_i64(w.rows, WGRAD_DEPTH);

    /* The cut that is done soonest when all cores share it. Pieces do not change the sums. */
    double best = INFINITY;
    int64_t items = 0;
    for (int64_t lines = step; lines <= MOST_LINES; lines += step) {
        for (int64_t panels = 1; panels <= lun_min_i64(all_panels, MOST_PANELS); panels++) {
            const int64_t count = lun_ceil_div(big.c, lines) * lun_ceil_div(all_panels, panels);
            const int64_t bytes = count * (lines + 2 * caps->lanes) * w.depth_block * 4;
            const double cost = (double)lun_ceil_div(count, caps->units) * item_cost(caps, lines, panels);
            if (cost < best && (bytes <= (int64_t)SCRATCH_MOST || items == 0)) {
                best = cost;
                items = count;
                w.lines = (int)lines;
                w.panels = (int)panels;
            }
        }
    }
    const size_t scratch =
        lun_book(out, (size_t)items * (size_t)((w.lines + 2 * caps->lanes) * w.depth_block) * sizeof(float));
    lun_launch *launch = lun_emit(out, "cpu/pointwise.cl", "pointwise_wgrad", items);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_workspace(launch, scratch);
    lun_emit_args(launch, w);
    return LUN_OK;
}

/* Few channels leave a panel half empty, and few products a row do not pay for another launch. */
bool lun_pointwise_suits(const lun_op *op, const lun_caps *caps)
{
    const bool weight = op->kind == LUN_OP_CONV2D_WGRAD;
    const lun_shape a = op->src[0].shape, b = weight ? op->src[1].shape : op->dst[0].shape;
    return possible(op, caps) == LUN_OK && a.c >= 32 && b.c >= 2 * caps->lanes;
}
