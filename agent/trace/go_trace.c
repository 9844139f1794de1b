#include "go_trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/index_table.h"
#include "go_trace_writer.h"

enum { REGIONS_MAX = 32, NAME_MAX_BYTES = 32 };

/* As its readers follow it, which refuse a trace with any other step. */
enum lane_state {
  LANE_UNKNOWN,
  LANE_RUNNABLE,
  LANE_RUNNING,
  LANE_WAITING,
  LANE_IN_CALL,
  LANE_ENDED
};

/* A thread. */
struct lane {
  int32_t tid;
  uint32_t p; /* UINT32_MAX: none */
  enum lane_state state;
  uint64_t sequence; /* of its next start or wake */
  uint64_t start_stack;
  bool is_announced, in_gap;
  uint32_t released_stack; /* of its last release, and for whom */
  int32_t released;
  uint32_t region_count; /* open ones, also beyond what is kept */
  uint64_t regions[REGIONS_MAX];
  char name[NAME_MAX_BYTES];
};

struct encoder {
  struct go_writer writer;
  const struct trace_log *log;
  struct lane **lanes;
  uint32_t lane_count, lane_capacity;
  struct index_table by_tid;
  uint32_t *free_ps; /* room for all lanes */
  uint32_t free_count, p_count, most_alive;
};

/* ---- lanes ---- */

struct lane_key {
  struct lane **lanes;
  int32_t tid;
};

static bool lane_equal(const void *context, uint32_t position) {
  const struct lane_key *key = context;
  return key->lanes[position]->tid == key->tid;
}

static struct lane *find_lane(const struct encoder *encoder, int32_t tid) {
  struct lane_key key = {encoder->lanes, tid};
  uint32_t found = index_table_find(&encoder->by_tid, hash_mix((uint32_t)tid, 0), lane_equal, &key);
  return found == INDEX_TABLE_NONE ? NULL : encoder->lanes[found];
}

static bool add_lane(struct encoder *encoder, int32_t tid) {
  if (encoder->lane_count == encoder->lane_capacity) {
    uint32_t capacity = encoder->lane_capacity * 2 + 64;
    struct lane **lanes = agent_realloc(encoder->lanes, capacity * sizeof *lanes);
    if (!lanes) return false;
    encoder->lanes = lanes;
    encoder->lane_capacity = capacity;
  }
  struct lane *lane = agent_calloc(1, sizeof *lane);
  uint64_t hash = hash_mix((uint32_t)tid, 0);
  if (!lane || !index_table_add(&encoder->by_tid, hash, encoder->lane_count)) {
    agent_free(lane);
    return false;
  }
  lane->tid = tid;
  lane->p = UINT32_MAX;
  snprintf(lane->name, sizeof lane->name, "thread %" PRId32, tid);
  encoder->lanes[encoder->lane_count++] = lane;
  return true;
}

/* All threads, with the last name of each; and how many there are at once. */
static bool find_lanes(struct encoder *encoder) {
  uint32_t alive = 0;
  for (size_t i = 0; i < encoder->log->event_count; i++) {
    const struct trace_event *event = &encoder->log->events[i];
    struct lane *lane = event->tid ? find_lane(encoder, event->tid) : NULL;
    bool is_first = event->kind == TRACE_THREAD_FOUND || event->kind == TRACE_THREAD_BORN;
    if (is_first && !lane && event->tid) {
      if (!add_lane(encoder, event->tid)) return false;
      if (++alive > encoder->most_alive) encoder->most_alive = alive;
    }
    if (lane && event->kind == TRACE_THREAD_ENDED && alive > 0) alive--;
    if (lane && event->kind == TRACE_THREAD_NAMED && event->text && *event->text)
      snprintf(lane->name, sizeof lane->name, "%s", event->text);
  }
  encoder->free_ps = agent_malloc((encoder->lane_count + 1) * sizeof *encoder->free_ps);
  return encoder->free_ps != NULL;
}

static void take_p(struct encoder *encoder, struct lane *lane) {
  if (lane->p != UINT32_MAX) return;
  lane->p = encoder->free_count ? encoder->free_ps[--encoder->free_count] : encoder->p_count++;
}

