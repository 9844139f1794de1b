/* Stacks of our own for what needs more room than a host's stack may have: split stacks, coroutines
 * and threads of PTHREAD_STACK_MIN may have a few hundred bytes left and something else's memory
 * below. Each is taken from a pool and given back soon, with all signals blocked meanwhile: a
 * handler of the host's would find a stack that is not its own, and a small one.
 */
#ifndef SHIM_HANDLER_STACK_H
#define SHIM_HANDLER_STACK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* The upper 16 bits of each value that our timers' signals carry: they tell the entry a tick. */
enum { SAMPLING_SIGNAL_MAGIC = 0x9b0f };

enum { HANDLER_STACKS = 256, HANDLER_STACK_BYTES = 8192 }; /* and stack_depth_bytes_beyond() */

/* Maps the pool, once. False: no memory. Context: any; may map memory. */
bool handler_stacks_map(void);

/* Calls the function: where it stands if there is room for certain (stack_capture_has_room), else
 * on a stack of the pool. The function must return, and call nothing of the host's. False: it was
 * not called, there is no stack for it. Context: host thread; system calls where it must switch. */
bool handler_stack_call(void (*function)(void *), void *argument);

/* ---- ticks ---- */

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
