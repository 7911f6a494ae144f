/* Shapes, element types and storage order.
 *
 * The API speaks of N, C, H, W. Storage is channels-last: an image tensor lies as N H W C, a filter
 * with PyTorch's shape (K, C, R, S) lies as R S C K. Host arrays that cross the API are always in the
 * API's order (N C H W, K C R S); lunette permutes on the way in and out.
 */
#ifndef LUNETTE_TENSOR_H
#define LUNETTE_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lun_dtype {
    LUN_F32,
    LUN_I32, /* time steps, labels */
    LUN_U32  /* random counters */
} lun_dtype;

typedef enum lun_layout {
    LUN_IMAGE, /* shape (N, C, H, W), stored N H W C; vectors are (N, C, 1, 1) or (1, C, 1, 1) */
    LUN_FILTER /* shape (K, C, R, S), stored R S C K; a Linear weight (out, in) is (out, in, 1, 1) */
} lun_layout;

/* For LUN_FILTER read n, c, h, w as K, C, R, S. All four are at least 1. */
typedef struct lun_shape {
    int64_t n, c, h, w;
} lun_shape;

typedef struct lun_desc {
    lun_dtype dtype;
    lun_layout layout;
    lun_shape shape;
} lun_desc;

static inline lun_shape lun_shape4(int64_t n, int64_t c, int64_t h, int64_t w)
{
    lun_shape shape = {n, c, h, w};
    return shape;
}

static inline lun_desc lun_image(int64_t n, int64_t c, int64_t h, int64_t w)
{
    lun_desc desc = {LUN_F32, LUN_IMAGE, {n, c, h, w}};
    return desc;
}

static inline lun_desc lun_filter(int64_t k, int64_t c, int64_t r, int64_t s)
{
    lun_desc desc = {LUN_F32, LUN_FILTER, {k, c, r, s}};
    return desc;
}

static inline lun_desc lun_typed(lun_desc desc, lun_dtype dtype)
{
    desc.dtype = dtype;
    return desc;
}

static inline int lun_shape_equal(lun_shape a, lun_shape b)
{
    return a.n == b.n && a.c == b.c && a.h == b.h && a.w == b.w;
}

/* Number of elements of a shape that lun_desc_check() has accepted. */
static inline int64_t lun_count(lun_shape shape)
{
    return shape.n * shape.c * shape.h * shape.w;
}

/* Bytes of storage; every element type has four bytes. */
static inline size_t lun_bytes(lun_desc desc)
{
    return (size_t)lun_count(desc.shape) * 4;
}

/* LUN_ERR_USAGE unless every dimension is at least 1 and the element count is below 2^31: kernels
 * index one tensor with 32-bit integers. */
LUN_API lun_status lun_desc_check(lun_desc desc);

/* Permute `count(desc)` 4-byte elements between API order and storage order. src and dst must not overlap. */
LUN_API void lun_to_storage(lun_desc desc, const void *src, void *dst);
LUN_API void lun_from_storage(lun_desc desc, const void *src, void *dst);

#ifdef __cplusplus
}
#endif
#endif