/* ---- events ---- */

#define EMIT(encoder, lane, event, ...)                                            \
  go_writer_event(&(encoder)->writer, (lane)->p, event, (uint64_t[]){__VA_ARGS__}, \
                  sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))
#define EMIT_ALONE(encoder, lane, event) \
  go_writer_event(&(encoder)->writer, (lane)->p, event, NULL, 0)

static uint64_t id_of(const struct lane *lane) { return (uint32_t)lane->tid; }

static void create(struct encoder *encoder, const struct lane *by, struct lane *lane,
                   uint64_t stack) {
  lane->start_stack = go_writer_named_stack(&encoder->writer, lane->name);
  EMIT(encoder, by, GO_CREATE, id_of(lane), lane->start_stack, stack);
  lane->sequence = 1;
  lane->state = LANE_RUNNABLE;
}

static void exit_call(struct encoder *encoder, struct lane *lane) {
  /* The time once more, as that of the exit proper. */
  uint64_t now = (uint64_t)encoder->writer.now + 1;
  EMIT(encoder, lane, GO_SYSCALL_EXIT, id_of(lane), lane->sequence++, now);
  lane->state = LANE_RUNNABLE;
}

/* by: who wakes it, which runs; or the lane itself: nobody that is known. */
static void wake(struct encoder *encoder, const struct lane *by, struct lane *lane,
                 uint64_t stack) {
  if (lane->state == LANE_IN_CALL) exit_call(encoder, lane);
  if (lane->state == LANE_WAITING) {
    EMIT(encoder, by, GO_UNBLOCK, id_of(lane), lane->sequence++, stack);
    lane->state = LANE_RUNNABLE;
  }
  lane->in_gap = false;
}

static void run(struct encoder *encoder, struct lane *lane) {
  if (lane->state == LANE_RUNNING) return;
  EMIT(encoder, lane, GO_PROC_START, id_of(lane));
  wake(encoder, lane, lane, 0);
  EMIT(encoder, lane, GO_START, id_of(lane), lane->sequence++);
  lane->state = LANE_RUNNING;
}

static void stop(struct encoder *encoder, struct lane *lane, enum lane_state state) {
  EMIT_ALONE(encoder, lane, GO_PROC_STOP);
  lane->state = state;
}

static bool is_call(enum trace_reason reason) {
  return reason == TRACE_REASON_READ_WRITE || reason == TRACE_REASON_CALL ||
         reason == TRACE_REASON_DISK;
}

static uint64_t stack_of(struct encoder *encoder, const struct trace_event *event) {
  if (event->stack > 0 && event->stack <= encoder->log->stack_count) return event->stack;
  return event->text ? go_writer_named_stack(&encoder->writer, event->text) : 0;
}

static void block(struct encoder *encoder, struct lane *lane, const struct trace_event *event) {
  uint64_t stack = stack_of(encoder, event);
  if ((lane->state == LANE_WAITING || lane->state == LANE_IN_CALL) && !lane->in_gap) return;
  run(encoder, lane);
  if (is_call(event->reason)) {
    EMIT(encoder, lane, GO_SYSCALL, stack);
    EMIT_ALONE(encoder, lane, GO_SYSCALL_BLOCK);
    return stop(encoder, lane, LANE_IN_CALL);
  }
  enum go_event kind = event->reason == TRACE_REASON_LOCK    ? GO_BLOCK_SYNC
                       : event->reason == TRACE_REASON_SLEEP ? GO_SLEEP
                       : event->reason == TRACE_REASON_POLL  ? GO_BLOCK_NET
                                                             : GO_BLOCK;
  EMIT(encoder, lane, kind, stack);
  stop(encoder, lane, LANE_WAITING);
}

static void preempt(struct encoder *encoder, struct lane *lane) {
  EMIT(encoder, lane, GO_PREEMPT, 0);
  stop(encoder, lane, LANE_RUNNABLE);
}

static void become_runnable(struct encoder *encoder, struct lane *lane,
                            const struct trace_event *event) {
  const struct lane *waker = event->other ? find_lane(encoder, event->other) : NULL;
  if (lane->state == LANE_RUNNING) return preempt(encoder, lane);
  bool is_known = waker && waker != lane && waker->state == LANE_RUNNING;
  bool has_stack = is_known && waker->released == lane->tid;
  wake(encoder, is_known ? waker : lane, lane, has_stack ? waker->released_stack : 0);
}

