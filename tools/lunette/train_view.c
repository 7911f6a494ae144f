#include "train_view.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/base.h"
#include "checkpoint/runfolder.h"
#include "common.h"
#include "interrupt.h"
#include "live.h"

void train_say_start(const train_args *a, const lun_train_config *c, const lun_dataset *dataset, size_t held,
                     const lun_device *dev, const lun_run_params *p)
{
    char text[400], channels[128];
    device_text(dev, a->device, text, sizeof text);
    say("device: %s", text);
    say("data: %zu pictures at %dx%d, %s, from %s, %zu skipped", lun_dataset_count(dataset), c->width, c->height,
        channels_name(c->model.image_channels), a->folder, lun_dataset_skipped(dataset));
    if (c->data.crop != LUN_CROP_STRETCH || c->data.flip)
        say("pictures: %s%s", crop_names[c->data.crop], c->data.flip ? ", mirrored by chance" : "");
    if (held)
        say("held out: %zu pictures (--holdout %s)", held, short_number(c->data.holdout, text, sizeof text));
    if (lun_dataset_classes(dataset))
        say("classes: %d, %s to %s; %g of the samples are told none", lun_dataset_classes(dataset),
            lun_dataset_class_name(dataset, 0), lun_dataset_class_name(dataset, lun_dataset_classes(dataset) - 1),
            c->data.label_dropout);
    if (lun_dataset_cache(dataset))
        say("cache: %s", lun_dataset_cache(dataset));
    say("model: %s, channels %s, %" PRIu64 " parameters", c->preset,
        channels_text(&c->model, channels, sizeof channels), lun_model_parameters(&c->model, NULL));
    objective_say(c);
    const uint64_t per_epoch = (lun_dataset_count(dataset) - held) / (uint64_t)c->batch;
    if (p->length.steps)
        snprintf(text, sizeof text, "%" PRIu64 " steps", p->length.steps);
    else if (p->length.epochs)
        snprintf(text, sizeof text, "%" PRIu64 " epochs", p->length.epochs);
    else
        snprintf(text, sizeof text, "%g hours", p->length.hours);
    say("run: %s to %s, %" PRIu64 " steps of %d pictures an epoch, lr %g, seed %" PRIu64,
        a->resume ? "resumed, going on" : "new", text, per_epoch, c->batch, c->lr, c->seed);
    update_say(c);
}

int train_say_end(const train_args *a, const train_view *w)
{
    lun_checkpoint newest = {.step = w->last.step};
    char time[32];
    const int caught = interrupt_caught();
    live_clear();
    live_quiet(false);
    if (lun_runfolder_newest(a->out, false, &newest) != LUN_OK)
        lun_log(LUN_LOG_WARN, "%s", lun_error_detail());
    if (caught)
        say("stopped at step %" PRIu64 " by signal %d and saved; --resume goes on: %s", newest.step, caught,
            newest.weights ? newest.weights : a->out);
    else if (isfinite(w->last.loss) && w->last.step)
        say("done: %" PRIu64 " steps, loss %.4f, %s: %s", newest.step, (double)w->last.loss,
            duration_text(w->last.elapsed_s, time, sizeof time), newest.weights ? newest.weights : a->out);
    else
        say("done: nothing was left to do: %s", newest.weights ? newest.weights : a->out);
    live_quiet(a->quiet);
    if (!caught)
        say("pictures: lunette sample %s --out grid.png; see also %s/samples and %s/loss.png", a->out, a->out, a->out);
    lun_checkpoint_free(&newest);
    return caught ? 128 + caught : 0;
}

int train_on_progress(void *payload, const lun_run_progress *p)
{
    train_view *w = payload;
    char head[80], left[32], done[64];
    if (!w->memory_said) {
        size_t now = 0, peak = 0;
        tuner_end(&w->tuner);
        lun_device_memory(w->dev, &now, &peak);
        say("memory: %s on the device", bytes_text((double)now, done, sizeof done));
        w->memory_said = true;
    }
    if (p->last_step)
        snprintf(done, sizeof done, "%" PRIu64 "/%" PRIu64, p->step, p->last_step);
    else
        snprintf(done, sizeof done, "%" PRIu64, p->step);
    duration_text(p->left_s, left, sizeof left);
    char held[64] = "";
    if (isfinite(p->holdout_loss) && isfinite(p->holdout_average))
        snprintf(held, sizeof held, "  held out %.4f, averaged %.4f", (double)p->holdout_loss,
                 (double)p->holdout_average);
    else if (isfinite(p->holdout_loss))
        snprintf(held, sizeof held, "  held out %.4f", (double)p->holdout_loss);
    if (p->logged && !live_terminal())
        say("step %s  epoch %" PRIu64 "  loss %.4f%s  %.1f images/s  %s left", done, p->epoch, (double)p->loss, held,
            p->images_per_s, left);
    snprintf(head, sizeof head, "step %s", done);
    if (isfinite(p->loss))
        live_show(head, "  epoch %" PRIu64 "  loss %.4f%s  %.1f images/s  %s left%s%s", p->epoch, (double)p->loss, held,
                  p->images_per_s, left, p->event ? "  " : "", p->event ? p->event : "");
    else
        live_show(head, "  epoch %" PRIu64 "%s%s", p->epoch, p->event ? "  " : "", p->event ? p->event : "");
    w->last = *p;
    return (interrupt_caught() ? LUN_RUN_STOP : 0) | (interrupt_asked_to_save() ? LUN_RUN_SAVE : 0);
}

lun_status train_watch_device(train_view *w)
{
    snprintf(w->if_hung, sizeof w->if_hung, "; the checkpoints in %s are intact, --resume goes on", w->args->out);
    return watch_device(*w->device, hang_patience(w->dev, w->args->hang_timeout), w->if_hung);
}

lun_status train_on_reopen(void *payload, lun_device **dev)
{
    train_view *w = payload;
    char spec[sizeof((lun_device_info *)0)->spec];
    snprintf(spec, sizeof spec, "%s", lun_device_get_info(w->dev)->spec); /* not "auto", which might choose another */
    lun_device_close(w->device);
    w->dev = NULL;
    LUN_TRY(open_device(spec, w->args->threads, w->device));
    w->dev = *dev = *w->device;
    return train_watch_device(w);
}
