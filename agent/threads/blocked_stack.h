/* The stack of a thread that is not running, from its pc and sp as the kernel tells them and from
 * its stack's memory. The thread may run meanwhile: then what comes out means nothing, but nothing
 * breaks; the caller looks whether it did. Context: agent threads; locks: none (one owner of the
 * reader). */
#ifndef AGENT_BLOCKED_STACK_H
#define AGENT_BLOCKED_STACK_H

#include <stdbool.h>
#include <stdint.h>

#include "shim/stacks/stack_capture.h"
#include "agent/symbols/mappings.h"

struct blocked_stack_reader;

/* mappings must outlive the reader. Frames whose pc is in [hidden_start, hidden_end) are left out.
 * NULL: out of memory. */
struct blocked_stack_reader *blocked_stack_reader_new(const struct mappings *mappings,
                                                      uintptr_t hidden_start, uintptr_t hidden_end);
void blocked_stack_reader_release(struct blocked_stack_reader *reader); /* NULL is fine */

struct blocked_registers {
  uintptr_t pc, sp;
  bool exact; /* pc is of an instruction that is to be executed (a page fault, a stop), not of one
                 after a system call */
};

/* out->frame_count is 0 when every frame is hidden. *epoch: of module_registry.h. False: a dlclose
 * is under way, nothing was read. */
bool blocked_stack_read(struct blocked_stack_reader *reader,
                        const struct blocked_registers *registers, struct captured_stack *out,
                        uint32_t *epoch);

/* For what else is in the process' memory; forgotten at the next blocked_stack_read. */
struct memory_reader *blocked_stack_memory(struct blocked_stack_reader *reader);

#endif