/* The format has no state that says "not known": a wait whose stack says so. */
static void lose(struct encoder *encoder, struct lane *lane) {
  run(encoder, lane);
  EMIT(encoder, lane, GO_BLOCK, go_writer_named_stack(&encoder->writer, "[records lost]"));
  stop(encoder, lane, LANE_WAITING);
  lane->in_gap = true;
}

static void end(struct encoder *encoder, struct lane *lane) {
  run(encoder, lane);
  EMIT_ALONE(encoder, lane, GO_END);
  stop(encoder, lane, LANE_ENDED);
  encoder->free_ps[encoder->free_count++] = lane->p;
}

static void be_born(struct encoder *encoder, struct lane *lane, const struct trace_event *event) {
  const struct lane *creator = event->other ? find_lane(encoder, event->other) : NULL;
  bool is_known = creator && creator->state == LANE_RUNNING;
  take_p(encoder, lane);
  create(encoder, is_known ? creator : lane, lane, is_known ? stack_of(encoder, event) : 0);
}

/* ---- the program's own marks: of running threads ---- */

static void mark(struct encoder *encoder, const struct lane *lane,
                 const struct trace_event *event) {
  struct go_writer *writer = &encoder->writer;
  char bytes[32];
  if (lane->state != LANE_RUNNING) return;
  const char *category = event->value ? "allocation" : "mark", *text = event->text;
  if (event->value) snprintf(bytes, sizeof bytes, "%" PRIu64 " bytes", event->value);
  EMIT(encoder, lane, GO_USER_LOG, 0, go_writer_string(writer, category), stack_of(encoder, event));
  go_writer_text(writer, event->value ? bytes : text ? text : "");
}

enum { REGION_BEGINS = 0, REGION_ENDS = 1 };

static void begin_region(struct encoder *encoder, struct lane *lane,
                         const struct trace_event *event) {
  uint64_t name = go_writer_string(&encoder->writer, event->text ? event->text : "region");
  bool is_kept = lane->state == LANE_RUNNING && lane->region_count < REGIONS_MAX;
  if (lane->region_count < REGIONS_MAX) lane->regions[lane->region_count] = is_kept ? name : 0;
  lane->region_count++;
  if (is_kept) EMIT(encoder, lane, GO_USER_REGION, 0, REGION_BEGINS, name, event->stack);
}

static void end_region(struct encoder *encoder, struct lane *lane) {
  if (lane->region_count == 0) return;
  uint32_t at = --lane->region_count;
  if (at >= REGIONS_MAX || !lane->regions[at]) return;
  run(encoder, lane); /* it was: its program says so */
  EMIT(encoder, lane, GO_USER_REGION, 0, REGION_ENDS, lane->regions[at], 0);
}

/* ---- the log ---- */

static void count(struct encoder *encoder, const struct trace_event *event) {
  if (!event->text || strcmp(event->text, "heap in use") != 0) return;
  go_writer_event(&encoder->writer, 0, GO_HEAP_ALLOC, &event->value, 1);
}

/* An event of a thread that is known and has not ended. */
static void follow(struct encoder *encoder, struct lane *lane, const struct trace_event *event) {
  switch (event->kind) {
    case TRACE_RUNNING: return run(encoder, lane);
    case TRACE_RUNNABLE: return become_runnable(encoder, lane, event);
    case TRACE_BLOCKED: return block(encoder, lane, event);
    case TRACE_THREAD_ENDED: return end(encoder, lane);
    case TRACE_LOST: return lose(encoder, lane);
    case TRACE_MARK: return mark(encoder, lane, event);
    case TRACE_MARK_BEGIN: return begin_region(encoder, lane, event);
    case TRACE_MARK_END: return end_region(encoder, lane);
    case TRACE_RELEASED:
      lane->released = event->other;
      lane->released_stack = event->stack;
      return;
    default: return;
  }
}

