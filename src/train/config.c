#include "config.h"

#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "checkpoint/json.h"
#include "model/config_json.h"

static const char *const loss_names[] = {"l1", "l2", "huber"};
static const char *const optimizer_names[] = {"adam", "adamw"};
static const char *const decay_names[] = {"constant", "linear", "cosine"};
static const char *const ema_warmup_names[] = {"none", "power", "ramp"};

/* NULL when memory is out. */
static json_t *rates_json(const lun_train_config *c)
{
    json_t *rates = json_array();
    bool whole = rates != NULL;
    for (int i = 0; i < c->ema_count && whole; i++)
        whole = json_array_append_new(rates, lun_json_real(c->ema_rate[i])) == 0;
    if (whole)
        return rates;
    json_decref(rates);
    return NULL;
}

char *lun_run_record_text(const lun_run_record *r)
{
    const lun_train_config *c = &r->config;
    json_t *model = lun_model_config_to_json(&c->model);
    json_t *schedule = json_pack("{s:s, s:o, s:o}", "kind", lun_schedule_kind_name(c->schedule), "first",
                                 lun_json_real(c->beta_first), "last", lun_json_real(c->beta_last));
    json_t *optimizer = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "kind", optimizer_names[c->optimizer], "lr",
                                  lun_json_real(c->lr), "beta1", lun_json_real(c->beta1), "beta2",
                                  lun_json_real(c->beta2), "eps", lun_json_real(c->eps), "weight_decay",
                                  lun_json_real(c->weight_decay), "clip_norm", lun_json_real(c->clip_norm));
    json_t *lr = json_pack("{s:o, s:s, s:o, s:o}", "warmup", lun_json_u64(c->warmup), "decay", decay_names[c->decay],
                           "steps", lun_json_u64(c->decay_steps), "end", lun_json_real(c->lr_end));
    json_t *ema = json_pack("{s:o, s:s}", "rates", rates_json(c), "warmup", ema_warmup_names[c->ema_warmup]);
    json_t *loss =
        json_pack("{s:s, s:o, s:s, s:o, s:o, s:b}", "kind", loss_names[c->loss], "huber_delta",
                  lun_json_real((double)c->huber_delta), "prediction", lun_prediction_name(c->prediction), "min_snr",
                  lun_json_real(c->min_snr), "bound_scale", lun_json_real(c->bound_scale), "loss_aware", c->loss_aware);
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, r->dataset_hash);
    json_t *dataset =
        json_pack("{s:o, s:s, s:O*}", "count", lun_json_u64(r->dataset_count), "hash", hash, "classes", r->classes);
    json_t *length = json_pack("{s:o, s:o, s:o}", "steps", lun_json_u64(r->length.steps), "epochs",
                               lun_json_u64(r->length.epochs), "hours", lun_json_real(r->length.hours));
    json_t *device = json_pack("{s:s, s:s}", "name", r->device, "driver", r->driver);
    json_t *root = json_pack(
        "{s:s, s:s, s:o, s:i, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O*}", "lunette",
        r->version, "preset", c->preset, "model", model, "height", c->height, "width", c->width, "batch", c->batch,
        "accumulate", c->accumulate, "schedule", schedule, "loss", loss, "optimizer", optimizer, "lr_schedule", lr,
        "ema", ema, "seed", lun_json_u64(c->seed), "data", lun_data_config_json(&c->data), "length", length, "dataset",
        dataset, "device", device, "candidates", r->candidates);
    char *text = lun_json_text(root, 2);
    json_decref(root);
    if (!text)
        lun_fail(LUN_ERR_MEMORY, "out of memory (config.json)");
    return text;
}

static lun_status get_int(lun_json_from from, const json_t *object, const char *key, int64_t min, int64_t max, int *out)
{
    int64_t value = 0;
    LUN_TRY(lun_json_get_int(from, object, key, min, max, &value));
    *out = (int)value;
    return LUN_OK;
}

static lun_status get_real(lun_json_from from, const json_t *object, const char *key, double *out)
{
    return lun_json_get_real(from, object, key, -FLT_MAX, FLT_MAX, out);
}

