/* The flight recorder: the last seconds of what every thread did, kept for who asks later
 * (PPROFAGENT_FLIGHT). Two listeners take turns: the older one has at least that many seconds, and
 * goes when the newer one has them too; or when its share of memory is used up. So what is kept is
 * less than the seconds asked for only where they hold more than half of the memory, or where they
 * have not passed yet. Context: agent threads; locks: the recorder's. */
#ifndef AGENT_TRACE_FLIGHT_H
#define AGENT_TRACE_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "trace_gather.h"

/* The admin thread, while it has a descriptor table. */
void trace_flight_begin(void);
void trace_flight_end(void);

/* ---- under the recorder's lock ---- */

/* What is kept, into an empty gather. False: no memory, or nothing is kept. */
struct trace_flight_window {
  int64_t since; /* CLOCK_MONOTONIC, ns: from then on all is known */
  uint64_t lost_before; /* records, ever, until then */
};
bool trace_flight_copy(struct trace_gather *into, struct trace_flight_window *window);

struct trace_flight_status {
  bool runs;
  double kept_seconds;
  uint64_t bytes; /* that are kept, of both */
  const char *off_reason; /* NULL: it runs, or is not asked for */
};
struct trace_flight_status trace_flight_status(void);

#endif
