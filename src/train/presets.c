/* The table of presets. What was published is from the papers and their code:
 *   ddpm-*  Ho, Jain and Abbeel 2020, appendix B; its length is CIFAR-10's and CelebA-HQ's
 *   adm-64  Dhariwal and Nichol 2021, table 11, ImageNet 64x64; Adam's are the code's
 *   small   what unet.cu and diffusion.cu train; schedule and loss are guided-diffusion's
 *   notebook  the tutorial's, with batches of 16
 * tiny is our own. */
#include <stdio.h>
#include <string.h>

#include <lunette/preset.h>

#include "base/base.h"

/* What all share. */
static lun_preset usual(const char *name, const char *about, int size, int batch)
{
    lun_preset p = {.name = name,
                    .about = about,
                    .height = size,
                    .width = size,
                    .batch = batch,
                    .schedule = "linear",
                    .beta_first = 1e-4,
                    .beta_last = 0.02,
                    .prediction = "eps",
                    .loss = LUN_L2,
                    .optimizer = "adam",
                    .beta1 = 0.9,
                    .beta2 = 0.999,
                    .eps = 1e-8,
                    .crop = "centre"};
    /* Those that have a published network go by its name. */
    if (lun_model_config_named(name, &p.model) != LUN_OK)
        p.model = (lun_model_config){.levels = 0};
    return p;
}

static lun_preset notebook(void)
{
    lun_preset p = usual("notebook", "the network of a well-known tutorial", 64, 16);
    p.loss = LUN_L1;
    p.lr = 1e-3;
    p.crop = "stretch";
    p.epochs = 500;
    return p;
}

/* A quarter of a billion multiplications a picture: one residual block a level, adaptive group norms, attention where
 * maps have 8 x 8 pixels. v and min-SNR weights learn fastest in a short time. */
static lun_preset tiny(void)
{
    lun_preset p = usual("tiny", "ten minutes of a laptop", 32, 32);
    p.model = (lun_model_config){.image_channels = 3,
                                 .levels = 3,
                                 .channels = {32, 64, 128},
                                 .time_dim = 32,
                                 .steps = 1000,
                                 .network = LUN_ADM,
                                 .blocks = 1,
                                 .attention = {0, 0, 1},
                                 .head_width = 32,
                                 .groups = 32,
                                 .norm_eps = 1e-5f,
                                 .scale_shift = 1,
                                 .time_cos_first = 1,
                                 .start = LUN_START_ZERO_LAST};
    p.schedule = "cosine";
    p.prediction = "v";
    p.min_snr = 5;
    p.optimizer = "adamw";
    p.lr = 1e-3;
    p.warmup = 100;
    p.clip_norm = 1;
    p.ema = 0.999;
    p.ema_warmup = "power";
    p.flip = 1;
    p.steps = 2000;
    return p;
}

static lun_preset small(void)
{
    lun_preset p = usual("small", "the network that unet.cu and diffusion.cu time", 64, 32);
    p.optimizer = "adamw";
    p.lr = 1e-4;
    p.ema = 0.9999;
    p.flip = 1;
    p.steps = 100000;
    return p;
}

static lun_preset ddpm_cifar10(void)
{
    lun_preset p = usual("ddpm-cifar10", "Ho et al. 2020 for CIFAR-10", 32, 128);
    p.lr = 2e-4;
    p.warmup = 5000;
    p.clip_norm = 1;
    p.ema = 0.9999;
    p.flip = 1;
    p.steps = 800000;
    return p;
}

static lun_preset ddpm_256(void)
{
    lun_preset p = usual("ddpm-256", "Ho et al. 2020 for CelebA-HQ and LSUN", 256, 64);
    p.lr = 2e-5;
    p.warmup = 5000;
    p.clip_norm = 1;
    p.ema = 0.9999;
    p.flip = 1;
    p.steps = 500000;
    return p;
}

static lun_preset adm_64(void)
{
    lun_preset p = usual("adm-64", "Dhariwal and Nichol 2021 for ImageNet 64x64, with classes", 64, 2048);
    p.schedule = "cosine";
    p.optimizer = "adamw";
    p.lr = 3e-4;
    p.ema = 0.9999;
    p.flip = 1;
    p.labels = 1;
    p.steps = 540000;
    return p;
}

static lun_preset (*const presets[])(void) = {tiny, small, notebook, ddpm_cifar10, ddpm_256, adm_64};

size_t lun_preset_count(void)
{
    return LUN_COUNT(presets);
}

void lun_preset_at(size_t index, lun_preset *out)
{
    *out = presets[index]();
}

lun_status lun_preset_named(const char *name, lun_preset *out)
{
    char known[256];
    size_t used = 0;
    for (size_t i = 0; i < LUN_COUNT(presets); i++) {
        const lun_preset p = presets[i]();
        if (name && strcmp(name, p.name) == 0) {
            *out = p;
            return LUN_OK;
        }
        if (used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", p.name);
    }
    return lun_fail(LUN_ERR_USAGE, "unknown preset '%.60s' (known: %s)", name ? name : "", known);
}
