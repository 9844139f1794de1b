/* Who waits for what, now: a place a waiter, found by the address of the object that it waits for.
 *
 * Places are in insert-only chains, one a bucket of addresses; a place stays in its bucket for ever
 * and is taken again by later waiters. The memory is wiped in forked children (MADV_WIPEONFORK), in
 * which nobody waits. Context: any host thread, signal handlers; locks: none; lock_waiters_enter
 * may map memory.
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

/* Whether a release of this object is to be looked at: one load and a test in a program without
 * contention, then one cache line. Relaxed: a waiter that enters at this very moment has not begun
 * to wait. */
static inline bool lock_waiters_may_wait_for(const void *object) {
  struct lock_waiter_bucket *buckets =
      atomic_load_explicit(&lock_waiter_buckets, memory_order_relaxed);
  return UNLIKELY(buckets != NULL) &&
         UNLIKELY(atomic_load_explicit(&buckets[lock_waiter_bucket_of(object)].waiting,
                                       memory_order_relaxed) != 0);
}

/* Whether somebody who has entered waits for just this object. */
bool lock_waiters_wait_for(const void *object);
/* How many entered ones wait for this object or one of its bucket. */
uint32_t lock_waiters_crowd(const void *object);

/* For traces, just before a release: those who wait for just this object are told whether it is in
 * the trace. And whether the last one was not, before the wait is left. */
void lock_waiters_mark(const void *object, bool missed);
bool lock_waiters_has_missed(const struct lock_waiter_claim *claim);

/* start: ns; weight: waits that this one stands for; 0: its releases are seen, and charged with
 * nothing. */
struct lock_waiter_claim lock_waiters_enter(const void *object, uint64_t start, uint64_t weight);
/* released: by somebody; false: it gave up. *released_by: the entry (contention_table.h) of the
 * latest release, 0: none was seen; *weight as given. False: it had been abandoned, or its last
 * releaser has yet to be named and will count it (lock_waiters_name). */
bool lock_waiters_leave(const struct lock_waiter_claim *claim, bool released, uint32_t *released_by,
                        uint64_t *weight);
/* Leaves all that this thread has entered: how many there were. */
uint32_t lock_waiters_abandon(void);

/* ---- releases ----
 *
 * A release is charged with the time since the one before it: a slice of the wait. A lock that is
 * taken and released in rapid succession while somebody waits would be slowed down by that, so
 * after the first slices of a wait (where it does not stand for itself alone: weight 1), and while
 * slices are short, each release only begins a slice that is looked at with probability 1 / scale.
 * The time goes on to be charged in full, to the releaser of one of up to 64 slices that were
 * looked at meanwhile, drawn with a chance as its length: the sum is exact, shares are the better
 * the more were looked at. Releases that are not looked at write nothing that threads share.
 */
enum lock_release_look {
  RELEASE_PASSES, /* nobody waits for just this object, or this release is one that is not looked at
                   */
  RELEASE_IS_TIMED,
  RELEASE_IS_CHARGED
};
/* random: 64 random bits, the same for both calls. */
enum lock_release_look lock_waiters_look(const void *object, uint64_t random);
/* Then, for all but the first, before it: takes the time of those who wait up to now (ns),
 * weighted, for a releaser who is not named yet: *mark. */
uint64_t lock_waiters_charge(const void *object, enum lock_release_look look, uint64_t now,
                             uint64_t random, uint64_t *mark);
/* And after it, when its stack has been walked outside the lock: names the releaser (an entry of
 * contention_table.h, 0: lost). Returns the weight of the waits that have ended by it and left
 * meanwhile. */
uint64_t lock_waiters_name(const void *object, uint64_t mark, uint32_t released_by);

#endif
