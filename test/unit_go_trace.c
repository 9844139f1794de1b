/* links: agent/trace/go_trace.c agent/trace/go_trace_writer.c agent/runtime/index_table.c
 *      agent/runtime/string_table.c test/agent_memory_libc.c */
/* Random logs that keep the rules of trace_log.h, a few hundred schedules in each file of the
 * directory that is named: for the real `go tool trace` to read (test_trace.py). What it is to find
 * stands in NAME.expected: starts at least, ends, waits that a running thread ended. Without one
 * they are encoded to nowhere. */
#include "agent/trace/go_trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum {
  FILES = 6,
  SCHEDULES = 60, /* of a file, one after the other */
  THREADS_MAX = 12,
  STEPS_MAX = 80,
  EVENTS_MAX = SCHEDULES * (THREADS_MAX * 4 + STEPS_MAX * 3),
  STACKS = 5
};

static uint64_t state = 88172645463325252u;

static uint64_t draw(uint64_t limit) { /* xorshift64 (Marsaglia 2003) */
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % limit;
}

/* ---- logs ---- */

static struct trace_event events[EVENTS_MAX];
static size_t event_count;
static int64_t now;
static int32_t next_tid;
static uint64_t expected_starts, expected_ends, expected_unblocks;

struct thread {
  int32_t tid, released_by;
  uint8_t is; /* a state's kind, 0: it has ended */
  uint8_t reason;
  uint32_t regions;
};
static struct thread threads[THREADS_MAX];
static uint32_t thread_count;

static struct trace_event *put(int32_t tid, uint8_t kind) {
  static const char *const texts[] = {NULL, "futex", "read: fd 3 (pipe:[1])", "", "\xff\xfe name"};
  struct trace_event *event = &events[event_count++];
  *event = (struct trace_event){.at = now, .tid = tid, .kind = kind, .cpu = (int32_t)draw(4) - 1};
  if (draw(2)) event->stack = (uint32_t)draw(STACKS + 1);
  event->text = texts[draw(5)];
  return event;
}

static void set_state(struct thread *thread, uint8_t kind) {
  struct trace_event *event = put(thread->tid, kind);
  if (kind == TRACE_BLOCKED) event->reason = thread->reason = (uint8_t)draw(TRACE_REASON_DISK + 1);
  if (kind == TRACE_RUNNING) expected_starts++;
  thread->is = kind;
}

static uint8_t other_state(uint8_t is) {
  for (;;) {
    uint8_t kind = (uint8_t)(TRACE_RUNNING + draw(3));
    if (kind != is) return kind;
  }
}

static void add(uint8_t kind, int32_t creator) {
  struct thread *thread = &threads[thread_count++];
  *thread = (struct thread){.tid = next_tid += 1 + (int32_t)draw(3)};
  put(thread->tid, kind)->other = creator;
  if (draw(2)) put(thread->tid, TRACE_THREAD_NAMED);
  set_state(thread, other_state(0));
}

/* Who runs now ends the wait of who is blocked. */
static void release(struct thread *by, struct thread *waiter) {
  put(by->tid, TRACE_RELEASED)->other = waiter->tid;
  set_state(waiter, TRACE_RUNNABLE);
  events[event_count - 1].other = by->tid;
  expected_unblocks +=
      waiter->reason < TRACE_REASON_READ_WRITE || waiter->reason == TRACE_REASON_POLL;
}

static void mark(struct thread *thread) {
  switch (draw(3)) {
    case 0: put(thread->tid, TRACE_MARK); break;
    case 1:
      put(thread->tid, TRACE_MARK_BEGIN);
      thread->regions++;
      break;
    default:
      if (thread->regions == 0) break;
      put(thread->tid, TRACE_MARK_END);
      thread->regions--;
  }
}

static void step(void) {
  struct thread *thread = &threads[draw(thread_count)], *other = &threads[draw(thread_count)];
  if (draw(4)) now += (int64_t)draw(1000); /* else at the same moment */
  if (!thread->is) return;
  switch (draw(12)) {
    case 0:
      if (thread_count < THREADS_MAX) add(TRACE_THREAD_BORN, draw(2) ? thread->tid : 0);
      break;
    case 1:
      put(thread->tid, TRACE_LOST)->value = draw(1000);
      set_state(thread, other_state(0));
      break;
    case 2:
      put(thread->tid, TRACE_THREAD_ENDED);
      thread->is = 0;
      expected_ends++;
      break;
    case 3:
    case 4:
      if (thread->is == TRACE_RUNNING && other->is == TRACE_BLOCKED) release(thread, other);
      break;
    case 5: put(thread->tid, TRACE_SAMPLE); break;
    case 6:
      put(0, TRACE_COUNTER)->text = "heap in use";
      events[event_count - 1].value = draw(1 << 30);
      break;
    case 7: mark(thread); break;
    default: set_state(thread, other_state(thread->is));
  }
}

