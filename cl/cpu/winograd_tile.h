/* What the Winograd kernels for CPUs share: tiles of pixels in, and lanes that hang over the last channel. Include it
 * after choosing a transform (winograd_transform.h). */
#ifndef WINOGRAD_TILE_H
#define WINOGRAD_TILE_H

#include "winograd_transform.h"

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
 * number of lanes of which what lies beyond `depth` is zero, to v[point * point_step + c - first]. Outside the picture
 * is zero. */
static void transform_tile(GLOBAL const float *picture, const int height, const int width, const int depth,
                           const int y0, const int x0, const int step, const int first, const int last, GLOBAL float *v,
                           const long point_step)
{
    for (int c = first; c < last; c += LANES) {
        lane d[WINOGRAD_POINTS];
        for (int i = 0; i < WINOGRAD_SIDE; i++) {
            for (int j = 0; j < WINOGRAD_SIDE; j++) {
                const int y = y0 + i * step, x = x0 + j * step;
                const int inside = (uint)y < (uint)height && (uint)x < (uint)width;
                d[i * WINOGRAD_SIDE + j] =
                    inside ? load_some(picture + ((long)y * width + x) * depth + c, depth - c) : lane_splat(0.0f);
            }
        }
        for (int j = 0; j < WINOGRAD_SIDE; j++)
            INPUT_TRANSFORM(d + j, WINOGRAD_SIDE)
        for (int i = 0; i < WINOGRAD_SIDE; i++)
            INPUT_TRANSFORM(d + i * WINOGRAD_SIDE, 1)
        for (int e = 0; e < WINOGRAD_POINTS; e++)
            lane_store(v + e * point_step + c - first, d[e]);
    }
}

#endif
