#include "traced_thread.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "shim/stacks/stack_table.h"
#include "shim/threads/thread_registry.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/foreign_text.h"
#include "agent/runtime/task_files.h"
#include "agent/threads/thread_list.h"

enum { LOOK_AFTER_NANOSECONDS = 2000000, INTRO_TRIES = 10 };

/* ---- handing out ---- */

static void hand_out(const struct traced_context *context, const struct trace_event *event) {
  context->sink(context->owner, event, NULL);
}

static struct trace_taken_stack stack_of(const struct traced_thread *thread) {
  return (struct trace_taken_stack){thread->frame_count, thread->epoch, thread->frames};
}

static void forget_look(struct traced_thread *thread) {
  agent_free(thread->text);
  agent_free(thread->frames);
  thread->text = NULL;
  thread->frames = NULL;
  thread->frame_count = 0;
  thread->is_looked_at = false;
  thread->state.text = NULL;
  thread->state.reason = TRACE_REASON_UNKNOWN;
}

static void hand_out_state(struct traced_thread *thread, const struct traced_context *context) {
  struct trace_taken_stack stack = stack_of(thread);
  if (thread->state.kind != TRACE_LOST) context->sink(context->owner, &thread->state, &stack);
}

static void set_state(struct traced_thread *thread, const struct traced_context *context,
                      enum trace_kind kind, int64_t at, int32_t cpu) {
  hand_out_state(thread, context);
  forget_look(thread);
  thread->state = (struct trace_event){.at = at, .tid = thread->tid, .cpu = cpu, .kind = kind};
}

/* ---- who it is ---- */

static void read_name(struct traced_thread *thread) {
  int task = task_open(thread->tid);
  thread->name[0] = 0;
  if (task < 0) return;
  task_read_name(task, thread->name, sizeof thread->name);
  foreign_text_clean(thread->name);
  close(task);
}

static struct trace_event name_event(const struct traced_thread *thread, int64_t at) {
  return (struct trace_event){
      .at = at, .tid = thread->tid, .cpu = -1, .kind = TRACE_THREAD_NAMED, .text = thread->name};
}

/* False: it has no record (yet). */
static bool find_origin(struct traced_thread *thread, struct trace_taken_stack *stack) {
  struct thread_view view;
  struct stack_view frames;
  for (uint32_t number = thread_registry_count(); number > 0; number--) {
    if (!thread_registry_read(number, &view) || view.tid != thread->tid) continue;
    if (!thread->intro.other) thread->intro.other = view.creator;
    if (view.creation_stack && stack_table_read(view.creation_stack, &frames))
      *stack = (struct trace_taken_stack){frames.frame_count, frames.epoch, frames.frames};
    return true;
  }
  return false;
}

void traced_thread_introduce(struct traced_thread *thread, const struct traced_context *context,
                             bool last) {
  struct trace_taken_stack stack = {0};
  if (thread->intro_tries == 0) return;
  bool is_found = thread->intro.kind == TRACE_THREAD_FOUND || find_origin(thread, &stack);
  if (!is_found && !last && --thread->intro_tries > 0) return;
  thread->intro_tries = 0;
  context->sink(context->owner, &thread->intro, &stack);
  read_name(thread);
  struct trace_event name = name_event(thread, thread->intro.at);
  if (*thread->name) hand_out(context, &name);
}

static void tell_who(const struct traced_thread *thread, traced_sink *sink, void *owner) {
  struct trace_event name = name_event(thread, thread->intro.at);
  sink(owner, &thread->intro, NULL);
  if (*thread->name) sink(owner, &name, NULL);
}

void traced_thread_tell_newcomer(const struct traced_thread *thread, traced_sink *sink,
                                 void *owner) {
  if (thread->intro_tries == 0) tell_who(thread, sink, owner); /* else it will be told to all */
}

void traced_thread_tell_leaver(const struct traced_thread *thread, traced_sink *sink, void *owner) {
  struct trace_taken_stack stack = stack_of(thread);
  if (thread->intro_tries > 0) tell_who(thread, sink, owner);
  if (thread->state.kind != TRACE_LOST) return sink(owner, &thread->state, &stack);
  if (!thread->is_new || !thread->ring.memory) return;
  /* No record has come: it is as it was when the ring was opened. */
  struct trace_event state = {
      .at = thread->opened, .tid = thread->tid, .cpu = -1, .kind = TRACE_RUNNABLE};
  if (thread->was_blocked) state.kind = TRACE_BLOCKED;
  else if (thread_cpu_nanoseconds(thread->tid) > thread->cpu_before) state.kind = TRACE_RUNNING;
  sink(owner, &state, NULL);
}

