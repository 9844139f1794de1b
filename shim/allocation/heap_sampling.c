#include "heap_sampling.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "shim/base/agent_hooks.h"
#include "shim/base/at_fork.h"
#include "shim/stacks/captured_stack.h"
#include "shim/stacks/call_context.h"
#include "shim/base/config.h"
#include "shim/base/confinement.h"
#include "shim/base/counters.h"
#include "shim/base/trace_ring.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/stacks/handler_stack.h"
#include "heap_rate.h"
#include "heap_table.h"
#include "live_table.h"
#include "shim/next/next_functions.h"
#include "sampler.h"
#include "shim/stacks/stack_table.h"
#include "shim/next/startup.h"

struct shim_counters shim_counters;

/* Whether it can be sampled at all. Written by heap_sampling_start, constant afterwards but for
 * heap_sampling_stop. */
static _Atomic bool heap_on;
static char off_reason[700];
static const char *_Atomic stopped; /* why */

const char *heap_off_reason(void) {
  static const char no_rate[] = "PPROFAGENT_MEMPROFILERATE is 0";
  if (atomic_load_explicit(&heap_on, memory_order_relaxed))
    return heap_rate_of(heap_rate_now()) ? NULL : no_rate;
  const char *why = atomic_load_explicit(&stopped, memory_order_acquire);
  return why ? why : off_reason[0] ? off_reason : "not started yet";
}

const char *heap_allocator_path(void) {
  return next_allocator.earlier_path[0] ? next_allocator.earlier_path : next_allocator.path;
}

static bool decide_to_run(void) {
  if (config.is_off) {
    snprintf(off_reason, sizeof off_reason, "PPROFAGENT_MEMPROFILERATE is 0");
  } else if (next_allocator.asan) {
    snprintf(off_reason, sizeof off_reason,
             "a sanitizer runtime is in the process and owns its memory allocator");
  } else if (next_allocator.valgrind) {
    snprintf(off_reason, sizeof off_reason,
             "the program runs under valgrind, which watches its memory");
  } else if (next_allocator.earlier_is_program) {
    snprintf(off_reason, sizeof off_reason,
             "the program has its own malloc linked in (%s): its calls cannot be seen",
             next_allocator.earlier_path);
  } else if (next_allocator.earlier_path[0]) {
    snprintf(off_reason, sizeof off_reason,
             "malloc is served by %s, which is loaded before the agent: put libpprofagent.so first "
             "in LD_PRELOAD",
             next_allocator.earlier_path);
  } else if (!next_allocator.path[0]) {
    snprintf(off_reason, sizeof off_reason, "no object after the agent defines malloc");
  } else {
    return true;
  }
  return false;
}

void heap_sampling_start(uintptr_t main_stack_high) {
  stack_capture_start(main_stack_high);
  heap_rate_set(config_rate(&config.memprofile_rate));
  atomic_store_explicit(&heap_on, decide_to_run(), memory_order_relaxed);
}

void heap_sampling_stop(const char *reason) {
  atomic_store_explicit(&stopped, reason, memory_order_release);
  atomic_store_explicit(&heap_on, false, memory_order_relaxed);
}

/* bytes_until_sample where heap profiling is off: more than any object's size, and not used up in a
 * lifetime. */
#define FOREVER ((uint64_t)1 << 63)

/* left: bytes to the next sample point, without the one that it is in. Returned: of these the first
 * step. The distribution has no memory: a point that is too far away is drawn anew on the way. */
static inline uint64_t first_step(struct thread_state *thread, uint64_t left) {
  thread->is_cut = left > UINT32_MAX;
  if (thread->is_cut) left = UINT32_MAX;
  uint64_t step = left < HEAP_RATE_STEP ? left : HEAP_RATE_STEP;
  thread->bytes_beyond = (uint32_t)(left - step);
  return step;
}

struct sampler_sequence heap_sampling_split(int32_t pid) {
  uint8_t number = thread_state.rate;
  uint64_t rate = heap_rate_of(number);
  struct sampler_sequence sequence = sampler_split(&thread_state, pid, rate);
  sequence.rate = number;
  if (rate <= 1) sequence.interval = 0;
  return sequence;
}

/* Where nothing has been drawn yet it will be, with the child's own pid. What is left of the
 * interval to the next sample may be dropped: the distribution has no memory. */
AT_FORK void heap_sampling_begin_sequence(const struct sampler_sequence *sequence, int32_t pid) {
  struct thread_state *thread = &thread_state;
  if (thread->lock_random) thread->lock_random = sampler_state_of_child(sequence->lock_random, pid);
  if (!thread->random) return;
  thread->random = sampler_state_of_child(sequence->random, pid);
  if (!sequence->interval || thread->guard_sp) return; /* an allocation is under way */
  thread->rate = sequence->rate;
  thread->bytes_until_sample = first_step(thread, sequence->interval - 1);
}

