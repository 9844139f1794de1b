/* Where functions begin and end according to an object's unwind tables (.eh_frame). They are there
 * in stripped objects too, and tell how far a symbol without a size can reach at most.
 * Context: agent threads; locks: none.
 */
#ifndef AGENT_FDE_RANGES_H
#define AGENT_FDE_RANGES_H

#include "elf_file.h"

struct fde_range {
  uint64_t start, end; /* addresses as in the file's program headers */
  size_t order; /* no two are equal: a malformed file's repetitions would make sorting quadratic */
};

struct fde_ranges {
  struct fde_range *items; /* sorted by start */
  size_t count, capacity;
};

/* Empty where there is no .eh_frame; what cannot be read in it is left out. */
void fde_ranges_read(struct fde_ranges *ranges, struct elf_file *file);
void fde_ranges_release(struct fde_ranges *ranges, struct region *region);

/* How many ranges begin at or below address: the last of them, or the one behind, matters. */
size_t fde_ranges_at_or_below(const struct fde_ranges *ranges, uint64_t address);

#endif
