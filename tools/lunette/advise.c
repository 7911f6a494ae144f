#include "advise.h"

#include <inttypes.h>
#include <math.h>

#include "base/base.h"
#include "common.h"
#include "live.h"
#include "tuner.h"

static int show_progress(void *payload, const char *what, int done, int of)
{
    (void)payload;
    if (of > 0)
        live_show("auto", "  %s %d/%d", what, done, of);
    else
        live_show("auto", "  %s", what);
    return 0;
}

/* As lun_holdout_split() will have it, but for rounding. */
static size_t trained_on(size_t pictures, double holdout)
{
    const double held = holdout <= 0 ? 0 : holdout < 1 ? holdout : 1 / holdout;
    return (size_t)fmax(1, floor((double)pictures * (1 - held)));
}

lun_status advise(lun_device *dev, const advise_args *args, lun_train_config *config, uint64_t *steps, double *seconds)
{
    lun_folder_survey found;
    lun_tuning *tuning = NULL;
    lun_advice advice;
    LUN_TRY(lun_folder_look(args->folder, &found));
    const size_t pictures = found.grey + found.colour + found.alpha;
    if (pictures == 0)
        return lun_fail(LUN_ERR_DATA, "%s: no pictures (PNG, JPEG) in it", args->folder);
    if (dev)
        LUN_TRY(open_tuning(dev, LUN_TUNE_KNOWN, &tuning));
    /* Colours that no picture has are not worth learning; alpha is, where somebody asks for it. */
    const int channels =
        !args->data->channels_given ? (found.channels == 1 ? 1 : 3) : channels_of(args->data->channels);
    const lun_advice_params params = {.pictures = trained_on(pictures, args->data->holdout),
                                      .side = found.side,
                                      .channels = channels ? channels : found.channels,
                                      .width = args->width,
                                      .height = args->height,
                                      .batch = args->batch,
                                      .steps = args->steps,
                                      .epochs = args->epochs,
                                      .hours = args->hours,
                                      .tuning = tuning,
                                      .progress = show_progress};
    const lun_status status = dev ? lun_advise(dev, &params, &advice) : lun_advise_untimed(&params, &advice);
    lun_tuning_close(&tuning);
    live_clear();
    LUN_TRY(status);
    *config = advice.config;
    *steps = advice.steps;
    if (seconds)
        *seconds = advice.step_s;
    if (!dev)
        return LUN_OK;
    char time[32];
    say("auto: for %zu pictures, %d pixels across, and this device: %" PRIu64 " steps of about %.2g s, %s in all",
        pictures, found.side, advice.steps, advice.step_s,
        duration_text((double)advice.steps * advice.step_s, time, sizeof time));
    return LUN_OK;
}
