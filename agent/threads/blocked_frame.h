/* One step up the stack of a thread that is not running: from a frame to its caller's, by the
 * unwind rules.
 *
 * Of a blocked thread's registers only pc and sp are known. rbp becomes known, exactly, where a
 * frame's rule finds it saved in memory; until then a frame that is based on it cannot be left
 * without help (frame_pointer_search.h). Context: agent threads, between unwind_rule_borrow_begin
 * and _end; locks: none.
 */
#ifndef AGENT_BLOCKED_FRAME_H
#define AGENT_BLOCKED_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "shim/stacks/cfi.h"
#include "agent/runtime/memory_reader.h"

struct blocked_frame {
  uintptr_t pc, sp, fp;
  bool fp_known;
  bool exact; /* pc is where the frame was interrupted, not a return address */
};

enum frame_step {
  FRAME_CALLER, /* the frame is now its caller's */
  FRAME_OUTERMOST, /* it has no caller: its unwind information says so */
  FRAME_NO_RETURN, /* it has none: the return address is 0 */
  FRAME_NO_UNWIND, /* code without unwind information */
  FRAME_NO_MEMORY, /* the stack cannot be read there, or does not go up */
  FRAME_NEEDS_BASE /* the register that the frame is based on is not known */
};

/* The rule of the frame. False: none, or none is needed: see frame_without_rule. */
bool frame_rule(const struct blocked_frame *frame, struct cfi_rule *rule);
/* What a frame without a rule is. initial_sp: where the first thread's stack began, 0 when not
 * known. */
enum frame_step frame_without_rule(const struct blocked_frame *frame, uintptr_t initial_sp);

/* base: the value of the register that the frame is based on, as found by searching; NULL: only
 * what is known. On anything but FRAME_CALLER the frame is as it was. */
enum frame_step frame_step(struct blocked_frame *frame, const struct cfi_rule *rule,
                           struct memory_reader *memory, const uintptr_t *base);

#endif
