/* The program's anonymous mappings, as address ranges: who unmaps a part of one finds it here.
 *
 * A hash table in levels, as live_table.h, whose key is a range's size class k (it has at most 2^k
 * bytes) and its first address in units of 2^(k+2). So whatever overlaps an address lies under one
 * of two keys of each class, and at most a few ranges under each. Who cuts a range takes its slot;
 * another who would cut the same waits for him, for a fraction of a millisecond at most.
 * Context: host thread, signal; locks: none; maps memory once. */
#ifndef SHIM_MMAP_RANGES_H
#define SHIM_MMAP_RANGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Smaller mappings are not kept. */
enum { MMAP_PAGE = 4096, MMAP_LEAST_SHIFT = 16, MMAP_LEAST_BYTES = 1 << MMAP_LEAST_SHIFT };

struct mmap_range {
  uintptr_t start, end;
  uint32_t bucket; /* mmap_table.h; 0: not sampled */
};

/* Relaxed: who maps and unmaps the same addresses is one thread, or is told by the other. */
extern _Atomic uint32_t mmap_range_count __attribute__((visibility("hidden")));
static inline bool mmap_ranges_any(void) {
  return atomic_load_explicit(&mmap_range_count, memory_order_relaxed) != 0;
}

/* Nothing that is there may overlap it. False: there is no room, or no memory. */
bool mmap_ranges_add(const struct mmap_range *range);

/* What a cut has taken out of a range; more: how many ranges there are more than before (-1: it was
 * the whole, 1: from its middle). */
typedef void mmap_cut_sink(void *argument, const struct mmap_range *cut, int more);
/* Leaves nothing there between start and end. Losses are counted (counters.h). */
void mmap_ranges_cut(uintptr_t start, uintptr_t end, mmap_cut_sink *sink, void *argument);

/* One after the other, as they are at that moment; false: that was all. A new cursor is all zeros.
 * Context: agent. */
struct mmap_cursor {
  uint32_t level, slot;
};
bool mmap_ranges_next(struct mmap_cursor *cursor, struct mmap_range *out);

uint64_t mmap_ranges_mapped(void); /* bytes of all ranges, sampled or not */
uint64_t mmap_ranges_limit(void); /* how many there can be */
uint64_t mmap_ranges_bytes(void); /* of the table */

#endif
