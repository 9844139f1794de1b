/* What Go's reader demands, and how it is met here:
 * - A goroutine starts and ends waits only on a thread with a processor: each thread keeps its own.
 * - Starts and wake-ups of a goroutine are numbered, system calls of a processor too.
 * - Marks belong to a running goroutine: one that was seen waiting (where states are sampled) runs
 *   for no time at that moment.
 * - -pprof ends a wait or system call with the next event of the goroutine that has a stack. The
 *   end of a system call can have none, so a stop follows it; a wake-up without a known waker has
 *   the waiter's stack. */
#include "go_trace_v2.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "go_batches.h"
#include "trace_links.h"
#include "trace_words.h"

enum { PROCESSOR_RUNNING = 1, STATUS_RUNNABLE = 1 };
static const uint64_t NO_THREAD = UINT64_MAX;

enum go_state { ABSENT, RUNNABLE, RUNNING, WAITING, IN_SYSCALL };

struct go_thread {
  struct go_lane lane;
  enum go_state state;
  uint32_t event; /* that brought the state */
  uint32_t release; /* by which its wait is going to end, TRACE_LINK_NONE: unknown */
  uint64_t starts, calls; /* as the reader numbers them */
  const char *label; /* to be given when it runs next; NULL: none */
  uint32_t marks; /* that are open */
};

struct encoder {
  const struct trace_log *log;
  struct trace_links links;
  struct go_batches batches;
  struct go_thread *threads;
  bool has_said; /* how it was recorded */
};

#define PUT(encoder, thread, at, kind, ...)                                            \
  put(encoder, thread, at, kind, sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), \
      (uint64_t[]){__VA_ARGS__})

static void put(struct encoder *encoder, uint32_t thread, int64_t at, enum go_event kind,
                unsigned count, const uint64_t *fields) {
  go_event_put(&encoder->batches, &encoder->threads[thread].lane,
               encoder->links.threads[thread].tid, at, kind, count, fields);
}

static uint64_t goroutine(const struct encoder *encoder, uint32_t thread) {
  return (uint32_t)encoder->links.threads[thread].tid;
}

static uint64_t text(struct encoder *encoder, const char *what) {
  return go_string(&encoder->batches, what, GO_TEXT);
}

static uint64_t stack_of(struct encoder *encoder, uint32_t event) {
  return go_stack(&encoder->batches, encoder->log->events[event].stack);
}

/* ---- from one state to another ---- */

static void put_label(struct encoder *encoder, uint32_t thread, int64_t at) {
  struct go_thread *is = &encoder->threads[thread];
  if (!is->label || is->state != RUNNING) return;
  if (*is->label) PUT(encoder, thread, at, GO_LABEL, text(encoder, is->label));
  is->label = NULL;
}

/* Who is said to wake it, and with which stack. */
static uint32_t waker_of(struct encoder *encoder, uint32_t thread, uint32_t event,
                         uint64_t *stack) {
  const struct go_thread *is = &encoder->threads[thread];
  uint32_t released = is->release;
  int32_t tid = encoder->log->events[released != TRACE_LINK_NONE ? released : event].tid;
  if (released == TRACE_LINK_NONE) tid = encoder->log->events[event].other;
  uint32_t waker = trace_links_thread(&encoder->links, tid);
  *stack = released != TRACE_LINK_NONE ? stack_of(encoder, released) : 0;
  if (*stack == 0) *stack = stack_of(encoder, is->event);
  bool alive = waker != TRACE_LINK_NONE && encoder->threads[waker].state != ABSENT;
  return alive ? waker : thread;
}

static void make_runnable(struct encoder *encoder, uint32_t thread, uint32_t event, int64_t at) {
  struct go_thread *is = &encoder->threads[thread];
  uint64_t stack;
  if (is->state == WAITING) {
    uint32_t waker = waker_of(encoder, thread, event, &stack);
    PUT(encoder, waker, at, GO_UNBLOCK, goroutine(encoder, thread), ++is->starts, stack);
  } else if (is->state == IN_SYSCALL) {
    PUT(encoder, thread, at, GO_SYSCALL_END);
    PUT(encoder, thread, at, GO_STOP, text(encoder, "system call returned"),
        stack_of(encoder, is->event));
  } else if (is->state == RUNNING) {
    PUT(encoder, thread, at, GO_STOP, text(encoder, "preempted"), stack_of(encoder, event));
  }
  is->release = TRACE_LINK_NONE;
  is->state = RUNNABLE;
}

