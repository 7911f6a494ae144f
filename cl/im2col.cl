/* The matrices around an external matrix product: im2col, its adjoint col2im as a gather (no atomics), and the bias.
 *
 * col[row - first_row, (r S + s) C + c] = src[n, oy stride - pad + r, ox stride - pad + s, c], zero outside. Items copy
 * `per_item` elements, in pieces of whole channels where they can. */
#include "kernel.h"
#include "conv2d.h"

/* count = rows R S C elements of this piece */
KERNEL2(im2col, struct im2col_args, GLOBAL const float *src, GLOBAL float *col)
{
    int at = item * arg.per_item;
    const int end = at + i_min(arg.per_item, arg.count - at);
    while (at < end) {
        const int line = at / arg.src_c, c0 = at - line * arg.src_c;
        const int taps = arg.kernel_h * arg.kernel_w;
        const int local_row = line / taps, tap = line - local_row * taps;
        const int r = tap / arg.kernel_w, s = tap - r * arg.kernel_w;
        const int row = arg.first_row + local_row;
        const int ox = row % arg.out_w, oy = row / arg.out_w % arg.out_h, n = row / arg.out_w / arg.out_h;
        const int y = oy * arg.stride_h - arg.pad_h + r, x = ox * arg.stride_w - arg.pad_w + s;
        const int count = i_min(arg.src_c - c0, end - at);
        if (y >= 0 && y < arg.src_h && x >= 0 && x < arg.src_w) {
            GLOBAL const float *from = src + ((long)(n * arg.src_h + y) * arg.src_w + x) * arg.src_pitch + c0;
            for (int c = 0; c < count; c++)
                col[at + c] = from[c];
        } else {
            for (int c = 0; c < count; c++)
                col[at + c] = 0.0f;
        }
        at += count;
    }
}

/* dst[n, y, x, c] = bias[c] + sum over (r, s) of col[(n, oy, ox), (r S + s) C + c], where oy stride - pad + r = y. Here
 * src_* is the image written, out_* the grid of col's rows, first_row the first of this piece's image pixels,
 * and col begins at the row of that pixel's sample. count = rows C elements. */
KERNEL3(col2im, struct im2col_args, GLOBAL const float *col, GLOBAL const float *bias, GLOBAL float *dst)
{
    int at = item * arg.per_item;
    const int end = at + i_min(arg.per_item, arg.count - at);
    const int depth = arg.kernel_h * arg.kernel_w * arg.src_c;
    while (at < end) {
        const int pixel = at / arg.src_c, c0 = at - pixel * arg.src_c;
        const int count = i_min(arg.src_c - c0, end - at);
        const int x = pixel % arg.src_w, y = pixel / arg.src_w % arg.src_h, n = pixel / arg.src_w / arg.src_h;
        GLOBAL float *to = dst + (long)(arg.first_row + pixel) * arg.src_pitch + c0;
        for (int c = 0; c < count; c++)
            to[c] = arg.has_bias ? bias[c0 + c] : 0.0f;
        for (int r = 0; r < arg.kernel_h; r++) {
            const int ry = y + arg.pad_h - r, oy = ry / arg.stride_h;
            if (ry < 0 || oy >= arg.out_h || oy * arg.stride_h != ry)
                continue;
            for (int s = 0; s < arg.kernel_w; s++) {
                const int rx = x + arg.pad_w - s, ox = rx / arg.stride_w;
                if (rx < 0 || ox >= arg.out_w || ox * arg.stride_w != rx)
                    continue;
                GLOBAL const float *from = col + (long)((n * arg.out_h + oy) * arg.out_w + ox) * depth +
                                           (r * arg.kernel_w + s) * arg.src_c + c0;
                for (int c = 0; c < count; c++)
                    to[c] += from[c];
            }
        }
        if (arg.relu)
            for (int c = 0; c < count; c++)
                to[c] = to[c] < 0.0f ? 0.0f : to[c];
        at += count;
    }
}

/* dst[row, c] += bias[c] (if there is one) in place, then relu (if asked for); count = elements, src_c channels */
KERNEL2(add_bias, struct im2col_args, GLOBAL const float *bias, GLOBAL float *dst)
{
    int at = item * arg.per_item;
    const int end = at + i_min(arg.per_item, arg.count - at);
    while (at < end) {
        const int row = at / arg.src_c, c0 = at - row * arg.src_c, count = i_min(arg.src_c - c0, end - at);
        GLOBAL float *to = dst + (long)row * arg.src_pitch + c0;
        if (arg.has_bias)
            for (int c = 0; c < count; c++)
                to[c] += bias[c0 + c];
        if (arg.relu)
            for (int c = 0; c < count; c++)
                to[c] = to[c] < 0.0f ? 0.0f : to[c];
        at += count;
    }
}
