#include "trace_threads.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "shim/cpu/cpu_sampling.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/task_files.h"
#include "agent/threads/thread_list.h"

enum {
  PAGE = 4096,
  PAGES = 8, /* of a ring: 1,000 records */
  PAGES_LATER = 4,
  PAGES_LAST = 1,
  LIST_NANOSECONDS = 100000000, /* between two lists of all threads, and... */
  LIST_SHARE = 50, /* ... as many times what one costs */
  LOOKS_NANOSECONDS = 10000000, /* between two looks at threads without a ring */
  LOOKS_SHARE = 10, /* one part in so many of a processor is spent on looks */
  LOOKS_SAVED = 50000000 /* and so much at once, when none were made before */
};

static struct traced_thread **threads;
static uint32_t count, capacity;
static struct current_stacks stacks;
static struct traced_context context;
static bool rings_wanted;
static size_t bytes_max, bytes;
static uint64_t lost_by_ended;
static bool has_listed;
static int64_t next_list, next_looks, looks_period;
static int64_t next_list_of_births; /* where no ring tells of them, but the threads themselves do */
static uint32_t births_listed;
static int64_t credit, credited; /* nanoseconds for looks; as of when */
static bool is_patient;

/* All pauses are so many times as long. */
static int64_t patience(void) { return is_patient ? 10 : 1; }

/* ---- threads come and go ---- */

static uint32_t pages_of_next(void) {
  if (!rings_wanted) return 0;
  uint32_t pages = bytes < bytes_max / 3 ? PAGES : bytes < bytes_max / 2 ? PAGES_LATER : PAGES_LAST;
  return bytes + (pages + 1) * PAGE <= bytes_max ? pages : 0;
}

static struct traced_thread *find(int32_t tid) {
  for (uint32_t i = count; i > 0; i--)
    if (threads[i - 1]->tid == tid) return threads[i - 1];
  return NULL;
}

static bool reserve_place(void) {
  if (count < capacity) return true;
  uint32_t larger = capacity * 2 + 64;
  struct traced_thread **items = agent_realloc(threads, larger * sizeof *items);
  if (!items) return false;
  threads = items;
  capacity = larger;
  return true;
}

/* One that has ended before it was looked at: that it was there. */
static void tell_short_life(const struct trace_event *intro) {
  struct trace_event event = *intro;
  context.sink(context.owner, &event, NULL);
  event = (struct trace_event){.at = agent_monotonic_nanoseconds(),
                               .tid = intro->tid,
                               .cpu = -1,
                               .kind = TRACE_THREAD_ENDED};
  context.sink(context.owner, &event, NULL);
}

static struct traced_thread *add(const struct trace_event *intro) {
  struct traced_thread *thread = reserve_place() ? agent_malloc(sizeof *thread) : NULL;
  if (!thread) return NULL;
  uint32_t pages = pages_of_next();
  int fault = traced_thread_begin(thread, intro, pages);
  if (fault && fault != ESRCH && pages > PAGES_LAST)
    fault = traced_thread_begin(thread, intro, PAGES_LAST);
  if (fault == ESRCH) {
    if (intro->kind == TRACE_THREAD_BORN) tell_short_life(intro);
    agent_free(thread);
    return NULL;
  }
  bytes += thread->ring.bytes;
  threads[count++] = thread;
  traced_thread_introduce(thread, &context, false);
  if (!thread->ring.memory) traced_thread_look(thread, &context);
  return thread;
}

static void be_born(void *owner, int32_t child, int64_t at, int32_t creator) {
  (void)owner;
  struct trace_event intro = {
      .at = at, .tid = child, .other = creator, .cpu = -1, .kind = TRACE_THREAD_BORN};
  if (!find(child)) add(&intro);
}

static void remove_ended(void) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    struct traced_thread *thread = threads[i];
    if (!thread->has_ended) {
      threads[kept++] = thread;
      continue;
    }
    bytes -= thread->ring.bytes;
    lost_by_ended += thread->lost;
    traced_thread_end(thread);
    agent_free(thread);
  }
  count = kept;
}

/* The kernel's list is in an order that stays: each search begins where the last one ended. */
static struct traced_thread *find_from(uint32_t *cursor, int32_t tid) {
  for (uint32_t i = 0; i < count; i++) {
    uint32_t at = (*cursor + i) % count;
    if (threads[at]->tid != tid) continue;
    *cursor = at + 1;
    return threads[at];
  }
  return NULL;
}

static void see_end(struct traced_thread *thread) {
  traced_thread_read(thread, &context); /* it tells when */
  if (!thread->has_ended) traced_thread_vanishes(thread, &context);
}

static void read_rings(void) {
  for (uint32_t i = 0; i < count; i++) /* a birth adds one at the end */
    traced_thread_read(threads[i], &context);
}

static void list_threads(void) {
  struct thread_ids ids;
  uint32_t cursor = 0;
  if (!thread_list_read(&ids)) return;
  read_rings(); /* of a birth that its creator's ring tells, the list knows less */
  for (uint32_t i = 0; i < count; i++) threads[i]->is_listed = false;
  for (size_t i = 0; i < ids.count; i++) {
    struct traced_thread *thread = find_from(&cursor, ids.tids[i]);
    struct trace_event intro = {.at = agent_monotonic_nanoseconds(),
                                .tid = ids.tids[i],
                                .cpu = -1,
                                .kind = has_listed ? TRACE_THREAD_BORN : TRACE_THREAD_FOUND};
    if (!thread) thread = add(&intro);
    if (thread) thread->is_listed = true;
  }
  thread_list_release(&ids);
  for (uint32_t i = 0; i < count; i++) {
    if (!threads[i]->is_listed && !threads[i]->has_ended) see_end(threads[i]);
  }
  has_listed = true;
}

