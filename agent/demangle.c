#include "demangle.h"

#include <setjmp.h>
#include <stdbool.h>
#include <string.h>

/* libiberty (cp-demangle.c, rust-demangle.c). Its header demangle.h has the name of ours, so what is used is declared here. */
typedef void (*demangle_callbackref)(const char *text, size_t length, void *opaque);
int cplus_demangle_v3_callback(const char *mangled, int options, demangle_callbackref callback, void *opaque);
int rust_demangle_callback(const char *mangled, int options, demangle_callbackref callback, void *opaque);
enum { DMGL_PARAMS = 1 << 0, DMGL_ANSI = 1 << 1, DMGL_NO_RECURSE_LIMIT = 1 << 18 };

/* The character classes that rust-demangle.c asks for (libiberty's own table, safe-ctype.c, is under the plain LGPL). */
extern const unsigned short _sch_istable[256];
enum { DIGIT = 0x0004, LOWER = 0x0008, UPPER = 0x0080, HEX = 0x0100 };
const unsigned short _sch_istable[256] = {
    ['0' ... '9'] = DIGIT | HEX, ['a' ... 'f'] = LOWER | HEX, ['g' ... 'z'] = LOWER,
    ['A' ... 'F'] = UPPER | HEX, ['G' ... 'Z'] = UPPER,
};

/* Above this length the C++ demangler gives up unless told that the stack is large. */
enum { CPLUS_DEFAULT_MAX = 1024 };

struct output {
  char *text;
  size_t length;
  jmp_buf give_up;
};

/* The demanglers cannot be told to stop, and would go on for hours on some names: leave them by a jump. They hold nothing but
 * stack (and, for non-ASCII Rust identifiers, one small block that is then lost). */
static void append(const char *text, size_t length, void *opaque) {
  struct output *output = opaque;
  if (length == 0) return;
  if (length >= DEMANGLE_OUTPUT_MAX - output->length) longjmp(output->give_up, 1);
  memcpy(output->text + output->length, text, length);
  output->length += length;
}

typedef int demangler(const char *mangled, int options, demangle_callbackref callback, void *opaque);

static bool try_demangler(demangler *demangler, const char *name, int options, struct output *output) {
  output->length = 0;
  if (setjmp(output->give_up) != 0) return false;
  return demangler(name, options, append, output) != 0 && output->length > 0;
}

size_t demangle(const char *name, char out[DEMANGLE_OUTPUT_MAX]) {
  if (name[0] != '_' || (name[1] != 'Z' && name[1] != 'R')) return 0;
  size_t length = strnlen(name, DEMANGLE_INPUT_MAX + 1);
  if (length > DEMANGLE_INPUT_MAX) return 0;
  struct output output = {.text = out};
  int options = DMGL_PARAMS | DMGL_ANSI;
  /* Rust first: a legacy Rust name is a valid C++ name too, told apart by its hash, which Rust's demangler leaves out. */
  bool done = try_demangler(rust_demangle_callback, name, options, &output);
  if (length > CPLUS_DEFAULT_MAX) options |= DMGL_NO_RECURSE_LIMIT;
  if (!done && name[1] == 'Z') done = try_demangler(cplus_demangle_v3_callback, name, options, &output);
  if (!done) return 0;
  out[output.length] = '\0';
  return output.length;
}
