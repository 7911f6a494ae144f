/* Ops to infer: made, refused, accepted. For the tests of tier op. */
#ifndef TEST_OP_RULES_H
#define TEST_OP_RULES_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "op/op.h"

static inline lun_op make(lun_op_kind kind, int nsrc, const lun_desc *src)
{
    lun_op op = {.kind = kind, .nsrc = nsrc};
    for (int i = 0; i < nsrc; i++)
        op.src[i] = src[i];
    return op;
}
#define OP(kind, ...)                                                                                                  \
    make(LUN_OP_##kind, (int)LUN_COUNT(((const lun_desc[]){__VA_ARGS__})), (const lun_desc[]){__VA_ARGS__})
#define V(c)    lun_image(1, c, 1, 1)
#define I32(n)  lun_typed(lun_image(n, 1, 1, 1), LUN_I32)
#define ROWS(n) lun_typed(lun_image(n, 8, 1, 1), LUN_U32)

/* The op is refused as misuse, with a reason that has these words and names it, and is left as it was. */
static inline void refused(lun_op op, const char *words, int line)
{
    lun_op before = op;
    ck_assert_msg(lun_op_infer(&op) == LUN_ERR_USAGE, "line %d: accepted", line);
    ck_assert_msg(strstr(lun_error_detail(), words) != NULL, "line %d: '%s' lacks '%s'", line, lun_error_detail(),
                  words);
    ck_assert_msg(memcmp(&op, &before, sizeof op) == 0, "line %d: outputs touched", line);
}
#define REFUSED(op, words) refused(op, words, __LINE__)

static inline void accepted(lun_op op, int ndst, const lun_desc *want, int line)
{
    ck_assert_msg(lun_op_infer(&op) == LUN_OK, "line %d: %s", line, lun_error_detail());
    ck_assert_msg(op.ndst == ndst, "line %d: %d destinations", line, op.ndst);
    for (int i = 0; i < ndst; i++)
        ck_assert_msg(op.dst[i].dtype == want[i].dtype && op.dst[i].layout == want[i].layout &&
                          lun_shape_equal(op.dst[i].shape, want[i].shape),
                      "line %d: destination %d", line, i);
}
#define ACCEPTED(op, ...)                                                                                              \
    accepted(op, (int)LUN_COUNT(((const lun_desc[]){__VA_ARGS__})), (const lun_desc[]){__VA_ARGS__}, __LINE__)

static inline lun_op conv(lun_op op, int stride_h, int stride_w, int pad_h, int pad_w)
{
    op.attrs.conv = (lun_conv_attrs){.stride_h = stride_h, .stride_w = stride_w, .pad_h = pad_h, .pad_w = pad_w};
    return op;
}

static inline lun_op sized(lun_op op, int kernel_h, int kernel_w, int out_h, int out_w)
{
    op.attrs.conv.kernel_h = kernel_h;
    op.attrs.conv.kernel_w = kernel_w;
    op.attrs.conv.out_h = out_h;
    op.attrs.conv.out_w = out_w;
    return op;
}

/* So much more padding below and on the right than above and on the left. */
static inline lun_op sided(lun_op op, int more_h, int more_w)
{
    op.attrs.conv.more_h = more_h;
    op.attrs.conv.more_w = more_w;
    return op;
}

static inline lun_op norm(lun_op op, float eps, float momentum, bool training, bool update)
{
    op.attrs.norm = (lun_norm_attrs){.eps = eps, .momentum = momentum, .training = training, .update = update};
    return op;
}

static inline lun_op group(lun_op op, int groups, float eps)
{
    op.attrs.group = (lun_group_attrs){.eps = eps, .groups = groups};
    return op;
}

#endif
