/* What one CPU-clock tick costs the program: a loop that looks at its own CPU clock (others' time
 * is not in it) sees how long it was away. tick_gap SECONDS DEPTH [empty]: SECONDS of CPU time,
 * DEPTH frames deep; empty: with a timer and a handler of its own that does nothing, the kernel's
 * share of any such profiler. Prints the median of the longest gaps, one for each of the kernel's
 * ticks, in nanoseconds, and how many. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FRAME __attribute__((noinline, noclone))
enum { GAPS_MAX = 1 << 20, SHORTEST = 1000 }; /* nanoseconds: a look at the clock takes some 200 */

static uint32_t gaps[GAPS_MAX];
static size_t count;
static volatile long ticks;

static inline uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}
static double cpu_seconds(void) { return (double)now() / 1e9; }

static FRAME void watch(double seconds) {
  double end = cpu_seconds() + seconds;
  while (cpu_seconds() < end) {
    uint64_t before = now();
    for (int i = 0; i < 10000; i++) {
      uint64_t after = now();
      if (after - before > SHORTEST && count < GAPS_MAX)
        gaps[count++] = after - before > UINT32_MAX ? UINT32_MAX : (uint32_t)(after - before);
      before = after;
    }
  }
}
static FRAME void deeper(int left, double seconds) {
  if (left > 0) deeper(left - 1, seconds);
  else watch(seconds);
  __asm__ volatile("");
}

static void empty(int number) {
  (void)number;
  ticks++;
}
static int descending(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  return a < b ? 1 : a > b ? -1 : 0;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  double seconds = atof(argv[1]);
  if (argc > 3) {
    struct sigaction action = {.sa_handler = empty, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
    event._sigev_un._tid = gettid();
    timer_t timer;
    struct itimerspec when = {{0, 1000000}, {0, 1000000}};
    if (sigaction(SIGPROF, &action, NULL) ||
        timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) ||
        timer_settime(timer, 0, &when, NULL))
      return 3;
  }
  puts("ready");
  fflush(stdout);
  getchar();
  struct timespec tick;
  clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
  double start = cpu_seconds();
  deeper(atoi(argv[2]), seconds);
  size_t expected = (size_t)((cpu_seconds() - start) * 1e9 / (double)tick.tv_nsec);
  qsort(gaps, count, sizeof *gaps, descending);
  if (expected > count) expected = count;
  printf("%u %zu %zu\n", expected ? gaps[expected / 2] : 0, expected, count);
  fflush(stdout);
  getchar();
  return 0;
}
