#include "interrupt.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

static volatile sig_atomic_t caught, asked;

static void on_end(int number)
{
    if (caught)
        _exit(128 + number);
    caught = number;
}

static void on_save(int number)
{
    (void)number;
    asked = 1;
}

static void catch_one(int number, void (*handler)(int number))
{
    struct sigaction old, new;
    memset(&new, 0, sizeof new);
    new.sa_handler = handler;
    new.sa_flags = SA_RESTART; /* reading and writing files goes on */
    sigemptyset(&new.sa_mask);
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
        (void)sigaction(number, &new, NULL);
}

void interrupt_catch_save(void)
{
    catch_one(SIGUSR1, on_save);
}

void interrupt_catch_end(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < LUN_COUNT(ends); i++)
        catch_one(ends[i], on_end);
}

int interrupt_caught(void)
{
    return caught;
}

bool interrupt_asked_to_save(void)
{
    const bool was = asked != 0;
    asked = 0;
    return was;
}
