/* Who makes others wait: schedules in which it is known which release ends whose wait, and how long
 * each waiter waited for each releaser; with a journal (lock_journal.h). */
#define _GNU_SOURCE
#include "lock_journal.h"

#include <signal.h>

static const struct timespec long_time = {1000, 0};

static void until_all_done(void) {
  for (int i = 0; i < WORKERS_MAX; i++) until_done(&workers[i]);
}
/* They arrive one after the other, each some time after the one before. */
static void waiters_arrive(int first, int count, void (*body)(void)) {
  for (int i = first; i < first + count; i++)
    order(&workers[i], body), until_blocked(&workers[i]), hold();
}

#define WAIT(name, object, primitive, ...) \
  FRAME static void wait_##name(void) { MEASURED(object, RELEASED, 0, primitive, ##__VA_ARGS__); }
#define GIVE(name, object, primitive, ...) \
  FRAME static void give_##name(void) { MEASURED_RELEASE(object, primitive, ##__VA_ARGS__); }
#define NO_RELEASE(name, expected, primitive, ...)               \
  FRAME static void give_##name(void) {                          \
    MEASURED(NULL, NO_WAIT, expected, primitive, ##__VA_ARGS__); \
  }
#define FUTEX(word, operation, ...) syscall, SYS_futex, word, operation, ##__VA_ARGS__
#define MEASURED_(...) MEASURED(__VA_ARGS__)
#define WAIT_(...) WAIT(__VA_ARGS__)
#define GIVE_(name, object, woken, ...) \
  FRAME static void give_##name(void) { MEASURED_(object, 0, woken, __VA_ARGS__); }

/* ---- one lock, three waiters: the holder makes three wait, the next two, the next one ---- */

static pthread_mutex_t several = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int rank;
WAIT(several, &several, pthread_mutex_lock, &several)
GIVE(to_several, &several, pthread_mutex_unlock, &several)
GIVE(to_two, &several, pthread_mutex_unlock, &several)
GIVE(to_one, &several, pthread_mutex_unlock, &several)
GIVE(to_none, &several, pthread_mutex_unlock, &several)
static void body_several(void) {
  static void (*const gives[])(void) = {give_to_two, give_to_one, give_to_none};
  wait_several();
  int mine = rank++;
  hold();
  gives[mine]();
}
static void run_several(void) {
  CHECK(pthread_mutex_lock(&several) == 0);
  rank = 0;
  waiters_arrive(0, 3, body_several);
  give_to_several();
  until_all_done();
}

/* ---- semaphores and futexes: who posts has never waited ---- */

static sem_t tokens;
WAIT(tokens, &tokens, sem_wait, &tokens)
GIVE(first_token, &tokens, sem_post, &tokens)
GIVE(second_token, &tokens, sem_post, &tokens)
GIVE(third_token, &tokens, sem_post, &tokens)
static _Atomic int served;
static void body_tokens(void) { wait_tokens(), served++; }
static void until_served(int count) {
  while (served < count) pause_us(100);
}
static void run_tokens(void) {
  served = 0;
  waiters_arrive(0, 3, body_tokens);
  give_first_token(), until_served(1), hold();
  give_second_token(), until_served(2), hold();
  give_third_token();
  until_all_done();
}

/* One thread takes, another waits, a third gives back. */
static sem_t passed;
static pthread_spinlock_t spin;
WAIT(passed, &passed, sem_timedwait, &passed, in_ms(CLOCK_REALTIME, 100000))
GIVE(for_another, &passed, sem_post, &passed)
WAIT(spin, &spin, pthread_spin_lock, &spin)
GIVE(spin_of_another, &spin, pthread_spin_unlock, &spin)
static void take_passed(void) { CHECK(sem_wait(&passed) == 0); }
static void take_spin(void) { CHECK(pthread_spin_lock(&spin) == 0); }
static void run_passed(void) {
  order(&workers[0], take_passed), until_done(&workers[0]);
  waiters_arrive(1, 1, wait_passed);
  give_for_another();
  order(&workers[0], take_spin), until_done(&workers[0]);
  order(&workers[2], wait_spin), until_waits(&workers[2]), hold();
  give_spin_of_another();
  until_all_done();
  CHECK(pthread_spin_unlock(&spin) == 0 && sem_post(&passed) == 0);
}

static uint32_t word, requeued_from, requeued_to;
WAIT_(word, &word, FUTEX(&word, FUTEX_WAIT_PRIVATE, 0, NULL))
GIVE_(wake_one, &word, 1, FUTEX(&word, FUTEX_WAKE_PRIVATE, 1))
GIVE_(wake_all, &word, 2, FUTEX(&word, FUTEX_WAKE_PRIVATE, 1000))
static void body_word(void) { wait_word(), served++; }
static void run_word(void) {
  served = 0;
  waiters_arrive(0, 3, body_word);
  give_wake_one(), until_served(1), hold();
  give_wake_all();
  until_all_done();
}

