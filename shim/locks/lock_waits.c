#include "lock_waits.h"

#include <errno.h>
#include <string.h>

#include "shim/base/config.h"
#include "shim/base/confinement.h"
#include "contention_table.h"
#include "shim/base/counters.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/stacks/module_registry.h"
#include "shim/stacks/stack_table.h"
#include "shim/stacks/handler_stack.h"
#include "shim/next/interposed.h"
#include "shim/next/monotonic_clock.h"
#include "lock_status.h"
#include "shim/next/next_functions.h"
#include "shim/allocation/sampler.h"
#include "shim/stacks/stack_halves.h"
#include "shim/base/thread_state.h"
#include "shim/base/trace_ring.h"

/* ---- on or off ---- */

static const char *common_off_reason(void) {
  if (next_allocator.asan) return "a sanitizer runtime is in the process and wraps its locks";
  if (next_allocator.valgrind) return "the program runs under valgrind, which watches its locks";
  return confinement_reason(); /* the clock may be a system call */
}

const char *block_off_reason(void) {
  return config_rate(&config.blockprofile_rate) == 0 ? "PPROFAGENT_BLOCKPROFILERATE is 0"
                                                     : common_off_reason();
}

const char *mutex_off_reason(void) {
  return config_rate(&config.mutexprofile_fraction) == 0 ? "PPROFAGENT_MUTEXPROFILEFRACTION is 0"
                                                         : common_off_reason();
}

static bool may_measure(void) {
  return !thread_state.agent && !confinement_forbids_calls() && !common_off_reason();
}

/* ---- sampling ---- */

static uint64_t draw(void) {
  uint64_t *random = &thread_state.lock_random;
  if (UNLIKELY(*random == 0)) *random = sampler_seed(random, cpu_sampling_process());
  return sampler_random(random);
}

/* One in fraction; fewer of a crowd, so that its releasers need not go through all of them. An
 * exact fraction (1) stays exact. */
static uint64_t one_in(const void *object) {
  enum { CROWD = 32 };
  uint64_t fraction = config_rate(&config.mutexprofile_fraction);
  return fraction > 1 ? fraction * (1 + lock_waiters_crowd(object) / CROWD) : fraction;
}

/* ---- stacks ---- */

struct place_wanted {
  enum contention_kind kind;
  uintptr_t function;
  const struct unwind_registers *caller;
  bool wants_entry, wants_stack;
};

struct place {
  uint32_t entry; /* of the contention table */
  uint32_t stack; /* of the stack table */
};

static struct place place_of_frames(const struct place_wanted *wanted, const uint64_t *frames,
                                    uint32_t count) {
  struct place place = {0, 0};
  if (wanted->wants_entry) place.entry = contention_table_entry(wanted->kind, frames, count);
  if (wanted->wants_stack)
    place.stack = stack_table_intern(frames, count, module_registry_epoch_of(frames, count));
  return place;
}

struct place_search {
  struct place_wanted wanted;
  struct place found;
};

/* The caller's stack below a leaf of ours. */
static void find_place(void *argument) {
  struct place_search *search = argument;
  CAPTURED_STACK(stack);
  stack_capture(search->wanted.caller, stack);
  stack_push(stack->frames, &stack->frame_count, search->wanted.function);
  search->found = place_of_frames(&search->wanted, stack->frames, stack->frame_count);
}

static struct place place_of(struct place_wanted wanted) {
  struct place_search search = {wanted, {0, 0}};
  if (LIKELY(handler_stack_call(find_place, &search))) return search.found;
  COUNT_LOSS(stacks_truncated_small);
  const uint64_t frames[] = {wanted.function, wanted.caller->pc, STACK_TRUNCATED_SMALL};
  return place_of_frames(&wanted, frames, 3);
}

/* ---- for traces: without the name, which these have not ---- */

