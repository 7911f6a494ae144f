/* SiLU and GELU, with their gradients; the formulas are in src/op/silu.c. An item is a contiguous piece, as in
 * elementwise.cl. dst may be src. */
#include "kernel.h"
#include "elementwise.h"
#include "special.h"

KERNEL2(silu, struct flat_args, GLOBAL const float *src, GLOBAL float *dst)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    INDEPENDENT
    for (int i = first; i < end; i++)
        dst[i] = f_silu(src[i]);
}

KERNEL3(silu_backward, struct flat_args, GLOBAL const float *src, GLOBAL const float *ddst, GLOBAL float *dsrc)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    INDEPENDENT
    for (int i = first; i < end; i++)
        dsrc[i] = ddst[i] * f_silu_slope(src[i]);
}

KERNEL2(gelu, struct flat_args, GLOBAL const float *src, GLOBAL float *dst)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    INDEPENDENT
    for (int i = first; i < end; i++) {
        float density;
        dst[i] = src[i] * f_normal(src[i], &density);
    }
}

KERNEL3(gelu_backward, struct flat_args, GLOBAL const float *src, GLOBAL const float *ddst, GLOBAL float *dsrc)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    INDEPENDENT
    for (int i = first; i < end; i++) {
        float density;
        const float below = f_normal(src[i], &density);
        dsrc[i] = ddst[i] * f_madd(src[i], density, below);
    }
}
