#include "graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

lun_status lun_store_create(lun_store **out)
{
    if (!out)
        return lun_fail(LUN_ERR_USAGE, "lun_store_create: no place for the store");
    lun_store *store = lun_calloc(1, sizeof *store, "a store");
    if (!store)
        return LUN_ERR_MEMORY;
    *out = store;
    return LUN_OK;
}

static void free_chunks(lun_store_chunk *chunks, int count)
{
    for (int c = 0; c < count; c++)
        for (int slot = 0; slot < LUN_SLOTS; slot++)
            lun_buffer_destroy(&chunks[c].buffer[slot]);
    free(chunks);
}

void lun_store_destroy(lun_store **store)
{
    if (!store || !*store)
        return;
    free_chunks((*store)->chunks, (*store)->chunk_count);
    for (int i = 0; i < (*store)->count; i++)
        free((*store)->entries[i].name);
    free((*store)->entries);
    free(*store);
    *store = NULL;
}

size_t lun_store_count(const lun_store *store)
{
    return (size_t)store->count;
}

const lun_param_info *lun_store_info(const lun_store *store, size_t index)
{
    return index < (size_t)store->count ? &store->entries[index].info : NULL;
}

int lun_store_find(const lun_store *store, const char *name)
{
    for (int i = 0; name && i < store->count; i++)
        if (strcmp(store->entries[i].name, name) == 0)
            return i;
    return -1;
}

uint64_t lun_store_param_elements(const lun_store *store)
{
    uint64_t elements = 0;
    for (int i = 0; i < store->count; i++)
        if (store->entries[i].info.role == LUN_ROLE_PARAM)
            elements += (uint64_t)lun_count(store->entries[i].info.desc.shape);
    return elements;
}

static bool same_desc(lun_desc a, lun_desc b)
{
    return a.dtype == b.dtype && a.layout == b.layout && lun_shape_equal(a.shape, b.shape);
}

/* Does the shape have the form that a file's tensor of this rank gets? */
static bool rank_fits(int rank, lun_desc desc)
{
    const lun_shape s = desc.shape;
    switch (rank) {
    case 1: return desc.layout == LUN_IMAGE && s.n == 1 && s.h == 1 && s.w == 1;
    case 2: return s.h == 1 && s.w == 1;
    case 4: return true;
    default: return false;
    }
}

lun_status lun_store_enter(lun_store *store, const lun_param_info *info, int *index)
{
    if (!info->name || !*info->name)
        return lun_fail(LUN_ERR_USAGE, "a parameter without a name");
    if (lun_desc_check(info->desc) != LUN_OK)
        return lun_fail(LUN_ERR_USAGE, "parameter %s: %s", info->name, lun_error_detail());
    if (info->desc.dtype != LUN_F32)
        return lun_fail(LUN_ERR_USAGE, "parameter %s: parameters are float32", info->name);
    if (!rank_fits(info->rank, info->desc))
        return lun_fail(LUN_ERR_USAGE, "parameter %s: its shape is not that of a tensor of rank %d", info->name,
                        info->rank);
    if (info->role != LUN_ROLE_PARAM && info->role != LUN_ROLE_BUFFER)
        return lun_fail(LUN_ERR_USAGE, "parameter %s: %d is no role", info->name, (int)info->role);
    if ((info->init.kind == LUN_INIT_UNIFORM || info->init.kind == LUN_INIT_NORMAL) &&
        !(info->init.bound >= 0 && isfinite(info->init.bound)))
        return lun_fail(LUN_ERR_USAGE, "parameter %s: initial bound %g", info->name, (double)info->init.bound);
    const int known = lun_store_find(store, info->name);
    if (known >= 0) {
        const lun_param_info *old = &store->entries[known].info;
        if (!same_desc(old->desc, info->desc) || old->rank != info->rank || old->role != info->role)
            return lun_fail(LUN_ERR_USAGE, "parameter %s is in the store with another shape, rank or role", info->name);
        *index = known;
        return LUN_OK;
    }
    if (store->device)
        return lun_fail(LUN_ERR_USAGE, "parameter %s: the store has its memory, nothing can be added", info->name);
    if (store->count == store->room) {
        const int room = store->room ? store->room * 2 : 64;
        lun_store_entry *bigger = lun_realloc(store->entries, (size_t)room, sizeof *bigger, "a store's entries");
        if (!bigger)
            return LUN_ERR_MEMORY;
        store->entries = bigger;
        store->room = room;
    }
    char *name = lun_strdup(info->name);
    if (!name)
        return LUN_ERR_MEMORY;
    store->entries[store->count] = (lun_store_entry){.info = *info, .name = name, .chunk = -1};
    store->entries[store->count].info.name = name;
    *index = store->count++;
    return LUN_OK;
}

