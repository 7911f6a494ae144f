#include <math.h>
#include <stddef.h>

#include "base/philox.h"
#include "reference.h"

static void note(double *const *mag, int64_t i, double value)
{
    if (mag[0] != NULL)
        mag[0][i] = value;
}

/* NaN stays NaN: a broken number must not turn into a plausible one. */
void ref_relu(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        dst[0][i] = src[0][i] <= 0 ? 0 : src[0][i];
        note(mag, i, fabs(src[0][i]));
    }
}

void ref_relu_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        dst[0][i] = src[0][i] > 0 ? src[1][i] : 0;
        note(mag, i, fabs(src[1][i]));
    }
}

/* x / (1 + exp(-x)) */
void ref_silu(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        dst[0][i] = src[0][i] / (1 + exp(-src[0][i]));
        note(mag, i, fabs(src[0][i]));
    }
}

void ref_silu_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        const double x = src[0][i], s = 1 / (1 + exp(-x)), rest = 1 / (1 + exp(x));
        dst[0][i] = src[1][i] * (s + x * s * rest);
        note(mag, i, fabs(src[1][i]));
    }
}

/* The normal distribution function by erfc, which keeps the small values below 0. */
static double normal(double x)
{
    return erfc(-x * sqrt(0.5)) / 2;
}

void ref_gelu(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        dst[0][i] = src[0][i] * normal(src[0][i]);
        note(mag, i, fabs(src[0][i]));
    }
}

void ref_gelu_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        const double x = src[0][i], density = exp(-x * x / 2) / sqrt(2 * acos(-1.0));
        dst[0][i] = src[1][i] * (normal(x) + x * density);
        note(mag, i, fabs(src[1][i]));
    }
}

void ref_add(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        dst[0][i] = src[0][i] + src[1][i];
        note(mag, i, fabs(src[0][i]) + fabs(src[1][i]));
    }
}

void ref_add_channel(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const int64_t area = op->dst[0].shape.h * op->dst[0].shape.w;
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        dst[0][i] = src[0][i] + src[1][i / area];
        note(mag, i, fabs(src[0][i]) + fabs(src[1][i / area]));
    }
}

void ref_concat(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape a = op->src[0].shape, b = op->src[1].shape;
    const int64_t area = a.h * a.w;
    for (int64_t n = 0; n < a.n; n++)
        for (int64_t c = 0; c < a.c + b.c; c++)
            for (int64_t i = 0; i < area; i++) {
                const int64_t to = (n * (a.c + b.c) + c) * area + i;
                dst[0][to] = c < a.c ? src[0][(n * a.c + c) * area + i] : src[1][(n * b.c + c - a.c) * area + i];
                note(mag, to, fabs(dst[0][to]));
            }
}

void ref_slice(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[0].shape;
    const int64_t area = s.h * s.w, first = op->attrs.slice.first, count = op->attrs.slice.count;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < count; c++)
            for (int64_t i = 0; i < area; i++) {
                const int64_t to = (n * count + c) * area + i;
                dst[0][to] = src[0][(n * s.c + first + c) * area + i];
                note(mag, to, fabs(dst[0][to]));
            }
}

void ref_embed(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const int64_t rows = op->src[1].shape.n, width = op->src[1].shape.c;
    for (int64_t n = 0; n < op->src[0].shape.n; n++)
        for (int64_t d = 0; d < width; d++) {
            dst[0][n * width + d] = src[1][ref_row(src[0][n], rows) * width + d];
            note(mag, n * width + d, fabs(dst[0][n * width + d]));
        }
}

void ref_noise(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->dst[0].shape;
    const int64_t per_image = s.c * s.h * s.w;
    for (int64_t i = 0; i < lun_count(s); i++) {
        const double *row = src[3] + 2 * ref_row(src[2][i / per_image], op->src[3].shape.n);
        dst[0][i] = row[0] * src[0][i] + row[1] * src[1][i];
        note(mag, i, fabs(row[0] * src[0][i]) + fabs(row[1] * src[1][i]));
    }
}

