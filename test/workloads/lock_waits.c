/* Every kind of wait that ends because somebody releases, that gives up, and every call that looks
 * like a wait and is none; one of each ROUNDS times, with a journal (lock_journal.h). Each is
 * called by a function of its own. */
#define _GNU_SOURCE
#include "lock_journal.h"

#include <signal.h>

enum { ROUNDS = 2 };

static pthread_mutex_t normal = PTHREAD_MUTEX_INITIALIZER, recursive, errorcheck, adaptive, robust,
                       inherit, shared;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER, rwlock_shared, rwlock_writer;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER, cond_shared, cond_monotonic;
static pthread_mutex_t cond_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct {
  void *cond;
  uint64_t behind[8]; /* an object of the new layout would reach into it */
} old;
static sem_t semaphore, sem_shared;
static pthread_barrier_t barrier, barrier_shared, barrier_of_one;
static pthread_spinlock_t spin;
static mtx_t c11, c11_recursive, c11_timed, cnd_mutex;
static cnd_t cnd;
static uint32_t word, other_word; /* futexes */
/* struct futex_waitv of newer headers */
static struct {
  uint64_t value, address;
  uint32_t flags, reserved;
} waitv[2];
enum { WAITV = 449, FUTEX32 = 2 };

static _Atomic int woken; /* what conditions are about */
static _Atomic int end_target;
static pthread_t target;
static _Atomic int target_tid;
static thrd_t c11_target;

struct kind {
  const char *name;
  void (*take)(void); /* main, before */
  void (*wait)(void); /* the worker */
  /* main, once the worker is blocked and some time has passed; NULL: the wait gives up by itself */
  void (*give)(void);
  void (*after)(void); /* main, when the worker is done */
};

static void nothing(void) {}

static void make_mutex(pthread_mutex_t *mutex, int type, int robustness, int protocol,
                       int sharing) {
  pthread_mutexattr_t attributes;
  CHECK(pthread_mutexattr_init(&attributes) == 0 &&
        pthread_mutexattr_settype(&attributes, type) == 0);
  CHECK(pthread_mutexattr_setrobust(&attributes, robustness) == 0 &&
        pthread_mutexattr_setprotocol(&attributes, protocol) == 0);
  CHECK(pthread_mutexattr_setpshared(&attributes, sharing) == 0 &&
        pthread_mutex_init(mutex, &attributes) == 0);
}

/* Main holds a lock; the worker waits for it, has it, and gives it back. */
#define LOCK(name, object, take, unlock, primitive, ...)                            \
  static void take_##name(void) { CHECK(take(object) == 0); }                       \
  FRAME static void wait_##name(void) {                                             \
    MEASURED(object, RELEASED, 0, primitive, object, ##__VA_ARGS__);                \
  }                                                                                 \
  FRAME static void give_##name(void) { MEASURED_RELEASE(object, unlock, object); } \
  static void body_##name(void) {                                                   \
    wait_##name();                                                                  \
    CHECK(unlock(object) == 0);                                                     \
  }
/* The same, but main does not let go before the worker has given up. */
#define LOCK_GIVES_UP(name, object, take, unlock, expected, primitive, ...) \
  static void take_##name(void) { CHECK(take(object) == 0); }               \
  FRAME static void body_##name(void) {                                     \
    MEASURED(object, GAVE_UP, expected, primitive, object, ##__VA_ARGS__);  \
  }                                                                         \
  static void after_##name(void) { CHECK(unlock(object) == 0); }

#define REALTIME in_ms(CLOCK_REALTIME, 100000)
#define MONOTONIC in_ms(CLOCK_MONOTONIC, 100000)
#define SOON_REALTIME in_ms(CLOCK_REALTIME, HOLD_MS)
#define SOON_MONOTONIC in_ms(CLOCK_MONOTONIC, HOLD_MS)

