/* Convolution for CPUs where the filter has more bytes than its few pixels have products to hide them behind: it is
 * multiplied by where it lies, each number read once (written once, for the weight gradient), and neither packed nor
 * transformed before. The geometry is explained in cl/conv2d.h.
 *
 * An item owns a piece of one tap of the filter, whole rows of it, and meets only those pixels that the tap has.
 * Forward, the filter's rows are lanes of the result: the pixels' channels are gathered into a small matrix in the
 * first-level cache, and a register tile of MR pixels by two lanes walks down the filter's columns. The data gradient
 * sums over what lies in a lane: four pixels by a few rows of the filter, lane by lane, added up across at the end. The
 * weight gradient is a register tile of MR channels by two lanes, over all pixels, written past the caches.
 *
 * Macros: LANES (see lane.h). Limits: see cl/conv2d.h; forward and weight gradient: small_c >= NR. */
#include "kernel.h"
#include "lane.h"
#include "conv2d.h"
#include "cpu/column_moments.h"

/* The rows that meet big with this tap, in order, and where: pixels. Returns their number. */
static int meet(const struct conv2d_few_args arg, const int tap, int *row, int *pixel)
{
    const int r = tap / arg.kernel_w, s = tap - r * arg.kernel_w;
    int used = 0, y = r - arg.pad_h, x = s - arg.pad_w, oy = 0, ox = 0, first = 0;
    for (int i = 0; i < arg.rows; i++) {
        if ((uint)y < (uint)arg.big_h && (uint)x < (uint)arg.big_w) {
            row[used] = i;
            pixel[used++] = first + y * arg.big_w + x;
        }
        x += arg.stride_w;
        if (++ox == arg.small_w) {
            ox = 0;
            x = s - arg.pad_w;
            y += arg.stride_h;
            if (++oy == arg.small_h) {
                oy = 0;
                y = r - arg.pad_h;
                first += arg.big_h * arg.big_w;
            }
        }
    }
    return used;
}

#if MR == 8
#define HALF_ROWS(X) X(0) X(1) X(2) X(3)
#elif MR == 6
#define HALF_ROWS(X) X(0) X(1) X(2)
#else
#define HALF_ROWS(X) X(0) X(1)
#endif

/* ---- Forward ---- */

/* Products of `rows` pixels += x (a row a channel, `wide` pixels) times w, `depth` rows of the filter. Meanwhile two
 * lines at `ahead` are fetched for each row, `step` floats further every time. */
#define BEGIN(i)                                                                                                       \
    GLOBAL float *const out##i = products + (long)row[i_min(i, rows - 1)] * stride;                                    \
    lane acc##i##0 = begun ? lane_load(out##i) : lane_splat(0.0f);                                                     \
    lane acc##i##1 = begun ? lane_load(out##i + LANES) : lane_splat(0.0f);
#define STEP(i)                                                                                                        \
    {                                                                                                                  \
        const lane value = lane_splat(x[i]);                                                                           \
        acc##i##0 = lane_madd(value, b0, acc##i##0);                                                                   \
        acc##i##1 = lane_madd(value, b1, acc##i##1);                                                                   \
    }
