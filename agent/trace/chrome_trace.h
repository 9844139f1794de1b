/* A recording as Chrome's trace event JSON: for ui.perfetto.dev, chrome://tracing and scripts.
 * Times are microseconds since the begin of the recording; metadata.start_ns is that on
 * CLOCK_MONOTONIC.
 * Context: agent threads; locks: none (one owner). */
#ifndef AGENT_CHROME_TRACE_H
#define AGENT_CHROME_TRACE_H

#include <stdbool.h>

#include "agent/http/byte_sink.h"
#include "trace_log.h"

/* False: the receiver is gone, or out of memory. */
bool chrome_trace_write(const struct trace_log *log, struct byte_sink *sink);

#endif