#define MUTEXES(X) X(normal) X(recursive) X(errorcheck) X(adaptive) X(robust) X(shared) X(inherit)
/* older kernels know no other for priority inheritance */
#define MUTEX_CLOCK(type) (&type == &inherit ? CLOCK_REALTIME : CLOCK_MONOTONIC)
#define MUTEX(type)                                                                       \
  LOCK(mutex_##type, &type, pthread_mutex_lock, pthread_mutex_unlock, pthread_mutex_lock) \
  LOCK(mutex_timed_##type, &type, pthread_mutex_lock, pthread_mutex_unlock,               \
       pthread_mutex_timedlock, REALTIME)                                                 \
  LOCK(mutex_clock_##type, &type, pthread_mutex_lock, pthread_mutex_unlock,               \
       pthread_mutex_clocklock, MUTEX_CLOCK(type), in_ms(MUTEX_CLOCK(type), 100000))      \
  LOCK_GIVES_UP(mutex_timed_out_##type, &type, pthread_mutex_lock, pthread_mutex_unlock,  \
                ETIMEDOUT, pthread_mutex_timedlock, SOON_REALTIME)                        \
  LOCK_GIVES_UP(mutex_clock_out_##type, &type, pthread_mutex_lock, pthread_mutex_unlock,  \
                ETIMEDOUT, pthread_mutex_clocklock, MUTEX_CLOCK(type),                    \
                in_ms(MUTEX_CLOCK(type), HOLD_MS))
MUTEXES(MUTEX)

#define WRLOCK pthread_rwlock_wrlock
#define RDLOCK pthread_rwlock_rdlock
#define RWUNLOCK pthread_rwlock_unlock
LOCK(rwlock_read, &rwlock, WRLOCK, RWUNLOCK, pthread_rwlock_rdlock)
LOCK(rwlock_write, &rwlock, WRLOCK, RWUNLOCK, pthread_rwlock_wrlock)
LOCK(rwlock_write_read, &rwlock, RDLOCK, RWUNLOCK, pthread_rwlock_wrlock)
LOCK(rwlock_timed_read, &rwlock, WRLOCK, RWUNLOCK, pthread_rwlock_timedrdlock, REALTIME)
LOCK(rwlock_timed_write, &rwlock, RDLOCK, RWUNLOCK, pthread_rwlock_timedwrlock, REALTIME)
LOCK(rwlock_clock_read, &rwlock, WRLOCK, RWUNLOCK, pthread_rwlock_clockrdlock, CLOCK_MONOTONIC,
     MONOTONIC)
LOCK(rwlock_clock_write, &rwlock, RDLOCK, RWUNLOCK, pthread_rwlock_clockwrlock, CLOCK_MONOTONIC,
     MONOTONIC)
LOCK(rwlock_shared_read, &rwlock_shared, WRLOCK, RWUNLOCK, pthread_rwlock_rdlock)
LOCK(rwlock_shared_write, &rwlock_shared, RDLOCK, RWUNLOCK, pthread_rwlock_wrlock)
LOCK(rwlock_writer_read, &rwlock_writer, WRLOCK, RWUNLOCK, pthread_rwlock_rdlock)
LOCK(rwlock_writer_write, &rwlock_writer, RDLOCK, RWUNLOCK, pthread_rwlock_wrlock)
LOCK_GIVES_UP(rwlock_timed_out_read, &rwlock, WRLOCK, RWUNLOCK, ETIMEDOUT,
              pthread_rwlock_timedrdlock, SOON_REALTIME)
LOCK_GIVES_UP(rwlock_timed_out_write, &rwlock, RDLOCK, RWUNLOCK, ETIMEDOUT,
              pthread_rwlock_timedwrlock, SOON_REALTIME)
LOCK_GIVES_UP(rwlock_clock_out_read, &rwlock, WRLOCK, RWUNLOCK, ETIMEDOUT,
              pthread_rwlock_clockrdlock, CLOCK_MONOTONIC, SOON_MONOTONIC)
LOCK_GIVES_UP(rwlock_clock_out_write, &rwlock, RDLOCK, RWUNLOCK, ETIMEDOUT,
              pthread_rwlock_clockwrlock, CLOCK_MONOTONIC, SOON_MONOTONIC)

LOCK(spin, &spin, pthread_spin_lock, pthread_spin_unlock, pthread_spin_lock)

LOCK(mtx, &c11, mtx_lock, mtx_unlock, mtx_lock)
LOCK(mtx_recursive, &c11_recursive, mtx_lock, mtx_unlock, mtx_lock)
LOCK(mtx_timed, &c11_timed, mtx_lock, mtx_unlock, mtx_timedlock, REALTIME)
LOCK_GIVES_UP(mtx_timed_out, &c11_timed, mtx_lock, mtx_unlock, thrd_timedout, mtx_timedlock,
              SOON_REALTIME)

/* The worker waits for a condition. Its mutex is free again before main signals, so the worker gets
 * it at once. */
#define CONDITION(name, cond, mutex, lock, unlock, signal, primitive, ...) \
  FRAME static void wait_##name(void) {                                    \
    MEASURED(cond, RELEASED, 0, primitive, cond, mutex, ##__VA_ARGS__);    \
  }                                                                        \
  static void body_##name(void) {                                          \
    CHECK(lock(mutex) == 0);                                               \
    while (!woken) wait_##name();                                          \
    CHECK(unlock(mutex) == 0);                                             \
    woken = 0;                                                             \
  }                                                                        \
  static void take_##name(void) {}                                         \
  static void give_##name(void) {                                          \
    CHECK(lock(mutex) == 0);                                               \
    woken = 1;                                                             \
    CHECK(unlock(mutex) == 0 && signal(cond) == 0);                        \
  }