#define END(i)                                                                                                         \
    if (i < rows) {                                                                                                    \
        lane_store(out##i, acc##i##0);                                                                                 \
        lane_store(out##i + LANES, acc##i##1);                                                                         \
    }
#define MULTIPLY(ALL)                                                                                                  \
    ALL(BEGIN)                                                                                                         \
    for (int c = 0; c < depth; c++) {                                                                                  \
        const lane b0 = lane_load(w), b1 = lane_load(w + LANES);                                                       \
        lane_later_read(ahead);                                                                                        \
        lane_later_read(ahead + 16);                                                                                   \
        ALL(STEP)                                                                                                      \
        x += wide;                                                                                                     \
        w += columns;                                                                                                  \
        ahead += step;                                                                                                 \
    }                                                                                                                  \
    ALL(END)

static void multiply_rows(const float *x, const int wide, GLOBAL const float *w, const int columns, const int depth,
                          GLOBAL float *products, const int stride, const int *row, const int rows, const int begun,
                          GLOBAL const float *ahead, const int step)
{
    MULTIPLY(ROWS)
}

static void multiply_half(const float *x, const int wide, GLOBAL const float *w, const int columns, const int depth,
                          GLOBAL float *products, const int stride, const int *row, const int rows, const int begun,
                          GLOBAL const float *ahead, const int step)
{
    MULTIPLY(HALF_ROWS)
}

#undef BEGIN
#undef STEP
#undef END
#undef MULTIPLY

/* item = tap * parts + part */
KERNEL3(conv2d_few_forward, struct conv2d_few_args, GLOBAL const float *big, GLOBAL const float *weight,
        GLOBAL float *products)
{
    const int tap = item / arg.parts, part = item % arg.parts, panels = (arg.small_c + NR - 1) / NR;
    const int begin = part * arg.depth, end = i_min(begin + arg.depth, arg.big_c);
    GLOBAL float *sums = products + (long)item * arg.rows * arg.stride;
    int row[CONV2D_FEW_ROWS], pixel[CONV2D_FEW_ROWS];
    float x[CONV2D_FEW_DEPTH * (CONV2D_FEW_ROWS + MR)];
    const int used = meet(arg, tap, row, pixel), wide = (used + MR / 2 - 1) / (MR / 2) * (MR / 2);
    const int tiles = (used + MR - 1) / MR, step = (NR + tiles - 1) / i_max(tiles, 1);

    for (int c0 = begin; c0 < end; c0 += CONV2D_FEW_DEPTH) {
        const int depth = i_min(CONV2D_FEW_DEPTH, end - c0);
        GLOBAL const float *block = weight + ((long)tap * arg.big_c + c0) * arg.small_c;
        /* A panel's pieces lie too far apart for the hardware's foresight, and for a fast way through memory. So the
         * block's rows are to be in the second-level cache by now, and the next block's are fetched, one after another.
         */
        GLOBAL const float *ahead = block + (long)depth * arg.small_c;
        for (int i = 0; i < wide; i++) { /* beyond `used` are numbers that nothing comes of */
            GLOBAL const float *from = big + (long)pixel[i_min(i, used - 1)] * arg.big_pitch + c0;
            for (int c = 0; c < depth; c++)
                x[c * wide + i] = from[c];
        }
        for (int panel = 0; panel < panels; panel++) {
            GLOBAL const float *w = block + i_min(panel * NR, arg.small_c - NR);
            for (int i = 0; i < used;) {
                const int rows = used - i;
                if (rows > MR / 2) {
                    multiply_rows(x + i, wide, w, arg.small_c, depth, sums + panel * NR, arg.stride, row + i, rows,
                                  c0 > begin, ahead, step);
                    i += MR;
                } else {
                    multiply_half(x + i, wide, w, arg.small_c, depth, sums + panel * NR, arg.stride, row + i, rows,
                                  c0 > begin, ahead, step);
                    i += MR / 2;
                }
                ahead += (long)depth * step;
            }
        }
    }
}

/* ---- Data gradient ---- */

#define DOT_ROWS 4
#if LANES == 16
#define DOT_COLUMNS      4
#define DOT_PLACES(X, i) X(i, 0) X(i, 1) X(i, 2) X(i, 3)
#else
#define DOT_COLUMNS      2
#define DOT_PLACES(X, i) X(i, 0) X(i, 1)
#endif
#define DOT_ALL(X)   DOT_PLACES(X, 0) DOT_PLACES(X, 1) DOT_PLACES(X, 2) DOT_PLACES(X, 3)
#define DOT_LINES(X) X(0) X(1) X(2) X(3)

/* A lane of which `valid` floats exist; the rest is zero. */
static lane load_part(GLOBAL const float *p, const int valid)
{
    float part[LANES];
    for (int j = 0; j < LANES; j++)
        part[j] = j < valid ? p[j] : 0.0f;
    return lane_load(part);
}

/* sums[i * DOT_COLUMNS + j] = (x_i, w_j); the x_i are rows that `row` lists, the w_j lie one after another. Meanwhile
 * two lines at `ahead` are fetched for each lane, `step` floats further every time. */
static void dot_rows(GLOBAL const float *x, const int pitch, const int *row, const int rows, GLOBAL const float *w,
                     const int columns, const int depth, GLOBAL const float *ahead, const int step, float *sums)
{
#define LINE(i) GLOBAL const float *const x##i = x + (long)row[i_min(i, rows - 1)] * pitch;
#define BEGIN(i, j) lane acc##i##j = lane_splat(0.0f);
#define STEP(i, j)  acc##i##j = lane_madd(a, b##j, acc##i##j);
#define END(i, j)   all[i * DOT_COLUMNS + j] = acc##i##j;
#define STEPS(load, i)                                                                                                 \
    {                                                                                                                  \
        const lane a = load(x##i);                                                                                     \
        DOT_PLACES(STEP, i)                                                                                            \
    }
#define COLUMN(load, j) const lane b##j = load(w##j);
#if DOT_COLUMNS == 4
#define COLUMNS(load) COLUMN(load, 0) COLUMN(load, 1) COLUMN(load, 2) COLUMN(load, 3)
    GLOBAL const float *const w2 = w + (long)i_min(2, columns - 1) * depth;
    GLOBAL const float *const w3 = w + (long)i_min(3, columns - 1) * depth;
#else
#define COLUMNS(load) COLUMN(load, 0) COLUMN(load, 1)
#endif
    GLOBAL const float *const w0 = w, *const w1 = w + (long)i_min(1, columns - 1) * depth;
    lane all[DOT_ROWS * DOT_COLUMNS];
    DOT_LINES(LINE)
    DOT_ALL(BEGIN)
    int k = 0;
    for (; k + LANES <= depth; k += LANES) {
#define WHOLE(p) lane_load(p + k)
        lane_later_read(ahead);
        lane_later_read(ahead + 16);
        ahead += step;
        COLUMNS(WHOLE)
        STEPS(WHOLE, 0) STEPS(WHOLE, 1) STEPS(WHOLE, 2) STEPS(WHOLE, 3)
    }
    if (k < depth) {
#define SOME(p) load_part(p + k, depth - k)
        COLUMNS(SOME)
        STEPS(SOME, 0) STEPS(SOME, 1) STEPS(SOME, 2) STEPS(SOME, 3)
    }
    DOT_ALL(END)
    for (int i = 0; i < DOT_ROWS * DOT_COLUMNS; i += LANES)
        lane_store(sums + i, lane_sums(all + i));
#undef LINE
#undef BEGIN
#undef STEP
#undef END
#undef STEPS
#undef COLUMN
#undef COLUMNS
#undef WHOLE
#undef SOME
}

/* item = tap * slices + slice */
KERNEL3(conv2d_few_data, struct conv2d_few_args, GLOBAL const float *small, GLOBAL const float *weight,
        GLOBAL float *products)
{
    const int tap = item / arg.slices, first = item % arg.slices * arg.per_slice;
    const int last = i_min(first + arg.per_slice, arg.big_c);
    int row[CONV2D_FEW_ROWS], pixel[CONV2D_FEW_ROWS];
    const int used = meet(arg, tap, row, pixel), tiles = (used + DOT_ROWS - 1) / DOT_ROWS;
    const int step = (DOT_COLUMNS * LANES + tiles - 1) / i_max(tiles, 1);
    for (int c = first; c < last; c += DOT_COLUMNS) {
        const int columns = i_min(DOT_COLUMNS, last - c);
        GLOBAL const float *w = weight + ((long)tap * arg.big_c + c) * arg.small_c;
        /* The rows that come after these are fetched while these are multiplied, evenly. */
        GLOBAL const float *ahead = w + DOT_COLUMNS * (long)arg.small_c;
        for (int i = 0; i < used; i += DOT_ROWS) {
            float sums[DOT_ROWS * DOT_COLUMNS];
            const int rows = i_min(DOT_ROWS, used - i);
            dot_rows(small, arg.small_pitch, row + i, rows, w, columns, arg.small_c, ahead, step, sums);
            ahead += (long)arg.small_c / LANES * step;
            for (int j = 0; j < rows; j++) {
                GLOBAL float *out = products + ((long)tap * arg.rows + row[i + j]) * arg.stride + c;
                for (int k = 0; k < columns; k++)
                    out[k] = sums[j * DOT_COLUMNS + k];
            }
        }
    }
}

/* ---- What both are added up to ---- */

/* The rows of `products` that pixel `p` of dst is the sum of. Returns their number. */
static int find_terms(const struct conv2d_few_args arg, const int p, int *term)
{
    const int width = arg.gathered ? arg.small_w : arg.big_w, height = arg.gathered ? arg.small_h : arg.big_h;
    const int x = p % width, y = p / width % height, n = p / width / height;
    /* The first tap, from which on every `step` lands in the other image, and where: (oy, ox), and (dy, dx) on. */
    const int step_r = arg.gathered ? 1 : arg.stride_h, step_s = arg.gathered ? 1 : arg.stride_w;
    const int r0 = (y + arg.pad_h) % step_r, s0 = (x + arg.pad_w) % step_s;
    int terms = 0;
    for (int r = r0; r < arg.kernel_h; r += step_r) {
        const int by = y * arg.stride_h - arg.pad_h + r, oy = (y + arg.pad_h - r) / step_r;
        if (arg.gathered ? (uint)by >= (uint)arg.big_h : y + arg.pad_h < r || oy >= arg.small_h)
            continue;
        for (int s = s0; s < arg.kernel_w; s += step_s) {
            const int bx = x * arg.stride_w - arg.pad_w + s, ox = (x + arg.pad_w - s) / step_s;
            if (arg.gathered ? (uint)bx >= (uint)arg.big_w : x + arg.pad_w < s || ox >= arg.small_w)
                continue;
            const int row = arg.gathered ? p : (n * arg.small_h + oy) * arg.small_w + ox;
            for (int part = 0; part < arg.parts; part++)
                term[terms++] = ((r * arg.kernel_w + s) * arg.parts + part) * arg.rows + row;
        }
    }
    return terms;
}

/* item = block of pixels * groups of panels + group */
KERNEL4(conv2d_few_sum, struct conv2d_few_args, GLOBAL const float *products, GLOBAL const float *bias,
        GLOBAL float *dst, GLOBAL float *moments)
{
    const int channels = arg.gathered ? arg.small_c : arg.big_c, pitch = arg.gathered ? arg.small_pitch : arg.big_pitch;
    const int pixels = arg.gathered ? arg.rows : arg.rows / (arg.small_h * arg.small_w) * arg.big_h * arg.big_w;
    const int panels = (channels + NR - 1) / NR, groups = (panels + CONV2D_FEW_PANELS - 1) / CONV2D_FEW_PANELS;
    const int block = item / groups, begin = item % groups * CONV2D_FEW_PANELS;
    const int end = i_min(begin + CONV2D_FEW_PANELS, panels);
    const int first = block * CONV2D_FEW_BLOCK, rows = i_min(CONV2D_FEW_BLOCK, pixels - first);
    int term[CONV2D_FEW_TERMS], row[CONV2D_FEW_BLOCK];
    for (int i = 0; i < rows; i++) {
        const int terms = find_terms(arg, first + i, term);
        row[i] = first + i;
        for (int panel = begin; panel < end; panel++) {
            const int column = panel * NR, valid = i_min(NR, channels - column);
            GLOBAL const float *from = products + column + (panel + 1 == panels ? arg.overlap : 0);
            lane sum0 = lane_splat(0.0f), sum1 = sum0, x0, x1;
            if (arg.has_bias)
                load_columns(bias + column, valid, &sum0, &sum1);
            for (int t = 0; t < terms; t++) {
                load_columns(from + (long)term[t] * arg.stride, valid, &x0, &x1);
                sum0 = lane_add(sum0, x0);
                sum1 = lane_add(sum1, x1);
            }
            store_columns(dst + (long)row[i] * pitch + column, valid, arg.relu ? lane_relu(sum0) : sum0,
                          arg.relu ? lane_relu(sum1) : sum1);
        }
    }
    for (int panel = begin; arg.moments && panel < end; panel++)
        leave_moments(dst + panel * NR, row, rows, pitch, i_min(NR, channels - panel * NR),
                      moments + 3 * (long)arg.moments * block + panel * NR, arg.moments);
}

/* ---- Weight gradient ---- */

/* item = tap * slices + slice. A deep layer's filter is larger than the caches, so its lanes are streamed where they
 * are whole. */
KERNEL3(conv2d_few_weight, struct conv2d_few_args, GLOBAL const float *big, GLOBAL const float *small,
        GLOBAL float *dweight)
{
    const int tap = item / arg.slices, first = item % arg.slices * arg.per_slice;
    const int last = i_min(first + arg.per_slice, arg.big_c);
    const int stream = PAIRS_ARE_LINES && arg.small_c % LINE_FLOATS == 0 && line_begins(dweight);
    int row[CONV2D_FEW_ROWS], pixel[CONV2D_FEW_ROWS];
    const int used = meet(arg, tap, row, pixel);
    float x[CONV2D_FEW_ROWS * MR];
    for (int c = first; c < last; c += MR) {
        const int channels = i_min(MR, last - c);
        for (int k = 0; k < used; k++) {
            GLOBAL const float *from = big + (long)pixel[k] * arg.big_pitch + c;
            for (int i = 0; i < MR; i++)
                x[k * MR + i] = from[i_min(i, channels - 1)];
        }
        for (int panel = 0; panel < arg.small_c; panel += NR) {
            const int column = i_min(panel, arg.small_c - NR);
            GLOBAL float *out = dweight + ((long)tap * arg.big_c + c) * arg.small_c + column;
#define BEGIN(i) lane acc##i##0 = lane_splat(0.0f), acc##i##1 = acc##i##0;
            ROWS(BEGIN)
            for (int k = 0; k < used; k++) {
                GLOBAL const float *b = small + (long)row[k] * arg.small_pitch + column;
                const lane b0 = lane_load(b), b1 = lane_load(b + LANES);
#define OUTER(i)                                                                                                       \
    {                                                                                                                  \
        const lane value = lane_splat(x[k * MR + i]);                                                                  \
        acc##i##0 = lane_madd(value, b0, acc##i##0);                                                                   \
        acc##i##1 = lane_madd(value, b1, acc##i##1);                                                                   \
    }
                ROWS(OUTER)
            }
#define END(i)                                                                                                         \
    if (i < channels) {                                                                                                \
        GLOBAL float *to = out + (long)i * arg.small_c;                                                                \
        if (stream) {                                                                                                  \
            lane_stream(to, acc##i##0);                                                                                \
            lane_stream(to + LANES, acc##i##1);                                                                        \
        } else {                                                                                                       \
            lane_store(to, acc##i##0);                                                                                 \
            lane_store(to + LANES, acc##i##1);                                                                         \
        }                                                                                                              \
    }
            ROWS(END)
        }
    }
    lane_stream_end();
}

#undef HALF_ROWS
#undef DOT_ROWS
#undef DOT_COLUMNS
#undef DOT_PLACES
#undef DOT_ALL
#undef DOT_LINES
#undef BEGIN
#undef OUTER
#undef END
