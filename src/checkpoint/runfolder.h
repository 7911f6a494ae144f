/* The run folder: everything a training run leaves behind, and what going on with it needs. Private.
 *
 *     config.json                                    what was asked for
 *     log.jsonl                                      one JSON object a line, each with an integer "step"
 *     samples/
 *     checkpoints/step-00001000.safetensors            the weights
 *     checkpoints/step-00001000.optimizer.safetensors  the optimiser's state for them
 *     checkpoints/step-00001000.ema-0.9999.safetensors a moving average of the weights, a model file too; none or
 * several run.lock                                       held (flock) while a process trains here; its number inside
 *
 * A checkpoint exists once its weights file does: the other files are renamed first, and lone ones are rubbish.
 * Metadata of all carries `lunette.step` (decimal) and `lunette.pair`, 16 hex digits made of the files' contents, so
 * that files of different steps or runs are never taken together, and the same training gives the same bytes. Where
 * there are averages the weights file lists their rates as `lunette.averages`, "0.9999 0.999".
 *
 * Errors: LUN_ERR_USAGE for a folder in the wrong state, LUN_ERR_STORAGE where the disk fails, LUN_ERR_CHECKPOINT for
 * damaged checkpoints. A lun_runfolder belongs to one thread at a time. */
#ifndef LUN_RUNFOLDER_H
#define LUN_RUNFOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lunette/checkpoint.h>

typedef struct lun_runfolder lun_runfolder;

/* Make (or, with `resume`, enter) the folder and lock it. LUN_ERR_USAGE: it holds a run and resume is false; it holds
 * none and resume is true; another process works in it (named). Left-over temporary files of dead processes are
 * removed. */
lun_status lun_runfolder_open(const char *path, bool resume, lun_runfolder **out);
/* Unlock. NULL is allowed. */
void lun_runfolder_close(lun_runfolder *run);

const char *lun_runfolder_dir(const lun_runfolder *run);

/* Does the folder hold a run: a config.json, a log.jsonl or a checkpoint by name? */
bool lun_runfolder_holds_run(const char *path);

/* Write the text as RUN/NAME, whole or not at all. */
lun_status lun_runfolder_write_text(const lun_runfolder *run, const char *name, const char *text);

/* Append one line, a JSON object without newlines, to log.jsonl. */
lun_status lun_runfolder_append_log(const lun_runfolder *run, const char *line);
/* Remove from log.jsonl what is later than `step`, a last line without its newline, and (with a warning) lines that are
 * not JSON objects with a "step". Whole or not at all; a log that needs no change is not written. */
lun_status lun_runfolder_truncate_log(const lun_runfolder *run, uint64_t step);

/* Two writers for the checkpoint of `step`, with the metadata above in place. Declare and fill both, in any order. */
lun_status lun_runfolder_checkpoint_begin(const lun_runfolder *run, uint64_t step, lun_safetensors_writer **weights,
                                          lun_safetensors_writer **optimizer);
/* The same with a writer for each of `count` moving averages (at most LUN_RUNFOLDER_AVERAGES) of these rates, distinct
 * and as lun_rate_text takes them. */
#define LUN_RUNFOLDER_AVERAGES 8
lun_status lun_runfolder_checkpoint_begin_with(const lun_runfolder *run, uint64_t step, const double *rates, int count,
                                               lun_safetensors_writer **weights, lun_safetensors_writer **optimizer,
                                               lun_safetensors_writer **averages);
/* Commit both, read them back and compare, and only then delete the oldest ones up to this step until `keep` (at least
 * 1, taken as 1 if less) remain. Consumes both writers in every case. On failure nothing is deleted and older
 * checkpoints stand. */
lun_status lun_runfolder_checkpoint_commit(const lun_runfolder *run, uint64_t step, lun_safetensors_writer *weights,
                                           lun_safetensors_writer *optimizer, int keep);
/* The same with the averages' writers. */
lun_status lun_runfolder_checkpoint_commit_with(const lun_runfolder *run, uint64_t step,
                                                lun_safetensors_writer *weights, lun_safetensors_writer *optimizer,
                                                lun_safetensors_writer *const *averages, int count, int keep);

typedef struct lun_checkpoint {
    uint64_t step;
    char *weights;   /* path; NULL: none found */
    char *optimizer; /* path; NULL unless asked for */
    int averages;
    double rate[LUN_RUNFOLDER_AVERAGES];
    char *average[LUN_RUNFOLDER_AVERAGES]; /* paths */
} lun_checkpoint;

/* The newest checkpoint in the run folder `path` (locked or not) whose every byte matches its CRC and, with
 * `with_optimizer`, whose optimiser's file does and belongs to it; its averages count as parts of it. Damaged ones are
 * logged as warnings and passed over. A folder without any checkpoint gives LUN_OK and out->weights NULL; one with
 * damaged ones only, LUN_ERR_CHECKPOINT.
 */
lun_status lun_runfolder_newest(const char *path, bool with_optimizer, lun_checkpoint *out);
void lun_checkpoint_free(lun_checkpoint *checkpoint);

/* Read two open files' metadata: the same step and pair? LUN_ERR_CHECKPOINT if not. */
lun_status lun_checkpoint_check_pair(const lun_safetensors *weights, const lun_safetensors *optimizer);

#endif
