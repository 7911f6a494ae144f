#include <lunette/picture_out.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/philox.h"

/* Everything below uses + - * / and sqrt on doubles, whose results IEEE 754 fixes to the last bit, and sums in a
 * fixed order, so that the pictures are the same bytes on every machine. (FLT_EVAL_METHOD must be 0; contraction is
 * off in the whole project.) Directions come from rejection instead of sine and cosine, powers from products. */

/* Which draws are for what: the sub-stream of Philox. */
enum { SUB_SCENE, SUB_NOISE, SUB_CRATER };

#define NOISE_SIDE 64   /* the gradient lattice repeats after this many cells */
#define MARGIN     0.25 /* ground beyond each edge of the picture, for rims that cast shadows into it */
#define RADIUS_MIN 0.018
#define RADIUS_MAX 0.26
#define REACH      2.5 /* the ejecta blanket ends at this many radii */

typedef struct scene {
    uint64_t seed;
    uint32_t index;
    int side;           /* samples along the picture and both margins */
    int inner, samples; /* first sample of the picture; samples along the picture */
    double *height, *albedo;
    float gradient[NOISE_SIDE * NOISE_SIDE][2];
    double sun_x, sun_y, sun_z; /* unit vector towards the sun; x right, y down, z up */
} scene;

typedef struct crater {
    double x, y, r;
    double fresh; /* 1: sharp; towards 0: worn down */
    double peak, rays, wobble;
    double noise_x, noise_y;
} crater;

static double draw(const scene *s, uint32_t sub, uint32_t index)
{
    return lun_random_uniform(s->seed, LUN_RANDOM_CRATERS, s->index, sub, index);
}

static double lerp(double a, double b, double t)
{
    return a + (b - a) * t;
}

