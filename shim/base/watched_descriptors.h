/* Descriptors that the program has opened to count its threads by: the agent's thread is away until
 * the last of them is closed. Written and read by the program's threads, its signal handlers
 * included. Of more than there is room for, those that come too late are not watched. */
#ifndef SHIM_WATCHED_DESCRIPTORS_H
#define SHIM_WATCHED_DESCRIPTORS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { WATCHED_DESCRIPTORS_MAX = 8 };

/* Relaxed: who closes a descriptor has got it from who opened it. */
extern _Atomic uint32_t watched_descriptors;

static inline bool watched_descriptors_any(void) {
  return atomic_load_explicit(&watched_descriptors, memory_order_relaxed) != 0;
}

void watched_descriptors_add(int descriptor);
/* True: it was the last one. */
bool watched_descriptors_remove(int descriptor);
/* In a forked child. */
void watched_descriptors_forget(void);

#endif
