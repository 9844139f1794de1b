/* The next definitions of the functions that wait and release (INTERPOSED_LOCKS in interposed.h),
 * found at the first call of any of them. Context: any; locks: none, but for the library's own
 * start. */
#ifndef SHIM_LOCK_FUNCTIONS_H
#define SHIM_LOCK_FUNCTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "shim/next/interposed.h"

/* False: the loader is not done with this library; there is then one thread and nothing to wait
 * for. */
bool lock_functions_find(void);

/* Addresses in this library's own wrappers, as they stand in stacks: exact pc + 1. Written before
 * real_locks. */
struct lock_wrappers {
#define X(type, name, parameters) uintptr_t name;
  INTERPOSED_LOCKS(X)
  INTERPOSED_COND(X)
#undef X
  uintptr_t syscall;
};
extern struct lock_wrappers lock_wrappers;

#endif
