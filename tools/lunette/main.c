/* lunette: train small image-diffusion models and draw pictures with them. One file a subcommand. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "live.h"
#include "stack.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
} commands[] = {
    {"train", lun_cmd_train, "train a model on a folder of pictures"},
    {"plan", lun_cmd_plan, "say what training will cost, before it is begun"},
    {"sample", lun_cmd_sample, "draw new pictures with a trained model"},
    {"compare", lun_cmd_compare, "how close pictures are to others, and whether they repeat them"},
    {"devices", lun_cmd_devices, "list what can compute on this machine"},
    {"doctor", lun_cmd_doctor, "check that a device computes rightly"},
    {"tune", lun_cmd_tune, "measure which kernels are fastest here"},
    {"bench", lun_cmd_bench, "time training, sampling or single ops"},
    {"predict", lun_cmd_predict, "run a model on given tensors, with gradients if asked"},
    {"craters", lun_cmd_craters, "draw a data set of craters to try things on"},
    {"convert", lun_cmd_convert, "write a model in another program's layout"},
    {"info", lun_cmd_info, "say what is in a model file"},
};

static void usage(FILE *to)
{
    fprintf(to, "usage: lunette COMMAND [arguments]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].about);
    fprintf(to, "\n'lunette COMMAND --help' explains one. 'lunette --version' prints the version.\n"
                "Exit codes: 0 done, 1 internal error, 2 usage, 3 data, 4 checkpoint, 5 device, 6 memory, 7 storage, 8 "
                "diverged.\n");
}

static void print_log(void *payload, lun_log_level level, const char *line)
{
    (void)payload;
    live_clear();
    fprintf(stderr, "lunette: %s%s\n", level == LUN_LOG_WARN ? "warning: " : "", line);
}

void log_warnings_only(void)
{
    const char *debug = getenv("LUNETTE_LOG");
    if (!debug || strcmp(debug, "debug") != 0)
        lun_log_set(print_log, NULL, LUN_LOG_WARN);
}

/* A program started with a closed standard stream would get its number for the next file it opens, and print into that.
 * The stand-in cannot be written (or read), so that output is still seen to be lost. */
static void fill_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            _exit(LUN_ERR_INTERNAL);
    }
}

int main(int argc, char **argv)
{
    fill_standard_streams();
    /* A closed pipe or a full file is an error of the write that meets it, not a reason to die in mid-training. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    const char *debug = getenv("LUNETTE_LOG");
    lun_log_set(print_log, NULL, debug && strcmp(debug, "debug") == 0 ? LUN_LOG_DEBUG : LUN_LOG_INFO);
    if (argc < 2) {
        usage(stderr);
        return LUN_ERR_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("lunette %s\n", lun_version());
        return finish_output();
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return finish_output();
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return stack_run(commands[i].run, argc - 1, argv + 1);
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (arg_distance(argv[1], commands[i].name) < 3)
            return report(lun_fail(LUN_ERR_USAGE,
                                   "unknown command '%s' (did you mean %s?); 'lunette --help' lists them", argv[1],
                                   commands[i].name));
    }
    return report(lun_fail(LUN_ERR_USAGE, "unknown command '%s'; 'lunette --help' lists them", argv[1]));
}
