/* As many threads as the argument says wait for one mutex, which the first one has; when it is told
 * to go on, it gives the mutex back and all have it in turn. */
#include <pthread.h>
#include <stdlib.h>

#include "workload.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int had;

static void *have_it(void *unused) {
  pthread_mutex_lock(&mutex);
  had++;
  pthread_mutex_unlock(&mutex);
  return unused;
}

int main(int count, char **arguments) {
  enum { STACK = 65536 };
  int threads = count > 1 ? atoi(arguments[1]) : 1;
  pthread_t *all = calloc((size_t)threads, sizeof *all);
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, STACK);
  ready();
  pthread_mutex_lock(&mutex);
  for (int i = 0; i < threads; i++)
    if (pthread_create(&all[i], &small, have_it, NULL) != 0) return 1;
  ready();
  pthread_mutex_unlock(&mutex);
  for (int i = 0; i < threads; i++) pthread_join(all[i], NULL);
  free(all);
  return had != threads;
}
