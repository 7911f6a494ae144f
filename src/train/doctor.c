/* Holding a device against plain C: see include/lunette/doctor.h. Steps of a trainer and of a sampler run on a check
 * device whose comparisons are gathered here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/doctor.h>

#include "base/base.h"
#include "base/philox.h"
#include "device/check.h"
#include "trainer.h"

#define MAX_ROUNDS 16
#define STEPS      2 /* of training: in the first Adam's moments are zero, so is what half of it does */

typedef struct entry {
    char *description, *detail;
    const char *kind, *candidate;
    int count;
    double share;
} entry;

typedef struct doctor {
    const lun_doctor_params *params;
    lun_device *check;
    const char *wanted; /* of this round; NULL: what the device would take */
    char pin[160];
    entry *entries;
    size_t count, room;
    lun_status status; /* of gathering */
} doctor;

/* ---- Gathering --------------------------------------------------------------------------------------------------- */

static entry *find_entry(doctor *d, const char *description, const char *candidate)
{
    for (size_t i = 0; i < d->count; i++)
        if (strcmp(d->entries[i].candidate, candidate) == 0 && strcmp(d->entries[i].description, description) == 0)
            return &d->entries[i];
    if (d->count == d->room) {
        const size_t room = d->room ? 2 * d->room : 128;
        entry *more = lun_realloc(d->entries, room, sizeof *more, "the doctor's notes");
        if (!more)
            return NULL;
        d->entries = more;
        d->room = room;
    }
    char *own = lun_strdup(description);
    if (!own)
        return NULL;
    d->entries[d->count] = (entry){.description = own, .candidate = candidate};
    return &d->entries[d->count++];
}

static void note(void *payload, const lun_check_finding *f)
{
    doctor *d = payload;
    char text[256];
    if (d->status != LUN_OK || (d->wanted && strcmp(d->wanted, f->candidate_b) != 0))
        return;
    lun_op_describe(f->op, text, sizeof text);
    entry *e = find_entry(d, text, f->candidate_b);
    if (!e) {
        d->status = LUN_ERR_MEMORY;
        return;
    }
    e->kind = lun_op_info_of(f->op->kind)->name;
    e->count += f->dst == 0;
    if (f->detail && !e->detail && !(e->detail = lun_strdup(f->detail)))
        d->status = LUN_ERR_MEMORY;
    if (!(f->share <= e->share))
        e->share = f->share;
}

static int by_op(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    const int kinds = strcmp(x->kind, y->kind), candidates = strcmp(x->candidate, y->candidate);
    return kinds ? kinds : candidates ? candidates : strcmp(x->description, y->description);
}

/* ---- Steps ------------------------------------------------------------------------------------------------------- */

/* The kernels of both sides for an op: what this round tries on the device, and another on plain C. */
static const char *choose(void *payload, const char *op)
{
    doctor *d = payload;
    const lun_doctor_params *p = d->params;
    const char *mine = d->wanted ? d->wanted : p->choice ? p->choice(p->payload, op) : NULL;
    snprintf(d->pin, sizeof d->pin, "~|?%s", mine ? mine : "");
    return d->pin;
}

static lun_compile_params compile_params(doctor *d)
{
    return (lun_compile_params){.pin = choose, .payload = d};
}

static float *make_pictures(const lun_train_config *c)
{
    const size_t count = (size_t)c->batch * (size_t)c->model.image_channels * (size_t)c->height * (size_t)c->width;
    float *pictures = lun_malloc((count + 3) / 4 * 4, sizeof *pictures, "pictures");
    for (size_t i = 0; pictures && i < count; i += 4) {
        uint32_t words[4];
        lun_random_block(c->seed, LUN_RANDOM_TUNE, 0, 1, (uint32_t)(i / 4), words);
        for (size_t k = 0; k < 4; k++)
            pictures[i + k] = 2 * lun_uniform_of(words[k]) - 1;
    }
    return pictures;
}

static lun_status train(doctor *d)
{
    const lun_train_config *c = d->params->config;
    const lun_compile_params compile = compile_params(d);
    lun_trainer *trainer = NULL;
    float losses[LUN_TRAINER_RING];
    int count = 0;
    LUN_TRY(lun_trainer_create(d->check, c, (size_t)c->batch, &compile, &trainer));
    float *pictures = make_pictures(c);
    lun_status status = pictures ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK && d->params->model)
        status = lun_trainer_init(trainer, d->params->model);
    for (int i = 0; i < STEPS && status == LUN_OK; i++)
        status = lun_trainer_run(trainer, pictures);
    if (status == LUN_OK)
        status = lun_trainer_losses(trainer, losses, &count);
    free(pictures);
    lun_trainer_destroy(&trainer);
    return status;
}

/* Parameters for the network, filled. */
static lun_status make_store(doctor *d, lun_store *store)
{
    const lun_train_config *c = d->params->config;
    LUN_TRY(lun_model_declare(store, &c->model));
    LUN_TRY(lun_store_allocate(store, d->check, 0));
    return d->params->model ? lun_model_load(store, d->params->model) : lun_store_init(store, c->seed);
}

