/* Three threads named first wait from the start. For the first line that is read three named second
 * come and wait; for the next these end, and at once three named third take their place, so that
 * there are as many. */
#include <pthread.h>

#include "workload.h"

enum { COUNT = 3 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int ended; /* generations up to this one are to end */
static pthread_barrier_t there;

static void *waits(void *argument) {
  int generation = (int)(intptr_t)argument;
  static const char *const names[] = {"", "first", "second", "third"};
  pthread_setname_np(pthread_self(), names[generation]);
  pthread_barrier_wait(&there);
  pthread_mutex_lock(&mutex);
  while (ended < generation) pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
  return NULL;
}

static void start(pthread_t *threads, int generation) {
  for (int i = 0; i < COUNT; i++)
    CHECK(pthread_create(&threads[i], NULL, waits, (void *)(intptr_t)generation) == 0);
  pthread_barrier_wait(&there);
}

int main(void) {
  pthread_t first[COUNT], second[COUNT], third[COUNT];
  CHECK(pthread_barrier_init(&there, NULL, COUNT + 1) == 0);
  start(first, 1);
  ready();
  start(second, 2);
  ready();
  pthread_mutex_lock(&mutex);
  ended = 2; /* the first, too */
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
  for (int i = 0; i < COUNT; i++) pthread_join(first[i], NULL);
  for (int i = 0; i < COUNT; i++) pthread_join(second[i], NULL);
  start(third, 3);
  pthread_t fourth[COUNT];
  start(fourth, 3); /* as many as there were */
  while (ready()) {}
  return 0;
}