static double clamp01(double v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

static double smooth01(double v)
{
    v = clamp01(v);
    return v * v * (3 - 2 * v);
}

/* max(a, b) with a rounded corner of width k. */
static double smooth_max(double a, double b, double k)
{
    const double gap = a > b ? a - b : b - a;
    const double q = gap < k ? (k - gap) / k : 0;
    return (a > b ? a : b) + q * q * k * 0.25;
}

/* floor() for the range used here, without a library call. */
static int cell_of(double v)
{
    const int i = (int)v;
    return v < i ? i - 1 : i;
}

/* Gradient noise (Perlin 1985, with the quintic of 2002), about -0.7..0.7. */
static double noise(const scene *s, double x, double y)
{
    const int ix = cell_of(x), iy = cell_of(y);
    const double fx = x - ix, fy = y - iy;
    double corner[4];
    for (int c = 0; c < 4; c++) {
        const int dx = c & 1, dy = c >> 1;
        const unsigned cx = (unsigned)(ix + dx) % NOISE_SIDE, cy = (unsigned)(iy + dy) % NOISE_SIDE;
        const float *g = s->gradient[cy * NOISE_SIDE + cx];
        corner[c] = (double)g[0] * (fx - dx) + (double)g[1] * (fy - dy);
    }
    const double u = fx * fx * fx * (fx * (fx * 6 - 15) + 10);
    const double v = fy * fy * fy * (fy * (fy * 6 - 15) + 10);
    return lerp(lerp(corner[0], corner[1], u), lerp(corner[2], corner[3], u), v);
}

/* Octaves of noise, each twice as fine and half as high; the offset keeps their lattices apart. */
static double fractal(const scene *s, double x, double y, int octaves)
{
    double sum = 0, amplitude = 1;
    for (int o = 0; o < octaves; o++) {
        sum += amplitude * noise(s, x + 17.31 * o, y + 9.77 * o);
        x *= 2;
        y *= 2;
        amplitude *= 0.5;
    }
    return sum;
}

/* A unit vector in the plane from pairs of draws starting at `first`; at most 8 pairs are read. */
static void unit_vector(const scene *s, uint32_t sub, uint32_t first, double *x, double *y)
{
    for (uint32_t k = 0; k < 8; k++) {
        const double a = 2 * draw(s, sub, first + 2 * k) - 1, b = 2 * draw(s, sub, first + 2 * k + 1) - 1;
        const double square = a * a + b * b;
        if (square > 1 || square < 0.01)
            continue;
        const double length = sqrt(square);
        *x = a / length;
        *y = b / length;
        return;
    }
    *x = 0.6; /* once in some 170,000 pictures */
    *y = -0.8;
}

static void draw_noise(scene *s)
{
    for (uint32_t i = 0; i < NOISE_SIDE * NOISE_SIDE; i += 2) {
        uint32_t word[4];
        lun_random_block(s->seed, LUN_RANDOM_CRATERS, s->index, SUB_NOISE, i / 2, word);
        for (int k = 0; k < 4; k++)
            s->gradient[i + (uint32_t)k / 2][k % 2] = (float)((int32_t)(word[k] >> 8) - (1 << 23)) * 0x1p-23f;
    }
}

static double world_of(const scene *s, int sample)
{
    return (sample - s->inner + 0.5) / s->samples;
}

static int sample_at(const scene *s, double world)
{
    const int i = cell_of(world * s->samples) + s->inner;
    return i < 0 ? 0 : i >= s->side ? s->side - 1 : i;
}

static double height_at(const scene *s, double x, double y)
{
    return s->height[(size_t)sample_at(s, y) * (size_t)s->side + (size_t)sample_at(s, x)];
}

static void draw_ground(scene *s)
{
    const double relief = lerp(0.006, 0.022, draw(s, SUB_SCENE, 0));
    const double mottle = lerp(0.06, 0.20, draw(s, SUB_SCENE, 1));
    for (int j = 0; j < s->side; j++) {
        for (int i = 0; i < s->side; i++) {
            const double x = world_of(s, i) + 8, y = world_of(s, j) + 8;
            const size_t at = (size_t)j * (size_t)s->side + (size_t)i;
            s->height[at] = relief * fractal(s, 2.2 * x, 2.2 * y, 6);
            s->albedo[at] = 1 + mottle * fractal(s, 1.7 * x + 31, 1.7 * y + 31, 4);
        }
    }
}

/* Height of a crater of radius 1 at distance rho, without its central peak. */
static double profile(double rho, double depth, double rim, bool flat_floor)
{
    if (rho >= REACH)
        return 0;
    if (rho >= 1) {
        const double fade = (REACH - rho) / (REACH - 1);
        return rim / (rho * rho * rho) * fade;
    }
    const double bowl = (depth + rim) * rho * rho - depth;
    return flat_floor ? smooth_max(bowl, -0.72 * depth, 0.25 * depth) : bowl;
}

static void dig(scene *s, const crater *c)
{
    /* Large craters are shallower for their width, as on the moon. */
    const double slender = c->r > 0.12 ? 0.12 / c->r : 1;
    const double depth = c->fresh * lerp(0.22, 0.36, slender), rim = c->fresh * 0.12;
    const bool flat_floor = c->r > 0.12;
    const double reach = REACH * c->r * (1 + c->wobble);
    /* What was there before is gone inside the rim: the ground is drawn towards its mean height. */
    double level = 0;
    for (int k = 0; k < 9; k++)
        level += height_at(s, c->x + 0.7 * c->r * (k % 3 - 1), c->y + 0.7 * c->r * (k / 3 - 1)) / 9;
    const int x0 = sample_at(s, c->x - reach), x1 = sample_at(s, c->x + reach);
    const int y0 = sample_at(s, c->y - reach), y1 = sample_at(s, c->y + reach);
    for (int j = y0; j <= y1; j++) {
        for (int i = x0; i <= x1; i++) {
            const double dx = (world_of(s, i) - c->x) / c->r, dy = (world_of(s, j) - c->y) / c->r;
            const double distance = sqrt(dx * dx + dy * dy);
            if (distance >= REACH * (1 + c->wobble))
                continue;
            /* Noise over the direction alone would be singular at the centre; over the place it is not. */
            const double rho = distance * (1 + c->wobble * noise(s, 1.4 * dx + c->noise_x, 1.4 * dy + c->noise_y));
            const size_t at = (size_t)j * (size_t)s->side + (size_t)i;
            const double erase = 0.9 * (1 - smooth01((rho - 0.8) / 0.35));
            double h = s->height[at];
            h += (level - h) * erase + c->r * profile(rho, depth, rim, flat_floor);
            if (c->peak > 0 && rho < 0.34) {
                const double q = 1 - rho * rho / (0.34 * 0.34);
                h += c->r * c->peak * depth * q * q * (1 + 0.8 * noise(s, 5 * dx + c->noise_y, 5 * dy + c->noise_x));
            }
            if (rho < 1) /* slumped, uneven ground */
                h += c->r * 0.03 * (1 - rho * rho) * noise(s, 7 * dx + c->noise_x, 7 * dy + c->noise_y);
            s->height[at] = h;
            if (c->rays > 0 && rho < REACH && rho > 0.5) {
                const double ux = dx / distance, uy = dy / distance;
                const double streak = noise(s, 4 * ux + c->noise_x, 4 * uy + c->noise_y);
                const double near = (1 - rho / REACH) * smooth01((rho - 0.5) * 2);
                s->albedo[at] += c->rays * near * (0.7 + 1.2 * streak);
            }
        }
    }
}

/* Radius with N(>r) ~ r^-2 between the limits: the inverse of the distribution needs a square root only. */
static double power_law(double u)
{
    const double least = RADIUS_MIN * RADIUS_MIN / (RADIUS_MAX * RADIUS_MAX);
    return RADIUS_MIN / sqrt(lerp(1, least, u));
}

static void draw_craters(scene *s)
{
    enum { MOST = 120, DRAWS = 12 };
    crater list[MOST];
    const int count = 35 + (int)(85 * draw(s, SUB_SCENE, 2));
    double order[MOST];
    for (int k = 0; k < count; k++) {
        const uint32_t at = (uint32_t)k * DRAWS;
        crater *c = &list[k];
        c->x = lerp(-MARGIN, 1 + MARGIN, draw(s, SUB_CRATER, at));
        c->y = lerp(-MARGIN, 1 + MARGIN, draw(s, SUB_CRATER, at + 1));
        c->r = power_law(draw(s, SUB_CRATER, at + 2));
        if (k == 0) { /* every picture has one crater that is its subject */
            c->x = lerp(0.28, 0.72, draw(s, SUB_CRATER, at));
            c->y = lerp(0.28, 0.72, draw(s, SUB_CRATER, at + 1));
            c->r = lerp(0.15, 0.31, draw(s, SUB_CRATER, at + 2));
        }
        c->fresh = k == 0 ? lerp(0.8, 1, draw(s, SUB_CRATER, at + 3)) : lerp(0.4, 1, draw(s, SUB_CRATER, at + 3));
        c->peak = c->r > 0.15 && draw(s, SUB_CRATER, at + 4) < 0.7 ? lerp(0.35, 0.75, draw(s, SUB_CRATER, at + 5)) : 0;
        c->rays =
            c->fresh > 0.8 && draw(s, SUB_CRATER, at + 6) < 0.3 ? lerp(0.1, 0.35, draw(s, SUB_CRATER, at + 7)) : 0;
        c->wobble = lerp(0.04, 0.16, draw(s, SUB_CRATER, at + 8));
        c->noise_x = 8 + 40 * draw(s, SUB_CRATER, at + 9);
        c->noise_y = 8 + 40 * draw(s, SUB_CRATER, at + 10);
        /* Small craters are mostly the younger ones: they survive only on top. The subject is never buried. */
        order[k] = c->r * lerp(0.3, 1, draw(s, SUB_CRATER, at + 11));
    }
    order[0] = list[0].r * 0.8;
    for (int k = 0; k < count; k++) {
        int oldest = -1;
        for (int m = 0; m < count; m++)
            if (order[m] >= 0 && (oldest < 0 || order[m] > order[oldest]))
                oldest = m;
        dig(s, &list[oldest]);
        order[oldest] = -1;
    }
}

static void draw_sun(scene *s)
{
    double x, y;
    unit_vector(s, SUB_SCENE, 16, &x, &y);
    s->sun_z = lerp(0.26, 0.50, draw(s, SUB_SCENE, 3)); /* 15 to 30 degrees up */
    const double flat = sqrt(1 - s->sun_z * s->sun_z);
    s->sun_x = flat * x;
    s->sun_y = flat * y;
}

static double bilinear(const scene *s, double i, double j)
{
    const int x = (int)i, y = (int)j;
    const double fx = i - x, fy = j - y;
    const double *row = s->height + (size_t)y * (size_t)s->side + (size_t)x;
    return lerp(lerp(row[0], row[1], fx), lerp(row[s->side], row[s->side + 1], fx), fy);
}

/* Share of the sun's disc that the ground leaves free at a sample: 0 in shadow, 1 in light. */
static double sunlight(const scene *s, int i, int j)
{
    const double flat = sqrt(s->sun_x * s->sun_x + s->sun_y * s->sun_y);
    const double step_x = s->sun_x / flat, step_y = s->sun_y / flat, slope = s->sun_z / flat;
    const double start = s->height[(size_t)j * (size_t)s->side + (size_t)i];
    double free = 1;
    for (double t = 1.5; free > 0; t += 1 + t * 0.02) {
        const double x = i + step_x * t, y = j + step_y * t;
        const double climb = slope * t / s->samples;
        if (x < 0 || y < 0 || x >= s->side - 1 || y >= s->side - 1 || climb > 0.16)
            break;
        const double above = start + climb - bilinear(s, x, y);
        const double open = 0.5 + above / (0.10 * t / s->samples + 0.002);
        if (open < free)
            free = open;
    }
    return smooth01(free);
}

static double shade(const scene *s, int i, int j)
{
    const size_t side = (size_t)s->side, at = (size_t)j * side + (size_t)i;
    const double scale = 0.5 * s->samples;
    const double gx = (s->height[at + 1] - s->height[at - 1]) * scale;
    const double gy = (s->height[at + side] - s->height[at - side]) * scale;
    const double nz = 1 / sqrt(1 + gx * gx + gy * gy);
    const double incidence = (s->sun_z - gx * s->sun_x - gy * s->sun_y) * nz;
    /* The sky is black, but lit slopes opposite send a little light back. */
    const double ambient = 0.035 * (0.5 + 0.5 * nz);
    if (incidence <= 0)
        return ambient * s->albedo[at];
    /* Seen from straight above, level ground is 1: the moon's Lommel-Seeliger law and Lambert's, half each. */
    const double seeliger = incidence / (incidence + nz) * (s->sun_z + 1) / s->sun_z;
    const double lambert = incidence / s->sun_z;
    return s->albedo[at] * (ambient + (0.55 * seeliger + 0.45 * lambert) * sunlight(s, i, j));
}

static void render(const scene *s, int size, uint8_t *pixels, double *light)
{
    const int factor = s->samples / size;
    double mean = 0;
    for (int y = 0; y < size; y++) {
        for (int x = 0; x < size; x++) {
            double sum = 0;
            for (int b = 0; b < factor; b++)
                for (int a = 0; a < factor; a++)
                    sum += shade(s, s->inner + x * factor + a, s->inner + y * factor + b);
            light[(size_t)y * (size_t)size + (size_t)x] = sum / (factor * factor);
            mean += sum / (factor * factor);
        }
    }
    mean /= (double)size * size;
    /* A camera's exposure: a mean near 0.29 of full scale in light is one near 0.54 after the square root that
     * stands for a display's gamma. */
    const double exposure = lerp(0.24, 0.34, draw(s, SUB_SCENE, 4)) / mean;
    const double mars = draw(s, SUB_SCENE, 5), ochre = mars * mars * mars;
    const double tint[3] = {lerp(1.0, 1.30, ochre), lerp(1.0, 0.92, ochre), lerp(1.0, 0.66, ochre)};
    for (size_t k = 0; k < (size_t)size * (size_t)size; k++) {
        for (int c = 0; c < 3; c++) {
            double v = light[k] * exposure * tint[c];
            if (v > 0.5) /* roll highlights off instead of cutting them: 0.5 stays, infinity is 1 */
                v = 1 - 0.25 / v;
            pixels[3 * k + (size_t)c] = (uint8_t)(sqrt(v) * 255 + 0.5);
        }
    }
}

lun_status lun_craters_draw(uint64_t seed, uint32_t index, int size, lun_picture *out)
{
    if (size < LUN_CRATERS_SIZE_MIN || size > LUN_CRATERS_SIZE_MAX)
        return lun_fail(LUN_ERR_USAGE, "craters are drawn at %d to %d pixels, not %d", LUN_CRATERS_SIZE_MIN,
                        LUN_CRATERS_SIZE_MAX, size);
    if (out == NULL)
        return lun_fail(LUN_ERR_USAGE, "no place for the picture of craters");
    int factor = size <= 128 ? 4 : size <= 256 ? 3 : 2;
    if (factor * size < 192) /* the least craters must not fall between the samples */
        factor = (192 + size - 1) / size;
    scene *s = lun_calloc(1, sizeof *s, "a crater field");
    if (s == NULL)
        return LUN_ERR_MEMORY;
    s->seed = seed;
    s->index = index;
    s->samples = factor * size;
    s->inner = (int)(MARGIN * s->samples) + 1;
    s->side = s->samples + 2 * s->inner;
    const size_t area = (size_t)s->side * (size_t)s->side, count = (size_t)size * (size_t)size;
    s->height = lun_malloc(area, sizeof *s->height, "a crater field");
    s->albedo = lun_malloc(area, sizeof *s->albedo, "a crater field");
    double *light = lun_malloc(count, sizeof *light, "a crater field");
    uint8_t *pixels = lun_malloc(count, 3, "a crater field");
    const bool ready = s->height != NULL && s->albedo != NULL && light != NULL && pixels != NULL;
    if (ready) {
        draw_noise(s);
        draw_ground(s);
        draw_craters(s);
        draw_sun(s);
        render(s, size, pixels, light);
        out->width = out->height = size;
        out->pixels = pixels;
        out->channels = 3;
        pixels = NULL;
    }
    free(pixels);
    free(light);
    free(s->albedo);
    free(s->height);
    free(s);
    return ready ? LUN_OK : LUN_ERR_MEMORY;
}
