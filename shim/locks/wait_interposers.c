/* Waits for other threads: condition variables, semaphores, barriers, the end of a thread; C11's
 * too.
 *
 * A condition variable's wait always is one (and it releases its mutex); so is a barrier's, but for
 * the thread that completes it. Semaphores and ends of threads are tried first. Waits that are
 * cancellation points leave nothing behind: only a semaphore's is entered anywhere, and has a
 * cleanup handler. Context: host threads; sem_post also in signal handlers. */
#undef __EXCEPTIONS /* the cleanup handler by setjmp: the one with a landing pad would need an \
                       unwinder in this library */
#include <errno.h>
#include <stdint.h>

#include "shim/next/interposed.h"
#include "lock_functions.h"
#include "lock_waits.h"
#include "mutex_owner.h"
#include "shim/next/startup.h"
#include "wait_deadlines.h"

/* In the middle of the library's start the call is libc's own. */
#define NEED(name, instead) \
  if (UNLIKELY(!NEXT_LOCK(name)) && !lock_functions_find()) return instead

/* ---- condition variables ---- */

/* The mutex, which it takes again, may have lost its owner meanwhile. */
static enum lock_wait_end end_of_cond(int result) {
  return result == ENOTRECOVERABLE ? WAIT_RELEASED : lock_wait_end_of(result);
}

static void release_mutex(const void *mutex, uintptr_t function,
                          const struct unwind_registers *caller) {
  if (LIKELY(!lock_waiters_may_wait_for(mutex))) return;
  struct lock_release release = lock_release_begin(mutex, mutex_unlock_releases);
  lock_release_end(&release, mutex, function, caller);
}

static void wait_is_cancelled(void *wait) { lock_wait_forget_releaser(wait); }

/* function: the wrapper's name, of which there may be a second version. releases: false where the
 * deadline is refused before anything else. */
#define DEFINE_COND(wrapper, visibility, next, function, instead, releases, end_of, parameters, \
                    arguments)                                                                  \
  visibility int wrapper parameters {                                                           \
    struct unwind_registers caller = CALLER_REGISTERS();                                        \
    NEED(next, instead arguments);                                                              \
    if (releases) release_mutex(mutex, lock_wrappers.function, &caller);                        \
    struct lock_wait wait = lock_wait_begin_condition(cond);                                    \
    int result;                                                                                 \
    if (UNLIKELY(wait.claim.waiter != NULL)) {                                                  \
      pthread_cleanup_push(wait_is_cancelled, &wait);                                           \
      result = real_locks.next arguments;                                                       \
      pthread_cleanup_pop(0);                                                                   \
    } else {                                                                                    \
      result = real_locks.next arguments;                                                       \
    }                                                                                           \
    lock_wait_end(&wait, end_of(result), lock_wrappers.function, &caller);                      \
    return result;                                                                              \
  }

#define COND (pthread_cond_t * cond, pthread_mutex_t * mutex)
#define COND_TIMED (pthread_cond_t * cond, pthread_mutex_t * mutex, const struct timespec *deadline)

DEFINE_COND(pthread_cond_wait, EXPORTED, pthread_cond_wait, pthread_cond_wait,
            STARTUP_NEXT(pthread_cond_wait), true, end_of_cond, COND, (cond, mutex))
DEFINE_COND(pthread_cond_timedwait, EXPORTED, pthread_cond_timedwait, pthread_cond_timedwait,
            STARTUP_NEXT(pthread_cond_timedwait), wait_deadline_is_valid(deadline), end_of_cond,
            COND_TIMED, (cond, mutex, deadline))
DEFINE_COND(pthread_cond_clockwait, EXPORTED, pthread_cond_clockwait, pthread_cond_clockwait,
            STARTUP_NEXT(pthread_cond_clockwait),
            wait_deadline_is_valid(deadline) && wait_clock_is_valid(clock), end_of_cond,
            (pthread_cond_t * cond, pthread_mutex_t *mutex, clockid_t clock,
             const struct timespec *deadline),
            (cond, mutex, clock, deadline))
DEFINE_COND(cnd_wait, EXPORTED, cnd_wait, cnd_wait, STARTUP_NEXT(cnd_wait), true,
            lock_wait_end_of_c11, (cnd_t * cond, mtx_t *mutex), (cond, mutex))
DEFINE_COND(cnd_timedwait, EXPORTED, cnd_timedwait, cnd_timedwait, STARTUP_NEXT(cnd_timedwait),
            wait_deadline_is_valid(deadline), lock_wait_end_of_c11,
            (cnd_t * cond, mtx_t *mutex, const struct timespec *deadline), (cond, mutex, deadline))

