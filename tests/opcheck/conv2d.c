/* conv2d, conv2d_transpose, conv2d_wgrad: one set of shapes, the three directions.
 *
 * Bound. Each result is a sum of T products (T = C R S, K R S or N Ho Wo, one more with a bias). Any order of float32
 * additions, fused or not, stays within gamma_T |W||X| with gamma_T = T u / (1 - T u) (Higham, Accuracy and Stability,
 * 3.1): that is the certain bound. Roundings being as good as random, c u sqrt(T) |W||X| with c = 6 is asked for where
 * it is smaller, and u |y| for the last rounding; relu moves no two numbers apart.
 *
 * Statistics (.stats) of M results y_i a channel that may be off by b_i each, d_i = y_i - mean, A = mean |y|,
 * S = min(6 sqrt M, M):
 *   e_mean = mean b + S u A + u |mean|
 *   e_var  = 2 mean(|d| b) + mean b^2 + (S + 4) u var + e^2, e = S u A + u |mean|
 * The first terms are the results' errors: sum (d_i + e_i - mean e)^2 = sum d_i^2 + 2 sum d_i e_i + sum (e_i - mean
 * e)^2. The others are those of batch_norm.c, where it says why E[y^2] - mean^2 would fail: the cases with a bias of
 * 1000 try it. */
#include <string.h>

#include "opcheck.h"

enum { N, C, K, H, W, R, S, SH, SW, PH, PW, BIAS, MH, MW, REAL, LAYOUT, DIMS, STATS = DIMS, ALL };

static const oc_dim dims[DIMS] = {
    [N] = OC_DIM(1, 2, 3, 5),
    [C] = OC_DIM(1, 2, 3, 5, 16, 31, 32, 33, 64, 65),
    [K] = OC_DIM(1, 2, 3, 7, 16, 31, 32, 33, 64, 65),
    [H] = OC_DIM(1, 2, 3, 5, 8, 13, 16, 31, 33, 65),
    [W] = OC_DIM(1, 2, 3, 7, 8, 11, 17, 32, 33, 64),
    [R] = OC_DIM(1, 2, 3, 4, 5, 7),
    [S] = OC_DIM(1, 2, 3, 4, 5, 7),
    [SH] = OC_DIM(1, 2, 3),
    [SW] = OC_DIM(1, 2, 3),
    [PH] = OC_DIM(0, 1, 2, 7), /* 7: beyond every kernel */
    [PW] = OC_DIM(0, 1, 2, 7),
    [BIAS] = OC_DIM(0, 1),
    [MH] = OC_DIM(0, 0, 1, -1), /* so much more below than above */
    [MW] = OC_DIM(0, 0, -1, 2),
    [REAL] = OC_DIM(0, 1),
    [LAYOUT] = OC_DIM(OC_APART, OC_ARENA, OC_ODD),
};

/* both: the padding before and after. */
static int out_size(int size, int both, int kernel, int stride)
{
    return (size + both - kernel) / stride + 1;
}

/* Some window meets some pixel: with a stride beyond the kernel, padding may be all that is seen. */
static bool meets(int size, int pad, int more, int kernel, int stride)
{
    for (int o = 0; o < out_size(size, 2 * pad + more, kernel, stride); o++)
        for (int r = 0; r < kernel; r++)
            if (o * stride - pad + r >= 0 && o * stride - pad + r < size)
                return true;
    return false;
}

static bool usable(const int *v, oc_set set)
{
    const int both_h = 2 * v[PH] + v[MH], both_w = 2 * v[PW] + v[MW];
    if (v[PH] + v[MH] < 0 || v[PW] + v[MW] < 0 || v[H] + both_h < v[R] || v[W] + both_w < v[S])
        return false;
    if (!meets(v[H], v[PH], v[MH], v[R], v[SH]) || !meets(v[W], v[PW], v[MW], v[S], v[SW]))
        return false;
    const double products = 1.0 * v[N] * v[C] * v[K] * v[R] * v[S] * out_size(v[H], both_h, v[R], v[SH]) *
                            out_size(v[W], both_w, v[S], v[SW]);
    return products <= (set == OC_LONG ? 2e7 : 1.5e6);
}

