/* attention and attention_backward: their candidates. How the kernels work is said in their texts. */
#include "attention.h"

#include <math.h>
#include <stdio.h>

#include "base/base.h"
#include "lowerings.h"

static struct attention_args arguments(const lun_op *op)
{
    const lun_shape s = op->src[0].shape;
    const lun_attention_attrs *a = &op->attrs.attention;
    const int channels = (int)(s.c / 3), width = channels / a->heads;
    return (struct attention_args){.rows = (int)(s.n * s.h * s.w),
                                   .pixels = (int)(s.h * s.w),
                                   .channels = channels,
                                   .heads = a->heads,
                                   .width = width,
                                   .head_step = a->split ? width : 3 * width,
                                   .k_first = a->split ? channels : width,
                                   .v_first = a->split ? 2 * channels : 2 * width,
                                   .scale = (float)(1 / sqrt((double)width))};
}

/* ---- panel: CPUs, cl/cpu/attention.cl ---- */

/* Scratch of all slots together may take this much. */
#define SCRATCH_BYTES (256LL << 20)
/* As many tasks fill the cores of any CPU evenly; cutting finer only packs more often. Backward each chunk also has a
 * dQ of its own. */
#define TASKS_WANTED          64
#define BACKWARD_TASKS_WANTED 16
#define MOST_BACKWARD_CHUNKS  8

/* Chunks of whole blocks of pixels, about so many tasks, and slots for what one takes. */
static lun_status share_out(struct attention_args *a, const lun_caps *caps, int64_t wanted, int64_t most,
                            int64_t floats)
{
    const int64_t lines = (int64_t)(a->rows / a->pixels) * a->heads, blocks = lun_ceil_div(a->pixels, ATTENTION_BLOCK);
    const int64_t chunks = lun_min_i64(lun_min_i64(blocks, most), lun_ceil_div(wanted, lines));
    a->blocks = (int)lun_ceil_div(blocks, chunks);
    a->chunks = (int)lun_ceil_div(blocks, a->blocks);
    a->tasks = (int)(lines * a->chunks);
    floats = lun_round_up(floats, 16) + 16; /* a cache line more: 2^k would send all slots to the same sets */
    if (floats > INT32_MAX / 4)
        return lun_fail(LUN_UNSUPPORTED, "its scratch would take %lld MiB", (long long)(floats >> 18));
    a->slot_floats = (int)floats;
    a->slots = (int)lun_max_i64(1, lun_min_i64(lun_min_i64(a->tasks, 4LL * caps->units), SCRATCH_BYTES / 4 / floats));
    return LUN_OK;
}

static lun_status possible(const lun_caps *caps)
{
    return caps->gpu ? lun_fail(LUN_UNSUPPORTED, "the panel kernels are for CPUs") : LUN_OK;
}

static lun_status panel_attention(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(possible(caps));
    struct attention_args a = arguments(op);
    const int64_t block = ATTENTION_BLOCK, padded = lun_round_up(a.width, 2LL * caps->lanes);
    const int64_t floats = a.pixels * padded + a.width * block + block * padded + block * block;
    LUN_TRY(share_out(&a, caps, TASKS_WANTED, INT32_MAX, floats));
    const size_t scratch = lun_book(out, (size_t)a.slots * (size_t)a.slot_floats * 4);
    lun_launch *launch = lun_emit(out, "cpu/attention.cl", "attention_panel", a.slots);
    lun_emit_src(launch, 0);
    lun_emit_dst(launch, 0);
    lun_emit_dst(launch, 1);
    lun_emit_workspace(launch, scratch);
    lun_emit_args(launch, a);
    return LUN_OK;
}

static lun_status panel_backward(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    LUN_TRY(possible(caps));
    struct attention_args a = arguments(op);
    const int64_t block = ATTENTION_BLOCK, padded = lun_round_up(a.width, 2LL * caps->lanes);
    const int64_t floats = (2LL * a.pixels + lun_round_up(a.pixels, block)) * padded + 3 * block * padded +
                           2 * block * a.width + 2 * block * block + 2LL * a.pixels;
    LUN_TRY(share_out(&a, caps, BACKWARD_TASKS_WANTED, MOST_BACKWARD_CHUNKS, floats));
    const size_t scratch = lun_book(out, (size_t)a.slots * (size_t)a.slot_floats * 4);
    const bool cut = a.chunks > 1;
    const size_t part =
        cut ? lun_book(out, (size_t)a.chunks * (size_t)a.rows * (size_t)a.channels * 4) : scratch; /* some buffer */
    lun_launch *launch = lun_emit(out, "cpu/attention.cl", "attention_backward_panel", a.slots);
    for (int s = 0; s < 4; s++)
        lun_emit_src(launch, s);
    lun_emit_dst(launch, 0);
    lun_emit_workspace(launch, part);
    lun_emit_workspace(launch, scratch);
    lun_emit_args(launch, a);
    if (!cut)
        return LUN_OK;
    launch = lun_emit(out, "cpu/attention.cl", "attention_sum", a.rows);
    lun_emit_workspace(launch, part);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, a);
    return LUN_OK;
}

