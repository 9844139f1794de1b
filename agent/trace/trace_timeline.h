/* From what was gathered to what trace_log.h promises: sorted, cut to the window, and of each
 * thread in an order that makes sense. Context: agent threads; locks: none. */
#ifndef AGENT_TRACE_TIMELINE_H
#define AGENT_TRACE_TIMELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "trace_gather.h"

/* What trace_waits.h takes out. */
enum { TRACE_NOTHING = 255 };

bool trace_timeline_is_state(uint8_t kind);
/* The numbers of the events by thread, then by time; agent_malloc'ed. NULL: no memory. */
uint32_t *trace_timeline_order(const struct trace_growing *events);

/* The gathered events become those of the log from start to end. False: no memory. */
bool trace_timeline_make(struct trace_gather *gather, int64_t start, int64_t end);

#endif
