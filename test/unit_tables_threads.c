/* sanitizer: thread */
/* Eight threads on the same stacks, buckets and lines, blocks freed by another thread than the one
 * that allocated them, and a reader all the while: no data race, no lost count, never more frees
 * than allocs, no live block without its bucket and birth. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "shim/base/counters.h"
#include "shim/allocation/heap_table.h"
#include "shim/allocation/live_table.h"
#include "shim/next/monotonic_clock.h"
#include "shim/stacks/stack_table.h"

struct shim_counters shim_counters;

enum { THREADS = 8, ROUNDS = 20000, STACKS = 50, MAILBOXES = 64 };
static _Atomic uintptr_t mailbox[MAILBOXES];
static _Atomic uint64_t freed;
static _Atomic int failures, done;

static void *allocate(void *argument) {
  uintptr_t self = (uintptr_t)argument;
  for (uintptr_t i = 0; i < ROUNDS; i++) {
    uint64_t frames[3] = {0x1000 + i % STACKS * 16, 0x2000, 0x3000};
    uint32_t stack = stack_table_intern(frames, 3, 1);
    uintptr_t pointer = (self * ROUNDS + i + 1) * 32; /* nobody else has this one */
    if (!stack || !heap_record_alloc(pointer, 8 + i % 4, 1, stack)) atomic_fetch_add(&failures, 1);
    if (i % 3 == 0) {
      uint64_t detached = heap_record_detach(pointer);
      if (!detached) atomic_fetch_add(&failures, 1);
      else heap_record_reattach(detached, pointer);
    }
    uintptr_t other =
        atomic_exchange_explicit(&mailbox[(self + i) % MAILBOXES], pointer, memory_order_acq_rel);
    if (!other) continue;
    if (!heap_record_free(other)) atomic_fetch_add(&failures, 1);
    atomic_fetch_add(&freed, 1);
  }
  return NULL;
}

static void *observe(void *argument) {
  (void)argument;
  while (!atomic_load(&done)) {
    struct heap_bucket_view view;
    struct stack_view stack;
    for (uint32_t i = 1; i <= heap_bucket_count(); i++)
      if (heap_bucket_read(i, &view) &&
          (view.frees > view.allocs || view.peak > THREADS * ROUNDS ||
           !stack_table_read(view.stack, &stack) || stack.frame_count != 3))
        atomic_fetch_add(&failures, 1);
    struct live_cursor cursor = {0};
    struct live_block block;
    while (live_table_next(&cursor, &block))
      if (block.bucket == 0 || block.bucket > heap_bucket_count() ||
          block.birth < heap_recorded_since() || block.birth > monotonic_clock_now())
        atomic_fetch_add(&failures, 1);
  }
  return NULL;
}

int main(void) {
  pthread_t threads[THREADS], reader;
  pthread_create(&reader, NULL, observe, NULL);
  for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, allocate, (void *)i);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  atomic_store(&done, 1);
  pthread_join(reader, NULL);
  uint64_t allocs = 0, frees = 0;
  struct heap_bucket_view view;
  for (uint32_t i = 1; i <= heap_bucket_count(); i++)
    if (heap_bucket_read(i, &view)) {
      allocs += view.allocs;
      frees += view.frees;
    }
  if (allocs != (uint64_t)THREADS * ROUNDS || frees != atomic_load(&freed) ||
      stack_table_count() != STACKS) {
    printf("allocs %llu, frees %llu of %llu, stacks %u\n", (unsigned long long)allocs,
           (unsigned long long)frees, (unsigned long long)atomic_load(&freed), stack_table_count());
    failures++;
  }
  return failures != 0;
}
