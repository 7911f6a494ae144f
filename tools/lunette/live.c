#include "live.h"

#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool is_quiet;
static atomic_bool drawn;

void live_quiet(bool quiet)
{
    is_quiet = quiet;
}

bool live_terminal(void)
{
    static int answer = -1;
    if (answer < 0) {
        const char *term = getenv("TERM");
        answer = isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
    }
    return answer == 1;
}

void live_clear(void)
{
    if (!atomic_exchange(&drawn, false))
        return;
    fputs("\r\033[K", stdout);
    fflush(stdout);
}

void say(const char *format, ...)
{
    if (is_quiet)
        return;
    live_clear();
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

void live_show(const char *head, const char *format, ...)
{
    if (is_quiet || !live_terminal())
        return;
    struct winsize size;
    size_t width = 80;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        width = size.ws_col;
    char text[512];
    const int length = snprintf(text, sizeof text, "%s", head);
    const size_t head_length = length > 0 && (size_t)length < sizeof text ? (size_t)length : 0;
    va_list args;
    va_start(args, format);
    vsnprintf(text + head_length, sizeof text - head_length, format, args);
    va_end(args);
    /* The last column stays free: writing into it makes some terminals wrap, and a wrapped line cannot be redrawn. */
    if (width <= sizeof text)
        text[width - 1] = 0;
    const char *no_color = getenv("NO_COLOR");
    if ((no_color && *no_color) || strlen(text) < head_length)
        printf("\r\033[K%s", text);
    else
        printf("\r\033[K\033[1m%.*s\033[0m%s", (int)head_length, text, text + head_length);
    fflush(stdout);
    atomic_store(&drawn, true);
}

const char *duration_text(double seconds, char *text, size_t size)
{
    if (!(seconds >= 0) || seconds > 1e9) {
        snprintf(text, size, "?");
        return text;
    }
    const long s = lround(seconds);
    if (s >= 3600)
        snprintf(text, size, "%ldh %02ldm", s / 3600, s % 3600 / 60);
    else if (s >= 60)
        snprintf(text, size, "%ldm %02lds", s / 60, s % 60);
    else
        snprintf(text, size, "%lds", s);
    return text;
}

const char *bytes_text(double bytes, char *text, size_t size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    while (bytes >= 1000 && unit < 4) {
        bytes /= 1000;
        unit++;
    }
    snprintf(text, size, unit && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return text;
}
