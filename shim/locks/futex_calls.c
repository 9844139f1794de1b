#define syscall syscall_as_unistd_declares_it /* variadic there */
#include <unistd.h>
#undef syscall
#include "futex_calls.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>

#include "shim/base/confinement.h"
#include "shim/base/counters.h"
#include "shim/cpu/interrupted_call.h"
#include "lock_functions.h"
#include "lock_status.h"
#include "lock_waits.h"
#include "shim/base/raw_syscall.h"

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif

/* A wait that failed otherwise (EAGAIN: the word had changed) was none. */
static enum lock_wait_end end_of(long result) {
  if (result >= 0) return WAIT_RELEASED;
  return errno == ETIMEDOUT || errno == EINTR ? WAIT_GAVE_UP : WAIT_NOT_ONE;
}

static struct lock_release begin_release(long object, bool (*is_release)(const void *object)) {
  if (LIKELY(!lock_waiters_may_wait_for((const void *)object))) return (struct lock_release){0};
  return lock_release_begin((const void *)object, is_release);
}

/* A pointer of the program's may be bad: that is the kernel's to find out. */
static bool read_program(const void *address, void *out, size_t size) {
  if (confinement_forbids_calls()) return false;
  if (!raw_range_is_readable(address, size)) return false;
  memcpy(out, address, size);
  return true;
}

/* ---- priority inheritance: the word says who holds the lock ---- */

static int32_t holder_of(const void *object) {
  uint32_t word;
  return read_program(object, &word, sizeof word) ? (int32_t)(word & FUTEX_TID_MASK) : 0;
}

static bool is_held_by_caller(const void *object) {
  return holder_of(object) == (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0);
}

static bool must_wait(long command, const void *object) {
  return (command != FUTEX_LOCK_PI && command != FUTEX_LOCK_PI2) ||
         (block_off_reason() && mutex_off_reason()) || holder_of(object) != 0;
}

/* ---- futex_waitv: several words, the first that is woken ends the wait ---- */

struct waited_word { /* struct futex_waitv of linux/futex.h, which older headers lack */
  uint64_t value, address;
  uint32_t flags, reserved;
};
enum {
  WORDS_MAX = 32
}; /* the kernel's bound is 128: more than this are not watched, for want of stack */

static long read_words(struct waited_word *words, long address, long count) {
  if (count > WORDS_MAX) COUNT_LOSS(mutex_lost_waiters);
  if (count <= 0 || count > WORDS_MAX) return 0;
  if (read_program((const void *)address, words, (size_t)count * sizeof *words)) return count;
  COUNT_LOSS(mutex_lost_waiters);
  return 0;
}

static long wait_for_words(long a, long b, long c, long d, long e, long f,
                           const struct unwind_registers *caller) {
  struct waited_word words[WORDS_MAX];
  struct lock_wait watched[WORDS_MAX], wait = lock_wait_begin(NULL);
  long count = mutex_off_reason() ? 0 : read_words(words, a, b);
  for (long i = 0; i < count; i++)
    watched[i] = lock_wait_watch((const void *)(uintptr_t)words[i].address);
  long result = interrupted_call_make(SYS_FUTEX_WAITV, a, b, c, d, e,
                                      f); /* the index of the one that was woken */
  for (long i = count; i-- > 0;)
    lock_wait_end(&watched[i], i == result ? WAIT_RELEASED : WAIT_GAVE_UP, lock_wrappers.syscall,
                  caller);
  lock_wait_end(&wait, end_of(result), lock_wrappers.syscall, caller);
  return result;
}

/* ---- */

long futex_call(const struct unwind_registers *caller, long number, long a, long b, long c, long d,
                long e, long f) {
  if (UNLIKELY(!lock_wrappers.syscall)) lock_functions_find();
  if (number == SYS_FUTEX_WAITV) return wait_for_words(a, b, c, d, e, f, caller);
  long command = b & FUTEX_CMD_MASK;
  switch (command) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_WAIT_REQUEUE_PI:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2: {
      if (!must_wait(command, (const void *)a)) break;
      struct lock_wait wait = lock_wait_begin((const void *)a);
      long result = interrupted_call_make(number, a, b, c, d, e, f);
      lock_wait_end(&wait, end_of(result), lock_wrappers.syscall, caller);
      return result;
    }
    case FUTEX_UNLOCK_PI:
    case FUTEX_WAKE_OP: /* wakes at both words */
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
    /* A release of the first word, also for those that are only moved to the second, whose later
     * release is not seen. */
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_CMP_REQUEUE_PI: {
      struct lock_release first = begin_release(
                              a, command == FUTEX_UNLOCK_PI ? is_held_by_caller : NULL),
                          second = {0};
      if (command == FUTEX_WAKE_OP) second = begin_release(e, NULL);
      long result = interrupted_call_make(number, a, b, c, d, e, f);
      lock_release_end(&first, (const void *)a, lock_wrappers.syscall, caller);
      lock_release_end(&second, (const void *)e, lock_wrappers.syscall, caller);
      return result;
    }
  }
  return interrupted_call_make(number, a, b, c, d, e, f);
}
