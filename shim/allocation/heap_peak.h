/* The heap at its highest moment, without a copy of it: the moment has a number, and whoever
 * changes a bucket's count for the first time after it writes down beside the bucket what it was.
 * So a bucket was then what is written down for that number, or, where nothing is, what it is now.
 *
 * How high the heap is is judged by the sampled allocations, each with the bytes that it stands
 * for. An event that another thread is in the middle of at the highest moment counts or not: at
 * most one of each thread.
 * Context: malloc hook, signal; locks: none. On sampled allocations and their frees alone.
 */
#ifndef SHIM_HEAP_PEAK_H
#define SHIM_HEAP_PEAK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* note: what a bucket has beside its counts: the number of a moment (hashed to 38 bits) and the
 * live allocations before the first change after it. Written by a CAS from what was there before
 * the counts were read; so of two that are about to change a bucket the slower one is refused, or
 * writes for a moment that is over, which nobody reads.
 * Before a change to a bucket's counts: */
void heap_peak_keep(_Atomic uint64_t *note, const _Atomic uint64_t *allocs,
                    const _Atomic uint64_t *frees);
/* After it. weight: heap_peak_weight. */
void heap_peak_grow(uint64_t weight);
void heap_peak_shrink(uint64_t weight);

/* Bytes that one sampled allocation stands for, right to 1 %; whole numbers, so no floating-point
 * state of the program's is touched. */
uint64_t heap_peak_weight(uint64_t size, uint64_t rate);

/* ---- for readers; context: any ---- */

/* The bucket's live allocations at the highest moment. */
uint64_t heap_peak_live(const _Atomic uint64_t *note, const _Atomic uint64_t *allocs,
                        const _Atomic uint64_t *frees);

struct heap_levels {
  uint64_t now, peak; /* bytes, about */
};
struct heap_levels heap_peak_levels(void);
/* From here on the highest moment is looked for anew. */
void heap_peak_begin_anew(void);

#endif
