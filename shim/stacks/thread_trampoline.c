#include "thread_trampoline.h"

#include <stdbool.h>

#include "shim/next/interposed.h"

/* Those of thread_interposers.c, all in one section. */
extern const char __start_thread_trampolines[] __attribute__((visibility("hidden")));
extern const char __stop_thread_trampolines[] __attribute__((visibility("hidden")));

static bool is_trampoline(uintptr_t pc) {
  return pc - (uintptr_t)__start_thread_trampolines <
         (uintptr_t)__stop_thread_trampolines - (uintptr_t)__start_thread_trampolines;
}

/* It lies below the thread library's last few frames. */
uint32_t thread_trampoline_leave_out(uint64_t *frames, uint32_t count) {
  enum { THREAD_LIBRARY_DEPTH = 5 };
  for (uint32_t i = count; i > 0 && count - i < THREAD_LIBRARY_DEPTH && count > 1; i--) {
    if (LIKELY(!is_trampoline(frames[i - 1] - 1))) continue;
    for (uint32_t k = i; k < count; k++) frames[k - 1] = frames[k];
    return count - 1;
  }
  return count;
}
