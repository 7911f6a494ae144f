/* The default of `lunette train`. Two things decide how good a small model's pictures get in a given time: whether it
 * has seen enough of them, and how wide it is. So the widest network of a ladder is taken that still sees PLENTY; where
 * even the narrowest sees fewer than FEW, the pictures are made smaller.
 *
 * All are Dhariwal and Nichol's UNet (residual blocks with adaptive group norm, attention where maps are small), taught
 * to predict v (Salimans and Ho 2022) on the cosine schedule (Nichol and Dhariwal 2021) with min-SNR weights (Hang et
 * al. 2023), by AdamW with a warm-up and a cosine decay, and drawn with from a moving average of the weights. */
#include <math.h>
#include <stdio.h>

#include <lunette/advice.h>
#include <lunette/forecast.h>

#include "base/base.h"

#define PLENTY 100000.0 /* pictures seen, the same one counted each time */
#define FEW    60000.0
#define EPOCHS 200.0 /* enough for a folder of any size; PLENTY takes a small one further */

#define SMALLEST 32
#define LARGEST  256

#define PROBE_BATCH   32
#define PROBE_SECONDS 3.0
/* What an estimate may miss PLENTY by before a narrower network is taken: they are about that exact. */
#define SLACK 0.8

/* Networks from narrow to wide. A wide one learns a small folder by heart. */
typedef struct rung {
    int base, blocks, attention_side; /* channels; residual blocks a level; attention where maps are no larger */
    size_t least_pictures;
    float dropout;
} rung;

static const rung ladder[] = {
    {32, 1, 8, 0, 0},        {32, 2, 16, 0, 0},        {64, 1, 16, 0, 0.1f},
    {64, 2, 16, 1000, 0.1f}, {96, 2, 16, 10000, 0.1f}, {128, 2, 16, 10000, 0.1f},
};

/* Of the base channels, by the number of levels. */
static const int multipliers[7][6] = {{0}, {1}, {1, 2}, {1, 2, 4}, {1, 2, 3, 4}, {1, 1, 2, 3, 4}, {1, 1, 2, 2, 4, 4}};

static lun_model_config network(const rung *r, int width, int height, int image_channels)
{
    lun_model_config m = {.image_channels = image_channels,
                          .levels = 1,
                          .time_dim = r->base,
                          .steps = 1000,
                          .network = LUN_ADM,
                          .blocks = r->blocks,
                          .head_width = 32,
                          .groups = 32,
                          .norm_eps = 1e-5f,
                          .scale_shift = 1,
                          .time_cos_first = 1,
                          .dropout = r->dropout,
                          .start = LUN_START_ZERO_LAST};
    const int side = (int)lun_min_i64(width, height);
    /* Down to maps of 8 pixels a side, or as far as they can be halved. */
    while (m.levels < 6 && side >> m.levels >= 8 && width % (1 << m.levels) == 0 && height % (1 << m.levels) == 0)
        m.levels++;
    for (int i = 0; i < m.levels; i++) {
        m.channels[i] = r->base * multipliers[m.levels][i];
        m.attention[i] = side >> i <= r->attention_side;
    }
    return m;
}

static lun_train_config configure(const rung *r, int width, int height, int image_channels, int batch)
{
    lun_train_config c = {.model = network(r, width, height, image_channels),
                          .height = height,
                          .width = width,
                          .beta_first = 1e-4,
                          .beta_last = 0.02,
                          .schedule = LUN_SCHEDULE_COSINE,
                          .prediction = LUN_PREDICTION_V,
                          .loss = LUN_L2,
                          .huber_delta = 1.0f,
                          .min_snr = 5,
                          .bound_scale = 1,
                          .batch = batch,
                          .accumulate = 1,
                          .optimizer = LUN_ADAMW,
                          .lr = 1e-3 * 32 / r->base, /* as tiny's, less for wider networks */
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .weight_decay = 0.01,
                          .decay = LUN_DECAY_COSINE,
                          .clip_norm = 1,
                          .ema_count = 1,
                          .ema_rate = {0.999},
                          .ema_warmup = LUN_EMA_WARMUP_POWER,
                          .data = {.crop = LUN_CROP_CENTRE, .flip = 1}};
    snprintf(c.preset, sizeof c.preset, "%s", LUN_PRESET_AUTO);
    return c;
}

static int power_of_two(double most)
{
    int n = 1;
    while (2.0 * n <= most)
        n *= 2;
    return n;
}

/* What a run that has time to see so many pictures has besides its network; returns its steps. */
static uint64_t fit_length(lun_train_config *c, const lun_advice_params *p, int most_batch, double seen)
{
    if (p->batch == 0)
        c->batch = (int)lun_min_i64(most_batch, seen < 150e3 ? 16 : seen < 1e6 ? 32 : 64);
    const uint64_t per_epoch = (uint64_t)fmax(1, floor((double)p->pictures / c->batch));
    const uint64_t steps = p->steps ? p->steps : p->epochs ? p->epochs * per_epoch : (uint64_t)fmax(1, seen / c->batch);
    c->warmup = (uint64_t)fmin((double)steps / 20, 500);
    /* A tenth of what the run has seen by its end, but ten thousand steps at most; four decimals are what is meant. */
    const double rate = 1 - 10 / (double)steps;
    c->ema_rate[0] = round(1e4 * fmin(fmax(rate, 0.99), 0.9999)) / 1e4;
    return steps;
}

