/* Distinct call stacks, interned once, never removed.
 *
 * A frame is a *return address* (the pc after the call), leaf first; readers subtract 1 to get the
 * call's own address. Frames that were interrupted by a signal are stored as pc + 1, so that the
 * same rule gives their exact pc. A stack that could not be followed to the thread's entry ends
 * with one value below STACK_MARKER_LIMIT, which says why; one that was followed without unwind
 * information ends with another, behind that.
 */
#ifndef SHIM_STACK_TABLE_H
#define SHIM_STACK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/base/stack_depth.h"

/* A stack has stack_depth() real frames at most; with markers there may be one entry more. Of a
 * deeper one the innermost half is kept, a marker that says how many are missing, and then the
 * outermost. */

/* Why a stack ends early. 0 is not a marker. */
enum stack_marker {
  STACK_TRUNCATED_DEPTH = 1, /* more frames than are followed */
  STACK_TRUNCATED_NO_UNWIND =
      2, /* a frame (JIT code, hand-written assembly) has no unwind information */
  STACK_TRUNCATED_MEMORY =
      3, /* the next frame's memory cannot be read, or the stack pointer did not rise */
  /* Instead of a stack, as its only frame. */
  STACK_NOT_READ =
      4, /* thread dump: the thread ran and did not answer, or its memory cannot be read */
  STACK_NOT_KEPT = 5, /* threadcreate: the table of stacks is full */
  /* At the end of a stack again. */
  STACK_TRUNCATED_SMALL = 6, /* there was no room on it for following it */
  /* Behind everything else: plus how many frames were found without unwind information, by frame
   * pointers or by reading code (stack_capture.h). */
  STACK_GUESSED = 1024,
  STACK_GUESSED_MAX = 8191, /* or more */
  STACK_MISSING = 16384, /* between two frames: plus how many there were */
  STACK_MISSING_MAX = 32768,
  STACK_MARKER_LIMIT = 65536 /* every value below this is a marker, never an address */
};

static inline bool stack_marker_is_guess(uint64_t frame) {
  return frame > STACK_GUESSED && frame <= STACK_GUESSED + STACK_GUESSED_MAX;
}

static inline uint64_t stack_marker_of_guesses(uint64_t count) {
  return STACK_GUESSED + (count < STACK_GUESSED_MAX ? count : STACK_GUESSED_MAX);
}

static inline bool stack_marker_is_missing(uint64_t frame) {
  return frame > STACK_MISSING && frame <= STACK_MISSING + STACK_MISSING_MAX;
}

struct stack_view {
  uint32_t frame_count; /* 1 .. stack_depth() + 1, marker included */
  uint32_t epoch; /* of module_registry.h: which modules the addresses meant when the stack was
                     first seen */
  const uint64_t *frames; /* valid for the life of the process */
};

/* Returns the id (>= 1) of the stack, adding it if it is new; 0 when the table is full or memory is
 * out (the caller counts what it loses by that). Context: malloc hook, signal; locks: none; may
 * mmap. */
uint32_t stack_table_intern(const uint64_t *frames, uint32_t frame_count, uint32_t epoch);

/* The id of a stack that is there already, or 0. Context: as above. */
uint32_t stack_table_find(const uint64_t *frames, uint32_t frame_count, uint32_t epoch);

/* Context: any; locks: none. False when there is no such id. */
bool stack_table_read(uint32_t id, struct stack_view *out);

/* Stacks stored / the bound on their number / on their bytes, whichever comes first / bytes of
 * memory taken for them. Context: any. */
uint32_t stack_table_count(void);
uint32_t stack_table_limit(void);
uint64_t stack_table_limit_bytes(void);
uint64_t stack_table_bytes(void);

#endif
