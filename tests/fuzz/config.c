/* Any bytes as config.json of a run folder; what is read must be written and read again as the same. */
#include "train/config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lun_run_record record, again;
    fuzz_file("config.json", NULL, data, size);
    if (lun_run_record_read(fuzz_folder(), &record) != LUN_OK)
        return 0;
    FUZZ_CHECK(lun_train_config_check(&record.config) == LUN_OK);
    char *text = lun_run_record_text(&record);
    FUZZ_CHECK(text);
    fuzz_file("config.json", NULL, (const uint8_t *)text, strlen(text));
    FUZZ_CHECK(lun_run_record_read(fuzz_folder(), &again) == LUN_OK);
    char *same = lun_run_record_text(&again);
    FUZZ_CHECK(same && strcmp(text, same) == 0);
    free(same);
    free(text);
    lun_run_record_free(&again);
    lun_run_record_free(&record);
    return 0;
}
