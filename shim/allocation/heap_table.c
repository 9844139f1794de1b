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
#include "size_buckets.h"

/* allocs is raised before the allocation's pointer is published, frees after it was taken, each by
 * whoever allocates or frees; a reader that loads frees first and then allocs therefore never sees
 * more frees than allocs. */
enum { FREES, PEAK }; /* of size_bucket.kept */
enum { CHAINS = 1 << 15, BUCKETS_MAX = 1 << 20 };

SIZE_BUCKETS(buckets, CHAINS, BUCKETS_MAX);

static uint32_t find_or_add_bucket(uint64_t size, uint64_t rate, uint32_t stack) {
  struct size_bucket_found found = size_buckets_find(&buckets, size, rate, stack);
  if (UNLIKELY(found.rounded)) COUNT_LOSS(heap_sizes_rounded);
  if (found.fault == SIZE_BUCKETS_FULL) COUNT_LOSS(heap_lost_bucket_table_full);
  else if (found.fault == SIZE_BUCKETS_NO_MEMORY) COUNT_LOSS(heap_lost_no_memory);
  return found.number;
}

static void count_alloc(struct size_bucket *bucket) {
  heap_peak_keep(&bucket->kept[PEAK], &bucket->allocs, &bucket->kept[FREES]);
  atomic_fetch_add_explicit(&bucket->allocs, 1, memory_order_release);
  heap_peak_grow(heap_peak_weight(bucket->size, bucket->rate));
}

static void count_free(uint32_t number) {
  struct size_bucket *bucket = size_buckets_at(&buckets, number);
  heap_peak_keep(&bucket->kept[PEAK], &bucket->allocs, &bucket->kept[FREES]);
  atomic_fetch_add_explicit(&bucket->kept[FREES], 1, memory_order_release);
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
  count_alloc(size_buckets_at(&buckets, number));
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

uint32_t heap_bucket_count(void) { return size_buckets_count(&buckets); }

bool heap_bucket_read(uint32_t index, struct heap_bucket_view *out) {
  if (index == 0 || index > heap_bucket_count()) return false;
  struct size_bucket *bucket = size_buckets_at(&buckets, index);
  if (!bucket) return false;
  uint64_t frees = atomic_load_explicit(&bucket->kept[FREES], memory_order_acquire);
  uint64_t allocs = atomic_load_explicit(&bucket->allocs, memory_order_acquire);
  /* allocs > 0 was written after the constants, by a thread that had found the bucket published. */
  if (allocs == 0) return false;
  *out = (struct heap_bucket_view){
      .stack = bucket->stack,
      .size = bucket->size,
      .rate = bucket->rate,
      .allocs = allocs,
      .frees = frees,
      .peak = heap_peak_live(&bucket->kept[PEAK], &bucket->allocs, &bucket->kept[FREES])};
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

uint64_t heap_table_bytes(void) { return size_buckets_bytes(&buckets) + live_table_bytes(); }
