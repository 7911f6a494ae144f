/* What a run records of itself, config.json, and whether an old one can go on here. */
#include "run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

const char *lun_run_pinned(void *payload, const char *op)
{
    const json_t *candidates = payload;
    return candidates ? json_string_value(json_object_get(candidates, op)) : NULL;
}

void lun_run_note_candidate(void *payload, const lun_plan_op *op)
{
    if (!op->fallback)
        json_object_set_new(payload, op->description, json_string(op->candidate));
}

static void describe_device(const lun_run *r, char text[sizeof r->record.device])
{
    const lun_device_info *info = lun_device_get_info(r->dev);
    snprintf(text, sizeof r->record.device, "%.120s %.30s", info->name, info->platform);
}

lun_status lun_run_note_kernels(lun_run *r)
{
    lun_run_record *record = &r->record;
    snprintf(record->version, sizeof record->version, "%s", lun_version());
    describe_device(r, record->device);
    snprintf(record->driver, sizeof record->driver, "%s", lun_device_get_info(r->dev)->driver);
    json_decref(record->candidates);
    record->candidates = NULL;
    if (r->stop)
        return LUN_OK;
    record->candidates = json_object();
    if (!record->candidates)
        return lun_fail(LUN_ERR_MEMORY, "out of memory (config.json)");
    lun_trainer_visit(r->trainer, lun_run_note_candidate, record->candidates);
    return LUN_OK;
}

/* Ops that the record names no kernel for: an older build merged neighbours otherwise. */
typedef struct unrecorded {
    const json_t *candidates;
    int count;
} unrecorded;

static void count_unrecorded(void *payload, const lun_plan_op *op)
{
    unrecorded *u = payload;
    u->count += !op->fallback && !json_object_get(u->candidates, op->description);
}

void lun_run_warn_unrecorded(const lun_run *r)
{
    unrecorded u = {.candidates = r->record.candidates};
    if (u.candidates)
        lun_trainer_visit(r->trainer, count_unrecorded, &u);
    if (u.count)
        lun_log(LUN_LOG_WARN,
                "config.json names no kernel for %d op%s of this run; it goes on within rounding, not bit for bit",
                u.count, u.count == 1 ? "" : "s");
}

lun_status lun_run_write_record(lun_run *r)
{
    char *text = lun_run_record_text(&r->record);
    if (!text)
        return LUN_ERR_MEMORY;
    const lun_status status = lun_runfolder_write_text(r->folder, "config.json", text);
    free(text);
    return status;
}

/* What is being gone on with has to be what was begun. Compared as text, so that no field can be forgotten. */
static lun_status check_same_config(const lun_run *r)
{
    lun_run_record mine = r->record;
    mine.config = *r->config;
    char *then = lun_run_record_text(&r->record), *now = lun_run_record_text(&mine);
    lun_status status = then && now ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK && strcmp(then, now) != 0)
        status = lun_fail(LUN_ERR_USAGE, "%s: the run was started with another configuration (config.json)",
                          r->params->folder);
    free(then);
    free(now);
    return status;
}

static lun_status note_classes(lun_run *r)
{
    const int count = lun_dataset_classes(r->dataset);
    if (count > 0 && !(r->record.classes = json_array()))
        return lun_fail(LUN_ERR_MEMORY, "out of memory (config.json)");
    for (int k = 0; k < count; k++) {
        const char *name = lun_dataset_class_name(r->dataset, k);
        if (json_array_append_new(r->record.classes, json_string(name)) != 0)
            return lun_fail(LUN_ERR_DATA, "the class %.200s cannot be recorded: its name is no UTF-8", name);
    }
    return LUN_OK;
}

/* A new run's record, or the old one's after a check that it can go on here. *pin: use the recorded candidates. */
lun_status lun_run_prepare_record(lun_run *r, bool *pin)
{
    *pin = false;
    if (!r->params->resume) {
        r->record.config = *r->config;
        r->record.dataset_count = lun_dataset_count(r->dataset);
        r->record.dataset_hash = lun_dataset_hash(r->dataset);
        return note_classes(r);
    }
    LUN_TRY(lun_run_record_read(r->params->folder, &r->record));
    LUN_TRY(check_same_config(r));
    if (r->record.dataset_hash != lun_dataset_hash(r->dataset))
        return lun_fail(LUN_ERR_DATA,
                        "%s: the run was started on other pictures (%" PRIu64 " then, %zu now, or changed ones)",
                        r->params->folder, r->record.dataset_count, lun_dataset_count(r->dataset));
    if (!r->record.candidates)
        return LUN_OK;
    char device[sizeof r->record.device];
    describe_device(r, device);
    if (strcmp(r->record.device, device) != 0 || strcmp(r->record.driver, lun_device_get_info(r->dev)->driver) != 0)
        lun_log(LUN_LOG_WARN, "the run was started on %s (%s); it goes on within rounding, not bit for bit",
                r->record.device, r->record.driver);
    else if (strcmp(r->record.version, lun_version()) != 0)
        lun_log(LUN_LOG_WARN, "the run was started by lunette %s; it goes on within rounding, not bit for bit",
                r->record.version);
    else
        *pin = true;
    return LUN_OK;
}
