/* Thousands of waits, most of them shorter than the default mean time between samples, with a
 * journal (lock_journal.h) of each. */
#define _GNU_SOURCE
#include "lock_journal.h"

#include <sys/prctl.h>

enum {
  BRIEF = 3000,
  SHORT = 1500,
  LONG = 1500,
  BRIEF_NS = 20000,
  SHORT_NS = 20000,
  LONG_NS = 300000
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t semaphore, never;

static void spin_ns(uint64_t ns) {
  for (uint64_t start = now(); now() - start < ns;) {}
}
static struct timespec *in_ns(uint64_t ns) {
  static struct timespec time;
  time = to_timespec(clock_ns(CLOCK_REALTIME) + ns);
  return &time;
}

FRAME static void wait_brief(void) {
  MEASURED(&never, GAVE_UP, -ETIMEDOUT, sem_timedwait, &never, in_ns(BRIEF_NS));
}

#define CONTENDED(name, object, take, give, after)                                     \
  FRAME static void wait_##name(void) { MEASURED(object, RELEASED, 0, take, object); } \
  FRAME static void give_##name(void) { MEASURED_RELEASE(object, give, object); }      \
  static void body_##name(void) {                                                      \
    wait_##name();                                                                     \
    CHECK(after);                                                                      \
  }
CONTENDED(short_mutex, &mutex, pthread_mutex_lock, pthread_mutex_unlock,
          pthread_mutex_unlock(&mutex) == 0)
CONTENDED(long_mutex, &mutex, pthread_mutex_lock, pthread_mutex_unlock,
          pthread_mutex_unlock(&mutex) == 0)
CONTENDED(long_semaphore, &semaphore, sem_wait, sem_post, 1)

static void contend(void (*body)(void), void (*give)(void), uint64_t ns, int takes) {
  if (takes) CHECK(pthread_mutex_lock(&mutex) == 0);
  order(&workers[0], body);
  while (!workers[0].syscall_file) pause_us(100);
  while (!atomic_load(&workers[0].waits) || !in_futex(workers[0].syscall_file))
    CHECK(atomic_load(&workers[0].order));
  spin_ns(ns);
  give();
  until_done(&workers[0]);
}

int main(void) {
  CHECK(prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0) == 0); /* so that brief waits are */
  CHECK(sem_init(&semaphore, 0, 0) == 0 && sem_init(&never, 0, 0) == 0);
  for (int i = 0; i < BRIEF; i++) wait_brief();
  for (int i = 0; i < SHORT; i++) contend(body_short_mutex, give_short_mutex, SHORT_NS, 1);
  for (int i = 0; i < LONG; i++) contend(body_long_mutex, give_long_mutex, LONG_NS, 1);
  for (int i = 0; i < LONG; i++) contend(body_long_semaphore, give_long_semaphore, LONG_NS, 0);
  journal_print();
  ready();
  return 0;
}