#define CONDITION_GIVES_UP(name, cond, mutex, lock, unlock, expected, primitive, ...) \
  FRAME static void wait_##name(void) {                                               \
    MEASURED(cond, GAVE_UP, expected, primitive, cond, mutex, ##__VA_ARGS__);         \
  }                                                                                   \
  static void body_##name(void) {                                                     \
    CHECK(lock(mutex) == 0);                                                          \
    wait_##name();                                                                    \
    CHECK(unlock(mutex) == 0);                                                        \
  }                                                                                   \
  static void take_##name(void) {}                                                    \
  static void after_##name(void) {}
#define POSIX &cond_mutex, pthread_mutex_lock, pthread_mutex_unlock
#define CONDITION_(...) CONDITION(__VA_ARGS__) /* expands the above first */
#define CONDITION_GIVES_UP_(...) CONDITION_GIVES_UP(__VA_ARGS__)
CONDITION_(cond, &cond, POSIX, pthread_cond_signal, pthread_cond_wait)
CONDITION_(cond_timed, &cond, POSIX, pthread_cond_signal, pthread_cond_timedwait, REALTIME)
CONDITION_(cond_clock, &cond, POSIX, pthread_cond_broadcast, pthread_cond_clockwait,
           CLOCK_MONOTONIC, MONOTONIC)
CONDITION_(cond_monotonic, &cond_monotonic, POSIX, pthread_cond_signal, pthread_cond_timedwait,
           MONOTONIC)
CONDITION_(cond_shared, &cond_shared, POSIX, pthread_cond_signal, pthread_cond_wait)
CONDITION_GIVES_UP_(cond_timed_out, &cond, POSIX, ETIMEDOUT, pthread_cond_timedwait, SOON_REALTIME)
CONDITION_GIVES_UP_(cond_clock_out, &cond, POSIX, ETIMEDOUT, pthread_cond_clockwait,
                    CLOCK_MONOTONIC, SOON_MONOTONIC)
#ifdef OLD_COND
CONDITION_(old_cond, &old.cond, POSIX, old_cond_signal, old_cond_wait)
CONDITION_(old_cond_timed, &old.cond, POSIX, old_cond_signal, old_cond_timedwait, REALTIME)
CONDITION_GIVES_UP_(old_cond_timed_out, &old.cond, POSIX, ETIMEDOUT, old_cond_timedwait,
                    SOON_REALTIME)
#endif
CONDITION(cnd, &cnd, &cnd_mutex, mtx_lock, mtx_unlock, cnd_signal, cnd_wait)
CONDITION(cnd_timed, &cnd, &cnd_mutex, mtx_lock, mtx_unlock, cnd_signal, cnd_timedwait, REALTIME)
CONDITION_GIVES_UP(cnd_timed_out, &cnd, &cnd_mutex, mtx_lock, mtx_unlock, thrd_timedout,
                   cnd_timedwait, SOON_REALTIME)

