/* The stack on which a tick is handled: memory of our own, so that the interrupted one needs no
 * room but for the kernel's frame, which any handler would take. Stacks of split-stack programs and
 * coroutines may have a few hundred bytes left and something else's memory below.
 * A handler takes one of a pool and gives it back at its end: no thread needs one for long.
 */
#ifndef SHIM_HANDLER_STACK_H
#define SHIM_HANDLER_STACK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

enum { HANDLER_STACKS = 256, HANDLER_STACK_BYTES = 8192 };

/* Maps the pool, once. False: no memory. Context: agent. */
bool handler_stacks_map(void);

/* To be installed with SA_SIGINFO and all signals blocked. Calls handler_stack_body on a stack of
 * the pool. Where that returns a handler, switches back to the thread's own stack, sets the mask
 * that was written to *mask, and goes on in that handler, as if the kernel had called it.
 * Where no stack is left a tick is dropped and counted; a signal of another kind waits for one. */
void handler_stack_enter(int number, siginfo_t *info, void *context);

/* Defined in sampling_signal.c. */
uintptr_t handler_stack_body(int number, siginfo_t *info, void *context, uint64_t *mask);

/* In a child just forked: handlers of the parent's other threads are not under way here. */
void handler_stacks_forget(void);

#endif
