/* Locks: mutexes, read-write locks, spin locks, C11's mutexes. Each is tried first; only one that
 * is held by somebody else (EBUSY: not EOWNERDEAD, with which the lock is held) makes a wait. What
 * is not contended costs one test more than the call itself. The rest is in functions that are
 * reached by tail calls, so that their own return address is the wrapper's caller. Context:
 * wherever the host locks: signal handlers, allocators, before main. */
#include <errno.h>
#include <unistd.h>

#include "shim/next/interposed.h"
#include "lock_functions.h"
#include "lock_waits.h"
#include "mutex_owner.h"
#include "shim/next/startup.h"
#include "wait_deadlines.h"

/* The first call of any of them, in functions of its own to keep the wrappers short. In the
 * middle of the start it is libc's own. The wrapper again, but not by its name: that may be a
 * sanitizer's, which has called us and would see the program lock twice. */
#define DEFINE_FIRST(name, next, parameters, arguments)                                  \
  static __attribute__((noinline, cold)) int first_##name parameters {                   \
    if (!lock_functions_find() || !real_locks.next) return STARTUP_NEXT(name) arguments; \
    return ((real_##name##_function)(void *)(lock_wrappers.name - 1)) arguments;         \
  }

/* The wait itself, for an object that the wrapper could not have at once; of one that may not be
 * tried is_held tells as far as can be seen. Where it has been entered in the table of waiters the
 * object is tried again: a release of just before would not have been seen; it then was no wait. */
#define DEFINE_WAIT(name, try, may_try, is_held, busy, end_of, parameters, arguments) \
  static __attribute__((noinline)) int wait_##name parameters {                       \
    struct unwind_registers caller = CALLER_REGISTERS();                              \
    if (!(may_try) && !(is_held)) return real_locks.name arguments;                   \
    struct lock_wait wait = lock_wait_begin((const void *)object);                    \
    if (wait.claim.waiter && (may_try)) {                                             \
      int tried = real_locks.try(object);                                             \
      if (tried != busy) {                                                            \
        lock_wait_forget_releaser(&wait);                                             \
        return tried;                                                                 \
      }                                                                               \
    }                                                                                 \
    int result = real_locks.name arguments;                                           \
    lock_wait_end(&wait, end_of(result), lock_wrappers.name, &caller);                \
    return result;                                                                    \
  }

#define DEFINE_RELEASE(name, object_type, is_release)                        \
  static __attribute__((noinline)) int release_##name(object_type *object) { \
    struct unwind_registers caller = CALLER_REGISTERS();                     \
    if (!real_locks.name && (!lock_functions_find() || !real_locks.name))    \
      return STARTUP_NEXT(name)(object);                                     \
    const void *key = (const void *)object;                                  \
    if (!lock_waiters_may_wait_for(key)) return real_locks.name(object);     \
    struct lock_release release = lock_release_begin(key, is_release);       \
    int result = real_locks.name(object);                                    \
    lock_release_end(&release, key, lock_wrappers.name, &caller);            \
    return result;                                                           \
  }                                                                          \
  EXPORTED int name(object_type *object) {                                   \
    real_##name##_function next = NEXT_LOCK(name);                           \
    if (UNLIKELY(!next || lock_waiters_may_wait_for((const void *)object)))  \
      return release_##name(object);                                         \
    return next(object);                                                     \
  }

/* The wrapper: tries first, where nothing forbids that. */
#define DEFINE_LOCK(name, try, may_try, is_held, busy, end_of, parameters, arguments) \
  DEFINE_WAIT(name, try, may_try, is_held, busy, end_of, parameters, arguments)       \
  DEFINE_FIRST(name, try, parameters, arguments)                                      \
  EXPORTED int name parameters {                                                      \
    real_##try##_function try = NEXT_LOCK(try);                                       \
    if (UNLIKELY(!try)) return first_##name arguments;                                \
    int result = (may_try) ? try(object) : busy;                                      \
    return LIKELY(result != busy) ? result : wait_##name arguments;                   \
  }

#define POSIX_LOCK(name, try, may_try, is_held, parameters, arguments) \
  DEFINE_LOCK(name, try, may_try, is_held, EBUSY, lock_wait_end_of, parameters, arguments)
#define C11_LOCK(name, parameters, arguments) \
  DEFINE_LOCK(name, mtx_trylock, true, true, thrd_busy, lock_wait_end_of_c11, parameters, arguments)

#define PLAIN(type) (type * object)
#define TIMED(type) (type * object, const struct timespec *deadline)
#define CLOCK(type) (type * object, clockid_t clock, const struct timespec *deadline)

/* ---- mutexes: glibc looks at the deadline only where it must wait, but always at the clock ----
 */

#define MUTEX pthread_mutex_t
POSIX_LOCK(pthread_mutex_lock, pthread_mutex_trylock, mutex_may_be_tried(object),
           mutex_is_held(object), PLAIN(MUTEX), (object))
POSIX_LOCK(pthread_mutex_timedlock, pthread_mutex_trylock, mutex_may_be_tried(object),
           mutex_is_held(object), TIMED(MUTEX), (object, deadline))
POSIX_LOCK(pthread_mutex_clocklock, pthread_mutex_trylock,
           mutex_may_be_tried(object) && wait_clock_is_valid(clock), mutex_is_held(object),
           CLOCK(MUTEX), (object, clock, deadline))
DEFINE_RELEASE(pthread_mutex_unlock, MUTEX, mutex_unlock_releases)

C11_LOCK(mtx_lock, PLAIN(mtx_t), (object))
C11_LOCK(mtx_timedlock, TIMED(mtx_t), (object, deadline))
DEFINE_RELEASE(mtx_unlock, mtx_t, mutex_unlock_releases)

/* ---- read-write locks: glibc looks at clock and deadline first ---- */

#define RWLOCK pthread_rwlock_t
#define DEADLINE_IS_VALID wait_deadline_is_valid_or_none(deadline)
#define BOTH_ARE_VALID wait_clock_is_valid(clock) && DEADLINE_IS_VALID
POSIX_LOCK(pthread_rwlock_rdlock, pthread_rwlock_tryrdlock, true, true, PLAIN(RWLOCK), (object))
POSIX_LOCK(pthread_rwlock_wrlock, pthread_rwlock_trywrlock, true, true, PLAIN(RWLOCK), (object))
POSIX_LOCK(pthread_rwlock_timedrdlock, pthread_rwlock_tryrdlock, DEADLINE_IS_VALID, false,
           TIMED(RWLOCK), (object, deadline))
POSIX_LOCK(pthread_rwlock_timedwrlock, pthread_rwlock_trywrlock, DEADLINE_IS_VALID, false,
           TIMED(RWLOCK), (object, deadline))
POSIX_LOCK(pthread_rwlock_clockrdlock, pthread_rwlock_tryrdlock, BOTH_ARE_VALID, false,
           CLOCK(RWLOCK), (object, clock, deadline))
POSIX_LOCK(pthread_rwlock_clockwrlock, pthread_rwlock_trywrlock, BOTH_ARE_VALID, false,
           CLOCK(RWLOCK), (object, clock, deadline))
DEFINE_RELEASE(pthread_rwlock_unlock, RWLOCK, NULL)

/* ---- spin locks ---- */

POSIX_LOCK(pthread_spin_lock, pthread_spin_trylock, true, true, PLAIN(pthread_spinlock_t), (object))
DEFINE_RELEASE(pthread_spin_unlock, pthread_spinlock_t, NULL)