/* A wait that needs no preparation and is ended by a call of main's; what it has taken is gone. */
#define EVENT(name, object, give_statement, expected, primitive, ...) \
  static void take_##name(void) {}                                    \
  FRAME static void body_##name(void) {                               \
    MEASURED(object, RELEASED, expected, primitive, __VA_ARGS__);     \
  }                                                                   \
  FRAME static void give_##name(void) { give_statement; }
#define EVENT_GIVES_UP(name, object, expected, primitive, ...)   \
  static void take_##name(void) {}                               \
  FRAME static void body_##name(void) {                          \
    MEASURED(object, GAVE_UP, expected, primitive, __VA_ARGS__); \
  }                                                              \
  static void after_##name(void) {}
#define INTERRUPT CHECK(pthread_kill(workers[0].thread, SIGUSR1) == 0)
#define INTERRUPTED(name, object, primitive, ...)              \
  static void take_##name(void) {}                             \
  FRAME static void body_##name(void) {                        \
    MEASURED(object, GAVE_UP, -EINTR, primitive, __VA_ARGS__); \
  }                                                            \
  static void give_##name(void) { INTERRUPT; }

#define POST(object) MEASURED_RELEASE(object, sem_post, object)
EVENT(sem, &semaphore, POST(&semaphore), 0, sem_wait, &semaphore)
EVENT(sem_timed, &semaphore, POST(&semaphore), 0, sem_timedwait, &semaphore, REALTIME)
EVENT(sem_clock, &semaphore, POST(&semaphore), 0, sem_clockwait, &semaphore, CLOCK_MONOTONIC,
      MONOTONIC)
EVENT(sem_shared, &sem_shared, POST(&sem_shared), 0, sem_wait, &sem_shared)
EVENT_GIVES_UP(sem_timed_out, &semaphore, -ETIMEDOUT, sem_timedwait, &semaphore, SOON_REALTIME)
EVENT_GIVES_UP(sem_clock_out, &semaphore, -ETIMEDOUT, sem_clockwait, &semaphore, CLOCK_MONOTONIC,
               SOON_MONOTONIC)
INTERRUPTED(sem_interrupted, &semaphore, sem_wait, &semaphore)

#define LAST(object) \
  MEASURED(object, NO_WAIT, PTHREAD_BARRIER_SERIAL_THREAD, pthread_barrier_wait, object)
EVENT(barrier, &barrier, LAST(&barrier), 0, pthread_barrier_wait, &barrier)
EVENT(barrier_shared, &barrier_shared, LAST(&barrier_shared), 0, pthread_barrier_wait,
      &barrier_shared)

static void *target_main(void *argument) {
  target_tid = (int)syscall(SYS_gettid);
  while (!end_target) pause_us(100);
  return argument;
}
static int c11_target_main(void *argument) { return target_main(argument) != NULL; }
static void *orphan_main(void *argument) {
  CHECK(pthread_mutex_lock(&robust) == 0);
  return target_main(argument); /* and ends with it */
}
static void until_target_runs(void) {
  while (!target_tid) pause_us(100);
}
static void start_target(void) {
  end_target = target_tid = 0;
  CHECK(pthread_create(&target, NULL, target_main, NULL) == 0);
  until_target_runs();
}
static void start_c11_target(void) {
  end_target = target_tid = 0;
  CHECK(thrd_create(&c11_target, c11_target_main, NULL) == thrd_success);
  until_target_runs();
}
static void release_target(void) { end_target = 1; }
static void detach_target(void) {
  end_target = 1;
  CHECK(pthread_detach(target) == 0);
}
static void start_orphan(void) {
  end_target = target_tid = 0;
  CHECK(pthread_create(&target, NULL, orphan_main, NULL) == 0 && pthread_detach(target) == 0);
  until_target_runs();
}
#define JOIN(name, ...) \
  FRAME static void body_##name(void) { MEASURED(NULL, RELEASED, 0, __VA_ARGS__); }
