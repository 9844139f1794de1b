/* So many at once, and one a while in the long run (the generic cell rate algorithm, ITU-T I.371).
 * Taken by any thread, without a lock. */
#ifndef AGENT_ALLOWANCE_H
#define AGENT_ALLOWANCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* whole_ns: the time at which the allowance would be whole again; at first 0. */
static inline bool allowance_take(_Atomic int64_t *whole_ns, int64_t now_ns, int64_t every_ns,
                                  int64_t at_once) {
  int64_t whole = atomic_load_explicit(whole_ns, memory_order_relaxed), next;
  do {
    next = (whole > now_ns ? whole : now_ns) + every_ns;
    if (next - now_ns > at_once * every_ns) return false;
  } while (!atomic_compare_exchange_weak_explicit(whole_ns, &whole, next, memory_order_relaxed,
                                                  memory_order_relaxed));
  return true;
}

#endif