/* The shapes that the networks have, small, and those that cross blocks: sums deeper than a depth block, inside a tap
 * and across taps, many pixels, both at once; one whose im2col is taken in uneven pieces of the batch; strides with
 * more phases than a lowering has launches; a matrix product that is cut in all its dimensions. The last are for few
 * pixels: the most that there may be, with a last panel that laps over the one before; several parts of the depth, many
 * panels, slices of the channels; taps that no pixel has. And results that are written past the caches. */
static const int fixed[][12] = {
    {2, 3, 64, 16, 16, 3, 3, 1, 1, 1, 1, 1},   {2, 64, 64, 8, 8, 3, 3, 1, 1, 1, 1, 1},
    {2, 64, 64, 8, 8, 4, 4, 2, 2, 1, 1, 1},    {1, 64, 3, 16, 24, 1, 1, 1, 1, 0, 0, 1},
    {16, 32, 64, 1, 1, 1, 1, 1, 1, 0, 0, 1},   {1, 256, 20, 4, 4, 3, 3, 1, 1, 1, 1, 0},
    {1, 65, 33, 9, 7, 3, 3, 1, 1, 1, 1, 1},    {2, 5, 9, 40, 41, 3, 3, 1, 1, 1, 1, 0},
    {3, 33, 65, 7, 9, 4, 4, 2, 2, 1, 1, 1},    {1, 300, 7, 3, 4, 3, 3, 1, 1, 1, 1, 1},
    {1, 7, 300, 4, 3, 3, 3, 1, 1, 1, 1, 1},    {3, 100, 1, 97, 90, 3, 3, 1, 1, 1, 1, 1},
    {1, 130, 130, 5, 5, 1, 1, 1, 1, 0, 0, 1},  {5, 2, 3, 17, 13, 5, 2, 3, 1, 0, 2, 1},
    {4, 20, 130, 8, 8, 1, 1, 1, 1, 0, 0, 0},   {1, 3, 5, 17, 19, 3, 4, 9, 8, 1, 2, 1},
    {2, 3, 5, 20, 19, 11, 10, 8, 8, 4, 3, 1},  {1, 270, 410, 11, 13, 1, 1, 1, 1, 0, 0, 1},
    {1, 40, 65, 8, 8, 3, 3, 1, 1, 1, 1, 1},    {1, 200, 40, 4, 5, 3, 3, 1, 1, 1, 1, 1},
    {1, 34, 530, 4, 4, 4, 4, 2, 2, 1, 1, 1},   {3, 150, 70, 3, 2, 1, 1, 1, 1, 0, 0, 0},
    {1, 70, 36, 2, 2, 7, 7, 2, 3, 3, 3, 1},    {1, 3, 64, 112, 113, 1, 1, 1, 1, 0, 0, 1},
    {1, 64, 3, 112, 113, 1, 1, 1, 1, 0, 0, 1},
};
/* For the minimal algorithms: maps smaller than a tile, tiles that hang over on both sides, all paddings that a filter
 * can have, sizes that leave pixels of one phase over, channels that fill no lane or panel, sums deeper than a piece of
 * the depth on small maps, more tiles than a block, and a filter that the third-level cache does not hold; results and
 * transformed tiles that are written past the caches. Real data, once. */
