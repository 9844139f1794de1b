/* The frames of a stack that is being walked, leaf first: all of them up to stack_depth(), of
 * more the innermost ones and the last ones (stack_table.h). Context: malloc hook, signal; locks:
 * none. */
#ifndef SHIM_STACK_HALVES_H
#define SHIM_STACK_HALVES_H

#include <stdint.h>
#include <string.h>

#include "stack_table.h"

enum {
  STACK_END_MARKERS = 2, /* a stack's end may have */
  /* Frames of one stack: some 20 us. A recursion may be far deeper, each of its samples would take
   * as long as the rest of its work. */
  STACK_WALKED_MAX = 2048
};
_Static_assert(STACK_WALKED_MAX < (int)STACK_MISSING_MAX, "what is missing can be said");

/* How many are kept, and how. */
struct stack_halves {
  uint32_t all, leaf, root;
};

static inline struct stack_halves stack_halves(void) {
  uint32_t all = stack_depth(), leaf = all / 2;
  return (struct stack_halves){all, leaf, all - leaf};
}

/* Where the frame of that number, from 0 on, is kept: behind the leaf half in a ring. */
static inline uint32_t stack_place(const struct stack_halves *halves, uint32_t number) {
  if (number < halves->all) return number;
  return halves->leaf + (number - halves->leaf) % halves->root;
}

static inline void stack_reverse(uint64_t *frames, uint32_t count) {
  for (uint32_t i = 0; i < count / 2; i++) {
    uint64_t other = frames[count - 1 - i];
    frames[count - 1 - i] = frames[i];
    frames[i] = other;
  }
}

/* Ends a walk of so many frames, more than are kept. The number of entries, with room for the end's
 * markers. */
static inline uint32_t stack_join(const struct stack_halves *halves, uint64_t *frames,
                                  uint32_t walked) {
  uint32_t kept = halves->root - STACK_END_MARKERS;
  uint64_t *ring = frames + halves->leaf;
  uint32_t oldest = (walked - halves->leaf) % halves->root;
  stack_reverse(ring, oldest);
  stack_reverse(ring + oldest, halves->root - oldest);
  stack_reverse(ring, halves->root);
  memmove(ring + 1, ring + STACK_END_MARKERS, kept * sizeof *ring);
  ring[0] = STACK_MISSING + walked - halves->leaf - kept;
  return halves->leaf + 1 + kept;
}

/* Puts a leaf on top; of a full stack one more frame in the middle is left out. */
static inline void stack_push(uint64_t *frames, uint32_t *count, uint64_t leaf) {
  const struct stack_halves halves = stack_halves();
  uint64_t *middle = &frames[halves.leaf];
  if (*count >= halves.all && stack_marker_is_missing(*middle)) {
    middle[-1] = *middle + 1;
    *count -= 1;
    memmove(middle, middle + 1, (*count - halves.leaf) * sizeof *middle);
  } else if (*count >= halves.all) {
    uint32_t over = *count - halves.all; /* a marker at the end */
    *count -= over;
    memmove(middle + 1, middle + 1 + over, (*count - halves.leaf - 1) * sizeof *middle);
    *middle = STACK_MISSING + 1 + over;
  }
  memmove(frames + 1, frames, *count * sizeof *frames);
  frames[0] = leaf;
  *count += 1;
}

#endif
