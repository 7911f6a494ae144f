/* How far apart two right results of an op may be, and whether two are.
 *
 * u = 2^-24. A sum of L terms taken in any order goes through partial sums of some size P and rounds each once, so two
 * orders differ by about u P sqrt(L) when roundings are independent, and P is at most a few times
 *     |a|, rms(a)               the result itself, for terms of one sign;
 *     S = sqrt(L) rms(x) rms(w) for terms x w of random sign: what is left when a sum cancels, as the bias gradient
 *                               before a batch norm does, says nothing about the size of the terms.
 * So element i may differ by 64 u sqrt(L) (|a_i| + rms(a) + S): 64 for what the rms of a whole tensor says too little
 * about one element, for fused multiply-adds on one side and for Winograd's constants. A wrong or missing term shows as
 * S / sqrt(L) or more. Element-wise ops have a small L of their own. Denormal results may be flushed: 1e-37 is always
 * allowed. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "device/check_plan.h"

#define ROUNDING (64.0 * 0x1p-24)
#define FLUSHED  1e-37

typedef struct rounding {
    bool exact;
    double factor;       /* 64 u sqrt(L) */
    bool add_rms;        /* add rms(a) to the scale */
    double cubic;        /* multiplies |a_i|^3 */
    const double *scale; /* element i has scale[i % period] */
    int64_t period;
} rounding;

static bool is_exact(lun_op_kind kind)
{
    switch (kind) {
    case LUN_OP_RELU:
    case LUN_OP_RELU_BACKWARD:
    case LUN_OP_CONCAT:
    case LUN_OP_SLICE:
    case LUN_OP_EMBED:
    case LUN_OP_UPSAMPLE2:
    case LUN_OP_RANDINT:
    case LUN_OP_RANDN:
    case LUN_OP_STORE: return true;
    default: return false;
    }
}

/* Terms of the sum behind one element. */
static double depth_of(const lun_op *op)
{
    const lun_shape s = op->src[0].shape;
    switch (op->kind) {
    case LUN_OP_CONV2D: {
        const lun_shape w = op->src[1].shape;
        return (double)(w.c * w.h * w.w);
    }
    case LUN_OP_CONV2D_TRANSPOSE: {
        const lun_shape w = op->src[1].shape;
        return (double)(w.n * w.h * w.w);
    }
    case LUN_OP_CONV2D_WGRAD: {
        const lun_shape small = op->src[1].shape;
        return (double)(small.n * small.h * small.w);
    }
    case LUN_OP_SPATIAL_SUM: return (double)(s.h * s.w);
    case LUN_OP_CHANNEL_SUM:
    case LUN_OP_BATCH_NORM:
    case LUN_OP_BATCH_NORM_BACKWARD: return (double)(s.n * s.h * s.w);
    case LUN_OP_GROUP_NORM:
    case LUN_OP_GROUP_NORM_BACKWARD: return (double)(s.h * s.w * (s.c / op->attrs.group.groups));
    case LUN_OP_SCALE_SHIFT_BACKWARD: return (double)(s.h * s.w);
    case LUN_OP_LOSS:
    case LUN_OP_SUM_SQUARES: return (double)lun_count(s);
    case LUN_OP_EMBED_BACKWARD: return (double)s.n;
    case LUN_OP_ATTENTION:
    case LUN_OP_ATTENTION_BACKWARD: /* over a head's channels, then over pixels */
        return (double)(s.c / 3 / op->attrs.attention.heads + s.h * s.w);
    case LUN_OP_LOSS_EACH:
    case LUN_OP_VARIATIONAL: return (double)(s.c * s.h * s.w);
    case LUN_OP_WEIGHTED_MEAN: return (double)s.n;
    case LUN_OP_UPSAMPLE2_FILTER:
    case LUN_OP_POOL2_FILTER: return 4;
    default: return 8; /* element-wise: a few roundings */
    }
}

/* Close the gaps between the pixels of an image. */
static void squeeze(float *x, lun_shape shape, int pitch)
{
    for (int64_t pixel = 1; pitch && pixel < shape.n * shape.h * shape.w; pixel++)
        memmove(x + pixel * shape.c, x + pixel * pitch, (size_t)shape.c * sizeof *x);
}