static void write_release(uint64_t at, const void *object, uint32_t stack,
                          enum release_wakes wakes) {
  struct trace_ring_event event;
  event.kind = TRACE_RING_RELEASE;
  event.begin = 0;
  event.at = at;
  event.object = (uintptr_t)object;
  event.stack = stack;
  event.wakes = (uint8_t)wakes;
  event.was_released = false;
  trace_ring_write(&event);
}

/* ---- waits ---- */

/* For a trace each wait is entered, so that its releases are seen; one that was not drawn counts
 * for none. Of a crowd only so many: each release goes through all of them, with the lock held. */
static void enter(struct lock_wait *wait, const void *object) {
  enum { TRACED_CROWD = 64 };
  uint64_t n = one_in(object);
  bool drawn = n == 1 || (n > 1 && draw() % n == 0);
  bool is_traced = wait->traced && lock_waiters_crowd(object) < TRACED_CROWD;
  if (drawn || is_traced) wait->claim = lock_waiters_enter(object, wait->start, drawn ? n : 0);
}

struct lock_wait lock_wait_begin(const void *object) {
  struct lock_wait wait = {.traced = trace_ring_is_armed(), .object = object};
  bool is_profiled = config_rate(&config.blockprofile_rate) > 0 ||
                     (object && config_rate(&config.mutexprofile_fraction) > 0);
  if ((!is_profiled && !wait.traced) || !may_measure()) return wait;
  wait.start = monotonic_clock_now();
  if (object) enter(&wait, object);
  return wait;
}

struct lock_wait lock_wait_begin_condition(const void *condition) {
  struct lock_wait wait = lock_wait_begin(NULL);
  if (!wait.traced || !wait.start) return wait;
  wait.object = condition;
  wait.claim = lock_waiters_enter(condition, wait.start, 0);
  return wait;
}

struct lock_wait lock_wait_begin_told(const void *object) {
  struct lock_wait wait = lock_wait_begin(NULL);
  wait.object = object;
  wait.is_told = true;
  return wait;
}

struct lock_wait lock_wait_watch(const void *object) {
  struct lock_wait wait = {.watch_only = true, .traced = trace_ring_is_armed()};
  if ((config_rate(&config.mutexprofile_fraction) == 0 && !wait.traced) || !may_measure())
    return wait;
  wait.start = monotonic_clock_now();
  enter(&wait, object);
  return wait;
}

static void leave(struct lock_wait *wait, bool released) {
  uint32_t released_by;
  uint64_t weight;
  if (!lock_waiters_leave(&wait->claim, released, &released_by, &weight) || !released) return;
  if (released_by) contention_table_add(released_by, weight * CONTENTION_COUNT_UNIT, 0);
  else atomic_fetch_add_explicit(&shim_counters.mutex_lost_releases, weight, memory_order_relaxed);
}

/* 0: that wait is not recorded; else for how many it counts. The rate is that of its end. */
static uint64_t draw_block(uint64_t *delay) {
  uint64_t rate = config_rate(&config.blockprofile_rate), d = *delay;
  if (rate == 0) return 0;
  if (d == 0) d = *delay = 1;
  if (d >= rate) return CONTENTION_COUNT_UNIT;
  if (draw() % rate >= d) return 0;
  *delay = rate;
  return rate / d * CONTENTION_COUNT_UNIT + rate % d * CONTENTION_COUNT_UNIT / d;
}

/* is_known: the release that ended it is in the trace. */
static void record_wait(const struct lock_wait *wait, bool is_known, uint64_t now,
                        uintptr_t function, const struct unwind_registers *caller) {
  enum { TRACED_NANOSECONDS = 2000 }; /* in less nobody leaves a CPU and comes back */
  uint64_t delay = now - wait->start;
  bool is_traced = wait->traced && delay >= TRACED_NANOSECONDS;
  uint64_t count = draw_block(&delay);
  if (count == 0 && !is_traced) return;
  struct place place =
      place_of((struct place_wanted){CONTENTION_BLOCK, function, caller, count > 0, is_traced});
  contention_table_add(place.entry, count, delay);
  if (!is_traced) return;
  struct trace_ring_event event;
  event.kind = TRACE_RING_WAIT;
  event.begin = wait->start;
  event.at = now;
  event.object = (uintptr_t)wait->object;
  event.stack = place.stack;
  event.wakes = 0;
  event.was_released = is_known;
  trace_ring_write(&event);
}

