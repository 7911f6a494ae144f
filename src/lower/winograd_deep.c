/* conv2d and conv2d_transpose: the filter-stationary Winograd candidates (cl/winograd_deep.h). */
#include "winograd_deep.h"

#include "base/base.h"
#include "lowerings.h"
#include "winograd_lower.h"

/* Beyond so many tiles the filter is better transformed once, ahead of all of them. */
#define MOST_TILES 4096
/* Scratch of all slots together may take this much. */
#define SCRATCH_BYTES (256u << 20)
/* Fewer pieces of work than this do not fill the cores of any CPU evenly. */
#define TASKS_WANTED 32

typedef struct transform {
    const char *file;
    int out, taps, points;
    int block; /* tiles whose sums stay in the second-level cache beside a chunk of the filter */
} transform;

static const transform stride1_4x4 = {"cpu/winograd_deep_4x4_3x3.cl", 4, 3, 36, 96};
static const transform stride1_2x2 = {"cpu/winograd_deep_2x2_3x3.cl", 2, 3, 16, 192};
static const transform stride2_4x4 = {"cpu/winograd_deep_4x4_2x2.cl", 4, 2, 25, 144};

static lun_status possible(const lun_op *op, const lun_caps *caps)
{
    const lun_conv_attrs *a = &op->attrs.conv;
    const lun_shape filter = op->src[1].shape;
    if (caps->gpu)
        return lun_fail(LUN_UNSUPPORTED, "the Winograd kernels are for CPUs");
    const bool stride1 = filter.h == 3 && filter.w == 3 && a->stride_h == 1 && a->stride_w == 1;
    const bool stride2 = filter.h == 4 && filter.w == 4 && a->stride_h == 2 && a->stride_w == 2;
    if (!stride1 && !stride2)
        return lun_fail(LUN_UNSUPPORTED, "Winograd is for 3x3 filters with stride 1 and 4x4 ones with stride 2");
    return LUN_OK;
}

/* One dimension of the geometry: where the tiles of both phases lie. Returns the most outputs that a phase has. */
static int64_t phase_outputs(bool transposed, bool stride2, int pad, int64_t size, int src_first[2], int dst_first[2])
{
    if (!stride2) {
        /* The data gradient is a convolution with the filter turned round, padded by what the filter had left over. */
        src_first[0] = src_first[1] = transposed ? pad - 2 : -pad;
        dst_first[0] = dst_first[1] = 0;
        return size;
    }
    for (int q = 0; q < 2; q++) {
        dst_first[q] = 0;
        src_first[q] = q - pad;
        if (transposed) {
            /* Destination d with d + pad = 2 e + q is src[e - 1] w[q + 2] + src[e] w[q]. */
            const int e = (pad - q + 1) / 2;
            dst_first[q] = 2 * e + q - pad;
            src_first[q] = e - 1;
        }
    }
    return transposed ? lun_ceil_div(size, 2) : size;
}

