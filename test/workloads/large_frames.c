/* Threads that compute below a function whose frame is larger than what the kernel copies of a
 * stack (64 KB), each called by an outermost function of its own: `THREADS seconds`. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LARGE = 300000 };

static volatile int stop;
static volatile unsigned long sums[4];

#define LEAF(n)                                          \
  __attribute__((noinline)) static void leaf_##n(void) { \
    while (!stop) sums[n] += sums[n] * 7 + 1;            \
  }
LEAF(0)
LEAF(1)
LEAF(2)
LEAF(3)

__attribute__((noinline)) static void large(void (*leaf)(void)) {
  volatile char room[LARGE];
  room[0] = 1;
  room[LARGE - 1] = 1;
  leaf();
  room[1] = room[0];
}

#define OUTER(n)                                                   \
  __attribute__((noinline)) static void *outer_##n(void *unused) { \
    large(leaf_##n);                                               \
    sums[n]++;                                                     \
    return unused;                                                 \
  }
OUTER(0)
OUTER(1)
OUTER(2)
OUTER(3)

int main(int argc, char **argv) {
  static void *(*const outer[4])(void *) = {outer_0, outer_1, outer_2, outer_3};
  pthread_t threads[4];
  int count = argc > 1 ? atoi(argv[1]) : 1;
  for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, outer[i], NULL);
  puts("ready");
  fflush(stdout);
  getchar();
  stop = 1;
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  return 0;
}
