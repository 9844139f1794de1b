/* operator new and delete. The next definition is libstdc++'s or libc++'s (which call malloc), an
 * allocator's own (which does not), or there is none: then the names are struck (absent_names.c),
 * and for whoever was bound before that these are what every runtime's are. Context: as malloc. */
#include <stdint.h>

#include "heap_sampling.h"
#include "shim/next/interposed.h"
#include "shim/next/next_functions.h"
#include "shim/next/startup.h"

void *malloc(size_t);
void *aligned_alloc(size_t, size_t);
void free(void *);

/* Out of memory without a C++ runtime in the global scope: the one that the caller was linked with
 * calls its new handler or throws. */
static void *late_new(size_t size, const char *name, size_t alignment) {
  void *function = next_function_find_late(name);
  if (!function)
    __builtin_trap(); /* a C++ caller without any C++ runtime: nothing could throw for it */
  return alignment ? ((real__ZnwmSt11align_val_t_function)function)(size, alignment)
                   : ((real__Znwm_function)function)(size);
}

static void *standin_new(size_t size) {
  void *block = malloc(size ? size : 1);
  return block ? block : late_new(size, "_Znwm", 0);
}

static void *standin_new_aligned(size_t size, size_t alignment) {
  size_t rounded = ((size ? size : 1) + alignment - 1) & ~(alignment - 1);
  void *block = rounded < size ? NULL : aligned_alloc(alignment, rounded);
  return block ? block : late_new(size, "_ZnwmSt11align_val_t", alignment);
}

static void *standin_new_nothrow(size_t size, const void *nothrow) {
  (void)nothrow;
  return malloc(size ? size : 1);
}

static void *standin_new_aligned_nothrow(size_t size, size_t alignment, const void *nothrow) {
  (void)nothrow;
  size_t rounded = ((size ? size : 1) + alignment - 1) & ~(alignment - 1);
  return rounded < size ? NULL : aligned_alloc(alignment, rounded);
}

#define NEXT_NEW(name, standin) (LIKELY(real.name != NULL) ? real.name : standin)
#define TAKE(name, left, size) (thread_state.bytes_until_sample = (left) - ((size)&new_counts.name))

#define DEFINE_NEW(name)                                                    \
  EXPORTED void *name(size_t size) {                                        \
    real_##name##_function next = NEXT_NEW(name, standin_new);              \
    uint64_t left = thread_state.bytes_until_sample;                        \
    if (UNLIKELY(heap_takes_slow_path(left, size)))                         \
      return heap_slow_new(size, (heap_new_function)next, new_counts.name); \
    TAKE(name, left, size);                                                 \
    return next(size);                                                      \
  }
#define DEFINE_NEW_NOTHROW(name)                                                             \
  EXPORTED void *name(size_t size, const void *nothrow) {                                    \
    real_##name##_function next = NEXT_NEW(name, standin_new_nothrow);                       \
    uint64_t left = thread_state.bytes_until_sample;                                         \
    if (UNLIKELY(heap_takes_slow_path(left, size)))                                          \
      return heap_slow_new_nothrow(size, nothrow, (heap_new_function)next, new_counts.name); \
    TAKE(name, left, size);                                                                  \
    return next(size, nothrow);                                                              \
  }
#define DEFINE_NEW_ALIGNED(name)                                                             \
  EXPORTED void *name(size_t size, size_t alignment) {                                       \
    real_##name##_function next = NEXT_NEW(name, standin_new_aligned);                       \
    return heap_slow_new_aligned(size, alignment, (heap_new_function)next, new_counts.name); \
  }
#define DEFINE_NEW_ALIGNED_NOTHROW(name)                                                    \
  EXPORTED void *name(size_t size, size_t alignment, const void *nothrow) {                 \
    real_##name##_function next = NEXT_NEW(name, standin_new_aligned_nothrow);              \
    return heap_slow_new_aligned_nothrow(size, alignment, nothrow, (heap_new_function)next, \
                                         new_counts.name);                                  \
  }

DEFINE_NEW(_Znwm)
DEFINE_NEW(_Znam)
DEFINE_NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
DEFINE_NEW_NOTHROW(_ZnamRKSt9nothrow_t)
DEFINE_NEW_ALIGNED(_ZnwmSt11align_val_t)
DEFINE_NEW_ALIGNED(_ZnamSt11align_val_t)
DEFINE_NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
DEFINE_NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)

#define DEFINE_DELETE(name, parameters, arguments)                                     \
  EXPORTED void name parameters {                                                      \
    heap_forget(pointer); /* the next one may free without calling free */             \
    if (UNLIKELY(real.name == NULL || startup_arena_contains(pointer))) free(pointer); \
    else real.name arguments;                                                          \
  }

DEFINE_DELETE(_ZdlPv, (void *pointer), (pointer))
DEFINE_DELETE(_ZdaPv, (void *pointer), (pointer))
DEFINE_DELETE(_ZdlPvm, (void *pointer, size_t size), (pointer, size))
DEFINE_DELETE(_ZdaPvm, (void *pointer, size_t size), (pointer, size))
DEFINE_DELETE(_ZdlPvRKSt9nothrow_t, (void *pointer, const void *nothrow), (pointer, nothrow))
DEFINE_DELETE(_ZdaPvRKSt9nothrow_t, (void *pointer, const void *nothrow), (pointer, nothrow))
DEFINE_DELETE(_ZdlPvSt11align_val_t, (void *pointer, size_t alignment), (pointer, alignment))
DEFINE_DELETE(_ZdaPvSt11align_val_t, (void *pointer, size_t alignment), (pointer, alignment))
DEFINE_DELETE(_ZdlPvmSt11align_val_t, (void *pointer, size_t size, size_t alignment),
              (pointer, size, alignment))
DEFINE_DELETE(_ZdaPvmSt11align_val_t, (void *pointer, size_t size, size_t alignment),
              (pointer, size, alignment))
DEFINE_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t,
              (void *pointer, size_t alignment, const void *nothrow), (pointer, alignment, nothrow))
DEFINE_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t,
              (void *pointer, size_t alignment, const void *nothrow), (pointer, alignment, nothrow))