/* What the recording is worth, where the first goroutine runs first. */
static void say_how(struct encoder *encoder, uint32_t thread, int64_t at) {
  const struct trace_log *log = encoder->log;
  char how[256];
  int used = log->is_sampled ? snprintf(how, sizeof how, "states sampled every %.3f ms",
                                        (double)log->period / 1e6)
                             : snprintf(how, sizeof how, "states recorded");
  used += snprintf(how + used, sizeof how - (size_t)used, ", %" PRIu64 " records lost", log->lost);
  if (log->samples_off)
    snprintf(how + used, sizeof how - (size_t)used, ", no CPU samples: %s", log->samples_off);
  else if (log->sample_hz)
    snprintf(how + used, sizeof how - (size_t)used, ", %" PRIu32 " CPU samples a second",
             log->sample_hz);
  encoder->has_said = true;
  PUT(encoder, thread, at, GO_LOG, 0, text(encoder, "recording"),
      go_made_string(&encoder->batches, how), 0);
}

static void make_running(struct encoder *encoder, uint32_t thread, uint32_t event, int64_t at) {
  struct go_thread *is = &encoder->threads[thread];
  if (is->state == RUNNING) return;
  make_runnable(encoder, thread, event, at);
  PUT(encoder, thread, at, GO_START, goroutine(encoder, thread), ++is->starts);
  is->state = RUNNING;
  put_label(encoder, thread, at);
  if (!encoder->has_said) say_how(encoder, thread, at);
}

static void make_gap(struct encoder *encoder, uint32_t thread, uint64_t lost, int64_t at) {
  char reason[64];
  snprintf(reason, sizeof reason, "%" PRIu64 " records lost", lost);
  PUT(encoder, thread, at, GO_BLOCK, go_made_string(&encoder->batches, reason), 0);
  encoder->threads[thread].state = WAITING;
}

static void make_blocked(struct encoder *encoder, uint32_t thread, uint32_t event, int64_t at) {
  const struct trace_event *blocked = &encoder->log->events[event];
  struct go_thread *is = &encoder->threads[thread];
  bool syscall = blocked->reason == TRACE_REASON_READ_WRITE ||
                 blocked->reason == TRACE_REASON_POLL || blocked->reason == TRACE_REASON_CALL;
  if (syscall) {
    PUT(encoder, thread, at, GO_SYSCALL_BEGIN, ++is->calls, stack_of(encoder, event));
  } else {
    enum go_string form = blocked->reason == TRACE_REASON_LOCK ? GO_LOCK_TEXT : GO_TEXT;
    PUT(encoder, thread, at, GO_BLOCK, go_string(&encoder->batches, trace_wait_name(blocked), form),
        stack_of(encoder, event));
  }
  is->state = syscall ? IN_SYSCALL : WAITING;
}

/* The state of an event, at the event's time or again later. */
static void enter(struct encoder *encoder, uint32_t thread, uint32_t event, int64_t at) {
  const struct trace_event *state = &encoder->log->events[event];
  const struct trace_event *lost = trace_gap(&encoder->links, encoder->log, event);
  if (!lost && state->kind == TRACE_RUNNABLE) make_runnable(encoder, thread, event, at);
  else make_running(encoder, thread, event, at);
  if (lost) make_gap(encoder, thread, lost->value, at);
  else if (state->kind == TRACE_BLOCKED) make_blocked(encoder, thread, event, at);
  encoder->threads[thread].event = event;
}

/* ---- events ---- */

/* Its thread and processor are there, its goroutine not yet. */
static void begin_thread(struct encoder *encoder, uint32_t thread, uint32_t event) {
  struct go_thread *is = &encoder->threads[thread];
  is->event = event;
  is->label = encoder->links.threads[thread].name;
  PUT(encoder, thread, encoder->log->events[event].at, GO_PROC_STATUS, thread, PROCESSOR_RUNNING);
}

