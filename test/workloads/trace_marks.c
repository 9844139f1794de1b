/* trace_marks [-]: a program that marks what it does, by include/pprof_trace.h alone, and knows
 * when. Two threads, rounds of it until stdin ends; what each says is: its tid, the mark's name,
 * the moments before and after the call by CLOCK_MONOTONIC ("begin NAME", "end NAME" for a region):
 *   begin outer, mark here, begin inner (2 ms of computing), end, begin "quo\"te" (sleeps 1 ms),
 *   end, end of outer; an end too many; a name of 200 bytes.
 * With an argument: three rounds, and nothing is said but whether there is anybody to be told. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "include/pprof_trace.h"

static volatile int stopping;
static int is_silent;

static int64_t clock_now(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}
#define NOW() clock_now(CLOCK_MONOTONIC)

static void say(const char *what, int64_t from, int64_t to) {
  char line[400];
  int size = snprintf(line, sizeof line, "%ld %lld %lld %s\n", (long)syscall(SYS_gettid),
                      (long long)from, (long long)to, what);
  if (!is_silent && write(1, line, (size_t)size) != size) _exit(1);
}

#define DO(what, call)      \
  do {                      \
    int64_t from = NOW();   \
    call;                   \
    say(what, from, NOW()); \
  } while (0)

__attribute__((noinline)) void compute_a_bit(void) {
  int64_t end = clock_now(CLOCK_THREAD_CPUTIME_ID) + 2000000;
  while (clock_now(CLOCK_THREAD_CPUTIME_ID) < end) {}
}

static char long_name[201];

__attribute__((noinline)) void mark_a_round(void) {
  DO("begin outer", pprof_trace_begin("outer"));
  DO("mark here", pprof_trace_mark("here"));
  DO("begin inner", pprof_trace_begin("inner"));
  compute_a_bit();
  DO("end inner", pprof_trace_end());
  DO("begin quo\"te", pprof_trace_begin("quo\"te"));
  usleep(1000);
  DO("end quo\"te", pprof_trace_end());
  DO("end outer", pprof_trace_end());
  DO("end", pprof_trace_end());
  DO("mark long", pprof_trace_mark(long_name));
}

static void *run(void *unused) {
  for (int i = 0; !stopping && (!is_silent || i < 3); i++) {
    mark_a_round();
    usleep(1000);
  }
  return unused;
}

int main(int count, char **words) {
  pthread_t threads[2];
  char byte;
  (void)words;
  is_silent = count > 1;
  memset(long_name, 'x', sizeof long_name - 1);
  if (is_silent) printf("%s\n", (pprof_trace_mark) ? "told" : "nobody");
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, run, NULL);
  while (!is_silent && read(0, &byte, 1) > 0) {}
  stopping = 1;
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  return 0;
}
