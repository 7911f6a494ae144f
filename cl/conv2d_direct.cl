/* Convolution straight from its definition, for devices and shapes that every other candidate declines.
 *
 * conv2d, conv2d_transpose (by phases, or all of them at once where there are many): item = destination pixel (row);
 * the loop over output channels is inside on CPUs and outside on GPUs: an item covers `panels_per_item` or
 * `channels_per_item` channels, so a GPU takes one element an item. conv2d_wgrad: an item covers that many of one
 * filter position's K weights. Sums run in a fixed order. No limits. */
#include "kernel.h"
#include "conv2d.h"

/* item = row * column groups + column group */
KERNEL4(conv2d_direct, struct conv2d_gather_args, GLOBAL const float *src, GLOBAL const float *weight,
        GLOBAL const float *bias, GLOBAL float *dst)
{
    const int groups = (arg.dst_c + arg.panels_per_item - 1) / arg.panels_per_item;
    const int row = item / groups, first = (item - row * groups) * arg.panels_per_item;
    const int last = i_min(first + arg.panels_per_item, arg.dst_c);
    const int gx = row % arg.grid_w, gy = row / arg.grid_w % arg.grid_h, n = row / arg.grid_w / arg.grid_h;
    GLOBAL float *out = dst + ((long)(n * arg.dst_h + gy * arg.dst_step_h + arg.dst_first_h) * arg.dst_w +
                               gx * arg.dst_step_w + arg.dst_first_w) *
                                  arg.dst_pitch;
    for (int k = first; k < last; k++) {
        float sum = arg.has_bias ? bias[k] : 0.0f;
        for (int i = 0; i < arg.taps_h; i++) {
            const int y = gy * arg.src_step_h + arg.off_h + i * arg.off_step_h;
            if (y < 0 || y >= arg.src_h)
                continue;
            for (int j = 0; j < arg.taps_w; j++) {
                const int x = gx * arg.src_step_w + arg.off_w + j * arg.off_step_w;
                if (x < 0 || x >= arg.src_w)
                    continue;
                const int tap = (arg.first_r + i * arg.step_r) * arg.kernel_w + arg.first_s + j * arg.step_s;
                GLOBAL const float *a = src + ((long)(n * arg.src_h + y) * arg.src_w + x) * arg.src_pitch;
                /* transposed: the filter's K are the source's channels and its C the destination's */
                GLOBAL const float *w =
                    weight + (long)tap * arg.src_c * arg.dst_c + (arg.transposed ? (long)k * arg.src_c : k);
                const long step = arg.transposed ? 1 : arg.dst_c;
                for (int c = 0; c < arg.src_c; c++)
                    sum += a[c] * w[c * step];
            }
        }
        out[k] = arg.relu && sum < 0.0f ? 0.0f : sum;
    }
}

/* item = destination pixel * column groups + column group. Each pixel meets every stride-th filter position only. */
KERNEL4(conv2d_phases_direct, struct conv2d_phases_args, GLOBAL const float *src, GLOBAL const float *weight,
        GLOBAL const float *bias, GLOBAL float *dst)
{
    const int groups = (arg.dst_c + arg.channels_per_item - 1) / arg.channels_per_item;
    const int pixel = item / groups, first = (item - pixel * groups) * arg.channels_per_item;
    const int last = i_min(first + arg.channels_per_item, arg.dst_c);
    const int x = pixel % arg.dst_w, y = pixel / arg.dst_w % arg.dst_h, n = pixel / arg.dst_w / arg.dst_h;
    for (int k = first; k < last; k++) {
        float sum = arg.has_bias ? bias[k] : 0.0f;
        for (int r = (y + arg.pad_h) % arg.stride_h; r < arg.kernel_h; r += arg.stride_h) {
            const int oy = (y + arg.pad_h - r) / arg.stride_h; /* exact, if not below 0 */
            if (y + arg.pad_h < r || oy >= arg.src_h)
                continue;
            for (int s = (x + arg.pad_w) % arg.stride_w; s < arg.kernel_w; s += arg.stride_w) {
                const int ox = (x + arg.pad_w - s) / arg.stride_w;
                if (x + arg.pad_w < s || ox >= arg.src_w)
                    continue;
                GLOBAL const float *a = src + ((long)(n * arg.src_h + oy) * arg.src_w + ox) * arg.src_pitch;
                GLOBAL const float *w = weight + ((long)(r * arg.kernel_w + s) * arg.dst_c + k) * arg.src_c;
                for (int c = 0; c < arg.src_c; c++)
                    sum += a[c] * w[c];
            }
        }
        dst[(long)pixel * arg.dst_pitch + k] = arg.relu && sum < 0.0f ? 0.0f : sum;
    }
}

/* item = (r S + s) C + c, times groups of K */
KERNEL3(conv2d_wgrad_direct, struct conv2d_wgrad_args, GLOBAL const float *big, GLOBAL const float *small,
        GLOBAL float *dweight)
{
    const int groups = (arg.small_c + arg.channels_per_item - 1) / arg.channels_per_item;
    const int line = item / groups, first = (item - line * groups) * arg.channels_per_item;
    const int last = i_min(first + arg.channels_per_item, arg.small_c);
    const int c = line % arg.big_c, tap = line / arg.big_c, r = tap / arg.kernel_w, s = tap - r * arg.kernel_w;
    const int batch = arg.rows / (arg.small_h * arg.small_w);
    for (int k = first; k < last; k++) {
        float sum = 0.0f;
        for (int n = 0; n < batch; n++) {
            for (int oy = 0; oy < arg.small_h; oy++) {
                const int y = oy * arg.stride_h - arg.pad_h + r;
                if (y < 0 || y >= arg.big_h)
                    continue;
                float line_sum = 0.0f; /* one row at a time: the error grows with the picture's side, not its area */
                for (int ox = 0; ox < arg.small_w; ox++) {
                    const int x = ox * arg.stride_w - arg.pad_w + s;
                    if (x < 0 || x >= arg.big_w)
                        continue;
                    line_sum += big[((long)(n * arg.big_h + y) * arg.big_w + x) * arg.big_pitch + c] *
                                small[((long)(n * arg.small_h + oy) * arg.small_w + ox) * arg.small_pitch + k];
                }
                sum += line_sum;
            }
        }
        dweight[(long)line * arg.small_c + k] = sum;
    }
}