void lock_wait_end(struct lock_wait *wait, enum lock_wait_end end, uintptr_t function,
                   const struct unwind_registers *caller) {
  if (!wait->start) return;
  int saved_errno = errno;
  bool is_wanted = config_rate(&config.blockprofile_rate) > 0 || wait->traced;
  bool is_wait =
      end != WAIT_NOT_ONE && is_wanted && !wait->watch_only && !confinement_forbids_calls();
  uint64_t now = is_wait ? monotonic_clock_now() : 0;
  bool is_told = wait->claim.waiter ? !lock_waiters_has_missed(&wait->claim) : wait->is_told;
  bool is_known = is_told && end == WAIT_RELEASED && wait->traced;
  if (wait->claim.waiter) leave(wait, end == WAIT_RELEASED);
  if (is_wait) record_wait(wait, is_known, now, function, caller);
  errno = saved_errno;
}

void lock_wait_forget_releaser(struct lock_wait *wait) {
  if (wait->claim.waiter) leave(wait, false);
}

struct lock_release lock_release_begin(const void *object, bool (*is_release)(const void *object)) {
  struct lock_release release = {0};
  uint64_t random = draw();
  enum lock_release_look look = lock_waiters_look(object, random);
  bool is_traced = trace_ring_is_armed();
  if (look == RELEASE_PASSES && !is_traced) return release;
  if (!may_measure() || (is_release && !is_release(object))) return release;
  if (is_traced) lock_waiters_mark(object, look == RELEASE_PASSES);
  if (look == RELEASE_PASSES) return release;
  uint64_t now = monotonic_clock_now();
  if (is_traced) release.traced_at = now;
  release.time = lock_waiters_charge(object, look, now, random, &release.mark);
  release.charged = look == RELEASE_IS_CHARGED;
  return release;
}

struct lock_release lock_signal_begin(const void *condition, enum release_wakes wakes) {
  struct lock_release release = {.wakes = wakes};
  if (trace_ring_is_armed() && lock_waiters_may_wait_for(condition) && may_measure() &&
      lock_waiters_wait_for(condition))
    release.traced_at = monotonic_clock_now();
  return release;
}

void lock_wait_was_last(const struct lock_wait *wait, uintptr_t function,
                        const struct unwind_registers *caller) {
  if (!wait->traced || !wait->start) return;
  struct lock_release release = {.traced_at = wait->start, .wakes = LOCK_WAKES_ALL};
  lock_release_end(&release, wait->object, function, caller);
}

void lock_wait_thread_ends(void) {
  if (!trace_ring_is_armed() || !may_measure()) return;
  write_release(monotonic_clock_now(), (const void *)pthread_self(), 0, LOCK_WAKES_AT_END);
}

void lock_release_end(const struct lock_release *release, const void *object, uintptr_t function,
                      const struct unwind_registers *caller) {
  if (LIKELY(!release->charged && !release->traced_at)) return;
  int saved_errno = errno;
  struct place place = place_of((struct place_wanted){CONTENTION_MUTEX, function, caller,
                                                      release->charged, release->traced_at > 0});
  if (release->charged) {
    uint64_t ended = lock_waiters_name(object, release->mark, place.entry);
    contention_table_add(place.entry, ended * CONTENTION_COUNT_UNIT, release->time);
  }
  if (release->traced_at) write_release(release->traced_at, object, place.stack, release->wakes);
  errno = saved_errno;
}

void lock_waits_abandon(void) {
  uint32_t count = lock_waiters_abandon();
  if (count)
    atomic_fetch_add_explicit(&shim_counters.mutex_waits_abandoned, count, memory_order_relaxed);
}
