#include "size_buckets.h"

#include <stddef.h>

enum { SIZE_SIGNIFICANT_BITS = 7 };

/* Buckets are all of one size, so numbers and positions in memory follow from each other. */
enum {
  BUCKETS_PER_SEGMENT = TABLE_SEGMENT_BYTES / sizeof(struct size_bucket),
  UNITS_PER_BUCKET = sizeof(struct size_bucket) / TABLE_UNIT,
  UNITS_PER_SEGMENT = TABLE_SEGMENT_BYTES / TABLE_UNIT
};

struct size_bucket *size_buckets_at(const struct size_buckets *buckets, uint32_t number) {
  uint32_t index = number - 1;
  return table_memory_at(buckets->memory, index / BUCKETS_PER_SEGMENT * UNITS_PER_SEGMENT +
                                              index % BUCKETS_PER_SEGMENT * UNITS_PER_BUCKET);
}

static uint32_t number_of(uint32_t position) {
  return position / UNITS_PER_SEGMENT * BUCKETS_PER_SEGMENT +
         position % UNITS_PER_SEGMENT / UNITS_PER_BUCKET + 1;
}

static uint32_t find_in_chain(const struct size_buckets *buckets, uint32_t number, uint32_t until,
                              const struct size_bucket *wanted) {
  while (number != until) {
    const struct size_bucket *bucket = size_buckets_at(buckets, number);
    if (bucket->stack == wanted->stack && bucket->size == wanted->size &&
        bucket->rate == wanted->rate)
      return number;
    number = bucket->next;
  }
  return 0;
}

static uint64_t round_size(uint64_t size) {
  unsigned bits = 64 - (unsigned)__builtin_clzll(size | 1),
           drop = bits > SIZE_SIGNIFICANT_BITS ? bits - SIZE_SIGNIFICANT_BITS : 0;
  return drop ? (size + ((uint64_t)1 << (drop - 1))) >> drop << drop : size;
}

/* Into its chain, whose first was `head` when it was looked through. The number of it, or of one
 * like it that another thread has put there meanwhile: then it stays empty, and no reader shows it.
 */
static uint32_t publish(struct size_buckets *buckets, _Atomic uint32_t *chain, uint32_t head,
                        uint32_t number) {
  struct size_bucket *bucket = size_buckets_at(buckets, number);
  uint32_t found = 0;
  bucket->next = head;
  while (!atomic_compare_exchange_weak_explicit(chain, &head, number, memory_order_release,
                                                memory_order_acquire)) {
    found = find_in_chain(buckets, head, bucket->next, bucket);
    if (found) break;
    bucket->next = head;
  }
  /* Numbers are given out in order but reach this line in any order: count is the highest. */
  uint32_t count = atomic_load_explicit(&buckets->count, memory_order_relaxed);
  while (count < number &&
         !atomic_compare_exchange_weak_explicit(&buckets->count, &count, number,
                                                memory_order_release, memory_order_relaxed)) {}
  return found ? found : number;
}

struct size_bucket_found size_buckets_find(struct size_buckets *buckets, uint64_t size,
                                           uint64_t rate, uint32_t stack) {
  struct size_bucket_found found = {0, SIZE_BUCKETS_OK, false};
  uint32_t count = atomic_load_explicit(&buckets->count, memory_order_relaxed);
  if (__builtin_expect(count >= buckets->limit / 2, 0)) {
    uint64_t rounded = round_size(size);
    found.rounded = rounded != size;
    size = rounded;
  }
  uint64_t hash = (size * 0x9e3779b97f4a7c15ull ^ stack) * 0xff51afd7ed558ccdull ^ rate;
  _Atomic uint32_t *chain = &buckets->chains[(hash >> 40) % buckets->chain_count];
  uint32_t head = atomic_load_explicit(chain, memory_order_acquire);
  const struct size_bucket wanted = {.size = size, .rate = rate, .stack = stack};
  found.number = find_in_chain(buckets, head, 0, &wanted);
  if (found.number) return found;

  bool full = count >= buckets->limit;
  uint32_t position = UINT32_MAX;
  if (!full) position = table_memory_allocate(buckets->memory, sizeof wanted, &full);
  if (position == UINT32_MAX) {
    found.fault = full ? SIZE_BUCKETS_FULL : SIZE_BUCKETS_NO_MEMORY;
    return found;
  }
  uint32_t number = number_of(position);
  struct size_bucket *bucket = size_buckets_at(buckets, number);
  bucket->size = size;
  bucket->rate = rate;
  bucket->stack = stack;
  found.number = publish(buckets, chain, head, number);
  return found;
}

uint32_t size_buckets_count(const struct size_buckets *buckets) {
  return atomic_load_explicit(&buckets->count, memory_order_acquire);
}

uint64_t size_buckets_bytes(const struct size_buckets *buckets) {
  return table_memory_mapped(buckets->memory) + buckets->chain_count * sizeof *buckets->chains;
}
