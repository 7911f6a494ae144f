/* lunette predict: a model on given tensors, so that anyone can hold it against another framework. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "common.h"

int lun_cmd_predict(int argc, char **argv)
{
    bool grad = false, allow_fallback = false, loss_given = false, norm_given = false, delta_given = false;
    int loss = LUN_L1, norm = 0, threads = 0;
    float delta = 1;
    double hang_timeout = HANG_USUAL;
    const char *spec = "auto";
    const arg_option options[] = {
        {.name = "--grad",
         .type = ARG_FLAG,
         .value = &grad,
         .help = "also the loss against target and the gradient of every parameter"},
        {.name = "--loss",
         .type = ARG_CHOICE,
         .value = &loss,
         .choices = loss_names,
         .given = &loss_given,
         .meta = "KIND",
         .help = "l1, l2 or huber, mean over all elements (default l1)"},
        {.name = "--huber-delta",
         .type = ARG_FLOAT,
         .value = &delta,
         .min = 1e-6,
         .max = 1e6,
         .given = &delta_given,
         .meta = "D",
         .help = "where huber turns from square to linear (default 1)"},
        {.name = "--norm-mode",
         .type = ARG_CHOICE,
         .value = &norm,
         .choices = norm_names,
         .given = &norm_given,
         .meta = "MODE",
         .help =
             "batch norms take the batch's statistics (train, as with --grad) or the running ones (eval, as without)"},
        DEVICE_OPTION(&spec, ", check"),
        {.name = "--threads",
         .type = ARG_INT,
         .value = &threads,
         .min = 1,
         .max = MAX_THREADS,
         .meta = "N",
         .help = "threads of the cpu device (default: every core)"},
        HANG_OPTION(&hang_timeout),
        FALLBACK_OPTION(&allow_fallback),
        {0},
    };
    const arg_command command = {
        .usage = "predict FILE.safetensors IN.safetensors OUT.safetensors [options]",
        .about = "Run a model on the tensors of a file: parity with any framework, checked by anyone.\n"
                 "IN holds x (N, C, H, W) float32, t (N) int64 and, with --grad, target like x; OUT gets y and, with "
                 "--grad, loss\n"
                 "and grad.NAME for every parameter, under PyTorch's names and in its shapes.",
        .notes = "example:\n  lunette predict model.safetensors in.safetensors out.safetensors --grad --loss l2 "
                 "--device cpu",
        .options = options,
        .min_positionals = 3,
        .max_positionals = 3,
    };
    const char *paths[3];
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, paths, &positionals, &exit_code))
        return exit_code;
    if (loss_given && !grad)
        return report(lun_fail(LUN_ERR_USAGE, "--loss: only with --grad"));
    if (delta_given && loss != LUN_HUBER)
        return report(lun_fail(LUN_ERR_USAGE, "--huber-delta: only with --loss huber"));

    lun_device *dev = NULL;
    lun_tuning *tuning = NULL;
    lun_status status = open_watched(spec, threads, hang_timeout, &dev);
    if (status == LUN_OK)
        status = lun_tuning_open(dev, &tuning);
    const lun_predict_params params = {.model = paths[0],
                                       .in = paths[1],
                                       .out = paths[2],
                                       .grad = grad,
                                       .loss = (lun_loss_type)loss,
                                       .huber_delta = delta,
                                       .norm = !norm_given ? LUN_PREDICT_NORM_DEFAULT
                                               : norm      ? LUN_PREDICT_NORM_TRAIN
                                                           : LUN_PREDICT_NORM_EVAL,
                                       .allow_fallback = allow_fallback,
                                       .tuning = tuning};
    if (status == LUN_OK)
        status = lun_predict(dev, &params);
    lun_tuning_close(&tuning);
    lun_device_close(&dev);
    return status == LUN_OK ? 0 : report(status);
}
