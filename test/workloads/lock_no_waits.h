/* Part of lock_waits.c: calls that wait for nothing, of free objects, and errors. */
#define NONE(name, expected, primitive, ...) \
  FRAME static void none_##name(void) { MEASURED(NULL, NO_WAIT, expected, primitive, __VA_ARGS__); }
#define NONE_(...) NONE(__VA_ARGS__)
static struct timespec past = {1, 0}, invalid = {1, 1000000000};
static uint32_t mismatched = 1;
#define MUTEX_NONE(type)                                                           \
  NONE(lock_##type, 0, pthread_mutex_lock, &type)                                  \
  NONE(timedlock_##type, 0, pthread_mutex_timedlock, &type, &past)                 \
  NONE(clocklock_##type, 0, pthread_mutex_clocklock, &type, CLOCK_REALTIME, &past) \
  NONE(unlock_##type, 0, pthread_mutex_unlock, &type)                              \
  NONE(trylock_##type, &type == &recursive ? 0 : EBUSY, pthread_mutex_trylock, &type)
MUTEXES(MUTEX_NONE)
NONE(relock_errorcheck, EDEADLK, pthread_mutex_lock, &errorcheck)
NONE(unlock_not_owned, EPERM, pthread_mutex_unlock, &errorcheck)
NONE(relock_recursive, 0, pthread_mutex_lock, &recursive)
NONE(timedlock_invalid, EINVAL, pthread_mutex_timedlock, &normal, &invalid)
NONE(clocklock_invalid, EINVAL, pthread_mutex_clocklock, &normal, CLOCK_MONOTONIC, &invalid)
NONE(clocklock_bad_clock, EINVAL, pthread_mutex_clocklock, &normal, CLOCK_PROCESS_CPUTIME_ID, &past)
NONE(lock_ownerdead, EOWNERDEAD, pthread_mutex_lock, &robust)
NONE(lock_notrecoverable, ENOTRECOVERABLE, pthread_mutex_lock, &robust)
NONE(rdlock, 0, pthread_rwlock_rdlock, &rwlock)
NONE(timedrdlock, 0, pthread_rwlock_timedrdlock, &rwlock, &past)
NONE(wrlock, 0, pthread_rwlock_wrlock, &rwlock)
NONE(timedwrlock, 0, pthread_rwlock_timedwrlock, &rwlock, &past)
NONE(rwunlock, 0, pthread_rwlock_unlock, &rwlock)
NONE(rdlock_deadlock, EDEADLK, pthread_rwlock_rdlock, &rwlock)
NONE(wrlock_deadlock, EDEADLK, pthread_rwlock_wrlock, &rwlock)
NONE(timedwrlock_invalid, EINVAL, pthread_rwlock_timedwrlock, &rwlock, &invalid)
NONE(spin, 0, pthread_spin_lock, &spin)
NONE(spin_unlock, 0, pthread_spin_unlock, &spin)
NONE(mtx_lock, thrd_success, mtx_lock, &c11)
NONE(mtx_trylock, thrd_busy, mtx_trylock, &c11)
NONE(mtx_unlock, thrd_success, mtx_unlock, &c11)
NONE(mtx_timedlock, thrd_success, mtx_timedlock, &c11_timed, &past)
NONE(mtx_unlock_timed, thrd_success, mtx_unlock, &c11_timed)
NONE(cond_not_owned, EPERM, pthread_cond_wait, &cond, &errorcheck)
NONE(cond_invalid, EINVAL, pthread_cond_timedwait, &cond, &cond_mutex, &invalid)
NONE(cond_bad_clock, EINVAL, pthread_cond_clockwait, &cond, &cond_mutex, CLOCK_PROCESS_CPUTIME_ID,
     &past)
NONE(sem_wait, 0, sem_wait, &semaphore)
NONE(sem_timedwait, 0, sem_timedwait, &semaphore, &past)
NONE(sem_invalid, -EINVAL, sem_timedwait, &semaphore, &invalid)
NONE(sem_bad_clock, -EINVAL, sem_clockwait, &semaphore, CLOCK_PROCESS_CPUTIME_ID, &past)
NONE(sem_post, 0, sem_post, &semaphore)
NONE(barrier, PTHREAD_BARRIER_SERIAL_THREAD, pthread_barrier_wait, &barrier_of_one)
NONE(join_ended, 0, pthread_join, target, NULL)
NONE(join_self, EDEADLK, pthread_join, pthread_self(), NULL)
NONE_(futex_mismatch, -EAGAIN, FUTEX(FUTEX_WAIT_PRIVATE, mismatched, NULL))
NONE_(futex_bitset_mismatch, -EAGAIN, FUTEX(FUTEX_WAIT_BITSET_PRIVATE, mismatched, &past, NULL, 1))
NONE_(futex_invalid, -EINVAL, FUTEX(FUTEX_WAIT_PRIVATE, 0, &invalid))
NONE_(futex_unknown, -ENOSYS, FUTEX(99, 0, NULL))
NONE_(futex_wake, 0, FUTEX(FUTEX_WAKE_PRIVATE, 1))
NONE_(futex_pi, 0, FUTEX(FUTEX_LOCK_PI_PRIVATE, 0, NULL))
NONE_(futex_pi_relock, -EDEADLK, FUTEX(FUTEX_LOCK_PI_PRIVATE, 0, NULL))
NONE_(futex_pi_unlock, 0, FUTEX(FUTEX_UNLOCK_PI_PRIVATE))

static void until_target_has_ended(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d", target_tid);
  while (access(path, F_OK) == 0) pause_us(100);
}

static void no_waits(void) {
#define MUTEX_NO_WAITS(type)                                       \
  none_lock_##type(), none_trylock_##type(), none_unlock_##type(); \
  if (&type == &recursive) none_unlock_##type();                   \
  none_timedlock_##type(), none_unlock_##type();                   \
  none_clocklock_##type(), none_unlock_##type();
  MUTEXES(MUTEX_NO_WAITS)
  none_lock_errorcheck(), none_relock_errorcheck();
  none_unlock_errorcheck(), none_unlock_not_owned(), none_cond_not_owned();
  none_lock_recursive(), none_relock_recursive(), none_unlock_recursive(), none_unlock_recursive();
  none_lock_normal(), none_timedlock_invalid(), none_clocklock_invalid(),
      none_clocklock_bad_clock(), none_unlock_normal();
  start_orphan(), release_target(), until_target_has_ended();
  none_lock_ownerdead(), none_unlock_robust(), none_lock_notrecoverable();
  CHECK(pthread_mutex_destroy(&robust) == 0);
  make_mutex(&robust, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, 0, 0);
  none_rdlock(), none_timedrdlock(), none_rwunlock(), none_rwunlock();
  none_wrlock(), none_rdlock_deadlock(), none_wrlock_deadlock(), none_timedwrlock_invalid(),
      none_rwunlock();
  none_timedwrlock(), none_rwunlock();
  none_spin(), none_spin_unlock();
  none_mtx_lock(), none_mtx_trylock(), none_mtx_unlock(), none_mtx_timedlock(),
      none_mtx_unlock_timed();
  CHECK(pthread_mutex_lock(&cond_mutex) == 0);
  none_cond_invalid(), none_cond_bad_clock();
  CHECK(pthread_mutex_unlock(&cond_mutex) == 0);
  none_sem_post(), none_sem_wait(), none_sem_post(), none_sem_timedwait(), none_sem_invalid(),
      none_sem_bad_clock();
  none_barrier();
  start_target(), none_join_self(), release_target(), until_target_has_ended(), none_join_ended();
  none_futex_mismatch(), none_futex_bitset_mismatch(), none_futex_invalid(), none_futex_unknown(),
      none_futex_wake();
  none_futex_pi(), none_futex_pi_relock(), none_futex_pi_unlock();
  word = 0;
}
