/* conv2d, conv2d_transpose and conv2d_wgrad: their candidates. The geometry is explained in cl/conv2d.h. */
#include "conv2d.h"
#include "base/base.h"
#include "lowerings.h"
#include "pointwise_lower.h"
#include "winograd_lower.h"

/* As many items fill the cores of any CPU evenly; cutting finer only costs reuse. */
#define ITEMS_WANTED 64

static bool has_bias(const lun_op *op)
{
    return op->nsrc == 3;
}

static struct conv2d_gather_args gather_common(const lun_op *op)
{
    const lun_shape src = op->src[0].shape, dst = op->dst[0].shape, filter = op->src[1].shape;
    return (struct conv2d_gather_args){.src_h = (int)src.h,
                                       .src_w = (int)src.w,
                                       .src_c = (int)src.c,
                                       .src_pitch = lun_src_pitch(op, 0),
                                       .dst_h = (int)dst.h,
                                       .dst_w = (int)dst.w,
                                       .dst_c = (int)dst.c,
                                       .dst_pitch = lun_dst_pitch(op, 0),
                                       .kernel_h = (int)filter.h,
                                       .kernel_w = (int)filter.w,
                                       .has_bias = has_bias(op),
                                       .relu = op->attrs.conv.relu};
}

/* The gathers that compute the op: one for conv2d, one a phase for conv2d_transpose. Returns their number, or 0 if
 * there are more than `max`. */
static int gathers(const lun_op *op, struct conv2d_gather_args *out, int max)
{
    const lun_conv_attrs *a = &op->attrs.conv;
    const lun_shape dst = op->dst[0].shape;
    struct conv2d_gather_args g = gather_common(op);
    if (op->kind == LUN_OP_CONV2D) {
        g.grid_h = g.dst_h;
        g.grid_w = g.dst_w;
        g.rows = (int)(dst.n * dst.h * dst.w);
        g.dst_step_h = g.dst_step_w = 1;
        g.src_step_h = a->stride_h;
        g.src_step_w = a->stride_w;
        g.taps_h = g.kernel_h;
        g.taps_w = g.kernel_w;
        g.off_h = -a->pad_h;
        g.off_w = -a->pad_w;
        g.off_step_h = g.off_step_w = g.step_r = g.step_s = 1;
        out[0] = g;
        return 1;
    }
    if (a->stride_h * a->stride_w > max)
        return 0;
    int count = 0;
    g.transposed = 1;
    g.dst_step_h = g.step_r = a->stride_h;
    g.dst_step_w = g.step_s = a->stride_w;
    g.src_step_h = g.src_step_w = 1;
    g.off_step_h = g.off_step_w = -1;
    for (int ph = 0; ph < a->stride_h && ph < g.dst_h; ph++) {
        for (int pw = 0; pw < a->stride_w && pw < g.dst_w; pw++) {
            g.dst_first_h = ph;
            g.dst_first_w = pw;
            g.grid_h = (g.dst_h - ph + a->stride_h - 1) / a->stride_h;
            g.grid_w = (g.dst_w - pw + a->stride_w - 1) / a->stride_w;
            g.rows = (int)dst.n * g.grid_h * g.grid_w;
            g.first_r = (ph + a->pad_h) % a->stride_h;
            g.first_s = (pw + a->pad_w) % a->stride_w;
            g.off_h = (ph + a->pad_h - g.first_r) / a->stride_h;
            g.off_w = (pw + a->pad_w - g.first_s) / a->stride_w;
            g.taps_h = g.first_r < g.kernel_h ? (g.kernel_h - g.first_r + a->stride_h - 1) / a->stride_h : 0;
            g.taps_w = g.first_s < g.kernel_w ? (g.kernel_w - g.first_s + a->stride_w - 1) / a->stride_w : 0;
            if (g.taps_h == 0 || g.taps_w == 0)
                g.taps_h = g.taps_w = 0;
            out[count++] = g;
        }
    }
    return count;
}

