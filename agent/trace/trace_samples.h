/* CPU samples for the recordings: from the sampler of /debug/pprof/profile, at the fastest rate
 * that one of them wants. Context: agent threads, which do not hold the recordings' lock: the sink
 * takes it. Locks: its own. */
#ifndef AGENT_TRACE_SAMPLES_H
#define AGENT_TRACE_SAMPLES_H

#include <stdint.h>

#include "traced_thread.h"

/* What a recording wants: samples a second of CPU time, 0: none; and, where they take a signal in
 * the program's threads, whether it wants them all the same. */
struct trace_sampling {
  uint32_t hz;
  bool may_signal;
};
/* After a recording with samples has begun or ended. wanted: by all of them together, asked for
 * when nobody else does this. */
void trace_samples_adjust(struct trace_sampling (*wanted)(void), traced_sink *sink);
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
