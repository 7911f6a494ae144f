/* Pictures that are never trained on. */
#include <lunette/data.h>

#include <math.h>

#include "base/base.h"
#include "base/philox.h"

lun_status lun_holdout_check(double holdout)
{
    if (holdout == 0 || (holdout > 0 && holdout < 1) || (holdout >= 2 && holdout <= 1e6 && holdout == floor(holdout)))
        return LUN_OK;
    return lun_fail(LUN_ERR_USAGE,
                    "holding out %g: a share between 0 and 1, or a whole number N of 2 to 1000000 for every "
                    "Nth picture",
                    holdout);
}

/* In [0, 1). FNV alone leaves its high bits nearly alike for names that differ at their ends. */
static double fraction_of(const char *name)
{
    const uint64_t hash = lun_hash_text(LUN_HASH_START, name);
    const uint32_t counter[4] = {(uint32_t)hash, (uint32_t)(hash >> 32), 0, 0}, key[2] = {0, 0};
    uint32_t out[4];
    lun_philox(counter, key, out);
    return out[0] * 0x1p-32;
}

int lun_holdout_takes(double holdout, const char *name, size_t i)
{
    if (holdout >= 2)
        return (i + 1) % (size_t)holdout == 0;
    return holdout > 0 && fraction_of(name) < holdout;
}

lun_status lun_holdout_check_counts(double holdout, size_t count, size_t held)
{
    if (holdout > 0 && (held == 0 || held == count))
        return lun_fail(LUN_ERR_DATA, "holding out %g of %zu pictures leaves %s", holdout, count,
                        held == 0 ? "none held out" : "none to train on");
    return LUN_OK;
}

lun_status lun_holdout_split(const lun_dataset *dataset, double holdout, uint32_t *order, size_t *held)
{
    LUN_TRY(lun_holdout_check(holdout));
    const size_t count = lun_dataset_count(dataset);
    if (count > UINT32_MAX)
        return lun_fail(LUN_ERR_DATA, "%zu pictures are too many", count);
    size_t out = 0, kept = 0;
    for (int turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < count; i++) {
            if ((lun_holdout_takes(holdout, lun_dataset_name(dataset, i), i) != 0) != (turn == 0))
                continue;
            order[out + kept] = (uint32_t)i;
            *(turn == 0 ? &out : &kept) += 1;
        }
    }
    *held = out;
    return lun_holdout_check_counts(holdout, count, out);
}