/* With room for what comes before and after the phases: one launch, and at most seven for statistics. */
#define MAX_PHASES (LUN_MAX_LAUNCHES - 8)

static struct conv2d_wgrad_args wgrad_args(const lun_op *op)
{
    const lun_conv_attrs *a = &op->attrs.conv;
    const lun_shape big = op->src[0].shape, small = op->src[1].shape;
    return (struct conv2d_wgrad_args){.rows = (int)(small.n * small.h * small.w),
                                      .big_h = (int)big.h,
                                      .big_w = (int)big.w,
                                      .big_c = (int)big.c,
                                      .big_pitch = lun_src_pitch(op, 0),
                                      .small_h = (int)small.h,
                                      .small_w = (int)small.w,
                                      .small_c = (int)small.c,
                                      .small_pitch = lun_src_pitch(op, 1),
                                      .stride_h = a->stride_h,
                                      .stride_w = a->stride_w,
                                      .pad_h = a->pad_h,
                                      .pad_w = a->pad_w,
                                      .kernel_h = a->kernel_h,
                                      .kernel_w = a->kernel_w};
}

/* The part of all multiplications that phase `i` makes: some have more taps than others. */
static double phase_work(const struct conv2d_gather_args *phase, int phases, int i)
{
    double all = 0;
    for (int k = 0; k < phases; k++)
        all += (double)phase[k].rows * phase[k].taps_h * phase[k].taps_w;
    return all > 0 ? (double)phase[i].rows * phase[i].taps_h * phase[i].taps_w / all : 0;
}

/* The bias operand, or something harmless where there is none: a kernel's argument must be some buffer. */
static void emit_bias(lun_launch *launch, const lun_op *op)
{
    lun_emit_src(launch, has_bias(op) ? 2 : 1);
}

/* ---- panel: CPUs, cl/cpu/conv2d.cl
 * ------------------------------------------------------------------------------------- */

static lun_status panel_gather(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    if (caps->gpu)
        return lun_fail(LUN_UNSUPPORTED, "the panel kernels are for CPUs");
    struct conv2d_gather_args phase[MAX_PHASES];
    const int phases = gathers(op, phase, MAX_PHASES);
    if (phases == 0)
        return lun_fail(LUN_UNSUPPORTED, "more than %d phases", MAX_PHASES);
    const int width = 2 * caps->lanes;
    const int taps = phase[0].kernel_h * phase[0].kernel_w;
    const int panels = (phase[0].dst_c + width - 1) / width;
    const size_t floats =
        (size_t)panels * (size_t)taps * (size_t)phase[0].src_c * (size_t)width + (size_t)phase[0].src_c;
    if (floats > INT32_MAX)
        return lun_fail(LUN_UNSUPPORTED, "the packed filter is too large");
    const size_t packed = lun_book_kept(out, floats * sizeof(float));

    const struct conv2d_pack_args pack = {.taps = taps,
                                          .src_c = phase[0].src_c,
                                          .dst_c = phase[0].dst_c,
                                          .width = width,
                                          .transposed = phase[0].transposed};
    lun_launch *launch = lun_emit_prepare(out, "cpu/conv2d.cl", "conv2d_pack", (int64_t)panels * taps);
    lun_emit_src(launch, 1);
    lun_emit_kept(launch, packed);
    lun_emit_args(launch, pack);

    int64_t blocks_before = 0, all_blocks = 0;
    for (int i = 0; i < phases; i++)
        all_blocks += lun_ceil_div(phase[i].rows, CONV2D_ROW_BLOCK);
    const bool stats = op->attrs.conv.stats;
    const size_t moments = stats ? lun_book_moments(out, all_blocks, (int64_t)panels * width) : 0;
    for (int i = 0; i < phases; i++) {
        struct conv2d_gather_args *g = &phase[i];
        const int64_t blocks = lun_ceil_div(g->rows, CONV2D_ROW_BLOCK);
        g->moments = stats ? panels * width : 0;
        g->first_moments = (int)blocks_before;
        blocks_before += blocks;
        /* All panels by one item reuse the source rows best; few rows are shared out by panels instead. */
        g->panels_per_item = (int)lun_max_i64(1, lun_min_i64(panels, panels * blocks / ITEMS_WANTED));
        launch = lun_emit(out, "cpu/conv2d.cl", "conv2d_panel", blocks * lun_ceil_div(panels, g->panels_per_item));
        lun_emit_src(launch, 0);
        lun_emit_kept(launch, packed);
        emit_bias(launch, op);
        lun_emit_dst(launch, 0);
        lun_emit_moments(launch, stats, moments);
        lun_emit_args(launch, *g);
    }
    if (stats)
        lun_emit_merge(out, caps, moments, all_blocks, op->dst[0].shape, (int64_t)panels * width);
    return LUN_OK;
}