static lun_status read_src(check_plan *plan, int s)
{
    const lun_op *op = &plan->base.op;
    LUN_TRY(lun_buffer_read(on_a(plan->src[s]), plan->host_src, lun_src_span(op, s)));
    squeeze(plan->host_src, op->src[s].shape, op->src_pitch[s]);
    return LUN_OK;
}

static double rms(const float *x, int64_t count, int64_t first, int64_t step)
{
    double sum = 0, n = 0;
    for (int64_t i = first; i < count; i += step) {
        if (isfinite(x[i])) {
            sum += (double)x[i] * x[i];
            n++;
        }
    }
    return n > 0 ? sqrt(sum / n) : 0;
}

/* rms of source s over all, 0 if there is none */
static lun_status src_rms(check_plan *plan, int s, double *out)
{
    *out = 0;
    if (s >= plan->base.op.nsrc)
        return LUN_OK;
    LUN_TRY(read_src(plan, s));
    *out = rms(plan->host_src, lun_count(plan->base.op.src[s].shape), 0, 1);
    return LUN_OK;
}

/* Scale of the terms for each destination where it does not depend on the channel. */
static lun_status plain_scale(check_plan *plan, double *scale)
{
    const lun_op *op = &plan->base.op;
    double r[4] = {0};
    *scale = 0;
    switch (op->kind) {
    case LUN_OP_CONV2D:
    case LUN_OP_CONV2D_TRANSPOSE:
    case LUN_OP_CONV2D_WGRAD:
        for (int s = 0; s < 3; s++)
            LUN_TRY(src_rms(plan, s, &r[s]));
        *scale = sqrt(depth_of(op)) * r[0] * r[1] + r[2];
        return LUN_OK;
    case LUN_OP_CHANNEL_SUM:
    case LUN_OP_SPATIAL_SUM:
        LUN_TRY(src_rms(plan, 0, &r[0]));
        *scale = sqrt(depth_of(op)) * r[0];
        return LUN_OK;
    case LUN_OP_EMBED_BACKWARD:
        LUN_TRY(src_rms(plan, 1, &r[1]));
        *scale = sqrt(depth_of(op)) * r[1];
        return LUN_OK;
    case LUN_OP_POOL2:
        LUN_TRY(src_rms(plan, 0, &r[0]));
        *scale = 2 * r[0];
        return LUN_OK;
    case LUN_OP_ATTENTION: LUN_TRY(src_rms(plan, 0, scale)); return LUN_OK; /* a mean of v */
    case LUN_OP_ATTENTION_BACKWARD:
        LUN_TRY(src_rms(plan, 0, &r[0]));
        LUN_TRY(src_rms(plan, 2, &r[2]));
        *scale = r[2] * (1 + r[0] * r[0]); /* of ddst for v; times v and k, or v and q */
        return LUN_OK;
    case LUN_OP_ADD:
    case LUN_OP_ADD_CHANNEL:
    case LUN_OP_ACCUMULATE:
        for (int s = 0; s < 2; s++)
            LUN_TRY(src_rms(plan, s, &r[s]));
        *scale = r[0] + r[1];
        return LUN_OK;
    case LUN_OP_GROUP_NORM: LUN_TRY(src_rms(plan, 0, scale)); return LUN_OK;
    case LUN_OP_GROUP_NORM_BACKWARD: {
        /* d gamma (1 + scale) (1 + |xhat|), xhat made of x rstd - mean rstd; SiLU's slope is at most 1.1 */
        const bool scaled = op->nsrc - op->attrs.group.add > 6;
        double x, d, rstd, more = 0;
        LUN_TRY(src_rms(plan, 0, &x));
        LUN_TRY(src_rms(plan, 1, &d));
        LUN_TRY(src_rms(plan, 5, &rstd));
        LUN_TRY(src_rms(plan, 2, &r[0]));
        LUN_TRY(src_rms(plan, 3, &r[1]));
        if (scaled)
            LUN_TRY(src_rms(plan, 6, &more));
        *scale = d * (1 + r[0] + r[1]) * (1 + more) * (2 + x * rstd) * fmax(1, rstd);
        return LUN_OK;
    }
    case LUN_OP_SCALE_SHIFT:
        for (int s = 0; s < 2; s++)
            LUN_TRY(src_rms(plan, s, &r[s]));
        *scale = r[0] * (1 + r[1]) + r[1];
        return LUN_OK;
    case LUN_OP_SCALE_SHIFT_BACKWARD:
        for (int s = 0; s < 3; s++)
            LUN_TRY(src_rms(plan, s, &r[s]));
        *scale = r[1] * (1 + r[0] + r[2]) * sqrt(depth_of(op));
        return LUN_OK;
    case LUN_OP_SILU:
    case LUN_OP_GELU: LUN_TRY(src_rms(plan, 0, scale)); return LUN_OK;
    case LUN_OP_SILU_BACKWARD:
    case LUN_OP_GELU_BACKWARD:
        LUN_TRY(src_rms(plan, 0, &r[0]));
        LUN_TRY(src_rms(plan, 1, &r[1]));
        *scale = r[1] * (1 + r[0]);
        return LUN_OK;
    case LUN_OP_NOISE:
        LUN_TRY(src_rms(plan, 0, &r[0]));
        LUN_TRY(src_rms(plan, 1, &r[1]));
        LUN_TRY(src_rms(plan, 3, &r[3]));
        *scale = (r[0] + r[1]) * 2 * r[3]; /* a row of the table is (a, b), a^2 + b^2 about 1 */
        return LUN_OK;
    case LUN_OP_ADAM: /* m mixes itself with the gradient */ LUN_TRY(src_rms(plan, 1, scale)); return LUN_OK;
    case LUN_OP_EMA: /* an average mixes itself with the parameter */ LUN_TRY(src_rms(plan, 0, scale)); return LUN_OK;
    case LUN_OP_SAMPLE_STEP: {
        for (int s = 0; s < 3; s++)
            LUN_TRY(src_rms(plan, s, &r[s]));
        LUN_TRY(read_src(plan, 3));
        const float *c = plan->host_src;
        const double x0 = fabs((double)c[0]) * r[0] + fabs((double)c[1]) * r[1];
        *scale =
            fabs((double)c[2]) * x0 + fabs((double)c[3]) * r[0] + fabs((double)c[4]) * r[1] + fabs((double)c[5]) * r[2];
        return LUN_OK;
    }
    case LUN_OP_GUIDE:
        LUN_TRY(src_rms(plan, 0, &r[0]));
        LUN_TRY(src_rms(plan, 1, &r[1]));
        *scale = r[0] * (1 + 2 * r[1]);
        return LUN_OK;
    case LUN_OP_VARIATIONAL:
    case LUN_OP_VARIATIONAL_BACKWARD: {
        /* Distances of means count in standard deviations, of which a picture's values are up to some hundred. */
        const lun_shape x0 = op->src[1].shape;
        *scale = 64 * fabs((double)op->attrs.variational.scale) / 0.6931471805599453;
        if (op->kind == LUN_OP_VARIATIONAL_BACKWARD) {
            LUN_TRY(src_rms(plan, 5, &r[0]));
            *scale *= r[0] / (double)(x0.c * x0.h * x0.w);
        }
        return LUN_OK;
    }
    default: return LUN_OK;
    }
}

