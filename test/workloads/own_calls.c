/* flags: -O1
 * Calls of what the agent wraps, each with work of its own inside the wrapper: sampled allocations,
 * contended locks, system calls. Until a line comes. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>

#include "workload.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int stop;

static FRAME void allocate(void) {
  for (int i = 0; i < 200; i++) free(keep(malloc(100)));
  free(keep(realloc(keep(calloc(10, 10)), 1000)));
}

static FRAME void lock(void) {
  for (int i = 0; i < 100; i++) {
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
  }
}

static FRAME void call(void) {
  for (int i = 0; i < 200; i++) syscall(SYS_getppid);
}

static void *run(void *unused) {
  (void)unused;
  while (!stop) {
    allocate();
    lock();
    call();
  }
  return NULL;
}

int main(void) {
  pthread_t threads[2];
  ready();
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
  struct pollfd input = {.fd = 0, .events = POLLIN};
  while (poll(&input, 1, 100) != 1) {}
  stop = 1;
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  CHECK(wait_for_line());
  ready();
  return 0;
}