static void end_all(void) {
  for (uint32_t i = 0; i < thread_count; i++) {
    if (!threads[i].is) continue;
    put(threads[i].tid, TRACE_THREAD_ENDED);
    expected_ends++;
  }
  thread_count = 0;
}

/* All but the first schedule are of threads that are born. */
static void make_events(void) {
  event_count = 0;
  now = 5000000000;
  next_tid = 1000;
  thread_count = 0;
  expected_starts = expected_ends = expected_unblocks = 0;
  for (int schedule = 0; schedule < SCHEDULES; schedule++) {
    uint8_t kind = schedule ? TRACE_THREAD_BORN : TRACE_THREAD_FOUND;
    for (uint64_t i = 1 + draw(THREADS_MAX / 2); i > 0; i--) add(kind, 0);
    for (uint64_t i = draw(STEPS_MAX); i > 0; i--) step();
    if (schedule < SCHEDULES - 1) end_all();
  }
}

/* ---- files ---- */

struct file_sink {
  struct byte_sink base;
  FILE *file;
  size_t left; /* until it gives up */
};

static bool write_file(struct byte_sink *base, const void *bytes, size_t size) {
  struct file_sink *sink = (struct file_sink *)base;
  if (sink->left < size) return false;
  sink->left -= size;
  return !sink->file || fwrite(bytes, 1, size, sink->file) == size;
}

static struct trace_log make_log(void) {
  static const struct trace_frame frames[] = {{0x401000, "pthread_mutex_lock", "/src/lock.c", 7},
                                              {0x401100, "work", "", 0},
                                              {0x401100, "inlined\xff", "/src/a.c", 4000000},
                                              {0x7fffffffffff, "main", "/src/a.c", 1}};
  static struct trace_stack stacks[STACKS];
  for (uint32_t i = 0; i < STACKS; i++)
    stacks[i] = (struct trace_stack){frames + (i ? i - 1 : 0), i ? 5 - i : 0};
  return (struct trace_log){.program = "random",
                            .pid = 1001,
                            .start = 5000000000,
                            .end = now,
                            .events = events,
                            .event_count = event_count,
                            .stacks = stacks,
                            .stack_count = STACKS};
}

static void write_one(const char *directory, int number) {
  char path[4096];
  make_events();
  struct trace_log log = make_log();
  struct file_sink sink = {.base.write = write_file, .left = SIZE_MAX};
  if (directory) {
    snprintf(path, sizeof path, "%s/%d.trace", directory, number);
    sink.file = fopen(path, "w");
    CHECK(sink.file);
  }
  CHECK(go_trace_encode(&log, &sink.base));
  size_t whole = SIZE_MAX - sink.left;
  sink.left = draw(whole); /* a receiver that goes away */
  FILE *file = sink.file;
  sink.file = NULL;
  CHECK(!go_trace_encode(&log, &sink.base));
  if (!file) return;
  CHECK(fclose(file) == 0);
  snprintf(path, sizeof path, "%s/%d.expected", directory, number);
  file = fopen(path, "w");
  CHECK(file &&
        fprintf(file, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", expected_starts, expected_ends,
                expected_unblocks) > 0 &&
        fclose(file) == 0);
}

/* An empty log, and events that have no sense. */
static void test_nonsense(void) {
  for (int round = 0; round < 2000; round++) {
    event_count = 0;
    now = 5000000000;
    for (uint64_t i = draw(200); i > 0; i--) {
      struct trace_event *event = put((int32_t)draw(4), (uint8_t)draw(TRACE_COUNTER + 3));
      event->other = (int32_t)draw(4);
      event->stack = (uint32_t)draw(STACKS + 3);
      event->reason = (uint8_t)draw(12);
      now += (int64_t)draw(100) - 50;
    }
    struct trace_log log = make_log();
    struct file_sink sink = {.base.write = write_file, .left = SIZE_MAX};
    CHECK(go_trace_encode(&log, &sink.base));
  }
}

int main(int argument_count, char **arguments) {
  test_nonsense();
  for (int i = 0; i < FILES; i++) write_one(argument_count > 1 ? arguments[1] : NULL, i);
  return failures > 0;
}