/* ---- the decision ---- */

/* Low bit of guard_sp (frames are aligned): the allocator has answered; who allocates now is a
 * signal handler inside the sampler. */
enum { RECORDING = 1 };

/* Bytes to the next sample point of the thread's rate. */
static uint64_t next_point(struct thread_state *thread) {
  uint64_t rate = heap_rate_of(thread->rate);
  if (rate == 0) return FOREVER;
  if (UNLIKELY(thread->random == 0)) thread->random = sampler_seed(thread, cpu_sampling_process());
  return rate > 1 ? sampler_draw_interval(&thread->random, rate) - 1 : 0;
}

/* The same at the rate that is in force now. Returned: of these the first step. */
static uint64_t draw(struct thread_state *thread) {
  thread->rate = (uint8_t)heap_rate_now();
  return first_step(thread, next_point(thread));
}

/* Of an allocation that goes beyond the step: whether it has no sample point. It is decided by the
 * rate that was drawn by, the next one by a new rate if there is one. */
static bool passes_step(struct thread_state *thread, uint64_t counted, uint64_t counted_mask) {
  uint64_t left = thread->bytes_until_sample + thread->bytes_beyond;
  if (left < counted && !thread->is_cut) return false;
  if (!counted_mask) return true; /* the inner malloc asks again */
  bool is_cut = thread->is_cut;
  if (left < counted) {
    counted -= left;
    left = next_point(thread);
    if (left < counted) return false;
    is_cut = false;
  }
  bool is_new = thread->rate != heap_rate_now();
  thread->bytes_until_sample = is_new ? draw(thread) : first_step(thread, left - counted);
  thread->is_cut |= is_cut && !is_new;
  return true;
}

/* Whether the guard that is set is one that a siglongjmp left behind: frames grow down, so a live
 * guard's frame is above ours. Stacks that are further apart than this are different ones (a signal
 * handler's), of which nothing follows. */
static bool guard_is_dead(const struct thread_state *thread) {
  enum { ONE_STACK = 64 << 20 };
  uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
  return sp > thread->guard_sp && sp - thread->guard_sp < ONE_STACK;
}

/* True: this allocation is to be recorded, and the guard is set until sampling_end. False: nothing
 * was changed but that `size` (one byte of an empty block) has been taken from bytes_until_sample,
 * unless counted_mask is 0 because an inner malloc will do so. */
static bool sampling_begin(uint64_t size, uint64_t counted_mask) {
  struct thread_state *thread = &thread_state;
  uint64_t counted = size ? size : 1;
  if (UNLIKELY(!atomic_load_explicit(&heap_on, memory_order_relaxed))) {
    if (!thread->guard_sp) thread->bytes_until_sample = FOREVER;
    return false;
  }
  if (UNLIKELY(thread->guard_sp)) {
    if (!guard_is_dead(thread)) {
      if (thread->guard_sp & RECORDING) COUNT_LOSS(heap_lost_reentrant);
      return false;
    }
    COUNT_LOSS(heap_guards_abandoned);
    heap_guard_leave(draw(thread));
  }
  if (UNLIKELY(thread->random == 0)) thread->bytes_until_sample = draw(thread);
  if (thread->bytes_until_sample >= counted) {
    thread->bytes_until_sample -= counted & counted_mask;
    return false;
  }
  if (passes_step(thread, counted, counted_mask)) return false;
  heap_guard_enter();
  return true;
}

static void sampling_end(void) { heap_guard_leave(draw(&thread_state)); }

struct sampled_block {
  uintptr_t block;
  uint64_t size;
  const struct unwind_registers *caller;
  bool may_start_agent;
};

/* Large ones, one by one, while somebody records a trace. */
static void tell_trace(uint64_t size, uint32_t stack) {
  enum { LARGE = 32 << 10 };
  struct trace_ring_event event;
  if (size < LARGE || confinement_forbids_calls()) return;
  event.kind = TRACE_RING_ALLOCATION;
  event.begin = 0;
  event.at = trace_ring_now();
  event.object = size;
  event.stack = stack;
  event.wakes = 0;
  event.was_released = false;
  trace_ring_write(&event);
}

static void record(void *argument) {
  struct sampled_block *sampled = argument;
  CAPTURED_STACK(stack);
  stack_capture(sampled->caller, stack);
  uint32_t id = captured_stack_intern(stack);
  uint64_t rate = heap_rate_of(thread_state.rate);
  if (id) heap_record_alloc(sampled->block, sampled->size, rate, id);
  else COUNT_LOSS(heap_lost_stack_table_full);
  if (UNLIKELY(trace_ring_is_armed())) tell_trace(sampled->size, id);
  if (UNLIKELY(agent_start_is_due())) sampled->may_start_agent = call_context_is_ordinary(stack);
}

