/* Go's execution trace, version 1 (header "go 1.11"), which every `go tool trace` since then opens.
 * A thread is a goroutine (its number is the thread's) on a P of its own, which is free for the
 * next one when it has ended. Ticks are the nanoseconds of CLOCK_MONOTONIC. What the format has no
 * place for is left out: samples, counters other than the heap's, all names but the last.
 * Context: agent threads; locks: none. */
#ifndef AGENT_GO_TRACE_H
#define AGENT_GO_TRACE_H

#include <stdbool.h>

#include "agent/http/byte_sink.h"
#include "trace_log.h"

/* False: the receiver is gone, or there is no memory. */
bool go_trace_encode(const struct trace_log *log, struct byte_sink *sink);

#endif