typedef struct adviser {
    lun_device *dev;
    const lun_advice_params *params;
    int width, height;
} adviser;

/* A network as it was timed. */
typedef struct timed {
    lun_train_config config;
    lun_forecast forecast;
    double rate; /* pictures a second; 0: not one fits */
} timed;

static lun_status time_rung(const adviser *a, const rung *r, timed *out)
{
    const lun_advice_params *p = a->params;
    const int batch = p->batch ? p->batch : (int)lun_min_i64(PROBE_BATCH, power_of_two((double)p->pictures));
    const lun_forecast_params forecast = {
        .tuning = p->tuning, .seconds = PROBE_SECONDS, .progress = p->progress, .payload = p->payload};
    out->config = configure(r, a->width, a->height, p->channels, batch);
    out->rate = 0;
    LUN_TRY(lun_forecast_run(a->dev, &out->config, &forecast, &out->forecast));
    if (out->forecast.largest_batch > 0 && out->forecast.step_s > 0)
        out->rate = batch / out->forecast.step_s;
    return LUN_OK;
}

static double budget_s(const lun_advice_params *p)
{
    return 3600 * (p->hours > 0 ? p->hours : 1);
}

/* Pictures that the run is to see where time does not end it. */
static double enough(const lun_advice_params *p)
{
    return fmax(PLENTY, EPOCHS * (double)p->pictures);
}

static double seen_in_time(const lun_advice_params *p, const timed *t)
{
    return fmin(t->rate * budget_s(p), enough(p));
}

/* The widest rung that sees PLENTY, by the arithmetic of each and the speed of the narrowest, which is in *best; then
 * timed itself. */
static lun_status widen(const adviser *a, timed *best)
{
    const lun_advice_params *p = a->params;
    const double flops_s = best->rate * best->forecast.flops_per_image;
    size_t top = 0;
    for (size_t i = 1; i < LUN_COUNT(ladder) && ladder[i].least_pictures <= p->pictures; i++) {
        const lun_train_config c = configure(&ladder[i], a->width, a->height, p->channels, 1);
        const lun_forecast_params memory = {.only_memory = 1};
        lun_forecast f;
        LUN_TRY(lun_forecast_run(a->dev, &c, &memory, &f));
        if (f.fits && flops_s / f.flops_per_image * budget_s(p) >= SLACK * PLENTY)
            top = i;
    }
    for (; top > 0; top--) {
        timed t;
        LUN_TRY(time_rung(a, &ladder[top], &t));
        if (t.rate * budget_s(p) < SLACK * PLENTY)
            continue;
        *best = t;
        break;
    }
    return LUN_OK;
}

static lun_status check(const lun_advice_params *p)
{
    if (p->pictures < 1 || (p->channels != 1 && p->channels != 3 && p->channels != 4) || !(p->hours >= 0) ||
        (p->width > 0) != (p->height > 0) || p->width < 0 || p->height < 0 || p->batch < 0 || (p->steps && p->epochs))
        return lun_fail(LUN_ERR_USAGE, "advice for %zu pictures of %d channels at %dx%d in %g hours", p->pictures,
                        p->channels, p->width, p->height, p->hours);
    return LUN_OK;
}

static lun_status begin(lun_device *dev, const lun_advice_params *p, adviser *a)
{
    LUN_TRY(check(p));
    *a = (adviser){dev, p, p->width, p->height};
    if (p->width == 0)
        a->width = a->height = (int)lun_min_i64(LARGEST, lun_max_i64(SMALLEST, power_of_two(p->side)));
    return LUN_OK;
}

lun_status lun_advise_untimed(const lun_advice_params *p, lun_advice *out)
{
    adviser a;
    LUN_TRY(begin(NULL, p, &a));
    *out = (lun_advice){.config = configure(&ladder[0], a.width, a.height, p->channels, p->batch ? p->batch : 16)};
    out->steps = fit_length(&out->config, p, 16, PLENTY);
    return lun_train_config_check(&out->config);
}

lun_status lun_advise(lun_device *dev, const lun_advice_params *p, lun_advice *out)
{
    adviser a;
    timed best;
    LUN_TRY(begin(dev, p, &a));
    for (;;) {
        LUN_TRY(time_rung(&a, &ladder[0], &best));
        if (p->width > 0 || a.width <= SMALLEST || best.rate * budget_s(p) >= FEW)
            break;
        a.width = a.height = a.width / 2;
    }
    if (best.rate == 0)
        return lun_fail(LUN_ERR_MEMORY, "not even one picture of %dx%d at a time fits the device's memory", a.width,
                        a.height);
    LUN_TRY(widen(&a, &best));

    const double seen = fmax(seen_in_time(p, &best), best.config.batch);
    const double most = fmin((double)p->pictures, best.forecast.largest_batch);
    out->config = best.config;
    out->steps = fit_length(&out->config, p, power_of_two(most), seen);
    out->step_s = out->config.batch / best.rate;
    return lun_train_config_check(&out->config);
}
