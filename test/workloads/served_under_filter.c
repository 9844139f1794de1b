/* Runs, waits and takes locks for whoever asks, until its stdin ends; exits with 7. Makes no system
 * call but futex, read, write and those of a start. */
#include <pthread.h>

#include "workload.h"

static volatile int ends;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static FRAME void *burns(void *unused) {
  while (!ends) {
    pthread_mutex_lock(&mutex);
    free(keep(malloc(1000)));
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < 10000; i++) __asm__ volatile("");
  }
  return unused;
}

int main(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, burns, NULL) == 0);
  ready();
  ends = 1;
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  return 7;
}