static void add_found(struct encoder *encoder, uint32_t thread, uint32_t event) {
  int64_t at = encoder->log->events[event].at;
  begin_thread(encoder, thread, event);
  PUT(encoder, thread, at, GO_STATUS, goroutine(encoder, thread), NO_THREAD, STATUS_RUNNABLE);
  encoder->threads[thread].state = RUNNABLE;
}

/* Only who runs creates; else it is made on its own thread, by nobody. */
static void add_born(struct encoder *encoder, uint32_t thread, uint32_t event) {
  const struct trace_event *born = &encoder->log->events[event];
  uint32_t creator = trace_links_thread(&encoder->links, born->other);
  begin_thread(encoder, thread, event);
  if (creator == TRACE_LINK_NONE || encoder->threads[creator].state != RUNNING) creator = thread;
  PUT(encoder, creator, born->at, GO_CREATE, goroutine(encoder, thread), 0,
      stack_of(encoder, event));
  encoder->threads[thread].state = RUNNABLE;
}

static void add_end(struct encoder *encoder, uint32_t thread, uint32_t event) {
  int64_t at = encoder->log->events[event].at;
  make_running(encoder, thread, event, at);
  PUT(encoder, thread, at, GO_DESTROY);
  go_lane_end(&encoder->batches, &encoder->threads[thread].lane,
              encoder->links.threads[thread].tid);
  encoder->threads[thread].state = ABSENT;
}

static void add_name(struct encoder *encoder, uint32_t thread, uint32_t event) {
  const struct trace_event *named = &encoder->log->events[event];
  encoder->threads[thread].label = named->text;
  put_label(encoder, thread, named->at);
}

static void put_log(struct encoder *encoder, uint32_t thread, uint32_t event) {
  const struct trace_event *mark = &encoder->log->events[event];
  char bytes[32];
  uint64_t value = 0;
  snprintf(bytes, sizeof bytes, "%" PRIu64 " bytes", mark->value);
  if (mark->value != 0) value = go_made_string(&encoder->batches, bytes);
  PUT(encoder, thread, mark->at, GO_LOG, 0, text(encoder, trace_mark_name(mark)), value,
      stack_of(encoder, event));
}

static void put_region(struct encoder *encoder, uint32_t thread, uint32_t event, int64_t at,
                       enum go_event kind, uint64_t stack) {
  const char *name = trace_mark_name(&encoder->log->events[event]);
  PUT(encoder, thread, at, kind, 0, text(encoder, name), stack);
}

static void add_mark(struct encoder *encoder, uint32_t thread, uint32_t event) {
  const struct trace_event *mark = &encoder->log->events[event];
  struct go_thread *is = &encoder->threads[thread];
  uint32_t before = is->event, release = is->release;
  enum go_state state = is->state;
  if (mark->kind == TRACE_MARK_END && encoder->links.to[event] == TRACE_LINK_NONE) return;
  is->release = TRACE_LINK_NONE;
  make_running(encoder, thread, event, mark->at);
  if (mark->kind == TRACE_MARK) {
    put_log(encoder, thread, event);
  } else if (mark->kind == TRACE_MARK_BEGIN) {
    put_region(encoder, thread, event, mark->at, GO_REGION_BEGIN, stack_of(encoder, event));
    is->marks++;
  } else {
    put_region(encoder, thread, encoder->links.to[event], mark->at, GO_REGION_END, 0);
    is->marks--;
  }
  if (state != RUNNING) enter(encoder, thread, before, mark->at);
  is->release = release;
}

/* Marks that were open end here; a state follows. They lie behind the loss before this one. */
static void add_loss(struct encoder *encoder, uint32_t thread, uint32_t event) {
  const struct trace_event *lost = &encoder->log->events[event];
  struct go_thread *is = &encoder->threads[thread];
  if (is->marks == 0) return;
  make_running(encoder, thread, event, lost->at);
  for (uint32_t begin = event; is->marks > 0 && begin > 0; begin--) {
    const struct trace_event *mark = &encoder->log->events[begin - 1];
    if (mark->kind != TRACE_MARK_BEGIN || encoder->links.to[begin - 1] != event) continue;
    put_region(encoder, thread, begin - 1, lost->at, GO_REGION_END, 0);
    is->marks--;
  }
}

