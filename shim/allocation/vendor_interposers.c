/* jemalloc's and tcmalloc's non-standard calls. Where their library serves the program's malloc
 * they are sampled like malloc; where it is present beside another malloc they are only forwarded;
 * where it is absent (a program that found our definition through a weak reference) they are what
 * their manuals say, made of the standard calls. Context: as malloc. */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "heap_sampling.h"
#include "shim/next/interposed.h"
#include "live_table.h"
#include "shim/next/next_functions.h"

/* ---- jemalloc (jemalloc(3), "Non-standard API") ---- */

enum { MALLOCX_LG_ALIGN_MASK = 0x3f, MALLOCX_ZERO_FLAG = 0x40 };

static size_t flags_alignment(int flags) {
  size_t alignment = (size_t)1 << (flags & MALLOCX_LG_ALIGN_MASK);
  return alignment < 16 ? 16 : alignment;
}

static bool sampled_or_tracked(size_t size, const void *pointer) {
  return heap_takes_slow_path(thread_state.bytes_until_sample, size) ||
         live_table_may_contain(pointer);
}

EXPORTED void *mallocx(size_t size, int flags) {
  if (LIKELY(real.mallocx != NULL)) {
    if (!next_allocator.jemalloc_is_next) return real.mallocx(size, flags);
    if (UNLIKELY(heap_takes_slow_path(thread_state.bytes_until_sample, size)))
      return heap_slow_mallocx(size, flags);
    thread_state.bytes_until_sample -= size;
    return real.mallocx(size, flags);
  }
  void *block = NULL;
  if (posix_memalign(&block, flags_alignment(flags), size) != 0) return NULL;
  if (block && (flags & MALLOCX_ZERO_FLAG)) memset(block, 0, size);
  return block;
}

EXPORTED void *rallocx(void *pointer, size_t size, int flags) {
  if (LIKELY(real.rallocx != NULL)) {
    if (!next_allocator.jemalloc_is_next) return real.rallocx(pointer, size, flags);
    if (UNLIKELY(sampled_or_tracked(size, pointer))) return heap_slow_rallocx(pointer, size, flags);
    thread_state.bytes_until_sample -= size;
    return real.rallocx(pointer, size, flags);
  }
  size_t old = real.malloc_usable_size(pointer);
  void *block = mallocx(size, flags);
  if (!block) return NULL;
  memcpy(block, pointer, old < size ? old : size);
  free(pointer);
  return block;
}

EXPORTED size_t xallocx(void *pointer, size_t size, size_t extra, int flags) {
  if (LIKELY(real.xallocx != NULL))
    return next_allocator.jemalloc_is_next ? heap_slow_xallocx(pointer, size, extra, flags)
                                           : real.xallocx(pointer, size, extra, flags);
  return real.malloc_usable_size(pointer); /* never resized in place */
}

EXPORTED void dallocx(void *pointer, int flags) {
  if (LIKELY(real.dallocx != NULL)) {
    if (next_allocator.jemalloc_is_next) heap_forget(pointer);
    real.dallocx(pointer, flags);
    return;
  }
  free(pointer);
}

EXPORTED void sdallocx(void *pointer, size_t size, int flags) {
  if (LIKELY(real.sdallocx != NULL)) {
    if (next_allocator.jemalloc_is_next) heap_forget(pointer);
    real.sdallocx(pointer, size, flags);
    return;
  }
  free(pointer);
}

/* ---- tcmalloc: each is another name of a standard call ---- */

#define TC_NEXT(name, standard, arguments) \
  return (real.name && !next_allocator.tcmalloc_is_next) ? real.name arguments : standard arguments

/* The standard call is reached by a tail call, so that the caller stays the leaf of a sampled
 * stack. */
EXPORTED void *tc_malloc(size_t size) { TC_NEXT(tc_malloc, malloc, (size)); }
EXPORTED void *tc_malloc_skip_new_handler(size_t size) {
  TC_NEXT(tc_malloc_skip_new_handler, malloc, (size));
}
EXPORTED void *tc_calloc(size_t count, size_t size) { TC_NEXT(tc_calloc, calloc, (count, size)); }
EXPORTED void *tc_realloc(void *pointer, size_t size) {
  TC_NEXT(tc_realloc, realloc, (pointer, size));
}
EXPORTED void tc_free(void *pointer) { TC_NEXT(tc_free, free, (pointer)); }
EXPORTED void tc_cfree(void *pointer) { TC_NEXT(tc_cfree, free, (pointer)); }
EXPORTED int tc_posix_memalign(void **out, size_t alignment, size_t size) {
  TC_NEXT(tc_posix_memalign, posix_memalign, (out, alignment, size));
}
EXPORTED void *tc_memalign(size_t alignment, size_t size) {
  TC_NEXT(tc_memalign, memalign, (alignment, size));
}
EXPORTED void *tc_valloc(size_t size) { TC_NEXT(tc_valloc, valloc, (size)); }
EXPORTED void *tc_pvalloc(size_t size) { TC_NEXT(tc_pvalloc, pvalloc, (size)); }

void *_Znwm(size_t);
void *_Znam(size_t);
void *_ZnwmRKSt9nothrow_t(size_t, const void *);
void *_ZnamRKSt9nothrow_t(size_t, const void *);
void _ZdlPv(void *);
void _ZdaPv(void *);
void _ZdlPvm(void *, size_t);
void _ZdaPvm(void *, size_t);
void _ZdlPvRKSt9nothrow_t(void *, const void *);
void _ZdaPvRKSt9nothrow_t(void *, const void *);
void free_sized(void *, size_t);

EXPORTED void tc_free_sized(void *pointer, size_t size) {
  TC_NEXT(tc_free_sized, free_sized, (pointer, size));
}
EXPORTED void *tc_new(size_t size) { TC_NEXT(tc_new, _Znwm, (size)); }
EXPORTED void *tc_newarray(size_t size) { TC_NEXT(tc_newarray, _Znam, (size)); }
EXPORTED void *tc_new_nothrow(size_t size, const void *nothrow) {
  TC_NEXT(tc_new_nothrow, _ZnwmRKSt9nothrow_t, (size, nothrow));
}
EXPORTED void *tc_newarray_nothrow(size_t size, const void *nothrow) {
  TC_NEXT(tc_newarray_nothrow, _ZnamRKSt9nothrow_t, (size, nothrow));
}
EXPORTED void tc_delete(void *pointer) { TC_NEXT(tc_delete, _ZdlPv, (pointer)); }
EXPORTED void tc_deletearray(void *pointer) { TC_NEXT(tc_deletearray, _ZdaPv, (pointer)); }
EXPORTED void tc_delete_sized(void *pointer, size_t size) {
  TC_NEXT(tc_delete_sized, _ZdlPvm, (pointer, size));
}
EXPORTED void tc_deletearray_sized(void *pointer, size_t size) {
  TC_NEXT(tc_deletearray_sized, _ZdaPvm, (pointer, size));
}
EXPORTED void tc_delete_nothrow(void *pointer, const void *nothrow) {
  TC_NEXT(tc_delete_nothrow, _ZdlPvRKSt9nothrow_t, (pointer, nothrow));
}
EXPORTED void tc_deletearray_nothrow(void *pointer, const void *nothrow) {
  TC_NEXT(tc_deletearray_nothrow, _ZdaPvRKSt9nothrow_t, (pointer, nothrow));
}
