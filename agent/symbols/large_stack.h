/* Runs a function on a stack of its own: agent threads have small ones, and reading debug
 * information and demangling recurse. Context: agent threads; locks: the caller's (one call at a
 * time per stack).
 */
#ifndef AGENT_LARGE_STACK_H
#define AGENT_LARGE_STACK_H

#include <stdbool.h>

struct large_stack {
  void *memory; /* NULL until first used */
};

/* False: no memory for the stack, function was not run. */
bool large_stack_call(struct large_stack *stack, void (*function)(void *), void *argument);
void large_stack_release(struct large_stack *stack);

#endif