/* Give each entry of `role` its chunk and offset, from chunk *count on. */
static lun_status lay_out(lun_store *store, lun_role role, size_t limit, lun_store_chunk *chunks, int *count)
{
    int chunk = -1;
    for (int i = 0; i < store->count; i++) {
        lun_store_entry *entry = &store->entries[i];
        if (entry->info.role != role)
            continue;
        const size_t bytes = (size_t)lun_round_up((int64_t)lun_bytes(entry->info.desc), LUN_ALIGN);
        if (bytes > limit)
            return lun_fail(LUN_ERR_MEMORY, "parameter %s takes %zu bytes; one buffer of this device holds %zu",
                            entry->name, bytes, limit);
        if (chunk < 0 || bytes > limit - chunks[chunk].bytes) {
            chunk = (*count)++;
            chunks[chunk].bytes = 0;
        }
        entry->chunk = chunk;
        entry->offset = chunks[chunk].bytes;
        chunks[chunk].bytes += bytes;
    }
    return LUN_OK;
}

lun_status lun_store_allocate(lun_store *store, lun_device *dev, int training)
{
    if (!store || !dev)
        return lun_fail(LUN_ERR_USAGE, "lun_store_allocate: no store or no device");
    if (store->device)
        return lun_fail(LUN_ERR_USAGE, "the store has its memory already");
    /* A chunk is one tensor to Adam, so its element count too stays below 2^31. */
    const size_t most = (size_t)INT32_MAX / 64 * 64 * 4;
    const uint64_t max_alloc = dev->info.max_alloc_bytes / LUN_ALIGN * LUN_ALIGN;
    const size_t limit = max_alloc && max_alloc < most ? (size_t)max_alloc : most;
    lun_store_chunk *chunks = lun_calloc((size_t)store->count + 1, sizeof *chunks, "a store's chunks");
    if (!chunks)
        return LUN_ERR_MEMORY;
    int count = 0, trained = 0;
    lun_status status;
    LUN_TRY_GOTO(status, fail, lay_out(store, LUN_ROLE_PARAM, limit, chunks, &count));
    trained = count;
    LUN_TRY_GOTO(status, fail, lay_out(store, LUN_ROLE_BUFFER, limit, chunks, &count));
    for (int c = 0; c < count; c++) {
        const unsigned safe = 1u << LUN_SLOT_SAFE;
        const unsigned trained_slots =
            1u << LUN_SLOT_GRAD | 1u << LUN_SLOT_M | 1u << LUN_SLOT_V | (store->wanted & ~safe);
        const unsigned more = c < trained ? trained_slots : store->wanted & safe;
        const unsigned slots = 1u << LUN_SLOT_VALUE | (training ? more : 0);
        for (int slot = 0; slot < LUN_SLOTS; slot++) {
            if (!(slots >> slot & 1u))
                continue;
            LUN_TRY_GOTO(status, fail, lun_buffer_create(dev, chunks[c].bytes, &chunks[c].buffer[slot]));
            LUN_TRY_GOTO(status, fail, lun_buffer_fill((lun_place){chunks[c].buffer[slot], 0}, 0, chunks[c].bytes));
        }
    }
    store->chunks = chunks;
    store->chunk_count = count;
    store->trained_chunks = trained;
    store->training = training != 0;
    store->version = 1;
    store->device = dev;
    return LUN_OK;
fail:
    free_chunks(chunks, count);
    return status;
}

lun_place lun_store_place(const lun_store *store, int index, lun_slot slot)
{
    const lun_store_entry *entry = &store->entries[index];
    return (lun_place){store->chunks[entry->chunk].buffer[slot], entry->offset};
}

