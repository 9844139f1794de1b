#include "wall_looks.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shim/stacks/stack_capture.h"
#include "shim/stacks/stack_table.h"
#include "shim/threads/thread_registry.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/symbols/mappings.h"
#include "agent/symbols/symbolizer.h"
#include "blocked_thread.h"
#include "current_stacks.h"
#include "running_threads.h"
#include "thread_dump.h"
#include "thread_list.h"
#include "thread_records.h"
#include "wait_reason.h"

enum { PLACES_MAX = 1 << 16 };

/* What only a place where a thread waits has: its system call, and what that waits for. */
struct waiting {
  struct dumped_thread thread; /* with the frames of the place */
  struct wait_reason reason;
};

struct place {
  struct place *next;
  uint64_t count;
  const char *state;
  struct waiting *waiting; /* NULL: it ran there, or could not be read */
  uint32_t frame_count, epoch;
  uint64_t frames[];
};

struct wall_thread {
  int32_t tid;
  uint64_t cpu_time; /* ns, before the last walk */
  uint64_t cpu_time_now; /* at this instant; 0: it has ended */
  bool waits; /* at the last look, in places[0] */
  bool is_running, has_answered; /* of this instant */
  uint32_t record;
  uintptr_t start_function;
  char name[THREAD_NAME_MAX];
  struct place *places; /* the last one first */
  struct wall_thread *next_ended;
};

struct wall_looks {
  struct wall_options options;
  struct wall_totals totals;
  size_t count, place_count;
  struct wall_thread **threads; /* in the order of the last list */
  struct thread_ids ids; /* the last list */
  size_t own_count; /* the agent's threads when it was read */
  int32_t own[AGENT_THREAD_MAX], own_now[AGENT_THREAD_MAX];
  struct wall_thread *ended;
  struct current_stacks stacks;
};

/* ---- places ---- */

/* NULL: there is no memory for more. It comes first in the thread's list. */
static struct place *find_place(struct wall_looks *looks, struct wall_thread *thread,
                                const char *state, const uint64_t *frames, uint32_t count,
                                uint32_t epoch) {
  size_t size = count * sizeof *frames;
  for (struct place **at = &thread->places; *at; at = &(*at)->next) {
    struct place *place = *at;
    if (place->frame_count != count || place->epoch != epoch || place->state != state ||
        memcmp(place->frames, frames, size) != 0)
      continue;
    *at = place->next;
    place->next = thread->places;
    return thread->places = place;
  }
  struct place *place = NULL;
  if (looks->place_count < PLACES_MAX) place = agent_calloc(1, sizeof *place + size);
  if (!place) return NULL;
  looks->place_count++;
  place->state = state;
  place->frame_count = count;
  place->epoch = epoch;
  memcpy(place->frames, frames, size);
  place->next = thread->places;
  return thread->places = place;
}

static struct place *count_place(struct wall_looks *looks, struct wall_thread *thread,
                                 const char *state, const uint64_t *frames, uint32_t count,
                                 uint32_t epoch) {
  struct place *place = find_place(looks, thread, state, frames, count, epoch);
  if (place) place->count++;
  else looks->totals.lost++;
  return place;
}

static struct place *count_unread(struct wall_looks *looks, struct wall_thread *thread,
                                  const char *state) {
  uint64_t frames[2] = {STACK_NOT_READ, thread->start_function + 1};
  return count_place(looks, thread, state, frames, thread->start_function ? 2 : 1, UINT32_MAX);
}

/* ---- a thread that waits ---- */

