/* conv2d_wgrad: the Winograd candidates (cl/winograd_wgrad.h, cl/cpu/winograd_weight.h). */
#include "winograd_wgrad.h"

#include "base/base.h"
#include "lowerings.h"
#include "winograd_lower.h"

/* V and W of one round: as much as stays in a last-level cache that others use too; where dU is larger, as much as it,
 * since a round passes over both. */
#define ROUND_BYTES      (3LL << 20)
#define ROUND_MOST_BYTES (12LL << 20)
#define ROUND_TILES      256
/* All scratch; a layer that wants more is left to other candidates. */
#define SCRATCH_BYTES (320LL << 20)
#define MAX_ROUNDS    ((LUN_MAX_LAUNCHES - 1) / 2)

typedef struct minimal {
    const char *file;
    int out, taps, stride; /* tiles of out x out, filters of (taps * stride) x (taps * stride) */
} minimal;

static int points_of(const minimal *m)
{
    return (m->out + m->taps - 1) * (m->out + m->taps - 1);
}

static bool fits(const lun_op *op, const minimal *m)
{
    const lun_conv_attrs *a = &op->attrs.conv;
    const lun_shape filter = op->dst[0].shape;
    const int size = m->taps * m->stride;
    return filter.h == size && filter.w == size && a->stride_h == m->stride && a->stride_w == m->stride &&
           a->pad_h < size && a->pad_w < size;
}

static struct winograd_wgrad_args shared_args(const lun_op *op, const lun_caps *caps, const minimal *m)
{
    const lun_conv_attrs *a = &op->attrs.conv;
    const lun_shape big = op->src[0].shape, small = op->src[1].shape;
    struct winograd_wgrad_args w = {.big_h = (int)big.h,
                                    .big_w = (int)big.w,
                                    .big_c = (int)big.c,
                                    .big_pitch = lun_src_pitch(op, 0),
                                    .small_h = (int)small.h,
                                    .small_w = (int)small.w,
                                    .small_c = (int)small.c,
                                    .small_pitch = lun_src_pitch(op, 1),
                                    .pad_h = a->pad_h,
                                    .pad_w = a->pad_w,
                                    .stride = m->stride};
    w.tiles_h = (int)lun_ceil_div(small.h, m->out);
    w.tiles_w = (int)lun_ceil_div(small.w, m->out);
    /* Lines in steps that every register tile (6 or 8 rows) and lane divides; blocks of equal size, at most 64 or 72.
     */
    const int step = caps->lanes == 16 ? 16 : 24, most = 72 / step * step;
    const int a_phase = (int)lun_ceil_div(big.c, most);
    w.lines = (int)lun_ceil_div(lun_ceil_div(big.c, a_phase), step) * step;
    w.blocks = m->stride * m->stride * a_phase;
    w.panels = (int)lun_ceil_div(small.c, 2LL * caps->lanes);
    return w;
}

/* Tasks of one block of lines and some panels, `wanted` where there are as many. */
static void share_out(struct winograd_wgrad_args *w, int64_t wanted)
{
    w->panels_per_task = (int)lun_min_i64(w->panels, lun_max_i64(1, wanted));
    w->tasks = w->blocks * (int)lun_ceil_div(w->panels, w->panels_per_task);
}

/* The dU of one of them. */
static int64_t task_bytes(const struct winograd_wgrad_args *w, int64_t points, int64_t width)
{
    return points * (w->lines * w->panels_per_task * width + WINOGRAD_SKEW) * 4;
}

static lun_launch *emit(lun_lowering *out, const minimal *m, const char *kernel, int64_t items)
{
    return lun_emit(out, m->file, kernel, items);
}

static void emit_tiles(lun_lowering *out, const minimal *m, const struct winograd_wgrad_args *w, size_t v, size_t u)
{
    lun_launch *launch = emit(out, m, "winograd_wgrad_tiles", 2 * lun_ceil_div(w->tiles, WINOGRAD_RUN));
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_workspace(launch, v);
    lun_emit_workspace(launch, u);
    lun_emit_args(launch, *w);
}

