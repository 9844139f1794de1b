/* A program whose numbers are known: when it reads a line it allocates 64 blocks of 1 MiB, one each
 * 5 ms, while THREADS threads more are there, of which one computes for 500 ms; then these end. It
 * says: from when on the heap had all blocks, until when the threads were there (CLOCK_MONOTONIC),
 * and the CPU time that the process used from the line on. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "workload.h"

enum { BLOCKS = 64, BLOCK = 1 << 20, THREADS = 5, BURN = 500000000 };

static void *blocks[BLOCKS];
static pthread_barrier_t over;

static long long clock_now(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void *live(void *burns) {
  long long end = clock_now(CLOCK_THREAD_CPUTIME_ID) + BURN;
  while (burns && clock_now(CLOCK_THREAD_CPUTIME_ID) < end) {}
  pthread_barrier_wait(&over);
  return burns;
}

static void do_it(void) {
  pthread_t threads[THREADS];
  pthread_barrier_init(&over, NULL, THREADS + 1);
  for (long i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, live, (void *)(i == 0 ? &over : NULL)) == 0);
  for (int i = 0; i < BLOCKS; i++) {
    blocks[i] = malloc(BLOCK);
    CHECK(blocks[i] != NULL);
    usleep(5000);
  }
  long long all = clock_now(CLOCK_MONOTONIC);
  usleep(300000);
  long long until = clock_now(CLOCK_MONOTONIC);
  pthread_barrier_wait(&over);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  say("%lld %lld %lld\n", all, until, clock_now(CLOCK_PROCESS_CPUTIME_ID));
}

int main(void) {
  while (ready()) do_it();
  return 0;
}
