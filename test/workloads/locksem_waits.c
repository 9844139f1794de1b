/* Condition variables, semaphores, joins and C11's locks, in every state (locksem.h). */
#define _GNU_SOURCE
#include "locksem.h"

static _Atomic int phase;
static pid_t main_thread;
#define SAY(text) say("%s\n", text)

/* ---- condition variables ---- */

static pthread_mutex_t mutex;
static pthread_cond_t cond;
static int type, robust, protocol, cond_clock, shared;

static void initialize(void) {
  pthread_mutexattr_t attributes;
  pthread_condattr_t cond_attributes;
  memset(&mutex, 0, sizeof mutex), memset(&cond, 0, sizeof cond);
  pthread_mutexattr_init(&attributes), pthread_mutexattr_settype(&attributes, type),
      pthread_mutexattr_setrobust(&attributes, robust);
  pthread_mutexattr_setprotocol(&attributes, protocol),
      pthread_mutexattr_setpshared(&attributes, shared);
  pthread_condattr_init(&cond_attributes), pthread_condattr_setclock(&cond_attributes, cond_clock);
  pthread_condattr_setpshared(&cond_attributes, shared);
  CHECK(pthread_mutex_init(&mutex, &attributes) == 0 &&
        pthread_cond_init(&cond, &cond_attributes) == 0);
}
static void dump_both(void) {
  pthread_mutex_t copy = mutex;
  if (type == PTHREAD_MUTEX_ADAPTIVE_NP) copy.__data.__spins = 0;
  dump("cond", &cond, sizeof cond, sizeof cond);
  dump("mutex", &copy, sizeof copy, offsetof(pthread_mutex_t, __data.__list));
}

enum { SIGNAL_IT, BROADCAST_IT, SIGNAL_AND_DIE };
static void *wake(void *how) {
  own_id();
  wait_until_blocked(main_thread);
  pthread_mutex_lock(&mutex);
  if ((intptr_t)how == BROADCAST_IT) pthread_cond_broadcast(&cond);
  else pthread_cond_signal(&cond);
  if ((intptr_t)how != SIGNAL_AND_DIE) pthread_mutex_unlock(&mutex);
  else wait_until_blocked(main_thread);
  return NULL;
}

