/* Images twice and half as large: upsample2 repeats, pool2 adds up 2 x 2 pixels; both with a factor. Storage is
 * N H W C. With sides that are exactly twice as long, line l of all pictures' lines goes with line 2 l and 2 l + 1 of
 * the larger ones, whatever the picture. And the filters of a convolution that does so on the way.
 *
 * An item makes some pixels of dst and a piece of their channels: one element on a GPU.
 */
#include "kernel.h"
#include "resample.h"

/* Side of the piece of a plane that an item of filter_sums makes. */
#ifndef FILTER_TILE
#ifdef __OPENCL_C_VERSION__
#define FILTER_TILE 1
#else
#define FILTER_TILE 16
#endif
#endif

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

/* upsample2_filter and pool2_filter; both are this sum. Storage of a filter is R S C K: R x S planes. Sums are made
 * along src's rows and turned over at the end. */
KERNEL2(filter_sums, struct filter_args, GLOBAL const float *src, GLOBAL float *dst)
{
    float sum[FILTER_TILE * FILTER_TILE];
    const int c0 = item % arg.across * FILTER_TILE, place = item / arg.across;
    const int r0 = place % arg.down * FILTER_TILE, plane = place / arg.down, y = plane / arg.dst_w;
    const int x = plane - y * arg.dst_w, area = arg.rows * arg.columns;
    const int rows = i_min(FILTER_TILE, arg.rows - r0), columns = i_min(FILTER_TILE, arg.columns - c0);
    for (int i = 0; i < FILTER_TILE * FILTER_TILE; i++)
        sum[i] = 0.0f;
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) {
            const int from_y = arg.last_h - y + a, from_x = arg.last_w - x + b;
            if (from_y < 0 || from_y >= arg.src_h || from_x < 0 || from_x >= arg.src_w)
                continue;
            GLOBAL const float *from = src + (from_y * arg.src_w + from_x) * area + r0 * arg.columns + c0;
            for (int r = 0; r < rows; r++)
                for (int c = 0; c < columns; c++)
                    sum[r * FILTER_TILE + c] += from[r * arg.columns + c];
        }
    GLOBAL float *to = dst + plane * area + c0 * arg.rows + r0;
    for (int c = 0; c < columns; c++)
        for (int r = 0; r < rows; r++)
            to[c * arg.rows + r] = sum[r * FILTER_TILE + c];
}
