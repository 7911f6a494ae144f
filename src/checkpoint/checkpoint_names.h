/* The names of a run's checkpoints: RUN/checkpoints/step-NUMBER.safetensors, with .optimizer or .ema-RATE before the
 * ending. Private. */
#ifndef LUN_CHECKPOINT_NAMES_H
#define LUN_CHECKPOINT_NAMES_H

#include "base/base.h"
#include "runfolder.h"

typedef enum lun_checkpoint_file {
    LUN_FILE_NEITHER,
    LUN_FILE_WEIGHTS,
    LUN_FILE_OPTIMIZER,
    LUN_FILE_AVERAGE
} lun_checkpoint_file;

/* What a file so named is, and of which step; of an average the rate, unless `rate` is NULL. Strict: only names that
 * lunette makes. */
lun_checkpoint_file lun_checkpoint_name(const char *name, uint64_t *step, char rate[LUN_RATE_TEXT]);
/* Steps, the newest first: for qsort and bsearch. */
int lun_checkpoint_newer(const void *a, const void *b);
/* The steps of one kind of file in RUN/checkpoints, newest first; free(*steps). A missing folder holds none. */
lun_status lun_checkpoint_list(const char *path, lun_checkpoint_file kind, uint64_t **steps, size_t *count);

/* Fresh paths; NULL where memory lacks, and for a rate that is none. */
char *lun_checkpoint_weights(const char *dir, uint64_t step);
char *lun_checkpoint_optimizer(const char *dir, uint64_t step);
char *lun_checkpoint_average(const char *dir, uint64_t step, double rate);

#endif