static lun_status get_text(lun_json_from from, const json_t *object, const char *key, char *out, size_t size)
{
    const char *text = NULL;
    LUN_TRY(lun_json_get_string(from, object, key, &text));
    if (strlen(text) >= size)
        return lun_fail(from.kind, "%s: %s is too long", from.what, key);
    snprintf(out, size, "%s", text);
    return LUN_OK;
}

/* The number of the name that `key` has, of `count`. */
static lun_status get_choice(lun_json_from from, const json_t *object, const char *key, const char *const *names,
                             int count, int *out)
{
    const char *text = NULL;
    LUN_TRY(lun_json_get_string(from, object, key, &text));
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], text) == 0) {
            *out = i;
            return LUN_OK;
        }
    return lun_fail(from.kind, "%s: %s '%s' is not known", from.what, key, text);
}

/* The same for names that a function knows, NULL behind the last. */
static lun_status get_kind(lun_json_from from, const json_t *object, const char *key, const char *const *names,
                           int *out)
{
    int count = 0;
    while (names[count])
        count++;
    return get_choice(from, object, key, names, count, out);
}

static lun_status read_schedule(lun_json_from from, const json_t *object, lun_train_config *c)
{
    const char *names[LUN_SCHEDULE_KINDS + 1] = {NULL};
    int kind = 0;
    for (int i = 0; i < LUN_SCHEDULE_KINDS; i++)
        names[i] = lun_schedule_kind_name((lun_schedule_kind)i);
    LUN_TRY(lun_json_check_keys(from, object, (const char *const[]){"kind", "first", "last", NULL}));
    LUN_TRY(get_kind(from, object, "kind", names, &kind));
    c->schedule = (lun_schedule_kind)kind;
    LUN_TRY(get_real(from, object, "first", &c->beta_first));
    return get_real(from, object, "last", &c->beta_last);
}

/* Runs of older versions predict eps and know no weights. */
static lun_status read_loss(lun_json_from from, const json_t *object, lun_train_config *c)
{
    static const char *const keys[] = {"kind",        "huber_delta", "prediction", "min_snr",
                                       "bound_scale", "loss_aware",  NULL};
    const char *names[LUN_PREDICTIONS + 1] = {NULL};
    int kind = 0;
    double delta = 0;
    bool aware = false;
    for (int i = 0; i < LUN_PREDICTIONS; i++)
        names[i] = lun_prediction_name((lun_prediction)i);
    LUN_TRY(lun_json_check_keys(from, object, keys));
    LUN_TRY(get_choice(from, object, "kind", loss_names, LUN_COUNT(loss_names), &kind));
    c->loss = (lun_loss_type)kind;
    LUN_TRY(get_real(from, object, "huber_delta", &delta));
    c->huber_delta = (float)delta;
    c->prediction = LUN_PREDICTION_EPS;
    c->min_snr = 0;
    c->bound_scale = 1;
    if (lun_json_has(object, "prediction")) {
        LUN_TRY(get_kind(from, object, "prediction", names, &kind));
        c->prediction = (lun_prediction)kind;
    }
    if (lun_json_has(object, "min_snr"))
        LUN_TRY(get_real(from, object, "min_snr", &c->min_snr));
    if (lun_json_has(object, "bound_scale"))
        LUN_TRY(get_real(from, object, "bound_scale", &c->bound_scale));
    if (lun_json_has(object, "loss_aware"))
        LUN_TRY(lun_json_get_bool(from, object, "loss_aware", &aware));
    c->loss_aware = aware;
    return LUN_OK;
}

static lun_status read_optimizer(lun_json_from from, const json_t *object, lun_train_config *c)
{
    static const char *const keys[] = {"kind", "lr", "beta1", "beta2", "eps", "weight_decay", "clip_norm", NULL};
    int kind = 0;
    LUN_TRY(lun_json_check_keys(from, object, keys));
    LUN_TRY(get_choice(from, object, "kind", optimizer_names, LUN_COUNT(optimizer_names), &kind));
    c->optimizer = (lun_optimizer_kind)kind;
    LUN_TRY(get_real(from, object, "lr", &c->lr));
    LUN_TRY(get_real(from, object, "beta1", &c->beta1));
    LUN_TRY(get_real(from, object, "beta2", &c->beta2));
    LUN_TRY(get_real(from, object, "eps", &c->eps));
    LUN_TRY(get_real(from, object, "weight_decay", &c->weight_decay));
    if (lun_json_has(object, "clip_norm"))
        LUN_TRY(get_real(from, object, "clip_norm", &c->clip_norm));
    return LUN_OK;
}

