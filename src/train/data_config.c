/* The part of a configuration that is about the pictures. */
#include <string.h>

#include "base/base.h"
#include "config.h"

static const char *const crop_names[] = {"stretch", "centre", "random"};

lun_fit lun_train_fit(const lun_train_config *config)
{
    switch (config->data.crop) {
    case LUN_CROP_CENTRE: return LUN_FIT_CROP;
    case LUN_CROP_RANDOM: return LUN_FIT_COVER;
    default: return LUN_FIT_STRETCH;
    }
}

lun_status lun_data_config_check(const lun_data_config *c)
{
    if ((unsigned)c->crop > LUN_CROP_RANDOM)
        return lun_fail(LUN_ERR_USAGE, "there is no crop number %d", (int)c->crop);
    LUN_TRY(lun_holdout_check(c->holdout));
    if (!(c->label_dropout >= 0 && c->label_dropout <= 1))
        return lun_fail(LUN_ERR_USAGE, "label dropout %g: must be 0 to 1", c->label_dropout);
    if (c->label_dropout > 0 && !c->labels)
        return lun_fail(LUN_ERR_USAGE, "label dropout %g: there are no labels to drop", c->label_dropout);
    return LUN_OK;
}

json_t *lun_data_config_json(const lun_data_config *c)
{
    return json_pack("{s:s, s:b, s:o, s:b, s:o}", "crop", crop_names[c->crop], "flip", c->flip != 0, "holdout",
                     lun_json_real(c->holdout), "labels", c->labels != 0, "label_dropout",
                     lun_json_real(c->label_dropout));
}

lun_status lun_data_config_read(lun_json_from from, const json_t *object, lun_data_config *out)
{
    static const char *const keys[] = {"crop", "flip", "holdout", "labels", "label_dropout", NULL};
    lun_data_config c = {0};
    const char *crop = NULL;
    bool flip = false, labels = false;
    LUN_TRY(lun_json_check_keys(from, object, keys));
    LUN_TRY(lun_json_get_string(from, object, "crop", &crop));
    size_t i = 0;
    while (i < LUN_COUNT(crop_names) && strcmp(crop_names[i], crop) != 0)
        i++;
    if (i == LUN_COUNT(crop_names))
        return lun_fail(from.kind, "%s: crop '%.60s' is not known", from.what, crop);
    c.crop = (lun_crop)i;
    LUN_TRY(lun_json_get_bool(from, object, "flip", &flip));
    LUN_TRY(lun_json_get_bool(from, object, "labels", &labels));
    c.flip = flip;
    c.labels = labels;
    LUN_TRY(lun_json_get_real(from, object, "holdout", 0, 1e6, &c.holdout));
    LUN_TRY(lun_json_get_real(from, object, "label_dropout", 0, 1, &c.label_dropout));
    if (lun_data_config_check(&c) != LUN_OK)
        return lun_fail(from.kind, "%s: %s", from.what, lun_error_detail());
    *out = c;
    return LUN_OK;
}