/* Requeued waiters wait on, for somebody else. */
WAIT_(requeued, &requeued_from, FUTEX(&requeued_from, FUTEX_WAIT_PRIVATE, 0, &long_time))
GIVE_(requeue, &requeued_from, 2, FUTEX(&requeued_from, FUTEX_REQUEUE_PRIVATE, 1, 1, &requeued_to))
GIVE_(cmp_requeue, &requeued_from, 2,
      FUTEX(&requeued_from, FUTEX_CMP_REQUEUE_PRIVATE, 1, 1, &requeued_to, 0))
GIVE_(wake_requeued, &requeued_to, 1, FUTEX(&requeued_to, FUTEX_WAKE_PRIVATE, 1))
GIVE_(wake_cmp_requeued, &requeued_to, 1, FUTEX(&requeued_to, FUTEX_WAKE_PRIVATE, 1))
static void body_requeued(void) { wait_requeued(), served++; }
static void run_requeued(void) {
  served = 0;
  waiters_arrive(0, 2, body_requeued);
  give_requeue(), until_served(1), hold();
  give_wake_requeued();
  until_all_done();
  served = 0;
  waiters_arrive(0, 2, body_requeued);
  give_cmp_requeue(), until_served(1), hold();
  give_wake_cmp_requeued();
  until_all_done();
}

/* ---- waiting for a condition releases its mutex ---- */

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static mtx_t guard_c11;
static cnd_t cnd;
static uint64_t old_cond[6];
static _Atomic int signalled;
WAIT(guard, &guard, pthread_mutex_lock, &guard)
WAIT(guard_c11, &guard_c11, mtx_lock, &guard_c11)
#define CONDITION(name, cond, mutex, lock, unlock, wait_mutex, signal, primitive, ...) \
  FRAME static void give_by_##name(void) {                                             \
    uint64_t begin = now();                                                            \
    MEASURED(cond, RELEASED, 0, primitive, cond, mutex, ##__VA_ARGS__);                \
    journal_add(__func__, #primitive, mutex, begin, 0, now(), 0);                      \
  }                                                                                    \
  static void body_##name(void) {                                                      \
    wait_mutex(), signalled = 1;                                                       \
    CHECK(unlock(mutex) == 0);                                                         \
    hold();                                                                            \
    CHECK(signal(cond) == 0);                                                          \
  }                                                                                    \
  static void run_##name(void) {                                                       \
    CHECK(lock(mutex) == 0);                                                           \
    signalled = 0;                                                                     \
    waiters_arrive(0, 1, body_##name);                                                 \
    while (!signalled) give_by_##name();                                               \
    CHECK(unlock(mutex) == 0);                                                         \
    until_all_done();                                                                  \
  }
#define CONDITION_(...) CONDITION(__VA_ARGS__)
#define POSIX &guard, pthread_mutex_lock, pthread_mutex_unlock, wait_guard
#define C11 &guard_c11, mtx_lock, mtx_unlock, wait_guard_c11
CONDITION_(cond_wait, &cond, POSIX, pthread_cond_signal, pthread_cond_wait)
CONDITION_(cond_timedwait, &cond, POSIX, pthread_cond_signal, pthread_cond_timedwait,
           in_ms(CLOCK_REALTIME, 100000))
CONDITION_(cond_clockwait, &cond, POSIX, pthread_cond_broadcast, pthread_cond_clockwait,
           CLOCK_MONOTONIC, in_ms(CLOCK_MONOTONIC, 100000))
CONDITION_(cnd_wait, &cnd, C11, cnd_signal, cnd_wait)
CONDITION_(cnd_timedwait, &cnd, C11, cnd_broadcast, cnd_timedwait, in_ms(CLOCK_REALTIME, 100000))
#ifdef OLD_COND
CONDITION_(old_cond_wait, old_cond, POSIX, old_cond_signal, old_cond_wait)
CONDITION_(old_cond_timedwait, old_cond, POSIX, old_cond_signal, old_cond_timedwait,
           in_ms(CLOCK_REALTIME, 100000))
#endif

/* ---- what is no release: an inner unlock of a recursive mutex, an unlock that fails ---- */

