/* Four functions that burn 10, 20, 30 and 40 % of the CPU time, on each of THREADS threads, for
 * SECONDS of wall time. cpu_shares SECONDS THREADS LIFE DEPTH PIECES LIFE 0: the threads live as
 * long as the program; else each lives for so many milliseconds of its CPU time and the next takes
 * its place. DEPTH: frames between the thread's entry and the four. PIECES 0: by the thread's CPU
 * clock, as the truth is measured; else that many pieces of work, for comparing the CPU time that
 * equal work takes. Prints the true share of each (its own thread CPU time), the threads' CPU time,
 * and getrusage's of the process. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { FUNCTIONS = 4 };
#define FRAME __attribute__((noinline, noclone, no_icf))

static uint64_t nanoseconds(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static _Atomic uint64_t spent[FUNCTIONS], total_life;
static uint64_t end;
static int depth;
static long life, pieces;
static volatile unsigned sink;

/* About 30 us in the function itself: no call, no system call. */
#define BURN(name)                                                                            \
  static FRAME void name(void) {                                                              \
    unsigned x = sink;                                                                        \
    for (int i = 0; i < 40000; i++) x = x * 1664525u + 1013904223u + (unsigned)sizeof(#name); \
    sink = x;                                                                                 \
  }
BURN(burn_10)
BURN(burn_20)
BURN(burn_30)
BURN(burn_40)
static void (*const functions[FUNCTIONS])(void) = {burn_10, burn_20, burn_30, burn_40};

/* Pieces in a drawn order, each function as often as its share says: no rhythm that a sampler could
 * fall in with. */
static FRAME void work(unsigned *seed, uint64_t until, long count, uint64_t own[FUNCTIONS]) {
  uint64_t before = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
  for (long done = 0; count ? done < count : before < until; done++) {
    *seed = *seed * 1103515245u + 12345u;
    unsigned draw = (*seed >> 16) % 10;
    int which = draw < 1 ? 0 : draw < 3 ? 1 : draw < 6 ? 2 : 3;
    functions[which]();
    if (count) continue;
    uint64_t now = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    own[which] += now - before;
    before = now;
  }
}
static FRAME void deeper(int left, unsigned *seed, uint64_t until, long count,
                         uint64_t own[FUNCTIONS]) {
  if (left > 0) deeper(left - 1, seed, until, count, own);
  else work(seed, until, count, own);
  __asm__ volatile("");
}

static void *thread_main(void *number) {
  unsigned seed = (unsigned)(uintptr_t)number * 2654435761u + 7;
  uint64_t own[FUNCTIONS] = {0};
  if (pieces) {
    deeper(depth, &seed, 0, pieces, own);
  } else if (life) {
    deeper(depth, &seed, (uint64_t)life * 1000000, 0, own);
  } else {
    while (nanoseconds(CLOCK_MONOTONIC) < end)
      deeper(depth, &seed, nanoseconds(CLOCK_THREAD_CPUTIME_ID) + 20000000, 0, own);
  }
  for (int i = 0; i < FUNCTIONS; i++) spent[i] += own[i];
  total_life += nanoseconds(CLOCK_THREAD_CPUTIME_ID);
  return NULL;
}

static void *generations(void *number) { /* of short lives, one after the other */
  uintptr_t next = (uintptr_t)number << 20;
  do {
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_main, (void *)next++) != 0) abort();
    pthread_join(thread, NULL);
  } while (nanoseconds(CLOCK_MONOTONIC) < end);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  int threads = atoi(argv[2]);
  life = atol(argv[3]), depth = atoi(argv[4]), pieces = atol(argv[5]);
  puts("ready"); /* the profile begins now; the work, a line later */
  fflush(stdout);
  getchar();
  end = nanoseconds(CLOCK_MONOTONIC) + (uint64_t)(atof(argv[1]) * 1e9);
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  pthread_t running[64];
  for (intptr_t i = 0; i < threads && i < 64; i++)
    if (pthread_create(&running[i], NULL, life ? generations : thread_main, (void *)(i + 1)) != 0)
      return 3;
  for (int i = 0; i < threads && i < 64; i++) pthread_join(running[i], NULL);
  getrusage(RUSAGE_SELF, &after);
  double cpu = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec -
                        before.ru_stime.tv_sec) +
               1e-6 * (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec +
                               after.ru_stime.tv_usec - before.ru_stime.tv_usec);
  printf("%llu %llu %llu %llu %.6f %.6f\n", (unsigned long long)spent[0],
         (unsigned long long)spent[1], (unsigned long long)spent[2], (unsigned long long)spent[3],
         (double)total_life / 1e9, cpu);
  fflush(stdout);
  getchar(); /* the profile ends before the process does */
  return 0;
}
