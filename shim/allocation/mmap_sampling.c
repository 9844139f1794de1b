#include "mmap_sampling.h"

#include <errno.h>
#include <string.h>

#include "heap_status.h"
#include "mmap_table.h"
#include "sampler.h"
#include "shim/base/config.h"
#include "shim/base/counters.h"
#include "shim/base/thread_state.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/next/next_functions.h"
#include "shim/stacks/captured_stack.h"
#include "shim/stacks/handler_stack.h"

_Atomic int mmap_sampling_state;
/* Of all threads: each draw takes a step of it. */
static _Atomic uint64_t random_state;
static const char *_Atomic why_off;

void mmap_sampling_stop(const char *reason) {
  atomic_store_explicit(&why_off, reason, memory_order_release);
  atomic_store_explicit(&mmap_sampling_state, MMAP_SAMPLING_OFF, memory_order_relaxed);
}

/* Once the configuration has been read. */
static void decide(void) {
  int undecided = MMAP_SAMPLING_UNDECIDED;
  if (next_allocator.asan || next_allocator.tsan)
    mmap_sampling_stop("a sanitizer runtime is in the process and owns its address space");
  else if (next_allocator.valgrind)
    mmap_sampling_stop("the program runs under valgrind, which watches its memory");
  else
    atomic_compare_exchange_strong_explicit(&mmap_sampling_state, &undecided, MMAP_SAMPLING_ON,
                                            memory_order_relaxed, memory_order_relaxed);
}

/* From its first on with a rate: at rate 0 then, what takes a range's place is still seen. */
static bool is_on(void) {
  if (atomic_load_explicit(&mmap_sampling_state, memory_order_relaxed) == MMAP_SAMPLING_UNDECIDED &&
      config_rate(&config.memprofile_rate) > 0) /* else not yet, or never */
    decide();
  return atomic_load_explicit(&mmap_sampling_state, memory_order_relaxed) == MMAP_SAMPLING_ON;
}

const char *mmap_off_reason(void) {
  if (config_rate(&config.memprofile_rate) == 0) return "PPROFAGENT_MEMPROFILERATE is 0";
  return is_on() ? NULL : atomic_load_explicit(&why_off, memory_order_acquire);
}

/* ---- the decision ---- */

/* splitmix64, whose state is a sum: any number of threads may take steps of it at once. */
static bool is_sampled(uint64_t size, uint64_t rate) {
  enum { SEEDED = 1 }; /* the state is odd from its seed on, as its steps are even */
  const uint64_t step = 0x9e3779b97f4a7c15ull << 1;
  if (rate <= 1) return rate == 1;
  uint64_t state = atomic_load_explicit(&random_state, memory_order_relaxed);
  if (state == 0) {
    uint64_t seed = sampler_seed(&random_state, cpu_sampling_process()) | SEEDED;
    atomic_compare_exchange_strong_explicit(&random_state, &state, seed, memory_order_relaxed,
                                            memory_order_relaxed);
  }
  state = atomic_fetch_add_explicit(&random_state, step, memory_order_relaxed);
  state ^= (uint64_t)cpu_sampling_process() << 32; /* a forked child has its parent's */
  return sampler_draw_interval(&state, rate) <= size;
}

struct sampled_call {
  uint64_t size, rate;
  const struct unwind_registers *caller;
  uint32_t bucket;
};

static void record(void *argument) {
  struct sampled_call *call = argument;
  CAPTURED_STACK(stack);
  stack_capture(call->caller, stack);
  uint32_t id = captured_stack_intern(stack);
  if (id) call->bucket = mmap_table_add(call->size, call->rate, id);
  else COUNT_LOSS(mmap_lost_table_full);
}

static void add_range(const struct mmap_range *range) {
  int64_t bytes = (int64_t)(range->end - range->start);
  if (range->bucket) mmap_table_change(range->bucket, 1, bytes);
  if (mmap_ranges_add(range)) return;
  COUNT_LOSS(mmap_lost_ranges);
  if (range->bucket) mmap_table_change(range->bucket, -1, -bytes);
}

/* A new one, at the end of whatever it was made for. */
static void add_mapping(uintptr_t start, uint64_t size, const struct unwind_registers *caller) {
  struct sampled_call call = {size, config_rate(&config.memprofile_rate), caller, 0};
  if (is_sampled(size, call.rate)) {
    int error = errno;
    if (!handler_stack_call(record, &call)) COUNT_LOSS(mmap_lost_no_stack);
    errno = error;
  }
  const struct mmap_range range = {start, start + size, call.bucket};
  add_range(&range);
}

