/* What the fuzz targets share. Each target is a file NAME.c with LLVMFuzzerTestOneInput and a folder corpus/NAME. It is
 * built twice: with replay.c as a test that reads the corpus, and (option fuzz) with libFuzzer. A target returns for
 * any input; what must not happen is what the sanitizers, the time limit and abort() see. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Something that no input may bring about. */
#define FUZZ_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static char fuzz_dir[64];

static inline void fuzz_remove(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", fuzz_dir);
    if (system(command) != 0)
        fprintf(stderr, "%s stays\n", fuzz_dir);
}

/* A folder of this process, in memory where there is such a place; removed at the exit. */
static inline const char *fuzz_folder(void)
{
    if (fuzz_dir[0])
        return fuzz_dir;
    snprintf(fuzz_dir, sizeof fuzz_dir, "/dev/shm/lunette-fuzz-XXXXXX");
    if (!mkdtemp(fuzz_dir)) {
        snprintf(fuzz_dir, sizeof fuzz_dir, "/tmp/lunette-fuzz-XXXXXX");
        FUZZ_CHECK(mkdtemp(fuzz_dir));
    }
    atexit(fuzz_remove);
    return fuzz_dir;
}

/* Write a file of that name into the folder: `head` (may be NULL), then the input. Returns its path. */
static inline const char *fuzz_file(const char *name, const char *head, const uint8_t *data, size_t size)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *file = fopen(path, "wb");
    FUZZ_CHECK(file);
    if (head)
        fputs(head, file);
    FUZZ_CHECK(size == 0 || fwrite(data, 1, size, file) == size);
    FUZZ_CHECK(fclose(file) == 0);
    return path;
}

#endif