static lun_status draw(doctor *d, lun_store *store)
{
    const lun_train_config *c = d->params->config;
    const lun_compile_params compile = compile_params(d);
    lun_schedule full = {0}, two = {0};
    lun_sampler *sampler = NULL;
    const size_t pixels = (size_t)c->model.image_channels * (size_t)c->height * (size_t)c->width;
    uint64_t *seeds = lun_calloc((size_t)c->batch, sizeof *seeds, "seeds");
    int32_t *labels = lun_calloc((size_t)c->batch, sizeof *labels, "labels");
    float *pictures = lun_malloc((size_t)c->batch, pixels * sizeof *pictures, "pictures");
    lun_status status = seeds && labels && pictures ? LUN_OK : LUN_ERR_MEMORY;
    for (int k = 0; k < c->batch && seeds; k++)
        seeds[k] = c->seed + (uint64_t)k;
    if (status == LUN_OK)
        status = lun_train_schedule(c, &full);
    if (status == LUN_OK)
        status = lun_schedule_respace(&full, c->model.steps < 2 ? 1 : 2, &two);
    const lun_sampler_params params = {.batch = c->batch,
                                       .height = c->height,
                                       .width = c->width,
                                       .norm = LUN_NORM_EVAL,
                                       .schedule = &two,
                                       .prediction = c->prediction,
                                       .variance = c->model.learned_sigma ? LUN_VARIANCE_LEARNED : LUN_VARIANCE_SMALL};
    const lun_sampler_run run = {.seeds = seeds, .labels = c->model.classes > 0 ? labels : NULL};
    if (status == LUN_OK)
        status = lun_sampler_create(store, d->check, &c->model, &params, &compile, &sampler);
    if (status == LUN_OK)
        status = lun_sampler_draw(sampler, &run, pictures);
    lun_sampler_destroy(&sampler);
    lun_schedule_free(&two);
    lun_schedule_free(&full);
    free(pictures);
    free(labels);
    free(seeds);
    return status;
}

static lun_status sample(doctor *d)
{
    lun_store *store = NULL;
    lun_status status = lun_store_create(&store);
    if (status == LUN_OK)
        status = make_store(d, store);
    if (status == LUN_OK)
        status = draw(d, store);
    lun_store_destroy(&store);
    return status;
}

/* ---- Rounds ------------------------------------------------------------------------------------------------------ */

/* Each kernel that some op may choose. */
static int name_rounds(const lun_doctor_params *params, const char *names[MAX_ROUNDS])
{
    int count = 0;
    for (int kind = 0; kind < LUN_OP_KIND_COUNT; kind++) {
        const lun_candidate *list = lun_candidates((lun_op_kind)kind);
        for (const lun_candidate *c = list; c && c->name && list[1].name && count < MAX_ROUNDS; c++) {
            bool known = params->candidate && strcmp(params->candidate, c->name) != 0;
            for (int i = 0; i < count; i++)
                known = known || strcmp(names[i], c->name) == 0;
            if (!known)
                names[count++] = c->name;
        }
    }
    return count;
}

static lun_status examine(doctor *d)
{
    const lun_doctor_params *p = d->params;
    const char *names[MAX_ROUNDS] = {NULL};
    const int rounds = p->all ? name_rounds(p, names) : 1;
    if (rounds == 0)
        return lun_fail(LUN_ERR_USAGE, "no op has a kernel named %s", p->candidate);
    /* Once more for what has one kernel only, if that is all that is asked for. */
    for (int round = p->all && !p->candidate ? -1 : 0; round < rounds; round++) {
        d->wanted = round < 0 ? NULL : names[round];
        if (p->progress && p->progress(p->payload, d->wanted ? d->wanted : "", round < 0 ? 0 : round, rounds))
            return LUN_OK;
        if (p->train)
            LUN_TRY(train(d));
        if (p->sample)
            LUN_TRY(sample(d));
        LUN_TRY(d->status);
    }
    return LUN_OK;
}

static void report(doctor *d, lun_doctor_verdict *out)
{
    if (d->count > 1)
        qsort(d->entries, d->count, sizeof *d->entries, by_op);
    *out = (lun_doctor_verdict){.kernels = (int)d->count};
    for (size_t i = 0; i < d->count; i++) {
        const entry *e = &d->entries[i];
        const lun_doctor_finding finding = {.kind = e->kind,
                                            .description = e->description,
                                            .candidate = e->candidate,
                                            .count = e->count,
                                            .share = e->share,
                                            .detail = e->detail};
        out->wrong += e->detail != NULL;
        if (!e->detail && e->share > out->worst)
            out->worst = e->share;
        if (d->params->result)
            d->params->result(d->params->payload, &finding);
    }
}

lun_status lun_doctor(const char *device, const lun_doctor_params *params, lun_doctor_verdict *out)
{
    if (strcmp(device, "null") == 0 || strcmp(device, "auto") == 0 || strncmp(device, "check", 5) == 0)
        return lun_fail(LUN_ERR_USAGE, "%.60s computes nothing of its own that could be held against plain C", device);
    char spec[64];
    snprintf(spec, sizeof spec, "check:cpu,%.20s", device);
    const lun_device_params open = {.threads = params->threads};
    doctor d = {.params = params};
    LUN_TRY(lun_device_open(spec, &open, &d.check));
    lun_check_observe(d.check, note, &d);
    lun_status status = params->opened ? params->opened(params->payload, d.check) : LUN_OK;
    if (status == LUN_OK)
        status = examine(&d);
    if (status == LUN_OK)
        report(&d, out);
    lun_device_close(&d.check);
    for (size_t i = 0; i < d.count; i++) {
        free(d.entries[i].description);
        free(d.entries[i].detail);
    }
    free(d.entries);
    return status;
}
