/* From a pc to its unwind rule, through the loader's tables, or of code that no object has through
 * those that the program has registered. */
#ifndef SHIM_UNWIND_RULE_H
#define SHIM_UNWIND_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "announcements.h"
#include "cfi.h"

/* The rule at pc (for a return address: the address minus 1); false: no unwind information covers
 * it. Reads the unwind tables of the loaded object: nobody may unmap that meanwhile. A host
 * thread's own stack sees to that for itself; the agent, for the stacks of others, brackets its
 * work with the two calls below. Context: malloc hook, signal, agent; locks: none. */
bool unwind_rule_find(uintptr_t pc, struct cfi_rule *rule);
/* The same as a step of a walk. */
bool unwind_rule_find_next(uintptr_t pc, struct announcements_answer *answer,
                           struct cfi_rule *rule);

/* Where there is none: whether there will be none until something is unloaded. False in code that
 * no loaded object has, and where its tables may not be looked at any more. Context: as above. */
bool unwind_rule_is_settled(uintptr_t pc);

/* Whether the address can be code, as far as the loader knows: in an object it is in a segment that
 * is executed; of what no object has, nothing is known: true. Context: as above. */
bool unwind_rule_may_be_code(uintptr_t pc);

/* While the agent is between these, dlclose waits before it unmaps anything (in naps, bounded by a
 * second). Keep it short: one thread's stack. Not nested. False: a dlclose takes its time
 * (destructors): do not read unwind tables now. Context: agent threads. */
bool unwind_rule_borrow_begin(void) __attribute__((warn_unused_result));
void unwind_rule_borrow_end(void);

/* It changes whenever modules may have been unmapped: what was read of unwind tables before means
 * nothing then. Context: any; locks: none. */
uint64_t unwind_rule_generation(void);

/* The same at once or not at all, for a thread that looks at an address which may be no frame:
 * nothing on its stack keeps that object loaded. False: a dlclose is under way. Then
 * unwind_rule_borrow_end. Context: signal, malloc hook; locks: none. */
bool unwind_rule_try_borrow(void) __attribute__((warn_unused_result));

/* Round a call that may unmap modules. Context: host thread. */
void unwind_rule_unload_begin(void);
void unwind_rule_unload_end(void);
/* In a child just forked: the agent, and other threads' calls of dlclose, stayed in the parent. */
void unwind_rule_forget_borrower(void);

#endif
