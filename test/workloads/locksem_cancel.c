/* Cancellation before and during every wait, in C (locksem_cancel.cc: the same in C++, with
 * destructors and catch). What ran, in which order, with which result and what the objects are
 * then, is printed; the output with the agent must be that without it. Nothing that is a
 * cancellation point itself may be called meanwhile, so threads write to a text in memory. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "locksem.h"

#include <linux/futex.h>

static char text[4096];
static ATOMIC(unsigned) text_length;
__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  text_length +=
      (unsigned)vsnprintf(text + text_length, sizeof text - text_length, format, arguments);
  va_end(arguments);
}

/* ---- objects, and the threads that keep them busy ---- */

static pthread_mutex_t mutex, held;
static pthread_cond_t cond;
static sem_t sem;
static pthread_rwlock_t rwlock;
static pthread_barrier_t barrier;
static mtx_t mtx;
static cnd_t cnd;
static uint32_t word;
static pthread_t target;
static thrd_t c11_target;
static struct timespec far_realtime, far_monotonic, bad;
static ATOMIC(int) target_may_end;

static void *be_joined(void *unused) {
  (void)unused;
  while (!target_may_end) pause_briefly();
  return (void *)(intptr_t)31;
}
static int be_joined_c11(void *unused) { return (int)(intptr_t)be_joined(unused); }

static void initialize(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  memset(&cond, 0, sizeof cond);
  memset(&sem, 0, sizeof sem);
  pthread_mutex_init(&mutex, &attributes);
  pthread_mutex_init(&held, NULL);
  pthread_cond_init(&cond, NULL);
  sem_init(&sem, 0, 0);
  pthread_rwlock_init(&rwlock, NULL);
  pthread_barrier_init(&barrier, NULL, 2);
  mtx_init(&mtx, mtx_timed);
  cnd_init(&cnd);
  word = 0;
  far_realtime = time_of(CLOCK_REALTIME, 100000);
  far_monotonic = time_of(CLOCK_MONOTONIC, 100000);
  bad = far_realtime;
  bad.tv_nsec = -1;
}

/* ---- the waits: how, and what ends them ---- */

