/* Unwind tables of code that the program makes itself and registers (__register_frame: LLVM), or
 * announces to debuggers (agent/symbols/jit_interface.h). They are the program's memory, which it
 * may free or change at any time: so each function's entry is copied when it comes, into a form
 * that any reader of .eh_frame understands wherever it lies, and the program's tables are not
 * looked at again.
 *
 * Adding, taking away and finding take the time of one function's entry, however many there are.
 * Memory is taken with the first, at most REGISTERED_FRAMES_BYTES_MAX; what does not fit is counted
 * (counters.h).
 * Context: malloc hook, signal, agent; locks: none; no malloc; adding may map memory. */
#ifndef SHIM_REGISTERED_FRAMES_H
#define SHIM_REGISTERED_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "announcements.h"
#include "cfi.h"

enum { REGISTERED_FRAMES_SEGMENTS = 112, REGISTERED_FRAMES_BYTES_MAX = 15 << 20 };

/* All functions of an .eh_frame, up to its terminator. key: what they are taken away by; an odd
 * one: they may be used as long as announcements_hold (announcements.h). Where one is registered
 * for an address twice the newer counts. */
void registered_frames_add(const struct cfi_section *section, uintptr_t key);
/* Those that were added last with this key. */
void registered_frames_remove(uintptr_t key);

/* Whether there have ever been any. */
bool registered_frames_any(void);

/* The rule at pc. What it points to stays readable for ever, but means something else after it was
 * taken away. answer: of the walk that this is a step of. */
bool registered_frames_find(uintptr_t pc, struct announcements_answer *answer,
                            struct cfi_rule *rule);

/* Where the copy of the entry for pc is; 0: there is none. */
uintptr_t registered_frames_entry(uintptr_t pc);
/* A word of such copies. False: none of them is there. */
bool registered_frames_word(uintptr_t address, uintptr_t *word);

/* It changes whenever entries were taken away. */
uint32_t registered_frames_generation(void);

uint32_t registered_frames_count(void);
uint64_t registered_frames_bytes(void);

#endif
