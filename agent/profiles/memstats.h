/* The "# runtime.MemStats" lines that end the debug=1 form of heap and allocs, with the meaning
 * they can have in a native program. Context: agent threads. */
#ifndef AGENT_MEMSTATS_H
#define AGENT_MEMSTATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_totals { /* estimated from the samples */
  int64_t alloc_objects, alloc_bytes, inuse_objects, inuse_bytes;
};

/* Writes NUL-terminated text into out and returns its length; cut short when size is too small
 * (MEMSTATS_MAX is enough). */
enum { MEMSTATS_MAX = 4096 };
size_t memstats_render(const struct heap_totals *totals, bool mixed_rates, char *out, size_t size);

#endif
