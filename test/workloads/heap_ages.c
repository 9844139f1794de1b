/* Blocks of a known age and thread. A thread named keeper allocates in f, and waits; two seconds
 * later the first thread allocates in g. Prints when by CLOCK_MONOTONIC, and the tids, and `ready`;
 * then, for each line that is read, h allocates and frees, and k keeps. */
#include <pthread.h>
#include <time.h>

#include "workload.h"

enum { SIZE = 64 * 1024, OF_F = 40, OF_G = 24, OF_H = 100, OF_K = 8 };

static pthread_barrier_t told;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

FRAME static void f(void) {
  for (int i = 0; i < OF_F; i++) keep(malloc(SIZE));
}
FRAME static void g(void) {
  for (int i = 0; i < OF_G; i++) keep(malloc(SIZE));
}
FRAME static void h(void) {
  for (int i = 0; i < OF_H; i++) free(keep(malloc(SIZE)));
}
FRAME static void k(void) {
  for (int i = 0; i < OF_K; i++) keep(malloc(SIZE));
}

static void *keeper(void *unused) {
  pthread_setname_np(pthread_self(), "keeper");
  f();
  say("f %.6f %ld\n", now(), syscall(SYS_gettid));
  pthread_barrier_wait(&told);
  pthread_barrier_wait(&told); /* never */
  return unused;
}

int main(void) {
  pthread_t id;
  CHECK(pthread_barrier_init(&told, NULL, 2) == 0 && pthread_create(&id, NULL, keeper, NULL) == 0);
  pthread_barrier_wait(&told);
  const struct timespec gap = {.tv_sec = 2};
  nanosleep(&gap, NULL);
  say("g %.6f %d\n", now(), getpid());
  g();
  while (ready()) {
    h();
    k();
  }
  return 0;
}
