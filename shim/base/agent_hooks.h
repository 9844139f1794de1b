/* What the shim tells the agent, which fills these in (agent/): all that the shim knows of it.
 *
 * Nothing in the host ever waits for the agent, but for agent_pause (bounded). Every function here
 * is harmless in forked children that have no agent thread. */
#ifndef SHIM_AGENT_HOOKS_H
#define SHIM_AGENT_HOOKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "thread_state.h"

/* Forked children (shim/processes/fork_interposers.c). A child has none of its parent's agent
 * threads, and a copy of what they were in the middle of: their memory is not inherited
 * (agent_memory.c), their variables are cleared, and a new admin thread is started. That costs a
 * short-lived child some 60 us, so a process starts no more than 64 at once and 20 a second in the
 * long run; the others start theirs later, at a call that is slow anyway: when they create a
 * thread, or when an allocation of the program's own is sampled that no signal handler and no
 * function of libc's has made (call_context.h). */
/* Takes one from the allowance. Context: host thread, before fork. */
bool agent_may_start_in_child(int64_t *now_ns);
/* now_ns: from there, because reading the clock would cost the child two pages. Context: the
 * child's only thread, after the last atfork handler. */
void agent_start_in_child(bool at_once, int64_t now_ns);
static inline bool agent_start_is_due(void) { return thread_state.start_due_ns != 0; }
/* Does nothing until the child is 100 ms old. Context: host thread, no lock of libc's held. */
void agent_start_late(void);

/* The kernel refuses unshare(CLONE_NEWUSER) and setns to a process with more than one thread.
 * agent_pause ends every agent thread and waits for at most a second (false: they are still there);
 * agent_resume starts them again, but for a program that has confined itself meanwhile
 * (confinement.h). Calls nest: the last resume counts. Context: host thread. */
bool agent_pause(void);
void agent_resume(void);

/* The program is about to count its threads (thread_count_interposers.c), and the kernel finds so
 * many of them. Where all but the caller are the agent's they leave, as for agent_pause; then true,
 * and the program's call is followed by the other function. Context: host thread, also in signal
 * handlers. */
bool agent_leave_for_call(uint64_t threads);
void agent_come_back_after_call(void);
/* The same until what the program reads the number from is closed; true too where they have left
 * already. Not while a client is served, and not more often than a program that only watches itself
 * can bear. Not closed, or unseen: they come back by agent_start_late. */
bool agent_leave_while_open(uint64_t threads);
void agent_come_back(void); /* does nothing where they have not left; nothing is watched any more */

/* The calling thread has changed what it may do, and so does every agent thread; those that the
 * kernel does not let end for good. Costs nothing while there is none. Context: host thread, also
 * in signal handlers. */
void agent_follow_credentials(void);

/* Called by a host's main thread that is about to end by pthread_exit: libc ends the process when
 * no thread that it knows is left. So the front of remote admin ends now. Context: the main thread.
 */
void agent_main_thread_exits(void);
/* The calling thread is about to end by the system call. Where it is the program's last one the
 * process ends when our threads have: they look at once. Context: host thread. */
void agent_thread_exits_by_call(void);
/* The program ends itself. Where profiles are to be written then, waits for that, for 100 ms at
 * most. Context: host thread, also in signal handlers and in children of vfork, which it tells
 * apart. */
void agent_process_ends(void);
/* By exit(), before any of its handlers. Likewise. */
void agent_process_exits(void);
/* Profiles are to be written, and the program goes on. False: there is nobody who would. Context:
 * signal handler. */
bool agent_writes_dump(void);
/* Whether that is the first thread of the process in which the agent was started. Context: any. */
bool agent_is_process(int32_t tid);

/* After the program's mlockall: none of it is to count against the program's limit
 * (agent_memory.c). Context: host thread. */
void agent_memory_unlock(void);

#endif
