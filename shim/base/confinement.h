/* Whether the program has confined itself by a rule about its system calls: a seccomp filter,
 * seccomp's strict mode, a dispatch of its own (prctl(2), PR_SET_SYSCALL_USER_DISPATCH). From then
 * on any call that it does not expect may kill it, or end up in a handler of its own. So whatever
 * of this library makes a system call in the program's threads asks here first, and goes without.
 *
 * It counts for the whole process, whichever thread it was: what that one creates is confined too.
 * The agent's threads have left before (agent_pause) and never come back: they would keep a right
 * that the program has given up, and outlive what kills the program's only thread. */
#ifndef SHIM_CONFINEMENT_H
#define SHIM_CONFINEMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum confinement { CONFINEMENT_NONE, CONFINEMENT_FILTER, CONFINEMENT_STRICT, CONFINEMENT_DISPATCH };

/* Upper half: enum confinement, written once. Lower half: calls under way that may confine.
 * Written by the threads that make those calls and by the agent (confinement_found). Relaxed: a
 * thread that reads it late is as if it had made its system call sooner. */
extern _Atomic uint32_t confinement_word;
enum { CONFINEMENT_SHIFT = 16 };

/* Whether a system call that the program does not expect must not be made: it is confined, or may
 * be at any moment. Context: any. */
static inline bool confinement_forbids_calls(void) {
  return __builtin_expect(atomic_load_explicit(&confinement_word, memory_order_relaxed) != 0, 0);
}

/* Which it is, for good. Context: any. */
static inline enum confinement confinement_now(void) {
  return (enum confinement)(atomic_load_explicit(&confinement_word, memory_order_relaxed) >>
                            CONFINEMENT_SHIFT);
}

/* Round the program's call. begin: false when it is confined already, and nothing is left to be
 * done. end: what the program is now, NONE if the call has failed. Context: host thread. */
bool confinement_begin(void);
void confinement_end(enum confinement is);

/* It came by a way that is not seen (an instruction of the program's own). Context: agent. */
void confinement_found(enum confinement is);

/* One sentence; NULL: it is not confined. Context: any. */
const char *confinement_reason(void);

/* False: seccomp(2) is sure to refuse, as it does to programs that only ask what the kernel can do
 * (a NULL filter, flags with strict mode, no right to it). Changes nothing. Context: host thread.
 */
bool confinement_filter_may_succeed(const void *program);
bool confinement_strict_may_succeed(unsigned long flags, const void *arguments);

#endif
