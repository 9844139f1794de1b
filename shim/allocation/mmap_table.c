#include "mmap_table.h"

#include "shim/base/counters.h"
#include "size_buckets.h"

enum { RANGES, BYTES }; /* of size_bucket.kept; raised and lowered by who maps and unmaps */
enum { CHAINS = 1 << 12, BUCKETS_MAX = 1 << 17 };

SIZE_BUCKETS(buckets, CHAINS, BUCKETS_MAX);

uint32_t mmap_table_add(uint64_t size, uint64_t rate, uint32_t stack) {
  struct size_bucket_found found = size_buckets_find(&buckets, size, rate, stack);
  if (!found.number) {
    COUNT_LOSS(mmap_lost_table_full);
    return 0;
  }
  struct size_bucket *bucket = size_buckets_at(&buckets, found.number);
  atomic_fetch_add_explicit(&bucket->allocs, 1, memory_order_release);
  return found.number;
}

void mmap_table_change(uint32_t number, int ranges, int64_t bytes) {
  struct size_bucket *bucket = size_buckets_at(&buckets, number);
  atomic_fetch_add_explicit(&bucket->kept[RANGES], (uint64_t)(int64_t)ranges, memory_order_relaxed);
  atomic_fetch_add_explicit(&bucket->kept[BYTES], (uint64_t)bytes, memory_order_relaxed);
}

uint32_t mmap_table_count(void) { return size_buckets_count(&buckets); }

bool mmap_table_read(uint32_t number, struct mmap_bucket_view *out) {
  struct size_bucket *bucket =
      number && number <= mmap_table_count() ? size_buckets_at(&buckets, number) : NULL;
  uint64_t allocs = bucket ? atomic_load_explicit(&bucket->allocs, memory_order_acquire) : 0;
  if (allocs == 0) return false;
  *out = (struct mmap_bucket_view){
      .stack = bucket->stack,
      .size = bucket->size,
      .rate = bucket->rate,
      .allocs = allocs,
      .ranges = (int64_t)atomic_load_explicit(&bucket->kept[RANGES], memory_order_relaxed),
      .bytes = (int64_t)atomic_load_explicit(&bucket->kept[BYTES], memory_order_relaxed)};
  return true;
}

uint32_t mmap_table_limit(void) { return BUCKETS_MAX; }
uint64_t mmap_table_bytes(void) { return size_buckets_bytes(&buckets); }
