#include "call_context.h"

#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/next/loaded_objects.h"

/* The object that has the code; NULL: none that the loader knows (generated code). */
static const struct link_map *object_of(uintptr_t pc) {
  struct dl_find_object found;
  return _dl_find_object((void *)pc, &found) == 0 ? found.dlfo_link_map : NULL;
}

bool call_context_is_ordinary(const struct captured_stack *stack) {
  uint32_t count = stack->frame_count;
  if (stack->crosses_signal || count == 0 || stack->frames[count - 1] < STACK_MARKER_LIMIT)
    return false;
  bool was_in_libc = false;
  for (uint32_t i = 0; i < count; i++) {
    if (stack->frames[i] < STACK_MARKER_LIMIT) return false; /* frames are left out */
    const struct link_map *object = object_of((uintptr_t)stack->frames[i] - 1);
    bool is_in_libc = object && (loaded_object_is_libc(object) || loaded_object_is_loader(object));
    /* the outermost one is the program's entry */
    if (was_in_libc && !is_in_libc && i + 1 < count) return false;
    was_in_libc = is_in_libc;
  }
  return true;
}
