/* Names of code that is made at run time: of a perf map (perf_map.h), and of what is announced to
 * debuggers (jit_interface.h), where the map has none. As of one moment; for one request.
 * Context: agent threads; locks: the caller's. */
#ifndef AGENT_JIT_NAMES_H
#define AGENT_JIT_NAMES_H

#include <stdint.h>

#include "perf_map.h"

enum { JIT_NAMES_LIMIT = 1 << 8 }; /* a loss beside those of perf_map.h: announced names left out */

struct jit_names;

/* started_nanos: of the process (perf_map.h). memory: how many bytes they may take. NULL: none. */
struct jit_names *jit_names_read(int64_t started_nanos, uint64_t memory, unsigned *losses);
void jit_names_release(struct jit_names *names); /* NULL is fine */
uint64_t jit_names_bytes(const struct jit_names *names);

/* The function that holds address, or NULL; *start is where it begins. The name is valid until the
 * next call. */
const char *jit_names_find(struct jit_names *names, uint64_t address, uint64_t *start);

#endif
