/* flags: -O1 -fno-optimize-sibling-calls */
/* Burns CPU time below 100 frames of 512 bytes each: more than fits into a sample's first copy. In
 * a thread that renames itself half way. */
#define _GNU_SOURCE
#include <pthread.h>
#include <time.h>

#include "workload.h"

static volatile long sink;

static FRAME void burn(double seconds) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  double end = (double)t.tv_sec + (double)t.tv_nsec * 1e-9 + seconds;
  do {
    for (int i = 0; i < 10000; i++) sink += i;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  } while ((double)t.tv_sec + (double)t.tv_nsec * 1e-9 < end);
}

static FRAME void deeper(int depth) {
  volatile char room[512];
  room[0] = 1;
  if (depth > 0) deeper(depth - 1);
  else burn(1);
  sink += room[0];
}

static FRAME void *run(void *argument) {
  pthread_setname_np(pthread_self(), "first name");
  deeper(100);
  pthread_setname_np(pthread_self(), "second name");
  deeper(100);
  return argument;
}

int main(void) {
  pthread_t thread;
  if (!ready()) return 1;
  pthread_create(&thread, NULL, run, NULL);
  pthread_join(thread, NULL);
  ready();
  return 0;
}
