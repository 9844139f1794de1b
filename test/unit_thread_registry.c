/* sanitizer: thread */
/* Records are taken and given back by many threads at once: never by two at a time, never more of
 * them than threads need. */
#include <pthread.h>

#include "shim/base/counters.h"
#include "shim/threads/thread_registry.h"
#include "check.h"

struct shim_counters shim_counters;

enum { THREADS = 8, ROUNDS = 20000, HELD = 5 };
static _Atomic int owners[THREADS * HELD + 64];

static void *work(void *argument) {
  int32_t me = (int32_t)(intptr_t)argument;
  for (int round = 0; round < ROUNDS; round++) {
    uint32_t numbers[HELD];
    uint64_t lives[HELD];
    for (int i = 0; i < HELD; i++) {
      numbers[i] = thread_registry_take(THREAD_CREATED);
      CHECK(numbers[i] > 0 && numbers[i] < sizeof owners / sizeof *owners);
      CHECK(atomic_exchange(&owners[numbers[i]], me) == 0);
      struct thread_record *record = thread_registry_at(numbers[i]);
      struct thread_view view;
      CHECK(!thread_registry_read(numbers[i], &view)); /* not running yet */
      atomic_store(&record->creator, me);
      atomic_store(&record->tid, me);
      CHECK(thread_registry_read(numbers[i], &view) && view.tid == me && view.creator == me);
      lives[i] = view.life;
    }
    for (int i = 0; i < HELD; i++) {
      CHECK(atomic_exchange(&owners[numbers[i]], 0) == me);
      CHECK(thread_registry_end_life(numbers[i], lives[i]));
      CHECK(!thread_registry_end_life(numbers[i], lives[i])); /* that life is over */
      thread_registry_recycle(numbers[i]);
    }
  }
  return NULL;
}

int main(void) {
  pthread_t threads[THREADS];
  for (intptr_t t = 0; t < THREADS; t++) pthread_create(&threads[t], NULL, work, (void *)(t + 1));
  for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
  CHECK(thread_registry_count() <= THREADS * HELD);
  CHECK(thread_registry_at(0) == NULL && thread_registry_at(THREAD_RECORDS_MAX + 1) == NULL);

  /* To the bound and back. */
  uint32_t taken = 0, number;
  while ((number = thread_registry_take(THREAD_FOUND))) {
    atomic_store(&thread_registry_at(number)->tid, 1);
    taken++;
  }
  CHECK(taken == THREAD_RECORDS_MAX && atomic_load(&shim_counters.threads_lost) == 1);
  for (number = 1; number <= THREAD_RECORDS_MAX; number++) {
    CHECK(thread_registry_end_life(number, atomic_load(&thread_registry_at(number)->life)));
    thread_registry_recycle(number);
  }
  CHECK(thread_registry_take(THREAD_FOUND) == THREAD_RECORDS_MAX);
  return failures != 0;
}
