/* The frames of a stack that is being walked, leaf first: all of them up to STACK_MAX_FRAMES, of
 * more the innermost ones and the last ones (stack_table.h). Context: malloc hook, signal; locks:
 * none. */
#ifndef SHIM_STACK_HALVES_H
#define SHIM_STACK_HALVES_H

#include <stdint.h>
#include <string.h>

#include "stack_table.h"

enum {
  STACK_END_MARKERS = 2, /* a stack's end may have */
  STACK_ROOT_HALF = STACK_MAX_FRAMES - STACK_LEAF_HALF
};

/* Where the frame of that number, from 0 on, is kept: behind the leaf half in a ring. */
static inline uint32_t stack_place(uint32_t number) {
  if (number < STACK_MAX_FRAMES) return number;
  return STACK_LEAF_HALF + (number - STACK_LEAF_HALF) % STACK_ROOT_HALF;
}

static inline void stack_reverse(uint64_t *frames, uint32_t count) {
  for (uint32_t i = 0; i < count / 2; i++) {
    uint64_t other = frames[count - 1 - i];
    frames[count - 1 - i] = frames[i];
    frames[i] = other;
  }
}

/* Ends a walk of so many frames, more than STACK_MAX_FRAMES. The number of entries, with room for
 * the end's markers. */
static inline uint32_t stack_join(uint64_t *frames, uint32_t walked) {
  enum { KEPT = STACK_ROOT_HALF - STACK_END_MARKERS };
  uint64_t *ring = frames + STACK_LEAF_HALF;
  uint32_t oldest = (walked - STACK_LEAF_HALF) % STACK_ROOT_HALF;
  stack_reverse(ring, oldest);
  stack_reverse(ring + oldest, STACK_ROOT_HALF - oldest);
  stack_reverse(ring, STACK_ROOT_HALF);
  memmove(ring + 1, ring + STACK_END_MARKERS, KEPT * sizeof *ring);
  ring[0] = STACK_MISSING + walked - STACK_LEAF_HALF - KEPT;
  return STACK_LEAF_HALF + 1 + KEPT;
}

/* Puts a leaf on top; of a full stack one more frame in the middle is left out. */
static inline void stack_push(uint64_t *frames, uint32_t *count, uint64_t leaf) {
  uint64_t *middle = &frames[STACK_LEAF_HALF];
  if (*count >= STACK_MAX_FRAMES && stack_marker_is_missing(*middle)) {
    middle[-1] = *middle + 1;
    *count -= 1;
    memmove(middle, middle + 1, (*count - STACK_LEAF_HALF) * sizeof *middle);
  } else if (*count >= STACK_MAX_FRAMES) {
    uint32_t over = *count - STACK_MAX_FRAMES; /* a marker at the end */
    *count -= over;
    memmove(middle + 1, middle + 1 + over, (*count - STACK_LEAF_HALF - 1) * sizeof *middle);
    *middle = STACK_MISSING + 1 + over;
  }
  memmove(frames + 1, frames, *count * sizeof *frames);
  frames[0] = leaf;
  *count += 1;
}

#endif
