/* CPU samples for the recordings: from the sampler of /debug/pprof/profile, at the fastest rate
 * that one of them wants. Context: agent threads, which do not hold the recordings' lock: the sink
 * takes it. Locks: its own. */
#ifndef AGENT_TRACE_SAMPLES_H
#define AGENT_TRACE_SAMPLES_H

#include <stdint.h>

#include "traced_thread.h"

/* After a recording with samples has begun or ended. rate: the fastest that is wanted now, asked
 * for when nobody else does this; 0: none. */
void trace_samples_adjust(uint32_t (*rate)(void), traced_sink *sink);
/* What is sampled by now goes to the sink before it returns. */
void trace_samples_read(void);
/* The same, as often as it is needed. */
void trace_samples_read_if_due(void);

/* For the pages. untimed: samples of which nobody knows when they were taken: they are in no trace.
 * off_reason: why the last recording that wanted samples has none; NULL: it has. */
struct trace_samples_status {
  uint64_t taken, untimed;
  const char *off_reason;
};
struct trace_samples_status trace_samples_status(void);

#endif
