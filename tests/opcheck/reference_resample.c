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
