/* The gradient rules of src/op/, against the float64 reference alone.
 *
 * A rule emits ordinary nodes. Here each is computed at once, by the reference, so that a rule's gradients come out as
 * numbers and can be held against central differences of the forward in double, and, for ops linear in a source,
 * against the adjoint <A x, y> = <x, A' y> in integers, exactly. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "opcheck.h"
#include "reference.h"

enum { MAX_VALUES = 48 };

typedef struct reference_backward {
    lun_backward base;
    lun_status status;
    int count; /* sources, destinations, ddst, then what is emitted */
    lun_desc desc[MAX_VALUES];
    double *data[MAX_VALUES];
    lun_value given[LUN_OP_MAX_SRC];
} reference_backward;

static lun_value add_value(reference_backward *b, lun_desc desc)
{
    b->desc[b->count] = desc;
    b->data[b->count] = oc_alloc((size_t)lun_count(desc.shape), sizeof(double));
    return b->count++;
}

static lun_value emit(lun_backward *base, lun_op_kind kind, const lun_attrs *attrs, const lun_value *src, int nsrc)
{
    reference_backward *b = (reference_backward *)base;
    lun_op op = {.kind = kind, .nsrc = nsrc};
    const double *from[LUN_OP_MAX_SRC] = {NULL};
    double *to[LUN_OP_MAX_DST] = {NULL}, *mag[LUN_OP_MAX_DST] = {NULL};
    if (b->status != LUN_OK)
        return -1;
    if (attrs != NULL)
        op.attrs = *attrs;
    for (int s = 0; s < nsrc; s++) {
        if (src[s] < 0 || src[s] >= b->count) {
            b->status =
                lun_fail(LUN_ERR_INTERNAL, "the rule emits %s with value %d", lun_op_info_of(kind)->name, src[s]);
            return -1;
        }
        op.src[s] = b->desc[src[s]];
        from[s] = b->data[src[s]];
    }
    if ((b->status = lun_op_infer(&op)) != LUN_OK)
        return -1;
    if (b->count + op.ndst > MAX_VALUES) {
        b->status = lun_fail(LUN_ERR_INTERNAL, "the rule emits too much");
        return -1;
    }
    const lun_value first = b->count;
    for (int d = 0; d < op.ndst; d++)
        to[d] = b->data[add_value(b, op.dst[d])];
    ref_op(&op, from, to, mag);
    return first;
}

static void give(lun_backward *base, int src_index, lun_value gradient)
{
    reference_backward *b = (reference_backward *)base;
    if (b->status != LUN_OK)
        return;
    if (gradient < 0 || gradient >= b->count || !base->wants[src_index]) {
        b->status =
            lun_fail(LUN_ERR_INTERNAL, "the rule gives value %d to source %d, which wants none or cannot have it",
                     gradient, src_index);
        return;
    }
    const lun_desc have = b->desc[gradient], want = base->op->src[src_index];
    if (!lun_shape_equal(have.shape, want.shape) || have.layout != want.layout || have.dtype != want.dtype) {
        b->status = lun_fail(LUN_ERR_INTERNAL, "the gradient of source %d has another shape", src_index);
        return;
    }
    if (b->given[src_index] < 0) {
        b->given[src_index] = gradient;
        return;
    }
    const lun_value sum = add_value(b, have), old = b->given[src_index];
    for (int64_t i = 0; i < lun_count(have.shape); i++)
        b->data[sum][i] = b->data[old][i] + b->data[gradient][i];
    b->given[src_index] = sum;
}

static void release(reference_backward *b)
{
    for (int i = 0; i < b->count; i++)
        free(b->data[i]);
}

/* Run the rule. `ddst` has destination 0's shape. */
static lun_status run_rule(const oc_case *c, const double *ddst, unsigned wants, reference_backward *b)
{
    const lun_op *op = &c->op;
    memset(b, 0, sizeof *b);
    b->base.op = op;
    b->base.emit = emit;
    b->base.give = give;
    for (int s = 0; s < op->nsrc; s++) {
        b->base.src[s] = s;
        b->base.wants[s] = wants >> s & 1;
    }
    for (int d = 0; d < op->ndst; d++) {
        b->base.dst[d] = op->nsrc + d;
        b->base.ddst[d] = d == 0 ? op->nsrc + op->ndst : -1;
    }
    for (int s = 0; s < LUN_OP_MAX_SRC; s++)
        b->given[s] = -1;
    for (int s = 0; s < op->nsrc; s++)
        memcpy(b->data[add_value(b, op->src[s])], c->src[s], (size_t)oc_src_count(c, s) * sizeof(double));
    for (int d = 0; d < op->ndst; d++)
        memcpy(b->data[add_value(b, op->dst[d])], c->want[d], (size_t)lun_count(op->dst[d].shape) * sizeof(double));
    memcpy(b->data[add_value(b, op->dst[0])], ddst, (size_t)lun_count(op->dst[0].shape) * sizeof(double));
    lun_op_info_of(op->kind)->backward(&b->base);
    return b->status;
}