static lun_status find_slot(const lun_store *store, size_t index, lun_slot slot)
{
    if (!store || index >= (size_t)store->count)
        return lun_fail(LUN_ERR_USAGE, "the store has no parameter %zu", index);
    const lun_store_entry *entry = &store->entries[index];
    if (!store->device)
        return lun_fail(LUN_ERR_USAGE, "parameter %s: the store has no memory yet", entry->name);
    static const char *const names[] = {"value", "gradient", "moments", "moments", "sum of gradients", "safe value"};
    if ((int)slot < 0 || (int)slot >= LUN_SLOTS || !store->chunks[entry->chunk].buffer[slot])
        return lun_fail(LUN_ERR_USAGE, "parameter %s has no %s here", entry->name,
                        (size_t)slot < LUN_COUNT(names) ? names[slot] : "moving average");
    return LUN_OK;
}

lun_status lun_store_want(lun_store *store, lun_slot slot)
{
    if (slot <= LUN_SLOT_V)
        return LUN_OK;
    const int chunk = slot == LUN_SLOT_SAFE ? store->trained_chunks : 0;
    const int end = slot == LUN_SLOT_SAFE ? store->chunk_count : store->trained_chunks;
    if (store->device && chunk < end && !store->chunks[chunk].buffer[slot])
        return lun_fail(LUN_ERR_USAGE, "the store has its memory, and none for slot %d", (int)slot);
    store->wanted |= 1u << slot;
    return LUN_OK;
}

lun_status lun_store_copy(lun_store *store, lun_slot dst, lun_slot src)
{
    if (!store || !store->device)
        return lun_fail(LUN_ERR_USAGE, "lun_store_copy: no store, or one without memory");
    if ((int)dst < 0 || (int)dst >= LUN_SLOTS || (int)src < 0 || (int)src >= LUN_SLOTS)
        return lun_fail(LUN_ERR_USAGE, "lun_store_copy: from slot %d to slot %d", (int)src, (int)dst);
    for (int c = 0; c < store->trained_chunks; c++) {
        lun_store_chunk *chunk = &store->chunks[c];
        if (!chunk->buffer[dst] || !chunk->buffer[src])
            return lun_fail(LUN_ERR_USAGE, "lun_store_copy: the store has no slot %d",
                            (int)(chunk->buffer[dst] ? src : dst));
        if (dst != src)
            LUN_TRY(
                lun_buffer_copy((lun_place){chunk->buffer[dst], 0}, (lun_place){chunk->buffer[src], 0}, chunk->bytes));
    }
    store->version += dst == LUN_SLOT_VALUE;
    return LUN_OK;
}

lun_status lun_store_clear(lun_store *store, lun_slot slot)
{
    if (!store || !store->device)
        return lun_fail(LUN_ERR_USAGE, "lun_store_clear: no store, or one without memory");
    for (int c = 0; c < store->trained_chunks; c++) {
        lun_store_chunk *chunk = &store->chunks[c];
        if ((int)slot < 0 || (int)slot >= LUN_SLOTS || !chunk->buffer[slot])
            return lun_fail(LUN_ERR_USAGE, "lun_store_clear: the store has no slot %d", (int)slot);
        LUN_TRY(lun_buffer_fill((lun_place){chunk->buffer[slot], 0}, 0, chunk->bytes));
    }
    store->version += slot == LUN_SLOT_VALUE;
    return LUN_OK;
}

lun_status lun_store_keep_safe(lun_store *store)
{
    if (!store || !store->device)
        return lun_fail(LUN_ERR_USAGE, "lun_store_keep_safe: no store, or one without memory");
    for (int c = store->trained_chunks; c < store->chunk_count; c++) {
        lun_store_chunk *chunk = &store->chunks[c];
        if (chunk->buffer[LUN_SLOT_SAFE])
            LUN_TRY(lun_buffer_copy((lun_place){chunk->buffer[LUN_SLOT_SAFE], 0},
                                    (lun_place){chunk->buffer[LUN_SLOT_VALUE], 0}, chunk->bytes));
    }
    return LUN_OK;
}