static lun_status read_lr_schedule(lun_json_from from, const json_t *object, lun_train_config *c)
{
    int decay = 0;
    LUN_TRY(lun_json_check_keys(from, object, (const char *const[]){"warmup", "decay", "steps", "end", NULL}));
    LUN_TRY(lun_json_get_u64(from, object, "warmup", &c->warmup));
    LUN_TRY(get_choice(from, object, "decay", decay_names, LUN_COUNT(decay_names), &decay));
    c->decay = (lun_decay)decay;
    LUN_TRY(lun_json_get_u64(from, object, "steps", &c->decay_steps));
    return get_real(from, object, "end", &c->lr_end);
}

static lun_status read_ema(lun_json_from from, const json_t *object, lun_train_config *c)
{
    json_t *rates = NULL;
    int warmup = 0;
    LUN_TRY(lun_json_check_keys(from, object, (const char *const[]){"rates", "warmup", NULL}));
    LUN_TRY(get_choice(from, object, "warmup", ema_warmup_names, LUN_COUNT(ema_warmup_names), &warmup));
    c->ema_warmup = (lun_ema_warmup)warmup;
    LUN_TRY(lun_json_get_array(from, object, "rates", &rates));
    if (json_array_size(rates) > LUN_MAX_EMA)
        return lun_fail(from.kind, "%s: rates: at most %d entries", from.what, LUN_MAX_EMA);
    c->ema_count = (int)json_array_size(rates);
    for (int i = 0; i < c->ema_count; i++) {
        const json_t *entry = json_array_get(rates, (size_t)i);
        if (!json_is_real(entry))
            return lun_fail(from.kind, "%s: rates: every entry is a number above 0 and below 1", from.what);
        c->ema_rate[i] = json_real_value(entry);
    }
    return LUN_OK;
}

static lun_status read_config(lun_json_from from, const json_t *root, lun_train_config *c)
{
    json_t *object = NULL;
    LUN_TRY(get_text(from, root, "preset", c->preset, sizeof c->preset));
    LUN_TRY(lun_json_get_object(from, root, "model", &object));
    LUN_TRY(lun_model_config_from_json(from, object, &c->model));
    LUN_TRY(get_int(from, root, "height", 1, 65536, &c->height));
    LUN_TRY(get_int(from, root, "width", 1, 65536, &c->width));
    LUN_TRY(get_int(from, root, "batch", 1, 65536, &c->batch));
    LUN_TRY(lun_json_get_u64(from, root, "seed", &c->seed));
    /* A run begun before there was a choice has none recorded, and all zero is what it did. */
    c->data = (lun_data_config){0};
    if (lun_json_has(root, "data")) {
        LUN_TRY(lun_json_get_object(from, root, "data", &object));
        LUN_TRY(lun_data_config_read(from, object, &c->data));
    }

    LUN_TRY(lun_json_get_object(from, root, "schedule", &object));
    LUN_TRY(read_schedule(from, object, c));
    LUN_TRY(lun_json_get_object(from, root, "loss", &object));
    LUN_TRY(read_loss(from, object, c));
    LUN_TRY(lun_json_get_object(from, root, "optimizer", &object));
    LUN_TRY(read_optimizer(from, object, c));

    /* Runs of older versions know nothing of these: then there was one learning rate, and no averages or parts. */
    c->accumulate = 1;
    if (lun_json_has(root, "accumulate"))
        LUN_TRY(get_int(from, root, "accumulate", 1, 65536, &c->accumulate));
    if (lun_json_has(root, "lr_schedule")) {
        LUN_TRY(lun_json_get_object(from, root, "lr_schedule", &object));
        LUN_TRY(read_lr_schedule(from, object, c));
    }
    if (lun_json_has(root, "ema")) {
        LUN_TRY(lun_json_get_object(from, root, "ema", &object));
        LUN_TRY(read_ema(from, object, c));
    }
    if (lun_train_config_check(c) != LUN_OK)
        return lun_fail(from.kind, "%s: %s", from.what, lun_error_detail());
    return LUN_OK;
}