#define JOIN_GIVES_UP(name, ...) \
  FRAME static void body_##name(void) { MEASURED(NULL, GAVE_UP, ETIMEDOUT, __VA_ARGS__); }
JOIN(join, pthread_join, target, NULL)
JOIN(join_timed, pthread_timedjoin_np, target, NULL, REALTIME)
JOIN(join_clock, pthread_clockjoin_np, target, NULL, CLOCK_MONOTONIC, MONOTONIC)
JOIN(join_c11, thrd_join, c11_target, NULL)
JOIN_GIVES_UP(join_timed_out, pthread_timedjoin_np, target, NULL, SOON_REALTIME)
JOIN_GIVES_UP(join_clock_out, pthread_clockjoin_np, target, NULL, CLOCK_MONOTONIC, SOON_MONOTONIC)

/* Nobody's call ends this wait: the kernel does. */
FRAME static void wait_orphaned(void) {
  MEASURED(NULL, RELEASED, EOWNERDEAD, pthread_mutex_lock, &robust);
}
/* Signalled, and the mutex of the condition has lost its owner meanwhile. */
FRAME static void wait_cond_orphaned(void) {
  MEASURED(&cond, RELEASED, EOWNERDEAD, pthread_cond_wait, &cond, &robust);
}
static void body_cond_orphaned(void) {
  CHECK(pthread_mutex_lock(&robust) == 0);
  wait_cond_orphaned();
  CHECK(pthread_mutex_consistent(&robust) == 0 && pthread_mutex_unlock(&robust) == 0);
}
static void give_cond_orphaned(void) {
  start_orphan();
  CHECK(pthread_cond_signal(&cond) == 0);
  release_target();
}
static void body_orphaned(void) {
  wait_orphaned();
  CHECK(pthread_mutex_consistent(&robust) == 0 && pthread_mutex_unlock(&robust) == 0);
}

#define FUTEX(operation, ...) syscall, SYS_futex, &word, operation, ##__VA_ARGS__
#define MEASURED_(...) MEASURED(__VA_ARGS__) /* expands FUTEX first */
#define WAKE(operation, ...) MEASURED_(&word, 0, 1, FUTEX(operation, ##__VA_ARGS__))
#define EVENT_(...) EVENT(__VA_ARGS__)
#define EVENT_GIVES_UP_(...) EVENT_GIVES_UP(__VA_ARGS__)
#define INTERRUPTED_(...) INTERRUPTED(__VA_ARGS__)
static const struct timespec long_time = {1000, 0}, short_time = {0, HOLD_MS * 1000000};
EVENT_(futex, &word, WAKE(FUTEX_WAKE, 1), 0, FUTEX(FUTEX_WAIT, 0, NULL))
EVENT_(futex_private, &word, WAKE(FUTEX_WAKE_PRIVATE, 1), 0,
       FUTEX(FUTEX_WAIT_PRIVATE, 0, &long_time))
EVENT_(futex_bitset, &word, WAKE(FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 4), 0,
       FUTEX(FUTEX_WAIT_BITSET_PRIVATE, 0, MONOTONIC, NULL, 6))
EVENT_(futex_realtime, &word, WAKE(FUTEX_WAKE_PRIVATE, 1), 0,
       FUTEX(FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, REALTIME, NULL,
             FUTEX_BITSET_MATCH_ANY))
EVENT_GIVES_UP_(futex_timed_out, &word, -ETIMEDOUT, FUTEX(FUTEX_WAIT_PRIVATE, 0, &short_time))
EVENT_GIVES_UP_(futex_bitset_out, &word, -ETIMEDOUT,
                FUTEX(FUTEX_WAIT_BITSET_PRIVATE, 0, SOON_MONOTONIC, NULL, FUTEX_BITSET_MATCH_ANY))