/* Batch norm by channel, because one channel without variance has a scale of its own. Its sources may be overwritten by
 * the op, so their sizes are taken before it runs. */
static lun_status norm_sources(check_plan *plan)
{
    const lun_op *op = &plan->base.op;
    const int64_t channels = op->src[0].shape.c, count = lun_count(op->src[0].shape);
    LUN_TRY(read_src(plan, 0));
    for (int64_t c = 0; c < channels; c++)
        plan->x[c] = rms(plan->host_src, count, c, channels);
    if (op->kind != LUN_OP_BATCH_NORM_BACKWARD)
        return LUN_OK;
    LUN_TRY(read_src(plan, 1));
    for (int64_t c = 0; c < channels; c++)
        plan->g[c] = rms(plan->host_src, count, c, channels);
    return LUN_OK;
}

static lun_status norm_backward_scale(check_plan *plan, int d)
{
    const lun_op *op = &plan->base.op;
    const int64_t channels = op->src[0].shape.c;
    double *scale = plan->scale;
    const bool of_src = d == 0 || (d == 3 && op->attrs.norm.dbias); /* dsrc, and its sum */
    LUN_TRY(read_src(plan, 4));
    for (int64_t c = 0; c < channels; c++) { /* rms of dy (2 + |x rstd|): xhat may be made of x rstd - mean rstd */
        const double rstd = fabs((double)plan->host_src[c]);
        scale[c] = plan->g[c] * (2 + plan->x[c] * rstd) * (of_src ? rstd : 1) * (d == 0 ? 1 : sqrt(depth_of(op)));
    }
    if (!of_src)
        return LUN_OK;
    LUN_TRY(read_src(plan, 2));
    for (int64_t c = 0; c < channels; c++)
        scale[c] *= fabs((double)plan->host_src[c]);
    return LUN_OK;
}