static const int minimal[][12] = {
    {1, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1, 1},      {5, 3, 17, 1, 1, 3, 3, 1, 1, 2, 2, 1},
    {4, 17, 3, 5, 5, 3, 3, 1, 1, 0, 0, 0},     {1, 70, 33, 7, 6, 3, 3, 1, 1, 2, 2, 1},
    {3, 33, 70, 3, 2, 3, 3, 1, 1, 1, 1, 1},    {2, 1, 33, 30, 27, 3, 3, 1, 1, 1, 1, 0},
    {1, 3, 17, 45, 50, 3, 3, 1, 1, 0, 0, 1},   {5, 17, 1, 9, 13, 3, 3, 1, 1, 2, 1, 1},
    {2, 130, 40, 4, 4, 3, 3, 1, 1, 1, 1, 1},   {5, 300, 8, 4, 4, 3, 3, 1, 1, 1, 1, 1},
    {1, 80, 33, 8, 8, 3, 3, 1, 1, 1, 1, 0},    {3, 257, 6, 2, 3, 3, 3, 1, 1, 1, 1, 1},
    {2, 5, 7, 11, 10, 3, 3, 1, 1, 0, 2, 1},    {1, 8, 260, 4, 4, 3, 3, 1, 1, 1, 1, 1},
    {1, 1, 1, 2, 2, 4, 4, 2, 2, 1, 1, 1},      {2, 3, 17, 4, 6, 4, 4, 2, 2, 1, 1, 1},
    {1, 17, 33, 13, 15, 4, 4, 2, 2, 0, 0, 1},  {3, 33, 3, 12, 9, 4, 4, 2, 2, 2, 2, 0},
    {1, 3, 70, 17, 22, 4, 4, 2, 2, 3, 3, 1},   {5, 70, 17, 8, 8, 4, 4, 2, 2, 1, 1, 1},
    {2, 80, 40, 8, 8, 4, 4, 2, 2, 1, 1, 0},    {1, 300, 10, 8, 8, 4, 4, 2, 2, 1, 1, 1},
    {4, 160, 6, 9, 7, 4, 4, 2, 2, 1, 1, 1},    {1, 2, 3, 62, 71, 4, 4, 2, 2, 1, 1, 1},
    {2, 5, 7, 11, 10, 4, 4, 2, 2, 0, 3, 1},    {1, 6, 260, 6, 5, 4, 4, 2, 2, 1, 2, 1},
    {1, 300, 300, 5, 4, 3, 3, 1, 1, 1, 1, 1},  {1, 4, 64, 111, 113, 3, 3, 1, 1, 1, 1, 1},
    {1, 64, 4, 111, 113, 3, 3, 1, 1, 1, 1, 1}, {1, 512, 4, 28, 24, 3, 3, 1, 1, 1, 1, 0},
};
/* Paddings that differ from side to side, for every algorithm; the last two numbers are what is more below and on the
 * right. The first are the way down of many networks; then less than above, also so that nothing sees the last pixels,
 * and more than a whole kernel. */
static const int sided[][14] = {
    {2, 5, 7, 8, 8, 3, 3, 2, 2, 0, 0, 1, 1, 1},     {1, 33, 65, 9, 7, 3, 3, 2, 2, 0, 0, 1, 1, 1},
    {3, 17, 3, 6, 10, 3, 3, 1, 1, 1, 0, 0, -1, 2},  {2, 70, 33, 13, 9, 3, 3, 1, 1, 0, 2, 1, 2, -2},
    {1, 5, 40, 12, 11, 4, 4, 2, 2, 1, 1, 1, 1, -1}, {2, 33, 17, 10, 14, 4, 4, 2, 2, 0, 2, 0, 3, -1},
    {1, 3, 5, 17, 19, 3, 4, 9, 8, 1, 2, 1, 2, 1},   {2, 3, 5, 7, 6, 2, 3, 3, 2, 1, 0, 1, 4, 5},
    {4, 20, 130, 5, 5, 1, 1, 1, 1, 0, 1, 0, 2, -1}, {1, 130, 6, 3, 3, 3, 3, 1, 1, 2, 0, 1, -2, 2},
    {5, 40, 80, 8, 8, 4, 4, 2, 2, 1, 1, 0, -1, 1},  {1, 80, 40, 8, 9, 3, 3, 1, 1, 1, 1, 1, -1, 1},
};
/* Statistics over a common offset, the bias: for every candidate; more pixels than a piece of any of them, phases of
 * uneven sizes and empty ones, tiles that hang over, and pieces to be merged more than once. */
static const int offset[][12] = {
    {2, 16, 33, 17, 19, 3, 3, 1, 1, 1, 1, 1}, {3, 17, 16, 23, 9, 4, 4, 2, 2, 1, 1, 1},
    {1, 5, 7, 5, 3, 4, 4, 2, 2, 1, 1, 1},     {2, 3, 5, 31, 29, 5, 2, 3, 1, 0, 2, 1},
    {1, 2, 3, 130, 131, 3, 3, 1, 1, 1, 1, 1}, {1, 33, 34, 1, 3, 3, 3, 1, 1, 1, 1, 1},
    {1, 3, 5, 17, 19, 3, 4, 9, 8, 1, 2, 1},   {2, 40, 3, 16, 24, 1, 1, 1, 1, 0, 0, 1},
};
enum { OFFSET = 1000 };
/* Two groups a dimension and more: the tiles of cl/gpu are 64 rows (pixels; taps and channels for wgrad) x 64 channels,
 * 16 deep. Oclgrind is slow, so the tiled sum is just two steps deep, which differs from direction to direction. */
