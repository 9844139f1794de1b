/* Hands the unwind entries of what the program announces to debuggers (jit_interface.h) to those
 * who walk its stacks (registered_frames.h), and takes them back when it is announced no more.
 * Context: agent threads; locks: its own. */
#ifndef AGENT_ANNOUNCED_CODE_H
#define AGENT_ANNOUNCED_CODE_H

/* Before stacks are read that may lead through such code; takes little time where nothing has
 * changed. */
void announced_code_update(void);

#endif
