/* Holds and churns exactly known bytes per function, from 1 B x hundred thousands to 32 MB x few.
 * Prints, per function and size, how many objects were allocated and how many of them are still
 * held: `bucket FUNCTION SIZE ALLOCATED HELD`.
 *
 * Usage: accuracy full|tiny    tiny: small objects only, for low rates
 */
#include <pthread.h>

#include "workload.h"

enum { MAX_BUCKETS = 64 };

static struct bucket {
  const char *function;
  uint64_t size, allocated, held;
} buckets[MAX_BUCKETS];
static int bucket_count;
static pthread_mutex_t bucket_lock = PTHREAD_MUTEX_INITIALIZER;

static void account(const char *function, uint64_t size, uint64_t allocated, uint64_t held) {
  pthread_mutex_lock(&bucket_lock);
  int i = 0;
  while (i < bucket_count &&
         (strcmp(buckets[i].function, function) != 0 || buckets[i].size != size))
    i++;
  CHECK(i < MAX_BUCKETS);
  if (i == bucket_count)
    buckets[bucket_count++] = (struct bucket){.function = function, .size = size};
  buckets[i].allocated += allocated;
  buckets[i].held += held;
  pthread_mutex_unlock(&bucket_lock);
}

/* The function that calls malloc must be the leaf, so each has its own loop. */
#define HOLDER(name, size, count)                                 \
  static FRAME void name(void) {                                  \
    for (int i = 0; i < (count); i++) keep(malloc(size));         \
    account(#name, (size), (uint64_t)(count), (uint64_t)(count)); \
  }

HOLDER(hold_1, 1, 400000)
HOLDER(hold_3, 3, 400000)
HOLDER(hold_16, 16, 1500000)
HOLDER(hold_100, 100, 200000)
HOLDER(hold_1000, 1000, 40000)
HOLDER(hold_20000, 20000, 3000)
HOLDER(hold_300000, 300000, 200)
HOLDER(hold_32M, 32 << 20, 6)

/* Small and large objects on one stack: scaling must be per (stack, size). */
static FRAME void same_stack(void) {
  static const size_t sizes[] = {24, 5000, 1 << 20};
  static const int counts[] = {400000, 4000, 24};
  int made[3] = {0, 0, 0};
  for (int i = 0; i < counts[0]; i++)
    for (int kind = 0; kind < 3; kind++)
      if ((int64_t)made[kind] * counts[0] <= (int64_t)i * counts[kind]) {
        if (made[kind] == counts[kind]) continue;
        keep(malloc(sizes[kind]));
        made[kind]++;
      }
  for (int kind = 0; kind < 3; kind++)
    account("same_stack", sizes[kind], (uint64_t)made[kind], (uint64_t)made[kind]);
}

/* Alternating allocations and frees; a tenth is held. */
static FRAME void churn(void) {
  enum { COUNT = 600000, SIZE = 200 };
  for (int i = 0; i < COUNT; i++) {
    void *p = keep(malloc(SIZE));
    if (i % 10) free(p);
  }
  account("churn", SIZE, COUNT, COUNT / 10);
}

/* calloc and a window of live blocks that are freed first in, first out. */
static FRAME void window(void) {
  enum { COUNT = 100000, SIZE = 48 * 15, LIVE = 2000 };
  static void *live[LIVE];
  for (int i = 0; i < COUNT; i++) {
    free(live[i % LIVE]);
    live[i % LIVE] = keep(calloc(48, 15));
  }
  account("window", SIZE, COUNT, LIVE);
}

/* Growing step by step: every step is an allocation of the new size and a free of the old. */
static FRAME void grow(void) {
  enum { BLOCKS = 300, STEPS = 8 };
  static void *blocks[BLOCKS];
  for (int step = 1; step <= STEPS; step++) {
    for (int i = 0; i < BLOCKS; i++)
      CHECK(blocks[i] = keep(realloc(blocks[i], (size_t)step * 8000)));
    account("grow", (uint64_t)step * 8000, BLOCKS, step == STEPS ? BLOCKS : 0);
  }
}

/* Two producers, two consumers: freed by a thread that did not allocate it. */
enum { HANDED = 60000, HANDED_SIZE = 512 };
static void *_Atomic handed[2][HANDED];

static FRAME void handed_over(int lane) {
  for (int i = 0; i < HANDED; i++) handed[lane][i] = keep(malloc(HANDED_SIZE));
  account("handed_over", HANDED_SIZE, HANDED, HANDED / 4);
}

static void *producer(void *lane) {
  handed_over((int)(intptr_t)lane);
  return NULL;
}

static void *consumer(void *lane) {
  for (int i = 0; i < HANDED; i++) {
    void *p;
    while (!(p = handed[(intptr_t)lane][i])) sched_yield();
    if (i % 4) free(p);
  }
  return NULL;
}

static void cross_thread(void) {
  pthread_t threads[4];
  for (intptr_t i = 0; i < 4; i++)
    CHECK(pthread_create(&threads[i], NULL, i < 2 ? producer : consumer, (void *)(i % 2)) == 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
  hold_1();
  hold_3();
  hold_16();
  hold_100();
  churn();
  cross_thread();
  if (argc > 1 && strcmp(argv[1], "full") == 0) {
    hold_1000();
    hold_20000();
    hold_300000();
    hold_32M();
    same_stack();
    window();
    grow();
  }
  for (int i = 0; i < bucket_count; i++)
    say("bucket %s %llu %llu %llu\n", buckets[i].function, (unsigned long long)buckets[i].size,
        (unsigned long long)buckets[i].allocated, (unsigned long long)buckets[i].held);
  ready();
  return 0;
}
