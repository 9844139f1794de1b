/* A client's trace: what every thread does for a while, or what they have just done. Clients share
 * what the recorder reads, each has a window of its own. Context: HTTP workers; locks: the
 * recorder's. */
#ifndef AGENT_TRACE_RECORDING_H
#define AGENT_TRACE_RECORDING_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/http/http_server.h"
#include "trace_flight.h"
#include "trace_log.h"
#include "trace_recorder.h"

enum { TRACE_MAX_CLIENTS = 4, TRACE_MAX_SECONDS = 3600 };

enum trace_result {
  TRACE_DONE,
  TRACE_CANCELED, /* the client went away */
  TRACE_TOO_MANY, /* TRACE_MAX_CLIENTS are running */
  TRACE_NO_FLIGHT, /* nothing is kept */
  TRACE_NO_MEMORY
};

struct trace_recording;

/* Records for so long, with so many CPU samples a second or more when another client asks for more;
 * 0: none. *out: for trace_recording_release; NULL unless TRACE_DONE. */
enum trace_result trace_recording_take(struct http_response *response, int64_t nanoseconds,
                                       struct trace_sampling sampling,
                                       struct trace_recording **out);
/* The last so many nanoseconds of what the flight recorder keeps, or as much as it has. */
enum trace_result trace_recording_take_last(int64_t nanoseconds, struct trace_recording **out);
const struct trace_log *trace_recording_log(const struct trace_recording *recording);
void trace_recording_release(struct trace_recording *recording); /* NULL is fine */

/* For the pages: of the recordings that go on, and totals since the start. */
struct trace_recording_status {
  uint32_t running;
  uint64_t left_out;
  uint64_t names_cut; /* of the program's own marks */
  struct trace_recorder_status recorder;
  struct trace_flight_status flight;
  struct trace_samples_status samples;
};
struct trace_recording_status trace_recording_status(void);

#endif
