/* How far below its frame pointer a function keeps its stack pointer, read from the function's
 * first instructions. x86-64. Context: agent threads; locks: none. */
#ifndef AGENT_PROLOGUE_H
#define AGENT_PROLOGUE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/runtime/memory_reader.h"

enum { PROLOGUE_DEPTHS_MAX = 8 };

struct prologue {
  /* rbp - rsp, as it was after one instruction or another: the last ones may belong to the first
   * call's arguments already. */
  uint32_t count, below[PROLOGUE_DEPTHS_MAX];
  uint32_t least; /* it is never less: alloca and arguments come on top */
  bool rounded; /* the stack pointer was rounded down: it may be somewhat more */
};

/* Reads instructions from start on, not beyond limit. False: no frame pointer is set up there. */
bool prologue_read(struct memory_reader *memory, uintptr_t start, uintptr_t limit,
                   struct prologue *out);

#endif
