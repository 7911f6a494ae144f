/* conv2d and conv2d_transpose: the Winograd candidates (cl/winograd.h). */
#include "winograd.h"

#include "base/base.h"
#include "lowerings.h"
#include "winograd_lower.h"

/* Scratch of all slots together may take this much. */
#define SCRATCH_BYTES (256u << 20)
/* What a third-level cache may be trusted to hold; V and M that the second level does. */
#define CACHED_FLOATS (3 << 20)
#define BLOCK_FLOATS  (60 << 10)
/* Tiles at a time for larger filters. */
#define LARGE_BLOCK 64
/* V's channels and panels' rows that stay in the first or second-level cache while all tiles use them. */
#define DEPTH_BLOCK 512

/* One of winograd_transform.h, and its text. */
typedef struct transform {
    int out, taps;
    const char *file;
} transform;

static const transform transforms[] = {
    {4, 3, "cpu/winograd_4x4_3x3.cl"}, {2, 3, "cpu/winograd_2x2_3x3.cl"}, {4, 2, "cpu/winograd_4x4_2x2.cl"}};

static lun_status choose(const lun_op *op, const lun_caps *caps, int out, const transform **chosen)
{
    const lun_conv_attrs *a = &op->attrs.conv;
    const lun_shape filter = op->src[1].shape;
    if (caps->gpu || caps->lanes < 4)
        return lun_fail(LUN_UNSUPPORTED, "the Winograd kernels are for CPUs with vectors");
    for (size_t i = 0; i < sizeof transforms / sizeof *transforms; i++) {
        const transform *t = &transforms[i];
        const int stride = t->taps == 3 ? 1 : 2, size = stride * t->taps;
        if (t->out == out && filter.h == size && filter.w == size && a->stride_h == stride && a->stride_w == stride) {
            *chosen = t;
            return LUN_OK;
        }
    }
    return lun_fail(LUN_UNSUPPORTED, "Winograd with tiles of %dx%d is for 3x3 filters with stride 1%s", out, out,
                    out == 4 ? " and 4x4 filters with stride 2" : "");
}

/* How many items share the tasks: a few a core, so that a core that is taken away delays little, as far as scratch
 * allows. */
static int slots_for(const lun_caps *caps, int64_t tasks, int64_t slot_floats)
{
    const int64_t fit = (int64_t)SCRATCH_BYTES / (slot_floats * 4);
    return (int)lun_max_i64(1, lun_min_i64(lun_min_i64(tasks, 4LL * caps->units), fit));
}

