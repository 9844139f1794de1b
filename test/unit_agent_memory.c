/* links: test/stub_own_mappings.c */
/* sanitizer: thread */
/* agent_memory.h: blocks keep their bytes, do not overlap, and everything goes back to the kernel;
 * from several threads. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/runtime/agent_memory.h"

enum { THREADS = 4, SLOTS = 300, ROUNDS = 3000 };

struct worker {
  uint64_t random;
  int failures;
};

static uint64_t next_random(struct worker *worker) {
  worker->random ^= worker->random << 13;
  worker->random ^= worker->random >> 7;
  worker->random ^= worker->random << 17;
  return worker->random;
}

static size_t random_size(struct worker *worker) {
  unsigned bits = (unsigned)(next_random(worker) % 18);
  return (size_t)(next_random(worker) % ((UINT64_C(1) << bits) + 1));
}

static int holds(const unsigned char *block, size_t size, unsigned char value) {
  for (size_t i = 0; i < size; i++) {
    if (block[i] != value) return 0;
  }
  return 1;
}

static void *work(void *argument) {
  struct worker *worker = argument;
  struct {
    unsigned char *block;
    size_t size;
    unsigned char value;
  } slots[SLOTS] = {0};
  for (int round = 0; round < ROUNDS; round++) {
    size_t at = next_random(worker) % SLOTS, size = random_size(worker);
    if (slots[at].block && !holds(slots[at].block, slots[at].size, slots[at].value))
      worker->failures++;
    switch (next_random(worker) % 3) {
      case 0:
        agent_free(slots[at].block);
        slots[at].block = agent_malloc(size);
        break;
      case 1:
        agent_free(slots[at].block);
        slots[at].block = agent_calloc(1, size);
        if (!holds(slots[at].block, size, 0)) worker->failures++;
        break;
      default: {
        size_t kept = slots[at].block && slots[at].size < size ? slots[at].size : size;
        unsigned char *block = agent_realloc(slots[at].block, size);
        if (slots[at].block && !holds(block, kept, slots[at].value)) worker->failures++;
        slots[at].block = block;
      }
    }
    if ((uintptr_t)slots[at].block % 16) worker->failures++;
    slots[at].size = size;
    slots[at].value = (unsigned char)next_random(worker);
    memset(slots[at].block, slots[at].value, size);
  }
  for (size_t at = 0; at < SLOTS; at++) agent_free(slots[at].block);
  return NULL;
}

int main(void) {
  pthread_t threads[THREADS];
  struct worker workers[THREADS];
  int failures = 0;
  for (int i = 0; i < THREADS; i++) {
    workers[i] = (struct worker){.random = 88172645463325252u + (uint64_t)i * 7919};
    pthread_create(&threads[i], NULL, work, &workers[i]);
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    failures += workers[i].failures;
  }
  if (failures) printf("%d blocks had lost their bytes\n", failures);
  /* At most one empty region stays for each size class. */
  if (agent_memory_bytes() > 40 * 64 * 1024) {
    printf("%llu bytes were not given back\n", (unsigned long long)agent_memory_bytes());
    failures++;
  }
  if (agent_malloc(SIZE_MAX - 100) || agent_calloc(SIZE_MAX / 2, 3)) {
    printf("an impossible size was granted\n");
    failures++;
  }
  return failures != 0;
}
