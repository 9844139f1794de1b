/* Finding the next definition of each interposed symbol, without dlsym: no malloc, no dlerror state, no wrapped dlsym.
 * Context: any, also before constructors; locks: the loader's (dl_iterate_phdr), therefore once and early. */
#ifndef SHIM_NEXT_FUNCTIONS_H
#define SHIM_NEXT_FUNCTIONS_H

#include <stdbool.h>

/* What is known about who serves the program's memory; constant after next_functions_resolve. */
struct next_allocator {
  char path[512];          /* of the object that defines the next malloc */
  char earlier_path[512];  /* object before this library that defines malloc ("" none; the program itself: its path) */
  bool earlier_is_program;
  bool asan;               /* a sanitizer runtime is in the process */
  bool has_cxx;            /* operator new exists */
  bool cxx_calls_malloc;   /* the next operator new is libstdc++'s or libc++'s: it calls malloc, which counts */
  bool cxx_is_allocator;   /* the next operator new comes from the same object as malloc */
  bool jemalloc_is_next;   /* mallocx comes from the same object as malloc */
  bool tcmalloc_is_next;   /* tc_malloc likewise */
};
extern struct next_allocator next_allocator;

void next_functions_resolve(void);

/* Looks a name up again in all objects loaded by now, this library excepted; NULL if there is none. For rare, late needs. */
void *next_function_find_late(const char *name);

#endif
