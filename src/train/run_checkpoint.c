/* The checkpoints of a run: weights, optimiser state, moving averages. */
#include "run.h"

#include <stdlib.h>

#include "base/base.h"

/* What the numbers of the classes mean: metadata "lunette.classes", a JSON array of their names. */
static lun_status write_classes(const lun_run *r, lun_safetensors_writer *weights)
{
    if (!r->record.classes)
        return LUN_OK;
    char *text = lun_json_text(r->record.classes, 0);
    if (!text)
        return lun_fail(LUN_ERR_MEMORY, "out of memory for a model's metadata");
    const lun_status status = lun_safetensors_writer_metadata(weights, "lunette.classes", text);
    free(text);
    return status;
}

lun_status lun_run_save(lun_run *r)
{
    const uint64_t step = lun_trainer_step(r->trainer);
    if (r->saved_step == step)
        return LUN_OK;
    lun_run_show(r, false, "saving");
    const int count = r->config->ema_count;
    lun_safetensors_writer *weights = NULL, *optimizer = NULL, *averages[LUN_MAX_EMA] = {NULL};
    LUN_TRY(lun_runfolder_checkpoint_begin_with(r->folder, step, r->config->ema_rate, count, &weights, &optimizer,
                                                averages));
    lun_status status = write_classes(r, weights);
    if (status == LUN_OK)
        status = lun_trainer_write(r->trainer, weights, optimizer);
    for (int i = 0; i < count && status == LUN_OK; i++) {
        status = write_classes(r, averages[i]);
        if (status == LUN_OK)
            status = lun_trainer_write_average(r->trainer, i, averages[i]);
    }
    if (status != LUN_OK) {
        lun_safetensors_writer_discard(weights);
        lun_safetensors_writer_discard(optimizer);
        for (int i = 0; i < count; i++)
            lun_safetensors_writer_discard(averages[i]);
        return status;
    }
    LUN_TRY(
        lun_runfolder_checkpoint_commit_with(r->folder, step, weights, optimizer, averages, count, r->params->keep));
    r->saved_step = step;
    return lun_report_loss(r->params->folder, &r->history, r->config);
}

/* Weights, optimiser state and averages of a checkpoint. */
lun_status lun_run_load(lun_run *r, const lun_checkpoint *c)
{
    LUN_TRY(lun_trainer_load(r->trainer, c->weights, c->optimizer));
    for (int i = 0; i < r->config->ema_count; i++) {
        int at = 0;
        while (at < c->averages && c->rate[at] != r->config->ema_rate[i])
            at++;
        if (at == c->averages)
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: its checkpoint has no moving average of rate %g", c->weights,
                            r->config->ema_rate[i]);
        LUN_TRY(lun_trainer_load_average(r->trainer, i, c->average[at]));
    }
    return LUN_OK;
}
