/* The sampled allocations that have not been freed: pointer -> bucket.
 *
 * A stack of hash tables ("levels"), each four times as large as the one before and mapped when the
 * ones before have no room; in each a pointer may lie in one line of LIVE_LINE_SLOTS slots only. So
 * a lookup reads one cache line a level, nothing ever moves, and a removal just empties its slot:
 * no tombstones, no rehashing, no lock. A pointer has one owner: it is inserted by the thread that
 * got it from the allocator and removed by the one that frees it. Context: malloc hook, signal;
 * locks: none; maps memory once a level.
 */
#ifndef SHIM_LIVE_TABLE_H
#define SHIM_LIVE_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* How many tracked pointers lie in each page of the address space, modulo 2 GiB, saturating at 255
 * (which then stays): the one test that free makes of its pointer. Neighbouring pages have
 * neighbouring bytes, so a program that works in 16 MB touches one page of it. A count is raised
 * before its pointer leaves the agent and lowered by the pointer's owner, so the owner always reads
 * a true answer; others may at worst look a pointer up in vain. */
enum { LIVE_FILTER_BITS = 19, LIVE_FILTER_PAGE_SHIFT = 12 };
extern _Atomic uint8_t live_filter[1 << LIVE_FILTER_BITS] __attribute__((visibility("hidden")));

static inline _Atomic uint8_t *live_filter_slot(uintptr_t pointer) {
  return &live_filter[pointer >> LIVE_FILTER_PAGE_SHIFT & ((1 << LIVE_FILTER_BITS) - 1)];
}

static inline bool live_table_may_contain(const void *pointer) {
  return atomic_load_explicit(live_filter_slot((uintptr_t)pointer), memory_order_relaxed) != 0;
}

/* Makes free take its slow path for a pointer that is not in the table (startup arena), and undoes
 * that. */
void live_filter_add(uintptr_t pointer);
void live_filter_remove(uintptr_t pointer);

/* What is known of a block. */
enum { LIVE_FIRST_THREAD = -1 };
struct live_block {
  uint32_t bucket; /* heap_table.h */
  int32_t tid; /* of the thread that allocated it, or LIVE_FIRST_THREAD; 0: not known */
  uint64_t birth; /* when: monotonic_clock.h */
};

/* A slot that is held but cannot be found yet, between reserve and publish. */
struct live_slot {
  void *line; /* NULL: none */
  uint32_t index;
};

/* False: out of room (*full) or of memory. */
bool live_table_reserve(uintptr_t pointer, struct live_slot *slot, bool *full);
void live_table_publish(struct live_slot slot, uintptr_t pointer, const struct live_block *block);

/* line NULL when the pointer is not there. */
struct live_slot live_table_find(uintptr_t pointer);
uint32_t live_table_bucket(struct live_slot slot);
void live_table_remove(struct live_slot slot, uintptr_t pointer);

/* Hides the pointer from find while its block is in realloc's hands, and shows it again. */
void live_table_hide(struct live_slot slot, uintptr_t pointer);
void live_table_show(struct live_slot slot, uintptr_t pointer);

/* One block after the other, each of those once that are there from the first call to the last;
 * false: that was all. A new cursor is all zeros. Context: agent. */
struct live_cursor {
  uint32_t level, index;
  uint64_t line;
};
bool live_table_next(struct live_cursor *cursor, struct live_block *out);

uint64_t live_table_limit(void);
uint64_t live_table_bytes(void);

#endif