static lun_status lower(const lun_op *op, const lun_caps *caps, const transform *f, lun_lowering *out)
{
    const bool transposed = op->kind == LUN_OP_CONV2D_TRANSPOSE, stride2 = f->taps == 2;
    const lun_conv_attrs *a = &op->attrs.conv;
    const lun_shape src = op->src[0].shape, dst = op->dst[0].shape;
    struct winograd_deep_args w = {.src_h = (int)src.h,
                                   .src_w = (int)src.w,
                                   .src_c = (int)src.c,
                                   .src_pitch = lun_src_pitch(op, 0),
                                   .dst_h = (int)dst.h,
                                   .dst_w = (int)dst.w,
                                   .dst_c = (int)dst.c,
                                   .dst_pitch = lun_dst_pitch(op, 0),
                                   .chunks = (int)lun_ceil_div(src.c, WINOGRAD_DEEP_CHUNK),
                                   .phases = stride2 ? 2 : 1,
                                   .gathered = !transposed,
                                   .src_step = stride2 && !transposed ? 2 : 1,
                                   .dst_step = stride2 && transposed ? 2 : 1,
                                   .kernel_w = (int)op->src[1].shape.w,
                                   .transposed = transposed,
                                   .has_bias = op->nsrc == 3,
                                   .relu = a->relu};
    int src_first[2], dst_first[2];
    w.tiles_h = (int)lun_ceil_div(phase_outputs(transposed, stride2, a->pad_h, dst.h, src_first, dst_first), f->out);
    w.src_first_h0 = src_first[0];
    w.src_first_h1 = src_first[1];
    w.dst_first_h0 = dst_first[0];
    w.dst_first_h1 = dst_first[1];
    w.tiles_w = (int)lun_ceil_div(phase_outputs(transposed, stride2, a->pad_w, dst.w, src_first, dst_first), f->out);
    w.src_first_w0 = src_first[0];
    w.src_first_w1 = src_first[1];
    w.dst_first_w0 = dst_first[0];
    w.dst_first_w1 = dst_first[1];
    w.tap_step = (stride2 ? 2 : 1) * (transposed ? -1 : 1);
    w.tap_first0 = transposed ? 2 : 0;
    w.tap_first1 = w.tap_first0 + 1;

    const int64_t tiles = dst.n * w.tiles_h * w.tiles_w;
    if (tiles > MOST_TILES)
        return lun_fail(LUN_UNSUPPORTED, "more than %d tiles: the filter is better transformed ahead of them all",
                        MOST_TILES);
    w.tiles = (int)tiles;
    const int width = 2 * caps->lanes, rows = caps->lanes == 16 ? 8 : 24; /* a multiple of every MR */
    const int all_phases = w.phases * w.phases, parts = transposed ? all_phases : 1;
    const int64_t panels = lun_ceil_div(dst.c, width);
    int64_t blocks = lun_ceil_div(tiles, f->block);
    if (panels * parts * blocks < TASKS_WANTED)
        blocks = lun_min_i64(lun_ceil_div(TASKS_WANTED, panels * parts), lun_ceil_div(tiles, 2 * rows));
    w.block = (int)lun_round_up(lun_ceil_div(tiles, blocks), rows);
    w.blocks = (int)lun_ceil_div(tiles, w.block);
    w.tasks = (int)(panels * parts * w.blocks);
    w.slot_floats =
        f->points * ((WINOGRAD_DEEP_CHUNK + w.block) * width + 32) + f->taps * f->taps * WINOGRAD_DEEP_CHUNK * width;
    const int64_t fit = (int64_t)SCRATCH_BYTES / 4 / w.slot_floats;
    w.slots = (int)lun_max_i64(1, lun_min_i64(lun_min_i64(w.tasks, 4LL * caps->units), fit));

    const int64_t pieces = (int64_t)all_phases * w.blocks * w.chunks;
    const int64_t v = pieces * f->points * (w.block * WINOGRAD_DEEP_CHUNK + 16);
    w.stream = v * 4 > LUN_STREAMED_BYTES;
    const size_t transformed = lun_book(out, (size_t)v * 4);
    const size_t scratch = lun_book(out, (size_t)w.slots * (size_t)w.slot_floats * 4);
    w.moments = a->stats ? (int)panels * width : 0;
    w.moments_tiles = rows;
    const int64_t partials = parts * lun_ceil_div(tiles, rows);
    const size_t moments = a->stats ? lun_book_moments(out, partials, w.moments) : 0;
    lun_launch *launch =
        lun_emit(out, f->file, "winograd_deep_tiles", pieces * lun_ceil_div(w.block, WINOGRAD_DEEP_TILES));
    lun_emit_src(launch, 0);
    lun_emit_workspace(launch, transformed);
    lun_emit_args(launch, w);
    launch = lun_emit(out, f->file, "winograd_deep", w.slots);
    lun_emit_workspace(launch, transformed);
    lun_emit_src(launch, 1);
    lun_emit_src(launch, w.has_bias ? 2 : 1);
    lun_emit_dst(launch, 0);
    lun_emit_workspace(launch, scratch);
    lun_emit_moments(launch, a->stats, moments);
    lun_emit_args(launch, w);
    if (a->stats)
        lun_emit_merge(out, caps, moments, partials, dst, w.moments);
    return LUN_OK;
}

lun_status lun_winograd_deep_4x4(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(possible(op, caps));
    return lower(op, caps, op->src[1].shape.h == 4 ? &stride2_4x4 : &stride1_4x4, out);
}

lun_status lun_winograd_deep_2x2(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(possible(op, caps));
    if (op->src[1].shape.h != 3)
        return lun_fail(LUN_UNSUPPORTED, "Winograd F(2x2, 3x3) is for 3x3 filters with stride 1");
    return lower(op, caps, &stride1_2x2, out);
}