double ref_loss_of(lun_loss_attrs a, double d)
{
    switch (a.kind) {
    case LUN_LOSS_L1: return fabs(d);
    case LUN_LOSS_L2: return d * d;
    case LUN_LOSS_HUBER: break;
    }
    const double delta = (double)a.delta;
    return fabs(d) <= delta ? d * d / 2 : delta * (fabs(d) - delta / 2);
}

double ref_slope_of(lun_loss_attrs a, double d)
{
    switch (a.kind) {
    case LUN_LOSS_L1: return (d > 0) - (d < 0);
    case LUN_LOSS_L2: return 2 * d;
    case LUN_LOSS_HUBER: break;
    }
    const double delta = (double)a.delta;
    return fmin(fmax(d, -delta), delta);
}

/* mag: the mean of what is added and subtracted: delta (|d| + delta/2) on Huber's straight part */
void ref_loss(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const int64_t count = lun_count(op->src[0].shape);
    const lun_loss_attrs a = op->attrs.loss;
    double sum = 0, sum_mag = 0;
    for (int64_t i = 0; i < count; i++) {
        const double d = src[0][i] - src[1][i], delta = (double)a.delta;
        sum += ref_loss_of(a, d);
        sum_mag += a.kind == LUN_LOSS_HUBER && fabs(d) > delta ? delta * (fabs(d) + delta / 2) : ref_loss_of(a, d);
    }
    dst[0][0] = sum / (double)count;
    note(mag, 0, sum_mag / (double)count);
}

void ref_loss_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const int64_t count = lun_count(op->src[0].shape);
    for (int64_t i = 0; i < count; i++) {
        dst[0][i] = ref_slope_of(op->attrs.loss, src[0][i] - src[1][i]) * src[2][0] / (double)count;
        note(mag, i, fabs(dst[0][i]));
    }
}

/* dst: param, m, v. mag[0] is |update|. */
void ref_adam(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_adam_attrs a = op->attrs.adam;
    const double b1 = (double)a.beta1, b2 = (double)a.beta2, wd = (double)a.weight_decay;
    const double lr = src[4][0], correct1 = src[4][1], correct2 = src[4][2];
    const double scale = lun_adam_scale(op) >= 0 ? src[lun_adam_scale(op)][0] : 1;
    for (int64_t i = 0; i < lun_count(op->src[0].shape); i++) {
        double p = src[0][i], g = scale * src[1][i];
        if (src[4][3] == 1) {
            for (int d = 0; d < 3; d++)
                dst[d][i] = src[d == 0 ? 0 : d + 1][i];
            if (op->ndst > 3)
                dst[3][i] = src[6][i];
            note(mag, i, fabs(p));
            continue;
        }
        if (a.decoupled)
            p -= lr * wd * p;
        else
            g += wd * p;
        const double m = b1 * src[2][i] + (1 - b1) * g;
        const double v = b2 * src[3][i] + (1 - b2) * g * g;
        const double update = lr / correct1 * m / (sqrt(v) / correct2 + (double)a.eps);
        dst[0][i] = p - update;
        dst[1][i] = m;
        dst[2][i] = v;
        note(mag, i, fabs(update));
        if (op->ndst > 3)
            dst[3][i] = src[6][i] + src[5][0] * (dst[0][i] - src[6][i]);
    }
}

/* Element e of sample n: word e % 4 of the block e / 4 of that row. */
static uint32_t draw(const double *row, int64_t e, uint32_t block[4])
{
    const uint32_t key[2] = {(uint32_t)row[0], (uint32_t)row[1]};
    const uint32_t counter[4] = {(uint32_t)(e / 4), (uint32_t)row[2], (uint32_t)row[3], (uint32_t)row[4]};
    lun_philox(counter, key, block);
    return block[e % 4];
}

