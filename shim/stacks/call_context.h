/* What may be done in the middle of a call of the program's: there are things (a thread, for one)
 * that libc allows no signal handler and does not expect inside its own functions, whose locks may
 * then be held. */
#ifndef SHIM_CALL_CONTEXT_H
#define SHIM_CALL_CONTEXT_H

#include <stdbool.h>

#include "stack_capture.h"

/* Whether nothing on this stack speaks against it: it is whole, there is no signal frame on it, and
 * nothing of libc or the loader but what started the thread. Context: any host thread; locks:
 * none. */
bool call_context_is_ordinary(const struct captured_stack *stack);

#endif