#define MANY_PHASES                                                                                                    \
    {                                                                                                                  \
        1, 3, 2, 10, 9, 3, 4, 9, 8, 1, 2, 0                                                                            \
    } /* of the data gradient: too many for a launch each */
static const int tiny[][12] = {
    {1, 2, 66, 9, 8, 3, 3, 1, 1, 1, 1, 1}, {1, 2, 3, 7, 4, 2, 3, 2, 1, 1, 2, 1}, MANY_PHASES};
static const int tiny_transpose[][12] = {
    {1, 66, 2, 9, 8, 3, 3, 1, 1, 1, 1, 1}, {1, 3, 2, 6, 5, 4, 4, 2, 2, 1, 1, 1}, MANY_PHASES};
static const int tiny_wgrad[][12] = {
    {1, 8, 66, 5, 4, 3, 3, 1, 1, 1, 1, 0}, {1, 2, 3, 18, 17, 2, 2, 1, 1, 0, 0, 0}, MANY_PHASES};
/* For single candidates, with 4 lanes, so panels of 8 channels; too deep for the others under Oclgrind.
 *
 * panel: more than one block of pixels and panel, a depth block that ends inside a tap, one that ends between taps
 * (direction 0 and 1); more than one block of channels, one of pixels, and stride with padding (2, the weight
 * gradient). few_pixels: more than one register tile of pixels and panel, a last panel that laps over, more than one
 * block of the depth; more than one slice of channels. pointwise: more than one register tile of pixels, panel and
 * block of the depth, of which the last are not whole. winograd_4x4: so many tiles that the weight gradient takes them
 * in rounds. */
typedef struct only_case {
    const char *candidate;
    int v[12];
} only_case;
enum { TINY_ONLY = 7 };
static const only_case tiny_only[3][TINY_ONLY] = {
    {{"panel", {1, 1, 9, 11, 13, 2, 1, 1, 1, 0, 0, 1}},
     {"panel", {1, 257, 3, 3, 2, 2, 1, 1, 1, 0, 0, 1}},
     {"panel", {1, 29, 9, 4, 3, 3, 3, 1, 1, 1, 1, 0}},
     {"few_pixels", {1, 66, 9, 4, 3, 2, 1, 1, 1, 0, 0, 1}},
     {"few_pixels", {2, 2, 17, 5, 4, 2, 3, 2, 1, 1, 2, 1}},
     {"pointwise", {1, 258, 17, 5, 3, 1, 1, 1, 1, 0, 0, 1}},
     {"winograd_4x4", {1, 2, 3, 20, 20, 3, 3, 1, 1, 1, 1, 1}}},
    {{"panel", {1, 9, 1, 21, 13, 4, 1, 2, 1, 1, 0, 1}},
     {"panel", {1, 3, 257, 3, 2, 2, 1, 1, 1, 0, 0, 1}},
     {"panel", {1, 9, 29, 4, 3, 3, 3, 1, 1, 1, 1, 0}},
     {"few_pixels", {1, 33, 9, 4, 3, 2, 1, 1, 1, 0, 0, 1}},
     {"few_pixels", {2, 3, 17, 5, 4, 2, 3, 2, 1, 1, 2, 1}},
     {"pointwise", {1, 17, 258, 5, 3, 1, 1, 1, 1, 0, 0, 1}},
     {"winograd_4x4", {1, 3, 2, 20, 20, 3, 3, 1, 1, 1, 1, 1}}},
    {{"panel", {1, 25, 9, 3, 2, 2, 1, 1, 1, 0, 0, 0}},
     {"panel", {1, 2, 9, 18, 17, 2, 2, 1, 1, 0, 0, 0}},
     {"panel", {2, 3, 9, 7, 4, 2, 3, 2, 1, 1, 2, 0}},
     {"few_pixels", {1, 50, 9, 3, 2, 2, 1, 1, 1, 0, 0, 0}},
     {"few_pixels", {2, 3, 17, 5, 4, 2, 3, 2, 1, 1, 2, 0}},
     {"pointwise", {1, 33, 17, 13, 10, 1, 1, 1, 1, 0, 0, 0}},
     {"winograd_4x4", {1, 2, 3, 31, 32, 3, 3, 1, 1, 1, 1, 0}}},
};
static const int grad[][14] = {
    {2, 2, 3, 4, 5, 3, 2, 1, 2, 1, 0, 1, 0, 0},   {1, 3, 2, 5, 4, 4, 4, 2, 2, 1, 1, 1, 0, 0},
    {2, 1, 2, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, 0},   {1, 2, 2, 7, 3, 2, 3, 3, 1, 0, 2, 1, 0, 0},
    {1, 1, 2, 3, 4, 2, 2, 1, 1, 3, 2, 0, 0, 0},   {2, 2, 3, 4, 6, 3, 3, 2, 2, 0, 0, 1, 1, 1},
    {1, 2, 2, 4, 5, 3, 2, 1, 1, 1, 2, 0, -1, -1},
};
/* The layers of the notebook network at 64x64: C, K, H, R, stride, pad, from down to up (an up block's transposed
 * convolution is the data gradient of the layer that is listed). */
