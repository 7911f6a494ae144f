/* What a person reads while a command works: lines on standard output and, on a terminal, one live line below them that
 * is redrawn in place. In a pipe there is no live line. Nothing here fails: when standard output goes away, the work
 * goes on unseen.
 *
 * One thread; but live_clear() may be called from the log sink on any thread. */
#ifndef LUN_LIVE_H
#define LUN_LIVE_H

#include <stdbool.h>
#include <stddef.h>

#include <lunette/status.h>

/* After live_quiet(true) say() and live_show() do nothing. */
void live_quiet(bool quiet);

/* Is standard output a terminal that can redraw a line? */
bool live_terminal(void);

/* Print one line (newline added), above the live line. */
void say(const char *format, ...) LUN_PRINTF(1, 2);

/* Draw the live line, cut to the terminal's width; `head` is set off in bold unless NO_COLOR is set. Nothing outside a
 * terminal. */
void live_show(const char *head, const char *format, ...) LUN_PRINTF(2, 3);

/* Erase the live line, if one is drawn. */
void live_clear(void);

/* "1h 02m", "3m 05s", "12s"; "?" for NaN. */
const char *duration_text(double seconds, char *text, size_t size);
/* "12.3 MB" */
const char *bytes_text(double bytes, char *text, size_t size);

#endif