static lun_status panel_wgrad(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    if (caps->gpu)
        return lun_fail(LUN_UNSUPPORTED, "the panel kernels are for CPUs");
    struct conv2d_wgrad_args w = wgrad_args(op);
    const int64_t panels = lun_ceil_div(w.small_c, 2 * caps->lanes);
    w.channels_per_item = 72;
    while (w.channels_per_item > 24 && lun_ceil_div(w.big_c, w.channels_per_item) * panels < ITEMS_WANTED / 4)
        w.channels_per_item -= 24;
    lun_launch *launch =
        lun_emit(out, "cpu/conv2d.cl", "conv2d_wgrad_panel", lun_ceil_div(w.big_c, w.channels_per_item) * panels);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, w);
    return LUN_OK;
}

/* ---- tile: devices with work-groups, cl/gpu/conv2d.cl
 * ------------------------------------------------------------------- */

#define TILE             64
#define TILE_GROUP       256
#define TILE_LOCAL_BYTES (2 * 16 * (TILE + 1) * 4)

static lun_status tile_possible(const lun_caps *caps)
{
    if (!caps->groups || caps->max_group < TILE_GROUP)
        return lun_fail(LUN_UNSUPPORTED, "no work-groups of %d", TILE_GROUP);
    if (caps->local_bytes < TILE_LOCAL_BYTES)
        return lun_fail(LUN_UNSUPPORTED, "less than %d bytes of local memory", TILE_LOCAL_BYTES);
    return LUN_OK;
}

/* What tiles multiply for each multiplication that is asked for: one that is not full costs as much as a full one. */
static double tile_work(int64_t lines, int64_t columns)
{
    return (double)(lun_round_up(lines, TILE) * lun_round_up(columns, TILE)) / (double)(lines * columns);
}

static lun_launch *emit_tiles(lun_lowering *out, const char *kernel, int64_t groups)
{
    lun_launch *launch = lun_emit(out, "gpu/conv2d.cl", kernel, groups * TILE_GROUP);
    launch->group = TILE_GROUP;
    return launch;
}

static lun_status tile_gather(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(tile_possible(caps));
    struct conv2d_gather_args phase[MAX_PHASES];
    const int phases = gathers(op, phase, MAX_PHASES);
    if (phases == 0)
        return lun_fail(LUN_UNSUPPORTED, "more than %d phases", MAX_PHASES);
    for (int i = 0; i < phases; i++) {
        lun_launch *launch =
            emit_tiles(out, "conv2d_tile", lun_ceil_div(phase[i].rows, TILE) * lun_ceil_div(phase[i].dst_c, TILE));
        launch->work = phase_work(phase, phases, i) * tile_work(phase[i].rows, phase[i].dst_c);
        lun_emit_src(launch, 0);
        lun_emit_src(launch, 1);
        emit_bias(launch, op);
        lun_emit_dst(launch, 0);
        lun_emit_args(launch, phase[i]);
    }
    lun_emit_result_statistics(op, caps, out);
    return LUN_OK;
}

