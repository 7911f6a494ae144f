/* Images twice and half as large: upsample2 repeats, pool2 adds up 2 x 2 pixels; both with a factor. Storage is
 * N H W C. With sides that are exactly twice as long, line l of all pictures' lines goes with line 2 l and 2 l + 1 of
 * the larger ones, whatever the picture.
 *
 * An item makes some pixels of dst and a piece of their channels: one element on a GPU.
 */
#include "kernel.h"
#include "resample.h"

KERNEL2(upsample2, struct resample_args, GLOBAL const float *src, GLOBAL float *dst)
{
    const int row = item / arg.blocks * arg.rows, rows = i_min(arg.rows, arg.pixels - row);
    const int c0 = item % arg.blocks * arg.width, width = i_min(arg.width, arg.channels - c0);
    for (int r = row; r < row + rows; r++) {
        const int line = r / arg.dst_w, x = r - line * arg.dst_w;
        GLOBAL const float *from = src + (line / 2 * (arg.dst_w / 2) + x / 2) * arg.channels + c0;
        GLOBAL float *to = dst + r * arg.channels + c0;
        INDEPENDENT
        for (int c = 0; c < width; c++)
            to[c] = from[c] * arg.scale;
    }
}

KERNEL2(pool2, struct resample_args, GLOBAL const float *src, GLOBAL float *dst)
{
    const int row = item / arg.blocks * arg.rows, rows = i_min(arg.rows, arg.pixels - row);
    const int c0 = item % arg.blocks * arg.width, width = i_min(arg.width, arg.channels - c0);
    const int across = arg.channels, down = 2 * arg.dst_w * arg.channels;
    for (int r = row; r < row + rows; r++) {
        const int line = r / arg.dst_w, x = r - line * arg.dst_w;
        GLOBAL const float *from = src + (4 * line * arg.dst_w + 2 * x) * arg.channels + c0;
        GLOBAL float *to = dst + r * arg.channels + c0;
        INDEPENDENT
        for (int c = 0; c < width; c++)
            to[c] = ((from[c] + from[across + c]) + (from[down + c] + from[down + across + c])) * arg.scale;
    }
}
