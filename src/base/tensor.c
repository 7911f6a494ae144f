#include <inttypes.h>

#include <lunette/tensor.h>

#include "base.h"

lun_status lun_desc_check(lun_desc desc)
{
    const int64_t dims[4] = {desc.shape.n, desc.shape.c, desc.shape.h, desc.shape.w};
    int64_t count = 1;
    for (int i = 0; i < 4; i++) {
        if (dims[i] < 1 || dims[i] > INT32_MAX || count > INT32_MAX / dims[i])
            return lun_fail(LUN_ERR_USAGE,
                            "shape (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "): every dimension must be at "
                            "least 1 and the element count below 2^31",
                            dims[0], dims[1], dims[2], dims[3]);
        count *= dims[i];
    }
    return LUN_OK;
}

/* Storage index = a*stride_a + ...: walk the API order and keep the storage strides beside it. */
static void strides(lun_desc desc, size_t stride[4])
{
    const lun_shape s = desc.shape;
    if (desc.layout == LUN_IMAGE) { /* N H W C */
        stride[1] = 1;
        stride[3] = (size_t)s.c;
        stride[2] = stride[3] * (size_t)s.w;
        stride[0] = stride[2] * (size_t)s.h;
    } else { /* R S C K */
        stride[0] = 1;
        stride[1] = (size_t)s.n;
        stride[3] = stride[1] * (size_t)s.c;
        stride[2] = stride[3] * (size_t)s.w;
    }
}

void lun_to_storage(lun_desc desc, const void *src, void *dst)
{
    const lun_shape s = desc.shape;
    const uint32_t *from = src;
    uint32_t *to = dst;
    size_t stride[4];
    strides(desc, stride);
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++)
            for (int64_t h = 0; h < s.h; h++)
                for (int64_t w = 0; w < s.w; w++)
                    to[(size_t)n * stride[0] + (size_t)c * stride[1] + (size_t)h * stride[2] + (size_t)w * stride[3]] =
                        *from++;
}

void lun_from_storage(lun_desc desc, const void *src, void *dst)
{
    const lun_shape s = desc.shape;
    const uint32_t *from = src;
    uint32_t *to = dst;
    size_t stride[4];
    strides(desc, stride);
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++)
            for (int64_t h = 0; h < s.h; h++)
                for (int64_t w = 0; w < s.w; w++)
                    *to++ = from[(size_t)n * stride[0] + (size_t)c * stride[1] + (size_t)h * stride[2] +
                                 (size_t)w * stride[3]];
}