/* Chunks of pixels: enough groups to fill a large GPU, at least 256 pixels each and not so many that one group alone
 * takes long (parts.c); partial results of at most 64 MiB or a sixteenth of the operands. Fixed by the shape, so that
 * the sum's order never depends on the device. */
static lun_status tile_wgrad(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(tile_possible(caps));
    struct conv2d_wgrad_args w = wgrad_args(op);
    const int64_t count = lun_count(op->dst[0].shape);
    const int64_t tiles =
        lun_ceil_div((int64_t)w.kernel_h * w.kernel_w * w.big_c, TILE) * lun_ceil_div(w.small_c, TILE);
    int64_t chunks = lun_min_i64(lun_ceil_div(512, tiles), lun_ceil_div(w.rows, 256));
    chunks = lun_max_i64(chunks, lun_ceil_div(w.rows, 16384));
    const int64_t operands = (int64_t)(lun_bytes(op->src[0]) + lun_bytes(op->src[1]));
    chunks = lun_max_i64(1, lun_min_i64(chunks, lun_max_i64(64 << 20, operands / 16) / (count * 4)));
    w.rows_per_chunk = (int)lun_ceil_div(w.rows, chunks);
    w.chunks = (int)lun_ceil_div(w.rows, w.rows_per_chunk);
    const size_t part = w.chunks > 1 ? lun_book(out, (size_t)(w.chunks * count) * 4) : 0;

    lun_launch *launch = emit_tiles(out, "conv2d_wgrad_tile", tiles * w.chunks);
    launch->work = tile_work((int64_t)w.kernel_h * w.kernel_w * w.big_c, w.small_c);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    if (w.chunks > 1)
        lun_emit_workspace(launch, part);
    else
        lun_emit_dst(launch, 0);
    lun_emit_args(launch, w);
    if (w.chunks > 1) {
        struct conv2d_sum_args sum = {.count = (int)count, .chunks = w.chunks};
        sum.per_item = (int)lun_grain(caps, count);
        launch = lun_emit(out, "gpu/conv2d.cl", "conv2d_sum", lun_ceil_div(count, sum.per_item));
        launch->work = (double)w.chunks / w.rows;
        lun_emit_workspace(launch, part);
        lun_emit_dst(launch, 0);
        lun_emit_args(launch, sum);
    }
    return LUN_OK;
}

/* ---- direct: anything, anywhere, cl/conv2d_direct.cl
 * --------------------------------------------------------------------- */

/* conv2d_transpose in one launch, however many phases its stride has. */
static void direct_all_phases(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape src = op->src[0].shape, filter = op->src[1].shape, dst = op->dst[0].shape;
    const lun_conv_attrs *a = &op->attrs.conv;
    struct conv2d_phases_args args = {.src_h = (int)src.h,
                                      .src_w = (int)src.w,
                                      .src_c = (int)src.c,
                                      .src_pitch = lun_src_pitch(op, 0),
                                      .dst_h = (int)dst.h,
                                      .dst_w = (int)dst.w,
                                      .dst_c = (int)dst.c,
                                      .dst_pitch = lun_dst_pitch(op, 0),
                                      .kernel_h = (int)filter.h,
                                      .kernel_w = (int)filter.w,
                                      .stride_h = a->stride_h,
                                      .stride_w = a->stride_w,
                                      .pad_h = a->pad_h,
                                      .pad_w = a->pad_w,
                                      .has_bias = has_bias(op),
                                      .relu = a->relu};
    args.channels_per_item = caps->gpu ? 1 : args.dst_c;
    lun_launch *launch = lun_emit(out, "conv2d_direct.cl", "conv2d_phases_direct",
                                  dst.n * dst.h * dst.w * lun_ceil_div(dst.c, args.channels_per_item));
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    emit_bias(launch, op);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
}

