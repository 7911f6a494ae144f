/* A panel's columns: two lanes of channels, of which `valid` exist. */
#ifndef COLUMNS_H
#define COLUMNS_H

#include "lane.h"

/* Two lanes of `valid` floats at p; the rest is zero. */
static void load_columns(GLOBAL const float *p, const int valid, lane *v0, lane *v1)
{
    if (valid == NR) {
        *v0 = lane_load(p);
        *v1 = lane_load(p + LANES);
    } else {
        float part[NR];
        for (int j = 0; j < NR; j++)
            part[j] = j < valid ? p[j] : 0.0f;
        *v0 = lane_load(part);
        *v1 = lane_load(part + LANES);
    }
}

static void store_columns(GLOBAL float *p, const int valid, const lane v0, const lane v1)
{
    if (valid == NR) {
        lane_store(p, v0);
        lane_store(p + LANES, v1);
    } else {
        float part[NR];
        lane_store(part, v0);
        lane_store(part + LANES, v1);
        for (int j = 0; j < valid; j++)
            p[j] = part[j];
    }
}

#endif