INTERRUPTED_(futex_interrupted, &word, FUTEX(FUTEX_WAIT_PRIVATE, 0, NULL))
EVENT(futex_waitv, &word, WAKE(FUTEX_WAKE_PRIVATE, 1), 1, syscall, WAITV, waitv, 2, 0, NULL, 0)
EVENT_GIVES_UP(futex_waitv_out, &word, -ETIMEDOUT, syscall, WAITV, waitv, 2, 0, SOON_MONOTONIC,
               CLOCK_MONOTONIC)

static void take_pi(void) { word = (uint32_t)syscall(SYS_gettid); }
static void drop_pi(void) {
  CHECK(syscall(SYS_futex, &word, FUTEX_UNLOCK_PI_PRIVATE) == 0 && (word & FUTEX_TID_MASK) == 0);
  word = 0;
}
FRAME static void wait_pi(void) {
  MEASURED_(&word, RELEASED, 0, FUTEX(FUTEX_LOCK_PI_PRIVATE, 0, NULL));
}
FRAME static void give_pi(void) { MEASURED_(&word, 0, 0, FUTEX(FUTEX_UNLOCK_PI_PRIVATE)); }
static void body_pi(void) { wait_pi(), drop_pi(); }
FRAME static void body_pi_out(void) {
  MEASURED_(&word, GAVE_UP, -ETIMEDOUT, FUTEX(FUTEX_LOCK_PI_PRIVATE, 0, SOON_REALTIME));
}

#include "lock_no_waits.h"

