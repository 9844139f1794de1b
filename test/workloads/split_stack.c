/* Built with -fsplit-stack: deep recursion in threads whose stacks grow piece by piece,
 * for a second. */
#include <pthread.h>
#include <time.h>

#include "workload.h"

enum { THREADS = 3, SECONDS = 1, REPEATS = 2, DEPTH = 500, FRAME_BYTES = 2000 };

static FRAME int deeper(int n) {
  char block[FRAME_BYTES];
  memset(block, n, sizeof block);
  free(keep(malloc(10000)));
  return n == 0 ? block[5] : deeper(n - 1) + block[7] % 2;
}

static void *descend(void *argument) {
  long sum = 0;
  (void)argument;
  for (int i = 0; i < REPEATS; i++) sum += deeper(DEPTH);
  return (void *)sum;
}

int main(void) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 65536);
  ready();
  struct timespec now, end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += SECONDS;
  long sum; /* of a turn */
  do {
    sum = 0;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
      CHECK(pthread_create(&threads[i], &attributes, descend, NULL) == 0);
    for (int i = 0; i < THREADS; i++) {
      void *result;
      CHECK(pthread_join(threads[i], &result) == 0);
      sum += (long)result;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
  say("%ld\n", sum);
  ready();
  return 0;
}
