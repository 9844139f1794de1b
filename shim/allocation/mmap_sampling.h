/* What mmap, munmap and mremap tell: where the program's anonymous mappings lie, and of those that
 * are sampled, who made them.
 *
 * A call is sampled as an allocation of the heap is: with P = 1 - exp(-size / rate), by a draw of
 * its own. Mappings of less than MMAP_LEAST_BYTES are not looked at, nor are those of files.
 * Context: host thread, signal; locks: none; errno is left alone. */
#ifndef SHIM_MMAP_SAMPLING_H
#define SHIM_MMAP_SAMPLING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mmap_ranges.h"
#include "shim/stacks/stack_capture.h"

/* Undecided until the first mapping that could be counted: an exec pays nothing for it. Relaxed:
 * who reads it late is as if his call had come sooner. */
enum mmap_sampling { MMAP_SAMPLING_UNDECIDED, MMAP_SAMPLING_ON, MMAP_SAMPLING_OFF };
extern _Atomic int mmap_sampling_state __attribute__((visibility("hidden")));

/* Whether a mapping that has been made is worth the slow path: it is to be known, or it is a file's
 * and may have taken a range's place. (A few anonymous pages in a range are what they were: the
 * range's.) */
static inline bool mmap_is_of_interest(size_t size, bool anonymous) {
  return (anonymous ? size > MMAP_LEAST_BYTES - MMAP_PAGE : mmap_ranges_any()) &&
         atomic_load_explicit(&mmap_sampling_state, memory_order_relaxed) != MMAP_SAMPLING_OFF;
}
static inline bool munmap_is_of_interest(void) {
  return mmap_ranges_any() &&
         atomic_load_explicit(&mmap_sampling_state, memory_order_relaxed) == MMAP_SAMPLING_ON;
}

void mmap_sampling_stop(const char *reason); /* as heap_sampling_stop */

void mmap_has_mapped(void *start, size_t size, bool anonymous,
                     const struct unwind_registers *caller);

/* Ranges that are in the kernel's hands: taken out, to be put back where it refuses. A list, which
 * costs nothing where it does not: munmap is often called, and hardly ever refused. */
enum { MMAP_TAKEN_MAX = 8 };
struct mmap_taken {
  uint32_t count;
  struct mmap_range ranges[MMAP_TAKEN_MAX];
};
/* Before munmap. */
void mmap_take(void *start, size_t size, struct mmap_taken *out);
void mmap_put_back(const struct mmap_taken *taken);

/* The same for mremap, any number of them: they are kept where no address is. False: there is none.
 */
bool mmap_hold(void *start, size_t size);
/* What was held is where it was; or has moved, and may have become larger or smaller. copies: it is
 * in both places. */
void mmap_stays(void *start, size_t size);
void mmap_has_moved(void *from, size_t size, bool copies, void *to, size_t new_size,
                    const struct unwind_registers *caller);

#endif