void ref_randint(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_random_attrs a = op->attrs.random;
    const int64_t per_row = (int64_t)a.c * a.h * a.w;
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        uint32_t block[4];
        const uint64_t x = draw(src[0] + i / per_row * LUN_RANDOM_ROW, i % per_row, block);
        dst[0][i] = (double)((x * a.bound) >> 32);
        note(mag, i, 1);
    }
}

/* Box and Muller, 1958, on the words of a block in pairs: radius from the first, angle from the second, with the
 * uniforms of base/philox.h; the cosine is the pair's first normal. */
void ref_randn(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_random_attrs a = op->attrs.random;
    const int64_t per_row = (int64_t)a.c * a.h * a.w;
    const double turn = 6.283185307179586476925;
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        uint32_t block[4];
        draw(src[0] + i / per_row * LUN_RANDOM_ROW, i % per_row, block);
        const uint32_t *pair = block + i % per_row % 4 / 2 * 2;
        const double u = (2 * (double)(pair[0] >> 9) + 1) * 0x1p-24, v = (2 * (double)(pair[1] >> 9) + 1) * 0x1p-24;
        dst[0][i] = sqrt(-2 * log(u)) * (i % per_row % 2 == 0 ? cos(turn * v) : sin(turn * v));
        note(mag, i, 1);
    }
}

/* Dropped where the draw is below p 2^32; the stream is added to the row's sub. */
void ref_dropout(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_dropout_attrs a = op->attrs.dropout;
    const lun_shape s = op->dst[0].shape;
    const int64_t per_row = s.c * s.h * s.w;
    for (int64_t i = 0; i < lun_count(s); i++) {
        double row[LUN_RANDOM_ROW];
        uint32_t block[4];
        for (int k = 0; k < LUN_RANDOM_ROW; k++)
            row[k] = src[1][i / per_row * LUN_RANDOM_ROW + k] + (k == 4 ? a.stream : 0);
        const bool dropped = (double)draw(row, i % per_row, block) < (double)a.p * 0x1p32;
        dst[0][i] = dropped ? src[0][i] * 0 : src[0][i] / (1 - (double)a.p); /* NaN stays NaN */
        note(mag, i, fabs(src[0][i]));
    }
}

void ref_sample_step(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const double *k = src[3];
    const lun_shape s = op->dst[0].shape;
    const int64_t per_image = s.c * s.h * s.w, wide = op->src[1].shape.c / s.c;
    for (int64_t i = 0; i < lun_count(s); i++) {
        const int64_t at = i / per_image * per_image * wide + i % per_image;
        const double x = src[0][i], eps = src[1][at];
        const double z = op->attrs.sample.learned ? exp(k[6] + k[7] * src[1][at + per_image]) * src[2][i] : src[2][i];
        double x0 = k[0] * x + k[1] * eps;
        if (op->attrs.sample.clip == LUN_CLIP_X0)
            x0 = fmin(fmax(x0, -1), 1);
        double y = k[2] * x0 + k[3] * x + k[4] * eps + k[5] * z;
        if (op->attrs.sample.clip == LUN_CLIP_XT)
            y = fmin(fmax(y, -1), 1);
        dst[0][i] = y;
        note(mag, i,
             fabs(k[2]) * (fabs(k[0] * x) + fabs(k[1] * eps)) + fabs(k[3] * x) + fabs(k[4] * eps) + fabs(k[5] * z));
    }
}

void ref_store(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        dst[0][i] = (int64_t)src[2][0] == i ? src[1][0] : src[0][i];
        note(mag, i, fabs(dst[0][i]));
    }
}

void ref_op(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    static ref_fn *const table[LUN_OP_KIND_COUNT] = {
#define X(KIND, name) [LUN_OP_##KIND] = ref_##name,
        LUN_OP_KINDS(X)
#undef X
    };
    table[op->kind](op, src, dst, mag);
}