/* ---- work ---- */

void trace_threads_read(void) {
  for (uint32_t i = 0; i < count; i++) { /* a birth adds one at the end */
    traced_thread_introduce(threads[i], &context, false);
    traced_thread_read(threads[i], &context);
    /* One that was about to end when it got its ring: no record will come. */
    if (threads[i]->is_new && !threads[i]->has_ended && !task_is_alive(threads[i]->tid))
      see_end(threads[i]);
  }
  remove_ended();
}

void trace_threads_lose(int32_t tid, uint64_t lost) {
  struct traced_thread *thread = tid ? find(tid) : NULL;
  if (thread) traced_thread_lost_events(thread, &context, lost);
}

static void list_if_due(int64_t now) {
  uint32_t births = atomic_load_explicit(&cpu_sampling_births, memory_order_acquire);
  bool has_births = !rings_wanted && births != births_listed && now >= next_list_of_births;
  if (now < next_list && !has_births) return;
  births_listed = births;
  int64_t before = agent_own_cpu_nanoseconds();
  list_threads();
  int64_t pause = (agent_own_cpu_nanoseconds() - before) * LIST_SHARE * patience();
  int64_t after = agent_monotonic_nanoseconds();
  next_list_of_births = after + pause;
  int64_t shortest = LIST_NANOSECONDS * patience();
  next_list = after + (pause > shortest ? pause : shortest);
}

static void look_at_waiting(int64_t now) {
  credit += (now - credited) / (LOOKS_SHARE * patience());
  if (credit > LOOKS_SAVED) credit = LOOKS_SAVED;
  credited = now;
  for (uint32_t i = 0; i < count && credit > 0; i++) {
    if (!threads[i]->ring.memory) continue;
    int64_t before = agent_own_cpu_nanoseconds();
    traced_thread_look(threads[i], &context);
    credit -= agent_own_cpu_nanoseconds() - before;
  }
}

static void look_at_others(int64_t now) {
  if (now < next_looks) return;
  int64_t before = agent_own_cpu_nanoseconds();
  for (uint32_t i = 0; i < count; i++)
    if (!threads[i]->ring.memory) traced_thread_look(threads[i], &context);
  int64_t pause = (agent_own_cpu_nanoseconds() - before) * LOOKS_SHARE * patience();
  looks_period = pause > LOOKS_NANOSECONDS ? pause : LOOKS_NANOSECONDS;
  next_looks = now + looks_period;
}

static void hurry(bool hurried) {
  if (hurried && is_patient) next_list = next_looks = next_list_of_births = 0;
  is_patient = !hurried;
}

void trace_threads_work(bool hurried) {
  hurry(hurried);
  trace_threads_read();
  list_if_due(agent_monotonic_nanoseconds());
  look_at_waiting(agent_monotonic_nanoseconds());
  look_at_others(agent_monotonic_nanoseconds());
  remove_ended();
}

void trace_threads_tell_newcomer(traced_sink *sink, void *owner) {
  for (uint32_t i = 0; i < count; i++) traced_thread_tell_newcomer(threads[i], sink, owner);
}

void trace_threads_tell_leaver(traced_sink *sink, void *owner) {
  for (uint32_t i = 0; i < count; i++) traced_thread_tell_leaver(threads[i], sink, owner);
}

/* ---- life ---- */

bool trace_threads_start(bool by_rings, size_t most, traced_sink *sink) {
  context = (struct traced_context){.sink = sink,
                                    .born = be_born,
                                    .stacks = &stacks,
                                    .look = agent_malloc(sizeof *context.look),
                                    .scratch = agent_malloc(PERF_RING_RECORD_MAX)};
  rings_wanted = by_rings;
  bytes_max = most;
  bytes = 0;
  lost_by_ended = 0;
  has_listed = false;
  next_list = next_looks = next_list_of_births = 0;
  looks_period = LOOKS_NANOSECONDS;
  credit = LOOKS_SAVED;
  credited = agent_monotonic_nanoseconds();
  if (!context.look || !context.scratch) {
    trace_threads_stop();
    return false;
  }
  trace_threads_work(true);
  return true;
}

void trace_threads_stop(void) {
  for (uint32_t i = 0; i < count; i++) threads[i]->has_ended = true;
  remove_ended();
  current_stacks_release(&stacks);
  agent_free(context.look);
  agent_free(context.scratch);
  agent_free(threads);
  threads = NULL;
  capacity = 0;
  context = (struct traced_context){0};
}

struct trace_threads_status trace_threads_status(void) {
  struct trace_threads_status status = {
      .ring_bytes = bytes, .lost = lost_by_ended, .period = looks_period};
  for (uint32_t i = 0; i < count; i++) {
    status.with_ring += threads[i]->ring.memory != NULL;
    status.without_ring += threads[i]->ring.memory == NULL;
    status.lost += threads[i]->lost;
  }
  return status;
}
