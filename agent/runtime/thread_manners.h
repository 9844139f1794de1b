/* What a thread inherits from its creator and must not keep: a host's thread may be a real-time
 * one, bound to a processor, trap on inexact results, ...
 *
 * Afterwards: SCHED_OTHER where it was SCHED_FIFO, SCHED_RR or SCHED_DEADLINE; no negative nice
 * value; the processors that the system's first process has; the kernel's own timer slack and I/O
 * priority; floating point as a new process has it. A host that asked for less than others get
 * (SCHED_IDLE, SCHED_BATCH, a positive nice value) gets no more by us.
 *
 * Context: the admin thread, from which the others inherit it; raw system calls. */
#ifndef AGENT_THREAD_MANNERS_H
#define AGENT_THREAD_MANNERS_H

#include <stdbool.h>

/* may_schedule: nothing lacks of CALLS_SCHEDULING (allowed_calls.h); services' lists that kill for
 * these are common (systemd's ~@resources). False: only floating point is put right. */
void thread_manners_take(bool may_schedule);

#endif
