#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *golden_folder, *golden_scratch;
lun_device *golden_device;

/* Paths stay valid to the end: a test holds several. */
static const char *join(const char *folder, const char *name)
{
    static char paths[64][512];
    static int count;
    char path[512];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        abort();
    for (int i = 0; i < count; i++)
        if (strcmp(paths[i], path) == 0)
            return paths[i];
    if (count == 64)
        abort();
    return strcpy(paths[count++], path);
}

const char *golden_path(const char *name)
{
    return join(golden_folder, name);
}
const char *scratch_path(const char *name)
{
    return join(golden_scratch, name);
}

lun_safetensors *golden_open(const char *path)
{
    lun_safetensors *file = NULL;
    MUST(lun_safetensors_open(path, &file));
    return file;
}

static size_t find(const lun_safetensors *file, const char *name, size_t count)
{
    const int64_t index = lun_safetensors_find(file, name);
    ck_assert_msg(index >= 0, "%s has no %s", lun_safetensors_path(file), name);
    const int64_t has = lun_safetensors_info(file, (size_t)index)->count;
    ck_assert_msg(!count || has == (int64_t)count, "%s: %s has %lld elements, wanted %zu", lun_safetensors_path(file),
                  name, (long long)has, count);
    return (size_t)index;
}

float *golden_floats(const lun_safetensors *file, const char *name, size_t count)
{
    const size_t index = find(file, name, count);
    const size_t has = (size_t)lun_safetensors_info(file, index)->count;
    float *values = malloc((has ? has : 1) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    MUST(lun_safetensors_read_f32(file, index, values, has));
    return values;
}

double *golden_doubles(const lun_safetensors *file, const char *name, size_t count)
{
    const size_t index = find(file, name, count);
    ck_assert_int_eq(lun_safetensors_info(file, index)->dtype, LUN_ST_F64);
    const size_t bytes = (size_t)lun_safetensors_info(file, index)->bytes;
    double *values = malloc(bytes ? bytes : 1);
    ck_assert_ptr_nonnull(values);
    MUST(lun_safetensors_read(file, index, values, bytes));
    return values;
}

int64_t *golden_integers(const lun_safetensors *file, const char *name, size_t *count)
{
    const size_t index = find(file, name, 0);
    const size_t has = (size_t)lun_safetensors_info(file, index)->count;
    int64_t *values = malloc((has ? has : 1) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    MUST(lun_safetensors_read_i64(file, index, values, has));
    *count = has;
    return values;
}

double golden_scalar(const lun_safetensors *file, const char *name)
{
    float *value = golden_floats(file, name, 1);
    const double result = value[0];
    free(value);
    return result;
}

double golden_number(const lun_safetensors *file, const char *key)
{
    const char *text = lun_safetensors_metadata(file, key);
    ck_assert_msg(text != NULL, "%s has no metadata %s", lun_safetensors_path(file), key);
    return strtod(text, NULL);
}

double relative(const float *got, const float *want, size_t count)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        const double d = (double)got[i] - (double)want[i];
        difference += d * d;
        size += (double)want[i] * (double)want[i];
    }
    return sqrt(size > 0 ? difference / size : difference);
}

/* ---- A network on the device ------------------------------------------------------------------------------------- */

network network_open(const char *path, lun_shape shape, lun_norm_mode norm)
{
    network n = {0};
    MUST(lun_model_inspect(path, &n.info));
    MUST(lun_store_create(&n.store));
    MUST(lun_graph_create(n.store, &n.graph));
    n.x = lun_graph_input(n.graph, "x", (lun_desc){LUN_F32, LUN_IMAGE, shape});
    n.t = lun_graph_input(n.graph, "t", lun_typed(lun_image(shape.n, 1, 1, 1), LUN_I32));
    n.y = lun_model_forward(n.graph, &n.info.config, n.x, n.t, norm);
    lun_graph_output(n.graph, n.y);
    return n;
}

void network_ready(network *n, const char *path, int training)
{
    MUST(lun_graph_check(n->graph));
    MUST(lun_store_allocate(n->store, golden_device, training));
    MUST(lun_model_load(n->store, path));
    MUST(lun_graph_compile(n->graph, golden_device, NULL, &n->plan));
    ck_assert_uint_eq(lun_plan_get_info(n->plan).launches_fallback, 0);
}

void network_close(network *n)
{
    lun_plan_destroy(&n->plan);
    lun_graph_destroy(&n->graph);
    lun_store_destroy(&n->store);
}

float *store_values(lun_store *store, lun_role role, size_t *count)
{
    size_t total = 0;
    for (size_t i = 0; i < lun_store_count(store); i++)
        if (lun_store_info(store, i)->role == role)
            total += (size_t)lun_count(lun_store_info(store, i)->desc.shape);
    float *values = malloc((total ? total : 1) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    size_t at = 0;
    for (size_t i = 0; i < lun_store_count(store); i++) {
        if (lun_store_info(store, i)->role != role)
            continue;
        MUST(lun_store_read(store, i, LUN_SLOT_VALUE, values + at));
        at += (size_t)lun_count(lun_store_info(store, i)->desc.shape);
    }
    *count = total;
    return values;
}
