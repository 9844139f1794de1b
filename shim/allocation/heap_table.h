/* Cumulative allocation counters, one bucket per (stack, size, rate), and the live sampled
 * allocations that point to them.
 *
 * All counts are of *sampled* allocations; heap_profile.c scales them by the bucket's rate.
 */
#ifndef SHIM_HEAP_TABLE_H
#define SHIM_HEAP_TABLE_H

#include <stdbool.h>
#include <stdint.h>

struct heap_bucket_view {
  uint32_t stack; /* id in stack_table.h */
  uint64_t size; /* bytes that the program asked for, per allocation */
  uint64_t rate; /* mean bytes between samples when these were drawn; <= 1: every allocation was
                    recorded, no scaling */
  uint64_t allocs; /* sampled allocations ever */
  uint64_t frees; /* of these, freed since; <= allocs in every view */
  uint64_t peak; /* of these, live at the highest moment (heap_peak.h) */
};

/* Buckets are numbered 1 .. heap_bucket_count(); numbers are never reused, so index i of two
 * snapshots is the same bucket. Context: any; locks: none. */
uint32_t heap_bucket_count(void);
bool heap_bucket_read(uint32_t index, struct heap_bucket_view *out);

/* Records one sampled allocation / takes it out before the real free. heap_record_alloc is false
 * when a table is full (counted). Context: malloc hook, signal; locks: none; may mmap. */
bool heap_record_alloc(uintptr_t pointer, uint64_t size, uint64_t rate, uint32_t stack);
bool heap_record_free(uintptr_t pointer); /* false: was not sampled */

/* realloc in three steps: the record is set aside (still counted as live, no longer found by its
 * pointer), then either put back (realloc failed) or ended (it succeeded). detach returns 0 when
 * the pointer was not sampled. Context: malloc hook; locks: none. */
uint64_t heap_record_detach(uintptr_t pointer);
void heap_record_reattach(uint64_t detached, uintptr_t pointer);
void heap_record_end(
    uint64_t detached,
    uintptr_t pointer); /* pointer: the one that was detached, for its value only */

/* When the first sampled allocation was recorded (monotonic_clock.h), in a forked child perhaps its
 * parent's; 0: none was. Context: any. */
uint64_t heap_recorded_since(void);

/* Occupancy, bounds and memory, for /debug/pprof/health. Context: any. */
uint32_t heap_bucket_limit(void);
uint64_t heap_live_count(void);
uint64_t heap_live_limit(void);
uint64_t heap_table_bytes(void);

#endif
