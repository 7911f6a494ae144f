#include <string.h>

#include "opcheck.h"

/* One number of a destination, as what it is. */
static double value_of(lun_dtype dtype, uint32_t bits)
{
    if (dtype == LUN_U32)
        return bits;
    if (dtype == LUN_I32)
        return (int32_t)bits;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

lun_status oc_compare(const oc_case *c, uint32_t *const *got, double *ratio)
{
    *ratio = 0;
    for (int d = 0; d < c->op.ndst; d++) {
        const lun_shape s = c->op.dst[d].shape;
        const int64_t count = lun_count(s);
        int64_t wrong = 0, worst = -1;
        double worst_excess = 0;
        for (int64_t i = 0; i < count; i++) {
            const double value = value_of(c->op.dst[d].dtype, got[d][i]);
            const bool same_nan = c->nans && isnan(c->want[d][i]) && isnan(value) && got[d][i] != OC_UNWRITTEN;
            const double error = same_nan ? 0 : fabs(value - c->want[d][i]), bound = c->bound[d][i];
            if (!(error <= bound)) {
                wrong++;
                /* NaN is the worst there is; without a bound every error counts by its size. */
                const double excess = isnan(error) ? INFINITY : bound > 0 ? error / bound : error;
                if (worst < 0 || excess > worst_excess) {
                    worst = i;
                    worst_excess = excess;
                }
            } else if (bound > 0) {
                *ratio = fmax(*ratio, error / bound);
            }
        }
        if (wrong == 0)
            continue;
        const int64_t n = worst / (s.c * s.h * s.w), ch = worst / (s.h * s.w) % s.c, h = worst / s.w % s.h,
                      w = worst % s.w;
        const double value = value_of(c->op.dst[d].dtype, got[d][worst]);
        const double error = fabs(value - c->want[d][worst]);
        uint32_t pattern = got[d][worst];
        const bool sure = c->exact || (d == 0 && c->certain != NULL && !(error <= c->certain[worst])) || isnan(error);
        return lun_fail(LUN_ERR_INTERNAL,
                        "dst%d[%d,%d,%d,%d]: got %.9g, want %.9g, off by %.3g, bound %.3g%s; %lld of %lld wrong%s", d,
                        (int)n, (int)ch, (int)h, (int)w, value, c->want[d][worst], error, c->bound[d][worst],
                        sure ? " (certainly a bug)" : "", (long long)wrong, (long long)count,
                        pattern == OC_UNWRITTEN ? " (never written)" : "");
    }
    return LUN_OK;
}

lun_status oc_vacuous(const oc_case *c)
{
    for (int d = 0; d < c->op.ndst && !c->passes; d++) {
        const int64_t count = lun_count(c->op.dst[d].shape);
        int64_t live = 0, zeros = 0;
        bool constant = true;
        double first = 0;
        for (int64_t i = 0; i < count; i++) {
            if (c->nans && isnan(c->want[d][i]))
                continue;
            if (!isfinite(c->want[d][i]) || !(c->bound[d][i] >= 0 && isfinite(c->bound[d][i])))
                return lun_fail(LUN_ERR_INTERNAL, "vacuous: the reference of destination %d is %g with bound %g", d,
                                c->want[d][i], c->bound[d][i]);
            if (d == 0 && c->mag[d][i] == 0) /* nothing contributes: padding, holes of a transposed convolution */
                continue;
            if (live++ == 0)
                first = c->want[d][i];
            zeros += c->want[d][i] == 0;
            constant = constant && c->want[d][i] == first;
        }
        if (live == 0 || zeros == live)
            return lun_fail(LUN_ERR_INTERNAL, "vacuous: destination %d is all zero", d);
        if (d > 0)
            continue;
        if (!((double)zeros <= (double)c->max_zero * (double)live))
            return lun_fail(LUN_ERR_INTERNAL, "vacuous: %lld of %lld results are zero", (long long)zeros,
                            (long long)live);
        if (constant && live > 1 && !c->constant)
            return lun_fail(LUN_ERR_INTERNAL, "vacuous: every result is %g", first);
        /* A bound as large as the results would let anything pass. */
        double biggest = 0, loosest = 0;
        for (int64_t i = 0; i < count; i++) {
            biggest = fmax(biggest, fabs(c->want[d][i])); /* fmax leaves NaN out */
            loosest = fmax(loosest, c->bound[d][i]);
        }
        if (!(loosest <= 0.1 * biggest))
            return lun_fail(LUN_ERR_INTERNAL, "vacuous: the bound reaches %.3g, the results %.3g", loosest, biggest);
    }
    return LUN_OK;
}