lun_status lun_store_read(lun_store *store, size_t index, lun_slot slot, float *dst)
{
    LUN_TRY(find_slot(store, index, slot));
    const lun_desc desc = store->entries[index].info.desc;
    void *stored = lun_malloc(lun_bytes(desc), 1, "reading a parameter");
    if (!stored)
        return LUN_ERR_MEMORY;
    const lun_status status = lun_buffer_read(lun_store_place(store, (int)index, slot), stored, lun_bytes(desc));
    if (status == LUN_OK)
        lun_from_storage(desc, stored, dst);
    free(stored);
    return status;
}

lun_status lun_store_write(lun_store *store, size_t index, lun_slot slot, const float *src)
{
    LUN_TRY(find_slot(store, index, slot));
    const lun_desc desc = store->entries[index].info.desc;
    void *stored = lun_malloc(lun_bytes(desc), 1, "writing a parameter");
    if (!stored)
        return LUN_ERR_MEMORY;
    lun_to_storage(desc, src, stored);
    store->version++;
    const lun_status status = lun_buffer_write(lun_store_place(store, (int)index, slot), stored, lun_bytes(desc));
    free(stored);
    return status;
}

size_t lun_store_bytes(const lun_store *store, lun_slot slot)
{
    size_t bytes = 0;
    for (int c = 0; (int)slot >= 0 && (int)slot < LUN_SLOTS && c < store->chunk_count; c++)
        if (store->chunks[c].buffer[slot])
            bytes += store->chunks[c].bytes;
    return bytes;
}

/* Element e is lun_random_uniform(seed, init, number, 0, e), four to a block. 2u - 1 is exact. */
static void draw_uniform(float *values, int64_t count, uint64_t seed, int number, float bound)
{
    for (int64_t e = 0; e < count; e += 4) {
        uint32_t draw[4];
        lun_random_block(seed, LUN_RANDOM_INIT, (uint64_t)number, 0, (uint32_t)(e / 4), draw);
        for (int i = 0; i < 4 && e + i < count; i++)
            values[e + i] = bound * (2 * lun_uniform_of(draw[i]) - 1);
    }
}

/* Box and Muller as in cl/random.cl, with the library's functions: elements 4b and 4b + 1 from the block's first two
 * words, 4b + 2 and 4b + 3 from the others. */
static void draw_normal(float *values, int64_t count, uint64_t seed, int number, float deviation)
{
    const double turn = 6.283185307179586;
    for (int64_t e = 0; e < count; e += 4) {
        uint32_t draw[4];
        lun_random_block(seed, LUN_RANDOM_INIT, (uint64_t)number, 0, (uint32_t)(e / 4), draw);
        for (int i = 0; i < 4 && e + i < count; i++) {
            const double radius = sqrt(-2 * log((double)lun_uniform_of(draw[i & ~1])));
            const double angle = turn * (double)lun_uniform_of(draw[i | 1]);
            values[e + i] = deviation * (float)(radius * (i & 1 ? sin(angle) : cos(angle)));
        }
    }
}

lun_status lun_store_init(lun_store *store, uint64_t seed)
{
    int64_t most = 1;
    if (store->device && store->device->dry) /* drawing takes longer than all other planning */
        return LUN_OK;
    for (int i = 0; i < store->count; i++)
        most = lun_max_i64(most, lun_count(store->entries[i].info.desc.shape));
    float *values = lun_malloc((size_t)most, sizeof *values, "initial values");
    if (!values)
        return LUN_ERR_MEMORY;
    lun_status status = LUN_OK;
    for (int i = 0; i < store->count && status == LUN_OK; i++) {
        const lun_param_info *info = &store->entries[i].info;
        const int64_t count = lun_count(info->desc.shape);
        if (info->init.kind == LUN_INIT_UNIFORM)
            draw_uniform(values, count, seed, i, info->init.bound);
        else if (info->init.kind == LUN_INIT_NORMAL)
            draw_normal(values, count, seed, i, info->init.bound);
        else
            for (int64_t e = 0; e < count; e++)
                values[e] = info->init.kind == LUN_INIT_ONE ? 1.0f : 0.0f;
        status = lun_store_write(store, (size_t)i, LUN_SLOT_VALUE, values);
    }
    free(values);
    return status;
}
