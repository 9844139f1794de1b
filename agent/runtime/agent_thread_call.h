/* Calls a function on every agent thread, wherever it is, as libc does to change the user of a
 * program's threads: by signal 33, which libc keeps for that, which no agent thread blocks, and
 * whose handler is ours for the length of the call. */
#ifndef AGENT_AGENT_THREAD_CALL_H
#define AGENT_AGENT_THREAD_CALL_H

#include <stdbool.h>

enum { AGENT_THREAD_CALL_SIGNAL = 33 };

/* True: all agent threads that libc does not know have called it, or were created by one that had,
 * or have ended. False: after a second and more one has not. Context: host thread that has all
 * signals blocked, one at a time. function: runs in a signal handler. */
bool agent_thread_call(void (*function)(void));

#endif