/* ---- tile: devices with work-groups, cl/gpu/attention.cl; direct: anything, anywhere, cl/attention.cl ---- */

#define TILE             32
#define TILE_GROUP       256
#define TILE_LOCAL_BYTES (3 * TILE * (TILE + 1) * 4)
/* Wider heads would not fit the registers. */
#define TILE_WIDTH 512

static lun_status tile_possible(const lun_caps *caps, const struct attention_args *a)
{
    if (!caps->groups || caps->max_group < TILE_GROUP)
        return lun_fail(LUN_UNSUPPORTED, "no work-groups of %d", TILE_GROUP);
    if (caps->local_bytes < TILE_LOCAL_BYTES)
        return lun_fail(LUN_UNSUPPORTED, "less than %d bytes of local memory", TILE_LOCAL_BYTES);
    if (a->width > TILE_WIDTH)
        return lun_fail(LUN_UNSUPPORTED, "heads of more than %d channels", TILE_WIDTH);
    return LUN_OK;
}

static lun_launch *emit_tiles(lun_lowering *out, const char *kernel, const struct attention_args *a)
{
    const int64_t groups = (int64_t)(a->rows / a->pixels) * a->heads * lun_ceil_div(a->pixels, TILE);
    lun_launch *launch = lun_emit(out, "gpu/attention.cl", kernel, groups * TILE_GROUP);
    snprintf(launch->options, sizeof launch->options, "-DATTENTION_PARTS=%d", (int)lun_ceil_div(a->width, TILE));
    launch->group = TILE_GROUP;
    return launch;
}

static void cut_rows(struct attention_args *a, const lun_caps *caps)
{
    a->columns = caps->gpu ? 16 : 64;
    a->pieces = (int)lun_ceil_div(a->width, a->columns);
}

static lun_launch *emit_direct(lun_lowering *out, const char *kernel, const struct attention_args *a, int64_t pieces)
{
    lun_launch *launch = lun_emit(out, "attention.cl", kernel, (int64_t)a->rows * a->heads * pieces);
    snprintf(launch->options, sizeof launch->options, "-DATTENTION_COLUMNS=%d", a->columns);
    launch->work = (double)pieces; /* each makes all scores of its row again */
    return launch;
}

static lun_status tile_attention(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const struct attention_args a = arguments(op);
    LUN_TRY(tile_possible(caps, &a));
    lun_launch *launch = emit_tiles(out, "attention_tile", &a);
    lun_emit_src(launch, 0);
    lun_emit_dst(launch, 0);
    lun_emit_dst(launch, 1);
    lun_emit_args(launch, a);
    return LUN_OK;
}

static lun_status direct_attention(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    struct attention_args a = arguments(op);
    cut_rows(&a, caps);
    lun_launch *launch = emit_direct(out, "attention_direct_lse", &a, 1);
    lun_emit_src(launch, 0);
    lun_emit_dst(launch, 1);
    lun_emit_args(launch, a);
    launch = emit_direct(out, "attention_direct", &a, a.pieces);
    lun_emit_src(launch, 0);
    lun_emit_dst(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, a);
    return LUN_OK;
}

/* delta into scratch; returns where. */
static size_t emit_delta(lun_lowering *out, const struct attention_args *a)
{
    const size_t delta = lun_book(out, (size_t)a->rows * (size_t)a->heads * 4);
    lun_launch *launch = emit_direct(out, "attention_delta", a, 1);
    lun_emit_src(launch, 1);
    lun_emit_src(launch, 2);
    lun_emit_workspace(launch, delta);
    lun_emit_args(launch, *a);
    return delta;
}

static void emit_gradient(lun_launch *launch, const struct attention_args *a, size_t delta)
{
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 2);
    lun_emit_src(launch, 3);
    lun_emit_workspace(launch, delta);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, *a);
}

static lun_status tile_backward(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    struct attention_args a = arguments(op);
    LUN_TRY(tile_possible(caps, &a));
    cut_rows(&a, caps);
    const size_t delta = emit_delta(out, &a);
    emit_gradient(emit_tiles(out, "attention_dq_tile", &a), &a, delta);
    emit_gradient(emit_tiles(out, "attention_dkv_tile", &a), &a, delta);
    return LUN_OK;
}

static lun_status direct_backward(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    struct attention_args a = arguments(op);
    cut_rows(&a, caps);
    const size_t delta = emit_delta(out, &a);
    emit_gradient(emit_direct(out, "attention_direct_dq", &a, a.pieces), &a, delta);
    emit_gradient(emit_direct(out, "attention_direct_dkv", &a, a.pieces), &a, delta);
    return LUN_OK;
}

const lun_candidate lun_attention_candidates[] = {{"panel", panel_attention, NULL},
                                                  {"tile", tile_attention, NULL},
                                                  {"direct", direct_attention, NULL},
                                                  {NULL, NULL, NULL}};
const lun_candidate lun_attention_backward_candidates[] = {{"panel", panel_backward, NULL},
                                                           {"tile", tile_backward, NULL},
                                                           {"direct", direct_backward, NULL},
                                                           {NULL, NULL, NULL}};
