/* The agent's life in the host: one detached admin thread, its private descriptor table, and the server that it starts.
 *
 * Nothing in the host ever waits for the agent, but for agent_pause (bounded). Forked children have no agent thread; every function
 * here is harmless in them.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Starts the admin thread, which listens some 20 ms later. Context: constructor or host thread. */
void agent_start(void);

/* The kernel refuses unshare(CLONE_NEWUSER) and setns to a process with more than one thread. agent_pause ends every agent thread and
 * waits for at most a second (false: they are still there); agent_resume starts them again. Calls nest: the last resume counts.
 * Context: host thread. */
bool agent_pause(void);
void agent_resume(void);

/* Called by a host's main thread that is about to end by pthread_exit: when no thread of the host's is left, the admin thread ends the
 * process by exit(0), as glibc would have done. Context: the main thread. */
void agent_main_thread_exits(void);

/* For the index page and /debug/pprof/health. Context: agent threads. */
const char *agent_listen_address(void);      /* "127.0.0.1:6060", "unix:/path", or "" */
const char *agent_off_reason(void);          /* NULL while serving, else one sentence */
const char *agent_descriptor_isolation(void); /* NULL: private descriptor table; else one sentence that says what was done instead */
uint64_t agent_cpu_nanoseconds(void);        /* CPU time of all agent threads since the agent started */
unsigned agent_thread_count(void);           /* agent threads alive; their tids: agent_thread.h */

#endif
