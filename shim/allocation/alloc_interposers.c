/* The C allocation family. The fast paths: a subtraction and a comparison for what allocates, one
 * test of the pointer's page for what frees; everything else is in heap_sampling.c, reached by tail
 * calls (it looks at its own return address). Context: wherever the host allocates: signal
 * handlers, the loader, before constructors. */
#include <errno.h>

#include "heap_sampling.h"
#include "shim/next/interposed.h"
#include "live_table.h"
#include "shim/stacks/module_registry.h"
#include "shim/next/startup.h"
#include "shim/stacks/unwind_rule.h"

/* real.NAME is NULL only until the loader has relocated this library, when thread_state cannot be
 * reached either. */

EXPORTED void *malloc(size_t size) {
  real_malloc_function next = real.malloc;
  if (UNLIKELY(!next)) return startup_arena_allocate(size, 16);
  uint64_t left = thread_state.bytes_until_sample;
  if (UNLIKELY(heap_takes_slow_path(left, size))) return heap_slow_malloc(size);
  thread_state.bytes_until_sample = left - size;
  return next(size);
}

EXPORTED void *calloc(size_t count, size_t size) {
  real_calloc_function next = real.calloc;
  size_t bytes;
  if (UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) bytes = SIZE_MAX;
  if (UNLIKELY(!next)) return startup_arena_allocate(bytes, 16);
  uint64_t left = thread_state.bytes_until_sample;
  if (UNLIKELY(heap_takes_slow_path(left, bytes))) return heap_slow_calloc(count, size);
  thread_state.bytes_until_sample = left - bytes;
  return next(count, size);
}

EXPORTED void *realloc(void *pointer, size_t size) {
  real_realloc_function next = real.realloc;
  if (UNLIKELY(!next))
    return startup_arena_allocate(size,
                                  16); /* nothing but arena blocks exist yet, and they have room */
  uint64_t left = thread_state.bytes_until_sample;
  if (UNLIKELY(heap_takes_slow_path(left, size) || live_table_may_contain(pointer)))
    return heap_slow_realloc(pointer, size);
  thread_state.bytes_until_sample = left - size;
  return next(pointer, size);
}

/* Every libc's is an overflow check and a call of the program's realloc. Made of ours where that is
 * the program's, so that the caller stays the leaf of the stack. */
EXPORTED void *reallocarray(void *pointer, size_t count, size_t size) {
  size_t bytes;
  if (UNLIKELY(heap_off_reason() != NULL && real.reallocarray))
    return real.reallocarray(pointer, count, size);
  if (UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
    errno = ENOMEM;
    return NULL;
  }
  return heap_slow_realloc(pointer, bytes);
}

EXPORTED void free(void *pointer) {
  real_free_function next = real.free;
  if (UNLIKELY(live_table_may_contain(pointer) || !next)) {
    heap_slow_free(pointer);
    return;
  }
  next(pointer);
}

/* Where the next definition is missing the program's own free is the right one, whoever defines it.
 */
EXPORTED void free_sized(void *pointer, size_t size) {
  heap_forget(pointer);
  if (real.free_sized && !startup_arena_contains(pointer)) real.free_sized(pointer, size);
  else free(pointer);
}

EXPORTED void free_aligned_sized(void *pointer, size_t alignment, size_t size) {
  heap_forget(pointer);
  if (real.free_aligned_sized && !startup_arena_contains(pointer))
    real.free_aligned_sized(pointer, alignment, size);
  else free(pointer);
}

/* tcmalloc's aligned calls go through its other exported names, that is through these wrappers:
 * hence the guard. No allocator is known whose malloc, calloc and realloc do. */
EXPORTED int posix_memalign(void **out, size_t alignment, size_t size) {
  real_posix_memalign_function next = real.posix_memalign;
  if (UNLIKELY(!next)) return (*out = startup_arena_allocate(size, alignment)) ? 0 : ENOMEM;
  uint64_t left = thread_state.bytes_until_sample;
  if (UNLIKELY(heap_takes_slow_path(left, size)))
    return heap_slow_posix_memalign(out, alignment, size);
  heap_guard_enter();
  int result = next(out, alignment, size);
  heap_guard_leave(left - size);
  return result;
}

#define DEFINE_ALIGNED(name, parameters, arguments, alignment)                         \
  EXPORTED void *name parameters {                                                     \
    real_##name##_function next = real.name;                                           \
    if (UNLIKELY(!next)) return startup_arena_allocate(size, alignment);               \
    uint64_t left = thread_state.bytes_until_sample;                                   \
    if (UNLIKELY(heap_takes_slow_path(left, size))) return heap_slow_##name arguments; \
    heap_guard_enter();                                                                \
    void *block = next arguments;                                                      \
    heap_guard_leave(left - size);                                                     \
    return block;                                                                      \
  }

DEFINE_ALIGNED(aligned_alloc, (size_t alignment, size_t size), (alignment, size), alignment)
DEFINE_ALIGNED(memalign, (size_t alignment, size_t size), (alignment, size), alignment)
DEFINE_ALIGNED(valloc, (size_t size), (size), STARTUP_ARENA_PAGE)
DEFINE_ALIGNED(pvalloc, (size_t size), (size), STARTUP_ARENA_PAGE)

/* Code that is unmapped takes its unwind rules with it: another object may be loaded there; and the
 * agent may be reading them. */
EXPORTED int dlclose(void *handle) {
  if (UNLIKELY(!real.dlclose)) return STARTUP_NEXT(dlclose)(handle);
  unwind_rule_unload_begin();
  int result = real.dlclose(handle);
  unwind_rule_unload_end();
  module_registry_check_unloaded();
  return result;
}
