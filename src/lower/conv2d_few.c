/* conv2d, conv2d_transpose and conv2d_wgrad: the candidate for few pixels and a large filter (cl/cpu/conv2d_few.cl).
 *
 * Where it can pay. The other candidates write the filter again, packed or transformed, before they multiply: of each
 * of its numbers that is 12 bytes or more, read, fetched for writing and written, and then it is read a second time. A
 * CPU does 60 (two cores) to 150 (many) multiplications in the time of 16 bytes from memory, and with R pixels each
 * number has R. Above CONV2D_FEW_ROWS the minimal algorithms, which do a fraction of these, lead at any size of the
 * filter; below, the tuner finds out. */
#include "conv2d.h"

#include "base/base.h"
#include "lowerings.h"

#define FILE_NAME "cpu/conv2d_few.cl"
/* As many items fill the cores of a CPU evenly. */
#define ITEMS_WANTED 32
/* Without a measurement: */
#define MINIMAL_ROWS 32         /* pixels; with more the minimal algorithms lead */
#define SUITS_BYTES  (1L << 20) /* of the filter: smaller ones stay in the caches, where a second reading is cheap */

/* The pixels of `small`: the convolution's result, or what its data gradient begins with. */
static lun_shape small_of(const lun_op *op)
{
    return op->kind == LUN_OP_CONV2D ? op->dst[0].shape : op->src[op->kind == LUN_OP_CONV2D_WGRAD].shape;
}

static lun_shape filter_of(const lun_op *op)
{
    return op->kind == LUN_OP_CONV2D_WGRAD ? op->dst[0].shape : op->src[1].shape;
}

static lun_status possible(const lun_op *op, const lun_caps *caps)
{
    const lun_shape small = small_of(op), filter = filter_of(op);
    if (caps->gpu)
        return lun_fail(LUN_UNSUPPORTED, "the kernels for few pixels are for CPUs");
    if (small.n * small.h * small.w > CONV2D_FEW_ROWS)
        return lun_fail(LUN_UNSUPPORTED, "more than %d pixels", CONV2D_FEW_ROWS);
    if (filter.h * filter.w > CONV2D_FEW_TERMS)
        return lun_fail(LUN_UNSUPPORTED, "more than %d taps", CONV2D_FEW_TERMS);
    if (op->kind != LUN_OP_CONV2D_TRANSPOSE && filter.n < 2 * caps->lanes)
        return lun_fail(LUN_UNSUPPORTED, "fewer than %d channels", 2 * caps->lanes);
    return LUN_OK;
}

static struct conv2d_few_args args_of(const lun_op *op)
{
    const bool forward = op->kind == LUN_OP_CONV2D, data = op->kind == LUN_OP_CONV2D_TRANSPOSE;
    const lun_conv_attrs *a = &op->attrs.conv;
    const lun_shape big = data ? op->dst[0].shape : op->src[0].shape, small = small_of(op), filter = filter_of(op);
    return (struct conv2d_few_args){.rows = (int)(small.n * small.h * small.w),
                                    .big_h = (int)big.h,
                                    .big_w = (int)big.w,
                                    .big_c = (int)big.c,
                                    .big_pitch = data ? lun_dst_pitch(op, 0) : lun_src_pitch(op, 0),
                                    .small_h = (int)small.h,
                                    .small_w = (int)small.w,
                                    .small_c = (int)small.c,
                                    .small_pitch = forward ? lun_dst_pitch(op, 0) : lun_src_pitch(op, data ? 0 : 1),
                                    .stride_h = a->stride_h,
                                    .stride_w = a->stride_w,
                                    .pad_h = a->pad_h,
                                    .pad_w = a->pad_w,
                                    .kernel_h = (int)filter.h,
                                    .kernel_w = (int)filter.w,
                                    .parts = 1,
                                    .gathered = forward,
                                    .has_bias = op->nsrc == 3,
                                    .relu = a->relu};
}

/* Share `columns` out in `slices`, in whole steps. */
static void share_out(struct conv2d_few_args *f, int64_t columns, int64_t slices, int64_t step)
{
    slices = lun_max_i64(1, lun_min_i64(slices, columns / step));
    f->per_slice = (int)lun_round_up(lun_ceil_div(columns, slices), step);
    f->slices = (int)lun_ceil_div(columns, f->per_slice);
}

