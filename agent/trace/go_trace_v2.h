/* A recording as Go's execution trace of Go 1.22 and later, for `go tool trace`. An OS thread is a
 * thread there (M), the goroutine on it (G, its number the tid), and the processor under that one
 * (P), by which threads never come into each other's way. Times are CLOCK_MONOTONIC's.
 * Context: agent threads; locks: none (one owner). */
#ifndef AGENT_GO_TRACE_V2_H
#define AGENT_GO_TRACE_V2_H

#include <stdbool.h>

#include "agent/http/byte_sink.h"
#include "trace_log.h"

/* A counter of this name is shown as Go's heap; the format has no others. */
#define GO_TRACE_HEAP_COUNTER "heap in use"

/* False: the receiver is gone, or out of memory. */
bool go_trace_v2_write(const struct trace_log *log, struct byte_sink *sink);

#endif