/* The first thing to look at is what it did; its stack counts only if it has not run meanwhile. */
static enum thread_presence walk(struct wall_looks *looks, struct wall_thread *thread,
                                 struct blocked_thread *state) {
  enum thread_presence presence = blocked_thread_look(state);
  if (presence == THREAD_ASLEEP || presence == THREAD_HIDDEN) {
    thread->waits = count_unread(looks, thread, "waiting") != NULL;
    return presence;
  }
  if (presence != THREAD_BLOCKED) return presence;
  struct waiting waiting = {.thread = {.tid = thread->tid, .syscall = state->number}};
  memcpy(waiting.thread.arguments, state->arguments, sizeof state->arguments);
  struct blocked_registers registers = {state->pc, state->sp, state->number < 0};
  bool stopped = state->number < 0 && blocked_thread_is_stopped(state);
  CAPTURED_STACK(stack);
  uint32_t epoch;
  bool read = blocked_stack_read(looks->stacks.reader, &registers, stack, &epoch);
  wait_reason_look(&waiting.thread, stopped, blocked_stack_memory(looks->stacks.reader),
                   &waiting.reason);
  if (!blocked_thread_still(state)) return THREAD_RUNNING;
  const char *word = waiting.reason.state;
  struct place *place =
      read && stack->frame_count > 0
          ? count_place(looks, thread, word, stack->frames, stack->frame_count, epoch)
          : count_unread(looks, thread, word);
  thread->waits = place != NULL;
  if (!place || place->waiting) return presence;
  place->waiting = agent_malloc(sizeof waiting); /* NULL: its state keeps its first name */
  if (!place->waiting) return presence;
  *place->waiting = waiting;
  place->waiting->thread.frames = place->frames;
  place->waiting->thread.frame_count = place->frame_count;
  place->waiting->thread.epoch = place->epoch;
  return presence;
}

/* Whether it waits where it did: it has used no CPU time since. */
static bool has_not_moved(const struct wall_thread *thread, uint64_t cpu_time) {
  return thread->waits && thread->places && cpu_time && cpu_time == thread->cpu_time;
}

static void look_at(struct wall_looks *looks, struct wall_thread *thread) {
  enum { TRIES = 3 };
  thread->is_running = false;
  if (has_not_moved(thread, thread->cpu_time_now)) {
    thread->places->count++;
    looks->totals.unmoved++;
    return;
  }
  struct blocked_thread state;
  enum thread_presence presence;
  thread->waits = false;
  thread->cpu_time = thread->cpu_time_now; /* read before the stack: if it runs again, it differs */
  blocked_thread_open(&state, thread->tid);
  blocked_thread_name(&state, thread->name, sizeof thread->name);
  int tries = TRIES;
  do {
    presence = walk(looks, thread, &state);
  } while (presence == THREAD_RUNNING && state.number >= 0 && --tries > 0);
  looks->totals.walks++;
  thread->is_running = presence == THREAD_RUNNING;
  blocked_thread_close(&state);
}

/* ---- those that run ---- */

static void take_answers(struct wall_looks *looks, struct running_threads *asked, size_t *left) {
  const struct stack_sample *sample;
  size_t i;
  while (*left > 0 && (sample = running_threads_next(asked, &i))) {
    struct wall_thread *thread = looks->threads[i];
    count_place(looks, thread, "running", sample->frames, sample->frame_count, sample->epoch);
    thread->has_answered = true;
    --*left;
  }
}

/* Where they run they say at their next tick; one that does not say is counted all the same. */
static void ask_running(struct wall_looks *looks, size_t count, int64_t patience) {
  enum { NAP_NANOSECONDS = 1000 * 1000 };
  int64_t deadline = agent_monotonic_nanoseconds() + patience;
  struct running_threads *asked = running_threads_begin(count);
  size_t left = 0;
  for (size_t i = 0; asked && i < looks->count; i++) {
    struct wall_thread *thread = looks->threads[i];
    if (thread->is_running)
      left += !running_threads_ask(asked, thread->tid, thread->record, i, false);
  }
  while (left > 0) {
    take_answers(looks, asked, &left);
    if (left == 0 || agent_monotonic_nanoseconds() >= deadline) break;
    struct timespec nap = {.tv_nsec = NAP_NANOSECONDS};
    nanosleep(&nap, NULL);
  }
  for (size_t i = 0; i < looks->count; i++) {
    struct wall_thread *thread = looks->threads[i];
    if (!thread->is_running || thread->has_answered) continue;
    count_unread(looks, thread, "running");
    looks->totals.unread++;
  }
  running_threads_end(asked);
}

