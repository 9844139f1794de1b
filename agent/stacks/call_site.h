/* Whether a value found on a stack is a return address, and of a call to which function: read from
 * the code before it. x86-64. Context: agent threads, between unwind_rule_borrow_begin and _end;
 * locks: none. */
#ifndef AGENT_CALL_SITE_H
#define AGENT_CALL_SITE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/symbols/mappings.h"
#include "agent/runtime/memory_reader.h"

struct code_view {
  struct memory_reader *memory;
  const struct mappings
      *mappings; /* as of a moment ago; what has been loaded since is asked of the loader */
};

bool code_is_executable(const struct code_view *code, uintptr_t address);

/* Did the call before return_address lead into the code from start to end (a function, or a part of
 * one)? From the weakest to the strongest. */
enum call_evidence {
  CALL_NONE, /* there is no call */
  CALL_CONTRADICTED, /* it calls another function, and that one goes nowhere else */
  CALL_TAIL, /* it calls another function, which may have jumped on to this one; or through a
                pointer that has changed */
  CALL_INDIRECT, /* it calls through a register or memory: nothing speaks against it */
  CALL_CERTAIN /* it calls this function */
};
enum call_evidence call_site_evidence(const struct code_view *code, uintptr_t return_address,
                                      uintptr_t start, uintptr_t end);

#endif