/* Sources that influence the result and rightly get no gradient: data and statistics. */
static bool is_data(lun_op_kind kind, int s)
{
    return (kind == LUN_OP_LOSS && s == 1) || (kind == LUN_OP_BATCH_NORM && (s == 3 || s == 4)) ||
           (kind == LUN_OP_LOSS_EACH && s > 0) || (kind == LUN_OP_WEIGHTED_MEAN && s == 1) ||
           (kind == LUN_OP_VARIATIONAL && s > 0);
}

/* Elements of a source that gets a gradient, but not there: the mean that the variational bound does not teach. */
static bool is_detached(const lun_op *op, int s, int64_t i)
{
    const lun_shape shape = op->src[s].shape;
    return op->kind == LUN_OP_VARIATIONAL && i / (shape.h * shape.w) % shape.c < shape.c / 2;
}

typedef struct worker {
    double *dst[LUN_OP_MAX_DST], *none[LUN_OP_MAX_DST];
} worker;

static worker worker_create(const lun_op *op)
{
    worker w = {{NULL}, {NULL}};
    for (int d = 0; d < op->ndst; d++)
        w.dst[d] = oc_alloc((size_t)lun_count(op->dst[d].shape), sizeof(double));
    return w;
}

static void worker_free(worker *w)
{
    for (int d = 0; d < LUN_OP_MAX_DST; d++)
        free(w->dst[d]);
}

/* d/dx_i of sum_j ddst_j dst_j: central difference, the sum taken over differences to keep its digits. */
static double difference(const oc_case *c, worker *w, double *base, int s, int64_t i, const double *ddst)
{
    const int64_t elements = lun_count(c->op.dst[0].shape);
    const double x = c->src[s][i], h = 1e-6 * fmax(1, fabs(x));
    const volatile double up = x + h, down = x - h;
    double slope = 0;
    c->src[s][i] = up;
    ref_op(&c->op, (const double *const *)c->src, w->dst, w->none);
    memcpy(base, w->dst[0], (size_t)elements * sizeof(double));
    c->src[s][i] = down;
    ref_op(&c->op, (const double *const *)c->src, w->dst, w->none);
    for (int64_t j = 0; j < elements; j++)
        slope += (base[j] - w->dst[0][j]) * ddst[j];
    c->src[s][i] = x;
    return slope / (up - down);
}

static lun_status check_differences(const oc_case *c, oc_rng *rng, double *worst)
{
    const lun_op *op = &c->op;
    const int64_t elements = lun_count(op->dst[0].shape);
    double *ddst = oc_alloc((size_t)elements, sizeof(double)), *base = oc_alloc((size_t)elements, sizeof(double));
    for (int64_t i = 0; i < elements; i++)
        ddst[i] = oc_real(rng);
    unsigned all = 0;
    for (int s = 0; s < op->nsrc; s++)
        if (op->src[s].dtype == LUN_F32 && !is_data(op->kind, s))
            all |= 1u << s;
    worker w = worker_create(op);
    reference_backward full;
    lun_status status = run_rule(c, ddst, all, &full);
    for (int s = 0; status == LUN_OK && s < op->nsrc; s++) {
        if (!(all >> s & 1))
            continue;
        bool any = false;
        for (int64_t i = 0; status == LUN_OK && i < oc_src_count(c, s); i++) {
            const double slope = is_detached(op, s, i) ? 0 : difference(c, &w, base, s, i, ddst);
            const double mine = full.given[s] < 0 ? 0 : full.data[full.given[s]][i];
            const double error = fabs(slope - mine), bound = 1e-8 + 1e-6 * fabs(slope);
            any = any || mine != 0;
            if (!(error <= bound))
                status = lun_fail(LUN_ERR_INTERNAL, "source %d element %d: the rule says %.12g, differences %.12g", s,
                                  (int)i, mine, slope);
            *worst = fmax(*worst, error / bound);
        }
        if (status == LUN_OK && !any)
            status = lun_fail(LUN_ERR_INTERNAL, "vacuous: the gradient of source %d is zero", s);
        /* The same alone: what one source wants must not hang on the others. */
        reference_backward one;
        if (status == LUN_OK)
            status = run_rule(c, ddst, 1u << s, &one);
        else
            continue;
        if (status == LUN_OK && (one.given[s] < 0 || memcmp(one.data[one.given[s]], full.data[full.given[s]],
                                                            (size_t)oc_src_count(c, s) * sizeof(double)) != 0))
            status = lun_fail(LUN_ERR_INTERNAL, "source %d gets another gradient when it alone wants one", s);
        release(&one);
    }
    release(&full);
    worker_free(&w);
    free(ddst);
    free(base);
    return status;
}

