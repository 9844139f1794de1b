#include "stack_size.h"

#include <stddef.h>

#include "thread_state.h"

/* Of a class there are more than 2^class bytes without the guard. Of these, the thread's control
 * block and its alignment take less than AT_TOP above what the thread pointer points to. */
enum { SMALLEST_CLASS = 16, AT_TOP = 16384 };

uint8_t stack_size_class(const pthread_attr_t *attributes) {
  pthread_attr_t standard;
  size_t size = 0, guard = 0;
  if (!attributes) {
    if (pthread_attr_init(&standard) != 0) return 0;
    attributes = &standard;
  }
  if (pthread_attr_getstacksize(attributes, &size) != 0) return 0;
  if (pthread_attr_getguardsize(attributes, &guard) != 0 || size <= guard) return 0;
  uint8_t class = (uint8_t)(63 - __builtin_clzll(size - guard));
  return class >= SMALLEST_CLASS ? class : 0;
}

void stack_size_thread_starts(uint8_t size_class) {
  if (!size_class) return;
  uintptr_t room = ((uintptr_t)1 << size_class) - AT_TOP;
  thread_state.stack_floor = (uintptr_t)__builtin_thread_pointer() - room;
}