static void end_wait(int owned) {
  dump_both();
  if (owned) CALL(pthread_mutex_unlock(&mutex)), dump_both();
  CHECK(!owned || pthread_mutex_trylock(&mutex) == 0); /* it is free now */
}
static void check_cond(const char *name) {
  const struct timespec *time;
  pthread_t waker;
  int checked = type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK || robust;
  say("%s, clock %d\n", name, cond_clock);
#define WOKEN(how, call)                                                                    \
  initialize(), pthread_mutex_lock(&mutex), waker = start(wake, (void *)(how)), CALL(call), \
                                            pthread_join(waker, NULL), end_wait(1)
  WOKEN(SIGNAL_IT, pthread_cond_wait(&cond, &mutex));
  WOKEN(BROADCAST_IT, pthread_cond_wait(&cond, &mutex));
  struct timespec far = time_of(cond_clock, 100000),
                  far_monotonic = time_of(CLOCK_MONOTONIC, 100000);
  WOKEN(SIGNAL_IT, pthread_cond_timedwait(&cond, &mutex, &far));
  WOKEN(SIGNAL_IT, pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &far_monotonic));
  if (robust) {
    initialize(), pthread_mutex_lock(&mutex), waker = start(wake, (void *)SIGNAL_AND_DIE);
    CALL(pthread_cond_wait(&cond, &mutex)), pthread_join(waker, NULL);
    CALL(pthread_mutex_consistent(&mutex)), end_wait(1);
  }
  for (enum when when = 0; when < WHENS; when++) {
    say(" %s\n", when_names[when]);
    initialize(), pthread_mutex_lock(&mutex), time = deadline(when, cond_clock),
                                              CALL(pthread_cond_timedwait(&cond, &mutex, time)),
                                              end_wait(1);
    for (int i = 0; i < CLOCKS; i++) {
      say(" %s\n", clock_names[i]);
      initialize(), pthread_mutex_lock(&mutex), time = deadline(when, clocks[i]);
      CALL(pthread_cond_clockwait(&cond, &mutex, clocks[i], time)), end_wait(1);
    }
    if (checked) {
      SAY(" not owned");
      initialize(), time = deadline(when, cond_clock),
                    CALL(pthread_cond_timedwait(&cond, &mutex, time)), end_wait(0);
      initialize(), time = deadline(when, CLOCK_MONOTONIC),
                    CALL(pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, time)), end_wait(0);
    }
  }
  if (checked) SAY(" not owned"), initialize(), CALL(pthread_cond_wait(&cond, &mutex)), end_wait(0);
  if (type == PTHREAD_MUTEX_RECURSIVE) {
    SAY(" held twice");
    initialize(), pthread_mutex_lock(&mutex), pthread_mutex_lock(&mutex),
        time = deadline(SOON, cond_clock);
    CALL(pthread_cond_timedwait(&cond, &mutex, time)), end_wait(1),
        CALL(pthread_mutex_unlock(&mutex));
  }
  initialize(), CALL(pthread_cond_signal(&cond)), CALL(pthread_cond_broadcast(&cond)),
      CALL(pthread_cond_destroy(&cond));
}
static void check_conds(void) {
  static const struct {
    const char *name;
    int type, robust, protocol, shared;
  } kinds[] = {{"normal", PTHREAD_MUTEX_NORMAL, 0, 0, 0},
               {"recursive", PTHREAD_MUTEX_RECURSIVE, 0, 0, 0},
               {"errorcheck", PTHREAD_MUTEX_ERRORCHECK, 0, 0, 0},
               {"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, 0, 0, 0},
               {"robust", PTHREAD_MUTEX_NORMAL, 1, 0, 0},
               {"inherit", PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_INHERIT, 0},
               {"shared robust inherit", PTHREAD_MUTEX_ERRORCHECK, 1, PTHREAD_PRIO_INHERIT, 1}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    type = kinds[i].type, robust = kinds[i].robust, protocol = kinds[i].protocol,
    shared = kinds[i].shared;
    for (cond_clock = CLOCK_REALTIME; cond_clock <= CLOCK_MONOTONIC; cond_clock++)
      check_cond(kinds[i].name);
  }
}

/* ---- semaphores ---- */

static sem_t sem;
static _Atomic int handled;
static void on_signal(int number) { (void)number, handled++; }
static pthread_t main_self;
static void *interrupt(void *unused) {
  wait_until_blocked(main_thread);
  pthread_kill(main_self, SIGUSR1);
  return unused;
}
static void *post_when_blocked(void *unused) {
  wait_until_blocked(main_thread);
  CHECK(sem_post(&sem) == 0);
  return unused;
}
static void *interrupt_then_post(void *unused) {
  interrupt(NULL);
  while (!handled) pause_briefly();
  return post_when_blocked(unused);
}
static void dump_sem(void) { dump("sem", &sem, sizeof sem, sizeof sem); }

static void check_sem(int is_shared) {
  struct timespec far = time_of(CLOCK_REALTIME, 100000),
                  far_monotonic = time_of(CLOCK_MONOTONIC, 100000);
  const struct timespec *time;
  pthread_t helper;
  int value;
  say("semaphore %d\n", is_shared);
#define NEW(count) memset(&sem, 0, sizeof sem), (void)sem_init(&sem, is_shared, count)
  NEW(2), CALL(sem_wait(&sem)), CALL(sem_trywait(&sem)), CALL(sem_trywait(&sem)), dump_sem(),
      CALL(sem_post(&sem)), dump_sem();
  CALL(sem_getvalue(&sem, &value)), say("  value %d\n", value);
  for (int count = 0; count < 2; count++) {
    for (enum when when = 0; when < WHENS; when++) {
      say(" value %d, %s\n", count, when_names[when]);
      NEW(count), time = deadline(when, CLOCK_REALTIME), CALL(sem_timedwait(&sem, time)),
                  dump_sem();
      for (int i = 0; i < CLOCKS; i++) {
        say(" %s\n", clock_names[i]);
        NEW(count), time = deadline(when, clocks[i]), CALL(sem_clockwait(&sem, clocks[i], time)),
                    dump_sem();
      }
    }
  }
  NEW((unsigned)SEM_VALUE_MAX), CALL(sem_post(&sem)), dump_sem();
#define WITH(entry, call)                                                               \
  do {                                                                                  \
    NEW(0), handled = 0;                                                                \
    helper = start(entry, NULL);                                                        \
    CALL(call), pthread_join(helper, NULL), say("  %d signals\n", handled), dump_sem(); \
  } while (0)
  WITH(post_when_blocked, sem_wait(&sem));
  WITH(post_when_blocked, sem_timedwait(&sem, &far));
  WITH(post_when_blocked, sem_clockwait(&sem, CLOCK_MONOTONIC, &far_monotonic));
  for (int restart = 0; restart < 2; restart++) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = restart ? SA_RESTART : 0};
    sigaction(SIGUSR1, &action, NULL);
    if (restart) {
      SAY(" SA_RESTART");
      WITH(interrupt_then_post, sem_wait(&sem));
      WITH(interrupt_then_post, sem_timedwait(&sem, &far));
      WITH(interrupt_then_post, sem_clockwait(&sem, CLOCK_MONOTONIC, &far_monotonic));
    } else {
      SAY(" interrupted");
      WITH(interrupt, sem_wait(&sem));
      WITH(interrupt, sem_timedwait(&sem, &far));
      WITH(interrupt, sem_clockwait(&sem, CLOCK_MONOTONIC, &far_monotonic));
    }
  }
  CALL(sem_destroy(&sem));
}

