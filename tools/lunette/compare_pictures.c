/* lunette compare: pictures in. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"
#include "common.h"
#include "compare.h"
#include "data/picture.h"
#include "data_options.h"
#include "device/cache.h"

static lun_status gallery_make(gallery *g, size_t count, int width, int height, int channels)
{
    const size_t bytes = (size_t)width * (size_t)height * (size_t)channels;
    g->pixels = lun_malloc(count, bytes, "pictures to compare");
    g->names = lun_calloc(count, sizeof *g->names, "pictures to compare");
    g->set = (lun_picture_set){g->pixels, count, width, height, channels};
    return g->pixels && g->names ? LUN_OK : LUN_ERR_MEMORY;
}

void compare_free(gallery *g)
{
    for (size_t i = 0; g->names && i < g->set.count; i++)
        free(g->names[i]);
    free(g->names);
    free(g->pixels);
}

size_t compare_bytes(const gallery *g)
{
    return (size_t)g->set.width * (size_t)g->set.height * (size_t)g->set.channels;
}

static lun_status load_folder(const comparison *c, const char *folder, const char *cache, lun_dataset **dataset,
                              gallery *out)
{
    const lun_dataset_params params = {.folder = folder,
                                       .width = c->width,
                                       .height = c->height,
                                       .fit = c->fit,
                                       .channels = c->channels,
                                       .threads = c->args->threads,
                                       .cache = cache};
    LUN_TRY(lun_dataset_open(&params, dataset));
    const size_t count = lun_dataset_count(*dataset);
    LUN_TRY(gallery_make(out, count, c->width, c->height, c->channels));
    for (size_t i = 0; i < count; i++) {
        LUN_TRY(lun_dataset_pixels(*dataset, i, out->pixels + i * compare_bytes(out)));
        out->names[i] = lun_strdup(lun_dataset_name(*dataset, i));
        if (!out->names[i])
            return LUN_ERR_MEMORY;
    }
    return LUN_OK;
}

/* The largest k for which every cell of the grid consists of k x k squares of one colour: what sample magnified. */
static int magnification(const lun_picture *p, const int grid[2], int cell_w, int cell_h)
{
    const size_t channels = (size_t)p->channels, row = (size_t)p->width * channels;
    for (int k = 64; k > 1; k--) {
        bool fits = cell_w % k == 0 && cell_h % k == 0;
        for (int y = 0; fits && y < grid[1] * cell_h; y++) {
            const int at_y = GRID_GAP + y / cell_h * (cell_h + GRID_GAP) + y % cell_h;
            for (int x = 0; fits && x < grid[0] * cell_w; x++) {
                const int at_x = GRID_GAP + x / cell_w * (cell_w + GRID_GAP) + x % cell_w;
                const uint8_t *pixel = p->pixels + (size_t)at_y * row + (size_t)at_x * channels;
                const uint8_t *corner = pixel - (size_t)(y % k) * row - (size_t)(x % k) * channels;
                fits = memcmp(pixel, corner, channels) == 0;
            }
        }
        if (fits)
            return k;
    }
    return 1;
}

/* Is the whole cell the ground that a grid's last row ends with? */
static bool is_ground(const lun_picture *cell)
{
    for (size_t i = 0; i < (size_t)cell->width * (size_t)cell->height * (size_t)cell->channels; i++) {
        if (cell->pixels[i] != (cell->channels == 4 && i % 4 == 3 ? 255 : 40))
            return false;
    }
    return true;
}

/* Every k-th pixel of every k-th row, from (x, y) on. */
static lun_status take_cell(const lun_picture *p, int x, int y, int width, int height, int k, lun_picture *out)
{
    const size_t channels = (size_t)p->channels;
    lun_picture cell = {width, height, lun_malloc((size_t)width * (size_t)height, channels, "a cell"), p->channels};
    if (!cell.pixels)
        return LUN_ERR_MEMORY;
    for (int row = 0; row < height; row++) {
        for (int column = 0; column < width; column++)
            memcpy(cell.pixels + ((size_t)row * (size_t)width + (size_t)column) * channels,
                   p->pixels + ((size_t)(y + row * k) * (size_t)p->width + (size_t)(x + column * k)) * channels,
                   channels);
    }
    *out = cell;
    return LUN_OK;
}