static lun_status direct_gather(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    struct conv2d_gather_args phase[MAX_PHASES];
    const int phases = gathers(op, phase, MAX_PHASES);
    if (phases == 0)
        direct_all_phases(op, caps, out);
    for (int i = 0; i < phases; i++) {
        struct conv2d_gather_args *g = &phase[i];
        g->panels_per_item = caps->gpu ? 1 : g->dst_c;
        lun_launch *launch =
            lun_emit(out, "conv2d_direct.cl", "conv2d_direct", g->rows * lun_ceil_div(g->dst_c, g->panels_per_item));
        launch->work = phase_work(phase, phases, i);
        lun_emit_src(launch, 0);
        lun_emit_src(launch, 1);
        emit_bias(launch, op);
        lun_emit_dst(launch, 0);
        lun_emit_args(launch, *g);
    }
    lun_emit_result_statistics(op, caps, out);
    return LUN_OK;
}

static lun_status direct_wgrad(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    struct conv2d_wgrad_args w = wgrad_args(op);
    w.channels_per_item = caps->gpu ? 1 : w.small_c;
    lun_launch *launch =
        lun_emit(out, "conv2d_direct.cl", "conv2d_wgrad_direct",
                 (int64_t)w.kernel_h * w.kernel_w * w.big_c * lun_ceil_div(w.small_c, w.channels_per_item));
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, w);
    return LUN_OK;
}

/* ---- im2col_gemm: an external matrix product (CLBlast) between im2col and col2im
 * ---------------------------------------- */

/* Scratch for the columns, and how many samples fit it. */
#define COLUMN_BYTES (64u << 20)
#define MAX_PIECES   16

static lun_status column_pieces(lun_shape small, int64_t depth, const lun_caps *caps, int64_t *samples)
{
    const int64_t sample_bytes = small.h * small.w * depth * 4;
    const int64_t limit = lun_min_i64(COLUMN_BYTES * 4LL, (int64_t)(caps->max_alloc ? caps->max_alloc : SIZE_MAX / 2));
    int64_t fit = lun_max_i64(1, (int64_t)COLUMN_BYTES / sample_bytes);
    fit = lun_max_i64(fit, lun_ceil_div(small.n, MAX_PIECES));
    fit = lun_min_i64(fit, small.n);
    if (fit * sample_bytes > limit)
        return lun_fail(LUN_UNSUPPORTED, "the columns of im2col would take %lld MiB",
                        (long long)(fit * sample_bytes >> 20));
    *samples = fit;
    return LUN_OK;
}

static struct im2col_args column_args(lun_shape image, int pitch, lun_shape grid, lun_shape filter,
                                      const lun_conv_attrs *a)
{
    return (struct im2col_args){.src_h = (int)image.h,
                                .src_w = (int)image.w,
                                .src_c = (int)image.c,
                                .src_pitch = pitch,
                                .out_h = (int)grid.h,
                                .out_w = (int)grid.w,
                                .kernel_h = (int)filter.h,
                                .kernel_w = (int)filter.w,
                                .stride_h = a->stride_h,
                                .stride_w = a->stride_w,
                                .pad_h = a->pad_h,
                                .pad_w = a->pad_w};
}

static void set_count(const lun_caps *caps, struct im2col_args *c, int64_t count)
{
    c->count = (int)count;
    c->per_item = (int)lun_grain(caps, count);
}

static lun_launch *emit_columns(const lun_caps *caps, lun_lowering *out, const char *kernel, struct im2col_args *c,
                                int64_t count)
{
    set_count(caps, c, count);
    return lun_emit(out, "im2col.cl", kernel, lun_ceil_div(count, c->per_item));
}

static lun_launch *emit_gemm(lun_lowering *out, lun_gemm_args gemm)
{
    lun_launch *launch = lun_emit(out, NULL, "gemm", 1);
    launch->gemm = gemm;
    return launch;
}

static lun_status gemm_available(const lun_caps *caps)
{
    return caps->gemm ? LUN_OK : lun_fail(LUN_UNSUPPORTED, "no external matrix product");
}