/* Affine in each source, whatever the others are. */
static bool is_linear(lun_op_kind kind)
{
    switch (kind) {
    case LUN_OP_CONV2D:
    case LUN_OP_CONV2D_TRANSPOSE:
    case LUN_OP_CONV2D_WGRAD:
    case LUN_OP_CHANNEL_SUM:
    case LUN_OP_SPATIAL_SUM:
    case LUN_OP_ADD:
    case LUN_OP_ADD_CHANNEL:
    case LUN_OP_SCALE_SHIFT:
    case LUN_OP_CONCAT:
    case LUN_OP_SLICE:
    case LUN_OP_UPSAMPLE2:
    case LUN_OP_POOL2:
    case LUN_OP_UPSAMPLE2_FILTER:
    case LUN_OP_POOL2_FILTER: return true;
    default: return false;
    }
}

static bool clamped(const lun_op *op)
{
    return (op->kind == LUN_OP_CONV2D || op->kind == LUN_OP_CONV2D_TRANSPOSE) && op->attrs.conv.relu;
}

/* <f(x) - f(x with source s zero), y> = <x_s, gradient_s(y)>, all integers below 2^53. */
static lun_status check_adjoint(const oc_case *c, oc_rng *rng)
{
    const lun_op *op = &c->op;
    const int64_t elements = lun_count(op->dst[0].shape);
    double *y = oc_alloc((size_t)elements, sizeof(double));
    for (int64_t i = 0; i < elements; i++)
        y[i] = 1 + oc_below(rng, 4) - (oc_below(rng, 2) ? 5 : 0);
    worker w = worker_create(op);
    reference_backward b;
    lun_status status = run_rule(c, y, (1u << op->nsrc) - 1, &b);
    for (int s = 0; status == LUN_OK && s < op->nsrc; s++) {
        const double *src[LUN_OP_MAX_SRC];
        memcpy(src, c->src, sizeof src);
        double *zero = oc_alloc((size_t)oc_src_count(c, s), sizeof(double));
        src[s] = zero;
        ref_op(op, src, w.dst, w.none);
        double left = 0, right = 0;
        for (int64_t i = 0; i < elements; i++)
            left += (c->want[0][i] - w.dst[0][i]) * y[i];
        for (int64_t i = 0; b.given[s] >= 0 && i < oc_src_count(c, s); i++)
            right += c->src[s][i] * b.data[b.given[s]][i];
        if (left != right)
            status = lun_fail(LUN_ERR_INTERNAL, "source %d: <A x, y> = %.0f, <x, A' y> = %.0f", s, left, right);
        free(zero);
    }
    release(&b);
    worker_free(&w);
    free(y);
    return status;
}

int oc_mode_grad(const oc_options *options)
{
    int failures = 0, checked = 0;
    for (int o = 0; o < oc_op_count; o++) {
        const oc_op *op = oc_ops[o];
        const lun_op_info *info = lun_op_info_of(op->kind);
        if (!oc_chosen(options, op))
            continue;
        if (info->backward == NULL) {
            printf("%-20s has no gradient\n", info->name);
            checked += options->op != NULL;
            continue;
        }
        int differences = 0, adjoints = 0;
        double worst = 0;
        for (int pass = 0; pass < 2; pass++) {
            const oc_set set = pass == 0 ? OC_GRAD : OC_SUITE;
            const int cases = pass == 1 && !is_linear(op->kind) ? 0 : op->count(set);
            for (int i = 0; i < cases; i++) {
                if (options->index >= 0 && i != options->index)
                    continue;
                oc_case c;
                oc_rng rng = {options->seed + (uint64_t)i * 977};
                lun_status status = oc_make(op, set, i, options->seed, true, &c);
                if (status == LUN_OK && pass == 0) {
                    status = check_differences(&c, &rng, &worst);
                    differences++;
                } else if (status == LUN_OK && c.exact && !clamped(&c.op)) {
                    status = check_adjoint(&c, &rng);
                    adjoints++;
                }
                if (status != LUN_OK) {
                    failures++;
                    printf("FAIL grad %s %s case %d: %s\n     opcheck grad --op %s --case %d --seed %llu\n", info->name,
                           pass == 0 ? "differences" : "adjoint", i, lun_error_detail(), info->name, i,
                           (unsigned long long)options->seed);
                }
                oc_free(&c);
            }
        }
        printf("%-20s %d by differences (worst %.3f of the bound), %d adjoints exact\n", info->name, differences, worst,
               adjoints);
        if (differences + adjoints == 0) {
            failures++;
            printf("FAIL grad %s: no case ran\n", info->name);
        }
        checked += differences + adjoints;
    }
    if (checked == 0) {
        printf("FAIL grad: no case ran\n");
        failures++;
    }
    return failures == 0 ? 0 : 1;
}
