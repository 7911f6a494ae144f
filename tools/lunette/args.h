/* The command line: one table an option, strict values, one clear line for what is wrong. */
#ifndef LUN_ARGS_H
#define LUN_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lunette/lunette.h>

typedef enum arg_type {
    ARG_FLAG,    /* bool *: set true */
    ARG_INT,     /* int *, min..max */
    ARG_U64,     /* uint64_t *, min..max (max 0: no limit) */
    ARG_FLOAT,   /* float *, finite, min..max */
    ARG_DOUBLE,  /* double *, finite, min..max */
    ARG_TEXT,    /* const char **, not empty */
    ARG_CHOICE,  /* int *: index into `choices` */
    ARG_INTS,    /* int *list: comma-separated, at most `max` values of at least `min`; their number in *count */
    ARG_DOUBLES, /* double *list: the same with finite numbers */
    ARG_U64_TWO, /* uint64_t[2]: two words */
    ARG_SIZE     /* int[2]: width and height from "WxH", or one number for both, min..max */
} arg_type;

typedef struct arg_option {
    const char *name; /* "--batch" */
    arg_type type;
    void *value; /* holds the default on entry */
    double min, max;
    const char *const *choices; /* NULL-terminated */
    int *count;                 /* ARG_INTS, ARG_DOUBLES */
    bool *given;                /* set true when the option is on the line; may be NULL */
    const char *meta;           /* "N"; NULL for a flag */
    const char *help;
} arg_option;

typedef struct arg_command {
    const char *usage;         /* "train FOLDER --out RUN [options]" */
    const char *about;         /* a paragraph */
    const char *notes;         /* after the options; may be NULL */
    const arg_option *options; /* ended by a NULL name */
    int min_positionals, max_positionals;
} arg_command;

/* Parse argv[1..]; positionals go to `positional` in order (room for max_positionals). Options may be given as "--x V"
 * or "--x=V", once each; "--" ends them. LUN_ERR_USAGE with the detail set on anything wrong. *help is set for --help:
 * print arg_help. */
lun_status arg_parse(const arg_command *command, int argc, char **argv, const char **positional, int *positionals,
                     bool *help);
void arg_help(const arg_command *command);

/* Parse, or print the help. True: the caller returns *exit_code at once. */
bool arg_begin(const arg_command *command, int argc, char **argv, const char **positional, int *positionals,
               int *exit_code);

/* "lunette: error: DETAIL" on stderr; returns the exit code of `status`. */
int report(lun_status status);

/* From now on the log shows warnings only. */
void log_warnings_only(void);

/* Subcommands: argv[0] is the subcommand's name; the result is the exit code. */
int lun_cmd_devices(int argc, char **argv);
int lun_cmd_doctor(int argc, char **argv);
int lun_cmd_train(int argc, char **argv);
int lun_cmd_sample(int argc, char **argv);
int lun_cmd_predict(int argc, char **argv);
int lun_cmd_bench(int argc, char **argv);
int lun_cmd_craters(int argc, char **argv);
int lun_cmd_info(int argc, char **argv);
int lun_cmd_compare(int argc, char **argv);
int lun_cmd_convert(int argc, char **argv);
int lun_cmd_tune(int argc, char **argv);
int lun_cmd_plan(int argc, char **argv);

/* How many letters must be changed, added or dropped to turn a into b; for "did you mean". Much for long words. */
int arg_distance(const char *a, const char *b);

#endif
