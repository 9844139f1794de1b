#include "heap_table.h"

#include <stdatomic.h>

#include "shim/base/counters.h"
#include "shim/base/thread_state.h"
#include "shim/next/interposed.h"
#include "shim/next/monotonic_clock.h"
#include "shim/stacks/stack_capture.h"
#include "shim/threads/thread_registry.h"
#include "heap_peak.h"
#include "live_table.h"
#include "shim/base/table_memory.h"

/* One (stack, size, rate). The constants are written before the release CAS that publishes the
 * bucket in its chain. allocs is raised before the allocation's pointer is published, frees after
 * it was taken, each by whoever allocates or frees; a reader that loads frees first and then allocs
 * therefore never sees more frees than allocs. */
struct heap_bucket {
  _Atomic uint64_t allocs, frees;
  uint64_t size, rate;
  struct heap_peak_note peak;
  uint32_t stack; /* 0: handed out but not yet (or, after a lost race, never) in use */
  uint32_t next; /* bucket number, 0: end */
};

enum {
  CHAINS = 1 << 15,
  BUCKETS_PER_SEGMENT = TABLE_SEGMENT_BYTES / sizeof(struct heap_bucket),
  BUCKETS_MAX = 1 << 20,
  /* A server whose sizes are all different would fill any table in time. From here on sizes are
   * rounded to the nearest of 7 significant bits (error at most 0.8 % of one allocation, none on
   * average), which bounds what a stack can add. */
  BUCKETS_ROUND_FROM = BUCKETS_MAX / 2,
  SIZE_SIGNIFICANT_BITS = 7
};

static _Atomic uint32_t chains[CHAINS];
TABLE_MEMORY(memory, TABLE_SEGMENTS_MAX);
static _Atomic uint32_t bucket_count;

/* Buckets are all of one size, so numbers and positions in memory follow from each other. */
enum {
  UNITS_PER_BUCKET = sizeof(struct heap_bucket) / TABLE_UNIT,
  UNITS_PER_SEGMENT = TABLE_SEGMENT_BYTES / TABLE_UNIT
};

static struct heap_bucket *bucket_at(uint32_t number) {
  uint32_t index = number - 1;
  return table_memory_at(&memory, index / BUCKETS_PER_SEGMENT * UNITS_PER_SEGMENT +
                                      index % BUCKETS_PER_SEGMENT * UNITS_PER_BUCKET);
}

static uint32_t number_of(uint32_t position) {
  return position / UNITS_PER_SEGMENT * BUCKETS_PER_SEGMENT +
         position % UNITS_PER_SEGMENT / UNITS_PER_BUCKET + 1;
}

static uint32_t find_in_chain(uint32_t number, uint32_t until, uint64_t size, uint64_t rate,
                              uint32_t stack) {
  while (number != until) {
    const struct heap_bucket *bucket = bucket_at(number);
    if (bucket->stack == stack && bucket->size == size && bucket->rate == rate) return number;
    number = bucket->next;
  }
  return 0;
}

static uint64_t round_size(uint64_t size) {
  unsigned bits = 64 - (unsigned)__builtin_clzll(size | 1),
           drop = bits > SIZE_SIGNIFICANT_BITS ? bits - SIZE_SIGNIFICANT_BITS : 0;
  return drop ? (size + ((uint64_t)1 << (drop - 1))) >> drop << drop : size;
}

static uint32_t find_or_add_bucket(uint64_t size, uint64_t rate, uint32_t stack) {
  if (UNLIKELY(atomic_load_explicit(&bucket_count, memory_order_relaxed) >= BUCKETS_ROUND_FROM)) {
    uint64_t rounded = round_size(size);
    if (rounded != size) COUNT_LOSS(heap_sizes_rounded);
    size = rounded;
  }
  uint64_t hash = (size * 0x9e3779b97f4a7c15ull ^ stack) * 0xff51afd7ed558ccdull ^ rate;
  _Atomic uint32_t *chain = &chains[(hash >> 40) % CHAINS];
  uint32_t head = atomic_load_explicit(chain, memory_order_acquire);
  uint32_t found = find_in_chain(head, 0, size, rate, stack);
  if (found) return found;

  bool full = atomic_load_explicit(&bucket_count, memory_order_relaxed) >= BUCKETS_MAX;
  uint32_t position = UINT32_MAX;
  if (!full) position = table_memory_allocate(&memory, sizeof(struct heap_bucket), &full);
  if (position == UINT32_MAX) {
    if (full) COUNT_LOSS(heap_lost_bucket_table_full);
    else COUNT_LOSS(heap_lost_no_memory);
    return 0;
  }
  uint32_t number = number_of(position);
  struct heap_bucket *bucket = bucket_at(number);
  bucket->size = size;
  bucket->rate = rate;
  bucket->stack = stack;
  bucket->next = head;
  while (!atomic_compare_exchange_weak_explicit(chain, &head, number, memory_order_release,
                                                memory_order_acquire)) {
    found = find_in_chain(head, bucket->next, size, rate, stack);
    if (found) break; /* ours stays empty: no allocs, so no reader shows it */
    bucket->next = head;
  }
  /* Numbers are given out in order but reach this line in any order: count is the highest. */
  uint32_t count = atomic_load_explicit(&bucket_count, memory_order_relaxed);
  while (count < number &&
         !atomic_compare_exchange_weak_explicit(&bucket_count, &count, number, memory_order_release,
                                                memory_order_relaxed)) {}
  return found ? found : number;
}