/* The products' sums, with what comes at the end. */
static void emit_sum(const lun_op *op, const lun_caps *caps, lun_lowering *out, struct conv2d_few_args *f,
                     size_t products)
{
    const lun_shape dst = op->dst[0].shape;
    const int64_t panels = lun_ceil_div(dst.c, 2LL * caps->lanes);
    const int64_t blocks = lun_ceil_div(dst.n * dst.h * dst.w, CONV2D_FEW_BLOCK);
    const bool stats = op->attrs.conv.stats;
    f->moments = stats ? (int)panels * 2 * caps->lanes : 0;
    const size_t moments = stats ? lun_book_moments(out, blocks, f->moments) : 0;
    lun_launch *launch = lun_emit(out, FILE_NAME, "conv2d_few_sum", blocks * lun_ceil_div(panels, CONV2D_FEW_PANELS));
    lun_emit_workspace(launch, products);
    lun_emit_src(launch, f->has_bias ? 2 : 1);
    lun_emit_dst(launch, 0);
    lun_emit_moments(launch, stats, moments);
    lun_emit_args(launch, *f);
    if (stats)
        lun_emit_merge(out, caps, moments, blocks, dst, f->moments);
}

static size_t book_products(lun_lowering *out, const struct conv2d_few_args *f)
{
    return lun_book(out, (size_t)f->kernel_h * (size_t)f->kernel_w * (size_t)f->parts * (size_t)f->rows *
                             (size_t)f->stride * sizeof(float));
}

lun_status lun_few_forward(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(possible(op, caps));
    struct conv2d_few_args f = args_of(op);
    const int64_t taps = (int64_t)f.kernel_h * f.kernel_w, width = 2LL * caps->lanes;
    const int64_t panels = lun_ceil_div(f.small_c, width);
    f.stride = (int)(panels * width);
    f.overlap = f.stride - f.small_c;
    const int64_t parts = lun_min_i64(lun_ceil_div(ITEMS_WANTED, taps), CONV2D_FEW_TERMS / taps);
    f.depth = (int)lun_round_up(lun_ceil_div(f.big_c, parts), CONV2D_FEW_DEPTH);
    f.parts = (int)lun_ceil_div(f.big_c, f.depth);
    const size_t products = book_products(out, &f);
    lun_launch *launch = lun_emit(out, FILE_NAME, "conv2d_few_forward", taps * f.parts);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_workspace(launch, products);
    lun_emit_args(launch, f);
    emit_sum(op, caps, out, &f, products);
    return LUN_OK;
}

lun_status lun_few_data(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(possible(op, caps));
    struct conv2d_few_args f = args_of(op);
    const int64_t taps = (int64_t)f.kernel_h * f.kernel_w;
    share_out(&f, f.big_c, lun_ceil_div(ITEMS_WANTED, taps), 16);
    f.stride = f.big_c;
    const size_t products = book_products(out, &f);
    lun_launch *launch = lun_emit(out, FILE_NAME, "conv2d_few_data", taps * f.slices);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_workspace(launch, products);
    lun_emit_args(launch, f);
    emit_sum(op, caps, out, &f, products);
    return LUN_OK;
}

lun_status lun_few_weight(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(possible(op, caps));
    struct conv2d_few_args f = args_of(op);
    const int64_t taps = (int64_t)f.kernel_h * f.kernel_w;
    share_out(&f, f.big_c, lun_ceil_div(ITEMS_WANTED, taps), 24);
    lun_launch *launch = lun_emit(out, FILE_NAME, "conv2d_few_weight", taps * f.slices);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, f);
    return LUN_OK;
}

bool lun_few_suits(const lun_op *op, const lun_caps *caps)
{
    (void)caps;
    const lun_shape small = small_of(op), filter = filter_of(op);
    const lun_conv_attrs *a = &op->attrs.conv;
    const bool minimal = filter.h == filter.w && a->stride_h == a->stride_w &&
                         ((filter.h == 3 && a->stride_h == 1) || (filter.h == 4 && a->stride_h == 2));
    return small.n * small.h * small.w <= (minimal ? MINIMAL_ROWS : CONV2D_FEW_ROWS) &&
           lun_count(filter) * 4 >= SUITS_BYTES;
}
