/* Convolution for GPUs: implicit matrix product through local memory.
 *
 * conv2d_tile: a group of 256 work-items owns TILE destination pixels x TILE output channels; it walks the depth
 * (taps x input channels) DEPTH at a time, gathers both operands into local memory, and every item keeps a 4 x 4 part
 * in registers. conv2d_wgrad_tile is the same tile over (taps x input channels) x output channels, with the pixels as
 * depth, cut into chunks whose partial results conv2d_sum adds in order: no atomics, so a run repeats bit for bit.
 *
 * Layout: see cl/conv2d.h. Work-group size 256 exactly, 8.3 KiB of local memory, no sub-groups, no images. */
#include "kernel.h"
#include "conv2d.h"

#define TILE  64
#define DEPTH 16
#define SIDE  16         /* 16 x 16 work-items, 4 x 4 elements each, SIDE apart */
#define LINE  (TILE + 1) /* one float of padding spreads the columns over the banks */
/* A launch may be enqueued in parts, in each of which get_group_id begins at 0. */
#define GROUP_NUMBER ((int)(get_group_id(0) + get_global_offset(0) / (SIDE * SIDE)))

__kernel __attribute__((reqd_work_group_size(SIDE * SIDE, 1, 1))) void
conv2d_tile(__global char *p0, const ulong o0, __global char *p1, const ulong o1, __global char *p2, const ulong o2,
            __global char *p3, const ulong o3, const struct conv2d_gather_args arg, const uint items)
{
    __global const float *src = (__global const float *)(p0 + o0);
    __global const float *weight = (__global const float *)(p1 + o1);
    __global const float *bias = (__global const float *)(p2 + o2);
    __global float *dst = (__global float *)(p3 + o3);
    __local float a[DEPTH * LINE], b[DEPTH * LINE];

    const int id = get_local_id(0), tx = id % SIDE, ty = id / SIDE;
    const int column_tiles = (arg.dst_c + TILE - 1) / TILE;
    const int tile = GROUP_NUMBER, first_row = tile / column_tiles * TILE, first_column = tile % column_tiles * TILE;
    const int depth = arg.taps_h * arg.taps_w * arg.src_c;

    /* The four source pixels this item gathers from: rows ty + SIDE i of the tile, one depth each step. */
    int pixel_y[4], pixel_x[4], pixel_base[4];
    for (int i = 0; i < 4; i++) {
        const int row = first_row + ty + SIDE * i;
        const int gx = row % arg.grid_w, gy = row / arg.grid_w % arg.grid_h, n = row / arg.grid_w / arg.grid_h;
        pixel_y[i] = row < arg.rows ? gy * arg.src_step_h + arg.off_h : -0x40000000;
        pixel_x[i] = gx * arg.src_step_w + arg.off_w;
        pixel_base[i] = n * arg.src_h * arg.src_w;
    }

    float sum[4][4];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            sum[i][j] = 0.0f;

    for (int d0 = 0; d0 < depth; d0 += DEPTH) {
        /* In both loops all is made from the item's number inside: compilers take it out again, but PoCL 6.0 takes what
         * is made before a loop for the same in all items, now and then. */
        for (int i = 0; i < 4; i++) {
            const int d = d0 + tx, tap = d / arg.src_c, c = d - tap * arg.src_c;
            const int ti = arg.taps_w > 0 ? tap / arg.taps_w : 0, tj = tap - ti * arg.taps_w;
            const int y = pixel_y[i] + ti * arg.off_step_h, x = pixel_x[i] + tj * arg.off_step_w;
            const int inside = d < depth && (uint)y < (uint)arg.src_h && (uint)x < (uint)arg.src_w;
            a[tx * LINE + ty + SIDE * i] =
                inside ? src[(long)(pixel_base[i] + y * arg.src_w + x) * arg.src_pitch + c] : 0.0f;
        }
        for (int i = 0; i < 4; i++) {
            /* Neighbouring items read neighbouring weights: along the filter's K, or along its C where that is the
             * depth. */
            const int k = arg.transposed ? tx : id / TILE + 4 * i;
            const int column = arg.transposed ? ty + SIDE * i : id % TILE;
            const int d = d0 + k, tap = d / arg.src_c, c = d - tap * arg.src_c;
            const int ti = arg.taps_w > 0 ? tap / arg.taps_w : 0, tj = tap - ti * arg.taps_w;
            const int filter_tap = (arg.first_r + ti * arg.step_r) * arg.kernel_w + arg.first_s + tj * arg.step_s;
            const int channel = first_column + column;
            const int inside = d < depth && channel < arg.dst_c;
            const long at = (long)filter_tap * arg.src_c * arg.dst_c +
                            (arg.transposed ? (long)channel * arg.src_c + c : (long)c * arg.dst_c + channel);
            b[k * LINE + column] = inside ? weight[at] : 0.0f;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int k = 0; k < DEPTH; k++) {
            float av[4], bv[4];
            for (int i = 0; i < 4; i++) {
                av[i] = a[k * LINE + ty + SIDE * i];
                bv[i] = b[k * LINE + tx + SIDE * i];
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    sum[i][j] += av[i] * bv[j];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    for (int i = 0; i < 4; i++) {
        const int row = first_row + ty + SIDE * i;
        if (row >= arg.rows)
            continue;
        const int gx = row % arg.grid_w, gy = row / arg.grid_w % arg.grid_h, n = row / arg.grid_w / arg.grid_h;
        __global float *out = dst + ((long)(n * arg.dst_h + gy * arg.dst_step_h + arg.dst_first_h) * arg.dst_w +
                                     gx * arg.dst_step_w + arg.dst_first_w) *
                                        arg.dst_pitch;
        for (int j = 0; j < 4; j++) {
            const int channel = first_column + tx + SIDE * j;
            if (channel < arg.dst_c) {
                const float result = sum[i][j] + (arg.has_bias ? bias[channel] : 0.0f);
                out[channel] = arg.relu && result < 0.0f ? 0.0f : result;
            }
        }
    }
}

/* group = (chunk * line tiles + line tile) * column tiles + column tile; writes part[chunk][r s c][k] */
__kernel __attribute__((reqd_work_group_size(SIDE * SIDE, 1, 1))) void
conv2d_wgrad_tile(__global char *p0, const ulong o0, __global char *p1, const ulong o1, __global char *p2,
                  const ulong o2, const struct conv2d_wgrad_args arg, const uint items)
{
    __global const float *big = (__global const float *)(p0 + o0);
    __global const float *small = (__global const float *)(p1 + o1);
    __global float *part = (__global float *)(p2 + o2);
    __local float a[DEPTH * LINE], b[DEPTH * LINE];

    const int id = get_local_id(0), tx = id % SIDE, ty = id / SIDE;
    const int lines = arg.kernel_h * arg.kernel_w * arg.big_c;
    const int line_tiles = (lines + TILE - 1) / TILE, column_tiles = (arg.small_c + TILE - 1) / TILE;
    const int tile = GROUP_NUMBER % (line_tiles * column_tiles), chunk = GROUP_NUMBER / (line_tiles * column_tiles);
    const int first_line = tile / column_tiles * TILE, first_column = tile % column_tiles * TILE;
    const int row_begin = chunk * arg.rows_per_chunk, row_end = i_min(row_begin + arg.rows_per_chunk, arg.rows);

    /* This item always gathers line `id % TILE` of the tile and column `id % TILE`, of four rows a step. */
    const int lane = id % TILE, line = first_line + lane, column = first_column + lane;
    const int tap = line / arg.big_c, c = line - tap * arg.big_c, r = tap / arg.kernel_w, s = tap - r * arg.kernel_w;

    float sum[4][4];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            sum[i][j] = 0.0f;

    for (int row0 = row_begin; row0 < row_end; row0 += DEPTH) {
        for (int i = 0; i < 4; i++) {
            const int k = id / TILE + 4 * i, row = row0 + k;
            const int ox = row % arg.small_w, oy = row / arg.small_w % arg.small_h, n = row / arg.small_w / arg.small_h;
            const int y = oy * arg.stride_h - arg.pad_h + r, x = ox * arg.stride_w - arg.pad_w + s;
            const int inside = row < row_end && line < lines && (uint)y < (uint)arg.big_h && (uint)x < (uint)arg.big_w;
            a[k * LINE + lane] = inside ? big[((long)(n * arg.big_h + y) * arg.big_w + x) * arg.big_pitch + c] : 0.0f;
            b[k * LINE + lane] =
                row < row_end && column < arg.small_c ? small[(long)row * arg.small_pitch + column] : 0.0f;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int k = 0; k < DEPTH; k++) {
            float av[4], bv[4];
            for (int i = 0; i < 4; i++) {
                av[i] = a[k * LINE + ty + SIDE * i];
                bv[i] = b[k * LINE + tx + SIDE * i];
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    sum[i][j] += av[i] * bv[j];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    for (int i = 0; i < 4; i++) {
        const int out_line = first_line + ty + SIDE * i;
        for (int j = 0; j < 4; j++) {
            const int out_column = first_column + tx + SIDE * j;
            if (out_line < lines && out_column < arg.small_c)
                part[((long)chunk * lines + out_line) * arg.small_c + out_column] = sum[i][j];
        }
    }
}

/* dst[i] = sum over chunks of part[chunk][i], in order */
KERNEL2(conv2d_sum, struct conv2d_sum_args, GLOBAL const float *part, GLOBAL float *dst)
{
    const int first = item * arg.per_item, last = first + i_min(arg.per_item, arg.count - first);
    for (int i = first; i < last; i++) {
        float sum = 0.0f;
        for (int chunk = 0; chunk < arg.chunks; chunk++)
            sum += part[(long)chunk * arg.count + i];
        dst[i] = sum;
    }
}
