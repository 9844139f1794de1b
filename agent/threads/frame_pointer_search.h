/* Finds the value of the register that a frame is based on (rbp, nearly always), which the kernel
 * does not tell of a blocked thread.
 *
 * Where the frame is of a fixed size the function's own prologue says it. Otherwise every word of
 * the stack from there on is tried: the frame's rule must lead to a return address whose call can
 * have led into this function, and all that follows from it, frame by frame, must do likewise and
 * end exactly where a thread's stack ends. Frames left over from earlier calls fail at that: where
 * they meet the frames of today the calls do not fit. Of what remains the best supported is taken,
 * the nearest of equals; nothing, rather than a guess. Context: agent threads, between
 * unwind_rule_borrow_begin and _end; locks: none.
 */
#ifndef AGENT_FRAME_POINTER_SEARCH_H
#define AGENT_FRAME_POINTER_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "blocked_frame.h"
#include "agent/stacks/call_site.h"

enum { FRAME_HINTS = 256 };

struct frame_pointer_search {
  struct code_view code;
  uintptr_t initial_sp; /* see frame_without_rule */
  uint32_t steps_left; /* of work, for this stack */
  struct { /* what was found before for a frame at this pc: threads often wait alike. Tried first,
              checked like any other */
    uintptr_t pc, distance;
  } hints[FRAME_HINTS];
};

/* Work for one stack; thousands of threads may need it. */
enum { FRAME_SEARCH_STEPS = 8000 };

/* False: not found. */
bool frame_pointer_search(struct frame_pointer_search *search, const struct blocked_frame *frame,
                          const struct cfi_rule *rule, uintptr_t *base);

#endif