static lun_status read_record(lun_json_from from, const json_t *root, lun_run_record *r)
{
    static const char *const keys[] = {
        "lunette",     "preset", "model", "height", "width",   "batch",  "accumulate", "schedule", "loss", "optimizer",
        "lr_schedule", "ema",    "seed",  "length", "dataset", "device", "candidates", "data",     NULL};
    LUN_TRY(lun_json_check_keys(from, root, keys));
    LUN_TRY(get_text(from, root, "lunette", r->version, sizeof r->version));
    LUN_TRY(read_config(from, root, &r->config));
    json_t *object = NULL;
    LUN_TRY(lun_json_get_object(from, root, "length", &object));
    LUN_TRY(lun_json_check_keys(from, object, (const char *const[]){"steps", "epochs", "hours", NULL}));
    LUN_TRY(lun_json_get_u64(from, object, "steps", &r->length.steps));
    LUN_TRY(lun_json_get_u64(from, object, "epochs", &r->length.epochs));
    LUN_TRY(lun_json_get_real(from, object, "hours", 0, 1e9, &r->length.hours));
    LUN_TRY(lun_json_get_object(from, root, "dataset", &object));
    LUN_TRY(lun_json_check_keys(from, object, (const char *const[]){"count", "hash", "classes", NULL}));
    LUN_TRY(lun_json_get_u64(from, object, "count", &r->dataset_count));
    const char *hash = NULL;
    LUN_TRY(lun_json_get_string(from, object, "hash", &hash));
    if (strlen(hash) != 16 || hash[strspn(hash, "0123456789abcdef")])
        return lun_fail(from.kind, "%s: hash: 16 hex digits", from.what);
    r->dataset_hash = strtoull(hash, NULL, 16);
    if (lun_json_has(object, "classes")) {
        json_t *classes = NULL;
        LUN_TRY(lun_json_get_array(from, object, "classes", &classes));
        for (size_t i = 0; i < json_array_size(classes); i++) {
            if (!json_is_string(json_array_get(classes, i)))
                return lun_fail(from.kind, "%s: classes: entry %zu is not a string", from.what, i);
        }
        r->classes = json_incref(classes);
    }
    LUN_TRY(lun_json_get_object(from, root, "device", &object));
    LUN_TRY(lun_json_check_keys(from, object, (const char *const[]){"name", "driver", NULL}));
    LUN_TRY(get_text(from, object, "name", r->device, sizeof r->device));
    LUN_TRY(get_text(from, object, "driver", r->driver, sizeof r->driver));
    if (lun_json_has(root, "candidates")) {
        LUN_TRY(lun_json_get_object(from, root, "candidates", &object));
        const char *key;
        json_t *value;
        json_object_foreach(object, key, value)
        {
            if (!json_is_string(value))
                return lun_fail(from.kind, "%s: candidates: '%s' is not a string", from.what, key);
        }
        r->candidates = json_incref(object);
    }
    return LUN_OK;
}

lun_status lun_run_record_read(const char *folder, lun_run_record *out)
{
    char *path = lun_format("%s/config.json", folder);
    if (!path)
        return LUN_ERR_MEMORY;
    json_t *root = NULL;
    lun_run_record record;
    memset(&record, 0, sizeof record);
    lun_status status = lun_json_read(path, LUN_ERR_USAGE, &root);
    if (status == LUN_OK)
        status = read_record((lun_json_from){path, LUN_ERR_USAGE}, root, &record);
    if (status == LUN_OK)
        *out = record;
    else
        lun_run_record_free(&record);
    json_decref(root);
    free(path);
    return status;
}

void lun_run_record_free(lun_run_record *record)
{
    json_decref(record->candidates);
    record->candidates = NULL;
    json_decref(record->classes);
    record->classes = NULL;
}
