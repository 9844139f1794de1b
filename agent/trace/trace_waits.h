/* Which release ended which wait: the states of those who waited for locks get their reason, stack
 * and waker. Context: agent threads; locks: none. */
#ifndef AGENT_TRACE_WAITS_H
#define AGENT_TRACE_WAITS_H

#include <stdbool.h>

#include "trace_gather.h"

/* To the gathered events come TRACE_RELEASED and TRACE_RUNNABLE. states_are_sampled: those within a
 * wait are replaced by what the wait itself tells. False: no memory. */
bool trace_waits_link(struct trace_gather *gather, bool states_are_sampled);

#endif