static void encode_event(struct encoder *encoder, const struct trace_event *event) {
  struct lane *lane = event->tid ? find_lane(encoder, event->tid) : NULL;
  go_writer_set_time(&encoder->writer, event->at);
  if (event->kind == TRACE_COUNTER) return count(encoder, event);
  if (!lane) return;
  if (lane->state == LANE_UNKNOWN && event->kind == TRACE_THREAD_BORN)
    return be_born(encoder, lane, event);
  if (lane->state != LANE_UNKNOWN && lane->state != LANE_ENDED) follow(encoder, lane, event);
}

static void note(struct encoder *encoder, const struct lane *lane, const char *key,
                 const char *text) {
  EMIT(encoder, lane, GO_USER_LOG, 0, go_writer_string(&encoder->writer, key), 0);
  go_writer_text(&encoder->writer, text);
}

/* What its reader must know. */
static void note_quality(struct encoder *encoder, const struct lane *lane) {
  const struct trace_log *log = encoder->log;
  char text[128];
  if (log->is_sampled) {
    snprintf(text, sizeof text, "sampled each %" PRId64 " us: shorter ones are not seen",
             log->period / 1000);
    note(encoder, lane, "states", text);
  }
  if (log->lost == 0) return;
  snprintf(text, sizeof text, "%" PRIu64 " records", log->lost);
  note(encoder, lane, "lost", text);
}

/* The threads that are there, which wait or could run, and the number of Ps: before anything runs.
 */
static void announce(struct encoder *encoder) {
  const struct trace_log *log = encoder->log;
  struct lane first = {.p = 0};
  go_writer_set_time(&encoder->writer, log->start);
  EMIT(encoder, &first, GO_PROC_START, (uint32_t)log->pid);
  for (size_t i = 0; i < log->event_count; i++) {
    const struct trace_event *event = &log->events[i];
    struct lane *lane = event->tid ? find_lane(encoder, event->tid) : NULL;
    if (!lane) continue;
    if (event->kind == TRACE_THREAD_FOUND && lane->state == LANE_UNKNOWN) {
      take_p(encoder, lane);
      create(encoder, &first, lane, 0);
    } else if (lane->state == LANE_RUNNABLE && !lane->is_announced) {
      if (event->kind == TRACE_THREAD_NAMED) continue;
      lane->is_announced = true;
      if (event->kind != TRACE_BLOCKED) continue;
      bool in_call = is_call(event->reason);
      EMIT(encoder, &first, in_call ? GO_IN_SYSCALL : GO_WAITING, id_of(lane));
      lane->state = in_call ? LANE_IN_CALL : LANE_WAITING;
      lane->sequence = 2;
    }
  }
  EMIT(encoder, &first, GO_MAX_PROCS, encoder->most_alive ? encoder->most_alive : 1, 0);
  note_quality(encoder, &first);
  EMIT_ALONE(encoder, &first, GO_PROC_STOP);
  if (encoder->p_count == 0) encoder->p_count = 1;
}

static void encode(struct encoder *encoder) {
  const struct trace_log *log = encoder->log;
  announce(encoder);
  for (size_t i = 0; i < log->event_count && !encoder->writer.failed; i++)
    encode_event(encoder, &log->events[i]);
  /* As Go, which stops the world. */
  go_writer_set_time(&encoder->writer, log->end);
  for (uint32_t i = 0; i < encoder->lane_count; i++)
    if (encoder->lanes[i]->state == LANE_RUNNING) preempt(encoder, encoder->lanes[i]);
}

bool go_trace_encode(const struct trace_log *log, struct byte_sink *sink) {
  struct encoder *encoder = agent_calloc(1, sizeof *encoder);
  if (!encoder) return false;
  encoder->log = log;
  bool whole = go_writer_start(&encoder->writer, log, sink) && find_lanes(encoder);
  if (whole) encode(encoder);
  whole = whole && go_writer_end(&encoder->writer);
  go_writer_release(&encoder->writer);
  index_table_release(&encoder->by_tid);
  for (uint32_t i = 0; i < encoder->lane_count; i++) agent_free(encoder->lanes[i]);
  agent_free(encoder->lanes);
  agent_free(encoder->free_ps);
  agent_free(encoder);
  return whole;
}
