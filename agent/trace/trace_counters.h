/* Numbers of the whole program, looked at a few times a second while somebody records: heap in use
 * and threads as they are at a look; allocation rate and CPU time as they were on average from one
 * look to the next, told at the time of the first. Context: agent threads; locks: the caller's
 * (trace_recorder.c). */
#ifndef AGENT_TRACE_COUNTERS_H
#define AGENT_TRACE_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "traced_thread.h"

/* Before the first look of a recording. */
void trace_counters_start(void);
/* threads: how many there are. */
void trace_counters_look(uint32_t threads, traced_sink *sink);
/* hurried: else a quarter as often. */
void trace_counters_look_if_due(uint32_t threads, bool hurried, traced_sink *sink);

#endif