/* Ends what sampling_begin began; the allocator has answered. errno stays as the allocator left it.
 */
static void *sampling_record(void *block, uint64_t size, const struct unwind_registers *caller) {
  struct sampled_block sampled = {(uintptr_t)block, size, caller, false};
  if (block) {
    thread_state.guard_sp |= RECORDING;
    int saved_errno = errno;
    if (!handler_stack_call(record, &sampled)) COUNT_LOSS(heap_lost_no_stack);
    errno = saved_errno;
  }
  sampling_end();
  if (UNLIKELY(sampled.may_start_agent)) agent_start_late(); /* see agent.h */
  return block;
}

/* ---- the C family ---- */

enum { COUNTS = -1 }; /* sampling_begin's mask for what is not called through another wrapper */

void *heap_slow_malloc(size_t size) {
  struct unwind_registers caller = CALLER_REGISTERS();
  if (UNLIKELY(!startup_is_over())) return startup_arena_allocate(size, 16);
  if (!sampling_begin(size, COUNTS)) return real.malloc(size);
  return sampling_record(real.malloc(size), size, &caller);
}

void *heap_slow_calloc(size_t count, size_t size) {
  struct unwind_registers caller = CALLER_REGISTERS();
  if (UNLIKELY(!startup_is_over())) return startup_calloc(count, size);
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes) || !sampling_begin(bytes, COUNTS))
    return real.calloc(count, size);
  return sampling_record(real.calloc(count, size), bytes, &caller);
}

static void *leave_startup_arena(void *pointer, size_t size) {
  size_t old = startup_arena_size_of(pointer);
  void *moved = real.malloc(size);
  if (!moved) return NULL;
  memcpy(moved, pointer, old < size ? old : size);
  startup_arena_free(pointer);
  return moved;
}

void *heap_slow_realloc(void *pointer, size_t size) {
  struct unwind_registers caller = CALLER_REGISTERS();
  if (UNLIKELY(!startup_is_over())) return startup_realloc(pointer, size);
  if (UNLIKELY(startup_arena_contains(pointer))) return leave_startup_arena(pointer, size);
  uint64_t detached = live_table_may_contain(pointer) ? heap_record_detach((uintptr_t)pointer) : 0;
  bool sampled = sampling_begin(size, COUNTS);
  void *block = real.realloc(pointer, size);
  if (detached) {
    /* NULL for a size of 0 means freed (glibc); for any other size the block is as it was. */
    if (block || size == 0) heap_record_end(detached, (uintptr_t)pointer);
    else heap_record_reattach(detached, (uintptr_t)pointer);
  }
  return sampled ? sampling_record(block, size, &caller) : block;
}

void heap_forget(void *pointer) {
  if (UNLIKELY(live_table_may_contain(pointer))) heap_record_free((uintptr_t)pointer);
}

void heap_slow_free(void *pointer) {
  if (!pointer) return;
  if (UNLIKELY(startup_arena_contains(pointer))) {
    startup_arena_free(pointer);
    return;
  }
  heap_record_free((uintptr_t)pointer);
  real.free(pointer);
}

int heap_slow_posix_memalign(void **out, size_t alignment, size_t size) {
  struct unwind_registers caller = CALLER_REGISTERS();
  if (UNLIKELY(!startup_is_over())) return startup_posix_memalign(out, alignment, size);
  if (!sampling_begin(size, COUNTS)) return real.posix_memalign(out, alignment, size);
  int result = real.posix_memalign(out, alignment, size);
  sampling_record(result == 0 ? *out : NULL, size, &caller);
  return result;
}

#define DEFINE_SLOW(name, parameters, arguments)                       \
  void *heap_slow_##name parameters {                                  \
    struct unwind_registers caller = CALLER_REGISTERS();               \
    if (UNLIKELY(!startup_is_over())) return startup_##name arguments; \
    if (!sampling_begin(size, COUNTS)) return real.name arguments;     \
    return sampling_record(real.name arguments, size, &caller);        \
  }

DEFINE_SLOW(aligned_alloc, (size_t alignment, size_t size), (alignment, size))
DEFINE_SLOW(memalign, (size_t alignment, size_t size), (alignment, size))
DEFINE_SLOW(valloc, (size_t size), (size))
DEFINE_SLOW(pvalloc, (size_t size), (size))

/* ---- operator new ---- */

static bool is_power_of_two(size_t value) { return value != 0 && (value & (value - 1)) == 0; }

/* A form of the allocator's own whose delete may be another library's: nobody counts it, so what
 * would have been a sample may be missing (unless it calls an exported name after all, as
 * jemalloc's aligned forms do). */
static void *pass_unknown_new(size_t size, uint64_t counts) {
  if (counts && sampling_begin(size, counts)) {
    COUNT_LOSS(heap_lost_unknown_new);
    sampling_end();
  }
  return NULL;
}

