#include "demangle.h"

#include <setjmp.h>
#include <stdint.h>
#include <string.h>

/* libiberty (cp-demangle.c, rust-demangle.c). Its header demangle.h has the name of ours, so what
 * is used is declared here. */
typedef void (*demangle_callbackref)(const char *text, size_t length, void *opaque);
int cplus_demangle_v3_callback(const char *mangled, int options, demangle_callbackref callback,
                               void *opaque);
int rust_demangle_callback(const char *mangled, int options, demangle_callbackref callback,
                           void *opaque);
enum { DMGL_PARAMS = 1 << 0, DMGL_ANSI = 1 << 1, DMGL_NO_RECURSE_LIMIT = 1 << 18 };

/* The character classes that rust-demangle.c asks for (libiberty's own table, safe-ctype.c, is
 * under the plain LGPL). */
extern const unsigned short _sch_istable[256];
enum { DIGIT = 0x0004, LOWER = 0x0008, UPPER = 0x0080, HEX = 0x0100 };
const unsigned short _sch_istable[256] = {
    ['0' ... '9'] = DIGIT | HEX, ['a' ... 'f'] = LOWER | HEX, ['g' ... 'z'] = LOWER,
    ['A' ... 'F'] = UPPER | HEX, ['G' ... 'Z'] = UPPER,
};

/* The name that is being read. */
static struct {
  char *text;
  size_t length;
  size_t steps_left;
  uintptr_t lowest_stack;
  jmp_buf give_up;
} current;

/* The demanglers are left by a jump: they hold nothing but stack (and, for non-ASCII Rust
 * identifiers, one small block that is then lost). */
static void append(const char *text, size_t length, void *unused) {
  (void)unused;
  if (length == 0) return;
  if (length >= DEMANGLE_OUTPUT_MAX - current.length) longjmp(current.give_up, 1);
  memcpy(current.text + current.length, text, length);
  current.length += length;
}

/* Called in all recursion and in loops that may be long: scripts/patches/libiberty-bounds.patch. */
void demangle_step(size_t cost);
void demangle_step(size_t cost) {
  if (current.steps_left < cost || (uintptr_t)__builtin_frame_address(0) < current.lowest_stack)
    longjmp(current.give_up, 1);
  current.steps_left -= cost;
}

typedef int demangler(const char *mangled, int options, demangle_callbackref callback,
                      void *opaque);

static bool try_demangler(demangler *read, const char *name, bool *too_costly) {
  current.length = 0;
  if (setjmp(current.give_up) != 0) {
    *too_costly = true;
    return false;
  }
  const int options = DMGL_PARAMS | DMGL_ANSI | DMGL_NO_RECURSE_LIMIT;
  return read(name, options, append, NULL) != 0 && current.length > 0;
}

size_t demangle(const char *name, char out[DEMANGLE_OUTPUT_MAX], size_t *steps, bool *too_costly) {
  const size_t allowed = *steps;
  *too_costly = false;
  *steps = 0;
  if (name[0] != '_' || (name[1] != 'Z' && name[1] != 'R')) return 0;
  if (strnlen(name, DEMANGLE_INPUT_MAX + 1) > DEMANGLE_INPUT_MAX) {
    *too_costly = true;
    return 0;
  }
  current.text = out;
  current.steps_left = allowed;
  current.lowest_stack = (uintptr_t)__builtin_frame_address(0) - DEMANGLE_STACK_BYTES;
  /* Rust first: a legacy Rust name is a valid C++ name too, told apart by its hash, which Rust's
   * demangler leaves out. */
  bool done = try_demangler(rust_demangle_callback, name, too_costly);
  if (!done && !*too_costly && name[1] == 'Z')
    done = try_demangler(cplus_demangle_v3_callback, name, too_costly);
  *steps = allowed - current.steps_left;
  if (!done) return 0;
  out[current.length] = '\0';
  return current.length;
}