static lun_status norm_scale(check_plan *plan, int d, rounding *bound)
{
    const lun_op *op = &plan->base.op;
    const int64_t channels = op->src[0].shape.c;
    double *scale = plan->scale;
    bound->scale = scale;
    bound->period = channels;
    if (op->kind == LUN_OP_BATCH_NORM_BACKWARD)
        return norm_backward_scale(plan, d);
    if (d == 0) {
        /* gamma (mean's error times rstd + rstd's relative error + 1) + beta, in units of x rstd */
        if (op->ndst > 1)
            LUN_TRY(lun_buffer_read(on_a(plan->dst[2]), plan->host_src, (size_t)channels * 4));
        else
            LUN_TRY(read_src(plan, 4));
        for (int64_t c = 0; c < channels; c++) {
            const double given = (double)plan->host_src[c];
            scale[c] = plan->x[c] * (op->ndst > 1 ? fabs(given) : 1 / sqrt(given + (double)op->attrs.norm.eps));
        }
        LUN_TRY(read_src(plan, 1));
        for (int64_t c = 0; c < channels; c++)
            scale[c] = fabs((double)plan->host_src[c]) * (1 + scale[c] + scale[c] * scale[c]);
        LUN_TRY(read_src(plan, 2));
        for (int64_t c = 0; c < channels; c++)
            scale[c] += fabs((double)plan->host_src[c]);
        if (lun_norm_is_shifted(op))
            LUN_TRY(read_src(plan, 5));
        for (int64_t c = 0; lun_norm_is_shifted(op) && c < channels; c++)
            scale[c] += rms(plan->host_src, lun_count(op->src[5].shape), c, channels);
        return LUN_OK;
    }
    double largest = 0;
    for (int64_t c = 0; c < channels; c++) { /* means have the size of x, variances of its square */
        scale[c] = d == 2 ? 0 : d == 4 ? plan->x[c] * plan->x[c] : plan->x[c];
        largest = plan->x[c] > largest ? plan->x[c] : largest;
    }
    if (d == 2)
        bound->cubic = largest * largest; /* d rstd = rstd^3 / 2 d var */
    return LUN_OK;
}

/* A convolution's statistics, of results that may differ by e (r + S) each, e = 64 u sqrt(L), r their rms in the
 * channel and S the plain scale: the mean by as much, and the variance, whose differences from the mean are r at most,
 * by 2 r e (r + S). Their own sums round less than that. */
static lun_status statistics_scale(check_plan *plan, int d, double plain)
{
    const lun_desc desc = plan->base.op.dst[d];
    const int64_t channels = desc.shape.c;
    LUN_TRY(lun_buffer_read(on_a(plan->dst[d]), plan->host_a, lun_bytes(desc)));
    for (int64_t c = 0; c < channels; c++) {
        const double mean = (double)plan->host_a[c], var = (double)plan->host_a[channels + c];
        const double size = sqrt(mean * mean + var);
        plan->scale[c] = isfinite(size) ? size + plain : plain;
        plan->scale[channels + c] = isfinite(size) ? 2 * size * (size + plain) : plain;
    }
    return LUN_OK;
}