static const int layers[][6] = {
    {3, 64, 64, 3, 1, 1},     {64, 128, 64, 3, 1, 1},  {128, 128, 64, 3, 1, 1}, {128, 128, 64, 4, 2, 1},
    {128, 256, 32, 3, 1, 1},  {256, 256, 32, 3, 1, 1}, {256, 256, 32, 4, 2, 1}, {256, 512, 16, 3, 1, 1},
    {512, 512, 16, 3, 1, 1},  {512, 512, 16, 4, 2, 1}, {512, 1024, 8, 3, 1, 1}, {1024, 1024, 8, 3, 1, 1},
    {1024, 1024, 8, 4, 2, 1}, {2048, 512, 4, 3, 1, 1}, {512, 512, 8, 4, 2, 1},  {1024, 256, 8, 3, 1, 1},
    {256, 256, 16, 4, 2, 1},  {512, 128, 16, 3, 1, 1}, {128, 128, 32, 4, 2, 1}, {256, 64, 32, 3, 1, 1},
    {64, 64, 32, 3, 1, 1},    {64, 64, 64, 4, 2, 1},   {64, 3, 64, 1, 1, 0},    {32, 128, 1, 1, 1, 0},
};
static const int timed[] = {0, 2, 3, 5, 8, 11, 12, 13, 20, 22};

enum { COVERED = 120, COVERED_LONG = 400 };
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
/* The suite, after the first of each: */
#define MINIMAL    (2 * COUNT(fixed) + COVERED)
#define SIDED      (MINIMAL + COUNT(minimal))
#define WITH_STATS (SIDED + 2 * COUNT(sided))
#define OFFSETS    (WITH_STATS + COUNT(minimal))
#define SUITE      (OFFSETS + COUNT(offset))

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return SUITE;
    case OC_TINY: return COUNT(tiny) + TINY_ONLY;
    case OC_LONG: return COUNT(layers) + COVERED_LONG;
    case OC_PERF: return 2 * COUNT(timed); /* without and with statistics */
    default: return COUNT(grad);
    }
}

/* The weight gradient has no statistics, so that the last cases are not for it. */
static int count_wgrad(oc_set set)
{
    return set == OC_SUITE ? WITH_STATS : set == OC_PERF ? COUNT(timed) : count(set);
}

static void take_layer(const int *layer, int batch, int *v)
{
    v[N] = batch;
    v[C] = layer[0];
    v[K] = layer[1];
    v[H] = v[W] = layer[2];
    v[R] = v[S] = layer[3];
    v[SH] = v[SW] = layer[4];
    v[PH] = v[PW] = layer[5];
    v[BIAS] = 1;
    v[REAL] = 1;
}