/* ---- the ring ---- */

int traced_thread_begin(struct traced_thread *thread, const struct trace_event *intro,
                        uint32_t pages) {
  *thread = (struct traced_thread){
      .tid = intro->tid, .intro = *intro, .ring.descriptor = -1, .intro_tries = INTRO_TRIES};
  thread->state = (struct trace_event){.tid = intro->tid, .kind = TRACE_LOST, .cpu = -1};
  thread->opened = agent_monotonic_nanoseconds();
  thread->is_new = true;
  int fault = pages ? perf_ring_open_switches(&thread->ring, thread->tid, pages) : 0;
  perf_ring_give_up_descriptor(&thread->ring); /* the mapping keeps the event */
  thread->cpu_before = thread_cpu_nanoseconds(thread->tid);
  if (thread->ring.memory) thread->was_blocked = trace_look_is_blocked(thread->tid);
  return fault;
}

void traced_thread_end(struct traced_thread *thread) {
  perf_ring_close(&thread->ring);
  forget_look(thread);
}

/* How it was from its intro, or when the ring was opened, to its first record. A thread whose birth
 * was seen waited for its first CPU, and ran for as long as its clock says just before there was a
 * ring. */
static void begin_states(struct traced_thread *thread, const struct traced_context *context,
                         bool ran) {
  if (!thread->is_new) return;
  thread->is_new = false;
  int64_t birth = thread->intro.at, opened = thread->opened;
  int64_t ran_since = opened - (int64_t)thread->cpu_before;
  bool is_born = thread->intro.kind == TRACE_THREAD_BORN;
  enum trace_kind off = thread->was_blocked ? TRACE_BLOCKED : TRACE_RUNNABLE;
  if (!is_born) return set_state(thread, context, ran ? TRACE_RUNNING : off, opened, -1);
  set_state(thread, context, TRACE_RUNNABLE, birth, -1);
  if (ran_since < birth) ran_since = birth;
  if (ran || thread->cpu_before) set_state(thread, context, TRACE_RUNNING, ran_since, -1);
  if (!ran && thread->cpu_before) set_state(thread, context, off, opened, -1);
}

static void take_name(struct traced_thread *thread, const struct traced_context *context,
                      const struct perf_ring_record *record) {
  strncpy(thread->name, record->name, sizeof thread->name - 1);
  foreign_text_clean(thread->name);
  struct trace_event name = name_event(thread, record->at);
  hand_out(context, &name);
}

/* What was since the last record that was kept is not known. */
static void lose(struct traced_thread *thread, const struct traced_context *context,
                 uint64_t count) {
  int64_t at = thread->is_new ? thread->opened : thread->state.at;
  struct trace_event event = {
      .at = at, .tid = thread->tid, .cpu = -1, .kind = TRACE_LOST, .value = count};
  begin_states(thread, context, false);
  hand_out_state(thread, context);
  hand_out(context, &event);
  forget_look(thread);
  thread->state.kind = TRACE_LOST;
  thread->state.at = at;
  thread->lost += count;
}

void traced_thread_lost_events(const struct traced_thread *thread,
                               const struct traced_context *context, uint64_t count) {
  struct trace_event event = {
      .at = thread->state.at, .tid = thread->tid, .cpu = -1, .kind = TRACE_LOST, .value = count};
  if (thread->state.kind != TRACE_LOST && !thread->has_ended) hand_out(context, &event);
}

static void end_it(struct traced_thread *thread, const struct traced_context *context, int64_t at) {
  struct trace_event event = {.at = at, .tid = thread->tid, .cpu = -1, .kind = TRACE_THREAD_ENDED};
  if (thread->has_ended) return;
  thread->has_ended = true;
  traced_thread_introduce(thread, context, true);
  hand_out_state(thread, context);
  hand_out(context, &event);
}

