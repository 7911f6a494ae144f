/* Running one case on a device, with everything watched that a kernel must not touch. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "opcheck.h"
#include "setup.h"

enum { CANARY_WORDS = 1024 };
#define CANARY 0x7fe5c0deu /* a NaN, so that reading it shows too */

/* Book `bytes` for a region: in the arena, or in a buffer of its own. With a pitch, pixels of `channels`. */
static void book(oc_setup *u, oc_layout layout, size_t bytes, int64_t channels, int pitch, bool changes)
{
    const int r = u->regions++;
    oc_region *region = &u->region[r];
    if (layout == OC_APART || u->buffers == 0)
        u->bytes[u->buffers++] = 0;
    region->buffer = u->buffers - 1;
    region->words = (bytes + 3) / 4;
    region->changes = changes;
    region->pixel = pitch ? (size_t)channels : region->words;
    region->step = pitch ? (size_t)pitch : region->words;
    size_t at = u->bytes[region->buffer] + CANARY_WORDS * 4;
    at = (at + 255) / 256 * 256 + (size_t)(r % 3) * 256;
    if (layout == OC_ODD)
        at += (size_t)(2 * (r % 5) + 1) * 4;
    region->offset = at;
    u->bytes[region->buffer] = at + region->words * 4 + CANARY_WORDS * 4;
}

/* A region's own words, pixel by pixel, from dense ones or to them. */
static void spread(const oc_region *region, const uint32_t *dense, uint32_t *words)
{
    for (size_t at = 0; at < region->words; at += region->step, dense += region->pixel)
        memcpy(words + at, dense, region->pixel * 4);
}

static void collect(const oc_region *region, const uint32_t *words, uint32_t *dense)
{
    for (size_t at = 0; at < region->words; at += region->step, dense += region->pixel)
        memcpy(dense, words + at, region->pixel * 4);
}

static lun_place place_of(const oc_setup *u, int r)
{
    lun_place place = {u->buffer[u->region[r].buffer], u->region[r].offset};
    return place;
}

/* The source whose storage destination 0 shall take, or -1. */
static int shared_source(const oc_case *c)
{
    const unsigned mask = lun_op_info_of(c->op.kind)->inplace;
    if (c->layout != OC_INPLACE || mask == 0)
        return -1;
    int found[LUN_OP_MAX_SRC], count = 0;
    for (int s = 0; s < c->op.nsrc; s++)
        if ((mask >> s & 1) && c->op.src[s].layout == c->op.dst[0].layout && c->op.src_pitch[s] == c->op.dst_pitch[0] &&
            lun_shape_equal(c->op.src[s].shape, c->op.dst[0].shape))
            found[count++] = s;
    return count == 0 ? -1 : found[lun_count(c->op.dst[0].shape) % count];
}

static lun_status bind(oc_setup *u, const oc_case *c, bool keep)
{
    lun_place src[LUN_OP_MAX_SRC] = {{0}}, dst[LUN_OP_MAX_DST] = {{0}}, workspace = {0};
    for (int s = 0; s < c->op.nsrc; s++)
        src[s] = place_of(u, s);
    for (int d = 0; d < c->op.ndst; d++)
        dst[d] = place_of(u, u->dst_region[d]);
    if (u->workspace_region >= 0)
        workspace = place_of(u, u->workspace_region);
    if (keep)
        return lun_op_plan_bind_kept(u->plan, src, dst, workspace, place_of(u, u->kept_region));
    return lun_op_plan_bind(u->plan, src, dst, workspace);
}

lun_status oc_setup_create(lun_device *dev, const oc_case *c, const char *candidate, oc_setup *u)
{
    memset(u, 0, sizeof *u);
    LUN_TRY(lun_op_plan_create(dev, &c->op, candidate, &u->plan));
    const lun_op_info *info = lun_op_info_of(c->op.kind);
    const int shared = shared_source(c);
    lun_status status = LUN_OK;
    for (int s = 0; s < c->op.nsrc; s++)
        book(u, c->layout, lun_src_span(&c->op, s), c->op.src[s].shape.c, c->op.src_pitch[s], s == shared);
    for (int d = 0; d < c->op.ndst; d++) {
        const int alias = info->alias[d] > 0 ? info->alias[d] - 1 : d == 0 ? shared : -1;
        if (alias >= 0) {
            u->dst_region[d] = alias;
            u->region[alias].changes = true;
        } else {
            u->dst_region[d] = u->regions;
            book(u, c->layout, lun_dst_span(&c->op, d), c->op.dst[d].shape.c, c->op.dst_pitch[d], true);
        }
    }
    u->workspace_region = -1;
    if (u->plan->workspace > 0) {
        u->workspace_region = u->regions;
        book(u, c->layout, u->plan->workspace, 0, 0, true);
    }
    u->kept_region = -1;
    if (u->plan->kept > 0) {
        u->kept_region = u->regions;
        book(u, c->layout, u->plan->kept, 0, 0, true);
    }
    for (int b = 0; b < u->buffers; b++) {
        u->image[b] = oc_alloc(u->bytes[b] / 4, 4);
        u->after[b] = oc_alloc(u->bytes[b] / 4, 4);
        for (size_t i = 0; i < u->bytes[b] / 4; i++)
            u->image[b][i] = CANARY;
        LUN_TRY_GOTO(status, fail, lun_buffer_create(dev, u->bytes[b], &u->buffer[b]));
    }
    for (int r = 0; r < u->regions; r++) {
        const oc_region *region = &u->region[r];
        uint32_t *dense = oc_alloc(region->words, 4);
        if (r < c->op.nsrc)
            lun_to_storage(c->op.src[r], c->bits[r], dense);
        else
            for (size_t i = 0; i < region->words; i++)
                dense[i] = OC_UNWRITTEN;
        spread(region, dense, u->image[region->buffer] + region->offset / 4);
        free(dense);
    }
    LUN_TRY_GOTO(status, fail, bind(u, c, false));
    return LUN_OK;
fail:
    oc_setup_destroy(u);
    return status;
}

