/* What the lock_* workloads share: a journal of their own waits and releases, which a test compares
 * the block and mutex profiles with; and threads that take orders without a lock, so that no wait
 * happens but those that the journal knows.
 *
 * Lines: wait FUNCTION PRIMITIVE OBJECT BEGIN SEEN END OUTCOME (CLOCK_MONOTONIC, ns; SEEN: when
 * another thread saw it sleep, or BEGIN; r released, g gave up, n not a wait) and release FUNCTION
 * PRIMITIVE OBJECT BEGIN END
 */
#ifndef LOCK_JOURNAL_H
#define LOCK_JOURNAL_H

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>

#include "workload.h"

enum { HOLD_MS = 25, JOURNAL_MAX = 1 << 14, WORKERS_MAX = 8 };

static inline uint64_t clock_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}
static inline uint64_t now(void) { return clock_ns(CLOCK_MONOTONIC); }

static inline struct timespec to_timespec(uint64_t ns) {
  return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

/* A point in time that many ms from now; one at a time per thread. */
static inline struct timespec *in_ms(clockid_t clock, uint64_t ms) {
  static _Thread_local struct timespec time;
  time = to_timespec(clock_ns(clock) + ms * 1000000);
  return &time;
}

static inline void pause_us(uint64_t us) {
  struct timespec time = to_timespec(us * 1000);
  nanosleep(&time, NULL);
}
static inline void hold(void) { pause_us(HOLD_MS * 1000); }

/* ---- the journal ---- */

struct journal_entry {
  const char *function, *primitive;
  const void *object;
  uint64_t begin, seen, end;
  char outcome; /* 0: a release */
};
static struct journal_entry journal[JOURNAL_MAX];
static _Atomic uint32_t journal_length;

static inline void journal_add(const char *function, const char *primitive, const void *object,
                               uint64_t begin, uint64_t seen, uint64_t end, char outcome) {
  uint32_t index = atomic_fetch_add(&journal_length, 1);
  CHECK(index < JOURNAL_MAX);
  journal[index] = (struct journal_entry){
      function, primitive, object, begin, seen > begin ? seen : begin, end, outcome};
}

static inline void journal_print(void) {
  for (uint32_t i = 0; i < journal_length; i++) {
    const struct journal_entry *e = &journal[i];
    say("%s %s %s %p %llu ", e->outcome ? "wait" : "release", e->function, e->primitive, e->object,
        (unsigned long long)e->begin);
    if (e->outcome) say("%llu ", (unsigned long long)e->seen);
    say(e->outcome ? "%llu %c\n" : "%llu\n", (unsigned long long)e->end, e->outcome);
  }
}

/* ---- threads that take orders ---- */

struct worker {
  pthread_t thread;
  int syscall_file; /* /proc/self/task/TID/syscall */
  _Atomic(void (*)(void)) order;
  _Atomic int waits; /* it is about to wait, or waits */
  _Atomic uint64_t seen; /* asleep, by another thread, then */
};
static struct worker workers[WORKERS_MAX];
static _Thread_local struct worker *this_worker;

static inline int open_own_syscall_file(void) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)syscall(SYS_gettid));
  int file = open(path, O_RDONLY | O_CLOEXEC);
  CHECK(file >= 0);
  return file;
}

static inline void *worker_main(void *argument) {
  this_worker = argument;
  this_worker->syscall_file = open_own_syscall_file();
  for (;; pause_us(100)) {
    void (*order)(void) = atomic_load(&this_worker->order);
    if (order) order(), atomic_store(&this_worker->order, NULL);
  }
  return NULL;
}

static inline void order(struct worker *worker, void (*order)(void)) {
  CHECK(!atomic_load(&worker->order));
  if (!worker->thread) CHECK(pthread_create(&worker->thread, NULL, worker_main, worker) == 0);
  atomic_store(&worker->order, order);
}

static inline void until_done(struct worker *worker) {
  while (atomic_load(&worker->order)) pause_us(100);
}

static inline int in_futex(int syscall_file) {
  char line[64] = {0};
  CHECK(pread(syscall_file, line, sizeof line - 1, 0) > 0);
  int number = atoi(line);
  return number == SYS_futex || number == 449 /* futex_waitv */;
}

/* Its wait has begun and it sleeps. */
static inline void until_blocked(struct worker *worker) {
  while (!atomic_load(&worker->waits) || !in_futex(worker->syscall_file)) {
    CHECK(atomic_load(&worker->order)); /* it did not wait at all */
    pause_us(100);
  }
  atomic_store(&worker->seen, now());
}
static inline void until_waits(struct worker *worker) { /* without sleeping: a spin lock */
  while (!atomic_load(&worker->waits)) pause_us(100);
}

/* ---- measured calls: each the only statement of a FRAME function that returns nothing ---- */

#define MEASURED(object, outcome, expected, primitive, ...)                             \
  do {                                                                                  \
    if (this_worker) atomic_store(&this_worker->waits, 1);                              \
    uint64_t begin_ = now();                                                            \
    long result_ = (long)primitive(__VA_ARGS__);                                        \
    uint64_t end_ = now();                                                              \
    if (this_worker) atomic_store(&this_worker->waits, 0);                              \
    if (result_ == -1 && (expected) < -1) result_ = -errno;                             \
    if (result_ != (expected)) say("%s: %s gave %ld\n", __func__, #primitive, result_); \
    CHECK(result_ == (expected));                                                       \
    uint64_t seen_ = this_worker ? atomic_load(&this_worker->seen) : 0;                 \
    journal_add(__func__, #primitive, (const void *)(uintptr_t)(object), begin_,        \
                seen_ < end_ ? seen_ : 0, end_, outcome);                               \
  } while (0)

#define RELEASED 'r'
#define GAVE_UP 'g'
#define NO_WAIT 'n'
#define MEASURED_RELEASE(object, primitive, ...) MEASURED(object, 0, 0, primitive, __VA_ARGS__)

/* The symbol versions that binaries from before 2003 ask for; their condition variable is a
 * pointer. */
#if defined __x86_64__
#define OLD_COND 1
extern int old_cond_wait(void *, pthread_mutex_t *);
extern int old_cond_timedwait(void *, pthread_mutex_t *, const struct timespec *);
extern int old_cond_signal(void *);
__asm__(".symver old_cond_wait, pthread_cond_wait@GLIBC_2.2.5");
__asm__(".symver old_cond_timedwait, pthread_cond_timedwait@GLIBC_2.2.5");
__asm__(".symver old_cond_signal, pthread_cond_signal@GLIBC_2.2.5");
#endif

#endif