/* Group norm: `plain` is the size of x for the norm itself, of the terms of dsrc for its gradient. */
static lun_status group_norm_scale(check_plan *plan, int d, double plain, rounding *bound)
{
    const lun_op *op = &plan->base.op;
    bound->add_rms = true;
    bound->scale = plan->scale;
    plan->scale[0] = plain;
    if (op->kind == LUN_OP_GROUP_NORM_BACKWARD) {
        plan->scale[0] = plain * (d == 0 ? 1 : sqrt(depth_of(op)));
    } else if (d == 0) {
        double gamma, beta, more;
        LUN_TRY(lun_buffer_read(on_a(plan->dst[2]), plan->host_src, lun_bytes(op->dst[2])));
        const double away = plain * rms(plan->host_src, lun_count(op->dst[2].shape), 0, 1);
        LUN_TRY(src_rms(plan, 1, &gamma));
        LUN_TRY(src_rms(plan, 2, &beta));
        LUN_TRY(src_rms(plan, 3, &more));
        plan->scale[0] = (gamma * (1 + away + away * away) + beta) * (1 + more) + more;
    } else if (d == 2) {
        plan->scale[0] = 0;
        bound->cubic = plain * plain; /* d rstd = rstd^3 / 2 d var */
    }
    return LUN_OK;
}

static lun_status find_bound(check_plan *plan, int d, double plain, rounding *out)
{
    const lun_op *op = &plan->base.op;
    *out = (rounding){.exact = is_exact(op->kind) || op->dst[d].dtype != LUN_F32,
                      .factor = ROUNDING * sqrt(depth_of(op)),
                      .period = 1};
    if (out->exact)
        return LUN_OK;
    if (op->kind == LUN_OP_BATCH_NORM || op->kind == LUN_OP_BATCH_NORM_BACKWARD)
        return norm_scale(plan, d, out);
    if (d == 1 && (op->kind == LUN_OP_CONV2D || op->kind == LUN_OP_CONV2D_TRANSPOSE)) {
        out->scale = plan->scale;
        out->period = 2 * op->dst[1].shape.c;
        return statistics_scale(plan, d, plain);
    }
    if (op->kind == LUN_OP_GROUP_NORM || op->kind == LUN_OP_GROUP_NORM_BACKWARD)
        return group_norm_scale(plan, d, plain, out);
    out->add_rms = true;
    plan->scale[0] = op->kind == LUN_OP_ADAM && d == 2 ? 0 : plain; /* v is a sum of squares: no cancellation */
    if (op->kind == LUN_OP_ADAM && (d == 0 || d == 3))
        plan->scale[0] = 0; /* the parameter's own size, or the average's */
    out->scale = plan->scale;
    return LUN_OK;
}

lun_status lun_check_sources(check_plan *plan, double *plain)
{
    const lun_op_kind kind = plan->base.op.kind;
    *plain = 0;
    return kind == LUN_OP_BATCH_NORM || kind == LUN_OP_BATCH_NORM_BACKWARD ? norm_sources(plan)
                                                                           : plain_scale(plan, plain);
}

/* What lies between the pixels of a destination was equal before and is nobody's to change. */
static lun_status compare_gaps(const check_plan *plan, int d)
{
    const lun_op *op = &plan->base.op;
    const lun_shape s = op->dst[d].shape;
    const int pitch = op->dst_pitch[d];
    for (int64_t pixel = 0; pitch && pixel + 1 < s.n * s.h * s.w; pixel++)
        if (memcmp(plan->host_a + pixel * pitch + s.c, plan->host_b + pixel * pitch + s.c,
                   (size_t)(pitch - s.c) * sizeof(float)) != 0) {
            char what[160];
            lun_op_describe(op, what, sizeof what);
            return lun_fail(LUN_ERR_DEVICE, "check: %s: %s or %s wrote behind the channels of pixel %lld", what,
                            plan->a->candidate, plan->b->candidate, (long long)pixel);
        }
    return LUN_OK;
}

