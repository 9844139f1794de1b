/* A recording as Perfetto's protobuf trace, for ui.perfetto.dev and trace_processor. Times are
 * CLOCK_MONOTONIC's.
 *
 * Recorded states fill the scheduler's tables, a lane a CPU: a gap there is the state "stopped",
 * which no recorded thread has otherwise. Sampled ones, and those whose CPU is not known, are
 * slices of a lane "state" below the thread instead: two threads may be seen on one CPU then.
 * Context: agent threads; locks: none (one owner). */
#ifndef AGENT_PERFETTO_TRACE_H
#define AGENT_PERFETTO_TRACE_H

#include <stdbool.h>

#include "agent/http/byte_sink.h"
#include "trace_log.h"

/* False: the receiver is gone, or out of memory. */
bool perfetto_trace_write(const struct trace_log *log, struct byte_sink *sink);

#endif
