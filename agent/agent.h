/* The agent's life in the host: one detached admin thread, its private descriptor table, and the
 * server that it starts. What the shim calls: shim/base/agent_hooks.h. */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <stdbool.h>

#include "shim/base/agent_hooks.h"

/* Starts the admin thread, which listens 100 ms later. Context: constructor or host thread. */
void agent_start(void);
void agent_start_anew(void); /* the same in a forked child, for agent_fork.c */
bool agent_is_wanted(void); /* nothing has switched it off for good. Context: any */
void agent_credentials_forget(void); /* new threads have their creator's */
void agent_leave_for_good(void); /* context: host thread; does not wait */
/* The program counts its threads, and the agent has left for it (agent_absence.c). Context: any. */
bool agent_is_looked_for(void);
/* The admin thread does not wait for its start any longer. Context: host thread. */
void agent_hurry(void);
/* The first thread has called pthread_exit. Context: any. */
bool agent_main_thread_has_left(void);
/* Before main. */
void agent_end_prepare(void);
/* In a forked child: its own. Context: host thread. */
bool agent_has_threads(void);

#endif
