/* links: shim/locks/lock_trace.c shim/base/table_memory.c shim/base/confinement.c
 *      shim/base/thread_state.c */
/* sanitizer: thread */
/* Many writers, one reader: each event arrives once and whole, each thread's in its order, or is
 * counted as that thread's loss; what is written while nobody records is nobody's. */
#include "shim/locks/lock_trace.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

enum { WRITERS = 4, EVENTS = 20000, BYTES = 16384 };

struct writer {
  pthread_t thread;
  _Atomic int32_t tid;
  uint64_t last, seen, lost;
};
static struct writer writers[WRITERS];

static void *write_all(void *argument) {
  struct writer *self = argument;
  atomic_store(&self->tid, (int32_t)syscall(SYS_gettid));
  for (uint64_t i = 1; i <= EVENTS; i++) {
    struct lock_trace_event event = {.begin = i,
                                     .at = i * 3,
                                     .object = (uintptr_t)self,
                                     .stack = (uint32_t)i,
                                     .was_released = i % 2};
    lock_trace_write(&event);
  }
  return NULL;
}

static void take(const struct lock_trace_event *event) {
  struct writer *from = (struct writer *)event->object;
  CHECK(from >= writers && from < writers + WRITERS);
  CHECK(event->tid == atomic_load(&from->tid) && event->at == event->begin * 3);
  CHECK(event->stack == event->begin && event->was_released == event->begin % 2);
  CHECK(event->begin > from->last);
  from->last = event->begin;
  from->seen++;
}

static uint64_t drain(void) {
  struct lock_trace_event event;
  uint64_t count = 0;
  for (; lock_trace_next(&event); count++) take(&event);
  return count;
}

static void test_many_writers(void) {
  uint64_t all = 0;
  int32_t tid;
  uint64_t count;
  CHECK(lock_trace_open(BYTES) && lock_trace_bytes() == BYTES && lock_trace_is_armed());
  for (int i = 0; i < WRITERS; i++)
    pthread_create(&writers[i].thread, NULL, write_all, &writers[i]);
  for (int round = 0; round < 1000; round++) drain();
  for (int i = 0; i < WRITERS; i++) pthread_join(writers[i].thread, NULL);
  drain();
  while (lock_trace_next_loss(&tid, &count))
    for (int i = 0; i < WRITERS; i++)
      if (writers[i].tid == tid) writers[i].lost += count;
  for (int i = 0; i < WRITERS; i++) {
    CHECK(writers[i].seen + writers[i].lost == EVENTS);
    all += writers[i].seen;
  }
  CHECK(all >= BYTES / 64);
}

static void test_a_recording_begins_empty(void) {
  struct lock_trace_event event = {.at = 1};
  lock_trace_write(&event);
  lock_trace_close();
  CHECK(!lock_trace_is_armed() && lock_trace_bytes() == 0);
  lock_trace_write(&event); /* one that was on its way */
  CHECK(lock_trace_open(BYTES) && !lock_trace_next(&event));
  for (uint64_t i = 0; i < BYTES / 64 + 5; i++) lock_trace_write(&event);
  int32_t tid;
  uint64_t count;
  CHECK(lock_trace_next_loss(&tid, &count) && count == 5 && tid == (int32_t)syscall(SYS_gettid));
  lock_trace_forget();
  CHECK(!lock_trace_is_armed());
}

int main(void) {
  test_many_writers();
  test_a_recording_begins_empty();
  return failures > 0;
}