static pthread_mutex_t recursive, errorcheck, robust;
static uint32_t pi; /* a futex with priority inheritance */
static mtx_t recursive_c11;
WAIT(recursive, &recursive, pthread_mutex_lock, &recursive)
WAIT(recursive_c11, &recursive_c11, mtx_lock, &recursive_c11)
NO_RELEASE(inner, 0, pthread_mutex_unlock, &recursive)
NO_RELEASE(inner_c11, thrd_success, mtx_unlock, &recursive_c11)
GIVE(outer, &recursive, pthread_mutex_unlock, &recursive)
GIVE(outer_c11, &recursive_c11, mtx_unlock, &recursive_c11)
static void body_recursive(void) {
  wait_recursive();
  CHECK(pthread_mutex_unlock(&recursive) == 0);
}
static void body_recursive_c11(void) {
  wait_recursive_c11();
  CHECK(mtx_unlock(&recursive_c11) == thrd_success);
}
static void run_recursive(void) {
  for (int i = 0; i < 3; i++)
    CHECK(pthread_mutex_lock(&recursive) == 0 && mtx_lock(&recursive_c11) == thrd_success);
  waiters_arrive(0, 1, body_recursive);
  waiters_arrive(1, 1, body_recursive_c11);
  for (int i = 0; i < 2; i++) give_inner(), give_inner_c11(), hold();
  give_outer(), give_outer_c11();
  until_all_done();
}

WAIT(errorcheck, &errorcheck, pthread_mutex_lock, &errorcheck)
WAIT(robust, &robust, pthread_mutex_lock, &robust)
WAIT_(pi, &pi, FUTEX(&pi, FUTEX_LOCK_PI_PRIVATE, 0, NULL))
NO_RELEASE(not_its_own, EPERM, pthread_mutex_unlock, &errorcheck)
NO_RELEASE(not_its_own_robust, EPERM, pthread_mutex_unlock, &robust)
NO_RELEASE(not_its_own_recursive, EPERM, pthread_mutex_unlock, &recursive)
FRAME static void give_not_its_own_pi(void) {
  MEASURED_(NULL, NO_WAIT, -EPERM, FUTEX(&pi, FUTEX_UNLOCK_PI_PRIVATE));
}
GIVE(errorcheck, &errorcheck, pthread_mutex_unlock, &errorcheck)
GIVE(robust, &robust, pthread_mutex_unlock, &robust)
GIVE(again, &recursive, pthread_mutex_unlock, &recursive)
GIVE_(pi, &pi, 0, FUTEX(&pi, FUTEX_UNLOCK_PI_PRIVATE))
static void body_errorcheck(void) {
  wait_errorcheck();
  CHECK(pthread_mutex_unlock(&errorcheck) == 0);
}
static void body_robust(void) {
  wait_robust();
  CHECK(pthread_mutex_unlock(&robust) == 0);
}
static void body_pi(void) {
  wait_pi();
  CHECK(syscall(SYS_futex, &pi, FUTEX_UNLOCK_PI_PRIVATE) == 0);
}
static void body_stranger(void) {
  give_not_its_own(), give_not_its_own_robust(), give_not_its_own_recursive(),
      give_not_its_own_pi();
}
static void run_stranger(void) {
  CHECK(pthread_mutex_lock(&errorcheck) == 0 && pthread_mutex_lock(&robust) == 0 &&
        pthread_mutex_lock(&recursive) == 0);
  waiters_arrive(0, 1, body_errorcheck);
  waiters_arrive(1, 1, body_robust);
  waiters_arrive(2, 1, body_recursive);
  pi = (uint32_t)syscall(SYS_gettid);
  waiters_arrive(4, 1, body_pi);
  order(&workers[3], body_stranger), until_done(&workers[3]), hold();
  give_errorcheck(), give_robust(), give_again(), give_pi();
  until_all_done();
}

/* ---- a wait in a signal handler that has interrupted a wait ---- */

static pthread_mutex_t outer = PTHREAD_MUTEX_INITIALIZER;
static sem_t inner;
static _Atomic int in_handler;
WAIT(nested_outer, &outer, pthread_mutex_lock, &outer)
WAIT(nested_inner, &inner, sem_wait, &inner)
GIVE(nested_outer, &outer, pthread_mutex_unlock, &outer)
GIVE(nested_inner, &inner, sem_post, &inner)
static void on_signal(int signal) {
  (void)signal;
  in_handler = 1;
  wait_nested_inner();
  in_handler = 0;
}
static void body_nested(void) {
  wait_nested_outer();
  CHECK(pthread_mutex_unlock(&outer) == 0);
}
static void run_nested(void) {
  CHECK(pthread_mutex_lock(&outer) == 0);
  waiters_arrive(0, 1, body_nested);
  CHECK(pthread_kill(workers[0].thread, SIGUSR1) == 0);
  while (!in_handler) pause_us(100);
  until_blocked(&workers[0]), hold();
  give_nested_inner();
  while (in_handler) pause_us(100);
  hold();
  give_nested_outer();
  until_all_done();
}

