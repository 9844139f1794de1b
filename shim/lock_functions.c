#include "lock_functions.h"

#include <link.h>

#include "dynamic_symbols.h"
#include "next_functions.h"
#include "startup.h"

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));
extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

struct lock_wrappers lock_wrappers;

static void find_wrappers(void) {
  struct dynamic_symbols own;
  if (!dynamic_symbols_open(&own, (uintptr_t)&__ehdr_start, _DYNAMIC)) return;
#define X(type, name, parameters) lock_wrappers.name = (uintptr_t)dynamic_symbols_find(&own, #name) + 1;
  INTERPOSED_LOCKS(X)
  INTERPOSED_COND(X)
#undef X
  lock_wrappers.syscall = (uintptr_t)dynamic_symbols_find(&own, "syscall") + 1;
}

bool lock_functions_find(void) {
  if (!real.malloc || !startup_await()) return false;
  find_wrappers();
  next_functions_resolve_locks();
  return true;
}