static lun_status gemm_conv2d(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(gemm_available(caps));
    const lun_shape src = op->src[0].shape, filter = op->src[1].shape, dst = op->dst[0].shape;
    const int64_t depth = filter.c * filter.h * filter.w;
    int64_t samples = 0;
    LUN_TRY(column_pieces(dst, depth, caps, &samples));
    const int64_t sample_rows = dst.h * dst.w;
    const size_t col = lun_book(out, (size_t)(samples * sample_rows * depth) * 4);
    const int64_t pitch = lun_dst_pitch(op, 0);
    struct im2col_args c = column_args(src, lun_src_pitch(op, 0), dst, filter, &op->attrs.conv);
    for (int64_t n = 0; n < dst.n; n += samples) {
        const int64_t rows = lun_min_i64(samples, dst.n - n) * sample_rows;
        c.first_row = (int)(n * sample_rows);
        c.rows = (int)rows;
        lun_launch *launch = emit_columns(caps, out, "im2col", &c, rows * depth);
        lun_emit_src(launch, 0);
        lun_emit_workspace(launch, col);
        lun_emit_args(launch, c);
        launch = emit_gemm(
            out, (lun_gemm_args){.m = rows, .n = filter.n, .k = depth, .lda = depth, .ldb = filter.n, .ldc = pitch});
        lun_emit_workspace(launch, col);
        lun_emit_src(launch, 1);
        lun_emit_dst(launch, 0);
        launch->buffer[2].offset = (size_t)(n * sample_rows * pitch) * 4;
    }
    if (has_bias(op) || op->attrs.conv.relu) {
        c.src_c = (int)dst.c;
        c.src_pitch = (int)pitch;
        c.has_bias = has_bias(op);
        c.relu = op->attrs.conv.relu;
        lun_launch *launch = emit_columns(caps, out, "add_bias", &c, lun_count(dst));
        emit_bias(launch, op);
        lun_emit_dst(launch, 0);
        lun_emit_args(launch, c);
    }
    lun_emit_result_statistics(op, caps, out);
    return LUN_OK;
}

static lun_status gemm_conv2d_transpose(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(gemm_available(caps));
    const lun_shape src = op->src[0].shape, filter = op->src[1].shape, dst = op->dst[0].shape;
    const int64_t depth = filter.c * filter.h * filter.w;
    int64_t samples = 0;
    LUN_TRY(column_pieces(src, depth, caps, &samples));
    const int64_t sample_rows = src.h * src.w;
    const size_t col = lun_book(out, (size_t)(samples * sample_rows * depth) * 4);
    const int64_t pitch = lun_src_pitch(op, 0);
    struct im2col_args c = column_args(dst, lun_dst_pitch(op, 0), src, filter, &op->attrs.conv);
    c.has_bias = has_bias(op);
    c.relu = op->attrs.conv.relu;
    for (int64_t n = 0; n < src.n; n += samples) {
        const int64_t batch = lun_min_i64(samples, src.n - n), rows = batch * sample_rows;
        lun_launch *launch = emit_gemm(
            out,
            (lun_gemm_args){
                .m = rows, .n = depth, .k = filter.n, .lda = pitch, .ldb = filter.n, .ldc = depth, .trans_b = true});
        lun_emit_src(launch, 0);
        launch->buffer[0].offset = (size_t)(n * sample_rows * pitch) * 4;
        lun_emit_src(launch, 1);
        lun_emit_workspace(launch, col);
        c.first_row = (int)(n * dst.h * dst.w);
        c.rows = (int)(batch * dst.h * dst.w);
        launch = emit_columns(caps, out, "col2im", &c, (int64_t)c.rows * dst.c);
        lun_emit_workspace(launch, col);
        emit_bias(launch, op);
        lun_emit_dst(launch, 0);
        lun_emit_args(launch, c);
    }
    lun_emit_result_statistics(op, caps, out);
    return LUN_OK;
}

