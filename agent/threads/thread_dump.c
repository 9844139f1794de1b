#include "thread_dump.h"

#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shim/cpu/interrupted_call.h"
#include "shim/threads/thread_registry.h"
#include "shim/stacks/unwind_rule.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_memory.h"
#include "agent/symbols/announced_code.h"
#include "agent/runtime/agent_thread.h"
#include "agent/profiles/profile_builder.h"
#include "blocked_stack.h"
#include "blocked_thread.h"
#include "deadlocks.h"
#include "agent/runtime/memory_reader.h"
#include "agent/runtime/process_info.h"
#include "running_threads.h"
#include "thread_list.h"
#include "thread_records.h"
#include "wait_reason.h"

static struct agent_lock dump_lock;

void thread_dump_hold(void) { agent_lock_take(&dump_lock); }
void thread_dump_let_go(void) { agent_lock_release(&dump_lock); }

/* One dump being taken; index i is the same thread in all arrays. */
struct dump_work {
  struct thread_ids ids;
  uint32_t *records;
  struct dumped_thread *threads; /* of the dump */
  struct wait_reason *reasons;
  bool *gone, *hidden, *asleep; /* asleep: it may be asked by a signal */
  size_t *running; /* indexes */
  struct mappings *code; /* before the dump */
  struct blocked_stack_reader *stacks;
};

/* This library's code: what a wrapper or the thread's start function has on the stack is not shown.
 */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _etext[] __attribute__((visibility("hidden")));

/* ---- order ---- */

/* The first thread first, then by number; they mostly are already. */
static void order_threads(struct thread_ids *ids) {
  int32_t first = getpid();
  for (size_t gap = ids->count / 2; gap > 0; gap /= 2)
    for (size_t i = gap; i < ids->count; i++) {
      int32_t tid = ids->tids[i];
      size_t at = i;
      for (;
           at >= gap && ids->tids[at - gap] != first && (tid == first || ids->tids[at - gap] > tid);
           at -= gap)
        ids->tids[at] = ids->tids[at - gap];
      ids->tids[at] = tid;
    }
}

/* ---- one thread ---- */

static bool keep_frames(struct dumped_thread *thread, const uint64_t *frames, uint32_t count,
                        uint32_t epoch) {
  uint64_t *copy = agent_malloc(count * sizeof *copy);
  if (!copy) {
    thread->not_read = "there was no memory for its stack";
    return false;
  }
  memcpy(copy, frames, count * sizeof *copy);
  thread->frames = copy;
  thread->frame_count = count;
  thread->epoch = epoch;
  thread->not_read = NULL;
  return true;
}

enum outcome { OUTCOME_READ, OUTCOME_RUNNING, OUTCOME_ENDED };

static bool read_blocked_word(void *reader, uintptr_t address, uintptr_t *value) {
  return memory_reader_word(reader, address, value);
}

/* A call that was stopped and continued (job control, a debugger) goes on as restart_syscall; its
 * own number is in the code before it. */
static void find_restarted_call(struct blocked_thread *state, struct memory_reader *memory) {
  uint32_t number;
  memory_reader_forget(memory);
  struct interrupted_thread thread = {
      .pc = state->pc, .sp = state->sp, .read = read_blocked_word, .reader = memory};
  if (!unwind_rule_borrow_begin()) return;
  if (interrupted_call_number(&thread, &number)) state->number = (int32_t)number;
  unwind_rule_borrow_end();
}

/* Where it is cannot be known: what can be, if the kernel has not run it meanwhile. */
static enum outcome read_asleep(struct dump_work *work, size_t i, struct blocked_thread *state) {
  struct dumped_thread *thread = &work->threads[i];
  wait_reason_guess(state->kernel_function, blocked_thread_is_stopped(state), &work->reasons[i]);
  int64_t time = blocked_thread_time(state, thread->tid);
  if (!blocked_thread_still(state)) return OUTCOME_RUNNING;
  thread->state = work->reasons[i].state;
  thread->blocked_nanoseconds = time;
  thread->not_read = state->hidden_because;
  work->asleep[i] = !blocked_thread_is_stopped(state) &&
                    wait_reason_is_harmless_to_interrupt(state->kernel_function);
  return OUTCOME_READ;
}

