/* A reader of blocked threads' stacks (blocked_stack.h) for whoever reads them again and again: the
 * code that they lead through is looked up anew every second, as some may have been loaded.
 * Context: agent threads; locks: none (one owner). */
#ifndef AGENT_CURRENT_STACKS_H
#define AGENT_CURRENT_STACKS_H

#include <stdbool.h>
#include <stdint.h>

#include "blocked_stack.h"

/* Zero-initialised. */
struct current_stacks {
  struct mappings *code;
  int64_t until; /* CLOCK_MONOTONIC: is looked up again after; 0: at once */
  struct blocked_stack_reader *reader; /* frames of this library are left out */
};

/* False: no memory; there is no reader then. */
bool current_stacks_renew(struct current_stacks *stacks);
void current_stacks_release(struct current_stacks *stacks);

#endif