static lun_status gemm_wgrad(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(gemm_available(caps));
    const lun_shape big = op->src[0].shape, small = op->src[1].shape, filter = op->dst[0].shape;
    const int64_t depth = filter.c * filter.h * filter.w;
    int64_t samples = 0;
    LUN_TRY(column_pieces(small, depth, caps, &samples));
    const int64_t sample_rows = small.h * small.w;
    const size_t col = lun_book(out, (size_t)(samples * sample_rows * depth) * 4);
    const int64_t pitch = lun_src_pitch(op, 1);
    struct im2col_args c = column_args(big, lun_src_pitch(op, 0), small, filter, &op->attrs.conv);
    for (int64_t n = 0; n < small.n; n += samples) {
        const int64_t rows = lun_min_i64(samples, small.n - n) * sample_rows;
        c.first_row = (int)(n * sample_rows);
        c.rows = (int)rows;
        lun_launch *launch = emit_columns(caps, out, "im2col", &c, rows * depth);
        lun_emit_src(launch, 0);
        lun_emit_workspace(launch, col);
        lun_emit_args(launch, c);
        launch = emit_gemm(out, (lun_gemm_args){.m = depth,
                                                .n = filter.n,
                                                .k = rows,
                                                .lda = depth,
                                                .ldb = pitch,
                                                .ldc = filter.n,
                                                .trans_a = true,
                                                .beta = n == 0 ? 0.0f : 1.0f});
        lun_emit_workspace(launch, col);
        lun_emit_src(launch, 1);
        launch->buffer[1].offset = (size_t)(n * sample_rows * pitch) * 4;
        lun_emit_dst(launch, 0);
    }
    return LUN_OK;
}

const lun_candidate lun_conv2d_candidates[] = {{"panel", panel_gather, NULL},
                                               {"pointwise", lun_pointwise_gather, lun_pointwise_suits},
                                               {"few_pixels", lun_few_forward, lun_few_suits},
                                               {"winograd_4x4", lun_winograd_gather, lun_winograd_suits},
                                               {"winograd_4x4_deep", lun_winograd_deep_4x4, lun_winograd_deep_suits},
                                               {"winograd_2x2", lun_winograd_gather_2x2, NULL},
                                               {"winograd_2x2_deep", lun_winograd_deep_2x2, NULL},
                                               {"tile", tile_gather, NULL},
                                               {"im2col_gemm", gemm_conv2d, NULL},
                                               {"direct", direct_gather, NULL},
                                               {NULL, NULL, NULL}};
const lun_candidate lun_conv2d_transpose_candidates[] = {
    {"panel", panel_gather, NULL},
    {"pointwise", lun_pointwise_gather, lun_pointwise_suits},
    {"few_pixels", lun_few_data, lun_few_suits},
    {"winograd_4x4", lun_winograd_gather, lun_winograd_suits},
    {"winograd_4x4_deep", lun_winograd_deep_4x4, lun_winograd_deep_suits},
    {"winograd_2x2", lun_winograd_gather_2x2, NULL},
    {"winograd_2x2_deep", lun_winograd_deep_2x2, NULL},
    {"tile", tile_gather, NULL},
    {"im2col_gemm", gemm_conv2d_transpose, NULL},
    {"direct", direct_gather, NULL},
    {NULL, NULL, NULL}};
const lun_candidate lun_conv2d_wgrad_candidates[] = {{"panel", panel_wgrad, NULL},
                                                     {"pointwise", lun_pointwise_wgrad, lun_pointwise_suits},
                                                     {"few_pixels", lun_few_weight, lun_few_suits},
                                                     {"winograd_4x4", lun_winograd_wgrad_4x4, lun_winograd_wgrad_suits},
                                                     {"winograd_2x2", lun_winograd_wgrad_2x2, NULL},
                                                     {"tile", tile_wgrad, NULL},
                                                     {"im2col_gemm", gemm_wgrad, NULL},
                                                     {"direct", direct_wgrad, NULL},
                                                     {NULL, NULL, NULL}};
