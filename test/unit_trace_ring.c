/* links: shim/base/trace_ring.c shim/base/table_memory.c shim/base/confinement.c
 *      shim/base/thread_state.c */
/* sanitizer: thread */
/* Many writers, one reader: each event arrives once and whole, each thread's in its order, or is
 * counted as that thread's loss; what is written while nobody records is nobody's. */
#include "shim/base/trace_ring.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

enum { WRITERS = 4, EVENTS = 20000, BYTES = 16384, PLACES = BYTES / 128 };

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
    struct trace_ring_event event = {.begin = i,
                                     .at = i * 3,
                                     .object = (uintptr_t)self,
                                     .stack = (uint32_t)i,
                                     .was_released = i % 2,
                                     .kind = i % 2 ? TRACE_RING_MARK : TRACE_RING_WAIT};
    char name[16];
    snprintf(name, sizeof name, "n%d", (int)i);
    trace_ring_take_name(&event, name);
    trace_ring_write(&event);
  }
  return NULL;
}

static void take(const struct trace_ring_event *event) {
  struct writer *from = (struct writer *)event->object;
  CHECK(from >= writers && from < writers + WRITERS);
  CHECK(event->tid == atomic_load(&from->tid) && event->at == event->begin * 3);
  CHECK(event->stack == event->begin && event->was_released == event->begin % 2);
  CHECK(event->begin > from->last);
  CHECK(event->kind == (event->begin % 2 ? TRACE_RING_MARK : TRACE_RING_WAIT));
  CHECK(event->kind == TRACE_RING_WAIT || atoi(event->name + 1) == (int)event->begin);
  from->last = event->begin;
  from->seen++;
}

static uint64_t drain(void) {
  struct trace_ring_event event;
  uint64_t count = 0;
  for (; trace_ring_next(&event); count++) take(&event);
  return count;
}

static void test_many_writers(void) {
  uint64_t all = 0;
  int32_t tid;
  uint64_t count;
  CHECK(trace_ring_open(BYTES) && trace_ring_bytes() == BYTES && trace_ring_is_armed());
  for (int i = 0; i < WRITERS; i++)
    pthread_create(&writers[i].thread, NULL, write_all, &writers[i]);
  for (int round = 0; round < 1000; round++) drain();
  for (int i = 0; i < WRITERS; i++) pthread_join(writers[i].thread, NULL);
  drain();
  while (trace_ring_next_loss(&tid, &count))
    for (int i = 0; i < WRITERS; i++)
      if (writers[i].tid == tid) writers[i].lost += count;
  for (int i = 0; i < WRITERS; i++) {
    CHECK(writers[i].seen + writers[i].lost == EVENTS);
    all += writers[i].seen;
  }
  CHECK(all >= PLACES);
}

static void test_a_recording_begins_empty(void) {
  struct trace_ring_event event = {.at = 1};
  trace_ring_write(&event);
  trace_ring_close();
  CHECK(!trace_ring_is_armed() && trace_ring_bytes() == 0);
  trace_ring_write(&event); /* one that was on its way */
  CHECK(trace_ring_open(BYTES) && !trace_ring_next(&event));
  for (uint64_t i = 0; i < PLACES + 5; i++) trace_ring_write(&event);
  int32_t tid;
  uint64_t count;
  CHECK(trace_ring_next_loss(&tid, &count) && count == 5 && tid == (int32_t)syscall(SYS_gettid));
  trace_ring_forget();
  CHECK(!trace_ring_is_armed());
}

static void test_names_are_cut(void) {
  char longest[TRACE_NAME_MAX + 1] = {0};
  struct trace_ring_event event;
  uint64_t before = trace_ring_names_cut();
  trace_ring_take_name(&event, NULL);
  CHECK(!*event.name);
  memset(longest, 'x', TRACE_NAME_MAX - 1);
  trace_ring_take_name(&event, longest);
  CHECK(strcmp(event.name, longest) == 0 && trace_ring_names_cut() == before);
  longest[TRACE_NAME_MAX - 1] = 'y';
  trace_ring_take_name(&event, longest);
  CHECK(strlen(event.name) == TRACE_NAME_MAX - 1 && !strchr(event.name, 'y'));
  CHECK(trace_ring_names_cut() == before + 1);
}

int main(void) {
  test_names_are_cut();
  test_many_writers();
  test_a_recording_begins_empty();
  return failures > 0;
}
