/* The next definition of each function that this library defines as well: what a wrapper calls. It
 * is found without dlsym, which may call malloc, changes what dlerror says, and may itself be
 * wrapped. Context: any, also before constructors have run. Locks: the loader's (dl_iterate_phdr),
 * therefore once and early. */
#ifndef SHIM_NEXT_FUNCTIONS_H
#define SHIM_NEXT_FUNCTIONS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "interposed.h"

/* Who serves the program's memory. Constant after next_functions_resolve. */
struct next_allocator {
  char path[512]; /* of the object that defines the next malloc */
  char earlier_path[512]; /* of an object before this library that defines malloc; "": none */
  bool earlier_is_program; /* that object is the program itself */
  bool asan; /* a sanitizer runtime is in the process */
  bool tsan; /* that is ThreadSanitizer's */
  bool valgrind; /* the process runs under valgrind, which would report how the agent asks for stack
                    pages */
  /* Every form of operator new and delete is the C++ runtime's or the allocator's own: new may give
   * out a block of malloc's. False: some library replaces forms, by what we cannot know. */
  bool cxx_is_known;
  bool jemalloc_is_next; /* mallocx comes from the same object as malloc */
  bool tcmalloc_is_next; /* tc_malloc likewise */
};
extern struct next_allocator next_allocator;

/* For each form of operator new: a mask for its size, which says what the form takes from
 * bytes_until_sample when it is not sampled. All ones: its size. 0: nothing, since the form is the
 * runtime's and calls malloc or another form, which counts. Constant after next_functions_resolve.
 */
struct new_counts {
#define X(type, name, parameters) uint64_t name;
  INTERPOSED_CXX(X)
#undef X
};
extern struct new_counts new_counts;

void next_functions_resolve(void);

/* The next definition of this name, looked up now. It is for calls in the middle of the library's
 * start, and works before the loader has relocated this library. Never NULL. Context: any. Locks:
 * none. */
void *next_function_find_now(const char *name);

/* The same for what most programs never call: it is looked up at the first call of the function
 * that this stands in. */
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

/* Whether objects that were searched may be unloaded: then nothing may be left to be looked up
 * later. Constant after next_functions_resolve. */
bool next_functions_may_change(void);

/* Fills in the pointers of INTERPOSED_LOCKS and their like, from the objects that were loaded at
 * start. Context: any, after next_functions_resolve; also several threads at once, which all write
 * the same. Locks: none. */
void next_functions_resolve_locks(void);

/* Looks a name up in all objects that are loaded by now, this library excepted. NULL: there is
 * none. For rare, late needs. */
void *next_function_find_late(const char *name);

#endif
