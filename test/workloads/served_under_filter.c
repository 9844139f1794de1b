/* Runs, waits and takes locks for whoever asks, until it may go on; exits with 7. Before and after,
 * it makes a call for which the agent's threads go away. */
#include <pthread.h>
#include <sys/prctl.h>

#include "workload.h"

static volatile int ends;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static FRAME void *burns(void *locks) {
  while (!ends) {
    if (locks) pthread_mutex_lock(&mutex);
    free(keep(malloc(1000)));
    if (locks) pthread_mutex_unlock(&mutex);
    for (int i = 0; i < 10000; i++) __asm__ volatile("");
  }
  return locks;
}

int main(void) {
  pthread_t threads[3]; /* two that wait for each other, and one that runs */
  CHECK(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0);
  for (int i = 0; i < 3; i++)
    CHECK(pthread_create(&threads[i], NULL, burns, i < 2 ? &mutex : NULL) == 0);
  ready();
  CHECK(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) == 0);
  ends = 1;
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  return 7;
}
