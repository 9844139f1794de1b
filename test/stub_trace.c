/* trace_recording.h without threads: a recording of nothing, which lasts as long as is asked for.
 */
#include "agent/trace/trace_recording.h"

#include <stdlib.h>

#include "agent/runtime/agent_thread.h"

struct trace_recording {
  struct trace_log log;
};

enum trace_result trace_recording_take(struct http_response *response, int64_t nanoseconds,
                                       struct trace_sampling sampling,
                                       struct trace_recording **out) {
  *out = NULL;
  int64_t start = agent_monotonic_nanoseconds();
  if (!http_wait(response, start + nanoseconds)) return TRACE_CANCELED;
  *out = calloc(1, sizeof **out);
  (*out)->log = (struct trace_log){.program = "program",
                                   .pid = 100,
                                   .start = start,
                                   .end = start + nanoseconds,
                                   .sample_hz = sampling.hz};
  return TRACE_DONE;
}
enum trace_result trace_recording_take_last(int64_t nanoseconds, struct trace_recording **out) {
  (void)nanoseconds;
  *out = NULL;
  return TRACE_NO_FLIGHT;
}
const struct trace_log *trace_recording_log(const struct trace_recording *recording) {
  return &recording->log;
}
void trace_recording_release(struct trace_recording *recording) { free(recording); }
struct trace_recording_status trace_recording_status(void) {
  return (struct trace_recording_status){0};
}
