/* Faults for shim.c to see: what it says of a program that does wrong what the sweep is there to find. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Kept from the compiler, which would leave out what nobody uses. */
static void *volatile kept;

static int leak(int tidy)
{
    char *first = malloc(100), *second = malloc(200);
    kept = first;
    if (tidy)
        free(first);
    free(second);
    return second ? 0 : 6;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "tidy") == 0)
        return leak(1);
    if (strcmp(mode, "leak") == 0)
        return leak(0);
    if (strcmp(mode, "descriptor") == 0)
        return open("/dev/null", O_RDONLY) < 0;
    if (strcmp(mode, "stream") == 0)
        return (kept = fopen("/dev/null", "r")) == NULL;
    if (strcmp(mode, "crash") == 0) {
        volatile char *p = malloc(1);
        *p = 1; /* where there is none */
        free((void *)(size_t)p);
        return 0;
    }
    if (strcmp(mode, "half") == 0) {
        const int fd = open("half", O_WRONLY | O_CREAT | O_TRUNC, 0600);
        const ssize_t wrote = write(fd, "0123456789", 10);
        close(fd);
        return (int)wrote;
    }
    return 99;
}
