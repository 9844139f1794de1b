/* Built with -fsplit-stack: deep recursion in threads whose stacks grow piece by piece. */
#include <pthread.h>

#include "workload.h"

enum { THREADS = 3, TURNS = 12, REPEATS = 20, DEPTH = 2000, FRAME_BYTES = 2000 };

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
  long sum = 0;
  for (int turn = 0; turn < TURNS; turn++) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
      CHECK(pthread_create(&threads[i], &attributes, descend, NULL) == 0);
    for (int i = 0; i < THREADS; i++) {
      void *result;
      CHECK(pthread_join(threads[i], &result) == 0);
      sum += (long)result;
    }
  }
  say("%ld\n", sum);
  ready();
  return 0;
}
