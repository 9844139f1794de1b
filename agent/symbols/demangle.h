/* Readable names for mangled ones: C++ (Itanium ABI) and Rust (legacy and v0), by libiberty's
 * demanglers. What a name may cost is bounded: one that costs more stays as it is, and the caller
 * is told.
 * Context: agent threads, on a large_stack; locks: the caller's (one name at a time).
 */
#ifndef AGENT_DEMANGLE_H
#define AGENT_DEMANGLE_H

#include <stdbool.h>
#include <stddef.h>

enum {
  DEMANGLE_STACK_BYTES = 7 << 20, /* must be left of the caller's stack */
  /* each byte takes 72 of that stack before the first step, and more for what nests */
  DEMANGLE_INPUT_MAX = 64 << 10,
  DEMANGLE_OUTPUT_MAX = 128 << 10, /* a few bytes of C++ can say megabytes */
  /* 1 to 10 ms; a name of 30,000 bytes that nests 3,000 deep takes a tenth of them */
  DEMANGLE_STEPS_MAX = 1 << 20,
  /* enough for all but the strangest names of real programs */
  DEMANGLE_STEPS_PLAIN = 1 << 14
};

/* Writes the readable name, NUL-terminated, and returns its length; 0 when name is not mangled,
 * cannot be read, or (too_costly set) goes beyond those bounds. steps: how many it may take, at
 * most DEMANGLE_STEPS_MAX; then, how many it took. */
size_t demangle(const char *name, char out[DEMANGLE_OUTPUT_MAX], size_t *steps, bool *too_costly);

#endif