/* While it does not run. What is read counts only if the kernel has not run it meanwhile. */
static enum outcome read_blocked(struct dump_work *work, size_t i, struct blocked_thread *state) {
  struct dumped_thread *thread = &work->threads[i];
  enum thread_presence presence = blocked_thread_look(state);
  work->hidden[i] = presence == THREAD_HIDDEN;
  if (presence == THREAD_HIDDEN) thread->not_read = state->hidden_because;
  if (presence == THREAD_ENDED) return OUTCOME_ENDED;
  if (presence == THREAD_ASLEEP) return read_asleep(work, i, state);
  if (presence != THREAD_BLOCKED) return OUTCOME_RUNNING;
  if (state->number == SYS_restart_syscall)
    find_restarted_call(state, blocked_stack_memory(work->stacks));
  thread->syscall = state->number;
  memcpy(thread->arguments, state->arguments, sizeof thread->arguments);
  bool stopped = state->number < 0 && blocked_thread_is_stopped(state);
  struct blocked_registers registers = {
      .pc = state->pc, .sp = state->sp, .exact = state->number < 0};
  CAPTURED_STACK(stack);
  uint32_t epoch;
  bool read = blocked_stack_read(work->stacks, &registers, stack, &epoch);
  wait_reason_look(thread, stopped, blocked_stack_memory(work->stacks), &work->reasons[i]);
  int64_t time = blocked_thread_time(state, thread->tid);
  if (!blocked_thread_still(state)) {
    thread->syscall = -1;
    return OUTCOME_RUNNING;
  }
  thread->state = work->reasons[i].state;
  thread->blocked_nanoseconds = time;
  thread->runs = state->runs;
  if (!read) thread->not_read = "a library was being unloaded just then";
  else if (stack->frame_count == 0) thread->not_read = "it was in the profiling agent's own code";
  else keep_frames(thread, stack->frames, stack->frame_count, epoch);
  return OUTCOME_READ;
}

static enum outcome look_at_thread(struct dump_work *work, size_t i, int tries) {
  struct dumped_thread *thread = &work->threads[i];
  struct blocked_thread state;
  enum outcome outcome;
  blocked_thread_open(&state, thread->tid);
  if (!thread->name[0]) blocked_thread_name(&state, thread->name, sizeof thread->name);
  do {
    outcome = read_blocked(work, i, &state);
  } while (outcome == OUTCOME_RUNNING && !thread->not_read && --tries > 0);
  blocked_thread_close(&state);
  return outcome;
}

static void mark_ended(struct dump_work *work, size_t i) {
  struct dumped_thread *thread = &work->threads[i];
  if (!thread->is_main) {
    work->gone[i] = true;
    return;
  }
  thread->state = "dead";
  thread->not_read = "it has ended; the process goes on without it";
}

static void start_thread(struct dump_work *work, size_t i) {
  struct dumped_thread *thread = &work->threads[i];
  struct thread_view view;
  *thread =
      (struct dumped_thread){.tid = work->ids.tids[i], .syscall = -1, .blocked_nanoseconds = -1};
  thread->is_main = thread->tid == getpid();
  if (work->records[i] && thread_registry_read(work->records[i], &view) &&
      view.tid == thread->tid) {
    thread->creator = view.creator;
    thread->creation_stack = view.creation_stack;
    thread->start_function = view.start;
  }
}

/* ---- those that run ---- */

static void take_sample(struct dump_work *work, size_t i, const struct stack_sample *sample) {
  struct dumped_thread *thread = &work->threads[i];
  thread->state = "running";
  thread->syscall = -1;
  keep_frames(thread, sample->frames, sample->frame_count, sample->epoch);
}

static void ask_running(struct dump_work *work, struct running_threads *asked,
                        const size_t *running, size_t count) {
  for (size_t k = 0; k < count; k++) {
    struct dumped_thread *thread = &work->threads[running[k]];
    const char *why = asked ? running_threads_ask(asked, thread->tid, work->records[running[k]],
                                                  running[k], false)
                            : "there was no memory to ask it";
    if (!thread->not_read)
      thread->not_read = why; /* but not if the kernel does not even tell whether it runs */
  }
}