/* ---- joins ---- */

static _Atomic pid_t stayer;
static void *stay(void *result) {
  stayer = (pid_t)syscall(SYS_gettid);
  while (phase != 1) pause_briefly();
  return result;
}
static pthread_t joined;
static _Atomic pid_t joiner_id;
static void *join_it(void *unused) {
  void *result;
  joiner_id = own_id();
  int error = pthread_join(joined, &result);
  say("  the joiner: %s, result %ld\n", name_of(error), error ? 0 : (long)(intptr_t)result);
  return unused;
}
static void *end_when_joined(void *result) {
  wait_until_blocked(main_thread);
  return result;
}

static pthread_t start_to_stay(void) {
  stayer = 0;
  pthread_t thread = start(stay, (void *)17);
  while (!stayer) pause_briefly();
  return thread;
}
static void wait_until_ended(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d", stayer);
  while (access(path, F_OK) == 0) pause_briefly();
}

static void check_join(void) {
  const struct timespec *time;
  struct timespec far = time_of(CLOCK_REALTIME, 100000),
                  far_monotonic = time_of(CLOCK_MONOTONIC, 100000);
  void *result = NULL;
#define RESULT() say("  result %ld\n", (long)(intptr_t)result), result = NULL
  SAY("join");
  CALL(pthread_join(pthread_self(), NULL));
  CALL(pthread_timedjoin_np(pthread_self(), NULL, &far));
  CALL(pthread_clockjoin_np(pthread_self(), NULL, CLOCK_MONOTONIC, &far_monotonic));
  joined = start(end_when_joined, (void *)5), CALL(pthread_join(joined, &result)), RESULT();
  joined = start(end_when_joined, (void *)6), CALL(pthread_timedjoin_np(joined, &result, &far)),
  RESULT();
  joined = start(end_when_joined, (void *)7),
  CALL(pthread_clockjoin_np(joined, &result, CLOCK_MONOTONIC, &far_monotonic)), RESULT();
  joined = start(end_when_joined, (void *)8), CALL(pthread_timedjoin_np(joined, &result, NULL)),
  RESULT();
  joined = start(end_when_joined, (void *)9), CALL(pthread_join(joined, NULL));
  for (int ended = 0; ended < 2; ended++) {
    /* glibc spins on a bad one until the thread ends */
    for (enum when when = 0; when < (ended ? WHENS : BAD_NEGATIVE); when++) {
      say(" %s, %s\n", ended ? "ended" : "alive", when_names[when]);
      for (int i = -1; i < CLOCKS; i++) {
        phase = ended;
        joined = start_to_stay();
        if (ended) wait_until_ended();
        time = deadline(when, i < 0 ? CLOCK_REALTIME : clocks[i]);
        say(" %s\n", i < 0 ? "timedjoin" : clock_names[i]);
        int error = (int)(i < 0 ? CALL(pthread_timedjoin_np(joined, &result, time))
                                : CALL(pthread_clockjoin_np(joined, &result, clocks[i], time)));
        RESULT();
        phase = 1;
        if (error) CALL(pthread_join(joined, &result)), RESULT();
      }
    }
  }
  SAY(" joined by two");
  phase = 0;
  joiner_id = 0;
  joined = start_to_stay();
  pthread_t joiner = start(join_it, NULL);
  while (!joiner_id) pause_briefly();
  wait_until_blocked(joiner_id);
  time = deadline(SOON, CLOCK_REALTIME), CALL(pthread_timedjoin_np(joined, &result, time)),
  CALL(pthread_tryjoin_np(joined, &result));
  phase = 1;
  pthread_join(joiner, NULL);
  SAY(" detached");
  phase = 0;
  joined = start_to_stay();
  pthread_detach(joined);
  CALL(pthread_join(joined, &result)), CALL(pthread_timedjoin_np(joined, &result, &far)),
      CALL(pthread_tryjoin_np(joined, &result));
  phase = 1;
}

