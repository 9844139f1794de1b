/* What glibc checks of a timed wait before it looks at the object (sysdeps/nptl/futex-internal.h,
 * futex_abstimed_supported_clockid): where a check would fail, the wrappers must not try first.
 * Context: any. */
#ifndef SHIM_WAIT_DEADLINES_H
#define SHIM_WAIT_DEADLINES_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

static inline bool wait_clock_is_valid(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC;
}
static inline bool wait_deadline_is_valid(const struct timespec *deadline) {
  return deadline->tv_nsec >= 0 && deadline->tv_nsec < 1000000000;
}
/* NULL, which the headers forbid, waits for ever: the compiler must not take their word for it. */
static inline bool wait_deadline_is_valid_or_none(const struct timespec *deadline) {
  __asm__("" : "+r"(deadline));
  return !deadline || wait_deadline_is_valid(deadline);
}

#endif