static lun_status gather(const lun_op *op, const lun_caps *caps, int out_size, lun_lowering *out)
{
    const transform *t = NULL;
    LUN_TRY(choose(op, caps, out_size, &t));
    const bool transposed = op->kind == LUN_OP_CONV2D_TRANSPOSE;
    const lun_shape src = op->src[0].shape, dst = op->dst[0].shape;
    const lun_conv_attrs *a = &op->attrs.conv;
    const int width = 2 * caps->lanes, panels = (int)lun_ceil_div(dst.c, width);
    const int points = (t->out + t->taps - 1) * (t->out + t->taps - 1);
    const int stride = a->stride_h, phases = stride * stride, dst_step = transposed ? stride : 1;
    struct winograd_args w = {.src_h = (int)src.h,
                              .src_w = (int)src.w,
                              .src_c = (int)src.c,
                              .src_pitch = lun_src_pitch(op, 0),
                              .dst_h = (int)dst.h,
                              .dst_w = (int)dst.w,
                              .dst_c = (int)dst.c,
                              .dst_pitch = lun_dst_pitch(op, 0),
                              .stride = stride,
                              .pad_h = a->pad_h,
                              .pad_w = a->pad_w,
                              .transposed = transposed,
                              .has_bias = op->nsrc == 3,
                              .relu = a->relu};
    w.tiles_h = (int)lun_ceil_div(lun_ceil_div(dst.h, dst_step), t->out);
    w.tiles_w = (int)lun_ceil_div(lun_ceil_div(dst.w, dst_step), t->out);
    w.tiles = (int)dst.n * w.tiles_h * w.tiles_w;
    const bool sharing = phases > 1 && !transposed;
    w.phase_depth = (int)(sharing ? lun_round_up(src.c, caps->lanes) : src.c);
    const int64_t depth = (int64_t)w.phase_depth * (sharing ? phases : 1);
    const int64_t u_point = WINOGRAD_SPACED(depth * width);
    const int64_t pieces = lun_ceil_div(depth, DEPTH_BLOCK);
    w.depth_block = (int)lun_round_up(lun_ceil_div(depth, pieces), caps->lanes);

    /* A few tiles at a time, whose V and M stay in the second-level cache, if the filter can be read from the third
     * level for each; otherwise as many as are worth one reading of the filter, V and M being less. */
    const int rows = caps->lanes == 16 ? 8 : caps->lanes == 8 ? 12 : 24;
    const bool large = panels * points * u_point > CACHED_FLOATS;
    w.block = (int)lun_min_i64(large ? LARGE_BLOCK / rows * rows : rows, lun_round_up(w.tiles, rows));
    const int64_t blocks = lun_ceil_div(w.tiles, w.block) * (transposed ? phases : 1);
    w.panels_per_task = (int)lun_max_i64(1, lun_min_i64(panels, panels * blocks / (2 * caps->units)));
    /* Several panels at a time write longer pieces of the destination's pixels. */
    const int64_t room = (BLOCK_FLOATS / points / w.block - depth) / width;
    w.panels_per_pass = (int)(large ? w.panels_per_task : lun_max_i64(1, lun_min_i64(w.panels_per_task, room)));
    w.stream = lun_count(dst) * 4 > LUN_STREAMED_BYTES;
    w.tasks = (int)(blocks * lun_ceil_div(panels, w.panels_per_task));
    const int64_t v_point = WINOGRAD_SPACED(pieces * w.block * w.depth_block),
                  m_point = WINOGRAD_SPACED((int64_t)w.panels_per_pass * w.block * width);
    const int64_t slot = points * (v_point + m_point);
    const int64_t filter = (transposed ? phases : 1) * panels * points * u_point;
    if (slot > INT32_MAX / 4 || filter > INT32_MAX)
        return lun_fail(LUN_UNSUPPORTED, "too many channels for Winograd's scratch");
    w.slot_floats = (int)slot;
    w.slots = slots_for(caps, w.tasks, slot);
    w.moments = a->stats ? panels * width : 0;
    w.moments_tiles = rows;
    const int64_t partials = lun_ceil_div(w.tiles, rows) * (transposed ? phases : 1);

    const size_t packed = lun_book_kept(out, (size_t)filter * 4), scratch = lun_book(out, (size_t)(w.slots * slot) * 4);
    const size_t moments = a->stats ? lun_book_moments(out, partials, w.moments) : 0;
    const struct winograd_filter_args f = {.src_c = w.src_c,
                                           .dst_c = w.dst_c,
                                           .stride = stride,
                                           .pad_h = w.pad_h,
                                           .pad_w = w.pad_w,
                                           .phase_depth = w.phase_depth,
                                           .width = width,
                                           .transposed = transposed,
                                           .stream = filter * 4 > LUN_STREAMED_BYTES};
    lun_launch *launch = lun_emit_prepare(out, t->file, "winograd_filter",
                                          phases * panels * lun_ceil_div(w.phase_depth, WINOGRAD_FILTER_CHANNELS));
    lun_emit_src(launch, 1);
    lun_emit_kept(launch, packed);
    lun_emit_args(launch, f);
    launch = lun_emit(out, t->file, "winograd_conv2d", w.slots);
    lun_emit_src(launch, 0);
    lun_emit_kept(launch, packed);
    lun_emit_src(launch, w.has_bias ? 2 : 1);
    lun_emit_dst(launch, 0);
    lun_emit_workspace(launch, scratch);
    lun_emit_moments(launch, a->stats, moments);
    lun_emit_args(launch, w);
    if (a->stats)
        lun_emit_merge(out, caps, moments, partials, dst, w.moments);
    return LUN_OK;
}

lun_status lun_winograd_gather(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    return gather(op, caps, 4, out);
}

lun_status lun_winograd_gather_2x2(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    return gather(op, caps, 2, out);
}

/* ---- Which form suits an op ---- */

#define LEAST_CHANNELS 32
#define MANY_TILES     128

static bool many_channels(int64_t a, int64_t b)
{
    return a >= LEAST_CHANNELS && b >= LEAST_CHANNELS;
}

bool lun_winograd_suits(const lun_op *op, const lun_caps *caps)
{
    const lun_shape src = op->src[0].shape, dst = op->dst[0].shape;
    const transform *t = NULL;
    if (!many_channels(src.c, dst.c) || choose(op, caps, 4, &t) != LUN_OK)
        return false;
    const int side = t->out + t->taps - 1;
    const int64_t small_h = lun_min_i64(src.h, dst.h), small_w = lun_min_i64(src.w, dst.w);
    const int64_t tiles = src.n * lun_ceil_div(small_h, t->out) * lun_ceil_div(small_w, t->out);
    const int64_t phases = (int64_t)op->attrs.conv.stride_h * op->attrs.conv.stride_w;
    return tiles >= MANY_TILES || side * side * phases * src.c * dst.c <= CACHED_FLOATS;
}

bool lun_winograd_deep_suits(const lun_op *op, const lun_caps *caps)
{
    const transform *t = NULL;
    return many_channels(op->src[0].shape.c, op->dst[0].shape.c) && choose(op, caps, 4, &t) == LUN_OK &&
           !lun_winograd_suits(op, caps);
}

bool lun_winograd_wgrad_suits(const lun_op *op, const lun_caps *caps)
{
    (void)caps;
    return many_channels(op->src[0].shape.c, op->src[1].shape.c);
}