void oc_setup_destroy(oc_setup *u)
{
    lun_op_plan_destroy(&u->plan);
    for (int b = 0; b < u->buffers; b++) {
        lun_buffer_destroy(&u->buffer[b]);
        free(u->image[b]);
        free(u->after[b]);
    }
}

lun_status oc_setup_write(oc_setup *u)
{
    for (int b = 0; b < u->buffers; b++) {
        const lun_place all = {u->buffer[b], 0};
        LUN_TRY(lun_buffer_write(all, u->image[b], u->bytes[b]));
    }
    return LUN_OK;
}

/* With `keep`, what the plan can keep has memory of its own, is made once and used twice. */
static lun_status run_once(oc_setup *u, const oc_case *c, bool keep)
{
    LUN_TRY(oc_setup_write(u));
    if (keep) {
        LUN_TRY(bind(u, c, true));
        LUN_TRY(lun_op_plan_prepare(u->plan));
        LUN_TRY(lun_op_plan_run(u->plan));
    }
    LUN_TRY(lun_op_plan_run(u->plan));
    for (int b = 0; b < u->buffers; b++) {
        const lun_place all = {u->buffer[b], 0};
        LUN_TRY(lun_buffer_read(all, u->after[b], u->bytes[b]));
    }
    return LUN_OK;
}

/* Everything but what may change is as it was. Overwrites what changes in `after` with the image. */
static lun_status untouched(const oc_setup *u, const oc_case *c)
{
    for (int r = 0; r < u->regions; r++)
        if (u->region[r].changes) {
            const oc_region *region = &u->region[r];
            uint32_t *after = u->after[region->buffer] + region->offset / 4;
            const uint32_t *image = u->image[region->buffer] + region->offset / 4;
            for (size_t at = 0; at < region->words; at += region->step)
                memcpy(after + at, image + at, region->pixel * 4);
        }
    for (int b = 0; b < u->buffers; b++) {
        if (memcmp(u->after[b], u->image[b], u->bytes[b]) == 0)
            continue;
        size_t i = 0;
        while (u->after[b][i] == u->image[b][i])
            i++;
        /* Name the nearest region. */
        for (int r = 0; r < u->regions; r++) {
            const size_t first = u->region[r].offset / 4, end = first + u->region[r].words;
            if (u->region[r].buffer != b || i + CANARY_WORDS < first || i >= end + CANARY_WORDS)
                continue;
            const char *what = r < c->op.nsrc             ? "source"
                               : r == u->workspace_region ? "workspace"
                               : r == u->kept_region      ? "kept memory"
                                                          : "destination";
            const int number = r < c->op.nsrc ? r : r - c->op.nsrc;
            if (i >= first && i < end)
                return lun_fail(LUN_ERR_INTERNAL, "wrote to %s %d at element %zu", what, number, i - first);
            return lun_fail(LUN_ERR_INTERNAL, "wrote outside: %zu elements %s %s %d",
                            i < first ? first - i : i - end + 1, i < first ? "before" : "past the end of", what,
                            number);
        }
        return lun_fail(LUN_ERR_INTERNAL, "wrote outside every operand");
    }
    return LUN_OK;
}

lun_status oc_run(lun_device *dev, const oc_case *c, const char *candidate, int runs, uint32_t *got[LUN_OP_MAX_DST])
{
    oc_setup setup, *u = &setup;
    uint32_t *first[LUN_OP_MAX_DST] = {NULL};
    LUN_TRY(oc_setup_create(dev, c, candidate, u));
    lun_status status = LUN_OK;
    for (int run = 0; run < runs; run++) {
        LUN_TRY_GOTO(status, done, run_once(u, c, run == 1 && u->kept_region >= 0));
        for (int d = 0; d < c->op.ndst; d++) {
            const oc_region *region = &u->region[u->dst_region[d]];
            const uint32_t *words = u->after[region->buffer] + region->offset / 4;
            if (run == 0) {
                first[d] = oc_alloc(region->words, 4);
                memcpy(first[d], words, region->words * 4);
            } else if (memcmp(first[d], words, region->words * 4) != 0) {
                status = lun_fail(LUN_ERR_INTERNAL, "two runs differ in destination %d", d);
                goto done;
            }
        }
        LUN_TRY_GOTO(status, done, untouched(u, c));
    }
    for (int d = 0; d < c->op.ndst; d++) {
        uint32_t *dense = oc_alloc((size_t)lun_count(c->op.dst[d].shape), 4);
        collect(&u->region[u->dst_region[d]], first[d], dense);
        got[d] = oc_alloc((size_t)lun_count(c->op.dst[d].shape), 4);
        lun_from_storage(c->op.dst[d], dense, got[d]);
        free(dense);
    }
done:
    for (int d = 0; d < LUN_OP_MAX_DST; d++)
        free(first[d]);
    oc_setup_destroy(u);
    return status;
}
