/* Waits for locks and their like: how long they were, and who made them wait. Waits are sampled, by
 * rules that leave the sums unbiased. While a trace is recorded, every wait and its release go to
 * trace_ring.h as well.
 *
 * The block profile has waits, each at its end. A wait of d ns, at a rate of r ns:
 *  - d >= r: it is recorded, as one wait of d ns;
 *  - d < r: it is recorded with probability d / r, and then stands for r / d waits of d ns each.
 * So each recorded wait adds r ns at least, and the expected sums are the true ones. (Go does the
 * same: runtime/mprof.go, blockevent and blocksampled.)
 *
 * The mutex profile has releases. One wait in n is followed: before it begins, it is entered in the
 * table of waiters (lock_waiters.h) under its object. Each release of that object charges the
 * releaser's stack with n times a slice of the wait: the time since the wait began, or since the
 * release before this one. The release after which the wait ended also gets n events.
 * Example: W waits for 10 ms; A releases after 6 ms, B takes the lock and releases after 4 more, W
 * goes on. A is charged with 6 ms, B with 4 ms and the event.
 * So the times of a lock's releasers add up to those of its waiters, but for the moment between the
 * last release and the waiter's going on. What is done where a lock is released in rapid
 * succession: lock_waiters.h. (Go counts an event for each waiter that a release wakes,
 * runtime/sema.go; since 1.22 it charges one release with all of that waiter's time.)
 *
 * Nothing is asked of the lock itself, and nothing is written to it.
 * Context: any host thread that may wait, also in signal handlers. Locks: none. It may map memory.
 * It reads the clock, without a system call where the vdso can.
 */
#ifndef SHIM_LOCK_WAITS_H
#define SHIM_LOCK_WAITS_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <threads.h>

#include "shim/base/trace_ring.h"
#include "lock_waiters.h"
#include "shim/stacks/stack_capture.h"

struct lock_wait {
  uint64_t start; /* 0: not measured */
  struct lock_waiter_claim claim;
  bool watch_only; /* no event of the block profile */
  bool traced; /* somebody records */
  bool is_told; /* the release that ends it will be in the trace */
  const void *object;
};

enum lock_wait_end {
  WAIT_NOT_ONE, /* an error, or it turned out that there was nothing to wait for */
  WAIT_RELEASED, /* somebody released it */
  WAIT_GAVE_UP /* a timeout, a signal */
};

/* Of what the functions of pthread and of C11 return. */
static inline enum lock_wait_end lock_wait_end_of(int error) {
  return error == 0 || error == EOWNERDEAD ? WAIT_RELEASED
         : error == ETIMEDOUT              ? WAIT_GAVE_UP
                                           : WAIT_NOT_ONE;
}
static inline enum lock_wait_end lock_wait_end_of_c11(int result) {
  return result == thrd_success    ? WAIT_RELEASED
         : result == thrd_timedout ? WAIT_GAVE_UP
                                   : WAIT_NOT_ONE;
}

/* A wrapper has found that it must wait, and is about to. object: what will be released; NULL: it
 * is nothing that the mutex profile would show. */
struct lock_wait lock_wait_begin(const void *object);
/* The same for a condition. Only a trace follows who ends such a wait. */
struct lock_wait lock_wait_begin_condition(const void *condition);
/* The same for a barrier or a thread, which are released without a look at who waits for them: each
 * release is told. */
struct lock_wait lock_wait_begin_told(const void *object);
/* For the mutex profile only: one more object whose release ends the same wait. These are ended
 * before the wait itself, the latest first. */
struct lock_wait lock_wait_watch(const void *object);
/* The wait is over. function: the wrapper (lock_functions.h), which is to be the stack's leaf.
 * caller: the registers of the wrapper's caller. errno stays as it is. */
void lock_wait_end(struct lock_wait *wait, enum lock_wait_end end, uintptr_t function,
                   const struct unwind_registers *caller);

/* By the one who came last (to a barrier): it has not waited, but ended the others' waits. */
void lock_wait_was_last(const struct lock_wait *wait, uintptr_t function,
                        const struct unwind_registers *caller);

/* The thread is about to end, and somebody may join it. */
void lock_wait_thread_ends(void);

/* In place of lock_wait_end: the wait was over before it was entered, or the thread is cancelled in
 * it. */
void lock_wait_forget_releaser(struct lock_wait *wait);

/* An object is about to be released, and lock_waiters_may_wait_for has said yes. is_release: tells,
 * where that matters, whether the call will really release it; NULL: it will. */
struct lock_release {
  bool charged;
  uint64_t time, mark;
  uint64_t traced_at; /* 0: nobody records */
  enum release_wakes wakes;
};
struct lock_release lock_release_begin(const void *object, bool (*is_release)(const void *object));
/* A condition is about to be signalled, while somebody records. */
struct lock_release lock_signal_begin(const void *condition, enum release_wakes wakes);
/* It has been released. The stack is walked now, when nobody waits for this thread. errno stays. */
void lock_release_end(const struct lock_release *release, const void *object, uintptr_t function,
                      const struct unwind_registers *caller);

/* The thread jumps out of its waits (longjmp), or ends in them: they are forgotten. Context: that
 * thread. */
void lock_waits_abandon(void);

#endif