/* NULL: not sampled, or no memory: the next operator new decides, throws or calls the new handler.
 * A sampled block comes from malloc, asked as the next operator new would ask, because an exception
 * must not pass between sampling_begin and sampling_end. */
static void *sample_new(size_t size, uint64_t counts, const struct unwind_registers *caller) {
  if (UNLIKELY(!startup_is_over())) return startup_arena_allocate(size, 16);
  if (size == 0) size = 1; /* as every operator new does */
  if (UNLIKELY(!next_allocator.cxx_is_known)) return pass_unknown_new(size, counts);
  if (!sampling_begin(size, counts)) return NULL;
  return sampling_record(real.malloc(size), size, caller);
}

/* The runtimes ask their aligned_alloc for whole multiples of the alignment. */
static void *serve_new_aligned(size_t size, size_t alignment, uint64_t counts,
                               const struct unwind_registers *caller) {
  if (UNLIKELY(!startup_is_over())) return startup_arena_allocate(size, alignment);
  if (size == 0) size = 1;
  size_t rounded = (size + alignment - 1) & ~(alignment - 1);
  if (rounded < size || !is_power_of_two(alignment)) return NULL;
  if (UNLIKELY(!next_allocator.cxx_is_known)) return pass_unknown_new(size, counts);
  if (sampling_begin(size, COUNTS))
    return sampling_record(real.aligned_alloc(alignment, rounded), size, caller);
  if (thread_state.guard_sp) return NULL;
  uint64_t left = thread_state.bytes_until_sample;
  heap_guard_enter();
  void *block = real.aligned_alloc(alignment, rounded);
  heap_guard_leave(left);
  return block;
}

void *heap_slow_new(size_t size, heap_new_function next, uint64_t counts) {
  struct unwind_registers caller = CALLER_REGISTERS();
  void *block = sample_new(size, counts, &caller);
  return block ? block : ((void *(*)(size_t))next)(size);
}

void *heap_slow_new_nothrow(size_t size, const void *nothrow, heap_new_function next,
                            uint64_t counts) {
  struct unwind_registers caller = CALLER_REGISTERS();
  void *block = sample_new(size, counts, &caller);
  return block ? block : ((void *(*)(size_t, const void *))next)(size, nothrow);
}

void *heap_slow_new_aligned(size_t size, size_t alignment, heap_new_function next,
                            uint64_t counts) {
  struct unwind_registers caller = CALLER_REGISTERS();
  void *block = serve_new_aligned(size, alignment, counts, &caller);
  return block ? block : ((void *(*)(size_t, size_t))next)(size, alignment);
}

void *heap_slow_new_aligned_nothrow(size_t size, size_t alignment, const void *nothrow,
                                    heap_new_function next, uint64_t counts) {
  struct unwind_registers caller = CALLER_REGISTERS();
  void *block = serve_new_aligned(size, alignment, counts, &caller);
  return block ? block : ((void *(*)(size_t, size_t, const void *))next)(size, alignment, nothrow);
}

/* ---- jemalloc's interface ---- */

void *heap_slow_mallocx(size_t size, int flags) {
  struct unwind_registers caller = CALLER_REGISTERS();
  startup_ensure();
  if (!sampling_begin(size, COUNTS)) return real.mallocx(size, flags);
  return sampling_record(real.mallocx(size, flags), size, &caller);
}

void *heap_slow_rallocx(void *pointer, size_t size, int flags) {
  struct unwind_registers caller = CALLER_REGISTERS();
  startup_ensure();
  uint64_t detached = live_table_may_contain(pointer) ? heap_record_detach((uintptr_t)pointer) : 0;
  bool sampled = sampling_begin(size, COUNTS);
  void *block = real.rallocx(pointer, size, flags);
  if (detached) {
    if (block) heap_record_end(detached, (uintptr_t)pointer);
    else heap_record_reattach(detached, (uintptr_t)pointer);
  }
  return sampled ? sampling_record(block, size, &caller) : block;
}

/* Resizes in place or not at all; returns the block's real size. A block that was resized counts as
 * a realloc. */
size_t heap_slow_xallocx(void *pointer, size_t size, size_t extra, int flags) {
  struct unwind_registers caller = CALLER_REGISTERS();
  startup_ensure();
  uint64_t detached = live_table_may_contain(pointer) ? heap_record_detach((uintptr_t)pointer) : 0;
  size_t result = real.xallocx(pointer, size, extra, flags);
  if (result < size) {
    if (detached) heap_record_reattach(detached, (uintptr_t)pointer);
    return result;
  }
  if (detached) heap_record_end(detached, (uintptr_t)pointer);
  if (sampling_begin(size, COUNTS)) sampling_record(pointer, size, &caller);
  return result;
}
