#include "own_frames.h"

#include <stddef.h>
#include <string.h>

/* Written before the server of a process has its first thread, constant afterwards. */
static uintptr_t own_start, own_end;

void own_frames_are(uintptr_t start, uintptr_t end) {
  own_start = start;
  own_end = end;
}

bool own_frame_is(uint64_t address, const struct symbol_location *symbol) {
  if (address - own_start >= own_end - own_start) return false;
  const char *name = symbol && symbol->frame_count > 0
                         ? symbol->frames[symbol->frame_count - 1].system_name
                         : NULL;
  return !name || strcmp(name, "__restore_rt") != 0;
}

/* Wrappers jump to these, so that they are not on the stack themselves. */
const char *own_frame_public_name(const char *function) {
  static const char *const prefixes[] = {"heap_slow_", "wait_", "release_", "first_"};
  if (!function) return NULL;
  if (strncmp(function, "heap_slow_new", strlen("heap_slow_new")) == 0) return "operator new";
  for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
    if (strncmp(function, prefixes[i], strlen(prefixes[i])) == 0)
      return function + strlen(prefixes[i]);
  return NULL;
}