static void choose(lun_op_kind kind, oc_set set, int index, int *v)
{
    memset(v, 0, ALL * sizeof *v);
    v[REAL] = index & 1;
    v[LAYOUT] = index / 2 % 3;
    if (set == OC_PERF) {
        take_layer(layers[timed[index % COUNT(timed)]], 16, v);
    } else if (set == OC_TINY) {
        const int direction = kind == LUN_OP_CONV2D ? 0 : kind == LUN_OP_CONV2D_TRANSPOSE ? 1 : 2;
        const int(*const lists[3])[12] = {tiny, tiny_transpose, tiny_wgrad};
        const int own = index - COUNT(tiny);
        memcpy(v, own < 0 ? lists[direction][index] : tiny_only[direction][own].v, sizeof tiny[0]);
    } else if (set == OC_GRAD) {
        memcpy(v, grad[index], sizeof grad[0]);
        v[REAL] = 1;
    } else if (set == OC_LONG && index < COUNT(layers)) {
        take_layer(layers[index], 2, v);
    } else if (set == OC_SUITE && index < 2 * COUNT(fixed)) {
        memcpy(v, fixed[index / 2], sizeof fixed[0]);
    } else if (set == OC_SUITE && index >= SIDED && index < WITH_STATS) {
        memcpy(v, sided[(index - SIDED) / 2], sizeof sided[0]);
        v[REAL] = index % 2;
    } else if (set == OC_SUITE && index >= MINIMAL) {
        memcpy(v,
               index >= OFFSETS      ? offset[index - OFFSETS]
               : index >= WITH_STATS ? minimal[index - WITH_STATS]
                                     : minimal[index - MINIMAL],
               sizeof minimal[0]);
        v[REAL] = 1;
        v[STATS] = index >= WITH_STATS;
    } else {
        const int skip = set == OC_SUITE ? 2 * COUNT(fixed) : COUNT(layers);
        oc_cover(dims, dims, DIMS, set == OC_SUITE ? COVERED : COVERED_LONG, oc_seed, usable, set, index - skip, v);
    }
    /* Elsewhere some of those with real data, which fall on each layout, with relu and without. */
    if (set == OC_PERF)
        v[STATS] = index >= COUNT(timed);
    else if (set != OC_GRAD && v[REAL] && (set == OC_TINY || index % 4 == 3))
        v[STATS] = 1;
    if (kind == LUN_OP_CONV2D_WGRAD)
        v[STATS] = 0;
}

static void fill(oc_case *c, int s, oc_rng *rng, int limit)
{
    if (c->exact) {
        /* Never zero: a product would vanish, and with it what it could show. */
        for (int64_t i = 0; i < oc_src_count(c, s); i++) {
            const int value = 1 + oc_below(rng, limit);
            oc_set_float(c, s, i, oc_below(rng, 2) ? value : -value);
        }
    } else {
        oc_fill_reals(c, s, rng, 0.1, 1);
    }
}

static void fill_bias(oc_case *c, int s, oc_rng *rng, int limit, bool shifted)
{
    if (shifted)
        oc_fill_reals(c, s, rng, OFFSET, 1);
    else
        fill(c, s, rng, limit);
}

static void make(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    int v[ALL];
    choose(c->op.kind, set, index, v);
    const bool shifted = set == OC_SUITE && index >= OFFSETS;
    const int ho = out_size(v[H], 2 * v[PH] + v[MH], v[R], v[SH]), wo = out_size(v[W], 2 * v[PW] + v[MW], v[S], v[SW]);
    const lun_desc big = lun_image(v[N], v[C], v[H], v[W]), small = lun_image(v[N], v[K], ho, wo);
    const lun_desc filter = lun_filter(v[K], v[C], v[R], v[S]);
    lun_conv_attrs *a = &c->op.attrs.conv;
    a->stride_h = v[SH];
    a->stride_w = v[SW];
    a->pad_h = v[PH];
    a->pad_w = v[PW];
    a->more_h = v[MH];
    a->more_w = v[MW];
    c->exact = !v[REAL];
    c->layout = (oc_layout)v[LAYOUT];
    /* Every third of the forward and the data gradient, in turn with real data and layouts. */
    a->relu = c->op.kind != LUN_OP_CONV2D_WGRAD && index % 3 == 2;
    if (a->relu)
        c->max_zero = 0.8f;
    a->stats = v[STATS];
    if (set == OC_TINY && index >= COUNT(tiny))
        c->only = tiny_only[0][index - COUNT(tiny)].candidate;
    int64_t terms;
    if (c->op.kind == LUN_OP_CONV2D) {
        terms = (int64_t)v[C] * v[R] * v[S] + 1;
        fill(c, oc_source(c, big), rng, oc_exact_limit(terms));
        fill(c, oc_source(c, filter), rng, oc_exact_limit(terms));
        if (v[BIAS])
            fill_bias(c, oc_source(c, lun_image(1, v[K], 1, 1)), rng, oc_exact_limit(terms), shifted);
        oc_dest(c, small.shape);
    } else if (c->op.kind == LUN_OP_CONV2D_TRANSPOSE) {
        terms = (int64_t)v[K] * v[R] * v[S] + 1;
        a->out_h = v[H];
        a->out_w = v[W];
        fill(c, oc_source(c, small), rng, oc_exact_limit(terms));
        fill(c, oc_source(c, filter), rng, oc_exact_limit(terms));
        if (v[BIAS])
            fill_bias(c, oc_source(c, lun_image(1, v[C], 1, 1)), rng, oc_exact_limit(terms), shifted);
        oc_dest(c, big.shape);
    } else {
        terms = (int64_t)v[N] * ho * wo;
        a->kernel_h = v[R];
        a->kernel_w = v[S];
        fill(c, oc_source(c, big), rng, oc_exact_limit(terms));
        fill(c, oc_source(c, small), rng, oc_exact_limit(terms));
        oc_dest(c, filter.shape);
    }
    if (a->stats)
        oc_dest(c, lun_shape4(2, c->shape[0].c, 1, 1));
}

