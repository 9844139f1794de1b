/* A peak: f allocates BLOCKS blocks of SIZE bytes, by THREADS threads at once, frees them, and g
 * keeps 8 MB. Prints `ready` with the peak behind it; then, for each line that is read, h allocates
 * and frees 16 MB. Argument 1: how many threads. */
#include <pthread.h>

#include "workload.h"

#define MB ((size_t)1 << 20)
enum { PEAK = 64, SIZE = 16 * 1024, KEPT = 8, THREADS_MAX = 16 };

static int threads;
static pthread_barrier_t all;

FRAME static void f(void **blocks, size_t count) {
  for (size_t i = 0; i < count; i++) blocks[i] = keep(malloc(SIZE));
}
FRAME static void g(void) {
  for (size_t i = 0; i < KEPT * MB / SIZE; i++) keep(malloc(SIZE));
}
FRAME static void h(void) {
  void *blocks[16];
  for (int i = 0; i < 16; i++) blocks[i] = keep(malloc(MB));
  for (int i = 0; i < 16; i++) free(blocks[i]);
}

static void *thread(void *unused) {
  void *blocks[PEAK * MB / SIZE];
  size_t count = PEAK * MB / SIZE / (size_t)threads;
  f(blocks, count);
  pthread_barrier_wait(&all);
  for (size_t i = 0; i < count; i++) free(blocks[i]);
  return unused;
}

int main(int argument_count, char **arguments) {
  threads = argument_count > 1 ? atoi(arguments[1]) : 1;
  CHECK(threads >= 1 && threads <= THREADS_MAX);
  CHECK(pthread_barrier_init(&all, NULL, (unsigned)threads) == 0);
  pthread_t ids[THREADS_MAX];
  for (int i = 0; i < threads; i++) CHECK(pthread_create(&ids[i], NULL, thread, NULL) == 0);
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  g();
  while (ready()) h();
  return 0;
}
