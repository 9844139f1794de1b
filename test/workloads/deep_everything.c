/* flags: -O1 -fno-optimize-sibling-calls
 * Recursions of 700 calls at whose bottom there is each thing that has a stack: allocations,
 * computing, waits, threads that are created, a thread that waits for ever. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>

#include "workload.h"

enum { DEPTH = 700 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static FRAME void recursion(int n, void (*bottom)(void)) {
  if (n == 1) bottom();
  else recursion(n - 1, bottom);
  __asm__ volatile("");
}

static FRAME void allocates(void) {
  free(keep(malloc(3000)));
  __asm__ volatile("");
}

static FRAME void spin(void) {
  for (volatile int i = 0; i < 3000000; i++) continue;
}

static FRAME void waits(void) {
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
}

static void *nothing(void *unused) { return unused; }

static FRAME void creates(void) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
}

static FRAME void sleeps(void) {
  pause();
  __asm__ volatile("");
}

static FRAME void *deep(void *bottom) {
  recursion(DEPTH, (void (*)(void))bottom);
  return NULL;
}

static void start(void (*bottom)(void), pthread_t *thread) {
  CHECK(pthread_create(thread, NULL, deep, (void *)bottom) == 0);
}

int main(void) {
  pthread_t waiting, sleeping;
  pthread_mutex_lock(&mutex);
  start(waits, &waiting);
  start(sleeps, &sleeping);
  /* glibc: somebody waits. Else there is no wait to be seen. */
  while (__atomic_load_n(&mutex.__data.__lock, __ATOMIC_RELAXED) != 2) sched_yield();
  ready();
  pthread_mutex_unlock(&mutex);
  CHECK(pthread_join(waiting, NULL) == 0);
  deep((void *)creates);
  struct pollfd input = {.fd = 0, .events = POLLIN};
  while (poll(&input, 1, 0) == 0) {
    deep((void *)allocates);
    deep((void *)spin);
  }
  return 0;
}