/* ---- which threads there are ---- */

/* By their records, which only running ones are asked by: it costs a pass over all. */
static bool find_records(struct wall_looks *looks, const struct thread_ids *ids) {
  uint32_t *records = agent_malloc((ids->count + 1) * sizeof *records);
  if (!records) return false;
  thread_records_match(ids, records);
  for (size_t i = 0; i < ids->count; i++) {
    struct thread_view view;
    struct wall_thread *thread = looks->threads[i];
    thread->record = records[i];
    if (records[i] && thread_registry_read(records[i], &view) && view.tid == thread->tid)
      thread->start_function = view.start;
  }
  agent_free(records);
  return true;
}

static struct wall_thread *take_known(struct wall_looks *looks, size_t *cursor, int32_t tid) {
  for (size_t i = 0; i < looks->count; i++, ++*cursor) {
    if (*cursor >= looks->count) *cursor = 0;
    struct wall_thread *thread = looks->threads[*cursor];
    if (!thread || thread->tid != tid) continue;
    looks->threads[(*cursor)++] = NULL;
    return thread;
  }
  return NULL;
}

static struct wall_thread *new_thread(int32_t tid) {
  struct wall_thread *thread = agent_calloc(1, sizeof *thread);
  if (!thread) return NULL;
  thread->tid = tid;
  return thread;
}

static void release_thread(struct wall_thread *thread) {
  while (thread->places) {
    struct place *place = thread->places;
    thread->places = place->next;
    agent_free(place->waiting);
    agent_free(place);
  }
  agent_free(thread);
}

/* The threads in the order of the list; those that are in it no more are kept for what they did. */
static bool match_threads(struct wall_looks *looks, const struct thread_ids *ids) {
  struct wall_thread **threads = agent_calloc(ids->count + 1, sizeof *threads);
  if (!threads) return false;
  size_t cursor = 0;
  bool whole = true;
  for (size_t i = 0; i < ids->count && whole; i++) {
    threads[i] = take_known(looks, &cursor, ids->tids[i]);
    if (!threads[i]) threads[i] = new_thread(ids->tids[i]);
    whole = threads[i] != NULL;
  }
  for (size_t i = 0; i < looks->count; i++) {
    struct wall_thread *thread = looks->threads[i];
    if (!thread) continue;
    if (!thread->places) { /* so those that are kept are as few as places */
      release_thread(thread);
      continue;
    }
    thread->next_ended = looks->ended;
    looks->ended = thread;
  }
  agent_free(looks->threads);
  looks->threads = threads;
  for (looks->count = 0; looks->count < ids->count && threads[looks->count];) looks->count++;
  return whole;
}

/* ---- an instant ---- */

/* False: some thread has ended. */
static bool read_cpu_times(struct wall_looks *looks) {
  bool all = true;
  for (size_t i = 0; i < looks->count; i++) {
    uint64_t now = thread_cpu_nanoseconds(looks->threads[i]->tid);
    looks->threads[i]->cpu_time_now = now;
    all = all && now;
  }
  return all;
}

/* Reading /proc's list of a thousand threads takes as long as all their CPU times: it is read when
 * the kernel has another number of them, or some thread of ours or the host's is gone. */
static bool renew_list(struct wall_looks *looks) {
  struct thread_ids own = {agent_thread_ids(looks->own_now, AGENT_THREAD_MAX), looks->own_now};
  size_t all = thread_list_kernel_count();
  bool holds = looks->ids.tids && all == looks->ids.count + own.count && !agent_thread_starting() &&
               own.count == looks->own_count &&
               memcmp(own.tids, looks->own, own.count * sizeof *own.tids) == 0;
  if (holds && read_cpu_times(looks)) return true;
  thread_list_release(&looks->ids);
  looks->own_count = own.count;
  memcpy(looks->own, own.tids, own.count * sizeof *own.tids);
  if (!thread_list_read(&looks->ids) || !match_threads(looks, &looks->ids)) return false;
  read_cpu_times(looks);
  return true;
}

