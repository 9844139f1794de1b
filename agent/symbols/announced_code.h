/* Hands the unwind entries of what the program announces to debuggers (jit_interface.h) to those
 * who walk its stacks (registered_frames.h), and takes them back when it is announced no more.
 * Context: agent threads; locks: its own. */
#ifndef AGENT_ANNOUNCED_CODE_H
#define AGENT_ANNOUNCED_CODE_H

#include <stdbool.h>

/* Before stacks are read that may lead through such code. afresh: all of it is read again; else
 * only if the list has changed, and then what was not in it. */
void announced_code_update(bool afresh);

#endif