/* Who signals is followed while a trace is recorded, and somebody waits. */
#define DEFINE_SIGNAL(wrapper, visibility, next, function, instead, wakes, type) \
  static __attribute__((noinline)) int tell_##wrapper(type *cond) {              \
    struct unwind_registers caller = CALLER_REGISTERS();                         \
    NEED(next, instead(cond));                                                   \
    struct lock_release release = lock_signal_begin(cond, wakes);                \
    int result = real_locks.next(cond);                                          \
    lock_release_end(&release, cond, lock_wrappers.function, &caller);           \
    return result;                                                               \
  }                                                                              \
  visibility int wrapper(type *cond) {                                           \
    real_##function##_function known = NEXT_LOCK(next);                          \
    if (UNLIKELY(!known || trace_ring_is_armed())) return tell_##wrapper(cond);  \
    return known(cond);                                                          \
  }

DEFINE_SIGNAL(pthread_cond_signal, EXPORTED, pthread_cond_signal, pthread_cond_signal,
              STARTUP_NEXT(pthread_cond_signal), LOCK_WAKES_ONE, pthread_cond_t)
DEFINE_SIGNAL(pthread_cond_broadcast, EXPORTED, pthread_cond_broadcast, pthread_cond_broadcast,
              STARTUP_NEXT(pthread_cond_broadcast), LOCK_WAKES_ALL, pthread_cond_t)
DEFINE_SIGNAL(cnd_signal, EXPORTED, cnd_signal, cnd_signal, STARTUP_NEXT(cnd_signal),
              LOCK_WAKES_ONE, cnd_t)
DEFINE_SIGNAL(cnd_broadcast, EXPORTED, cnd_broadcast, cnd_broadcast, STARTUP_NEXT(cnd_broadcast),
              LOCK_WAKES_ALL, cnd_t)

#if defined(__x86_64__)
/* Condition variables of before glibc 2.3.2. */
#define OLD_NEXT(name) ((real_##name##_function)next_function_find_now_old(#name))
#define OLD(name) EXPORTED __attribute__((symver(#name "@GLIBC_2.2.5")))
DEFINE_COND(pthread_cond_wait_before_2_3_2, OLD(pthread_cond_wait), pthread_cond_wait_old,
            pthread_cond_wait, OLD_NEXT(pthread_cond_wait), true, end_of_cond, COND, (cond, mutex))
DEFINE_COND(pthread_cond_timedwait_before_2_3_2, OLD(pthread_cond_timedwait),
            pthread_cond_timedwait_old, pthread_cond_timedwait, OLD_NEXT(pthread_cond_timedwait),
            wait_deadline_is_valid(deadline), end_of_cond, COND_TIMED, (cond, mutex, deadline))
DEFINE_SIGNAL(pthread_cond_signal_before_2_3_2, OLD(pthread_cond_signal), pthread_cond_signal_old,
              pthread_cond_signal, OLD_NEXT(pthread_cond_signal), LOCK_WAKES_ONE, pthread_cond_t)
DEFINE_SIGNAL(pthread_cond_broadcast_before_2_3_2, OLD(pthread_cond_broadcast),
              pthread_cond_broadcast_old, pthread_cond_broadcast, OLD_NEXT(pthread_cond_broadcast),
              LOCK_WAKES_ALL, pthread_cond_t)
#endif

/* ---- barriers ---- */

EXPORTED int pthread_barrier_wait(pthread_barrier_t *barrier) {
  struct unwind_registers caller = CALLER_REGISTERS();
  NEED(pthread_barrier_wait, STARTUP_NEXT(pthread_barrier_wait)(barrier));
  struct lock_wait wait = lock_wait_begin_told(barrier);
  int result = real_locks.pthread_barrier_wait(barrier);
  if (result == PTHREAD_BARRIER_SERIAL_THREAD) /* came last */
    lock_wait_was_last(&wait, lock_wrappers.pthread_barrier_wait, &caller);
  lock_wait_end(&wait, lock_wait_end_of(result), lock_wrappers.pthread_barrier_wait, &caller);
  return result;
}

/* ---- semaphores ---- */

static enum lock_wait_end end_of_sem(int result) {
  return result == 0                            ? WAIT_RELEASED
         : errno == ETIMEDOUT || errno == EINTR ? WAIT_GAVE_UP
                                                : WAIT_NOT_ONE;
}

static inline bool try_sem(sem_t *sem) {
  int saved_errno = errno;
  if (LIKELY(real_locks.sem_trywait(sem) == 0)) return true;
  errno = saved_errno;
  return false;
}

/* Tried again when it has been entered among the waiters, as locks are. glibc's (2.36) act on a
 * cancellation also where they need not wait, but for sem_clockwait. */