/* One look at each that is still to be read; those that have been, or have ended, are taken out. */
static size_t look_again(struct dump_work *work, struct running_threads *asked, size_t *running,
                         size_t count) {
  size_t left = 0, i;
  const struct stack_sample *sample;
  while (asked && (sample = running_threads_next(asked, &i))) take_sample(work, i, sample);
  for (size_t k = 0; k < count; k++) {
    if (work->threads[running[k]].frames) continue;
    if (work->hidden[running[k]]) { /* it answers or it does not: there is nothing to look at */
      running[left++] = running[k];
      continue;
    }
    enum outcome outcome = look_at_thread(work, running[k], 1);
    if (outcome == OUTCOME_RUNNING) {
      running[left++] = running[k];
      continue;
    }
    if (outcome == OUTCOME_ENDED) mark_ended(work, running[k]);
    if (asked) running_threads_forget(asked, running[k]);
  }
  return left;
}

/* running: the indexes of the threads that run. */
static void read_running(struct dump_work *work, size_t *running, size_t count) {
  enum { DEADLINE_NANOSECONDS = 500 * 1000 * 1000, NAP_NANOSECONDS = 2 * 1000 * 1000 };
  struct running_threads *asked = running_threads_begin(count);
  ask_running(work, asked, running, count);
  int64_t deadline = agent_monotonic_nanoseconds() + DEADLINE_NANOSECONDS;
  for (;;) {
    count = look_again(work, asked, running, count);
    if (count == 0 || agent_monotonic_nanoseconds() > deadline) break;
    struct timespec nap = {.tv_nsec = NAP_NANOSECONDS};
    nanosleep(&nap, NULL);
  }
  for (size_t k = 0; k < count; k++) {
    struct dumped_thread *thread = &work->threads[running[k]];
    if (work->hidden[running[k]]) {
      thread->state = "waiting";
      continue;
    }
    thread->state = thread->not_read ? "running" : "runnable";
    if (!thread->not_read)
      thread->not_read = "it waits for a processor: it did not run within half a second";
  }
  running_threads_end(asked);
}

/* ---- those whose place may not be read ---- */

static size_t take_answers(struct dump_work *work, struct running_threads *asked) {
  const struct stack_sample *sample;
  size_t i, count = 0;
  for (; (sample = running_threads_next(asked, &i)); count++) {
    keep_frames(&work->threads[i], sample->frames, sample->frame_count, sample->epoch);
    wait_reason_was_asked(&work->reasons[i]);
  }
  return count;
}

/* It was a moment ago; is it still? */
static bool still_asleep(struct dump_work *work, size_t i) {
  struct blocked_thread state;
  blocked_thread_open(&state, work->threads[i].tid);
  bool still = blocked_thread_look(&state) == THREAD_ASLEEP &&
               wait_reason_is_harmless_to_interrupt(state.kernel_function);
  blocked_thread_close(&state);
  return still;
}

/* By a signal each, which they answer at once. */
static void ask_asleep(struct dump_work *work, size_t count) {
  enum { DEADLINE_NANOSECONDS = 500 * 1000 * 1000, NAP_NANOSECONDS = 1000 * 1000 };
  struct running_threads *asked = running_threads_begin(count);
  if (!asked) return;
  size_t left = 0;
  for (size_t i = 0; i < work->ids.count; i++)
    if (work->asleep[i] && still_asleep(work, i))
      left += !running_threads_ask(asked, work->threads[i].tid, work->records[i], i, true);
  int64_t deadline = agent_monotonic_nanoseconds() + DEADLINE_NANOSECONDS;
  while ((left -= take_answers(work, asked)) > 0 && agent_monotonic_nanoseconds() < deadline) {
    struct timespec nap = {.tv_nsec = NAP_NANOSECONDS};
    nanosleep(&nap, NULL);
  }
  running_threads_end(asked);
}

/* ---- the whole ---- */

static bool begin_work(struct dump_work *work, struct thread_dump *dump) {
  if (!thread_list_read(&work->ids)) return false;
  size_t count = work->ids.count;
  order_threads(&work->ids);
  work->records = agent_calloc(count, sizeof *work->records);
  work->reasons = agent_calloc(count, sizeof *work->reasons);
  work->running = agent_calloc(count, sizeof *work->running);
  work->gone = agent_calloc(count, sizeof *work->gone);
  work->hidden = agent_calloc(count, sizeof *work->hidden);
  work->asleep = agent_calloc(count, sizeof *work->asleep);
  work->threads = dump->threads = agent_calloc(count, sizeof *work->threads);
  if (!work->records || !work->reasons || !work->running || !work->gone || !work->hidden ||
      !work->asleep || !work->threads)
    return false;
  work->code = mappings_collect();
  work->stacks =
      work->code ? blocked_stack_reader_new(work->code, (uintptr_t)__ehdr_start, (uintptr_t)_etext)
                 : NULL;
  if (!work->stacks) return false;
  thread_records_match(&work->ids, work->records);
  for (size_t i = 0; i < count; i++) start_thread(work, i);
  dump->count = count;
  return true;
}

