/* links: shim/base/trace_ring.c shim/base/table_memory.c shim/base/confinement.c
 *      shim/base/thread_state.c */
/* sanitizer: thread */
/* Many writers, one reader: each event arrives once and whole, each thread's in its order, or is
 * counted as that thread's loss; what is written while nobody records is nobody's. */
#include "shim/base/trace_ring.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

/* ---- a writer that is held up in the middle: half of its event lies in a page that it may not
 * read for a while ---- */

enum { PAGE = 4096, FIRST_HALF = 64 };
static char *pages;
static sem_t is_held, may_go_on;

static void hold(int number) {
  (void)number;
  sem_post(&is_held);
  sem_wait(&may_go_on);
  mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE);
}

static void *write_slowly(void *unused) {
  struct trace_ring_event *event = (void *)(pages + PAGE - FIRST_HALF);
  mprotect(pages + PAGE, PAGE, PROT_NONE);
  event->kind = TRACE_RING_MARK;
  event->begin = 4711;
  trace_ring_write(event);
  return unused;
}

static pthread_t begin_to_write(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, write_slowly, NULL);
  sem_wait(&is_held);
  return thread;
}

static void let_it_finish(pthread_t thread) {
  sem_post(&may_go_on);
  pthread_join(thread, NULL);
}

/* So many come, one by one, and nothing else. */
static void pass(uint64_t count) {
  struct trace_ring_event out;
  for (uint64_t i = 1; i <= count; i++) {
    struct trace_ring_event event = {.begin = i};
    trace_ring_write(&event);
    CHECK(trace_ring_next(&out) && out.begin == i);
    CHECK(!trace_ring_next(&out));
  }
}

static void test_a_writer_that_is_held_up_is_passed_over(void) {
  struct trace_ring_event event;
  uint64_t count;
  int32_t tid;
  trace_ring_close();
  CHECK(trace_ring_open(BYTES));
  pass(PLACES / 2);
  pthread_t thread = begin_to_write();
  for (int i = 0; i < 1000; i++) CHECK(!trace_ring_next(&event));
  CHECK(trace_ring_next_loss(&tid, &count) && count == 1 && tid == 0);
  pass(3 * PLACES);
  let_it_finish(thread);
  pass(3 * PLACES);
  CHECK(!trace_ring_next_loss(&tid, &count));
}

/* What it wrote is in no recording, and holds nobody up. */
static void test_a_writer_of_an_earlier_recording(void) {
  struct trace_ring_event event;
  pthread_t thread = begin_to_write();
  trace_ring_close();
  CHECK(trace_ring_open(BYTES));
  pass(PLACES / 4);
  let_it_finish(thread);
  pass(3 * PLACES);
  thread = begin_to_write();
  trace_ring_close();
  let_it_finish(thread);
  CHECK(trace_ring_open(BYTES) && !trace_ring_next(&event));
  pass(3 * PLACES);
}

static void prepare_to_hold(void) {
  pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  sem_init(&is_held, 0, 0);
  sem_init(&may_go_on, 0, 0);
  signal(SIGSEGV, hold);
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
  prepare_to_hold();
  test_a_writer_that_is_held_up_is_passed_over();
  test_a_writer_of_an_earlier_recording();
  return failures > 0;
}