static void lock_mutex(void) { pthread_mutex_lock(&mutex); }
static void lock_mtx(void) { mtx_lock(&mtx); }
static void nothing(void) {}
static int wait_cond(void) { return pthread_cond_wait(&cond, &mutex); }
static int timedwait_cond(void) { return pthread_cond_timedwait(&cond, &mutex, &far_realtime); }
static int clockwait_cond(void) {
  return pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &far_monotonic);
}
static int bad_timedwait_cond(void) { return pthread_cond_timedwait(&cond, &mutex, &bad); }
static void signal_cond(void) {
  pthread_mutex_lock(&mutex);
  pthread_cond_signal(&cond);
  pthread_mutex_unlock(&mutex);
}
static int wait_sem(void) { return sem_wait(&sem) ? errno : 0; }
static int timedwait_sem(void) { return sem_timedwait(&sem, &far_realtime) ? errno : 0; }
static int clockwait_sem(void) {
  return sem_clockwait(&sem, CLOCK_MONOTONIC, &far_monotonic) ? errno : 0;
}
static int bad_timedwait_sem(void) { return sem_timedwait(&sem, &bad) ? errno : 0; }
static int trywait_sem(void) { return sem_trywait(&sem) ? errno : 0; }
static void post_sem(void) { sem_post(&sem); }
static int join_thread(void) { return pthread_join(target, NULL); }
static int timedjoin_thread(void) { return pthread_timedjoin_np(target, NULL, &far_realtime); }
static int clockjoin_thread(void) {
  return pthread_clockjoin_np(target, NULL, CLOCK_MONOTONIC, &far_monotonic);
}
static int tryjoin_thread(void) { return pthread_tryjoin_np(target, NULL); }
static int join_c11(void) { return thrd_join(c11_target, NULL); }
static void start_target(void) {
  target_may_end = 0;
  target = start(be_joined, NULL);
}
static void start_c11_target(void) {
  target_may_end = 0;
  thrd_create(&c11_target, be_joined_c11, NULL);
}
static void end_target(void) { target_may_end = 1; }
static int wait_cnd(void) { return cnd_wait(&cnd, &mtx); }
static int timedwait_cnd(void) { return cnd_timedwait(&cnd, &mtx, &far_realtime); }
static void signal_cnd(void) {
  mtx_lock(&mtx);
  cnd_signal(&cnd);
  mtx_unlock(&mtx);
}
static int lock_held(void) { return pthread_mutex_lock(&held); }
static int timedlock_held(void) { return pthread_mutex_timedlock(&held, &far_realtime); }
static int clocklock_held(void) {
  return pthread_mutex_clocklock(&held, CLOCK_MONOTONIC, &far_monotonic);
}
static void hold(void) { pthread_mutex_lock(&held); }
static void let_go(void) { pthread_mutex_unlock(&held); }
static int lock_to_read(void) { return pthread_rwlock_rdlock(&rwlock); }
static int lock_to_write(void) { return pthread_rwlock_wrlock(&rwlock); }
static int timedlock_to_read(void) { return pthread_rwlock_timedrdlock(&rwlock, &far_realtime); }
static int clocklock_to_write(void) {
  return pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, &far_monotonic);
}
static void hold_rwlock(void) { pthread_rwlock_wrlock(&rwlock); }
static void let_rwlock_go(void) { pthread_rwlock_unlock(&rwlock); }
static int meet(void) { return pthread_barrier_wait(&barrier) != 0; }
static void meet_too(void) { pthread_barrier_wait(&barrier); }
static int lock_c11(void) { return mtx_lock(&mtx); }
static int timedlock_c11(void) { return mtx_timedlock(&mtx, &far_realtime); }
static void unlock_c11(void) { mtx_unlock(&mtx); }
static int wait_futex(void) {
  return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) ? errno : 0;
}
static void wake_futex(void) {
  word = 1;
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static const struct wait {
  const char *name;
  void (*before)(void); /* in main, before the thread starts: makes it wait */
  void (*just_before)(void); /* in the thread */
  int (*call)(void);
  void (*release)(void); /* in main */
  int asynchronous; /* may be cancelled asynchronously */
} waits[] = {
    {"pthread_cond_wait", nothing, lock_mutex, wait_cond, signal_cond, 0},
    {"pthread_cond_timedwait", nothing, lock_mutex, timedwait_cond, signal_cond, 0},
    {"pthread_cond_clockwait", nothing, lock_mutex, clockwait_cond, signal_cond, 0},
    {"pthread_cond_timedwait, bad time", nothing, lock_mutex, bad_timedwait_cond, signal_cond, 0},
    {"sem_wait", nothing, nothing, wait_sem, post_sem, 1},
    {"sem_timedwait", nothing, nothing, timedwait_sem, post_sem, 1},
    {"sem_clockwait", nothing, nothing, clockwait_sem, post_sem, 1},
    {"sem_timedwait, bad time", nothing, nothing, bad_timedwait_sem, post_sem, 0},
    {"sem_trywait", nothing, nothing, trywait_sem, post_sem, 0},
    {"sem_wait, available", post_sem, nothing, wait_sem, post_sem, 0},
    {"sem_timedwait, available", post_sem, nothing, timedwait_sem, post_sem, 0},
    {"sem_clockwait, available", post_sem, nothing, clockwait_sem, post_sem, 0},
    {"sem_timedwait, available, bad time", post_sem, nothing, bad_timedwait_sem, post_sem, 0},
    {"pthread_join", start_target, nothing, join_thread, end_target, 0},
    {"pthread_timedjoin_np", start_target, nothing, timedjoin_thread, end_target, 0},
    {"pthread_clockjoin_np", start_target, nothing, clockjoin_thread, end_target, 0},
    {"pthread_tryjoin_np", start_target, nothing, tryjoin_thread, end_target, 0},
    {"thrd_join", start_c11_target, nothing, join_c11, end_target, 0},
    {"cnd_wait", nothing, lock_mtx, wait_cnd, signal_cnd, 0},
    {"cnd_timedwait", nothing, lock_mtx, timedwait_cnd, signal_cnd, 0},
    {"pthread_mutex_lock", hold, nothing, lock_held, let_go, 1},
    {"pthread_mutex_timedlock", hold, nothing, timedlock_held, let_go, 1},
    {"pthread_mutex_clocklock", hold, nothing, clocklock_held, let_go, 1},
    {"pthread_mutex_lock, free", nothing, nothing, lock_held, nothing, 0},
    {"pthread_rwlock_rdlock", hold_rwlock, nothing, lock_to_read, let_rwlock_go, 1},
    {"pthread_rwlock_wrlock", hold_rwlock, nothing, lock_to_write, let_rwlock_go, 1},
    {"pthread_rwlock_timedrdlock", hold_rwlock, nothing, timedlock_to_read, let_rwlock_go, 0},
    {"pthread_rwlock_clockwrlock", hold_rwlock, nothing, clocklock_to_write, let_rwlock_go, 0},
    {"pthread_rwlock_rdlock, free", nothing, nothing, lock_to_read, nothing, 0},
    {"pthread_barrier_wait", nothing, nothing, meet, meet_too, 0},
    {"mtx_lock", lock_mtx, nothing, lock_c11, unlock_c11, 0},
    {"mtx_timedlock", lock_mtx, nothing, timedlock_c11, unlock_c11, 0},
    {"futex", nothing, nothing, wait_futex, wake_futex, 1},
};

/* ---- the thread that is cancelled ---- */

enum mode { PENDING, DURING, DISABLED, ASYNCHRONOUS, MODES };
static const char *const mode_names[MODES] = {"pending", "during", "disabled", "asynchronous"};
static enum mode mode;
static const struct wait *current;
static ATOMIC(pid_t) waiter;

static void clean_up(void *which) {
  note("  cleanup %s", (const char *)which);
  if (current->just_before == lock_mutex)
    note(", mutex: unlock %s", name_of(pthread_mutex_unlock(&mutex)));
  if (current->just_before == lock_mtx) note(", mtx: trylock %s", name_of(mtx_trylock(&mtx)));
  note("\n");
}

#ifdef __cplusplus
struct guard {
  const char *name;
  ~guard() { note("  destructor %s\n", name); }
};
#endif

static void wait_here(void) {
  int result = current->call();
  note("  returned %s\n", name_of(result));
  if (mode == DISABLED) pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
  pthread_testcancel();
  note("  not cancelled\n");
}

static void *be_cancelled(void *unused) {
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  if (mode == ASYNCHRONOUS) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  waiter = own_id();
#ifdef __cplusplus
  guard first = {"first"};
  try {
#endif
    pthread_cleanup_push(clean_up, (void *)"outer");
    current->just_before();
    if (mode == PENDING) pthread_cancel(pthread_self());
    pthread_cleanup_push(clean_up, (void *)"inner");
#ifdef __cplusplus
    guard second = {"second"};
#endif
    if (mode != DISABLED) pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    wait_here();
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
#ifdef __cplusplus
  } catch (...) {
    note("  caught\n");
    throw;
  }
#endif
  return unused;
}

static void check(void) {
  void *result = NULL;
  int value = 0, joined = 0;
  text_length = 0;
  note("%s, %s\n", current->name, mode_names[mode]);
  initialize();
  waiter = 0;
  current->before();
  pthread_t thread = start(be_cancelled, NULL);
  while (!waiter) pause_briefly();
  wait_until_blocked(waiter); /* or it has ended */
  if (mode != PENDING) {
    pthread_cancel(thread);
    wait_until_blocked(waiter); /* again, or it has ended: on a busy machine that may take long */
    /* A wait that is a cancellation point ends by this, any other does not: the release comes much
     * later. An asynchronous one always does. */
    for (int i = 0; (i < 25 || mode == ASYNCHRONOUS) && !joined; i++) {
      joined = pthread_tryjoin_np(thread, &result) == 0;
      pause_briefly();
    }
  }
  if (!joined && pthread_tryjoin_np(thread, &result) == EBUSY) {
    wait_until_blocked(waiter);
    current->release();
    pthread_join(thread, &result);
  }
  sem_getvalue(&sem, &value);
  note("  %s, sem %d, futex %u\n",
       result == PTHREAD_CANCELED ? "PTHREAD_CANCELED"
       : result                   ? "other result"
                                  : "NULL",
       value, word);
  target_may_end = 1;
  say("%s", text);
}

int main(void) {
  own_id();
  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
    for (int m = 0; m < MODES; m++) {
      current = &waits[i];
      mode = (enum mode)m;
      if (mode == ASYNCHRONOUS && !current->asynchronous) continue;
      check();
    }
  }
  ready();
  return 0;
}
