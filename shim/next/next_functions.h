/* Finding the next definition of each interposed symbol, without dlsym: no malloc, no dlerror
 * state, no wrapped dlsym. Context: any, also before constructors; locks: the loader's
 * (dl_iterate_phdr), therefore once and early. */
#ifndef SHIM_NEXT_FUNCTIONS_H
#define SHIM_NEXT_FUNCTIONS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "interposed.h"

/* What is known about who serves the program's memory; constant after next_functions_resolve. */
struct next_allocator {
  char path[512]; /* of the object that defines the next malloc */
  char earlier_path[512]; /* object before this library that defines malloc ("" none; the program
                             itself: its path) */
  bool earlier_is_program;
  bool asan; /* a sanitizer runtime is in the process */
  bool tsan; /* that is ThreadSanitizer's */
  bool valgrind; /* the process runs under valgrind, which would report how the agent asks for stack
                    pages */
  bool cxx_is_known; /* every form of operator new and delete that exists is the C++ runtime's or
                        the allocator's own: a block of malloc may be given out by new. False: some
                        library replaces forms, with what we cannot know */
  bool jemalloc_is_next; /* mallocx comes from the same object as malloc */
  bool tcmalloc_is_next; /* tc_malloc likewise */
};
extern struct next_allocator next_allocator;

/* What a form of operator new that is not sampled takes from bytes_until_sample: all ones (its
 * size), or 0 where it is the runtime's, which calls malloc or another form, which counts. Constant
 * after next_functions_resolve. */
struct new_counts {
#define X(type, name, parameters) uint64_t name;
  INTERPOSED_CXX(X)
#undef X
};
extern struct new_counts new_counts;

void next_functions_resolve(void);

/* The next definition of this name, looked up now: for calls in the middle of the library's start,
 * also before the loader has relocated this library. Never NULL. Context: any; locks: none. */
void *next_function_find_now(const char *name);

/* The same, looked for when the function that it stands in is first called, for what most programs
 * never call. */
#define NEXT_AT_FIRST_CALL(name)                                                     \
  ({                                                                                 \
    static _Atomic(uintptr_t) kept; /* by whoever calls first; all write the same */ \
    uintptr_t found = atomic_load_explicit(&kept, memory_order_relaxed);             \
    if (!found) {                                                                    \
      found = (uintptr_t)next_function_find_now(#name);                              \
      atomic_store_explicit(&kept, found, memory_order_relaxed);                     \
    }                                                                                \
    (real_##name##_function) found;                                                  \
  })

/* The same for the older version of a name that has two (INTERPOSED_COND_OLD). */
void *next_function_find_now_old(const char *name);

/* Objects that were searched may be unloaded: what is looked up later must be so at once. Constant
 * after next_functions_resolve. */
bool next_functions_may_change(void);

/* The pointers of INTERPOSED_LOCKS and their like, among the objects that were loaded at start.
 * Context: any, after next_functions_resolve, from several threads at once (all write the same);
 * locks: none. */
void next_functions_resolve_locks(void);

/* Looks a name up again in all objects loaded by now, this library excepted; NULL if there is none.
 * For rare, late needs. */
void *next_function_find_late(const char *name);

#endif
