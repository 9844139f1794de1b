/* The threads that civetweb wants: its workers, and last of all its acceptor, which is there before
 * them, since civetweb does not look whether it could be created. Where civetweb is alone
 * (civetweb_alone.h) there are none. Context: the admin thread, unless it says otherwise. */
#ifndef AGENT_CIVETWEB_WORKERS_H
#define AGENT_CIVETWEB_WORKERS_H

#include <stdbool.h>

#include "agent/runtime/agent_thread.h"

/* Before civetweb starts: creates the acceptor, which waits. False: it cannot. */
bool civetweb_workers_prepare(unsigned count);
/* In place of that start: ends it. */
void civetweb_workers_abandon(void);
/* During that start, in mg_start: what civetweb_threads.c makes of a thread that civetweb wants:
 * the workers up to the first that fails, then the acceptor. False: this one fails. */
bool civetweb_workers_create(struct agent_thread *thread, void *(*main)(void *), void *argument);

/* False: each of them has ended for lack of memory. Context: agent threads. */
bool civetweb_has_workers(void);

#endif
