#include "lock_waits.h"

#include <errno.h>
#include <string.h>

#include "shim/base/config.h"
#include "shim/base/confinement.h"
#include "contention_table.h"
#include "shim/base/counters.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/stacks/handler_stack.h"
#include "shim/next/interposed.h"
#include "lock_clock.h"
#include "lock_status.h"
#include "shim/next/next_functions.h"
#include "shim/allocation/sampler.h"
#include "shim/stacks/stack_halves.h"
#include "shim/base/thread_state.h"

/* ---- on or off ---- */

static const char *common_off_reason(void) {
  if (next_allocator.asan) return "a sanitizer runtime is in the process and wraps its locks";
  if (next_allocator.valgrind) return "the program runs under valgrind, which watches its locks";
  return confinement_reason(); /* the clock may be a system call */
}

const char *block_off_reason(void) {
  return config.blockprofile_rate == 0 ? "PPROFAGENT_BLOCKPROFILERATE is 0" : common_off_reason();
}

const char *mutex_off_reason(void) {
  return config.mutexprofile_fraction == 0 ? "PPROFAGENT_MUTEXPROFILEFRACTION is 0" : common_off_reason();
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

/* One in fraction; fewer of a crowd, so that its releasers need not go through all of them. An exact fraction (1) stays exact. */
static uint64_t one_in(const void *object) {
  enum { CROWD = 32 };
  uint64_t fraction = config.mutexprofile_fraction;
  return fraction > 1 ? fraction * (1 + lock_waiters_crowd(object) / CROWD) : fraction;
}

/* ---- stacks ---- */

struct entry_wanted {
  enum contention_kind kind;
  uintptr_t function;
  const struct unwind_registers *caller;
  uint32_t entry;
};

/* The caller's stack below a leaf of ours. */
static void find_entry(void *argument) {
  struct entry_wanted *wanted = argument;
  CAPTURED_STACK(stack);
  stack_capture(wanted->caller, stack);
  stack_push(stack->frames, &stack->frame_count, wanted->function);
  wanted->entry = contention_table_entry(wanted->kind, stack->frames, stack->frame_count);
}

static uint32_t entry_of(enum contention_kind kind, uintptr_t function, const struct unwind_registers *caller) {
  struct entry_wanted wanted = {kind, function, caller, 0};
  if (LIKELY(handler_stack_call(find_entry, &wanted))) return wanted.entry;
  COUNT_LOSS(stacks_truncated_small);
  const uint64_t frames[] = {function, caller->pc, STACK_TRUNCATED_SMALL};
  return contention_table_entry(kind, frames, 3);
}

/* ---- waits ---- */

static void enter(struct lock_wait *wait, const void *object) {
  uint64_t n = one_in(object);
  if (n == 1 || (n > 1 && draw() % n == 0)) wait->claim = lock_waiters_enter(object, wait->start, n);
}

struct lock_wait lock_wait_begin(const void *object) {
  struct lock_wait wait = {0};
  if ((config.blockprofile_rate == 0 && (config.mutexprofile_fraction == 0 || !object)) || !may_measure()) return wait;
  wait.start = lock_clock_now();
  if (object) enter(&wait, object);
  return wait;
}

struct lock_wait lock_wait_watch(const void *object) {
  struct lock_wait wait = {.watch_only = true};
  if (config.mutexprofile_fraction == 0 || !may_measure()) return wait;
  wait.start = lock_clock_now();
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

static void record_block(uint64_t delay, uintptr_t function, const struct unwind_registers *caller) {
  uint64_t rate = config.blockprofile_rate, count = CONTENTION_COUNT_UNIT;
  if (delay == 0) delay = 1;
  if (delay < rate) {
    if (draw() % rate >= delay) return;
    count = rate / delay * CONTENTION_COUNT_UNIT + rate % delay * CONTENTION_COUNT_UNIT / delay;
    delay = rate;
  }
  contention_table_add(entry_of(CONTENTION_BLOCK, function, caller), count, delay);
}

void lock_wait_end(struct lock_wait *wait, enum lock_wait_end end, uintptr_t function, const struct unwind_registers *caller) {
  if (!wait->start) return;
  int saved_errno = errno;
  bool is_block = end != WAIT_NOT_ONE && config.blockprofile_rate > 0 && !wait->watch_only &&
                  !confinement_forbids_calls();
  uint64_t now = is_block ? lock_clock_now() : 0;
  if (wait->claim.waiter) leave(wait, end == WAIT_RELEASED);
  if (is_block) record_block(now - wait->start, function, caller);
  errno = saved_errno;
}

void lock_wait_forget_releaser(struct lock_wait *wait) {
  if (wait->claim.waiter) leave(wait, false);
}

struct lock_release lock_release_begin(const void *object, bool (*is_release)(const void *object)) {
  struct lock_release release = {false, 0, 0};
  uint64_t random = draw();
  enum lock_release_look look = lock_waiters_look(object, random);
  if (look == RELEASE_PASSES || !may_measure() || (is_release && !is_release(object))) return release;
  release.time = lock_waiters_charge(object, look, lock_clock_now(), random, &release.mark);
  release.charged = look == RELEASE_IS_CHARGED;
  return release;
}

void lock_release_end(const struct lock_release *release, const void *object, uintptr_t function, const struct unwind_registers *caller) {
  if (LIKELY(!release->charged)) return;
  int saved_errno = errno;
  uint32_t entry = entry_of(CONTENTION_MUTEX, function, caller);
  uint64_t ended = lock_waiters_name(object, release->mark, entry);
  contention_table_add(entry, ended * CONTENTION_COUNT_UNIT, release->time);
  errno = saved_errno;
}

void lock_waits_abandon(void) {
  uint32_t count = lock_waiters_abandon();
  if (count) atomic_fetch_add_explicit(&shim_counters.mutex_waits_abandoned, count, memory_order_relaxed);
}
