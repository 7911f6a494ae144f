/* Run a fuzz target over files and folders of inputs, and over the beginnings of each: replay PATH... */
#include <dirent.h>
#include <errno.h>

#include "fuzz.h"

#define MOST (16 << 20)

static int inputs;

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    FUZZ_CHECK(file);
    uint8_t *data = malloc(MOST);
    FUZZ_CHECK(data);
    const size_t size = fread(data, 1, MOST, file);
    fclose(file);
    /* Exactly as many bytes as there are, so that a sanitizer sees the first one too many. */
    for (size_t cut = 0; cut < 64; cut++) {
        const size_t length = cut == 0 ? size : size * cut / 64;
        uint8_t *exact = malloc(length ? length : 1);
        FUZZ_CHECK(exact);
        memcpy(exact, data, length);
        LLVMFuzzerTestOneInput(exact, length);
        free(exact);
        inputs++;
    }
    free(data);
}

static void replay(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir) {
        FUZZ_CHECK(errno == ENOTDIR);
        replay_file(path);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        char inside[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        replay(inside);
    }
    closedir(dir);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    printf("%d inputs\n", inputs);
    return inputs > 0 ? 0 : 1;
}
