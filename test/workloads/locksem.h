/* What the locksem_* programs share: each calls every waiting and releasing function in every
 * state, and prints what came of it. The output with the agent must be that without it, byte for
 * byte; so nothing that differs from run to run is printed (thread ids, addresses, times).
 */
#ifndef LOCKSEM_H
#define LOCKSEM_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>

#include "workload.h"

#ifdef __cplusplus
#include <atomic>
#define ATOMIC(type) std::atomic<type>
#else
#include <stdatomic.h>
#define ATOMIC(type) _Atomic(type)
#endif

enum { CANARY = 4321 };

/* ---- results ---- */

static __attribute__((unused)) const char *name_of(long error) {
  static __thread char texts[4][24];
  static __thread unsigned next;
  if (error == CANARY) return "-";
  const char *name = error >= 0 && error < 4096 ? strerrorname_np((int)error) : NULL;
  if (name && error) return name;
  char *text = texts[next++ % 4];
  snprintf(text, sizeof texts[0], "%ld", error);
  return text;
}

/* One call, errno poisoned before it. */
#define CALL(...)                                                                            \
  __extension__({                                                                            \
    errno = CANARY;                                                                          \
    long call_result = (long)(__VA_ARGS__);                                                  \
    int call_errno = errno;                                                                  \
    say("  %-60s = %s errno %s\n", #__VA_ARGS__, name_of(call_result), name_of(call_errno)); \
    call_result;                                                                             \
  })

/* The same for a call that returns a number. */
#define NUMBER(...)                                                                  \
  __extension__({                                                                    \
    errno = CANARY;                                                                  \
    long call_result = (long)(__VA_ARGS__);                                          \
    int call_errno = errno;                                                          \
    say("  %-60s = %ld errno %s\n", #__VA_ARGS__, call_result, name_of(call_errno)); \
    call_result;                                                                     \
  })

/* ---- times ---- */

static __attribute__((unused)) struct timespec time_of(clockid_t clock, long milliseconds) {
  struct timespec time;
  clock_gettime(clock, &time);
  long long ns = time.tv_nsec + milliseconds * 1000000ll;
  time.tv_sec += (time_t)(ns / 1000000000);
  time.tv_nsec = (long)(ns % 1000000000);
  if (time.tv_nsec < 0) time.tv_nsec += 1000000000, time.tv_sec--;
  return time;
}

/* The deadlines of the tables: X(name, milliseconds from now, ns to write over or -2) */
enum when { PAST, LONG_PAST, SOON, BAD_NEGATIVE, BAD_BILLION, WHENS };
static const char *const when_names[WHENS]
    __attribute__((unused)) = {"past", "before 1970", "in 10 ms", "ns -1", "ns 1e9"};
static __attribute__((unused)) const struct timespec *deadline(enum when when, clockid_t clock) {
  static __thread struct timespec time;
  time = time_of(clock == CLOCK_MONOTONIC ? CLOCK_MONOTONIC : CLOCK_REALTIME,
                 when == PAST ? -100 : 10);
  if (when == LONG_PAST) time.tv_sec = -5;
  if (when == BAD_NEGATIVE) time.tv_nsec = -1;
  if (when == BAD_BILLION) time.tv_nsec = 1000000000;
  return &time;
}
static const clockid_t clocks[] __attribute__((unused)) = {
    CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_BOOTTIME, 77, -1};
static const char *const clock_names[]
    __attribute__((unused)) = {"REALTIME", "MONOTONIC", "CPUTIME", "BOOTTIME", "77", "-1"};
enum { CLOCKS = sizeof clocks / sizeof *clocks };

/* ---- other threads ---- */

static pid_t known_threads[64]; /* for dump */
static ATOMIC(unsigned) known_count;
static __attribute__((unused)) pid_t own_id(void) {
  static __thread pid_t id;
  if (!id) {
    id = (pid_t)syscall(SYS_gettid);
    unsigned at = known_count++;
    known_threads[at < 64 ? at : 1 + at % 63] = id; /* the first is the main thread */
  }
  return id;
}

static void pause_briefly(void) {
  struct timespec time = {0, 200000};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

/* Until that thread sleeps in the kernel, for 20 s at most: it has then been found sleeping twice
 * with no switch in between. */
static __attribute__((unused)) void wait_until_asleep(pid_t process, pid_t thread) {
  char path[64], text[2048];
  long switches_before = -1;
  snprintf(path, sizeof path, "/proc/%d/task/%d/status", process, thread);
  for (int round = 0; round < 100000; round++) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return; /* it has ended */
    ssize_t n = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    if (n <= 0) return;
    text[n] = 0;
    const char *state = strstr(text, "\nState:\t"),
               *switches = strstr(text, "\nvoluntary_ctxt_switches:\t");
    long count = switches ? atol(switches + strlen("\nvoluntary_ctxt_switches:\t")) : -1;
    if (state && state[strlen("\nState:\t")] == 'S' && count == switches_before) return;
    switches_before = count;
    pause_briefly();
  }
  say("a thread never blocked\n");
}

static __attribute__((unused)) pthread_t start(void *(*entry)(void *), void *argument) {
  pthread_t thread;
  int error = pthread_create(&thread, NULL, entry, argument);
  if (error) say("pthread_create: error %d\n", error);
  CHECK(error == 0);
  return thread;
}

static __attribute__((unused)) void wait_until_blocked(pid_t thread) {
  wait_until_asleep(getpid(), thread);
}

/* ---- objects ---- */

/* Every word of an object, but that thread ids are written as T, and as T+ with the kernel's bits
 * for waiters; pointers from `pointers` on as p. */
static __attribute__((unused)) void dump(const char *what, const void *object, size_t size,
                                         size_t pointers) {
  char line[400];
  int length = snprintf(line, sizeof line, "    %s:", what);
  for (size_t at = 0; at < size; at += 4) {
    uint32_t word;
    memcpy(&word, (const char *)object + at, 4);
    if (at >= pointers) {
      uint64_t pointer;
      memcpy(&pointer, (const char *)object + at, 8);
      at += 4;
      length += snprintf(line + length, sizeof line - (size_t)length, " %s", pointer ? "p" : "0");
      continue;
    }
    /* A mutex's kind is as large as the thread ids of a fresh container. */
    int is_kind = what[0] == 'm' && at == offsetof(pthread_mutex_t, __data.__kind), is_thread = 0;
    for (unsigned i = 0; i < known_count && i < 64 && !is_kind; i++)
      is_thread |= known_threads[i] && (pid_t)(word & 0x3fffffff) == known_threads[i];
    if (is_thread)
      length +=
          snprintf(line + length, sizeof line - (size_t)length, " T%s", word >> 30 ? "+" : "");
    else length += snprintf(line + length, sizeof line - (size_t)length, " %x", word);
  }
  say("%s\n", line);
}

#endif
