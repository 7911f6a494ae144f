/* What the Winograd kernels for CPUs share: tiles of pixels in, and lanes that hang over the last channel. Include it
 * after choosing a transform (winograd_transform.h). */
#ifndef WINOGRAD_TILE_H
#define WINOGRAD_TILE_H

#include "winograd_transform.h"

/* Before a loop over an array that is to be in registers. */
#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__) && !defined(__OPENCL_C_VERSION__)
#define UNROLLED _Pragma("GCC unroll 8")
#else
#define UNROLLED
#endif

/* A lane of which `valid` floats exist (LANES or more: all); the rest is zero. */
static lane load_some(GLOBAL const float *p, const int valid)
{
    if (valid >= LANES)
        return lane_load(p);
    float part[LANES];
    for (int j = 0; j < LANES; j++)
        part[j] = j < valid ? p[j] : 0.0f;
    return lane_load(part);
}

static void store_some(GLOBAL float *p, const int valid, const lane v)
{
    if (valid >= LANES) {
        lane_store(p, v);
        return;
    }
    float part[LANES];
    lane_store(part, v);
    for (int j = 0; j < valid; j++)
        p[j] = part[j];
}

/* B' d B of the SIDE x SIDE pixels (y0 + i step, x0 + j step) of one picture, channels first .. last - 1, a whole
 * number of lanes of which what lies beyond `depth` is zero, to v[point * point_step + c - first], past the caches with
 * `stream`. Outside the picture is zero. Its pixels lie `pitch` floats apart. */
static void transform_tile(GLOBAL const float *picture, const int height, const int width, const int depth,
                           const int pitch, const int y0, const int x0, const int step, const int first, const int last,
                           GLOBAL float *v, const long point_step, const int stream)
{
    const int whole =
        y0 >= 0 && x0 >= 0 && y0 + (WINOGRAD_SIDE - 1) * step < height && x0 + (WINOGRAD_SIDE - 1) * step < width;
    const long across = (long)step * pitch, down = across * width;
    for (int c = first; c < last; c += LANES) {
        lane rows[WINOGRAD_POINTS]; /* in memory; what is in the compiler's hands below stays in registers */
        GLOBAL const float *from = picture + ((long)y0 * width + x0) * pitch + c;
        GLOBAL float *to = v + c - first;
        for (int j = 0; j < WINOGRAD_SIDE; j++) {
            lane d[WINOGRAD_SIDE];
            if (j >= WINOGRAD_TAPS - 1) { /* of the next tile, what this one does not have */
                for (int i = 0; i < WINOGRAD_SIDE; i++)
                    lane_soon_read(from + (j + WINOGRAD_OUT) * across + i * down);
            }
            if (whole && depth - c >= LANES) {
                UNROLLED
                for (int i = 0; i < WINOGRAD_SIDE; i++)
                    d[i] = lane_load(from + j * across + i * down);
            } else {
                const int x = x0 + j * step;
                for (int i = 0; i < WINOGRAD_SIDE; i++) {
                    const int y = y0 + i * step, inside = (uint)y < (uint)height && (uint)x < (uint)width;
                    d[i] = inside ? load_some(from + j * across + i * down, depth - c) : lane_splat(0.0f);
                }
            }
            INPUT_TRANSFORM(d, 1)
            UNROLLED
            for (int i = 0; i < WINOGRAD_SIDE; i++)
                rows[i * WINOGRAD_SIDE + j] = d[i];
        }
        for (int i = 0; i < WINOGRAD_SIDE; i++) {
            lane d[WINOGRAD_SIDE];
            UNROLLED
            for (int j = 0; j < WINOGRAD_SIDE; j++)
                d[j] = rows[i * WINOGRAD_SIDE + j];
            INPUT_TRANSFORM(d, 1)
            UNROLLED
            for (int j = 0; j < WINOGRAD_SIDE; j++)
                lane_leave(to + (i * WINOGRAD_SIDE + j) * point_step, d[j], stream);
        }
    }
}

#endif