/* The pictures of a grid as sample draws it, or with a grid of 1 x 1 and no frame the picture itself. */
static lun_status cut_grid(comparison *c, const lun_picture *p, const int grid[2], int gap)
{
    const int room_w = p->width - (grid[0] + 1) * gap, room_h = p->height - (grid[1] + 1) * gap;
    if (room_w < grid[0] || room_h < grid[1] || room_w % grid[0] || room_h % grid[1])
        return lun_fail(LUN_ERR_USAGE, "%s: %d x %d pixels are no grid of %d x %d pictures with %d pixels between them",
                        c->args->paths[0], p->width, p->height, grid[0], grid[1], gap);
    const int cell_w = room_w / grid[0], cell_h = room_h / grid[1];
    const int k = gap ? magnification(p, grid, cell_w, cell_h) : 1;
    if (!c->args->size_given) {
        c->width = cell_w / k;
        c->height = cell_h / k;
    }
    LUN_TRY(gallery_make(&c->a, (size_t)grid[0] * (size_t)grid[1], c->width, c->height, c->channels));
    size_t count = 0;
    lun_status status = LUN_OK;
    for (int i = 0; i < grid[0] * grid[1] && status == LUN_OK; i++) {
        const int x = gap + i % grid[0] * (cell_w + gap), y = gap + i / grid[0] * (cell_h + gap);
        lun_picture cell = {0}, fitted = {0};
        LUN_TRY(take_cell(p, x, y, cell_w / k, cell_h / k, k, &cell));
        if (!gap || i < grid[0] * (grid[1] - 1) || !is_ground(&cell)) {
            status = lun_picture_fit(&cell, c->fit, c->width, c->height, &fitted);
            if (status == LUN_OK) {
                memcpy(c->a.pixels + count * compare_bytes(&c->a), fitted.pixels, compare_bytes(&c->a));
                c->a.names[count] = lun_format("#%d", i);
                status = c->a.names[count++] ? LUN_OK : LUN_ERR_MEMORY;
            }
        }
        lun_picture_free(&fitted);
        lun_picture_free(&cell);
    }
    c->a.set.count = count;
    if (status == LUN_OK && count == 0)
        status = lun_fail(LUN_ERR_DATA, "%s: an empty grid", c->args->paths[0]);
    return status;
}

static lun_status load_file(comparison *c)
{
    const compare_args *a = c->args;
    static const int one[2] = {1, 1};
    lun_picture picture = {0};
    LUN_TRY(lun_picture_load_as(a->paths[0], 0, a->channels_given ? channels_of(a->channels) : 0, &picture));
    c->channels = picture.channels;
    const lun_status status = cut_grid(c, &picture, a->grid_given ? a->grid : one, a->grid_given ? GRID_GAP : 0);
    lun_picture_free(&picture);
    return status;
}

/* The size of a folder's first usable picture; where there is none, opening the folder says why. */
static lun_status first_size(comparison *c, const char *folder)
{
    lun_folder files;
    lun_status status = LUN_ERR_DATA;
    LUN_TRY(lun_folder_scan(folder, &files));
    c->width = c->height = 1;
    for (size_t i = 0; i < files.count && status == LUN_ERR_DATA; i++) {
        lun_picture picture = {0};
        lun_decode decode = {.channels = 1};
        status = lun_picture_decode(files.fd, files.names[i], &decode, &picture);
        lun_decode_end(&decode);
        if (status == LUN_OK) {
            c->width = picture.width;
            c->height = picture.height;
        }
        lun_picture_free(&picture);
    }
    lun_folder_free(&files);
    return status == LUN_ERR_DATA ? LUN_OK : status;
}

lun_status compare_load_a(comparison *c)
{
    const compare_args *a = c->args;
    lun_dataset *dataset = NULL;
    lun_path_kind kind;
    c->width = a->size[0];
    c->height = a->size[1];
    LUN_TRY(lun_path_look(a->paths[0], LUN_ERR_DATA, &kind));
    if (kind == LUN_PATH_MISSING)
        return lun_fail(LUN_ERR_USAGE, "%s: no such picture or folder of pictures", a->paths[0]);
    if (kind != LUN_PATH_FOLDER)
        return load_file(c);
    if (a->grid_given)
        return lun_fail(LUN_ERR_USAGE, "--grid: %s is a folder, not one picture", a->paths[0]);
    c->channels = a->channels_given ? channels_of(a->channels) : 0;
    if (!c->channels) {
        lun_folder_survey found;
        LUN_TRY(lun_folder_look(a->paths[0], &found));
        c->channels = found.channels;
    }
    if (!a->size_given)
        LUN_TRY(first_size(c, a->paths[0]));
    const lun_status status = load_folder(c, a->paths[0], NULL, &dataset, &c->a);
    lun_dataset_close(&dataset);
    return status;
}

lun_status compare_load_b(comparison *c)
{
    const compare_args *a = c->args;
    lun_dataset *dataset = NULL;
    lun_path_kind kind;
    LUN_TRY(lun_path_look(a->paths[1], LUN_ERR_DATA, &kind));
    if (kind != LUN_PATH_FOLDER)
        return lun_fail(LUN_ERR_USAGE, "%s: no such folder of pictures", a->paths[1]);
    char *cache = a->no_cache ? NULL : a->cache ? lun_strdup(a->cache) : lun_cache_folder();
    lun_status status = load_folder(c, a->paths[1], cache, &dataset, &c->b);
    if (status == LUN_OK) {
        c->order = lun_malloc(c->b.set.count, sizeof *c->order, "pictures to compare");
        status = c->order ? lun_holdout_split(dataset, a->holdout, c->order, &c->held) : LUN_ERR_MEMORY;
    }
    lun_dataset_close(&dataset);
    free(cache);
    return status;
}
