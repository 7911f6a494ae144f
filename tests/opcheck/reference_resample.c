#include <math.h>
#include <stddef.h>

#include "reference.h"

void ref_upsample2(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[0].shape, d = op->dst[0].shape;
    const double factor = op->attrs.resample.mean ? 0.25 : 1;
    for (int64_t plane = 0; plane < s.n * s.c; plane++)
        for (int64_t h = 0; h < d.h; h++)
            for (int64_t w = 0; w < d.w; w++) {
                const int64_t to = (plane * d.h + h) * d.w + w;
                dst[0][to] = factor * src[0][(plane * s.h + h / 2) * s.w + w / 2];
                if (mag[0] != NULL)
                    mag[0][to] = fabs(dst[0][to]);
            }
}

void ref_pool2(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const lun_shape s = op->src[0].shape, d = op->dst[0].shape;
    const double factor = op->attrs.resample.mean ? 0.25 : 1;
    for (int64_t i = 0; i < lun_count(d); i++) {
        dst[0][i] = 0;
        if (mag[0] != NULL)
            mag[0][i] = 0;
    }
    for (int64_t plane = 0; plane < s.n * s.c; plane++)
        for (int64_t h = 0; h < s.h; h++)
            for (int64_t w = 0; w < s.w; w++) {
                const int64_t to = (plane * d.h + h / 2) * d.w + w / 2;
                const double term = factor * src[0][(plane * s.h + h) * s.w + w];
                dst[0][to] += term;
                if (mag[0] != NULL)
                    mag[0][to] += fabs(term);
            }
}

/* As the definition says it: tap r of the filter, moved by one of the pixels that it meets, is the other's tap R - 1 -
 * r
 * + a. So each of 2 x 2 such pairs goes from here to there, or back. */
static void filter_pairs(const lun_shape taps, const double *from, double *to, double *mag, bool up)
{
    const int64_t count = (up ? (taps.h + 1) * (taps.w + 1) : taps.h * taps.w) * taps.n * taps.c;
    for (int64_t i = 0; i < count; i++) {
        to[i] = 0;
        if (mag != NULL)
            mag[i] = 0;
    }
    for (int64_t k = 0; k < taps.n; k++)
        for (int64_t c = 0; c < taps.c; c++)
            for (int64_t r = 0; r < taps.h; r++)
                for (int64_t s = 0; s < taps.w; s++)
                    for (int64_t pair = 0; pair < 4; pair++) {
                        const int64_t small = ((k * taps.c + c) * taps.h + r) * taps.w + s;
                        const int64_t y = taps.h - 1 - r + pair / 2, x = taps.w - 1 - s + pair % 2;
                        const int64_t big = ((c * taps.n + k) * (taps.h + 1) + y) * (taps.w + 1) + x;
                        const double term = from[up ? small : big];
                        to[up ? big : small] += term;
                        if (mag != NULL)
                            mag[up ? big : small] += fabs(term);
                    }
}

void ref_upsample2_filter(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    filter_pairs(op->src[0].shape, src[0], dst[0], mag[0], true);
}

void ref_pool2_filter(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    filter_pairs(op->dst[0].shape, src[0], dst[0], mag[0], false);
}

void ref_embed_backward(const lun_op *op, const double *const *src, double *const *dst, double *const *mag)
{
    const int64_t rows = op->dst[0].shape.n, width = op->dst[0].shape.c;
    for (int64_t i = 0; i < rows * width; i++) {
        dst[0][i] = 0;
        if (mag[0] != NULL)
            mag[0][i] = 0;
    }
    for (int64_t n = 0; n < op->src[0].shape.n; n++) {
        const int64_t row = (int64_t)fmin(fmax(src[0][n], 0), (double)(rows - 1));
        for (int64_t d = 0; d < width; d++) {
            dst[0][row * width + d] += src[1][n * width + d];
            if (mag[0] != NULL)
                mag[0][row * width + d] += fabs(src[1][n * width + d]);
        }
    }
}
