/* prctl(PR_SET_DUMPABLE): whether the program itself has asked not to be looked into. That it is
 * not dumpable the kernel tells; not, whether only because it has given up root. A forked child has
 * it from its parent. Context: any. */
#ifndef SHIM_DUMPABLE_H
#define SHIM_DUMPABLE_H

#include <stdatomic.h>
#include <stdbool.h>

/* Written by the wrapper of prctl, read by agent threads: a mere flag. */
extern _Atomic bool dumpable_refused;

static inline bool dumpable_was_refused(void) {
  return atomic_load_explicit(&dumpable_refused, memory_order_relaxed);
}

#endif