static void count_alloc(struct heap_bucket *bucket) {
  heap_peak_keep(&bucket->peak, &bucket->allocs, &bucket->frees);
  atomic_fetch_add_explicit(&bucket->allocs, 1, memory_order_release);
  heap_peak_grow(heap_peak_weight(bucket->size, bucket->rate));
}

static void count_free(uint32_t number) {
  struct heap_bucket *bucket = bucket_at(number);
  heap_peak_keep(&bucket->peak, &bucket->allocs, &bucket->frees);
  atomic_fetch_add_explicit(&bucket->frees, 1, memory_order_release);
  heap_peak_shrink(heap_peak_weight(bucket->size, bucket->rate));
}

bool heap_record_free(uintptr_t pointer) {
  struct live_slot slot = live_table_find(pointer);
  if (!slot.line) return false;
  uint32_t number = live_table_bucket(slot);
  live_table_remove(slot, pointer);
  count_free(number);
  return true;
}

/* Written once, by whoever records first. */
static _Atomic uint64_t first_birth;

uint64_t heap_recorded_since(void) {
  return atomic_load_explicit(&first_birth, memory_order_relaxed);
}

static int32_t own_tid(void) {
  uint32_t number = thread_state.record;
  if (number) return atomic_load_explicit(&thread_registry_at(number)->tid, memory_order_relaxed);
  return stack_capture_is_first_thread() ? LIVE_FIRST_THREAD : 0;
}

bool heap_record_alloc(uintptr_t pointer, uint64_t size, uint64_t rate, uint32_t stack) {
  if (heap_record_free(pointer)) COUNT_LOSS(heap_stale_records);
  uint32_t number = find_or_add_bucket(size, rate, stack);
  if (!number) return false;
  struct live_slot slot;
  bool full;
  if (!live_table_reserve(pointer, &slot, &full)) {
    if (full) COUNT_LOSS(heap_lost_live_table_full);
    else COUNT_LOSS(heap_lost_no_memory);
    return false;
  }
  count_alloc(bucket_at(number));
  const struct live_block block = {
      .bucket = number, .tid = own_tid(), .birth = monotonic_clock_now()};
  uint64_t none = 0;
  if (UNLIKELY(atomic_load_explicit(&first_birth, memory_order_relaxed) == 0))
    atomic_compare_exchange_strong_explicit(&first_birth, &none, block.birth, memory_order_relaxed,
                                            memory_order_relaxed);
  live_table_publish(slot, pointer, &block);
  return true;
}

/* A detached record is its slot: line addresses are 64-byte aligned, so the low bits hold the
 * index, and + 1 makes it non-zero. */
static struct live_slot unpack(uint64_t detached) {
  return (struct live_slot){(void *)(uintptr_t)(detached & ~(uint64_t)63),
                            (uint32_t)(detached & 63) - 1};
}

uint64_t heap_record_detach(uintptr_t pointer) {
  struct live_slot slot = live_table_find(pointer);
  if (!slot.line) return 0;
  live_table_hide(slot, pointer);
  return (uint64_t)(uintptr_t)slot.line | (slot.index + 1);
}

void heap_record_reattach(uint64_t detached, uintptr_t pointer) {
  live_table_show(unpack(detached), pointer);
}

void heap_record_end(uint64_t detached, uintptr_t pointer) {
  struct live_slot slot = unpack(detached);
  uint32_t number = live_table_bucket(slot);
  live_table_remove(slot, pointer);
  count_free(number);
}

uint32_t heap_bucket_count(void) {
  return atomic_load_explicit(&bucket_count, memory_order_acquire);
}

bool heap_bucket_read(uint32_t index, struct heap_bucket_view *out) {
  if (index == 0 || index > heap_bucket_count()) return false;
  struct heap_bucket *bucket = bucket_at(index);
  if (!bucket) return false;
  uint64_t frees = atomic_load_explicit(&bucket->frees, memory_order_acquire);
  uint64_t allocs = atomic_load_explicit(&bucket->allocs, memory_order_acquire);
  /* allocs > 0 was written after the constants, by a thread that had found the bucket published. */
  if (allocs == 0) return false;
  *out = (struct heap_bucket_view){
      .stack = bucket->stack,
      .size = bucket->size,
      .rate = bucket->rate,
      .allocs = allocs,
      .frees = frees,
      .peak = heap_peak_live(&bucket->peak, &bucket->allocs, &bucket->frees)};
  return true;
}

uint32_t heap_bucket_limit(void) { return BUCKETS_MAX; }

uint64_t heap_live_count(void) {
  uint64_t live = 0;
  struct heap_bucket_view view;
  for (uint32_t i = 1, count = heap_bucket_count(); i <= count; i++)
    if (heap_bucket_read(i, &view)) live += view.allocs - view.frees;
  return live;
}

uint64_t heap_live_limit(void) { return live_table_limit(); }

uint64_t heap_table_bytes(void) {
  return table_memory_mapped(&memory) + sizeof chains + live_table_bytes();
}