/* Destination 1 from the bound of destination 0. */
static void bound_statistics(const oc_case *c, const double *bound, double *second)
{
    const lun_shape s = c->op.dst[0].shape;
    const int64_t area = s.h * s.w, count_ = s.n * area;
    const double M = (double)count_, factor = oc_sum_factor(M);
    for (int64_t ch = 0; ch < s.c; ch++) {
        const double mean = c->want[1][ch], var = c->want[1][s.c + ch];
        double moved = 0, crossed = 0, squared = 0;
        for (int64_t j = 0; j < count_; j++) {
            const int64_t i = (j / area * s.c + ch) * area + j % area;
            moved += bound[i] / M;
            crossed += fabs(c->want[0][i] - mean) * bound[i] / M;
            squared += bound[i] * bound[i] / M;
        }
        const double own = factor * OC_U * c->mag[1][ch] + OC_U * fabs(mean);
        second[ch] = moved + own;
        second[s.c + ch] = 2 * crossed + squared + (factor + 4) * OC_U * var + own * own;
    }
}

static void bound(oc_case *c)
{
    double terms;
    if (c->op.kind == LUN_OP_CONV2D_WGRAD) {
        const lun_shape small = c->op.src[1].shape;
        terms = (double)(small.n * small.h * small.w);
    } else {
        const lun_shape filter = c->op.src[1].shape;
        terms = (double)((c->op.kind == LUN_OP_CONV2D ? filter.c : filter.n) * filter.h * filter.w) + (c->op.nsrc > 2);
    }
    const int64_t elements = lun_count(c->op.dst[0].shape);
    c->certain = oc_alloc((size_t)elements, sizeof(double));
    for (int64_t i = 0; i < elements; i++) {
        const double last = OC_U * fabs(c->want[0][i]);
        c->bound[0][i] = oc_sum_factor(terms) * OC_U * c->mag[0][i] + last;
        c->certain[i] = terms * OC_U / (1 - terms * OC_U) * c->mag[0][i] + last;
    }
    if (c->op.ndst > 1)
        bound_statistics(c, c->bound[0], c->bound[1]);
}

const oc_op oc_conv2d = {.kind = LUN_OP_CONV2D,
                         .count = count,
                         .make = make,
                         .bound = bound,
                         .bound_of = oc_winograd_bound,
                         .follow = bound_statistics};
const oc_op oc_conv2d_transpose = {.kind = LUN_OP_CONV2D_TRANSPOSE,
                                   .count = count,
                                   .make = make,
                                   .bound = bound,
                                   .bound_of = oc_winograd_bound,
                                   .follow = bound_statistics};
const oc_op oc_conv2d_wgrad = {
    .kind = LUN_OP_CONV2D_WGRAD, .count = count_wgrad, .make = make, .bound = bound, .bound_of = oc_winograd_bound};