/* ---- readers and writers ---- */

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static _Atomic int readers_in;
WAIT(writer, &rwlock, pthread_rwlock_wrlock, &rwlock)
WAIT(reader, &rwlock, pthread_rwlock_rdlock, &rwlock)
FRAME static void wait_hasty_writer(void) {
  MEASURED(&rwlock, GAVE_UP, ETIMEDOUT, pthread_rwlock_timedwrlock, &rwlock,
           in_ms(CLOCK_REALTIME, 6 * HOLD_MS));
}
GIVE(first_reader, &rwlock, pthread_rwlock_unlock, &rwlock)
GIVE(last_reader, &rwlock, pthread_rwlock_unlock, &rwlock)
GIVE(in_vain, &rwlock, pthread_rwlock_unlock, &rwlock)
GIVE(too_late, &rwlock, pthread_rwlock_unlock, &rwlock)
GIVE(to_readers, &rwlock, pthread_rwlock_unlock, &rwlock)
static void read_lock(void) { CHECK(pthread_rwlock_rdlock(&rwlock) == 0); }
static void body_writer(void) {
  wait_writer();
  CHECK(pthread_rwlock_unlock(&rwlock) == 0);
}
static void body_reader(void) {
  wait_reader(), readers_in++;
  while (readers_in < 3) pause_us(100); /* nobody releases while another is on its way */
  CHECK(pthread_rwlock_unlock(&rwlock) == 0);
}
static void two_readers(void) {
  for (int i = 0; i < 2; i++) order(&workers[i], read_lock), until_done(&workers[i]);
}
static void run_rwlock(void) {
  two_readers(); /* a writer waits for both */
  waiters_arrive(2, 1, body_writer);
  order(&workers[0], give_first_reader), until_done(&workers[0]), hold();
  order(&workers[1], give_last_reader);
  until_all_done();

  two_readers(); /* a writer gives up after the first of them */
  waiters_arrive(2, 1, wait_hasty_writer);
  order(&workers[0], give_in_vain), until_done(&workers[0]);
  until_done(&workers[2]);
  order(&workers[1], give_too_late);
  until_all_done();

  CHECK(pthread_rwlock_wrlock(&rwlock) == 0); /* three readers get it at once */
  readers_in = 0;
  waiters_arrive(0, 3, body_reader);
  give_to_readers();
  until_all_done();
}

/* ---- one gives up, one does not ---- */

static pthread_mutex_t patience = PTHREAD_MUTEX_INITIALIZER;
WAIT(patient, &patience, pthread_mutex_lock, &patience)
FRAME static void wait_hasty(void) {
  MEASURED(&patience, GAVE_UP, ETIMEDOUT, pthread_mutex_timedlock, &patience,
           in_ms(CLOCK_REALTIME, 6 * HOLD_MS));
}
GIVE(patience, &patience, pthread_mutex_unlock, &patience)
static void body_patient(void) {
  wait_patient();
  CHECK(pthread_mutex_unlock(&patience) == 0);
}
static void run_patience(void) {
  CHECK(pthread_mutex_lock(&patience) == 0);
  waiters_arrive(0, 1, wait_hasty);
  waiters_arrive(1, 1, body_patient);
  until_done(&workers[0]);
  give_patience();
  until_all_done();
}

static void make_mutex(pthread_mutex_t *mutex, int type, int robustness) {
  pthread_mutexattr_t attributes;
  CHECK(pthread_mutexattr_init(&attributes) == 0 &&
        pthread_mutexattr_settype(&attributes, type) == 0);
  CHECK(pthread_mutexattr_setrobust(&attributes, robustness) == 0 &&
        pthread_mutex_init(mutex, &attributes) == 0);
}

int main(void) {
  CHECK(signal(SIGUSR1, on_signal) != SIG_ERR && sem_init(&inner, 0, 0) == 0);
  CHECK(sem_init(&tokens, 0, 0) == 0 && sem_init(&passed, 0, 1) == 0 &&
        pthread_spin_init(&spin, 0) == 0);
  CHECK(mtx_init(&guard_c11, mtx_plain) == thrd_success &&
        mtx_init(&recursive_c11, mtx_plain | mtx_recursive) == thrd_success);
  CHECK(cnd_init(&cnd) == thrd_success);
  make_mutex(&recursive, PTHREAD_MUTEX_RECURSIVE, 0);
  make_mutex(&errorcheck, PTHREAD_MUTEX_ERRORCHECK, 0);
  make_mutex(&robust, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST);
  for (int round = 0; round < 2; round++) {
    run_several(), run_tokens(), run_passed(), run_word(), run_requeued();
    run_cond_wait(), run_cond_timedwait(), run_cond_clockwait(), run_cnd_wait(),
        run_cnd_timedwait();
#ifdef OLD_COND
    run_old_cond_wait(), run_old_cond_timedwait();
#endif
    run_recursive(), run_stranger(), run_nested(), run_rwlock(), run_patience();
  }
  journal_print();
  ready();
  return 0;
}
