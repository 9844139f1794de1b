#include "watched_descriptors.h"

#include "at_fork.h"

_Atomic uint32_t watched_descriptors;
/* Numbers + 1, 0: free. */
static _Atomic int32_t places[WATCHED_DESCRIPTORS_MAX];

static bool exchange(int place, int32_t from, int32_t to) {
  return atomic_compare_exchange_strong_explicit(&places[place], &from, to, memory_order_relaxed,
                                                 memory_order_relaxed);
}

/* It may be there already: it was closed by a call that nobody sees (close_range, dup2). */
void watched_descriptors_add(int descriptor) {
  for (int i = 0; i < WATCHED_DESCRIPTORS_MAX; i++)
    if (atomic_load_explicit(&places[i], memory_order_relaxed) == descriptor + 1) return;
  for (int i = 0; i < WATCHED_DESCRIPTORS_MAX; i++) {
    if (!exchange(i, 0, descriptor + 1)) continue;
    atomic_fetch_add_explicit(&watched_descriptors, 1, memory_order_relaxed);
    return;
  }
}

bool watched_descriptors_remove(int descriptor) {
  for (int i = 0; i < WATCHED_DESCRIPTORS_MAX; i++)
    if (exchange(i, descriptor + 1, 0))
      return atomic_fetch_sub_explicit(&watched_descriptors, 1, memory_order_relaxed) == 1;
  return false;
}

AT_FORK void watched_descriptors_forget(void) {
  if (!watched_descriptors_any()) return; /* a write would cost the child a page */
  for (int i = 0; i < WATCHED_DESCRIPTORS_MAX; i++)
    atomic_store_explicit(&places[i], 0, memory_order_relaxed);
  atomic_store_explicit(&watched_descriptors, 0, memory_order_relaxed);
}