/* ---- C11 ---- */

static mtx_t mtx;
static cnd_t cnd;
static int hold_mtx(void *unused) {
  (void)unused;
  mtx_lock(&mtx);
  phase = 1;
  while (phase < 2) pause_briefly();
  if (phase == 2) wait_until_blocked(main_thread);
  mtx_unlock(&mtx);
  return 77;
}
static int signal_cnd(void *unused) {
  (void)unused;
  wait_until_blocked(main_thread);
  mtx_lock(&mtx), cnd_signal(&cnd), mtx_unlock(&mtx);
  return 78;
}
static void check_c11(int kind) {
  const struct timespec *time;
  thrd_t thread;
  int result = 0;
  say("C11 kind %d\n", kind);
  CALL(mtx_init(&mtx, kind)), CALL(cnd_init(&cnd));
  CALL(mtx_lock(&mtx)), dump("mtx", &mtx, 24, 24), CALL(mtx_trylock(&mtx));
  if (kind & mtx_recursive) CALL(mtx_lock(&mtx)), CALL(mtx_unlock(&mtx)), CALL(mtx_unlock(&mtx));
  for (enum when when = 0; when < WHENS; when++) {
    say(" %s\n", when_names[when]);
    time = deadline(when, CLOCK_REALTIME);
    if (!(kind & mtx_recursive)) CALL(mtx_timedlock(&mtx, time)), dump("mtx", &mtx, 24, 24);
    time = deadline(when, CLOCK_REALTIME), CALL(cnd_timedwait(&cnd, &mtx, time));
  }
  CHECK(thrd_create(&thread, signal_cnd, NULL) == thrd_success);
  CALL(cnd_wait(&cnd, &mtx)), CALL(thrd_join(thread, &result)), say("  result %d\n", result);
  CALL(mtx_unlock(&mtx)), dump("mtx", &mtx, 24, 24);
  for (enum when when = 0; when < WHENS; when++)
    time = deadline(when, CLOCK_REALTIME), CALL(mtx_timedlock(&mtx, time)), CALL(mtx_unlock(&mtx));
  phase = 0;
  CHECK(thrd_create(&thread, hold_mtx, NULL) == thrd_success);
  while (phase != 1) pause_briefly();
  for (enum when when = 0; when < WHENS; when++)
    time = deadline(when, CLOCK_REALTIME), CALL(mtx_timedlock(&mtx, time));
  CALL(mtx_trylock(&mtx));
  phase = 2;
  CALL(mtx_lock(&mtx)), CALL(mtx_unlock(&mtx)), CALL(thrd_join(thread, &result)),
      say("  result %d\n", result);
  CALL(thrd_join(thrd_current(), NULL));
  mtx_destroy(&mtx), cnd_destroy(&cnd);
}

int main(void) {
  main_thread = own_id(), main_self = pthread_self();
  check_conds();
  check_sem(0), check_sem(1);
  check_join();
  check_c11(mtx_plain), check_c11(mtx_timed), check_c11(mtx_timed | mtx_recursive);
  return 0;
}