#define DEFINE_SEM(name, valid, is_cancelled_first, parameters, arguments) \
  static __attribute__((noinline)) int wait_##name parameters {            \
    struct unwind_registers caller = CALLER_REGISTERS();                   \
    struct lock_wait wait = lock_wait_begin(sem);                          \
    int result;                                                            \
    if (wait.claim.waiter && (valid) && try_sem(sem)) {                    \
      lock_wait_forget_releaser(&wait);                                    \
      return 0;                                                            \
    }                                                                      \
    if (wait.claim.waiter) {                                               \
      pthread_cleanup_push(wait_is_cancelled, &wait);                      \
      result = real_locks.name arguments;                                  \
      pthread_cleanup_pop(0);                                              \
    } else {                                                               \
      result = real_locks.name arguments;                                  \
    }                                                                      \
    lock_wait_end(&wait, end_of_sem(result), lock_wrappers.name, &caller); \
    return result;                                                         \
  }                                                                        \
  EXPORTED int name parameters {                                           \
    NEED(sem_trywait, STARTUP_NEXT(name) arguments);                       \
    if (valid) {                                                           \
      if (is_cancelled_first) real_locks.pthread_testcancel();             \
      if (LIKELY(try_sem(sem))) return 0;                                  \
    }                                                                      \
    return wait_##name arguments;                                          \
  }

DEFINE_SEM(sem_wait, true, true, (sem_t * sem), (sem))
DEFINE_SEM(sem_timedwait, wait_deadline_is_valid(deadline), true,
           (sem_t * sem, const struct timespec *deadline), (sem, deadline))
DEFINE_SEM(sem_clockwait, wait_clock_is_valid(clock) && wait_deadline_is_valid(deadline), false,
           (sem_t * sem, clockid_t clock, const struct timespec *deadline), (sem, clock, deadline))

static __attribute__((noinline)) int release_sem_post(sem_t *sem) {
  struct unwind_registers caller = CALLER_REGISTERS();
  NEED(sem_post, STARTUP_NEXT(sem_post)(sem));
  if (!lock_waiters_may_wait_for(sem)) return real_locks.sem_post(sem);
  struct lock_release release = lock_release_begin(sem, NULL);
  int result = real_locks.sem_post(sem);
  lock_release_end(&release, sem, lock_wrappers.sem_post, &caller);
  return result;
}

EXPORTED int sem_post(sem_t *sem) {
  real_sem_post_function next = real_locks.sem_post;
  if (UNLIKELY(!next || lock_waiters_may_wait_for(sem))) return release_sem_post(sem);
  return next(sem);
}

/* ---- the end of a thread ---- */

#define DEFINE_JOIN(name, may_try, parameters, arguments)                        \
  EXPORTED int name parameters {                                                 \
    struct unwind_registers caller = CALLER_REGISTERS();                         \
    NEED(pthread_tryjoin_np, STARTUP_NEXT(name) arguments);                      \
    int result = (may_try) ? real_locks.pthread_tryjoin_np(thread, out) : EBUSY; \
    if (result != EBUSY) return result;                                          \
    struct lock_wait wait = lock_wait_begin_told((const void *)thread);          \
    result = real_locks.name arguments;                                          \
    lock_wait_end(&wait, lock_wait_end_of(result), lock_wrappers.name, &caller); \
    return result;                                                               \
  }

DEFINE_JOIN(pthread_join, true, (pthread_t thread, void **out), (thread, out))
/* Of a thread that has ended glibc 2.41 refuses a bad deadline, 2.36 does not look at it. */
DEFINE_JOIN(pthread_timedjoin_np, wait_deadline_is_valid_or_none(deadline),
            (pthread_t thread, void **out, const struct timespec *deadline),
            (thread, out, deadline))
DEFINE_JOIN(pthread_clockjoin_np,
            wait_clock_is_valid(clock) && wait_deadline_is_valid_or_none(deadline),
            (pthread_t thread, void **out, clockid_t clock, const struct timespec *deadline),
            (thread, out, clock, deadline))

/* glibc's threads are the same in both interfaces, and a C11 thread's result is kept as a pointer.
 */
EXPORTED int thrd_join(thrd_t thread, int *out) {
  struct unwind_registers caller = CALLER_REGISTERS();
  NEED(pthread_tryjoin_np, STARTUP_NEXT(thrd_join)(thread, out));
  void *value;
  if (real_locks.pthread_tryjoin_np(thread, &value) == 0) {
    if (out) *out = (int)(uintptr_t)value;
    return thrd_success;
  }
  struct lock_wait wait = lock_wait_begin_told((const void *)thread);
  int result = real_locks.thrd_join(thread, out);
  lock_wait_end(&wait, lock_wait_end_of_c11(result), lock_wrappers.thrd_join, &caller);
  return result;
}
