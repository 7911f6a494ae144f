#include <math.h>
#include <stddef.h>

#include "reference.h"

/* Where q, k and v of one head of one image begin: [channel][pixel]. */
typedef struct head {
    const double *q, *k, *v;
    int64_t width, pixels;
    double scale;
} head;

static int64_t channel_of(const lun_op *op, int64_t h, int part)
{
    const int64_t c = op->src[0].shape.c / 3, width = c / op->attrs.attention.heads;
    return op->attrs.attention.split ? part * c + h * width : (3 * h + part) * width;
}

static head find(const lun_op *op, const double *qkv, int64_t n, int64_t h)
{
    const lun_shape s = op->src[0].shape;
    const int64_t pixels = s.h * s.w, width = s.c / 3 / op->attrs.attention.heads;
    const double *base = qkv + n * s.c * pixels;
    return (head){.q = base + channel_of(op, h, 0) * pixels,
                  .k = base + channel_of(op, h, 1) * pixels,
                  .v = base + channel_of(op, h, 2) * pixels,
                  .width = width,
                  .pixels = pixels,
                  .scale = 1 / sqrt((double)width)};
}

/* sum over channels of a[.][i] b[.][j] */
static double product(const head *a, const double *x, int64_t i, const double *y, int64_t j)
{
    double sum = 0;
    for (int64_t c = 0; c < a->width; c++)
        sum += x[c * a->pixels + i] * y[c * a->pixels + j];
    return sum;
}

/* mag of dst: sum of p |v| */
void ref_attention(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const int64_t heads = op->attrs.attention.heads;
    for (int64_t line = 0; line < op->src[0].shape.n * heads; line++) {
        const head a = find(op, src[0], line / heads, line % heads);
        for (int64_t i = 0; i < a.pixels; i++) {
            double top = -INFINITY, sum = 0;
            for (int64_t j = 0; j < a.pixels; j++)
                top = fmax(top, a.scale * product(&a, a.q, i, a.k, j));
            for (int64_t c = 0; c < a.width; c++) {
                const int64_t to = (line * a.width + c) * a.pixels + i; /* heads lie one after the other */
                dst[0][to] = 0;
                if (mag[0] != NULL)
                    mag[0][to] = 0;
            }
            for (int64_t j = 0; j < a.pixels; j++) {
                const double p = exp(a.scale * product(&a, a.q, i, a.k, j) - top);
                sum += p;
                for (int64_t c = 0; c < a.width; c++) {
                    const int64_t to = (line * a.width + c) * a.pixels + i;
                    dst[0][to] += p * a.v[c * a.pixels + j];
                    if (mag[0] != NULL)
                        mag[0][to] += fabs(p * a.v[c * a.pixels + j]);
                }
            }
            for (int64_t c = 0; c < a.width; c++) {
                const int64_t to = (line * a.width + c) * a.pixels + i;
                dst[0][to] /= sum;
                if (mag[0] != NULL)
                    mag[0][to] /= sum;
            }
            dst[1][line * a.pixels + i] = top + log(sum);
            if (mag[1] != NULL)
                mag[1][line * a.pixels + i] = fabs(top) + log(sum);
        }
    }
}

static void gather(double *dst, double *mag, int64_t at, double term)
{
    dst[at] += term;
    if (mag != NULL)
        mag[at] += fabs(term);
}

void ref_attention_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const int64_t heads = op->attrs.attention.heads;
    for (int64_t i = 0; i < lun_count(op->dst[0].shape); i++) {
        dst[0][i] = 0;
        if (mag[0] != NULL)
            mag[0][i] = 0;
    }
    for (int64_t line = 0; line < op->src[0].shape.n * heads; line++) {
        const head a = find(op, src[0], line / heads, line % heads);
        const double *result = src[1] + line * a.width * a.pixels, *d = src[2] + line * a.width * a.pixels;
        const int64_t q = a.q - src[0], k = a.k - src[0], v = a.v - src[0]; /* in dqkv they lie likewise */
        for (int64_t i = 0; i < a.pixels; i++) {
            const double delta = product(&a, result, i, d, i);
            for (int64_t j = 0; j < a.pixels; j++) {
                const double p = exp(a.scale * product(&a, a.q, i, a.k, j) - src[3][line * a.pixels + i]);
                const double g = a.scale * p * (product(&a, d, i, a.v, j) - delta);
                for (int64_t c = 0; c < a.width; c++) {
                    const int64_t at_i = c * a.pixels + i, at_j = c * a.pixels + j;
                    gather(dst[0], mag[0], q + at_i, g * a.k[at_j]);
                    gather(dst[0], mag[0], k + at_j, g * a.q[at_i]);
                    gather(dst[0], mag[0], v + at_j, p * d[at_i]);
                }
            }
        }
    }
}