static void end_work(struct dump_work *work) {
  blocked_stack_reader_release(work->stacks);
  mappings_release(work->code);
  agent_free(work->hidden);
  agent_free(work->asleep);
  agent_free(work->gone);
  agent_free(work->running);
  agent_free(work->reasons);
  agent_free(work->records);
  thread_list_release(&work->ids);
}

static void read_threads(struct dump_work *work) {
  enum { TRIES = 3 };
  size_t running = 0;
  blocked_times_begin();
  for (size_t i = 0; i < work->ids.count; i++) {
    enum outcome outcome = look_at_thread(work, i, TRIES);
    if (outcome == OUTCOME_RUNNING) work->running[running++] = i;
    else if (outcome == OUTCOME_ENDED) mark_ended(work, i);
  }
  if (running > 0) read_running(work, work->running, running);
  size_t asleep = 0;
  for (size_t i = 0; i < work->ids.count; i++) asleep += work->asleep[i];
  if (asleep > 0) ask_asleep(work, asleep);
  blocked_times_end();
}

/* With the names of functions, which take longer than what they are about lasts. */
static void name_reasons(struct dump_work *work, struct thread_dump *dump) {
  bool named = profile_builder_names() == NAMES_ALL;
  for (size_t i = 0; i < dump->count; i++) {
    struct wait_reason *reason = &work->reasons[i];
    struct dumped_thread *thread = &work->threads[i];
    if (!reason->state || thread->state != reason->state) continue;
    wait_reason_name(thread, dump->mappings, named ? dump->symbols : NULL, reason);
    thread->state = reason->state;
    thread->need = reason->need;
    thread->waits_for = reason->text[0] ? agent_strdup(reason->text) : NULL;
  }
}

static void leave_out_ended(struct dump_work *work, struct thread_dump *dump) {
  size_t kept = 0;
  for (size_t i = 0; i < dump->count; i++) {
    dump->unjudged += !work->gone[i] && (work->asleep[i] || work->hidden[i]);
    if (work->gone[i]) agent_free((void *)work->threads[i].frames);
    else work->threads[kept++] = work->threads[i];
  }
  dump->count = kept;
}

static bool take(struct thread_dump *dump) {
  struct dump_work work = {0};
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  dump->time_nanos = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
  dump->monotonic_nanos = agent_monotonic_nanoseconds();
  dump->fault = proc_fault();
  bool begun = begin_work(&work, dump);
  if (begun) {
    read_threads(&work);
    dump->mappings = mappings_collect(); /* after the stacks: their modules are known now */
    dump->symbols = symbolizer_open();
  }
  bool done = begun && dump->mappings && dump->symbols;
  if (done) {
    name_reasons(&work, dump);
    leave_out_ended(&work, dump);
    deadlocks_find(dump);
    done = !symbolizer_given_up(dump->symbols);
  }
  end_work(&work);
  return done;
}

struct thread_dump *thread_dump_take(void) {
  struct thread_dump *dump = agent_calloc(1, sizeof *dump);
  announced_code_update(true);
  if (!dump) return NULL;
  agent_lock_take(&dump_lock);
  bool done = take(dump);
  agent_lock_release(&dump_lock);
  if (done) return dump;
  thread_dump_release(dump);
  return NULL;
}

static void release_thread(struct dumped_thread *thread) {
  agent_free(thread->waits_for);
  agent_free((void *)thread->frames);
}

void thread_dump_keep_stuck(struct thread_dump *dump) {
  size_t kept = 0;
  for (size_t i = 0; i < dump->count; i++) {
    if (dump->threads[i].stuck == NOT_STUCK) release_thread(&dump->threads[i]);
    else dump->threads[kept++] = dump->threads[i];
  }
  dump->count = kept;
}

void thread_dump_release(struct thread_dump *dump) {
  if (!dump) return;
  for (size_t i = 0; i < dump->count; i++) release_thread(&dump->threads[i]);
  agent_free(dump->threads);
  mappings_release(dump->mappings);
  if (dump->symbols) symbolizer_close(dump->symbols);
  agent_free(dump);
}
