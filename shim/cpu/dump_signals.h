/* Signals at which profiles are written (PPROFAGENT_DUMP_ON): of `exit` those by which a program is
 * told to end, SIGTERM, SIGINT, SIGHUP, which it then does as ever; of `signal:USR2` that one,
 * after which it goes on. A handler of ours is there only where the program leaves the signal as it
 * is by default; the program, its children and what it executes see the default. */
#ifndef SHIM_DUMP_SIGNALS_H
#define SHIM_DUMP_SIGNALS_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

/* Bit n - 1: signal n is one of them. Written before main, constant afterwards. */
extern uint64_t dump_signals_mask __attribute__((visibility("hidden")));
static inline bool dump_signals_has(int number) {
  return __builtin_expect(dump_signals_mask != 0, 0) && number >= 1 && number <= 64 &&
         (dump_signals_mask >> (number - 1) & 1);
}

/* With all signals blocked, on a stack of ours (handler_stack.h). */
void dump_signals_handle(int number, ucontext_t *context);
/* Some thread's has no room for what the kernel puts there. Context: host thread. */
void dump_signals_stay_off_alternate_stacks(void);

/* Signals whose action is the default get ours; not those that the kernel keeps from the first
 * process of a namespace. Context: constructor. */
void dump_signals_start(uint64_t mask);

/* Before the program confines itself: nothing is called any more when such a signal comes. Context:
 * host thread. */
void dump_signals_stop(void);

/* Round the program's sigaction(2) of one of them. before: what is to be asked of libc for action
 * (which may be NULL), in *room if it is another. after: the program reads what it wrote.
 * Context: host thread. */
const struct sigaction *dump_signals_before(const struct sigaction *action, struct sigaction *room);
void dump_signals_after(int number, const struct sigaction *action, struct sigaction *old);

#endif
