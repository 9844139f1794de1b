/* How many frames of a stack are kept: PPROFAGENT_STACKDEPTH. Context: any; locks: none. */
#ifndef SHIM_STACK_DEPTH_H
#define SHIM_STACK_DEPTH_H

#include <stdint.h>

enum { STACK_DEFAULT_FRAMES = 128, STACK_LEAST_FRAMES = 16, STACK_MOST_FRAMES = 1024 };

/* Written once, at load, where it is not the default; before any stack is taken. */
extern int32_t stack_depth_beyond_default;

static inline uint32_t stack_depth(void) {
  return (uint32_t)(STACK_DEFAULT_FRAMES + stack_depth_beyond_default);
}

/* What they take beyond the default, in bytes of stack: whole pages. */
static inline uint32_t stack_depth_bytes_beyond(void) {
  enum { PAGE = 4096 };
  if (stack_depth_beyond_default <= 0) return 0;
  uint32_t bytes = (uint32_t)stack_depth_beyond_default * sizeof(uint64_t);
  return (bytes + PAGE - 1) / PAGE * PAGE;
}

#endif