/* The worst element, or the first one that is a number on one side only. */
typedef struct difference {
    int64_t element;
    double share, allowed; /* of lun_check_finding; what was allowed there */
} difference;

static difference find_worst(const check_plan *plan, int d, const rounding *bound)
{
    const lun_op *op = &plan->base.op;
    const int64_t count = lun_count(op->dst[d].shape);
    const float *a = plan->host_a, *b = plan->host_b;
    const bool words = op->dst[d].dtype != LUN_F32;
    const double size = bound->add_rms ? rms(a, count, 0, 1) : 0;
    difference worst = {0, 0, 0};
    for (int64_t i = 0; i < count && !isinf(worst.share); i++) {
        double allowed = 0, share;
        if (memcmp(&a[i], &b[i], 4) == 0)
            continue;
        if (words) {
            share = INFINITY;
        } else if (isnan(a[i]) || isnan(b[i]) || isinf(a[i]) || isinf(b[i])) {
            share = (isnan(a[i]) && isnan(b[i])) || a[i] == b[i] ? 0 : INFINITY;
        } else {
            const double mine = fabs((double)a[i]), apart = fabs((double)a[i] - (double)b[i]);
            if (!bound->exact)
                allowed = bound->factor *
                              (mine + bound->cubic * mine * mine * mine + size + bound->scale[i % bound->period]) +
                          FLUSHED;
            share = apart == 0 ? 0 : allowed > 0 ? apart / allowed : INFINITY;
        }
        if (!(share <= worst.share))
            worst = (difference){i, share, allowed};
    }
    return worst;
}

static lun_status describe_difference(const check_plan *plan, int d, const difference *worst)
{
    const lun_op *op = &plan->base.op;
    const check_state *state = plan->base.device->state;
    const long long at = worst->element, count = lun_count(op->dst[d].shape);
    const float *a = plan->host_a, *b = plan->host_b;
    char what[160];
    lun_op_describe(op, what, sizeof what);
    if (op->dst[d].dtype != LUN_F32) {
        uint32_t x, y;
        memcpy(&x, &a[at], 4);
        memcpy(&y, &b[at], 4);
        return lun_fail(
            LUN_ERR_DEVICE, "check: %s: destination %d differs at stored element %lld of %lld: %s (%s) %u, %s (%s) %u",
            what, d, at, count, state->a->info.spec, plan->a->candidate, x, state->b->info.spec, plan->b->candidate, y);
    }
    return lun_fail(
        LUN_ERR_DEVICE,
        "check: %s: destination %d differs at stored element %lld of %lld: %s (%s) %.9g, %s (%s) %.9g; %.3g is allowed",
        what, d, at, count, state->a->info.spec, plan->a->candidate, (double)a[at], state->b->info.spec,
        plan->b->candidate, (double)b[at], worst->allowed);
}

lun_status lun_check_compare(check_plan *plan, int d, double plain, bool equal)
{
    const check_state *state = plan->base.device->state;
    const lun_op *op = &plan->base.op;
    difference worst = {0, 0, 0};
    lun_status status = LUN_OK;
    if (!equal) {
        rounding bound;
        LUN_TRY(find_bound(plan, d, plain, &bound));
        status = compare_gaps(plan, d);
        squeeze(plan->host_a, op->dst[d].shape, op->dst_pitch[d]);
        squeeze(plan->host_b, op->dst[d].shape, op->dst_pitch[d]);
        if (status != LUN_OK)
            worst.share = INFINITY;
        else
            worst = find_worst(plan, d, &bound);
        if (status == LUN_OK && !(worst.share <= 1))
            status = describe_difference(plan, d, &worst);
    }
    if (!state->observe)
        return status;
    const lun_check_finding finding = {.op = op,
                                       .candidate_a = plan->a->candidate,
                                       .candidate_b = plan->b->candidate,
                                       .dst = d,
                                       .share = worst.share,
                                       .detail = status != LUN_OK ? lun_error_detail() : NULL};
    state->observe(state->payload, &finding);
    return LUN_OK;
}