static lun_status lower(const lun_op *op, const lun_caps *caps, lun_lowering *out, const minimal *m)
{
    struct winograd_wgrad_args w = shared_args(op, caps, m);
    const int64_t width = 2LL * caps->lanes, points = points_of(m);
    const int64_t tiles = op->src[1].shape.n * w.tiles_h * w.tiles_w;
    if (tiles > INT32_MAX / 2)
        return lun_fail(LUN_UNSUPPORTED, "too many tiles");
    const int64_t a_tile = points * (w.blocks * w.lines + w.panels * width) * 4;

    share_out(&w, 64 / width);
    /* Rounds pass over dU again and again; without them V and W are written and read once, but beyond the caches. */
    const int64_t all_du = w.tasks * task_bytes(&w, points, width);
    const bool whole = tiles * a_tile <= 4 * all_du;
    if (whole) {
        share_out(&w, 32 / width);
        w.slots = (int)lun_min_i64(w.tasks, 4LL * caps->units);
        w.room = (int)tiles;
    } else {
        const int64_t bytes = lun_max_i64(ROUND_BYTES, lun_min_i64(all_du, ROUND_MOST_BYTES));
        const int64_t most = lun_max_i64(1, lun_min_i64(ROUND_TILES, bytes / a_tile));
        const int64_t rounds = lun_min_i64(MAX_ROUNDS, lun_ceil_div(tiles, most));
        w.room = (int)lun_ceil_div(tiles, rounds);
    }
    const int64_t v_bytes = points * w.blocks * ((int64_t)w.room * w.lines + WINOGRAD_SKEW) * 4;
    const int64_t u_bytes = points * w.panels * ((int64_t)w.room * width + WINOGRAD_SKEW) * 4;
    const int64_t du_bytes = (whole ? w.slots : w.tasks) * task_bytes(&w, points, width);
    if (v_bytes + u_bytes + du_bytes > SCRATCH_BYTES)
        return lun_fail(LUN_UNSUPPORTED, "its scratch would take %lld MiB",
                        (long long)((v_bytes + u_bytes + du_bytes) >> 20));
    const size_t v = lun_book(out, (size_t)v_bytes), u = lun_book(out, (size_t)u_bytes);
    const size_t du = lun_book(out, (size_t)du_bytes);

    if (whole) {
        w.stream = v_bytes + u_bytes > LUN_STREAMED_BYTES;
        w.tiles = (int)tiles;
        emit_tiles(out, m, &w, v, u);
        lun_launch *launch = emit(out, m, "winograd_wgrad_deep", w.slots);
        lun_emit_workspace(launch, v);
        lun_emit_workspace(launch, u);
        lun_emit_dst(launch, 0);
        lun_emit_workspace(launch, du);
        lun_emit_args(launch, w);
        return LUN_OK;
    }
    for (int64_t first = 0; first < tiles; first += w.room) {
        w.first_tile = (int)first;
        w.tiles = (int)lun_min_i64(w.room, tiles - first);
        emit_tiles(out, m, &w, v, u);
        lun_launch *launch = emit(out, m, "winograd_wgrad_products", points * w.tasks);
        lun_emit_workspace(launch, v);
        lun_emit_workspace(launch, u);
        lun_emit_workspace(launch, du);
        lun_emit_args(launch, w);
        w.begun = 1;
    }
    lun_launch *launch = emit(out, m, "winograd_wgrad_gradient", w.tasks * lun_ceil_div(w.lines, WINOGRAD_LINES));
    lun_emit_workspace(launch, du);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, w);
    return LUN_OK;
}

static lun_status one_of(const lun_op *op, const lun_caps *caps, lun_lowering *out, const minimal *m, int count)
{
    if (caps->gpu || caps->lanes < 4)
        return lun_fail(LUN_UNSUPPORTED, "the Winograd kernels are for CPUs with vectors");
    for (int i = 0; i < count; i++)
        if (fits(op, &m[i]))
            return lower(op, caps, out, &m[i]);
    return lun_fail(LUN_UNSUPPORTED, count == 1 ? "for 3x3 filters with stride 1"
                                                : "for 3x3 filters with stride 1 and 4x4 with stride 2");
}

lun_status lun_winograd_wgrad_4x4(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    static const minimal m[] = {{"cpu/winograd_weight_4x4_3x3.cl", 4, 3, 1},
                                {"cpu/winograd_weight_4x4_2x2.cl", 4, 2, 2}};
    return one_of(op, caps, out, m, 2);
}

lun_status lun_winograd_wgrad_2x2(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    static const minimal m[] = {{"cpu/winograd_weight_2x2_3x3.cl", 2, 3, 1}};
    return one_of(op, caps, out, m, 1);
}
