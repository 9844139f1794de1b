/* The moments that have to be looked for: resident memory passes a bound, the heap its last written
 * peak, memory is nearly used up. Looks are made only where such a moment is asked for: once a
 * second, and sooner where the program grows fast and memory is short.
 * Context: the thread that dumps; locks: none. */
#ifndef AGENT_DUMP_WATCH_H
#define AGENT_DUMP_WATCH_H

#include <stdint.h>

enum dump_found { FOUND_NOTHING, FOUND_SHORTAGE, FOUND_RSS, FOUND_PEAK };

/* *next_ns: when to look again (CLOCK_MONOTONIC), INT64_MAX: never. Looks only if it is time. */
enum dump_found dump_watch_look(int64_t now, int64_t *next_ns);

#endif
