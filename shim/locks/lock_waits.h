/* Waits for locks and their like: how long, and who made them wait. Sampling, and the rules by
 * which it is unbiased. While a trace is recorded all waits and their releases go to trace_ring.h
 * as well.
 *
 * block: at the end of each wait. A wait of d ns is recorded if d >= rate, else with probability d
 * / rate, and then counts as rate / d waits of d ns each (Go's runtime/mprof.go, blockevent and
 * blocksampled).
 *
 * mutex: one wait in n is entered in the table of waiters (lock_waiters.h) under the object that it
 * is for, before it begins; each release of that object charges the releaser's stack with n times
 * what the waiter has waited since it began or since the release before this one; the release after
 * which the wait ended gets n events. (lock_waiters.h says what is done where a lock is released in
 * rapid succession.) So the times of a lock's releasers add up to those of its waiters, but for the
 * way from the last release to the waiter's own continuation. (Go counts an event a waiter that a
 * release wakes, runtime/sema.go, and since 1.22 charges a release with the time of all that wait.)
 *
 * Nothing is asked of the lock itself and nothing is written to it.
 * Context: any host thread that may wait, signal handlers; locks: none; may map memory; reads the
 * clock without a system call where the vdso can.
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

/* After a wrapper has found that it must wait, before it does. object: what will be released; NULL:
 * nothing that the mutex profile would show. */
struct lock_wait lock_wait_begin(const void *object);
/* Of a condition: only a trace follows who ends it. */
struct lock_wait lock_wait_begin_condition(const void *condition);
/* The same for what is released without a look at who waits, each time: a barrier, a thread. */
struct lock_wait lock_wait_begin_told(const void *object);
/* For the mutex profile only: a further object whose release ends the same wait. Ended before the
 * wait itself, latest first. */
struct lock_wait lock_wait_watch(const void *object);
/* function: the wrapper (lock_functions.h) that is to be the leaf; caller: of the wrapper. errno
 * stays. */
void lock_wait_end(struct lock_wait *wait, enum lock_wait_end end, uintptr_t function,
                   const struct unwind_registers *caller);

/* By who has not waited, but come last and so ended the others' waits. */
void lock_wait_was_last(const struct lock_wait *wait, uintptr_t function,
                        const struct unwind_registers *caller);

/* The thread is about to end, and somebody may join it. */
void lock_wait_thread_ends(void);

/* In place of the end: it was over before it was entered, or the thread is cancelled in it. */
void lock_wait_forget_releaser(struct lock_wait *wait);

/* Just before an object is released for which lock_waiters_may_wait_for was true. is_release: asked
 * where it matters whether it will be; NULL: it will. */
struct lock_release {
  bool charged;
  uint64_t time, mark;
  uint64_t traced_at; /* 0: nobody records */
  enum release_wakes wakes;
};
struct lock_release lock_release_begin(const void *object, bool (*is_release)(const void *object));
/* Just before a condition is signalled, while somebody records. */
struct lock_release lock_signal_begin(const void *condition, enum release_wakes wakes);
/* Just after: the stack is walked while nobody waits for it. errno stays. */
void lock_release_end(const struct lock_release *release, const void *object, uintptr_t function,
                      const struct unwind_registers *caller);

/* The thread jumps out of its waits (longjmp) or ends in them: nothing of them stays. Context: that
 * thread. */
void lock_waits_abandon(void);

#endif
