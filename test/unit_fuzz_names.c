/* links: test/agent_memory_libc.c */
/* flags: --param asan-stack=0 */
/* fuzz: bytes */
/* Mangled names, of C++ and of Rust: within their steps, their stack and their output; what is too
 * costly is said to be so, and a name that was read is read again at the same price. */
#include <stdio.h>

#include "agent/symbols/demangle.h"
#include "fuzz.h"
#include "agent/symbols/large_stack.h"

static struct large_stack stack;
static char *name, out[DEMANGLE_OUTPUT_MAX], again[DEMANGLE_OUTPUT_MAX];

static void read_name(void *unused) {
  (void)unused;
  size_t most = DEMANGLE_STEPS_PLAIN, steps = most, fewer;
  bool too_costly, costs_more;
  size_t length = demangle(name, out, &steps, &too_costly);
  if (steps > most || length >= DEMANGLE_OUTPUT_MAX) abort();
  if (length > 0 && (too_costly || strlen(out) != length)) abort();
  if (length == 0) return;
  fewer = steps;
  if (demangle(name, again, &fewer, &costs_more) != length || costs_more) abort();
  if (fewer != steps || strcmp(out, again) != 0) abort();
  if (steps == 0) return;
  fewer = steps - 1;
  if (demangle(name, again, &fewer, &costs_more) != 0 || !costs_more) abort();
}

static void fuzz_one(const uint8_t *bytes, size_t size) {
  name = malloc(size + 3);
  bool is_whole = size > 0 && bytes[0] == '_';
  size_t head = is_whole ? 0 : 2;
  if (!is_whole) memcpy(name, size & 1 ? "_Z" : "_R", 2);
  memcpy(name + head, bytes, size);
  name[head + size] = '\0';
  if (!large_stack_call(&stack, read_name, NULL)) abort();
  free(name);
}
