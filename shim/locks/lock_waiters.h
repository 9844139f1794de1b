/* Who waits for what, now. Each waiter has a place, found by the address of the object that it
 * waits for.
 *
 * Addresses fall into buckets; each bucket has a chain of places. Places are only ever added to a
 * chain: one that is left stays in its bucket and is taken again by a later waiter. The memory is
 * wiped in forked children (MADV_WIPEONFORK), where nobody waits.
 * Context: any host thread, also in signal handlers. Locks: none. lock_waiters_enter may map
 * memory.
 */
#ifndef SHIM_LOCK_WAITERS_H
#define SHIM_LOCK_WAITERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/next/interposed.h"

struct lock_waiter;

struct lock_waiter_claim {
  struct lock_waiter *waiter; /* NULL: not entered */
  const void *object;
  uint64_t life;
};

enum { LOCK_WAITER_BUCKETS = 1 << 13, LOCK_WAITERS_MAX = 1 << 17 };

struct lock_waiter_bucket {
  _Atomic uint32_t
      waiting; /* raised by who enters, before its wait; lowered by itself when it leaves */
  _Atomic uint32_t first; /* newest place of the chain, 0: none */
};
/* LOCK_WAITER_BUCKETS of them; NULL until somebody has waited. */
extern _Atomic(struct lock_waiter_bucket *) lock_waiter_buckets
    __attribute__((visibility("hidden")));

static inline uint32_t lock_waiter_bucket_of(const void *object) {
  return (uint32_t)(((uintptr_t)object >> 2) * 0x9e3779b97f4a7c15ull >> 51);
}

/* Whether a release of this object is to be looked at. Costs one load and a test in a program
 * without contention, else one cache line. Relaxed is enough: a waiter that enters at this very
 * moment has not begun to wait. */
static inline bool lock_waiters_may_wait_for(const void *object) {
  struct lock_waiter_bucket *buckets =
      atomic_load_explicit(&lock_waiter_buckets, memory_order_relaxed);
  return UNLIKELY(buckets != NULL) &&
         UNLIKELY(atomic_load_explicit(&buckets[lock_waiter_bucket_of(object)].waiting,
                                       memory_order_relaxed) != 0);
}

/* Whether somebody who has entered waits for just this object. */
bool lock_waiters_wait_for(const void *object);
/* How many of those who have entered wait for this object, or another of its bucket. */
uint32_t lock_waiters_crowd(const void *object);

/* For traces, just before a release: tells those who wait for just this object whether the release
 * is in the trace. missed: it is not. */
void lock_waiters_mark(const void *object, bool missed);
/* Before the wait is left: whether its last release was missed so. */
bool lock_waiters_has_missed(const struct lock_waiter_claim *claim);

/* A wait is about to begin. start: its time in ns. weight: how many waits it stands for; 0: its
 * releases are seen, but charged with nothing. */
struct lock_waiter_claim lock_waiters_enter(const void *object, uint64_t start, uint64_t weight);
/* The wait is over. released: somebody released it; false: it gave up. Sets *released_by to the
 * entry (contention_table.h) of the latest release, 0: none was seen; and *weight to what was
 * given. False: there is nothing to count here, since the wait had been abandoned, or its last
 * releaser is yet to be named and will count it (lock_waiters_name). */
bool lock_waiters_leave(const struct lock_waiter_claim *claim, bool released, uint32_t *released_by,
                        uint64_t *weight);
/* Leaves all that this thread has entered. Returns how many there were. */
uint32_t lock_waiters_abandon(void);

/* ---- releases ----
 *
 * A release is charged with a slice of the wait: the time since the release before it. That would
 * slow down a lock that is taken and released in rapid succession while somebody waits. So not
 * every release is looked at there: after the first slices of a wait, and while slices are short, a
 * release begins a slice that is looked at with probability 1 / scale only. (A wait of weight 1,
 * which stands for itself alone, has all its slices looked at.) All of the time is charged
 * nevertheless. It goes to the releaser of one of the slices, up to 64, that were looked at
 * meanwhile; which one is drawn, and a slice's chance is as its length. So the sum is exact, and
 * the shares are the better the more slices were looked at. Releases that are not looked at write
 * nothing that threads share.
 */
enum lock_release_look {
  RELEASE_PASSES, /* nobody waits for just this object, or this release is one that is not looked at
                   */
  RELEASE_IS_TIMED,
  RELEASE_IS_CHARGED
};
/* What is to become of a release of this object. random: 64 random bits, the same for this call and
 * the next. */
enum lock_release_look lock_waiters_look(const void *object, uint64_t random);
/* Then, unless it passes, and before it is made: takes the time (ns, weighted) that those who wait
 * have waited up to now, for a releaser who is yet to be named by *mark. */
uint64_t lock_waiters_charge(const void *object, enum lock_release_look look, uint64_t now,
                             uint64_t random, uint64_t *mark);
/* And after it, when the stack has been walked outside the lock: names the releaser, by its entry
 * of contention_table.h; 0: that is lost. Returns the weight of the waits that this release has
 * ended, and that have left meanwhile. */
uint64_t lock_waiters_name(const void *object, uint64_t mark, uint32_t released_by);

#endif
