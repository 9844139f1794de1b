/* Readable names for mangled ones: C++ (Itanium ABI) and Rust (legacy and v0), by libiberty's demanglers.
 * Context: agent threads, on a large_stack (long names need megabytes); locks: none.
 */
#ifndef AGENT_DEMANGLE_H
#define AGENT_DEMANGLE_H

#include <stddef.h>

enum {
  DEMANGLE_INPUT_MAX = 3000,   /* longer names stay as they are: the demangler's stack grows with the square of the length */
  DEMANGLE_OUTPUT_MAX = 16384 /* names that expand further stay as they are: a few bytes of C++ can say megabytes */
};

/* Writes the readable name, NUL-terminated, and returns its length; 0 when name is not mangled or cannot be read. */
size_t demangle(const char *name, char out[DEMANGLE_OUTPUT_MAX]);

#endif