#define KIND(name) {#name, take_##name, body_##name, give_##name, nothing},
#define GIVES_UP(name) {#name, take_##name, body_##name, NULL, after_##name},
/* clang-format off */
#define MUTEX_KINDS(type) \
  KIND(mutex_##type) KIND(mutex_timed_##type) KIND(mutex_clock_##type) \
  GIVES_UP(mutex_timed_out_##type) GIVES_UP(mutex_clock_out_##type)
static const struct kind kinds[] = {
    MUTEXES(MUTEX_KINDS)
    KIND(rwlock_read) KIND(rwlock_write) KIND(rwlock_write_read) KIND(rwlock_timed_read)
    KIND(rwlock_timed_write) KIND(rwlock_clock_read) KIND(rwlock_clock_write)
    KIND(rwlock_shared_read) KIND(rwlock_shared_write)
    KIND(rwlock_writer_read) KIND(rwlock_writer_write)
    GIVES_UP(rwlock_timed_out_read) GIVES_UP(rwlock_timed_out_write)
    GIVES_UP(rwlock_clock_out_read) GIVES_UP(rwlock_clock_out_write)
    KIND(spin) KIND(mtx) KIND(mtx_recursive) KIND(mtx_timed) GIVES_UP(mtx_timed_out)
    KIND(cond) KIND(cond_timed) KIND(cond_clock) KIND(cond_monotonic) KIND(cond_shared)
    GIVES_UP(cond_timed_out) GIVES_UP(cond_clock_out)
#ifdef OLD_COND
    KIND(old_cond) KIND(old_cond_timed) GIVES_UP(old_cond_timed_out)
#endif
    KIND(cnd) KIND(cnd_timed) GIVES_UP(cnd_timed_out)
    KIND(sem) KIND(sem_timed) KIND(sem_clock) KIND(sem_shared) GIVES_UP(sem_timed_out)
    GIVES_UP(sem_clock_out) KIND(sem_interrupted)
    KIND(barrier) KIND(barrier_shared)
    {"join", start_target, body_join, release_target, nothing},
    {"join_timed", start_target, body_join_timed, release_target, nothing},
    {"join_clock", start_target, body_join_clock, release_target, nothing},
    {"join_c11", start_c11_target, body_join_c11, release_target, nothing},
    {"join_timed_out", start_target, body_join_timed_out, NULL, detach_target},
    {"join_clock_out", start_target, body_join_clock_out, NULL, detach_target},
    {"cond_orphaned", nothing, body_cond_orphaned, give_cond_orphaned, nothing},
    {"orphaned", start_orphan, body_orphaned, release_target, nothing},
    KIND(futex) KIND(futex_private) KIND(futex_bitset) KIND(futex_realtime)
    GIVES_UP(futex_timed_out) GIVES_UP(futex_bitset_out) KIND(futex_interrupted)
    KIND(futex_waitv) GIVES_UP(futex_waitv_out)
    {"pi", take_pi, body_pi, give_pi, nothing},
    {"pi_out", take_pi, body_pi_out, NULL, drop_pi},
};
/* clang-format on */

static void run(const struct kind *kind) {
  kind->take();
  order(&workers[0], kind->wait);
  if (kind->give) {
    strcmp(kind->name, "spin") == 0 ? until_waits(&workers[0]) : until_blocked(&workers[0]);
    hold();
    kind->give();
  }
  until_done(&workers[0]);
  kind->after();
}

static void on_signal(int signal) { (void)signal; }

static void prepare(void) {
  struct sigaction action = {.sa_handler = on_signal}; /* without SA_RESTART */
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  make_mutex(&recursive, PTHREAD_MUTEX_RECURSIVE, 0, 0, 0);
  make_mutex(&errorcheck, PTHREAD_MUTEX_ERRORCHECK, 0, 0, 0);
  make_mutex(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP, 0, 0, 0);
  make_mutex(&robust, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, 0, 0);
  make_mutex(&inherit, PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_INHERIT, 0);
  make_mutex(&shared, PTHREAD_MUTEX_NORMAL, 0, 0, PTHREAD_PROCESS_SHARED);
  pthread_rwlockattr_t rwlocks;
  CHECK(pthread_rwlockattr_init(&rwlocks) == 0 &&
        pthread_rwlockattr_setpshared(&rwlocks, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_rwlock_init(&rwlock_shared, &rwlocks) == 0);
  CHECK(pthread_rwlockattr_init(&rwlocks) == 0);
  CHECK(pthread_rwlockattr_setkind_np(&rwlocks, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
  CHECK(pthread_rwlock_init(&rwlock_writer, &rwlocks) == 0);
  pthread_condattr_t attributes;
  CHECK(pthread_condattr_init(&attributes) == 0 &&
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
  CHECK(pthread_cond_init(&cond_monotonic, &attributes) == 0);
  CHECK(pthread_condattr_init(&attributes) == 0 &&
        pthread_condattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_cond_init(&cond_shared, &attributes) == 0);
  CHECK(sem_init(&semaphore, 0, 0) == 0 && sem_init(&sem_shared, 1, 0) == 0);
  CHECK(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE) == 0);
  pthread_barrierattr_t barriers;
  CHECK(pthread_barrierattr_init(&barriers) == 0 &&
        pthread_barrierattr_setpshared(&barriers, PTHREAD_PROCESS_SHARED) == 0);
  CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0 &&
        pthread_barrier_init(&barrier_shared, &barriers, 2) == 0);
  CHECK(pthread_barrier_init(&barrier_of_one, NULL, 1) == 0);
  CHECK(mtx_init(&c11, mtx_plain) == thrd_success &&
        mtx_init(&c11_recursive, mtx_plain | mtx_recursive) == thrd_success);
  CHECK(mtx_init(&c11_timed, mtx_timed) == thrd_success &&
        mtx_init(&cnd_mutex, mtx_plain) == thrd_success && cnd_init(&cnd) == thrd_success);
}

int main(int argc, char **argv) {
  prepare();
  waitv[0].address = (uintptr_t)&other_word, waitv[1].address = (uintptr_t)&word;
  waitv[0].flags = waitv[1].flags = FUTEX32 | FUTEX_PRIVATE_FLAG;
  int have_waitv = syscall(WAITV, waitv, 0, 0, NULL, 0) == -1 && errno == EINVAL;
  say("waitv %d\n", have_waitv);
  for (int round = 0; round < ROUNDS; round++) {
    no_waits();
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
      if (argc > 1 && !strstr(kinds[i].name, argv[1])) continue;
      if (strncmp(kinds[i].name, "futex_waitv", 11) == 0 && !have_waitv) continue;
      run(&kinds[i]);
    }
  }
  for (int i = 0; i < 8; i++) CHECK(old.behind[i] == 0);
  journal_print();
  ready();
  return 0;
}