/* ---- what has happened ---- */

static void count_cut(void *argument, const struct mmap_range *cut, int more) {
  struct mmap_taken *taken = argument;
  if (cut->bucket) mmap_table_change(cut->bucket, more, -(int64_t)(cut->end - cut->start));
  if (!taken) return;
  if (taken->count < MMAP_TAKEN_MAX) taken->ranges[taken->count] = *cut;
  taken->count++;
}

/* Where no program's memory is, and as much of it. */
#define BEYOND ((uintptr_t)1 << 47)

/* What the kernel makes of a length; 0 where it is none that it takes. */
static uintptr_t end_of(uintptr_t start, size_t size) {
  uintptr_t end = (start + size + MMAP_PAGE - 1) & ~(uintptr_t)(MMAP_PAGE - 1);
  return end > start && end <= BEYOND && size && !(start & (MMAP_PAGE - 1)) ? end : 0;
}

void mmap_has_mapped(void *address, size_t size, bool anonymous,
                     const struct unwind_registers *caller) {
  uintptr_t start = (uintptr_t)address, end = end_of(start, size);
  if (thread_state.agent || !end || !is_on()) return;
  mmap_ranges_cut(start, end, count_cut, NULL);
  if (anonymous) add_mapping(start, end - start, caller);
}

void mmap_take(void *address, size_t size, struct mmap_taken *out) {
  uintptr_t start = (uintptr_t)address, end = end_of(start, size);
  out->count = 0;
  if (end) mmap_ranges_cut(start, end, count_cut, out);
  if (out->count <= MMAP_TAKEN_MAX) return;
  atomic_fetch_add_explicit(&shim_counters.mmap_lost_taken, out->count - MMAP_TAKEN_MAX,
                            memory_order_relaxed);
  out->count = MMAP_TAKEN_MAX;
}

void mmap_put_back(const struct mmap_taken *taken) {
  for (uint32_t i = 0; i < taken->count; i++) add_range(&taken->ranges[i]);
}

/* ---- mremap ---- */

struct shift {
  uintptr_t by, limit; /* to be added; what lies above is gone then */
  bool copies, any;
};

static void shift_cut(void *argument, const struct mmap_range *cut, int more) {
  struct shift *shift = argument;
  struct mmap_range moved = {cut->start + shift->by, cut->end + shift->by, cut->bucket};
  shift->any = true;
  count_cut(NULL, cut, more);
  if (moved.end > shift->limit) moved.end = shift->limit;
  if (moved.start < moved.end) add_range(&moved);
  if (!shift->copies) return;
  moved.start = cut->start - BEYOND;
  moved.end = cut->end - BEYOND;
  add_range(&moved);
}

bool mmap_hold(void *address, size_t size) {
  uintptr_t start = (uintptr_t)address, end = end_of(start, size);
  struct shift beyond = {.by = BEYOND, .limit = UINTPTR_MAX};
  if (end) mmap_ranges_cut(start, end, shift_cut, &beyond);
  return beyond.any;
}

static void let_go(uintptr_t start, size_t size, struct shift *shift) {
  uintptr_t end = end_of(start, size);
  if (end) mmap_ranges_cut(start + BEYOND, end + BEYOND, shift_cut, shift);
}

void mmap_stays(void *address, size_t size) {
  struct shift back = {.by = -BEYOND, .limit = UINTPTR_MAX};
  let_go((uintptr_t)address, size, &back);
}

void mmap_has_moved(void *from, size_t size, bool copies, void *to, size_t new_size,
                    const struct unwind_registers *caller) {
  uintptr_t start = (uintptr_t)to, end = end_of(start, new_size), old_end = end_of(start, size);
  mmap_ranges_cut(start, end, count_cut, NULL);
  struct shift shift = {
      .by = start - (uintptr_t)from - BEYOND, .limit = end, .copies = copies, .any = false};
  let_go((uintptr_t)from, size, &shift);
  /* What it has grown by is anonymous if the rest is. */
  if (shift.any && old_end && end > old_end) add_mapping(old_end, end - old_end, caller);
}