static bool take(struct wall_looks *looks, int64_t patience) {
  size_t running = 0;
  bool whole = current_stacks_renew(&looks->stacks) && renew_list(looks);
  for (size_t i = 0; whole && i < looks->count; i++) {
    looks->threads[i]->has_answered = false;
    look_at(looks, looks->threads[i]);
    running += looks->threads[i]->is_running;
  }
  looks->totals.instants += whole;
  looks->totals.running += running;
  if (whole && running > 0 && !looks->options.off) {
    whole = find_records(looks, &looks->ids);
    if (whole) ask_running(looks, running, patience);
  }
  return whole;
}

bool wall_looks_take(struct wall_looks *looks, int64_t patience) {
  thread_dump_hold();
  bool whole = take(looks, patience);
  thread_dump_let_go();
  return whole;
}

struct wall_totals wall_looks_totals(const struct wall_looks *looks) {
  return looks->totals;
}

/* ---- what was found ---- */

static bool was_idle(const struct wall_looks *looks, const struct wall_thread *thread) {
  const struct place *place = thread->places;
  return place && !place->next && place->count == looks->totals.instants &&
         strcmp(place->state, "running") != 0;
}

static bool add_thread(struct wall_looks *looks, struct wall_thread *thread,
                       struct profile_builder *builder, double interval,
                       struct symbolizer_session *symbols) {
  if (looks->options.no_idle && was_idle(looks, thread)) return true;
  for (struct place *place = thread->places; place; place = place->next) {
    struct waiting *waiting = place->waiting;
    if (waiting) wait_reason_name(&waiting->thread, looks->stacks.code, symbols, &waiting->reason);
    struct profile_stack stack = {
        .frame_count = place->frame_count, .epoch = place->epoch, .frames = place->frames};
    struct profile_label labels[] = {
        {.key = "thread_name", .text = thread->name},
        {.key = "state", .text = waiting ? waiting->reason.state : place->state}};
    double values[] = {(double)place->count, (double)place->count * interval};
    if (!profile_builder_add(builder, &stack, labels, 2, values)) return false;
  }
  return true;
}

bool wall_looks_build(struct wall_looks *looks, struct profile_builder *builder, double interval) {
  struct symbolizer_session *symbols = symbolizer_open();
  looks->stacks.until = 0;
  bool whole = symbols && current_stacks_renew(&looks->stacks);
  for (size_t i = 0; whole && i < looks->count; i++)
    whole = add_thread(looks, looks->threads[i], builder, interval, symbols);
  for (struct wall_thread *thread = looks->ended; whole && thread; thread = thread->next_ended)
    whole = add_thread(looks, thread, builder, interval, symbols);
  whole = whole && !symbolizer_given_up(symbols);
  if (symbols) symbolizer_close(symbols);
  return whole;
}

/* ---- life ---- */

struct wall_looks *wall_looks_new(struct wall_options options) {
  struct wall_looks *looks = agent_calloc(1, sizeof *looks);
  if (!looks) return NULL;
  looks->options = options;
  return looks;
}

void wall_looks_release(struct wall_looks *looks) {
  if (!looks) return;
  for (size_t i = 0; i < looks->count; i++) release_thread(looks->threads[i]);
  while (looks->ended) {
    struct wall_thread *thread = looks->ended;
    looks->ended = thread->next_ended;
    release_thread(thread);
  }
  agent_free(looks->threads);
  thread_list_release(&looks->ids);
  current_stacks_release(&looks->stacks);
  agent_free(looks);
}
