/* How long, as people write it. Context: any; nothing is allocated. */
#ifndef SHIM_DURATION_H
#define SHIM_DURATION_H

#include <stdbool.h>

/* Seconds, as Go writes durations: "90s", "1h30m", "250ms"; "d" too, and a plain number of seconds.
 * False for anything else, what is below 0, and more than a thousand years. */
bool parse_duration(const char *text, double *seconds);

#endif
