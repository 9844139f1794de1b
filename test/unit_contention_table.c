/* links: test/stub_module_registry.c */
/* sanitizer: thread */
/* Many threads count for the same stacks of both kinds: nothing is lost, each (kind, stack) is
 * there once; a reader meanwhile never sees half of an entry; a full table is counted, and its
 * stacks stay out of the table of stacks. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "shim/locks/contention_table.h"
#include "shim/base/counters.h"
#include "shim/stacks/stack_table.h"
#include "check.h"

struct shim_counters shim_counters;

enum { THREADS = 8, ROUNDS = 20000, STACKS = 100 };
static _Atomic bool done;
static _Atomic int wrong;

static uint32_t entry_of(enum contention_kind kind, uint64_t stack) {
  const uint64_t frames[2] = {0x1000 + stack, 0x2000};
  return contention_table_entry(kind, frames, 2);
}

static void *count(void *argument) {
  for (uint64_t i = 0; i < ROUNDS; i++) {
    uint32_t entry = entry_of(i % 2 ? CONTENTION_MUTEX : CONTENTION_BLOCK, i / 2 % STACKS);
    if (!entry) atomic_fetch_add(&wrong, 1);
    contention_table_add(entry, CONTENTION_COUNT_UNIT / 2, 10);
  }
  return argument;
}

static void *read_all(void *argument) {
  while (!atomic_load(&done))
    for (uint32_t i = 1; i <= contention_table_count(); i++) {
      struct contention_view view;
      struct stack_view stack;
      if (contention_table_read(i, &view) &&
          (!stack_table_read(view.stack, &stack) || stack.frame_count != 2))
        atomic_fetch_add(&wrong, 1);
    }
  return argument;
}

static void test_many_threads(void) {
  pthread_t threads[THREADS], reader;
  pthread_create(&reader, NULL, read_all, NULL);
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, count, NULL);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  atomic_store(&done, true);
  pthread_join(reader, NULL);
  CHECK(wrong == 0);
  CHECK(contention_table_count_of(CONTENTION_BLOCK) == STACKS &&
        contention_table_count_of(CONTENTION_MUTEX) == STACKS);
  int found[2] = {0};
  for (uint32_t i = 1; i <= contention_table_count(); i++) {
    struct contention_view view;
    if (!contention_table_read(i, &view)) continue; /* lost a race for its place */
    found[view.kind]++;
    CHECK(view.count == THREADS * ROUNDS / 2 / STACKS * 0.5 &&
          view.delay == THREADS * ROUNDS / 2 / STACKS * 10);
  }
  CHECK(found[CONTENTION_BLOCK] == STACKS && found[CONTENTION_MUTEX] == STACKS);
}

static void test_full_table(void) {
  for (uint64_t i = 0; i < CONTENTION_ENTRIES_MAX; i++)
    contention_table_add(entry_of(CONTENTION_BLOCK, 1000 + i), 1, 1);
  uint32_t stacks = stack_table_count();
  uint64_t lost = shim_counters.contention_lost_table_full;
  CHECK(lost > 0 && contention_table_count() == CONTENTION_ENTRIES_MAX);
  CHECK(entry_of(CONTENTION_BLOCK, 1 << 20) == 0 && stack_table_count() == stacks &&
        shim_counters.contention_lost_table_full == lost + 1);
  CHECK(entry_of(CONTENTION_BLOCK, 0) != 0); /* one that is there */
  contention_table_add(0, 1, 1);
}

int main(void) {
  test_many_threads();
  test_full_table();
  return failures != 0;
}