static void add_counter(struct encoder *encoder, uint32_t event) {
  const struct trace_event *counter = &encoder->log->events[event];
  if (!counter->text || strcmp(counter->text, GO_TRACE_HEAP_COUNTER) != 0) return;
  uint32_t thread = 0; /* any that is there */
  while (thread < encoder->links.thread_count && encoder->threads[thread].state == ABSENT) thread++;
  if (thread < encoder->links.thread_count)
    PUT(encoder, thread, counter->at, GO_HEAP_ALLOC, counter->value);
}

static void add_event(struct encoder *encoder, uint32_t event) {
  const struct trace_event *is = &encoder->log->events[event];
  if (is->kind == TRACE_COUNTER) {
    add_counter(encoder, event);
    return;
  }
  uint32_t thread = trace_links_thread(&encoder->links, is->tid);
  bool first = is->kind == TRACE_THREAD_FOUND || is->kind == TRACE_THREAD_BORN;
  if (!first && encoder->threads[thread].state == ABSENT) return; /* no log has this */
  switch ((enum trace_kind)is->kind) {
    case TRACE_THREAD_FOUND: add_found(encoder, thread, event); break;
    case TRACE_THREAD_BORN: add_born(encoder, thread, event); break;
    case TRACE_THREAD_NAMED: add_name(encoder, thread, event); break;
    case TRACE_THREAD_ENDED: add_end(encoder, thread, event); break;
    case TRACE_RUNNING:
    case TRACE_RUNNABLE:
    case TRACE_BLOCKED: enter(encoder, thread, event, is->at); break;
    case TRACE_RELEASED:
      if (encoder->links.to[event] == TRACE_LINK_NONE) break;
      encoder->threads[trace_links_thread(&encoder->links, is->other)].release = event;
      break;
    case TRACE_SAMPLE:
      go_sample_put(&encoder->batches, is->at, goroutine(encoder, thread), thread,
                    stack_of(encoder, event));
      break;
    case TRACE_MARK:
    case TRACE_MARK_BEGIN:
    case TRACE_MARK_END: add_mark(encoder, thread, event); break;
    case TRACE_LOST: add_loss(encoder, thread, event); break;
    default: break;
  }
}

/* The reader refuses a trace without any event. */
static void put_empty(struct encoder *encoder) {
  struct go_lane lane = {0};
  const uint64_t fields[] = {0, PROCESSOR_RUNNING};
  go_event_put(&encoder->batches, &lane, encoder->log->pid, encoder->log->start, GO_PROC_STATUS, 2,
               fields);
  go_lane_end(&encoder->batches, &lane, encoder->log->pid);
}

/* Viewers end with the last event: that is the end of the recording. */
static void end_threads(struct encoder *encoder) {
  for (uint32_t i = 0; i < encoder->links.thread_count; i++) {
    struct go_thread *is = &encoder->threads[i];
    if (is->state != ABSENT) put(encoder, i, encoder->log->end, GO_PROC_STOP, 0, NULL);
    go_lane_end(&encoder->batches, &is->lane, encoder->links.threads[i].tid);
  }
}

bool go_trace_v2_write(const struct trace_log *log, struct byte_sink *sink) {
  struct encoder *encoder = agent_calloc(1, sizeof *encoder);
  if (!encoder) return false;
  encoder->log = log;
  bool ok =
      go_batches_start(&encoder->batches, log, sink) && trace_links_find(&encoder->links, log);
  size_t count = encoder->links.thread_count;
  if (ok) encoder->threads = agent_calloc(count + 1, sizeof *encoder->threads);
  ok = ok && encoder->threads;
  if (ok && count == 0) put_empty(encoder);
  for (size_t i = 0; ok && i < count; i++) encoder->threads[i].release = TRACE_LINK_NONE;
  for (size_t i = 0; ok && i < log->event_count; i++) {
    add_event(encoder, (uint32_t)i);
    ok = go_batches_ok(&encoder->batches);
  }
  if (encoder->threads) end_threads(encoder);
  ok = ok && go_batches_end(&encoder->batches);
  go_batches_release(&encoder->batches);
  trace_links_release(&encoder->links);
  agent_free(encoder->threads);
  agent_free(encoder);
  return ok;
}