static void take(struct traced_thread *thread, const struct traced_context *context,
                 const struct perf_ring_record *record) {
  switch (record->kind) {
    case PERF_RING_ON_CPU:
      begin_states(thread, context, false);
      return set_state(thread, context, TRACE_RUNNING, record->at, record->cpu);
    case PERF_RING_OFF_CPU:
      begin_states(thread, context, true);
      return set_state(thread, context, record->preempted ? TRACE_RUNNABLE : TRACE_BLOCKED,
                       record->at, record->cpu);
    case PERF_RING_NAME: return take_name(thread, context, record);
    case PERF_RING_BIRTH:
      return context->born(context->owner, record->child, record->at, thread->tid);
    case PERF_RING_END:
      begin_states(thread, context, true);
      return end_it(thread, context, record->at);
    case PERF_RING_LOST: return lose(thread, context, record->lost);
    case PERF_RING_SAMPLE: return;
  }
}

void traced_thread_read(struct traced_thread *thread, const struct traced_context *context) {
  struct perf_ring_record record;
  while (!thread->has_ended && perf_ring_next(&thread->ring, context->scratch, &record))
    take(thread, context, &record);
}

void traced_thread_vanishes(struct traced_thread *thread, const struct traced_context *context) {
  begin_states(thread, context, false);
  end_it(thread, context, agent_monotonic_nanoseconds());
}

/* ---- looks ---- */

static void keep_look(struct traced_thread *thread, const struct trace_look *look) {
  size_t size = look->frame_count * sizeof *look->frames;
  forget_look(thread);
  thread->is_looked_at = true;
  thread->state.reason = (uint8_t)look->reason;
  thread->state.text = thread->text = *look->text ? agent_strdup(look->text) : NULL;
  thread->frames = size ? agent_malloc(size) : NULL;
  if (!thread->frames) return;
  memcpy(thread->frames, look->frames, size);
  thread->frame_count = look->frame_count;
  thread->epoch = look->epoch;
}

/* The kernel tells the states. */
static void look_with_ring(struct traced_thread *thread, const struct traced_context *context) {
  if (thread->was_blocked) begin_states(thread, context, false); /* else its first record tells */
  int64_t since = thread->state.at;
  bool is_due = thread->state.kind == TRACE_BLOCKED && !thread->is_looked_at &&
                agent_monotonic_nanoseconds() - since >= LOOK_AFTER_NANOSECONDS;
  if (!is_due) return;
  trace_look_at(context->stacks, thread->tid, context->look);
  traced_thread_read(thread, context);
  bool is_same = thread->state.kind == TRACE_BLOCKED && thread->state.at == since;
  if (is_same && context->look->is_blocked && !thread->has_ended) keep_look(thread, context->look);
}

static bool is_another_wait(const struct traced_thread *thread, const struct trace_look *look) {
  if (thread->state.reason != look->reason || !thread->frame_count != !look->frame_count)
    return true;
  return look->frame_count && thread->frame_count &&
         (look->frame_count != thread->frame_count ||
          memcmp(look->frames, thread->frames, look->frame_count * sizeof *look->frames) != 0);
}

/* A wait that is another one than at the last look: it ran in between, nobody knows when. */
static void look_without_ring(struct traced_thread *thread, const struct traced_context *context) {
  trace_look_at(context->stacks, thread->tid, context->look);
  int64_t now = agent_monotonic_nanoseconds();
  const struct trace_look *look = context->look;
  if (look->has_ended) return end_it(thread, context, now);
  bool was_blocked = thread->state.kind == TRACE_BLOCKED;
  thread->is_new = false;
  if (!look->is_blocked) {
    if (thread->state.kind != TRACE_RUNNING) set_state(thread, context, TRACE_RUNNING, now, -1);
    return;
  }
  if (was_blocked && !is_another_wait(thread, look)) return;
  if (was_blocked) set_state(thread, context, TRACE_RUNNING, now - 1, -1);
  set_state(thread, context, TRACE_BLOCKED, now, -1);
  keep_look(thread, look);
}

void traced_thread_look(struct traced_thread *thread, const struct traced_context *context) {
  if (thread->has_ended) return;
  if (thread->ring.memory) look_with_ring(thread, context);
  else look_without_ring(thread, context);
}
