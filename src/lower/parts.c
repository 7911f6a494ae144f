/* How long a launch may take. A card that draws the desktop draws nothing while a kernel runs, and some systems reset
 * one that runs for two seconds (Windows; others have limits of 0.6 to 7.5). A launch's items are independent, so it is
 * enqueued in parts that stay below a bound.
 *
 * Nothing is measured, since what has not run yet is what must not take too long. The speeds are those of slow cards
 * with these kernels, so that others stay below the bound, too: an execution unit of Intel's, the smallest that is
 * called a compute unit, makes 16 FLOPs a cycle at 1 GHz at most, a third of it in a matrix product; half of the
 * bandwidth of one channel of a laptop's memory. */
#include <string.h>

#include "base/base.h"
#include "lower/lower.h"

#define UNIT_FLOPS   5e9   /* a second, of one compute unit */
#define DEVICE_FLOPS 100e9 /* of few, which are larger ones */
#define BYTES        10e9
/* A part of a launch with work-groups has as many items for each compute unit, so that all have something to do. */
#define UNIT_ITEMS 512

/* What launches of one kernel share the op's cost by. */
static double weight(const lun_launch *l)
{
    return l->file ? (double)l->items : (double)l->gemm.m * (double)l->gemm.n * (double)l->gemm.k;
}

static bool same_kernel(const lun_launch *a, const lun_launch *b)
{
    if (!a->file || !b->file)
        return a->file == b->file;
    return strcmp(a->file, b->file) == 0 && strcmp(a->kernel, b->kernel) == 0;
}

double lun_launch_seconds(const lun_op *op, const lun_lowering *lowering, int index, const lun_caps *caps)
{
    const lun_launch *l = &lowering->launch[index];
    double flops, bytes, all = 0;
    lun_op_cost(op, &flops, &bytes);
    const double units = UNIT_FLOPS * caps->units;
    const double whole = flops / (units > DEVICE_FLOPS ? units : DEVICE_FLOPS) + bytes / BYTES;
    if (l->work > 0)
        return whole * l->work;
    for (int i = 0; i < lowering->count; i++)
        all += same_kernel(l, &lowering->launch[i]) ? weight(&lowering->launch[i]) : 0;
    return whole * weight(l) / all;
}

int64_t lun_launch_items(const lun_op *op, const lun_lowering *lowering, int index, const lun_caps *caps, int64_t group)
{
    const lun_launch *l = &lowering->launch[index];
    const int64_t items = l->file ? l->items : l->gemm.m, groups = lun_ceil_div(items, group);
    if (!(caps->launch_s > 0))
        return groups * group;
    const double parts = lun_launch_seconds(op, lowering, index, caps) / caps->launch_s;
    const double wanted = (double)groups / (parts > 1 ? parts : 1);
    const int64_t least = l->group > 0 ? lun_ceil_div((int64_t)UNIT_ITEMS * caps->units, group) : 1;
    return lun_min_i64(groups, lun_max_i64(least, (int64_t)wanted)) * group;
}
